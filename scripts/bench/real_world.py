"""Tries and campaigns on recorded runs: what a rule is asked, what it may run, and what became of it.

Standard library only. A rule's runs are recorded values, drawn by an order of the recorded seeds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import real_noise as noise
from real_judges import Night, Rule
from real_noise import EQUAL, ROWS, Truth, Values
from real_runs import Run
from real_variants import BASE

LINES = {name: variant.lines for name, (variant, _) in ROWS.items()}
SHORTER = {name for name, (added, removed) in LINES.items() if added < removed}
SMALL_EFFECT = 2.0  # standard errors: what is nearer to 0 is not called a gain or a harm


@dataclass(frozen=True)
class Outcome:
    candidate: str
    gain: float  # true, positive is better
    kept: bool
    runs: int  # of the candidate and, where it was asked to repeat, of the incumbent


@dataclass(frozen=True)
class World:
    """The recorded values by row and seed, and what they are taken to mean."""

    values: Values
    truth: dict[str, Truth]

    @classmethod
    def of(cls, runs: Sequence[Run], equal_work: bool = False) -> World:
        return cls.of_values(noise.at_equal_work(runs) if equal_work else noise.table(runs))

    @classmethod
    def of_values(cls, values: Values) -> World:
        return cls(values, noise.truths(values))

    def without(self, seed: int) -> World:
        """The same runs, one seed left out."""
        values = {n: {s: v for s, v in own.items() if s != seed} for n, own in self.values.items()}
        return World.of_values(values)

    def truth_apart(self) -> World:
        """Every other seed to draw from, the truth from the seeds in between: no run speaks for itself."""
        seeds = sorted(self.values[BASE])
        drawn, apart = (
            {n: {s: own[s] for s in half} for n, own in self.values.items()}
            for half in (seeds[::2], seeds[1::2])
        )
        return World(drawn, noise.truths(apart))

    def equal(self, part: str = "main") -> list[str]:
        """Rows whose code does the same: the unchanged one and the null edits."""
        return [name for name in EQUAL if name in self.values and ROWS[name][1] == part]

    @property
    def null(self) -> list[str]:
        """Candidates whose keep is false: equal, and not shorter, which would be worth keeping."""
        return [name for name in self.values if name in EQUAL and name not in SHORTER]

    @property
    def ranked(self) -> list[str]:
        """Codes that do something else, the worst first."""
        others = [name for name in self.values if name not in EQUAL]
        return sorted(others, key=lambda name: self.truth[name].gain)

    @property
    def better(self) -> list[str]:
        """Gains by their recorded values, whatever they were chosen for."""
        return [n for n in self.ranked if self.truth[n].gain > SMALL_EFFECT * self.truth[n].error]

    @property
    def worse(self) -> list[str]:
        return [n for n in self.ranked if self.truth[n].gain < -SMALL_EFFECT * self.truth[n].error]

    def gain(self, candidate: str) -> float:
        return 0.0 if candidate in EQUAL else self.truth[candidate].gain

    def play(self, rule: Rule, rng: random.Random, start: str, order: Iterable[str]) -> list[Outcome]:
        """One campaign of the rule: what became of every candidate."""
        seeds = sorted(self.values[BASE])
        rng.shuffle(seeds)
        night = Night(self.values, seeds, LINES)
        judge, outcomes = rule(night, start), []
        for candidate in order:
            before, gain = night.runs, self.gain(candidate)
            kept = judge(candidate)
            outcomes.append(Outcome(candidate, gain, kept, night.runs - before))
            night.gained += gain if kept else 0.0
        return outcomes


def singles(world: World, rule: Rule, candidates: Sequence[str], tries: int, seed: int) -> list[Outcome]:
    """Each candidate `tries` times, against other equal codes recorded in the same part."""
    rng = random.Random(seed)
    outcomes = []
    for candidate in candidates:
        incumbents = noise.equal_to(candidate, world.values)
        for _ in range(tries):
            outcomes += world.play(rule, rng, rng.choice(incumbents), [candidate])
    return outcomes


def across(world: World, rule: Rule, parts: tuple[str, str], tries: int, seed: int) -> list[Outcome]:
    """Equal codes of the second part against incumbents that ran in the first: the machine in between."""
    rng = random.Random(seed)
    before, after = parts
    return [
        one
        for candidate in world.equal(after)
        if candidate not in SHORTER
        for _ in range(tries)
        for one in world.play(rule, rng, rng.choice(world.equal(before)), [candidate])
    ]


def campaigns(world: World, rule: Rule, names: Sequence[str], count: int, seed: int) -> list[list[Outcome]]:
    """Every named row once, in a new order each time, from an equal code drawn as the start."""
    rng = random.Random(seed)
    played = []
    for _ in range(count):
        start = rng.choice(world.equal())
        order = [name for name in names if name != start]
        rng.shuffle(order)
        played.append(world.play(rule, random.Random(rng.random()), start, order))
    return played


def kept_percent(outcomes: Iterable[Outcome], names: Sequence[str]) -> float:
    """Of 100 tries of these candidates, how many were kept; nan where there is none."""
    kept = [outcome.kept for outcome in outcomes if outcome.candidate in names]
    return 100 * fmean(kept) if kept else math.nan


def seed_error(world: World, rule: Rule, names: Sequence[str], tries: int, seed: int) -> float:
    """Standard error of `kept_percent` as the recorded seeds go: the jackknife (Efron 1982, chapter 3)."""
    seeds = list(world.values[BASE])
    shares = [kept_percent(singles(world.without(out), rule, names, tries, seed), names) for out in seeds]
    centre = fmean(shares)
    return math.sqrt((len(seeds) - 1) * fmean((share - centre) ** 2 for share in shares))
