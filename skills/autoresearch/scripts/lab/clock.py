"""Clock samples, and whether the machine slept, was frozen or had its clock set between two of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

# Shorter than any nap that changes a measurement, longer than what one turn of a busy machine shifts.
TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class ClockSample:
    """The clocks at one moment, in seconds.

    `boot` counts suspended time and `monotonic` does not; `boot` is None where the system has no such
    clock (macOS), and there a sleep shows as a jump of `wall`.
    """

    monotonic: float
    wall: float
    boot: float | None


def sample() -> ClockSample:
    """Read the clocks."""
    boot = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None
    return ClockSample(time.monotonic(), time.time(), boot)


def interruption(first: ClockSample, last: ClockSample, now: ClockSample, gap_seconds: float) -> str | None:
    """Return why a run watched at `first` ... `last`, `now` cannot be trusted, or None.

    Suspended time only ever adds up, so it counts from the first sample on; the wall clock is compared
    with the last one, because slow correction over hours is harmless and a step is not.
    """
    suspended = _suspended(now) - _suspended(first)
    if suspended > TOLERANCE_SECONDS:
        return f"the machine was suspended for {suspended:.0f} s during the run"
    gap = now.monotonic - last.monotonic
    step = (now.wall - last.wall) - gap
    if abs(step) > TOLERANCE_SECONDS:
        return f"the clock jumped by {step:+.0f} s during the run"
    if gap > gap_seconds:
        return f"the run was frozen or starved for {gap:.0f} s"
    return None


def _suspended(at: ClockSample) -> float:
    return 0.0 if at.boot is None else at.boot - at.monotonic
