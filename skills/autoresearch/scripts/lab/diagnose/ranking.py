"""All checks in one table, and the causes they speak for, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.diagnose import across, descent, resources, scoring
from lab.diagnose.seen import Seen, Sign

CHECKS: dict[str, Callable[[Seen], Sign | None]] = {
    "crash": resources.crashed,
    "not finite": descent.not_finite,
    "first loss": descent.first_loss,
    "diverged": descent.diverged,
    "spikes": descent.spikes,
    "flat": descent.flat,
    "learned less": descent.learned_less,
    "rate ends": descent.rate_ends,
    "at chance": descent.at_chance,
    "gap": descent.overfits,
    "gradient": descent.gradient_grows,
    "stale": scoring.stale,
    "direction": scoring.wrong_way,
    "too good": scoring.too_good,
    "perfect": scoring.all_known,
    "equal splits": scoring.same_as_training,
    "stalls": resources.stalls,
    "slows down": resources.slows,
    "slower": resources.slower,
    "memory grows": resources.grows,
    "all the same": across.all_same,
    "rankings disagree": across.rankings_disagree,
    "crashes alike": across.crash_alike,
    "within noise": across.within_noise,
}


@dataclass(frozen=True)
class Ranked:
    """A cause, how likely the signs make it (0 to 1), and the signs that speak for it."""

    cause: str
    weight: float
    signs: tuple[str, ...]


def signs(seen: Seen) -> list[Sign]:
    """What is not as it should be, in the order of the table."""
    return [sign for check in CHECKS.values() if (sign := check(seen))]


def ranked(found: list[Sign]) -> list[Ranked]:
    """The causes, likeliest first: each further sign takes a share of the doubt that is left."""
    doubt: dict[str, float] = {}
    named: dict[str, list[str]] = {}
    for sign in found:
        for cause, weight in sign.causes:
            doubt[cause] = doubt.get(cause, 1.0) * (1 - weight)
            named.setdefault(cause, []).append(sign.name)
    order = sorted(doubt, key=lambda cause: doubt[cause])
    return [Ranked(cause, round(1 - doubt[cause], 3), tuple(named[cause])) for cause in order]
