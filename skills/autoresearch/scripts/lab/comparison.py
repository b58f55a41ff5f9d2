"""Two sides measured on fresh seeds: mean difference, interval, p values, and what may be said of them.

The interval may be worked out several times (after 5 pairs and, if nothing is decided, after 10, ...): a
plain 95 % interval would then miss the truth more often than it says. Each look therefore has a level of
error to itself, in `LEVELS`. `scripts/bench/confirm.py` measures what they come to together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lab.decide import student_cdf, student_quantile

CONFIDENCE = 0.95
FIRST_LOOK = 5  # pairs; the next looks at twice as many, ...
# Two-sided error of the interval at the first, second, third look; then it halves from look to look.
LEVELS = (0.04, 0.02, 0.007)
HALF_THE_CLAIM = 0.5  # what the interval must reach to leave the claimed gain possible
PAIRS_FORESEEN = 1000  # a need beyond this is called out of reach


@dataclass(frozen=True)
class Side:
    """One side's fresh runs."""

    n: int
    mean: float
    sd: float | None  # None for a single run


@dataclass(frozen=True)
class Comparison:
    """What n pairs, or two groups, say; `gain` is positive when the second side is better."""

    paired: bool
    before: Side
    after: Side
    gain: float
    error: float  # standard error of the gain; 0 when every difference is the same
    df: int
    level: float  # two-sided error of `interval`
    interval: tuple[float, float]
    p_t: float | None  # None when the differences have no spread
    p_wilcoxon: float | None  # None for two groups

    @property
    def n(self) -> int:
        """Pairs, or runs of the smaller group."""
        return min(self.before.n, self.after.n)


def next_look(looked_at: int) -> int:
    """At how many pairs the interval is worked out next: 5, 10, 20, 40, ..."""
    pairs = FIRST_LOOK
    while pairs <= looked_at:
        pairs *= 2
    return pairs


def level_of(look: int) -> float:
    """The two-sided error that look number `look` (from 1) may make; from the third on it halves."""
    extra = max(0, look - len(LEVELS))
    return LEVELS[min(look, len(LEVELS)) - 1] * 0.5**extra


def compare_pairs(pairs: Sequence[tuple[float, float]], goal: str, level: float) -> Comparison | None:
    """Compare (before, after) pairs by Student's paired t and Wilcoxon's signed ranks; None below two."""
    if len(pairs) < 2:
        return None
    sign = 1.0 if goal == "max" else -1.0
    befores, afters = [b for b, _ in pairs], [a for _, a in pairs]
    gains = [sign * (after - before) for before, after in pairs]
    whole = side(gains)
    assert whole.sd is not None
    error = whole.sd / math.sqrt(len(gains))
    return _comparison(
        True, side(befores), side(afters), whole.mean, error, len(gains) - 1, level, signed_rank_p(gains)
    )


def compare_groups(
    befores: Sequence[float], afters: Sequence[float], goal: str, level: float
) -> Comparison | None:
    """Compare two groups by Welch's t (1947), degrees of freedom rounded down; None below two runs each."""
    if min(len(befores), len(afters)) < 2:
        return None
    sign = 1.0 if goal == "max" else -1.0
    before, after = side(befores), side(afters)
    assert before.sd is not None and after.sd is not None
    parts = (before.sd**2 / before.n, after.sd**2 / after.n)
    error = math.sqrt(sum(parts))
    spread = parts[0] ** 2 / (before.n - 1) + parts[1] ** 2 / (after.n - 1)
    df = max(1, math.floor(error**4 / spread)) if spread else before.n + after.n - 2
    return _comparison(False, before, after, sign * (after.mean - before.mean), error, df, level, None)


def _comparison(
    paired: bool,
    before: Side,
    after: Side,
    gain: float,
    error: float,
    df: int,
    level: float,
    p_wilcoxon: float | None,
) -> Comparison:
    half = student_quantile(1 - level / 2, df) * error if error else 0.0
    p_t = min(1.0, 2 * student_cdf(-abs(gain) / error, df)) if error else None
    interval = (gain - half, gain + half)
    return Comparison(paired, before, after, gain, error, df, level, interval, p_t, p_wilcoxon)


def side(values: Sequence[float]) -> Side:
    """Mean and standard deviation; equal values have exactly none."""
    n = len(values)
    shifted = [x - values[0] for x in values]
    mean = math.fsum(shifted) / n
    if n < 2:
        return Side(n, values[0] + mean, None)
    return Side(n, values[0] + mean, math.sqrt(math.fsum((x - mean) ** 2 for x in shifted) / (n - 1)))


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided exact p of Wilcoxon's signed-rank test (1945); zeros are left out, ties share their rank.

    Every one of the 2^n signs is equally likely when the two sides are alike, so the distribution of the rank
    sum is counted, over doubled ranks because a shared one may end in a half.
    """
    sizes = sorted(abs(d) for d in differences if d)
    if not sizes:
        return 1.0
    ranks = {size: 2 * sizes.index(size) + sizes.count(size) + 1 for size in sizes}  # twice the middle rank
    counts = {0: 1}
    for size in sizes:
        further: dict[int, int] = {}
        for total, ways in counts.items():
            for step in (0, ranks[size]):
                further[total + step] = further.get(total + step, 0) + ways
        counts = further
    seen = sum(ranks[abs(d)] for d in differences if d > 0)
    extreme = min(seen, sum(ranks[size] for size in sizes) - seen)
    tail = sum(ways for total, ways in counts.items() if total <= extreme)
    return min(1.0, 2.0 * tail / float(2 ** len(sizes)))


# -- what may be said ----------------------------------------------------------------------------------


def judge(primary: Comparison, selection: Comparison | None, claimed: float | None) -> str:
    """`confirmed`, `not confirmed` or `inconclusive at this scale`.

    `primary` is the comparison on the split the loop never saw, where there is one. A gain whose interval
    lies above 0 is confirmed. It is not confirmed when nothing above 0 is left, or when the metric the loop
    went by (`selection`) leaves less than half of what the loop claimed.
    """
    if primary.interval[0] > 0:
        return "confirmed"
    small = bool(selection and claimed and claimed > 0 and selection.interval[1] < HALF_THE_CLAIM * claimed)
    if primary.interval[1] <= 0 or small:
        return "not confirmed"
    return "inconclusive at this scale"


def pairs_needed(comparison: Comparison, level: float) -> int | None:
    """How many pairs a gain of this size and spread would take to be shown; None when out of reach."""
    if comparison.gain <= 0 or not comparison.error:
        return None
    sd = comparison.error * math.sqrt(comparison.n)
    for n in range(2, PAIRS_FORESEEN + 1):
        if student_quantile(1 - level / 2, n - 1) * sd / math.sqrt(n) < comparison.gain:
            return n
    return None
