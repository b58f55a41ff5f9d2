"""The rules that the decision bench compares: the engine in every mode, and what others do."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace

from decision_nights import Commit, Night, Result

from lab.decide import Belief, Facts, Noise, decide, opening, pooled_noise, restarted, settle, surprise

Rule = Callable[[Night], Result]
BASELINES = 3
SENTINEL_EVERY = 25
DRIFT = 3.0


def oracle(night: Night) -> Result:
    """Knows every true effect: what no rule can beat."""
    best = night.start
    night.run(best, 0)
    while night.left > 0:
        new = night.change(best)
        night.run(new, 0)
        if new.effect > 0:
            night.keep(new)
            best = new
    return night.result(best, -best.level * night.kind.spread)


def threshold(least: float) -> Rule:
    """One run each, keep when lower than the best run by `least` sigma; 0 is the greedy rule."""

    def rule(night: Night) -> Result:
        best = night.start
        first = bar = night.run(best, 0)
        while night.left > 0:
            new = night.change(best)
            value = night.run(new, 0)
            if value < bar - least * night.kind.spread:
                night.keep(new)
                best, bar = new, value
        return night.result(best, first - bar)

    return rule


def three_seeds(errors: float) -> Rule:
    """Always three seeds, keep when the mean is lower by so many standard errors of sigma = 1."""

    def rule(night: Night) -> Result:
        best = night.start
        first = bar = statistics.fmean(night.run(best, seed) for seed in range(3))
        least = errors * math.sqrt(2 / 3) * night.kind.spread
        while night.left >= 3:
            new = night.change(best)
            value = statistics.fmean(night.run(new, seed) for seed in range(3))
            if value < bar - least:
                night.keep(new)
                best, bar = new, value
        return night.result(best, first - bar)

    return rule


def mad_score(night: Night) -> Result:
    """Gain over the median absolute deviation of all results: from 2 on keep, below it one more run."""
    best = night.start
    first = bar = night.run(best, 0)
    seen = [bar]
    while night.left > 0:
        new = night.change(best)
        value = night.run(new, 0)
        seen.append(value)
        if value < bar and len(seen) > 2:
            middle = statistics.median(seen)
            spread = statistics.median(abs(x - middle) for x in seen)
            if bar - value < 2 * spread and night.left > 0:
                seen.append(night.run(new, 1))
                value = statistics.fmean(new.values)
        if value < bar:
            night.keep(new)
            best, bar = new, value
    return night.result(best, first - bar)


def bootstrap(night: Night) -> Result:
    """Fail fast against the mean, else three seeds and a bootstrap P of at least 0.95."""
    best = night.start
    first = statistics.fmean(night.run(best, seed) for seed in range(3))
    rng = random.Random(night.made)
    while night.left > 0:
        new = night.change(best)
        if night.run(new, 0) >= statistics.fmean(best.values):
            continue
        while len(new.runs) < 3 and night.left > 0:
            night.run(new, len(new.runs))
        if len(new.runs) == 3 and _bootstrap_p(rng, new.values, best.values) >= 0.95:
            night.keep(new)
            best = new
    return night.result(best, first - statistics.fmean(best.values))


def _bootstrap_p(rng: random.Random, new: list[float], old: list[float]) -> float:
    wins = sum(sum(rng.choices(new, k=3)) / 3 < sum(rng.choices(old, k=3)) / 3 for _ in range(200))
    return wins / 200


class Engine:
    """The real engine on a night: its facts are made as the loop makes them."""

    def __init__(self, night: Night, mode: str, sentinel: bool) -> None:
        self.night, self.mode, self.sentinel = night, mode, sentinel
        self.best = night.start
        self.from_run = 0  # runs of the incumbent before it were on another machine, so to say
        self.groups = [self.best.values]
        for seed in range(BASELINES):
            night.run(self.best, seed)
        self.first = self.best.values[0]
        self.noise = Noise(None, 0, 0)
        self.stale = True
        self.since = 0  # experiments since the incumbent last ran
        self.belief: Belief = opening(self.facts(None))
        self.expected_false = 0.0

    def facts(self, new: Commit | None) -> Facts:
        """What the loop would hand to `decide`."""
        if self.stale:
            others = [g for g in self.groups if len(g) > 1]
            self.noise = pooled_noise([*others, self.best.values, new.values if new else []])
            self.stale = False
        ran = {seed for seed, _ in self.best.runs}
        return Facts(
            goal="min",
            candidate=tuple(new.runs) if new else (),
            incumbent=tuple(self.best.runs[self.from_run :]),
            sigma=self.noise.sigma,
            sigma_n=self.noise.n,
            sigma_df=self.noise.df,
            baseline_metric=self.first,
            added=0,
            removed=0,
            mode=self.mode,
            belief=getattr(self, "belief", None),
            next_seed=len(new.runs) if new else None,
            incumbent_seed=next(seed for seed in range(99) if seed not in ran),
            incumbent_may=True,
        )

    def night_long(self) -> Result:
        """Judge ideas until the runs are spent."""
        while self.night.left > 0:
            if self.sentinel and self.since >= SENTINEL_EVERY:
                self._look_for_drift()
            else:
                self._judge(self.night.change(self.best))
        return self.night.result(self.best, self.belief.gained, self.expected_false)

    def _look_for_drift(self) -> None:
        """Measure the incumbent again; a second run has to agree before the bar moves."""
        self.since = 0
        sigma = self.noise.sigma or 1.0
        seen: list[float] = []
        while self.night.left > 0 and len(seen) < 2 and all(abs(z) > DRIFT for z in seen):
            seen.append(surprise(self.belief, 0, self.night.run(self.best, 0), sigma))
        self.stale = True
        if len(seen) == 2 and min(map(abs, seen)) > DRIFT and seen[0] * seen[1] > 0:
            self.from_run = len(self.best.runs) - 2
            self.belief = restarted(self.belief, self.best.runs[self.from_run :], sigma)

    def _judge(self, new: Commit) -> None:
        self.night.run(new, 0)
        decision = decide(self.facts(new))
        while decision.action == "repeat" and self.night.left > 0:
            self.stale = True
            if decision.side == "incumbent":
                self.night.run(self.best, self.facts(new).incumbent_seed or 0)
                self.since = 0
                self.stale = True
            else:
                self.night.run(new, len(new.runs))
            decision = decide(self.facts(new))
        facts = self.facts(new)
        keep = decision.action == "keep"
        self.since += 1
        if decision.p is not None:
            self.night.judged.append((decision.p, new.effect > 0, keep))
        belief = settle(facts, decision.action)
        assert belief
        self.belief = belief
        if keep:
            self.groups.append(self.best.values[self.from_run :])
            self.night.keep(new)
            self.expected_false += 1 - (decision.p or 0.0)
            self.best, self.from_run, self.since = new, 0, 0
        elif len(new.runs) > 1:
            self.groups.append(new.values)


def engine(mode: str, sentinel: bool = False) -> Rule:
    """The engine in a mode."""
    return lambda night: Engine(night, mode, sentinel).night_long()


def engine_with(**thresholds: float) -> Rule:
    """The engine with other thresholds than a mode's: for the frontier."""
    from lab.decide import MODES

    def rule(night: Night) -> Result:
        MODES["tried"] = replace(MODES["balanced"], **thresholds)  # type: ignore[arg-type]
        return engine("tried")(night)

    return rule


RULES: dict[str, Rule] = {
    "oracle (knows every effect)": oracle,
    "greedy: keep if lower": threshold(0.0),
    "threshold 1 sigma": threshold(1.0),
    "threshold 2.5 sigma": threshold(2.5),
    "three seeds, mean lower": three_seeds(0.0),
    "three seeds, 1 standard error": three_seeds(1.0),
    "MAD score, re-run": mad_score,
    "bootstrap of three": bootstrap,
    "engine: seed-table": engine("seed-table"),
    "engine: fast": engine("fast"),
    "engine: balanced (default)": engine("balanced"),
    "engine: strict": engine("strict"),
}
