"""Signs in time, memory and the end of a run: slower, stalling, growing, crashed early or late."""

from __future__ import annotations

from statistics import median

from lab.diagnose.descent import figure
from lab.diagnose.seen import Seen, Sign
from lab.diagnose.shapes import finite, head, spearman, tail

SLOWER = 1.6  # times the usual step
STALL = 6.0  # times the usual step, to be a wait
EARLY = 0.05  # of the steps of the compared run

CRASHES = ("error", "oom", "timeout", "killed", "signal", "no_metric")


def stalls(seen: Seen) -> Sign | None:
    """Waits between steps that make up a good part of the run."""
    y = seen.run.step_times.y
    if len(y) < 12 or (usual := median(y)) <= 0:
        return None
    waits = [v for v in y if v > STALL * usual]
    share = sum(v - usual for v in waits) / sum(y)
    if not 2 <= len(waits) <= len(y) // 3 or share < 0.25:
        return None
    said = (
        f"{len(waits)} waits of up to {figure(max(waits) / usual)} usual steps take {share:.0%} of the time"
    )
    return Sign("stalls", said, (("data_stall", 0.85), ("contention", 0.4)))


def slows(seen: Seen) -> Sign | None:
    """Steps that take longer late in the run than early."""
    series = seen.run.step_times
    y = series.y
    if len(y) < 12 or head(y, 0.35) <= 0 or stalls(seen):
        return None
    early, late = head(y, 0.35), tail(y, 0.35)
    if late < SLOWER * early:
        return None
    cut = max(range(3, len(y) - 3), key=lambda i: median(y[i:]) / max(median(y[:i]), 1e-12))
    said = f"a step takes {figure(late / early)} times as long late as early, from step {series.x[cut]:g} on"
    more = (("memory_leak", 0.5),) if grows(seen) else ()
    return Sign("slows down", said, (("contention", 0.8), ("data_stall", 0.35), *more))


def slower(seen: Seen) -> Sign | None:
    """Every step takes longer than the compared run's."""
    mine = seen.run.step_times.y
    theirs = seen.best.step_times.y if seen.best else ()
    if len(mine) < 8 or len(theirs) < 8 or stalls(seen) or slows(seen):
        return None
    a, b = median(mine), median(theirs)
    if b <= 0 or a < SLOWER * b or head(mine, 0.35) < SLOWER * b:
        return None
    said = f"a step takes {figure(a / b)} times as long as in the compared run, from the first on"
    if seen.run.same_code:
        return Sign("slower", f"{said}, with the same code", (("contention", 0.85), ("data_stall", 0.3)))
    return Sign("slower", said, (("costlier", 0.75), ("contention", 0.4), ("data_stall", 0.2)))


def grows(seen: Seen) -> Sign | None:
    """Memory that rises to the end."""
    y = finite(seen.run.memory).y
    y = y[len(y) // 5 :]
    if len(y) < 6 or y[0] <= 0:
        return None
    rise, late = y[-1] - y[0], y[-1] - y[len(y) // 2]
    if rise < 0.1 * y[0] or late < 0.3 * rise or spearman(range(len(y)), y) < 0.9:
        return None
    said = f"memory rises from {figure(y[0])} to {figure(y[-1])} and does not level off"
    return Sign("memory grows", said, (("memory_leak", 0.9),))


def crashed(seen: Seen) -> Sign | None:
    """An end by an error, at the first steps or after many."""
    run = seen.run
    if run.outcome not in CRASHES:
        return None
    whole = seen.best.steps if seen.best else 0.0
    early = run.steps <= EARLY * whole if whole else len(run.loss) < 3
    said = f"{run.outcome} after step {run.steps:g}" + (f" of {whole:g}" if whole else "")
    said += f": {run.detail}" if run.detail else ""
    if run.outcome == "oom":
        causes = (
            (("too_big", 0.9), ("memory_leak", 0.2)) if early else (("memory_leak", 0.7), ("too_big", 0.5))
        )
    elif run.outcome == "timeout":
        causes = (("costlier", 0.7), ("contention", 0.4))
    elif run.outcome in ("killed", "signal"):
        causes = (("memory_leak", 0.5), ("contention", 0.4))
    elif early:
        causes = (("crash_code", 0.9), ("crash_data", 0.2))
    else:
        causes = (("crash_data", 0.8), ("crash_code", 0.4))
    return Sign("early crash" if early else "late crash", said, causes)
