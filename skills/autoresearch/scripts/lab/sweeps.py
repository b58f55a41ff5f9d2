"""A sweep: numeric knobs turned by a search, each point an experiment that is measured once and never kept.

The best of many single runs is the luckiest one. So a trial runs on a seed of the sweep's own and cannot
become a keep; the best few are proposed once more as ordinary experiments on the loop's seeds, which played
no part in choosing them, and the usual decision keeps one of them or none. Where a sweep stands is read from
the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab import admit, searching
from lab.campaign import Lab
from lab.decide import new_constants
from lab.errors import REFUSED, USAGE, LabError
from lab.knobs import MOST, Constant, Knob, Value, constants, marked, written
from lab.launch import start
from lab.model import Experiment, State, now
from lab.propose import commit_message
from lab.searching import Sweep, finalists, trials
from lab.settle import give_verdict
from lab.steps import step

TRIALS = 24  # when the caller names no number
FINALISTS = 3  # ordinary experiments at the end; a keep ends them
TRIALS_TO_WEIGH = 8  # numbers before it is said which knobs matter


# -- what there is to turn -----------------------------------------------------------------------------


def found(lab: Lab) -> list[tuple[str, Constant, Knob]]:
    """The knobs of the incumbent's `edit:` files: named in the yaml, or in a comment beside the constant."""
    named = {knob.name: knob for knob in lab.settings.knobs}
    rows: list[tuple[str, Constant, Knob]] = []
    for path, source in _sources(lab).items():
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


def _sources(lab: Lab) -> dict[str, str]:
    files = lab.workspace.files(lab.state.incumbent_commit, lab.settings.edit)
    return {
        path: lab.workspace.content(blob).decode("utf-8", "replace")
        for path, blob in sorted(files.items())
        if path.endswith(".py") and blob.mode != "120000"
    }


# -- from a call to the journal ------------------------------------------------------------------------


