"""What the arms of a study say: the effect of each keep or switch with its interval, and a word for it.

All arms run on the same seeds, so an effect is a mean of differences on shared seeds. The spread of the
differences is pooled over the arms. Those share one reference, so together they know less of the spread than
as many free ones: with K arms of n differences each, the variance of the pooled estimate is that of
4 / (K + 3) of their K (n - 1) degrees of freedom (Satterthwaite, for the covariance 1 + identity).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.decide import student_quantile
from lab.model import Record

FIRST_LOOK = 3  # rounds; the next looks at twice as many, ...
HALF_THE_GAIN = 0.5  # of a keep: what it must still bring, at least, to be worth its lines
UNDECIDED = "undecided"
CARRIES, NOT_NEEDED, SHORTER = "carries weight", "no longer needed", "kept for being shorter"
HELPS, HURTS, NO_EFFECT = "helps", "hurts", "no effect"


@dataclass(frozen=True)
class Effect:
    """Mean difference of `n` pairs with its interval; positive where what the arm is about helps."""

    n: int
    mean: float
    low: float
    high: float


def next_look(looked_at: int) -> int:
    """After how many rounds the intervals are worked out next: 3, 6, 12, ..."""
    rounds = FIRST_LOOK
    while rounds <= looked_at:
        rounds *= 2
    return rounds


def effects(differences: Mapping[str, Sequence[float]], level: float) -> dict[str, Effect]:
    """The effect of each arm with two differences or more; `level` is the two-sided error of an interval."""
    known = {name: list(found) for name, found in differences.items() if len(found) > 1}
    if not known:
        return {}
    means = {name: math.fsum(found) / len(found) for name, found in known.items()}
    # Equal differences have exactly no spread, whatever the last bit of their mean is.
    squares = math.fsum(
        (x - means[name]) ** 2 for name, found in known.items() if len(set(found)) > 1 for x in found
    )
    freedom = sum(len(found) - 1 for found in known.values())
    df = max(1, math.floor(4 * freedom / (len(known) + 3)))
    reach = student_quantile(1 - level / 2, df) * math.sqrt(squares / freedom)
    made = {}
    for name, found in known.items():
        half = reach / math.sqrt(len(found))
        made[name] = Effect(len(found), means[name], means[name] - half, means[name] + half)
    return made


# -- words ---------------------------------------------------------------------------------------------


def keep_word(effect: Effect, gain: float | None, price: float | None, shorter: bool) -> str:
    """Whether a keep still carries weight: `gain` and `price` are those of the day it was kept."""
    if effect.low > 0:
        return CARRIES
    if effect.high <= 0:
        return NOT_NEEDED
    worth = max(price or 0.0, HALF_THE_GAIN * (gain or 0.0))
    if effect.high < worth:
        return SHORTER if shorter else NOT_NEEDED
    return UNDECIDED


def switch_word(effect: Effect) -> str:
    """Whether turning a switch helps."""
    if effect.low == effect.high == 0:
        return NO_EFFECT
    return HELPS if effect.low > 0 else HURTS if effect.high < 0 else UNDECIDED


def word(kind: str, arm: Mapping[str, object], effect: Effect) -> str:
    """The verdict on an arm of a study of this kind."""
    if kind == "isolate":
        return switch_word(effect)
    gain, price = (_number(arm.get(name)) for name in ("gain", "price"))
    return keep_word(effect, gain, price, bool(arm.get("shorter")))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def row(kind: str, arm: Mapping[str, object], effect: Effect | None, trouble: str) -> Record:
    """One line of the result: what the arm is about, its figures, its verdict, or why it has none."""
    shown: Record = {name: arm.get(name) for name in ("name", "of", "against", "words", "gain")}
    if effect is None or trouble:
        why = trouble or "fewer than two rounds gave a number"
        return {**shown, "n": effect.n if effect else 0, "effect": None, "interval": None,
                "verdict": "not measured", "trouble": why}  # fmt: skip
    return {
        **shown,
        "n": effect.n,
        "effect": effect.mean,
        "interval": [effect.low, effect.high],
        "verdict": word(kind, arm, effect),
        "trouble": "",
    }
