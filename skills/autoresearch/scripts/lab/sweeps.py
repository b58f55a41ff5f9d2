"""A sweep as it is asked for: which constants it turns, within which ranges, by which search.

A knob is named in autoresearch.yaml or in a comment beside the constant. Nothing is started here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab import searching
from lab.campaign import Lab
from lab.errors import REFUSED, USAGE, LabError
from lab.knobs import MOST, Constant, Knob, Value, constants, marked
from lab.searching import Sweep

TRIALS = 24  # when the caller names no number
TRIALS_TO_WEIGH = 8  # numbers before it is said which knobs matter


# -- what there is to turn -----------------------------------------------------------------------------


def found(lab: Lab) -> list[tuple[str, Constant, Knob]]:
    """The knobs of the incumbent's `edit:` files: named in the yaml, or in a comment beside the constant."""
    named = {knob.name: knob for knob in lab.settings.knobs}
    rows: list[tuple[str, Constant, Knob]] = []
    for path, source in sources(lab).items():
        there = constants(source)
        try:
            told = {one.name: (path, one, knob) for one, knob in marked(there)}
        except ValueError as error:
            raise LabError(f"{path}: a knob {error}", "write `# range 1e-4..1e-1 log` beside it") from error
        told |= {one.name: (path, one, named[one.name]) for one in there if one.name in named}
        rows += told.values()
    names = [one.name for _, one, _ in rows]
    missing = [name for name in named if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if missing or twice:
        what = f"has no constant {missing[0]}" if missing else f"has {twice[0]} in more than one file"
        raise LabError(f"the code of `edit:` {what}", "a knob is one constant at the top of one file")
    return rows


def sources(lab: Lab) -> dict[str, str]:
    """The incumbent's Python files of `edit:`, by path."""
    files = lab.workspace.files(lab.state.incumbent_commit, lab.settings.edit)
    return {
        path: lab.workspace.content(blob).decode("utf-8", "replace")
        for path, blob in sorted(files.items())
        if path.endswith(".py") and blob.mode != "120000"
    }


# -- from a call to the journal ------------------------------------------------------------------------


def propose_sweep(
    lab: Lab, names: Sequence[str], count: int | None, sampler: str | None, pruner: str | None = None
) -> Sweep:
    """The sweep to wait for: the one under way, with another number of trials, or a new one."""
    state = lab.state
    going = state.sweeping
    if going:
        others = (sampler or going["sampler"], pruner or going.get("pruner", "none"))
        if names or others != (going["sampler"], going.get("pruner", "none")):
            raise LabError(
                f"{going['sweep']} is under way", "`sweep` waits for it; `sweep --trials` with fewer ends it"
            )
        if count and count != going["trials"]:
            lab.journal.append("sweep_started", **{**going, "trials": count})
        return state.sweeping or going
    _require_ready(lab)
    rows = _chosen(found(lab), names)
    incumbent = state.get(state.incumbent_id)
    knobs = [_as_json(one, knob) for _, one, knob in rows]
    kind = sampler or "tpe"
    if kind != "random":
        searching.ready()
    if kind == "cma" and any(knob["choices"] or knob["whole"] for knob in knobs):
        raise LabError("cma turns knobs with a decimal point only", "use tpe, or name those knobs", USAGE)
    if pruner == "hyperband" and lab.settings.mode == "collaborative":
        raise LabError(
            "a run on a person's machine is not ended early, so nothing can be pruned",
            "leave --prune out",
            USAGE,
        )
    lab.journal.append(
        "sweep_started",
        sweep=f"s{len(state.sweeps) + 1}",
        knobs=knobs,
        trials=count or TRIALS,
        sampler=kind,
        pruner=pruner or "none",
        incumbent=incumbent.id,
        level=incumbent.metric,
        start=_start_values(rows),
        seed=searching.seed_of(f"{state.tag} sweep {len(state.sweeps) + 1}") if lab.settings.seeded else None,
    )
    assert state.sweeping
    return state.sweeping


def _chosen(rows: list[tuple[str, Constant, Knob]], names: Sequence[str]) -> list[tuple[str, Constant, Knob]]:
    there = {one.name: (path, one, knob) for path, one, knob in rows}
    unknown = [name for name in names if name not in there]
    if unknown or not there:
        seen = f"there are: {', '.join(there)}" if there else "no constant says its range"
        raise LabError(
            f"there is no knob {unknown[0]!r}; {seen}" if unknown else f"there is nothing to sweep: {seen}",
            "write `LR = 0.01  # range 1e-4..1e-1 log` in the file, or in autoresearch.yaml "
            "sweep: {knobs: {LR: 1e-4..1e-1 log}}",
        )
    wanted = [there[name] for name in dict.fromkeys(names)] or list(there.values())
    if len(wanted) > MOST:
        raise LabError(f"{len(wanted)} knobs are too many at once", f"name at most {MOST}", USAGE)
    return wanted


def _as_json(one: Constant, knob: Knob) -> dict[str, Any]:
    whole = not knob.choices and (one.whole or one.value is None) and _whole(knob)
    return {
        "name": knob.name, "low": knob.low, "high": knob.high, "log": knob.log,
        "choices": list(knob.choices), "whole": whole, "now": one.value,
    }  # fmt: skip


def _whole(knob: Knob) -> bool:
    return all(bound is not None and bound == int(bound) for bound in (knob.low, knob.high))


def _start_values(rows: list[tuple[str, Constant, Knob]]) -> dict[str, Value]:
    """Where the incumbent stands, {} when a knob of it lies outside what the sweep may turn."""
    values: dict[str, Value] = {}
    for _, one, knob in rows:
        value = one.value
        inside = value in knob.choices if knob.choices else _within(knob, value)
        if value is None or not inside:
            return {}
        values[one.name] = value
    return values


def _within(knob: Knob, value: Value | None) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return knob.low is not None and knob.high is not None and knob.low <= value <= knob.high


def _require_ready(lab: Lab) -> None:
    state = lab.state
    if state.finished:
        raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
    if state.stopped:
        raise LabError(f"the campaign is stopped: {state.stopped}", "`resume` goes on")
    if state.incumbent is None or state.incumbent.metric is None:
        raise LabError("the baseline is not measured yet", "`baseline`, then `sweep`")
    spent = lab.budget_spent()
    if spent:
        raise LabError(f"the budget is spent: {spent}", "`finish`, or raise it in the yaml", REFUSED)
