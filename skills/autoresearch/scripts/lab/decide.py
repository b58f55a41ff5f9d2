"""Keep, discard or repeat: measurements in, a verdict with its reason out, and no side effect.

How it works. The gain of a candidate over the incumbent is the mean difference on the seeds they share (of
the means where they share none), positive when better. Its standard error comes from the noise pooled over
every repeated commit, and P(better) is one-sided Student: P = T_df(gain / standard error).

- The *price* is the gain a change has to show, by the seed protocol's simplicity table in units of the noise:
  2 sigma (0.001 where sigma is 0.0005) for a small change; 10 sigma (0.005) or 0.1 sigma a line for a large
  one or one that needs much more memory; -1 sigma ("not worse") for one that makes the code shorter.
- A candidate with little hope to reach its price is discarded at once, one that is beyond doubt is kept at
  once, the rest runs again on the incumbent's next seeds, at most `max_runs` times in all.
- Looking up to three times, at noise that is itself estimated from a few runs, would make a nominal 5 % error
  much larger. So of `1 - confidence` a keep may spend 1 % at each early look and 16 % at the last: by
  `scripts/bench/decision_null.py` a change that does nothing is then kept in at most 1 of 100 tries, also
  when sigma comes from three baseline runs alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PRIOR_SIGMA = (
    5e-4  # of the baseline's metric: the median of published language-model runs; other fields differ 50-fold
)
PRIOR_DF = 1  # which is why it counts as one run, and only while two of ours are missing
MEASURED_DF = 2  # three baseline runs

SMALL_GAIN = 2.0  # sigma; pays for a small change
BIG_GAIN = 10.0  # sigma; pays for a large change or for memory
SMALL_CHANGE = 20  # net added lines
LINE_PRICE = 0.1  # sigma per net added line of a large change: 20 lines cost a small gain, 100 a big one
SLACK = 1.0  # sigma; what a shorter code may turn out worse ...
NOT_WORSE = 0.80  # ... with this confidence that it is not more

EARLY_SHARE = 0.01  # of 1 - confidence, before the last look
LAST_SHARE = 0.16  # of 1 - confidence, at the last look
LITTLE_HOPE = 0.18  # P(gain reaches its price) below which no further run is spent

MEMORY_RATIO = 1.5
MEMORY_GB = 0.5
WINSOR = 3.0  # sigma


@dataclass(frozen=True)
class Facts:
    """What is known when a verdict is due; `added` and `removed` count lines of the diff."""

    goal: str  # min or max
    candidate: tuple[tuple[int | None, float], ...]  # (seed, metric) of each finished run
    incumbent: tuple[tuple[int | None, float], ...]
    sigma: float | None  # pooled over every repeated commit, these two included
    sigma_n: int
    sigma_df: int
    baseline_metric: float
    added: int
    removed: int
    memory_gb: float | None = None
    incumbent_memory_gb: float | None = None
    max_runs: int = 3
    confidence: float = 0.95
    min_effect: float | None = None  # smallest gain that counts, in units of the metric; None: 2 sigma


@dataclass(frozen=True)
class Decision:
    """`p`: P(better), `gain`: positive is better, `interval`: of the gain at `confidence`, two-sided."""

    action: str  # keep, discard or repeat
    reason: str
    p: float | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None
    sigma: float | None = None


@dataclass(frozen=True)
class Noise:
    """Standard deviation between runs of one commit, its degrees of freedom, and the runs it stands on."""

    sigma: float | None
    df: int
    n: int


def pooled_noise(groups: Sequence[Sequence[float]], near: float | None = None) -> Noise:
    """Within-group standard deviation over every commit that ran more than once; 0 when deterministic.

    With `near`, the incumbent's metric, a commit at another level counts by the ratio of the levels: noise
    usually shrinks with a loss, and a baseline at 0.6 says little about runs at 0.03. Levels a few percent
    apart count almost fully. The degrees of freedom are then Satterthwaite's (1946), rounded.

    Deviations beyond 3 sigma count as 3 sigma (winsorised, repeated until it settles), so that one run hit
    by a busy machine does not blind the campaign.
    """
    repeated = [[x for x in group if math.isfinite(x)] for group in groups]
    repeated = [group for group in repeated if len(group) > 1]
    if not repeated:
        return Noise(None, 0, 0)
    weights = [1.0 if near is None else _closeness(_mean(group), near) for group in repeated]
    each = [len(group) - 1 for group in repeated]
    total = sum(w * df for w, df in zip(weights, each, strict=True))
    df = round(total**2 / sum(w * w * df for w, df in zip(weights, each, strict=True)))
    deviations = [
        (z, w * share) for w, group in zip(weights, repeated, strict=True) for z, share in _deviations(group)
    ]
    sigma = math.sqrt(sum(share * z * z for z, share in deviations) / total)
    for _ in range(20):
        cap = WINSOR * sigma
        sigma = math.sqrt(sum(share * min(abs(z), cap) ** 2 for z, share in deviations) / total)
    return Noise(sigma, df, sum(map(len, repeated)))


def _closeness(level: float, near: float) -> float:
    """Ratio of the smaller to the larger level, above 0; 1 where a ratio means nothing (signs differ)."""
    low, high = sorted((abs(level), abs(near)))
    return max(low / high, 1e-3) if level * near > 0 else 1.0


def _deviations(group: Sequence[float]) -> list[tuple[float, float]]:
    """Each run's distance from its group's mean, standardised, and its share of a degree of freedom."""
    n = len(group)
    shifted = [x - group[0] for x in group]  # equal runs must give exactly 0
    mean = math.fsum(shifted) / n
    return [((x - mean) * math.sqrt(n / (n - 1)), (n - 1) / n) for x in shifted]


@dataclass(frozen=True)
class Evidence:
    """What the rules read: the comparison, worked out once from `Facts`."""

    facts: Facts
    before: float  # the incumbent's mean
    after: float  # the candidate's mean
    gain: float
    error: float  # standard error of the gain; 0 for a deterministic metric
    sigma: float
    df: int
    unit: float  # what the simplicity table counts in: sigma, or its prior where the metric has no noise
    price: float  # the gain this change has to show
    shortens: bool  # so it only has to be not worse
    last: bool  # no further run can be asked for

    @property
    def net(self) -> int:
        return self.facts.added - self.facts.removed

    @property
    def better(self) -> float:
        """P(the candidate is better than the incumbent)."""
        return self.beyond(0.0)

    def beyond(self, least: float) -> float:
        """P(the true gain is more than `least`)."""
        above = self.gain - least
        if self.error == 0:
            return 0.5 if above == 0 else float(above > 0)
        return student_cdf(above / self.error, self.df)

    @property
    def pays(self) -> bool:
        """Has the change shown what it costs, as far as it can be known by now?"""
        if self.shortens:
            if self.error == 0:
                return self.gain >= self.price
            return self.beyond(self.price) >= (NOT_WORSE if self.last else self.facts.confidence)
        share = LAST_SHARE if self.last else EARLY_SHARE
        return self.gain > self.price and self.better >= 1 - share * (1 - self.facts.confidence)


def decide(facts: Facts) -> Decision:
    """Judge a candidate by the first rule of `RULES` that has an opinion."""
    unusable = _unusable(facts)
    if unusable:
        return unusable
    evidence = weigh(facts)
    action, why = next(verdict for rule in RULES.values() if (verdict := rule(evidence)))
    return Decision(
        action=action,
        reason=f"{_numbers(evidence)}; {why}.",
        p=evidence.better,
        gain=evidence.gain,
        interval=_interval(evidence),
        sigma=evidence.sigma,
    )


def _unusable(facts: Facts) -> Decision | None:
    if not facts.candidate:
        return Decision("repeat", "The candidate has no finished run yet.")
    if not all(_is_number(metric) for _, metric in facts.candidate):
        return Decision(
            "discard", "The metric of a run is not a finite number, which never counts as a gain."
        )
    if not facts.incumbent or not all(_is_number(metric) for _, metric in facts.incumbent):
        return Decision("discard", "The incumbent has no finite measurement to compare with.")
    return None


def _is_number(metric: float | None) -> bool:
    return metric is not None and math.isfinite(metric)


# --- the comparison -------------------------------------------------------------------------------


def weigh(facts: Facts) -> Evidence:
    """Work out gain, standard error and price."""
    sigma, df = _noise(facts)
    sign = 1.0 if facts.goal == "max" else -1.0
    pairs = _pairs(facts)
    if pairs:
        befores, afters = [b for b, _ in pairs], [a for _, a in pairs]
        differences = [sign * (after - before) for before, after in pairs]
        gain = _mean(differences)
        # Two runs of one seed share part of their luck, so the pairs may spread less than sqrt(2) sigma.
        spread = sum((d - gain) ** 2 for d in differences)
        error = math.sqrt((df * 2 * sigma**2 + spread) / (df + len(pairs) - 1) / len(pairs))
    else:
        befores, afters = [m for _, m in facts.incumbent], [m for _, m in facts.candidate]
        gain = sign * (_mean(afters) - _mean(befores))
        error = sigma * math.sqrt(1 / len(afters) + 1 / len(befores))
    unit = sigma or PRIOR_SIGMA * abs(facts.baseline_metric)
    shortens = facts.removed > facts.added and not _needs_much_memory(facts)
    return Evidence(
        facts=facts,
        before=_mean(befores),
        after=_mean(afters),
        gain=gain,
        error=error,
        sigma=sigma,
        df=df,
        unit=unit,
        price=(-SLACK * unit if error else 0.0) if shortens else _price(facts, unit),
        shortens=shortens,
        last=error == 0 or len(facts.candidate) >= facts.max_runs,
    )


def _noise(facts: Facts) -> tuple[float, int]:
    """Give sigma and its degrees of freedom; with fewer than two of them, under a weak prior.

    The prior is a scaled inverse chi-square: sigma^2 = (nu0 sigma0^2 + df s^2) / (nu0 + df), with nu0 = 1 and
    sigma0 = 0.0005 |baseline| (Gelman et al., Bayesian Data Analysis, section 2.6).
    """
    known = facts.sigma is not None and math.isfinite(facts.sigma) and facts.sigma_df > 0
    measured, df = (facts.sigma or 0.0, facts.sigma_df) if known else (0.0, 0)
    if df >= MEASURED_DF:
        return measured, df
    prior = PRIOR_SIGMA * abs(facts.baseline_metric)
    total = PRIOR_DF + df
    return math.sqrt((PRIOR_DF * prior**2 + df * measured**2) / total), total


def _pairs(facts: Facts) -> list[tuple[float, float]]:
    """(incumbent, candidate) by seed, if the incumbent ran on every seed of the candidate; else none."""
    incumbent, candidate = _by_seed(facts.incumbent), _by_seed(facts.candidate)
    if not all(seed is not None and seed in incumbent for seed in candidate):
        return []
    return [(_mean(incumbent[seed]), _mean(runs)) for seed, runs in candidate.items()]


def _by_seed(runs: tuple[tuple[int | None, float], ...]) -> dict[int | None, list[float]]:
    seeds: dict[int | None, list[float]] = {}
    for seed, metric in runs:
        seeds.setdefault(seed, []).append(metric)
    return seeds


def _price(facts: Facts, unit: float) -> float:
    """Give the gain that pays for a change that adds lines or memory: the seed protocol's table."""
    small = facts.min_effect if facts.min_effect is not None else SMALL_GAIN * unit
    scale = small / SMALL_GAIN
    net = facts.added - facts.removed
    if _needs_much_memory(facts) or net > SMALL_CHANGE:
        return max(BIG_GAIN * scale, LINE_PRICE * scale * net)
    return small


