"""A person runs the training: handoff, ingest."""

from __future__ import annotations

from pathlib import Path

import click

from lab import errors, loop, proof, propose, settle, views
from lab.campaign import Lab
from lab.errors import LabError
from lab.handing import handover, packing, receiving, remarks
from lab.handing.receiving import Receipt
from lab.model import BASELINE, Experiment, Record
from verbs.shared import Context, agent, crash_text, next_step, verb


@verb()
@click.argument("experiment", required=False)
@click.option(
    "--try", "hypothesis", help="Make the working tree's change an experiment first, as `try` does."
)
@click.option("--because", default="", help="With --try: why it should help.")
@click.option("--expect", default="", help="With --try: what you expect.")
@click.option("--idea", default="", help="With --try: id of the idea it tests.")
@click.option("--args", "arguments", help="With --try: extra arguments for the command.")
@click.option("--leave-out", is_flag=True, help="With --try: other edits in the tree are the user's.")
@click.option("--seeds", type=click.IntRange(1, 20), default=handover.FIRST_SEEDS, show_default=True,
              help="Runs to ask for.")  # fmt: skip
@click.option("--to", "target", type=click.Path(path_type=Path), help="Also put the request's archive here.")
@click.option("--withdraw", help="Wait no longer for this request: r003.")
def handoff(
    obj: Context, experiment: str | None, hypothesis: str | None, because: str, expect: str, idea: str,
    arguments: str | None, leave_out: bool, seeds: int, target: Path | None, withdraw: str | None,
) -> None:  # fmt: skip
    """Write a run request: everything a person needs to run an experiment on another machine

    EXPERIMENT is an id, `baseline` or `best`; with --try it is the change in the working tree. The request is
    one archive with the code, a page to follow and a script; its result comes back with `ingest`. While one
    is open, a second call says where it lies. The incumbent, once more on another kind of machine, moves the
    comparison there: results from that machine count from then on.

    \b
    handoff --try "halve the batch" --because "more steps" --to ~/outbox
    handoff best --seeds 3
    """
    if [experiment, hypothesis, withdraw].count(None) != 2:
        raise LabError("name an experiment, or --try with a hypothesis", "handoff e012", errors.USAGE)
    lab = Lab.find(obj.folder)
    if withdraw is not None:
        _withdraw(obj, lab, withdraw)
        return
    with agent(lab, "handoff"), lab.changing("handoff"):
        loop.advance(lab)
        if hypothesis is not None:
            words = {"because": because, "expect": expect, "idea": idea}
            if arguments is not None:
                words["args"] = arguments
            found = propose.propose(lab, hypothesis, words, leave_out, again=False)
        else:
            found = _named(lab, str(experiment))
        identity = _open_request(found) or _request(lab, found, seeds)
    copied = packing.copy_to(lab, identity, target) if target else None
    lines = [*request_lines(lab, identity), *([f"copied to {copied}"] if copied else [])]
    lines += [f"note: {notice}" for notice in lab.notices]
    fields = {"request": request_json(lab, identity), "experiment": found.id, "copy": copied and str(copied)}
    obj.say([*lines, f"next: {next_step(lab)}"], {**fields, "notices": lab.notices, "next": next_step(lab)})
    remarks.acknowledge(lab)


def _withdraw(obj: Context, lab: Lab, identity: str) -> None:
    """Take a request back; an experiment that nothing was measured of ends with it."""
    with agent(lab, "handoff"), lab.changing("handoff") as state:
        loop.advance(lab)
        if identity not in state.requests:
            raise LabError(
                f"there is no request {identity!r}", f"known: {', '.join(state.requests) or 'none'}"
            )
        found = state.get(state.requests[identity]["experiment"])
        waiting = [run for _, run in state.handed() if run.request == identity]
        if waiting and not found.verdict and found.id != BASELINE and not found.good_runs:
            settle.give_verdict(lab, found, "discard", f"not measured: its request {identity} was withdrawn")
        if waiting:
            lab.journal.append("withdrawn", request=identity, reason="by the user")
        loop.advance(lab)
    lines = [f"{identity} withdrawn: {', '.join(run.id for run in waiting) or 'nothing of it was open'}"]
    obj.say([*lines, f"next: {next_step(lab)}"], {"withdrawn": identity, "next": next_step(lab)})


def _named(lab: Lab, name: str) -> Experiment:
    if name == "baseline" and lab.state.baseline is None:
        return propose.propose_baseline(lab, None)
    return lab.state.get(BASELINE if name == "baseline" else name)


def _open_request(found: Experiment) -> str | None:
    return found.handed[0].request if found.handed else None


def _request(lab: Lab, found: Experiment, seeds: int) -> str:
    state = lab.state
    if state.stopped or state.finished:
        raise LabError(f"the campaign is {'finished' if state.finished else 'stopped'}", "`resume` goes on")
    if found.open_run:
        raise LabError(f"{found.id} is at work here", "`wait` for it, then hand it off")
    # The incumbent once more is measured on the seeds that pair with what others ran.
    anchor = found is state.incumbent
    if anchor or found.verdict:
        wanted = [lab.seed(index) for index in range(seeds)]
    else:
        wanted = handover.more_seeds(lab, found, found.repeats if found.id == BASELINE else seeds)
    return handover.request(lab, found, found, [{"seed": seed} for seed in wanted], anchor)