def propose_sweep(lab: Lab, names: Sequence[str], count: int | None, sampler: str | None) -> Sweep:
    """The sweep to wait for: the one under way, with another number of trials, or a new one."""
    state = lab.state
    going = state.sweeping
    if going:
        if names or (sampler and sampler != going["sampler"]):
            raise LabError(
                f"{going['sweep']} is under way", "`sweep` waits for it; `sweep --trials` with fewer ends it"
            )
        if count and count != going["trials"]:
            lab.journal.append("sweep_started", **{**going, "trials": count})
        return state.sweeping or going
    _require_ready(lab)
    searching.ready()
    rows = _chosen(found(lab), names)
    incumbent = state.get(state.incumbent_id)
    knobs = [_as_json(one, knob) for _, one, knob in rows]
    kind = sampler or "tpe"
    if kind == "cma" and any(knob["choices"] or knob["whole"] for knob in knobs):
        raise LabError("cma turns knobs with a decimal point only", "use tpe, or name those knobs", USAGE)
    lab.journal.append(
        "sweep_started",
        sweep=f"s{len(state.sweeps) + 1}",
        knobs=knobs,
        trials=count or TRIALS,
        sampler=kind,
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


# -- one step ------------------------------------------------------------------------------------------


def measure(lab: Lab, trial: Experiment) -> bool:
    """Start a trial's one run, or give its verdict: a number for the search, and never a keep."""
    sweep = lab.state.sweeps[trial.sweep]
    if not trial.good_runs:
        return start(lab, trial, sweep["seed"])
    reason = f"a trial of {trial.sweep}, measured once to steer the search; its best are judged at the end"
    give_verdict(lab, trial, "discard", reason)
    return True


def move(lab: Lab) -> bool:
    """Propose the next trials or the next finalist, or end the sweep; False when only time can help."""
    state, sweep = lab.state, lab.state.sweeping
    if sweep is None or state.stopped or state.finished or state.confirming or state.studying:
        return False
    busy = sum(1 for _ in state.open())
    if busy >= max(1, lab.width):
        return False
    done, cut = trials(state, sweep), _cut(lab, sweep)
    wanted = sweep["trials"] - len(done)
    if wanted > 0 and not cut:
        asked = _ask(lab, sweep, min(wanted, max(1, lab.width) - busy))
        if asked is None:
            return False
        for values in asked:
            _propose(lab, sweep, _fitted(sweep, values), trial=True)
        if asked:
            return True
        cut = "every choice was measured"
    if any(e.verdict is None for e in (*done, *finalists(state, sweep))):
        return False
    return _last_part(lab, sweep, cut)


def _ask(lab: Lab, sweep: Sweep, count: int) -> list[dict[str, Any]] | None:
    """The next values; None when the search cannot be asked, which must not keep a `try` from going on."""
    try:
        return searching.ask(lab.state, sweep, lab.settings.goal, count)
    except LabError as error:
        lab.told.append(f"{sweep['sweep']} waits: {error.message}; {error.hint}")
        return None


def _cut(lab: Lab, sweep: Sweep) -> str:
    """Why no further trial is proposed, or ""."""
    state, most = lab.state, lab.settings.max_experiments
    if state.incumbent_id != sweep["incumbent"]:
        return f"{state.incumbent_id} was kept meanwhile, which the trials were not measured on"
    if most and most - len(state.experiments) + 1 <= FINALISTS:
        return f"the last of the {most} experiments are left for the best trials"
    return lab.hours_spent()


def _last_part(lab: Lab, sweep: Sweep, cut: str) -> bool:
    """Let the best trials be judged, the best one first, until one is kept."""
    state = lab.state
    tried = finalists(state, sweep)
    kept = next((e for e in tried if e.verdict == "keep"), None)
    best = best_trials(state, sweep, lab.settings.goal)
    left = [one for one in best if one.knobs not in [e.knobs for e in tried]]
    spent = lab.budget_spent()
    if kept is None and left and len(tried) < FINALISTS and not spent and _has_knobs(lab, sweep):
        _propose(lab, sweep, left[0].knobs, trial=False, of=left[0])
        return True
    step("sweep.ended.before")
    lab.journal.append(
        "sweep_ended",
        sweep=sweep["sweep"],
        kept=kept.id if kept else "",
        reason=_reason(state, kept, tried, best),
        cut="" if kept else cut or (spent if left else ""),
    )
    return True


def best_trials(state: State, sweep: Sweep, goal: str) -> list[Experiment]:
    """Trials that were better than the incumbent, the best first."""
    sign = -1 if goal == "max" else 1
    level = state.incumbent.metric if state.incumbent else None
    rows = [e for e in trials(state, sweep) if e.metric is not None]
    better = [e for e in rows if level is None or sign * (e.metric or 0.0) < sign * level]
    return sorted(better, key=lambda e: (sign * (e.metric or 0.0), e.number))


def _reason(state: State, kept: Experiment | None, tried: list[Experiment], best: list[Experiment]) -> str:
    if kept:
        return f"{kept.id} ({shown(kept.knobs)}) was kept: {kept.reason}"
    if tried:
        return f"none of the {len(tried)} best trials held up: {', '.join(e.id for e in tried)}"
    return "no trial was better than the incumbent" if not best else "the best trials were not judged"


def _has_knobs(lab: Lab, sweep: Sweep) -> bool:
    """Whether the incumbent of now still has every knob."""
    names = {one.name for source in _sources(lab).values() for one in constants(source)}
    return all(knob["name"] in names for knob in sweep["knobs"])


def _fitted(sweep: Sweep, values: Mapping[str, Value]) -> dict[str, Value]:
    fitted = {}
    for row in sweep["knobs"]:
        knob = Knob(row["name"], row["low"], row["high"], row["log"], tuple(row["choices"]))
        fitted[knob.name] = knob.fitted(values[knob.name], row["whole"])
    return fitted


def shown(values: Mapping[str, Value]) -> str:
    """The values in words: LR=0.02 DEPTH=4."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def _propose(
    lab: Lab, sweep: Sweep, values: Mapping[str, Value], trial: bool, of: Experiment | None = None
) -> None:
    """Write the values into the incumbent's files as a candidate commit, and put it into the journal."""
    state, workspace = lab.state, lab.workspace
    incumbent = state.get(state.incumbent_id)
    identity, parent, at = f"e{state.next_number():03d}", incumbent.commit, now()
    contents = _contents(_sources(lab), values)
    hypothesis = f"{sweep['sweep']}: {shown(values)}" + (f", among its best trials ({of.id})" if of else "")
    tree = workspace.tree_with(parent, {path: text.encode() for path, text in contents.items()})
    words = {"args": incumbent.args}
    step("sweep.objects")
    commit = workspace.commit_tree(tree, parent, commit_message(identity, hypothesis, words), at)
    # Before the journal names it: a `git gc --prune=now` of the user's must not find it without a ref.
    workspace.ensure_ref(lab.ref(state.next_number()), commit)
    step("sweep.committed")
    added, removed = workspace.numstat(parent, commit)
    files = sorted(contents)
    lab.journal.append(
        "proposed",
        experiment=identity,
        commit=commit,
        tree=tree,
        parent=parent,
        hypothesis=hypothesis,
        files=files,
        added=added,
        removed=removed,
        constants=new_constants(workspace.diff(parent, commit)),
        touches=admit.touched(lab, parent, commit, files),
        sweep=sweep["sweep"],
        trial=trial,
        knobs=dict(values),
        **words,
    )
    step("sweep.proposed")


def _contents(sources: Mapping[str, str], values: Mapping[str, Value]) -> dict[str, str]:
    """The files that have these constants, with the values in them."""
    contents = {}
    for path, source in sources.items():
        here = {one.name for one in constants(source)} & set(values)
        if here:
            contents[path] = written(source, {name: values[name] for name in sorted(here)})
    return contents
