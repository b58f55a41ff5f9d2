"""Simulated nights for the decision bench: what ideas are worth, what noise does, what luck is inherited.

Units are the noise of one run: sigma = 1, lower is better, a positive effect is a true gain. The random
numbers of a night depend on its number and scenario alone, so that every rule meets the same ideas and the
same luck (common random numbers). A run of a commit is its level, its luck on the seed, and luck of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

LEVEL = 2000.0  # of the metric, so that sigma is 0.05 % of it, as in published runs
RUNS = 100  # of a night, baseline and repeats included
SEEDS = 16

Draw = Callable[[random.Random, int], float]


def mixed(gains: float, mean_gain: float, nulls: float, mean_loss: float, null_sd: float = 0.1) -> Draw:
    """Gains and losses exponential with these means; what neither gains nor does nothing loses."""

    def draw(rng: random.Random, _: int) -> float:
        u = rng.random()
        if u < gains:
            return rng.expovariate(1 / mean_gain)
        return rng.gauss(0, null_sd) if u < gains + nulls else -rng.expovariate(1 / mean_loss)

    return draw


EARLY = 13  # experiments of the first phase: 10 keeps and nine tenths of the gain in the published log


def two_phases(late_gains: float, late_nulls: float) -> Draw:
    """A first phase of large gains, then mostly nothing: the published log of one night on one GPU."""
    first = mixed(0.72, 7.5, 0.08, 5.0)

    def draw(rng: random.Random, number: int) -> float:
        if number < EARLY:
            return first(rng, number)
        u = rng.random()
        if u < late_gains:
            return abs(rng.gauss(0, 0.65))
        if u < late_gains + late_nulls:
            return rng.gauss(0, 0.1)
        return -abs(rng.gauss(0, 0.65)) if rng.random() < 0.5 else -rng.expovariate(1 / 4.0)

    return draw


SCENARIOS: dict[str, Draw] = {
    "two-phase": two_phases(0.34, 0.26),
    "two-phase, sceptical": two_phases(0.12, 0.38),
    "sparse": mixed(0.06, 3.0, 0.34, 4.0),
    "plateau": mixed(0.15, 0.8, 0.45, 1.5),
    "noisy platform": mixed(0.15, 0.4, 0.45, 0.8),
    "rich": mixed(0.25, 1.5, 0.25, 2.0),
    "placebo": mixed(0.0, 1.0, 0.5, 1.0),
    "pure noise": lambda rng, number: 0.0,
}
NO_GAINS = ("placebo", "pure noise")
# (share of the noise that belongs to the seed, part of that luck a change inherits)
INHERITED: dict[str, tuple[float, float]] = {
    "independent": (0.0, 0.0),
    "inherited": (0.7, 0.85),
    "sharp": (0.95, 0.97),
}
DISTURBANCES = ("none", "t3", "walk", "jump", "busy")


@dataclass(frozen=True)
class Kind:
    """What sort of night it is."""

    scenario: str
    inherited: str = "independent"
    disturbance: str = "none"
    spread: float = 1.0  # true sigma; the engine's prior believes in 1


@dataclass
class Commit:
    """A commit of the simulated project."""

    number: int
    effect: float
    level: float  # true loss
    luck: list[float]  # by seed
    runs: list[tuple[int, float]] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """What its runs gave."""
        return [value for _, value in self.runs]


class Night:
    """A hundred runs: the rule asks for them one by one."""

    def __init__(self, kind: Kind, number: int) -> None:
        self.kind = kind
        self.rng = random.Random(f"{kind.scenario}/{number}")
        self.effects = [SCENARIOS[kind.scenario](self.rng, i) for i in range(RUNS + 1)]
        self.own = [[self._noise() for _ in range(SEEDS)] for _ in range(RUNS + 2)]
        self.fresh = [[self.rng.gauss(0, 1) for _ in range(SEEDS)] for _ in range(RUNS + 2)]
        self.drift = self._drift()
        self.left = RUNS
        self.made = 0
        self.kept: list[float] = []
        self.judged: list[tuple[float, bool, bool]] = []  # P, really better, kept
        self.start = self.change(None)

    def _noise(self) -> float:
        if self.kind.disturbance == "t3":  # Student's t with 3 degrees of freedom, scaled to variance 1
            return self.rng.gauss(0, 1) / math.sqrt(self.rng.gammavariate(1.5, 1.0) * 2)
        if self.kind.disturbance == "busy" and self.rng.random() < 0.05:  # another program on the machine
            return self.rng.gauss(0, 1) + abs(self.rng.gauss(0, 6))
        return self.rng.gauss(0, 1)

    def _drift(self) -> list[float]:
        if self.kind.disturbance == "walk":  # sd 1 over the night
            place, path = 0.0, []
            for _ in range(RUNS + 9):
                place += self.rng.gauss(0, 1 / math.sqrt(RUNS))
                path.append(place)
            return path
        when, size = self.rng.randint(20, RUNS - 20), self.rng.choice((-4.0, 4.0))
        jumps = self.kind.disturbance == "jump"
        return [size if jumps and i > when else 0.0 for i in range(RUNS + 9)]

    def change(self, parent: Commit | None) -> Commit:
        """The next idea on top of a commit, or the start."""
        share, part = INHERITED[self.kind.inherited]
        new = [math.sqrt(share) * x for x in self.fresh[self.made]]
        if parent is None:
            commit = Commit(0, 0.0, 0.0, new)
        else:
            effect = self.effects[self.made - 1]
            own = math.sqrt(1 - part * part)
            luck = [part * a + own * b for a, b in zip(parent.luck, new, strict=True)]
            commit = Commit(self.made, effect, parent.level - effect, luck)
        self.made += 1
        return commit

    def run(self, commit: Commit, seed: int) -> float:
        """Measure a commit once."""
        share, _ = INHERITED[self.kind.inherited]
        own = math.sqrt(1 - share) * self.own[commit.number][len(commit.runs) % SEEDS]
        noise = commit.luck[seed % SEEDS] + own + self.drift[RUNS - self.left]
        value = LEVEL + self.kind.spread * (commit.level + noise)
        commit.runs.append((seed, value))
        self.left -= 1
        return value

    def keep(self, commit: Commit) -> None:
        """Count a keep."""
        self.kept.append(commit.effect)

    def result(self, best: Commit, reported: float, expected_false: float = 0.0) -> Result:
        """What the night brought, in sigma."""
        false = sum(effect <= 0 for effect in self.kept)
        harmful = sum(effect < -0.25 for effect in self.kept)
        bias = reported / self.kind.spread + best.level
        tries = self.made - 1
        return Result(-best.level, bias, len(self.kept), false, harmful, tries, expected_false, self.judged)


@dataclass(frozen=True)
class Result:
    """One night: gains in sigma; `bias` is what was reported less what is true."""

    gain: float
    bias: float
    keeps: int
    false: int
    harmful: int
    tries: int
    expected_false: float
    judged: list[tuple[float, bool, bool]]
