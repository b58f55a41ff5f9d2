"""The rules that are judged on recorded runs: the usual ones, and the product's own.

Each rule begins a campaign on a `Night` and gives the function that judges one candidate after another.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))

from real_noise import Values

from lab.decide import NAMES, Belief, Facts, decide, opening, pooled_noise, settle

BASELINES = 3
SMALL, LARGE = 0.01, 0.03  # bits per byte: fixed thresholds
Measured = tuple[int, float]  # seed, val_bpb


@dataclass
class Night:
    """One campaign on recorded runs: hands out values, and counts them."""

    values: Values
    seeds: Sequence[int]  # the campaign's one list of seeds
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    gained: float = 0.0  # true gains of the keeps so far
    runs: int = 0

    def seed(self, turn: int) -> int:
        return self.seeds[turn % len(self.seeds)]

    def run(self, variant: str, turn: int, gained: float | None = None) -> Measured:
        """The variant's run on the turn-th seed, on top of `gained` (default: of all keeps so far)."""
        self.runs += 1
        seed = self.seed(turn)
        return seed, self.values[variant][seed] - (self.gained if gained is None else gained)


Judge = Callable[[str], bool]  # candidate -> kept
Rule = Callable[[Night, str], Judge]


def greedy(night: Night, start: str) -> Judge:
    """One run each, keep what is lower than the best so far."""
    return threshold(night, start, 0.0)


def small_threshold(night: Night, start: str) -> Judge:
    return threshold(night, start, SMALL)


def large_threshold(night: Night, start: str) -> Judge:
    return threshold(night, start, LARGE)


def threshold(night: Night, start: str, least: float) -> Judge:
    bar = night.run(start, 0)[1]

    def judge(candidate: str) -> bool:
        nonlocal bar
        value = night.run(candidate, 0)[1]
        kept = value < bar - least
        bar = value if kept else bar
        return kept

    return judge


def three_seeds(night: Night, start: str) -> Judge:
    """Three runs each on the same seeds, keep when the mean is lower."""
    return means(night, start, 0.0)


def three_seeds_one_error(night: Night, start: str) -> Judge:
    """The same, lower by a standard error of the three paired differences."""
    return means(night, start, 1.0)


def means(night: Night, start: str, errors: float) -> Judge:
    bar = [night.run(start, turn)[1] for turn in range(BASELINES)]

    def judge(candidate: str) -> bool:
        nonlocal bar
        values = [night.run(candidate, turn)[1] for turn in range(BASELINES)]
        gains = [before - after for before, after in zip(bar, values, strict=True)]
        kept = fmean(gains) > errors * stdev(gains) / math.sqrt(BASELINES)
        bar = values if kept else bar
        return kept

    return judge


@dataclass
class Ours:
    """The product's own rule, fed as the loop feeds it: baseline runs first, then candidates one by one."""

    night: Night
    start: str
    mode: str
    incumbent: str = ""
    runs: list[Measured] = field(default_factory=list)  # of the incumbent, in the order they ended
    gained: float = 0.0  # true gains below the incumbent
    earlier: list[list[float]] = field(default_factory=list)  # runs of every other code
    baseline: float = 0.0
    belief: Belief | None = None

    def __post_init__(self) -> None:
        self.incumbent = self.start
        self.runs = [self.night.run(self.start, turn) for turn in range(BASELINES)]
        self.baseline = fmean(value for _, value in self.runs)
        self.belief = opening(self.facts(self.start, []))

    def __call__(self, candidate: str) -> bool:
        runs = [self.night.run(candidate, 0)]
        while True:
            decision = decide(self.facts(candidate, runs))
            if decision.action != "repeat":
                return self.settle(candidate, runs, decision.action)
            if decision.side == "incumbent":
                self.runs.append(self.night.run(self.incumbent, len(self.runs), self.gained))
            else:
                runs.append(self.night.run(candidate, len(runs)))

    def facts(self, candidate: str, runs: list[Measured]) -> Facts:
        added, removed = self.night.lines.get(candidate, (0, 0))
        own, incumbent = [v for _, v in runs], [v for _, v in self.runs]
        groups = [*self.earlier, incumbent, own]
        known = pooled_noise(groups, near=fmean(incumbent))
        return Facts(
            goal="min",
            candidate=tuple(runs),
            incumbent=tuple(self.runs),
            sigma=known.sigma,
            sigma_n=known.n,
            sigma_df=known.df,
            baseline_metric=self.baseline,
            added=added,
            removed=removed,
            mode=self.mode,
            candidate_sigma=pooled_noise(groups, near=fmean(own)).sigma if own else None,
            belief=self.belief,
            next_seed=self.night.seed(len(runs)),
            incumbent_seed=self.night.seed(len(self.runs)),
            incumbent_may=True,
        )

    def settle(self, candidate: str, runs: list[Measured], verdict: str) -> bool:
        self.belief, kept = settle(self.facts(candidate, runs), verdict), verdict == "keep"
        self.earlier.append([value for _, value in (self.runs if kept else runs)])
        if kept:
            self.incumbent, self.runs, self.gained = candidate, runs, self.night.gained
        return kept


def ours(mode: str) -> Rule:
    return lambda night, start: Ours(night, start, mode)


RULES: dict[str, Rule] = {
    "greedy": greedy,
    f"lower by {SMALL}": small_threshold,
    f"lower by {LARGE}": large_threshold,
    "three seeds": three_seeds,
    "three seeds, 1 s.e.": three_seeds_one_error,
    **{f"ours, {mode}": ours(mode) for mode in NAMES},
}
