"""The loop: from a proposed candidate to its verdict, in steps that can each be cut and taken up again.

Every step is journal first, effect second, and every effect can be done twice. `advance` moves open
experiments on under the state lock; `settle.catch_up` finishes what a killed process left.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from lab import caution, combine, confirm, judging, mover, parallel, studies, trials
from lab.account import drift_words
from lab.atomic import sweep
from lab.campaign import Lab, measured_noise
from lab.decide import Decision, decide
from lab.early import HOPELESS, PRUNED
from lab.errors import LabError
from lab.handing import anchor, dropped, handover, packing
from lab.launch import START_SECONDS, start, start_unclaimed, starting
from lab.model import BASELINE, INCOMPARABLE, Experiment, Run, State
from lab.propose import BASELINE_REPEATS
from lab.redact import one_line
from lab.settle import catch_up, give_verdict
from lab.steps import step

POLL_SECONDS = 0.02
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 600.0  # of the mover, for the state lock
SUBMITS_ALLOWED = 2  # of one run by one process: a supervisor that cannot start is host trouble


def advance(lab: Lab) -> None:
    """Move open experiments on as far as possible without waiting."""
    catch_up(lab)
    if lab.state.waiting:
        dropped.take(lab)
    while _advance_once(lab):
        catch_up(lab)
    mover.ensure(lab)


def _advance_once(lab: Lab) -> bool:
    """Take one step, of a run at work or of the oldest experiment it can; False when only time can help."""
    state = lab.state
    if state.finished:
        return False
    if any(_follow(lab, experiment, run) for experiment, run in state.at_work()):
        return True
    if state.requests and _from_people(lab):
        return True
    experiments = parallel.order(state)
    if state.confirming or state.studying:
        experiments = [e for e in experiments if e.runs]  # what has begun is not interrupted
        if not experiments:
            return _move_aside(lab)
    baseline = state.baseline
    if baseline and (state.incumbent is None or not baseline.verdict):  # nothing to compare with yet
        if baseline.runs and handover.asked_for(lab) and _ask_beside(lab, experiments):
            return True
        experiments = [] if baseline.verdict else [baseline]
    return any(_next_step(lab, experiment) for experiment in experiments) or trials.move(lab)


def _ask_beside(lab: Lab, experiments: Sequence[Experiment]) -> bool:
    """Ask for an experiment's first runs while the baseline is still with a person: one way for both."""
    waiting = [e for e in experiments if e.id != BASELINE and not e.runs]
    return any(start(lab, experiment, lab.seed(0)) for experiment in waiting)


def _from_people(lab: Lab) -> bool:
    """Take what a person brought back; False when nothing is new."""
    packing.complete(lab)
    back = handover.back(lab)
    return _collect(lab, *back) if back else anchor.move(lab) or handover.give_up(lab)


def _move_aside(lab: Lab) -> bool:
    """Take one step of what is measured beside the loop."""
    confirming, studying = lab.state.confirming, lab.state.studying
    if confirming:
        return confirm.move(lab, confirming)
    return studying is not None and studies.move(lab, studying)