def request_json(lab: Lab, identity: str) -> Record:
    """A request in facts."""
    made = lab.state.requests[identity]
    runs = packing.runs_of(lab, identity)
    return {
        "id": identity,
        "experiment": made["experiment"],
        "commit": made["commit"],
        "at": made["at"],
        "folder": str(packing.folder(lab, identity)),
        "archive": str(lab.archive(identity)),
        "runs": [run.as_json() for run in runs],
        "open": [run.id for run in runs if run.outcome is None],
    }


def request_lines(lab: Lab, identity: str) -> list[str]:
    """What to tell the person of a request."""
    made = lab.state.requests[identity]
    runs = packing.runs_of(lab, identity)
    seeds = ", ".join(str(run.seed) for run in runs)
    each = f"{lab.settings.seconds:g} s"
    return [
        f"{identity} asks for {len(runs)} runs of {made['experiment']} (seeds {seeds}, {each} each)",
        f"hand over: {lab.archive(identity)}",
        "there: unpack it and `bash run.sh`; REQUEST.md in it says all of it",
        f"back:  `ingest result-{identity}.tar.gz`",
    ]


@verb()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--request", "request_id", help="The request it answers; a result of our script says so itself."
)
@click.option("--commit", help="Of a bare log: the commit it ran.")
@click.option("--seed", help="Of a bare log: its seed.")
@click.option("--machine", help="Of a bare log: its GPU, else its processor.")
@click.option("--host", help="Of a bare log: the machine's name.")
@click.option("--exit", "exit_code", type=click.IntRange(0, 255), help="Of a bare log: the exit code.")
def ingest(
    obj: Context, path: Path, request_id: str | None, commit: str | None, seed: str | None,
    machine: str | None, host: str | None, exit_code: int | None,
) -> None:  # fmt: skip
    """Take a result back: the archive or folder that run.sh made, or a bare log

    The metric is read from the log. What does not answer the request (wrong commit, other seed or command, a
    log cut short) is refused with the reason; the same result twice changes nothing; another kind of machine
    is kept aside until the incumbent was measured there. Exits 9 when nothing could be taken.

    \b
    ingest result-r003.tar.gz
    ingest train.log --request r003 --commit 1a2b3c4 --seed 42
    """
    lab = Lab.find(obj.folder)
    said = {
        "commit": commit, "seed": seed, "machine": machine, "host": host,
        "exit": None if exit_code is None else str(exit_code),
    }  # fmt: skip
    place = path if path.is_absolute() else obj.folder / path
    if not place.exists():
        place = Path.cwd() / path
    with lab.changing("ingest"):
        loop.advance(lab)
        receipt = receiving.receive(lab, place, request_id, {k: v for k, v in said.items() if v is not None})
        loop.advance(lab)
    _answer(obj, lab, receipt)


def _answer(obj: Context, lab: Lab, receipt: Receipt) -> None:
    lines, fields = receipt_lines(lab, receipt), receipt_json(lab, receipt)
    nothing = receipt.refused and not receipt.taken
    if nothing:
        first = receipt.refused[0]
        raise LabError(f"{first['run']}: {first['text']}", first["hint"], errors.REFUSED)
    lines += [f"note: {notice}" for notice in lab.notices]
    obj.say([*lines, f"next: {next_step(lab)}"], {**fields, "notices": lab.notices, "next": next_step(lab)})
    remarks.acknowledge(lab)


def receipt_lines(lab: Lab, receipt: Receipt) -> list[str]:
    """What became of each run, and what it means for its experiment."""
    state, lines = lab.state, []
    for row in receipt.rows:
        hint = f" ({row['hint']})" if row["hint"] else ""
        lines.append(f"{row['run']} {row['outcome']}{': ' if row['text'] else ''}{row['text']}{hint}")
    for identity in dict.fromkeys(row["run"].split(".")[0] for row in receipt.rows):
        found = state.experiments.get(identity)
        if identity in state.confirmations:
            lines = [*proof.lines(state, state.confirmations[identity]), *lines]
        if found:
            lines = [*views.verdict_lines(state, found, lab.settings.metric), *lines, *crash_text(lab, found)]
            lines += [
                f"{run.id} kept aside: {run.detail}" for run in found.runs if run.outcome == "elsewhere"
            ]
    return lines


def receipt_json(lab: Lab, receipt: Receipt) -> Record:
    """The same in facts."""
    names = dict.fromkeys(row["run"].split(".")[0] for row in receipt.rows)
    found = [lab.state.experiments[name] for name in names if name in lab.state.experiments]
    return {
        "request": receipt.request,
        "runs": receipt.rows,
        "experiments": [views.experiment_json(lab.state, e) for e in found],
    }
