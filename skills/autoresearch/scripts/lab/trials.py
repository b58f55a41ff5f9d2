"""One step of a sweep: the next trials, each trial's one run and its verdict, then the best few judged.

The best of many single runs is the luckiest one. So a trial runs on a seed of the sweep's own and cannot
become a keep; the best few are proposed once more as ordinary experiments on the loop's seeds, which played
no part in choosing them, and the usual decision keeps one of them or none. Where a sweep stands is read from
the journal, so it can be cut at any point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lab import searching
from lab.campaign import Lab, measured_noise
from lab.errors import LabError
from lab.handing import handover
from lab.knobs import Knob, Value, constants, written
from lab.launch import start
from lab.model import Experiment, State
from lab.propose import write_down
from lab.searching import Sweep, finalists, trials
from lab.settle import give_verdict
from lab.steps import step
from lab.sweeps import sources

FINALISTS = 3  # ordinary experiments at the end; a keep ends them


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
    busy, room = sum(1 for _ in state.open()), _room(lab)
    if busy >= room:
        return False
    done, cut = trials(state, sweep), _cut(lab, sweep)
    wanted = sweep["trials"] - len(done)
    if wanted > 0 and not cut:
        asked = _ask(lab, sweep, min(wanted, room - busy))
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


def _room(lab: Lab) -> int:
    """How many trials are measured together: a person's trip costs more than the search learns in it."""
    return handover.TRIALS if handover.handed_out(lab) else max(1, lab.width)


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
    """Trials that may be better than the incumbent, the best first.

    A sweep's seed is its own, so its trials are set beside numbers of other seeds: what is worse by less than
    the noise of that comparison may be better, and whether it is, is for the judgement on shared seeds.
    """
    sign = -1 if goal == "max" else 1
    incumbent = state.incumbent
    level = incumbent.metric if incumbent else None
    known = len(incumbent.good_runs) if incumbent else 0
    margin = (measured_noise(state).sigma or 0.0) * math.sqrt(1 + 1 / max(1, known))
    rows = [e for e in trials(state, sweep) if e.metric is not None]
    better = [e for e in rows if level is None or sign * ((e.metric or 0.0) - level) < margin]
    return sorted(better, key=lambda e: (sign * (e.metric or 0.0), e.number))


def _reason(state: State, kept: Experiment | None, tried: list[Experiment], best: list[Experiment]) -> str:
    if kept:
        return f"{kept.id} ({shown(kept.knobs)}) was kept: {kept.reason}"
    if tried:
        return f"none of the {len(tried)} best trials held up: {', '.join(e.id for e in tried)}"
    return "the best trials were not judged" if best else "no trial was near the incumbent or better"


def _has_knobs(lab: Lab, sweep: Sweep) -> bool:
    """Whether the incumbent of now still has every knob."""
    names = {one.name for source in sources(lab).values() for one in constants(source)}
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
    incumbent, contents = lab.state.get(lab.state.incumbent_id), _contents(sources(lab), values)
    hypothesis = f"{sweep['sweep']}: {shown(values)}" + (f", among its best trials ({of.id})" if of else "")
    blobs = {path: text.encode() for path, text in contents.items()}
    tree, words = lab.workspace.tree_with(incumbent.commit, blobs), {"args": incumbent.args}
    more = {"sweep": sweep["sweep"], "trial": trial, "knobs": dict(values)}
    write_down(lab, "sweep", tree, sorted(contents), hypothesis, words, **more)
    step("sweep.proposed")


def _contents(texts: Mapping[str, str], values: Mapping[str, Value]) -> dict[str, str]:
    """The files that have these constants, with the values in them."""
    contents = {}
    for path, source in texts.items():
        here = {one.name for one in constants(source)} & set(values)
        if here:
            contents[path] = written(source, {name: values[name] for name in sorted(here)})
    return contents
