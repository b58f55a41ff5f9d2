"""How much doubt a keep may carry: the modes of `decision: {mode: ...}`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """Thresholds on P(better by at least the price)."""

    keep: float  # at or above: keep
    drop: float  # at or below: discard; in between: another run
    last: float  # what the last run has to reach
    runs: int  # of the candidate, at most


# Chosen on the frontier of gain against false keeps that scripts/bench/decision.py --frontier prints.
MODES: dict[str, Mode] = {
    "fast": Mode(keep=0.45, drop=0.33, last=0.40, runs=2),
    "balanced": Mode(keep=0.65, drop=0.25, last=0.50, runs=3),
    "strict": Mode(keep=0.95, drop=0.33, last=0.85, runs=4),
}
SEED_TABLE = "seed-table"
NAMES = (*MODES, SEED_TABLE)
