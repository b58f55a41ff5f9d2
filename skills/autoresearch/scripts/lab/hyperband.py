"""Which trials of a sweep get their whole budget: Hyperband, asynchronous, in three brackets.

Li et al. 2018 (JMLR 18); the asynchronous form is Li et al. 2020 (MLSys). The numbers and the allotment are
those of Optuna's HyperbandPruner with min_resource 1, max_resource 9 and reduction_factor 3, so that its
answer is ours (a test compares them). Losses are compared at the same progress within a bracket, and what the
others had there stands in the run's spec: the supervisor decides alone. Pure.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Sequence

PRUNERS = ("none", "hyperband")
FACTOR = 3  # one in so many goes on
FIRST = 1 / 9  # of the budget: where the widest bracket looks first
BRACKETS = 3

Rung = tuple[float, float, int]  # progress, the highest loss that goes on, how many trials say so


def bracket_of(sweep: str, number: int) -> int:
    """The bracket of a trial (from 0), by sweep and number alone: 9 in 17 may end twice, 5 once, 3 never."""
    left = binascii.crc32(f"{sweep}_{number}".encode()) % sum(map(_share, range(BRACKETS)))
    for bracket in range(BRACKETS):
        left -= _share(bracket)
        if left < 0:
            return bracket
    raise AssertionError(left)


def _share(bracket: int) -> int:
    wider = BRACKETS - 1 - bracket
    return math.ceil(BRACKETS * int(FACTOR**wider) / (wider + 1))


def places(bracket: int) -> list[float]:
    """The shares of the budget at which a trial of the bracket may end; none in the narrowest."""
    return [FIRST * FACTOR**k for k in range(bracket, BRACKETS - 1)]


def limit(losses: Sequence[float]) -> float | None:
    """The highest loss that goes on beside the others' at the same place; None when there are none."""
    if not losses:
        return None
    best = max((len(losses) + 1) // FACTOR - 1, 0)
    return sorted(losses)[best]
