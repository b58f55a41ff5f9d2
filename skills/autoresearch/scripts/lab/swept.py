"""A sweep in words and numbers: where it stands, its best trials, which knobs matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.model import Experiment, State
from lab.searching import Sweep, finalists, trials
from lab.trials import best_trials, shown
from lab.views import number

BEST = 5  # trials shown


def status(state: State, sweep: Sweep) -> str:
    """`trials`, `finalists` or `done`."""
    if sweep["ended"]:
        return "done"
    return "finalists" if finalists(state, sweep) else "trials"


def lines(state: State, sweep: Sweep, goal: str) -> list[str]:
    """What is known of a sweep, the result first."""
    rows, best = trials(state, sweep), _ranked(state, sweep, goal)
    failed = sum(1 for e in rows if e.verdict == "crash")
    counted = f"{sum(1 for e in rows if e.verdict)} of {sweep['trials']} trials ({sweep['sampler']})"
    counted += f", {failed} failed" if failed else ""
    pruned = sum(1 for e in rows if e.runs and e.runs[-1].reached)
    counted += f", {pruned} pruned" if pruned else ""
    said = [f"{sweep['sweep']} {status(state, sweep)}: {sweep['reason'] or counted}"]
    said += [counted] if sweep["reason"] else []
    said += [f"cut short: {sweep['cut']}"] if sweep["cut"] else []
    said += [f"{e.id} {number(e.metric)}  {shown(e.knobs)}" for e in best[:BEST]]
    judged = [e for e in finalists(state, sweep)]
    said += [f"judged: {e.id} {e.verdict or e.status}  {shown(e.knobs)}" for e in judged]
    return said


def important(shares: Mapping[str, float]) -> list[str]:
    """The knobs that matter, the most important first."""
    ranked = sorted(shares.items(), key=lambda row: -row[1])
    return [f"{name}: {share:.0%} of what makes a trial a good one" for name, share in ranked]


def as_json(state: State, sweep: Sweep, goal: str) -> dict[str, Any]:
    """The fields of `sweep`."""
    best = best_trials(state, sweep, goal)
    return {
        "sweep": sweep["sweep"],
        "status": status(state, sweep),
        "reason": sweep["reason"] or None,
        "cut": sweep["cut"] or None,
        "sampler": sweep["sampler"],
        "pruner": sweep.get("pruner", "none"),
        "trials": sweep["trials"],
        "knobs": sweep["knobs"],
        "measured": [_row(e) for e in trials(state, sweep)],
        "judged": [_row(e) for e in finalists(state, sweep)],
        "best": best[0].id if best else None,
        "kept": sweep["kept"] or None,
    }


def _row(e: Experiment) -> dict[str, Any]:
    return {"experiment": e.id, "knobs": e.knobs, "metric": e.metric, "verdict": e.verdict}


def _ranked(state: State, sweep: Sweep, goal: str) -> list[Experiment]:
    sign = -1 if goal == "max" else 1
    rows = [e for e in trials(state, sweep) if e.metric is not None]
    return sorted(rows, key=lambda e: (sign * (e.metric or 0.0), e.number))
