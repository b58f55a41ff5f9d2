"""Whether the agent has fallen silent: nothing came into the journal although something could."""

from __future__ import annotations

import datetime

SILENT_BUDGETS = 2  # of a run
LEAST_SECONDS = 600.0  # thinking takes a while, also where runs are short


def silent_after(budget_seconds: float) -> float:
    """How long an agent may be quiet where a run takes `budget_seconds`."""
    return max(LEAST_SECONDS, SILENT_BUDGETS * budget_seconds)


def silent_seconds(moved: str, now: str, allowed: float, *, busy: bool, began: str = "") -> float:
    """How long the agent has been silent, 0.0 while it is not.

    `moved` is when the campaign last moved, `began` when the agent's session did; times are ISO with zone.
    While a run is at work (`busy`) an agent has nothing to say.
    """
    since = max((seconds_at(t) for t in (moved, began) if t), default=seconds_at(now))
    quiet = seconds_at(now) - since
    return quiet if not busy and quiet > allowed else 0.0


def seconds_at(time: str) -> float:
    """A time in ISO text as seconds since the epoch."""
    return datetime.datetime.fromisoformat(time).timestamp()
