"""How much one run of one commit differs from the next: pooled over the campaign, under a weak prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lab.decide.facts import Facts
from lab.decide.statistics import mean

PRIOR_SIGMA = (
    5e-4  # of the baseline's metric: the median of published language-model runs; other fields differ 50-fold
)
PRIOR_DF = 1  # which is why it counts as one run ...
TRUST = 2.0  # ... and is drawn to within this factor of what three runs of our own say
MEASURED_DF = 2  # three baseline runs
WINSOR = 3.0  # sigma
MOSTLY = 0.05  # of the metric: a noise above it drowns what changes usually gain


@dataclass(frozen=True)
class Noise:
    """Standard deviation between runs of one commit, its degrees of freedom, and the runs it stands on."""

    sigma: float | None
    df: int
    n: int


def pooled_noise(groups: Sequence[Sequence[float]], near: float | None = None) -> Noise:
    """Within-group standard deviation over every commit that ran more than once; 0 when deterministic.

    With `near`, the level of the metric that is asked about, a commit at another level counts by the ratio
    of the levels: noise usually shrinks with a loss, and a baseline at 0.6 says little about runs at 0.03.
    Its deviations are also brought to that level, as far as the groups say that noise follows it. Levels a
    few percent apart count almost fully. The degrees of freedom are Satterthwaite's (1946), rounded.

    Deviations beyond 3 sigma count as 3 sigma (winsorised, repeated until it settles), so that one run hit
    by a busy machine does not blind the campaign.
    """
    repeated = [[x for x in group if math.isfinite(x)] for group in groups]
    repeated = [group for group in repeated if len(group) > 1]
    if not repeated:
        return Noise(None, 0, 0)
    levels = [mean(group) for group in repeated]
    ratios = [1.0 if near is None else _ratio(level, near) for level in levels]
    weights = [max(min(r, 1 / r), 1e-3) for r in ratios]
    power = _power(repeated, levels) if any(r != 1.0 for r in ratios) else 0.0
    each = [len(group) - 1 for group in repeated]
    total = sum(w * df for w, df in zip(weights, each, strict=True))
    df = round(total**2 / sum(w * w * df for w, df in zip(weights, each, strict=True)))
    deviations = [
        (z / r**power, w * share)
        for w, r, group in zip(weights, ratios, repeated, strict=True)
        for z, share in _deviations(group)
    ]
    return Noise(_winsorised(deviations, total), df, sum(map(len, repeated)))


def _ratio(level: float, near: float) -> float:
    """How many times `near` the level is; 1 where a ratio means nothing (signs differ)."""
    return min(max(level / near, 1e-3), 1e3) if level * near > 0 else 1.0


def _power(groups: Sequence[Sequence[float]], levels: Sequence[float]) -> float:
    """How noise follows the level: 0 not at all, 1 in proportion; the likelihood weighs the two guesses."""
    if min(levels) * max(levels) <= 0:
        return 0.0
    logs = [_log_likelihood(groups, [abs(level) ** power for level in levels]) for power in (0.0, 1.0)]
    if not all(map(math.isfinite, logs)):
        return 0.5
    return 1 / (1 + math.exp(max(-50.0, min(50.0, logs[0] - logs[1]))))


def _log_likelihood(groups: Sequence[Sequence[float]], scales: Sequence[float]) -> float:
    """Of the deviations within groups, when each group's noise is proportional to its scale."""
    df = sum(len(group) - 1 for group in groups)
    squares = [sum(share * z * z for z, share in _deviations(group)) for group in groups]
    pooled = sum(ss / scale**2 for ss, scale in zip(squares, scales, strict=True)) / df
    if pooled <= 0:
        return math.inf
    growth = sum((len(g) - 1) * math.log(scale) for g, scale in zip(groups, scales, strict=True))
    return -growth - 0.5 * df * math.log(pooled)


def _deviations(group: Sequence[float]) -> list[tuple[float, float]]:
    """Each run's distance from its group's mean, standardised, and its share of a degree of freedom."""
    n = len(group)
    shifted = [x - group[0] for x in group]  # equal runs must give exactly 0
    centre = math.fsum(shifted) / n
    return [((x - centre) * math.sqrt(n / (n - 1)), (n - 1) / n) for x in shifted]


def _winsorised(deviations: Sequence[tuple[float, float]], total: float) -> float:
    sigma = math.sqrt(sum(share * z * z for z, share in deviations) / total)
    for _ in range(20):
        cap = WINSOR * sigma
        if all(abs(z) <= cap for z, _ in deviations):
            break
        sigma = math.sqrt(sum(share * min(abs(z), cap) ** 2 for z, share in deviations) / total)
    return sigma


@dataclass(frozen=True)
class Trusted:
    """The noise that a comparison counts with."""

    sigma: float
    df: int  # the prior's included; 0 where the metric has no noise
    candidate: float  # at the candidate's level
    measured: bool  # from three runs or more

    @property
    def none(self) -> bool:
        """Whether the metric is deterministic."""
        return self.sigma == 0.0


def trusted(facts: Facts) -> Trusted:
    """The measured noise under a scaled inverse chi-square prior with one degree of freedom.

    sigma^2 = (nu0 sigma0^2 + df s^2) / (nu0 + df), nu0 = 1, sigma0 = 0.0005 |baseline| (Gelman et al.,
    Bayesian Data Analysis, section 2.6); once three runs are in, sigma0 is first drawn to within a factor
    of two of them, so that a field with another noise is not judged by ours. Equal runs mean no noise.
    """
    known = facts.sigma is not None and math.isfinite(facts.sigma) and facts.sigma_df > 0
    measured, df = (facts.sigma or 0.0, facts.sigma_df) if known else (0.0, 0)
    enough = df >= MEASURED_DF
    if enough and measured == 0.0:
        return Trusted(0.0, 0, 0.0, True)
    prior = PRIOR_SIGMA * abs(facts.baseline_metric)
    if enough:
        prior = min(max(prior, measured / TRUST), measured * TRUST)
    sigma = math.sqrt((PRIOR_DF * prior**2 + df * measured**2) / (PRIOR_DF + df))
    if sigma == 0.0:  # a metric of exactly 0 and nothing repeated: there is no unit to count in
        return Trusted(0.0, 0, 0.0, enough)
    other = facts.candidate_sigma
    scale = other / measured if other and measured and math.isfinite(other) else 1.0
    return Trusted(sigma, PRIOR_DF + df, sigma * min(max(scale, 0.1), 10.0), enough)


def character(noise: Noise, level: float | None) -> str:
    """The noise in words: not measured, none, mostly noise, usual."""
    if noise.sigma is None:
        return "not measured"
    if noise.sigma == 0.0:
        return "none" if noise.df >= MEASURED_DF else "not measured"
    return "mostly noise" if level and noise.sigma > MOSTLY * abs(level) else "usual"
