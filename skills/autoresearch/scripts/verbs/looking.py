"""Looking back: status, log, show, diff, restore."""

from __future__ import annotations

import click

from lab import digest, guards, lineup, mover, proof, settle, views
from lab.account import account
from lab.campaign import Lab, measured_noise
from lab.course import course
from lab.errors import LabError
from lab.model import Experiment, Record, Run
from lab.notify import keeping, outbox
from verbs.shared import MAX_BYTES, Context, agent, bounded, brief, crash_text, next_step, verb


@verb()
def status(obj: Context) -> None:
    """Say the whole present in at most 30 lines: enough for a fresh session to go on"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    if _needs_hand(lab):
        from lab import loop  # only a campaign in motion pays for it

        try:
            with lab.changing("status", wait_seconds=1):
                loop.advance(lab)
        except LabError as error:
            lab.told.append(f"{error.message} ({error.hint})")
        state = lab.state
    keeping.ensure(lab)
    fields = facts(lab)
    obj.say(views.status_lines(state, lab.settings, fields), fields)


def facts(lab: Lab) -> Record:
    """The fields of `status`, from the state as loaded; nothing is moved on."""
    state = lab.state
    known = measured_noise(state)
    running = [_at_work(lab, e, run) for e, run in state.at_work()]
    return {
        "campaign": state.tag,
        "branch": state.branch,
        "incumbent": brief(state.incumbent),
        "baseline": brief(state.baseline),
        "experiments": state.counts(),
        "running": running,
        "queued": [e.id for e in lineup.queued(lab)],
        "slots": lineup.slots(lab),
        "noise": {"sigma": known.sigma, "n": known.n},
        "belief": account(state, known, lab.settings.goal),
        "confirmation": proof.as_json(state, next(reversed(state.confirmations.values()), None)),
        "stopped": state.stopped or None,
        "finished": state.finished or None,
        "budget_spent": lab.budget_spent() or None,
        **digest.known(lab),
        "notices": [*lab.notices, *guards.warnings(state), *outbox.problems(state)],
        "next": next_step(lab),
    }


def _at_work(lab: Lab, experiment: Experiment, run: Run) -> Record:
    """A run at work with its last sign of life; one that waits for its device is queued."""
    beat = lab.runner.heartbeat(lab.run_dir(run)) or {}
    place = lab.runner.place(lab.run_dir(run))
    waits = beat.get("waits_for") or (not beat and place)
    queued: Record = {"outcome": "queued", "waits_for": waits} if waits else {}
    queued |= {"engine": place} if place else {}
    return {**run.as_json(), "experiment": experiment.id, "heartbeat": beat or None, **queued}


def _needs_hand(lab: Lab) -> bool:
    """Whether the campaign can move on now: a verdict half done, a run that ended, one to be started."""
    state = lab.state
    working = state.at_work()
    # The mover leaves the working tree to whoever calls.
    behind = state.tree_at != state.incumbent_commit and not state.finished
    if behind or state.waiting or any(True for _ in state.unsettled()):
        return True
    if working:
        states = [lab.runner.poll(lab.run_dir(run)) for _, run in working]
        missing = mover.needed(lab) and not mover.alive(lab.home)
        return missing or any(seen in ("done", "lost", "absent") for seen in states)
    return not state.stopped and (
        state.confirming is not None or state.studying is not None or any(True for _ in state.open())
    )


@verb()
@click.option(
    "-n", "count", type=click.IntRange(1), default=20, show_default=True, help="How many, newest last."
)
def log(obj: Context, count: int) -> None:
    """List experiments with metric, gain and verdict"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    rows = list(state.experiments.values())[-count:]
    obj.say(
        views.table(state, lab.settings.metric, count),
        {"experiments": [views.experiment_json(state, e) for e in rows], "total": len(state.experiments)},
    )


@verb()
@click.argument("experiment")
def show(obj: Context, experiment: str) -> None:
    """Show one experiment: hypothesis, verdict, runs, how its numbers went, crash, where its log is"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    found = state.get(experiment)
    lines = views.details(state, found, lab.settings.metric, lab.home / "runs")
    went = _course(lab, found)
    fields = {**views.experiment_json(state, found), "course": went}
    obj.say([*lines, *went, *crash_text(lab, found)], fields)


def _course(lab: Lab, experiment: Experiment) -> list[str]:
    """How the numbers of its first run went; [] without a log."""
    try:
        return course((lab.run_dir(experiment.runs[0]) / "run.log").read_bytes()) if experiment.runs else []
    except OSError:
        return []


@verb()
@click.argument("experiment")
def diff(obj: Context, experiment: str) -> None:
    """Show what an experiment changed; `best` shows everything kept since the baseline"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    found = state.get(experiment)
    old = state.base if experiment == "best" else found.parent
    text = lab.workspace.diff(old, found.commit)
    whole = f"whole: git diff {old[:12]} {found.commit[:12]}"
    shown = text if obj.json else bounded(text.splitlines() or ["(no difference)"])
    obj.say([shown, whole] if not obj.json else [], {
        "experiment": found.id, "old": old, "new": found.commit, "diff": text[:MAX_BYTES],
        "cut": max(0, len(text) - MAX_BYTES),
    })  # fmt: skip


@verb()
@click.argument("experiment")
def restore(obj: Context, experiment: str) -> None:
    """Bring the change of an experiment back into the working tree

    It is merged with what is being edited; `try` then measures the result as a new experiment.
    """
    lab = Lab.find(obj.folder)
    with agent(lab, "restore"), lab.changing("restore") as state:
        settle.catch_up(lab)
        found = state.get(experiment)
        folder = lab.home / "conflicts" / f"restore-{found.id}"
        conflicts = lab.workspace.sync(found.parent, found.commit, lab.settings.edit, folder)
    lines = [f"the change of {found.id} is in the working tree: {', '.join(found.files) or 'no file'}"]
    lines += [
        f"conflict in {path}: markers are in the file, all three versions in {folder}" for path in conflicts
    ]
    obj.say(lines, {"experiment": found.id, "files": found.files, "conflicts": conflicts})
