"""The set-up of research: bootstrap."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lab import errors, groundwork
from lab.campaign import Lab
from lab.errors import LabError
from lab.groundwork import DONE, NONE, TO_DO, Step, Way
from verbs.shared import TRY_WAIT_SECONDS, Context, agent, next_step, verb

MARKS = {DONE: "done ", TO_DO: "TO DO", NONE: "-    "}


@verb()
@click.option("--look", is_flag=True, help="Only say how the steps stand; do nothing.")
@click.option("--skip", metavar="STEP", help="Put a step aside for this campaign; with --because.")
@click.option("--because", default="", help="Why the step is put aside.")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the baseline.")  # fmt: skip
def bootstrap(obj: Context, look: bool, skip: str | None, because: str, wait_seconds: float) -> None:
    """Walk the set-up of research, doing what is mechanical: memories, ruler, baseline, audit, agenda, ...

    Tests the measurement and measures the baseline (a result younger than 24 h is used as it is), reads the
    inbox, makes the audit, the survey and the working file, and names what is left to you, each with its
    command. Call it again after each step, in any session: it goes on where things stand. Exits 124 when the
    wait ended before the baseline.

    \b
    bootstrap
    bootstrap --skip literature --because "no network here"
    """
    try:
        lab = Lab.find(obj.folder)
    except LabError:
        _without_campaign(obj)
        return
    with agent(lab, "bootstrap"):
        lab.read()
        if skip:
            groundwork.put_aside(lab, skip, because)
        found = groundwork.walk(lab, Way(wait_seconds, next_step(lab)), only_look=look)
        lab.read()
    _say(obj, found, lab.notices, next_step(lab))
    if not look and any(s.name == "baseline" and s.command == "wait" for s in found) and wait_seconds > 0:
        raise SystemExit(errors.WAIT_ENDED)


def _without_campaign(obj: Context) -> None:
    """Before `init`: what is known already, and the one thing to do."""
    lab = Lab(Path(os.path.realpath(obj.folder)))
    known = groundwork.STEPS["memories"][1](lab, Way(0, ""))
    first = Step("campaign", TO_DO, "there is none here", "init --tag TAG")
    _say(obj, [known, first], [], "`init --tag TAG`, then `doctor` and `bootstrap` again")


def _say(obj: Context, found: list[Step], notices: list[str], follow: str) -> None:
    waiting = [step for step in found if step.state == TO_DO]
    done = sum(step.state == DONE for step in found)
    head = f"{done} of {len(found)} steps done, {len(waiting)} to do"
    lines = [head, *(f"{MARKS[s.state]} {s.name}: {s.said}" for s in found)]
    lines += [f"note: {notice}" for notice in notices]
    follow = f"`{waiting[0].command}` ({waiting[0].name})" if waiting and waiting[0].command else follow
    lines.append(f"next: {follow}")
    obj.say(lines, {"steps": [vars(s) for s in found], "to_do": [s.name for s in waiting],
                    "notices": notices, "next": follow})  # fmt: skip