def _follow(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Look after a started run: collect its result, repeat a lost one, submit one nobody claimed."""
    folder = lab.run_dir(run)
    seen = lab.runner.poll(folder)
    if seen == "done":
        return _collect(lab, experiment, run)
    if seen == "lost":
        lab.runner.reap(folder)
        sweep(folder)
        words = _last_words(folder) or "its supervisor was killed or the machine restarted"
        _end(lab, experiment, run, outcome="interrupted", detail=words)
        return True
    if seen == "absent":
        return _submit_again(lab, experiment, run)
    return False


def _submit_again(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """A run nobody has taken up: give its supervisor time, then another one, then call it host trouble."""
    if starting(lab, run):
        return False
    folder = lab.run_dir(run)
    if len(lab.submitted.get(run.id, [])) >= SUBMITS_ALLOWED and lab.runner.withdraw(folder):
        words = _last_words(folder) or "its supervisor was killed before it began"
        _end(lab, experiment, run, outcome="infra", detail=words)
        return True
    start_unclaimed(lab, experiment, run)
    return False


def _last_words(folder: Path) -> str:
    """What a supervisor that failed left in its own log."""
    try:
        lines = (folder / "supervisor.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"its supervisor failed: {one_line(lines[-1], 200)}" if lines else ""


def _next_step(lab: Lab, experiment: Experiment) -> bool:
    """Start the run that the experiment needs next, or give the verdict: the one place that considers one.

    False when it waits: for its own run, for one of the incumbent, or for a free slot.
    """
    if experiment.open_run:
        return experiment.id == BASELINE and not experiment.fatal_run and _measure_baseline(lab, experiment)
    failed = experiment.fatal_run
    if failed:
        given = "discard" if failed.outcome in (HOPELESS, PRUNED) else "crash"
        give_verdict(lab, experiment, given, _crash_reason(failed))
        return True
    asked = caution.look(lab, experiment)
    if asked is not None:
        return asked
    if experiment.id == BASELINE:
        if len(experiment.good_runs) < experiment.repeats:
            return _measure_baseline(lab, experiment)
        give_verdict(lab, experiment, "keep", _baseline_reason(lab.state, experiment))
        return True
    if experiment.trial:
        return trials.measure(lab, experiment)
    if parallel.awaits(lab.state, experiment):
        return False
    if lab.state.stale(experiment):
        return combine.judge(lab, experiment)
    if experiment.parent != lab.state.incumbent_commit and not combine.rebase(lab, experiment):
        return True
    looked = _look_for_drift(lab, experiment)
    if looked is not None:
        return looked
    if experiment.good_runs:
        decision = decide(judging.facts_of(lab.state, lab.settings, experiment))
        if decision.action != "repeat" and not caution.second_look(lab, experiment, decision):
            return combine.conclude(lab, experiment, decision)
        return _repeat(lab, experiment, decision)
    return start(lab, experiment, lab.seed(0))


def _repeat(lab: Lab, experiment: Experiment, decision: Decision) -> bool:
    """Start the run that is asked for; with two slots that nobody needs, both sides of the pair at once."""
    state, incumbent = lab.state, lab.state.get(lab.state.incumbent_id)
    seed, lacking = lab.seed(len(experiment.good_runs)), judging.lacking(lab.settings, incumbent)
    sides = [(experiment, seed), (incumbent, lacking)]
    if decision.side == "incumbent" and decision.action == "repeat":
        sides.reverse()
    both = (
        parallel.idle(state, lab.width) >= 2 and decision.action == "repeat" and seed == lacking is not None
    )
    if not start(lab, *sides[0]):
        return False
    if both:
        step("pair.between")
        start(lab, *sides[1])
    return True


def _measure_baseline(lab: Lab, experiment: Experiment) -> bool:
    """Start the next of the baseline's runs, beside those at work: the noise is that of full slots."""
    runs = [r for r in experiment.runs if r.commit == experiment.commit and (r.outcome is None or r.counts)]
    if len(runs) >= experiment.repeats:
        return False
    taken = {run.seed for run in runs}
    return start(
        lab, experiment, next(seed for k in count() if (seed := lab.seed(k)) not in taken or seed is None)
    )


def _look_for_drift(lab: Lab, experiment: Experiment) -> bool | None:
    """Measure an incumbent again that has not run for long; a jump moves the bar. None when all is quiet."""
    state, settings = lab.state, lab.settings
    found = judging.drift_of(state, settings)
    if found:
        lab.journal.append("drift", **found)
        step("drift.known")
        lab.told.append(drift_words(state.drifts))
        return True
    due = not experiment.runs and judging.sentinel_due(state, lab.width)
    again = judging.suspicious(state, settings) or due
    incumbent = state.incumbent
    return start(lab, incumbent, lab.seed(0)) if again and incumbent else None


# -- results ------------------------------------------------------------------------------------------


def _collect(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Take a finished run's result into the journal."""
    result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
    if result["run"] != run.id or result["nonce"] != run.nonce:
        raise LabError(
            f"{lab.run_dir(run)}/run.json belongs to another run", "move that file away, then `resume`"
        )
    digest = result.get("digest") or {}
    fields = {name: result.get(name) for name in ("metric", "seconds", "memory_gb", "exit_code")}
    facts, outcome, detail = result.get("facts") or {}, result["outcome"], result.get("detail") or ""
    kind = digest.get("kind") or result.get("problem")
    elsewhere = caution.elsewhere(lab, run, str(result.get("hardware") or "")) if outcome == "ok" else ""
    if elsewhere:
        outcome, detail = "infra", elsewhere
    apart = caution.apart(lab, experiment, run, facts) if outcome == "ok" and not kind else ""
    if apart:
        outcome, kind, detail = INCOMPARABLE, INCOMPARABLE, apart
    _end(
        lab,
        experiment,
        run,
        outcome=outcome,
        kind=kind,
        detail=detail,
        line=digest.get("line") or "",
        where=digest.get("where"),
        values=result.get("values") or {},
        facts=facts,
        level=result.get("level") or "",
        sandbox=str((result.get("sandbox") or {}).get("kind") or ""),
        own=result.get("own_metric"),
        **{name: result[name] for name in ("machine", "proof", "log_sha256") if name in result},
        **{name: result[name] for name in ("slot", "hardware", "reached") if result.get(name)},
        **fields,
    )
    return True


def _end(lab: Lab, experiment: Experiment, run: Run, **fields: object) -> None:
    lab.journal.append("run_ended", experiment=experiment.id, run=run.id, **fields)


def _crash_reason(run: Run) -> str:
    words = [run.kind or run.outcome or "error"]
    if run.line or run.detail:
        words.append(run.line or run.detail)
    if run.where:
        words.append(f"at {run.where}")
    return one_line(": ".join(words[:2]) + (f" {words[2]}" if len(words) > 2 else ""), 400)


def _baseline_reason(state: State, experiment: Experiment) -> str:
    known = measured_noise(state)
    count = len(experiment.good_runs)
    if known.sigma is None:
        return (
            f"the start, measured once; the noise is not known yet (`baseline --repeats {BASELINE_REPEATS}`)"
        )
    if known.sigma == 0:
        return f"the start, measured {count} times with the same number each time"
    return f"the start, measured {count} times; the noise between runs is {known.sigma:.2g} (one sd)"


# -- waiting ------------------------------------------------------------------------------------------


def wait_for(lab: Lab, identity: str, seconds: float) -> Experiment:
    """Move the campaign on until `identity` has a verdict, nothing can move, or `seconds` are over."""
    wait_until(lab, lambda state: bool(state.get(identity).verdict), seconds)
    return lab.state.get(identity)


def wait_until(lab: Lab, done: Callable[[State], bool], seconds: float) -> None:
    """Move the campaign on until `done`, nothing can move, or `seconds` are over."""
    end = time.monotonic() + seconds
    while True:
        with lab.changing("wait") as state:
            advance(lab)
            ended = done(state)
            running, written = [run for _, run in state.at_work()], lab.journal.size
        if ended or not running or not watch(lab, running, written, end):
            return


def wait_for_first(lab: Lab, identities: list[str], seconds: float) -> Experiment:
    """Move the campaign on until one of these has a verdict; the first that has, else the oldest."""
    wait_until(lab, lambda state: any(state.get(name).verdict for name in identities), seconds)
    rows = [lab.state.get(name) for name in identities]
    return min((e for e in rows if e.verdict), key=lambda e: e.verdict_at, default=rows[0])


def keep_moving(lab: Lab) -> bool:
    """Be the campaign's mover until nothing is left to do; False when there is one already."""
    with mover.only_one(lab.home) as leave:
        if leave is None:
            return False
        lab.aside = True
        while lab.journal.path.exists():
            lab.look_again()
            with lab.changing("move", wait_seconds=PATIENCE_SECONDS) as state:
                advance(lab)
                if not mover.needed(lab):
                    leave()  # before the state lock is free: who comes next must find none, and start one
                    break
                running, written = [run for _, run in state.at_work()], lab.journal.size
            watch(lab, running, written, math.inf)
    return True


def watch(lab: Lab, runs: list[Run], written: int, end: float) -> bool:
    """Wait for one of these runs to end, or for another process to write; False when the time is over.

    `written` is the journal's size when these were the runs at work.
    """
    folders = [lab.run_dir(run) for run in runs]
    started = looked = time.monotonic()
    while True:
        present = time.monotonic()
        # A result shows as a file at once; whether a supervisor still lives needs a look at its lock.
        if any((folder / "run.json").exists() for folder in folders) or lab.journal.grown(written):
            return True
        if present - looked >= LOOK_SECONDS:
            looked, seen = present, {lab.runner.poll(folder) for folder in folders}
            if seen & {"done", "lost"} or ("absent" in seen and present - started > START_SECONDS):
                return True
        if present >= end:
            return False
        time.sleep(min(end - present, POLL_SECONDS if present - started < 5 else 10 * POLL_SECONDS))


def stop(lab: Lab, reason: str, kill: bool) -> list[Run]:
    """Start nothing new; with `kill` end the runs at work. Return the runs that are still going."""
    state = lab.state
    if not state.stopped and not state.finished:
        lab.journal.append("stopped", reason=reason, by="user")
    running = [run for _, run in state.at_work()]
    for run in running if kill else []:
        lab.runner.cancel(lab.run_dir(run))
    return running