def _needs_much_memory(facts: Facts) -> bool:
    now, before = facts.memory_gb, facts.incumbent_memory_gb
    return now is not None and before is not None and now > MEMORY_RATIO * before and now - before > MEMORY_GB


# --- the rules ------------------------------------------------------------------------------------

Verdict = tuple[str, str]
Rule = Callable[[Evidence], "Verdict | None"]


def shorter(e: Evidence) -> Verdict | None:
    """Equal results from less code are a gain."""
    if not (e.shortens and e.pays):
        return None
    return "keep", "not worse beyond the noise, and the code gets shorter"


def clear_win(e: Evidence) -> Verdict | None:
    """More than the noise explains and more than the change costs."""
    if e.shortens or not e.pays:
        return None
    return "keep", "the gain is beyond the noise and pays for the change"


def hopeless(e: Evidence) -> Verdict | None:
    """Another run would most likely change nothing."""
    if e.last or e.beyond(e.price) >= LITTLE_HOPE:
        return None
    return "discard", _shortfall(e)


def close(e: Evidence) -> Verdict | None:
    """In doubt, and a further paired run is allowed."""
    return None if e.last else ("repeat", "too close to call, so it runs again on another seed")


def not_shown(e: Evidence) -> Verdict | None:
    """Whatever is left at the last look."""
    return "discard", _shortfall(e)


