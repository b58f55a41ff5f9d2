"""What the rules read: a candidate's comparison with the incumbent, worked out once from `Facts`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lab.decide import price
from lab.decide.belief import Belief, opened, pair_noise, ran, restarted, rounded
from lab.decide.facts import Facts
from lab.decide.modes import MODES, Mode
from lab.decide.noise import PRIOR_SIGMA, Trusted, trusted
from lab.decide.posterior import Losses, Posterior, after_verdict, posterior
from lab.decide.statistics import mean

NOISE_DF = 6  # degrees of freedom, the prior's among them, up to which no single run decides ...
EARLY = 0.80  # ... and a keep has to reach this P; else 7 of 100 first tries that do nothing are kept


@dataclass(frozen=True)
class Evidence:
    """What the rules read: the comparison, worked out once from `Facts`."""

    facts: Facts
    mode: Mode
    noise: Trusted
    belief: Belief  # the incumbent's, with every run of it so far
    posterior: Posterior | None  # None for a metric without noise
    before: float  # means of the runs, on shared seeds where there are any
    after: float
    difference: float  # positive is better
    paired: bool
    unit: float  # what prices count in
    price: float
    p: float
    gain: float
    sd: float
    last: bool  # no further run can be asked for

    @property
    def early(self) -> bool:
        """Whether the noise itself is known from few runs only."""
        return not self.noise.none and self.noise.df <= NOISE_DF

    def bar(self, threshold: float) -> float:
        """What P has to reach for a keep, where the mode asks for `threshold`."""
        return max(threshold, EARLY) if self.early else threshold

    @property
    def shortens(self) -> bool:
        """Whether equal results would be a gain."""
        return price.shortens(self.facts)

    @property
    def same(self) -> bool:
        """Whether the runs gave exactly the incumbent's numbers: the change does nothing."""
        if self.paired:
            return all(after == before for before, after in pairs(self.facts))
        ours, others = self.facts.candidate, self.facts.incumbent
        return sorted(metric for _, metric in ours) == sorted(metric for _, metric in others)


def weigh(facts: Facts) -> Evidence:
    """Work out the difference, its price and the posterior of the gain."""
    noise = trusted(facts)
    mode = MODES.get(facts.mode, MODES["balanced"])
    before, after, paired = compared(facts)
    difference = facts.sign * (before - after)
    belief = current(facts, noise)
    unit = pair_noise(belief, noise.sigma) or PRIOR_SIGMA * abs(facts.baseline_metric)
    asked = price.asked(facts, unit)
    found = None
    if noise.none:
        asked = max(asked, 0.0)  # without noise, "not worse" means exactly that
        p = float(difference >= asked if price.shortens(facts) else difference > asked)
        gain, sd, last = difference, 0.0, True
    else:
        found = posterior(belief, losses(facts, facts.candidate), noise, asked)
        whole = found.whole
        p, gain, sd = whole.p, whole.mean, math.sqrt(whole.variance)
        last = len(facts.candidate) >= (mode.runs if facts.max_runs is None else facts.max_runs)
    return Evidence(
        facts, mode, noise, belief, found, before, after, difference, paired, unit, asked, p, gain, sd, last
    )


def losses(facts: Facts, runs: Losses) -> list[tuple[int | None, float]]:
    """Runs with their metric as a loss."""
    return [(seed, facts.sign * metric) for seed, metric in runs]


def pairs(facts: Facts) -> list[tuple[float, float]]:
    """(incumbent, candidate) by seed, if the incumbent ran on every seed of the candidate; else none."""
    incumbent, candidate = _by_seed(facts.incumbent), _by_seed(facts.candidate)
    if not all(seed is not None and seed in incumbent for seed in candidate):
        return []
    return [(mean(incumbent[seed]), mean(runs)) for seed, runs in candidate.items()]


def _by_seed(runs: Losses) -> dict[int | None, list[float]]:
    seeds: dict[int | None, list[float]] = {}
    for seed, metric in runs:
        seeds.setdefault(seed, []).append(metric)
    return seeds


def compared(facts: Facts) -> tuple[float, float, bool]:
    """Mean of the incumbent and of the candidate, on the seeds they share, and whether they share any."""
    found = pairs(facts)
    if found:
        return mean([b for b, _ in found]), mean([a for _, a in found]), True
    return mean([m for _, m in facts.incumbent]), mean([m for _, m in facts.candidate]), False


def current(facts: Facts, noise: Trusted) -> Belief:
    """The belief with every run of the incumbent."""
    sigma = noise.sigma or _tiny(facts)
    runs = losses(facts, facts.incumbent)
    if facts.belief is None:
        return opened(runs, sigma)
    belief = facts.belief
    if len(runs) < belief.seen:  # runs that were set aside afterwards
        return restarted(belief, runs, sigma)
    for seed, loss in runs[belief.seen :]:
        belief = ran(belief, seed, loss, sigma)
    return belief


def settled(e: Evidence, keep: bool) -> Belief:
    """The belief after the verdict, with as many digits as the journal holds."""
    runs = losses(e.facts, e.facts.candidate)
    if not e.noise.none:
        return rounded(after_verdict(e.belief, runs, e.noise, keep, e.posterior))
    if not keep:
        return rounded(e.belief)
    return rounded(replace(opened(runs, _tiny(e.facts)), first=e.belief.gained + e.gain))


def _tiny(facts: Facts) -> float:
    """A noise for the filter where the metric has none."""
    size = max(abs(facts.baseline_metric), *(abs(metric) for _, metric in facts.incumbent))
    return 1e-9 * (size or 1.0)
