"""Stopping, going on, closing: stop, resume, finish."""

from __future__ import annotations

import time

import click

from lab import proof, views
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import BASELINE, State
from verbs.shared import Context, agent, brief, next_step, verb


@verb()
@click.option("--now", "kill", is_flag=True, help="Also end the run at work; it is repeated after `resume`.")
def stop(obj: Context, kill: bool) -> None:
    """Start no new run; a run at work may end, and its result counts"""
    from lab import loop

    lab = Lab.find(obj.folder)
    with lab.changing("stop"):
        running = loop.stop(lab, "by `stop`", kill)
    end = time.monotonic() + 30
    while kill and running and time.monotonic() < end:
        if all(lab.runner.poll(lab.run_dir(run)) in ("done", "lost") for run in running):
            with lab.changing("stop"):
                loop.advance(lab)
            break
        time.sleep(0.05)
    words = ", ".join(run.id for run in running)
    lines = ["stopped: no new run starts"]
    if running:
        lines.append(
            f"{words} was ended, it is repeated after `resume`" if kill else f"{words} is still at work"
        )
    obj.say([*lines, "next: `resume` or `finish`"], {"stopped": True, "running": [run.id for run in running]})


@verb()
def resume(obj: Context) -> None:
    """Take up what a stop, a crash or a reboot left, without losing or repeating a result"""
    from lab import loop

    lab = Lab.find(obj.folder)
    with lab.changing("resume") as state:
        if state.finished:
            raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
        if state.stopped or any(place.host_failures for place in state.places()):
            lab.journal.append("resumed")  # a run that met a full disk may not have told of it yet
        loop.advance(lab)
        views.write_results(lab.root / "results.tsv", state, lab.settings.metric)
    going = [e.id for e in state.open()]
    notices = lab.notices
    obj.say(
        [f"campaign {state.tag} goes on" + (f": {', '.join(going)} open" if going else ""),
         *(f"note: {n}" for n in notices), f"next: {next_step(lab)}"],
        {"campaign": state.tag, "open": going, "notices": notices, "next": next_step(lab)},
    )  # fmt: skip


@verb()
@click.option("--squash", is_flag=False, flag_value="one", type=click.Choice(["one", "each"]),
              help="Also make branches for review: one with everything, or one for each change.")  # fmt: skip
@click.option(
    "--heldout/--no-heldout",
    "untouched",
    default=True,
    help="Whether to score the held-out split once more, where models are kept and `confirm` did not.",
)
def finish(obj: Context, squash: str | None, untouched: bool) -> None:
    """Close the campaign: final report, working tree back to your branch, how to take the keeps over

    \b
    finish --squash        autoresearch-review/TAG/all: everything kept as one commit on the merge base
    finish --squash each   autoresearch-review/TAG/e003, ...: a branch for each change that can stand alone
    """
    from lab import heldout, setup
    from lab import squash as reviews

    lab = Lab.find(obj.folder)
    with agent(lab, "finish"):
        looked = heldout.look(lab) if untouched else []
        with lab.changing("finish") as state:
            told = looked + setup.end(lab)
            scratch = lab.home / "conflicts" / "review"
            made = reviews.make(lab.workspace, state, lab.settings, squash, scratch) if squash else []
    best, near = brief(state.incumbent), views.near_misses(state, lab.settings.goal)
    report, page = lab.home / "report" / "report.md", lab.home / "report" / "index.html"
    shown = f" --from {state.incumbent_id}" if state.incumbent_id else ""
    lessons = f'`remember "WHAT HELD"{shown}`, and with --kind issue what broke: the next campaign finds it'
    obj.say(
        [f"campaign {state.tag} is finished: {_sentence(state.counts())}",
         *([f"best: {best['experiment']} {lab.settings.metric} {views.number(state.incumbent.metric)}"]
           if best and state.incumbent else []),
         *([near] if near else []), *_confirmed(state), *proof.last_look(state), *told,
         f"page: {page} (as text: {report.name})", *views.merge_hint(state),
         *(f"review: {r.branch} {r.commit[:7]} ({', '.join(r.experiments)})" for r in made),
         *(["review: nothing was kept that your branch does not have"] if squash and not made else []),
         f"next: {lessons}"],
        {"campaign": state.tag, "branch": state.branch, "incumbent": best, "experiments": state.counts(),
         "report": str(report), "page": str(page), "notices": told, "next": lessons,
         "review": [{"branch": r.branch, "commit": r.commit, "experiments": r.experiments} for r in made],
         "confirmation": proof.as_json(state, next(reversed(state.confirmations.values()), None)),
         "heldout": {**state.heldout, "looks": proof.heldout_looks(state)} if state.heldout else None},
    )  # fmt: skip


def _confirmed(state: State) -> list[str]:
    """The confirmations, or that there is none of what was kept."""
    if state.incumbent_id not in ("", BASELINE) and not state.confirmations:
        return ["not confirmed: `confirm` before `finish` measures the gain on fresh seeds"]
    return [proof.lines(state, c)[0] for c in state.confirmations.values()]


def _sentence(counts: dict[str, int]) -> str:
    words = {"keep": "kept (with the baseline)", "discard": "discarded", "crash": "crashed", "open": "open"}
    said = [f"{counts[name]} {word}" for name, word in words.items() if counts[name]]
    return ", ".join(said) or "nothing was measured"