RULES: dict[str, Rule] = {
    "shorter": shorter,
    "clear win": clear_win,
    "hopeless": hopeless,
    "close": close,
    "not shown": not_shown,
}


# --- words ----------------------------------------------------------------------------------------


def _shortfall(e: Evidence) -> str:
    if e.gain <= 0 and not e.shortens:
        return "no gain" if e.gain == 0 else "worse"
    if e.shortens:
        return "shorter, but worse than the noise allows" if e.last else "shorter, but clearly worse"
    if e.gain > e.price:
        share = LAST_SHARE if e.last else EARLY_SHARE
        wanted = 1 - share * (1 - e.facts.confidence)
        return f"the gain is not beyond the noise: P {e.better:.3f}, {wanted:.3f} is needed"
    cost = (
        "its memory" if _needs_much_memory(e.facts) else "its lines" if e.net > SMALL_CHANGE else "a change"
    )
    return f"the gain is under the {_apart(e.price, e.gain)} that would pay for {cost}"


def _apart(number: float, other: float) -> str:
    """`number` with as many digits as tell it from `other`."""
    for digits in range(3, 17):
        if f"{number:.{digits}g}" != f"{other:.{digits}g}":
            break
    return f"{number:.{digits}g}"


def _numbers(e: Evidence) -> str:
    """From, to, difference, noise, runs, lines and memory: every figure the verdict stands on."""
    runs = len(e.facts.candidate)
    in_noise = f" = {_short(abs(e.gain) / e.sigma)} sigma" if e.sigma and e.gain else ""
    change = (
        "the same"
        if e.gain == 0
        else f"{'better' if e.gain > 0 else 'worse'} by {_short(abs(e.gain))}{in_noise}"
    )
    noise = f"noise {_short(e.sigma)}" if e.sigma else "no noise"
    if e.facts.sigma_df < MEASURED_DF:
        noise += " (assumed)"
    on = " on the same seeds" if runs == len(_pairs(e.facts)) < len(e.facts.incumbent) else ""
    text = f"{e.before:.6f} -> {e.after:.6f}{on}, {change} ({noise}, P(better) {e.better:.3f}, "
    text += f"{runs} run{'s' * (runs != 1)}), {e.net:+d} lines"
    if _needs_much_memory(e.facts):
        text += f", memory {e.facts.incumbent_memory_gb:.1f} -> {e.facts.memory_gb:.1f} GB"
    return text


