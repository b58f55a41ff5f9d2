"""The seed protocol's own rule, as `mode: seed-table`: Student's t against a table of prices.

The gain of a candidate is the mean difference on the seeds it shares with the incumbent (of the means where
they share none); its standard error comes from the pooled noise, and P(better) = T_df(gain / standard
error).

- The price is 2 sigma (0.001 where sigma is 0.0005) for a small change; 10 sigma (0.005) or 0.1 sigma a line
  for a large one or one that needs much more memory; -1 sigma ("not worse") for one that makes the code
  shorter.
- Looking up to three times, at noise that is itself estimated from a few runs, would make a nominal 5 %
  error much larger. So of `1 - confidence` a keep may spend 1 % at each early look and 16 % at the last: a
  change that does nothing is then kept in at most 1 of 100 tries, also when sigma comes from three baseline
  runs alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lab.decide.facts import Decision, Facts
from lab.decide.noise import PRIOR_SIGMA, trusted
from lab.decide.statistics import student_cdf, student_quantile
from lab.decide.weighing import compared, pairs

SMALL_GAIN = 2.0  # sigma; pays for a small change
BIG_GAIN = 10.0  # sigma; pays for a large change or for memory
SMALL_CHANGE = 20  # net added lines
LINE_PRICE = 0.1  # sigma per net added line of a large change: 20 lines cost a small gain, 100 a big one
SLACK = 1.0  # sigma; what a shorter code may turn out worse ...
NOT_WORSE = 0.80  # ... with this confidence that it is not more
EARLY_SHARE = 0.01  # of 1 - confidence, before the last look
LAST_SHARE = 0.16  # of 1 - confidence, at the last look
LITTLE_HOPE = 0.18  # P(gain reaches its price) below which no further run is spent
MOST_RUNS = 3
MEMORY_RATIO = 1.5
MEMORY_GB = 0.5


@dataclass(frozen=True)
class Comparison:
    """The figures of the table's rule."""

    facts: Facts
    before: float
    after: float
    gain: float
    error: float  # standard error of the gain; 0 for a deterministic metric
    sigma: float
    df: int
    price: float
    shortens: bool
    last: bool

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
    def share(self) -> float:
        """What this look may spend of 1 - confidence."""
        return LAST_SHARE if self.last else EARLY_SHARE

    @property
    def pays(self) -> bool:
        """Whether the change has shown what it costs, as far as it can be known by now."""
        if not self.shortens:
            return self.gain > self.price and self.better >= 1 - self.share * (1 - self.facts.confidence)
        if self.error == 0:
            return self.gain >= self.price
        return self.beyond(self.price) >= (NOT_WORSE if self.last else self.facts.confidence)


def judge(facts: Facts) -> Decision:
    """The verdict of the table."""
    c = compare(facts)
    half = student_quantile((1 + facts.confidence) / 2, c.df) * c.error if c.error else 0.0
    action, why = _verdict(c)
    return Decision(
        action=action,
        reason=f"{_numbers(c)}; {why}.",
        p=c.better,
        gain=c.gain,
        interval=(c.gain - half, c.gain + half),
        sigma=c.sigma,
        difference=c.gain,
        price=c.price,
        side=_side(facts) if action == "repeat" else "candidate",
    )


def _side(facts: Facts) -> str:
    """The incumbent runs first on a seed it lacks, so that every run has its pair."""
    lacks = facts.next_seed is not None and facts.next_seed not in {seed for seed, _ in facts.incumbent}
    return (
        "incumbent"
        if lacks and facts.incumbent_may and facts.incumbent_seed == facts.next_seed
        else "candidate"
    )


def compare(facts: Facts) -> Comparison:
    """Work out gain, standard error and price."""
    noise = trusted(facts)
    before, after, paired = compared(facts)
    gain = facts.sign * (before - after)
    error = _paired_error(facts, noise.sigma, noise.df) if paired else _unpaired_error(facts, noise.sigma)
    unit = noise.sigma or PRIOR_SIGMA * abs(facts.baseline_metric)
    shortens = facts.removed > facts.added and not _needs_much_memory(facts)
    most = facts.max_runs if facts.max_runs is not None else MOST_RUNS
    return Comparison(
        facts=facts,
        before=before,
        after=after,
        gain=gain,
        error=error,
        sigma=noise.sigma,
        df=max(noise.df, 1),
        price=(-SLACK * unit if error else 0.0) if shortens else _price(facts, unit),
        shortens=shortens,
        last=error == 0 or len(facts.candidate) >= most,
    )


def _paired_error(facts: Facts, sigma: float, df: int) -> float:
    """Two runs of one seed share part of their luck, so the pairs may spread less than sqrt(2) sigma."""
    differences = [b - a for b, a in pairs(facts)]
    centre = math.fsum(differences) / len(differences)
    spread = sum((d - centre) ** 2 for d in differences)
    if sigma == 0 and spread == 0:
        return 0.0
    return math.sqrt((df * 2 * sigma**2 + spread) / max(df + len(differences) - 1, 1) / len(differences))


def _unpaired_error(facts: Facts, sigma: float) -> float:
    return sigma * math.sqrt(1 / len(facts.candidate) + 1 / len(facts.incumbent))


def _price(facts: Facts, unit: float) -> float:
    """Give the gain that pays for a change that adds lines or memory: the seed protocol's table."""
    small = facts.min_effect if facts.min_effect is not None else SMALL_GAIN * unit
    scale = small / SMALL_GAIN
    if _needs_much_memory(facts) or facts.net > SMALL_CHANGE:
        return max(BIG_GAIN * scale, LINE_PRICE * scale * facts.net)
    return small


def _needs_much_memory(facts: Facts) -> bool:
    now, before = facts.memory_gb, facts.incumbent_memory_gb
    return now is not None and before is not None and now > MEMORY_RATIO * before and now - before > MEMORY_GB


def _verdict(c: Comparison) -> tuple[str, str]:
    if c.pays and c.shortens:
        return "keep", "not worse beyond the noise, and the code gets shorter"
    if c.pays:
        return "keep", "the gain is beyond the noise and pays for the change"
    if not c.last and c.beyond(c.price) >= LITTLE_HOPE:
        return "repeat", "too close to call, so it runs again on another seed"
    return "discard", _shortfall(c)


def _shortfall(c: Comparison) -> str:
    if c.gain <= 0 and not c.shortens:
        return "no gain" if c.gain == 0 else "worse"
    if c.shortens:
        return "shorter, but worse than the noise allows"
    if c.gain > c.price:
        wanted = 1 - c.share * (1 - c.facts.confidence)
        return f"the gain is not beyond the noise: P {c.better:.3f}, {wanted:.3f} is needed"
    what = "its memory" if _needs_much_memory(c.facts) else "a change"
    return f"the gain is under the {c.price:.3g} that would pay for {what}"


def _numbers(c: Comparison) -> str:
    runs = len(c.facts.candidate)
    in_noise = f" = {abs(c.gain) / c.sigma:.3g} sigma" if c.sigma and c.gain else ""
    word = "better" if c.gain > 0 else "worse"
    change = f"{word} by {abs(c.gain):.3g}{in_noise}" if c.gain else "the same"
    noise = f"noise {c.sigma:.3g}" if c.sigma else "no noise"
    return (
        f"{c.before:.6f} -> {c.after:.6f}, {change} ({noise}, P(better) {c.better:.3f}, "
        f"{runs} run{'s' * (runs != 1)}), {c.facts.net:+d} lines"
    )