def _short(number: float) -> str:
    return f"{number:.3g}"


# --- statistics -----------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    return values[0] + math.fsum(x - values[0] for x in values) / len(values)


def student_cdf(t: float, df: int) -> float:
    """P(T <= t) for Student's t with whole degrees of freedom (Abramowitz and Stegun, 26.7.3-4)."""
    if df > 300:
        return 0.5 * math.erfc(-t / math.sqrt(2))
    theta = math.atan(t / math.sqrt(df))
    cosine2 = math.cos(theta) ** 2
    odd = df % 2
    term = total = 0.0
    if df > 1:
        term = total = math.cos(theta) if odd else 1.0
        for k in range(2 + odd, df - 1, 2):
            term *= cosine2 * (k - 1) / k
            total += term
    central = math.sin(theta) * total
    if odd:
        central = (theta + central) * 2 / math.pi
    return min(1.0, max(0.0, 0.5 * (1 + central)))


def student_quantile(p: float, df: int) -> float:
    """Give the t with P(T <= t) = p, by bisection, for 0 < p < 1."""
    low, high = -1.0, 1.0
    while student_cdf(low, df) > p and low > -1e9:
        low *= 4
    while student_cdf(high, df) < p and high < 1e9:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def _interval(e: Evidence) -> tuple[float, float]:
    if e.error == 0:
        return e.gain, e.gain
    half = student_quantile((1 + e.facts.confidence) / 2, e.df) * e.error
    return e.gain - half, e.gain + half
