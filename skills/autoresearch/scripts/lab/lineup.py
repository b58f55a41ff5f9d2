"""Who has which slot, who waits, what to do meanwhile, and which verdicts were given while nobody waited."""

from __future__ import annotations

import json
from contextlib import suppress

from lab import mover
from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.model import Experiment, Record
from lab.redact import one_line

HEARD = "heard.json"  # in `.autoresearch/`: the last verdict that an agent was told of
SHOWN = 8


def slots(lab: Lab) -> Record:
    """How many slots there are and which are free, as `status` says it."""
    return {
        "total": lab.width,
        "free": max(0, lab.width - len(lab.state.going)),
        "names": [slot.name for slot in lab.slots],
        "mover": mover.alive(lab.home) or None,
    }


def queued(lab: Lab) -> list[Experiment]:
    """Open experiments without a run at work."""
    return [e for e in lab.state.open() if e.status == "queued"]


def next_words(lab: Lab) -> str:
    """What to do while runs are at work in one of several slots."""
    free, waiting = int(str(slots(lab)["free"])), len(queued(lab))
    edit = 'edit the next change, then `try "HYPOTHESIS"`'
    if lab.budget_spent() or lab.state.confirming:
        return "`wait`"
    if free > waiting:
        return f"{free} of {lab.width} slots free: {edit}"
    if waiting < lab.width:
        return f"`wait` for a verdict, or {edit}: it is queued ({waiting} waiting, {lab.width} slots)"
    return f"`wait` for a verdict: {waiting} are queued for {lab.width} slots"


def unheard(lab: Lab) -> list[Experiment]:
    """Experiments decided since an agent was last told of a verdict."""
    decided = [e for e in lab.state.experiments.values() if e.verdict]
    try:
        heard = str(json.loads((lab.home / HEARD).read_bytes())["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the first call: all of it is in `status`
    return [e for e in decided if e.verdict_at > heard]


def meanwhile(lab: Lab, told: str = "") -> list[Experiment]:
    """The same but for `told`, which an agent is told of now, as of the others."""
    found, path = unheard(lab), lab.home / HEARD
    if found or not path.exists():
        newest = max((e.verdict_at for e in lab.state.experiments.values() if e.verdict), default="")
        with suppress(FileNotFoundError):  # swept away by a verdict that is being published: told once more
            write_atomic(path, json.dumps({"at": newest}), durable=False)
    return [e for e in found if e.id != told]


def meanwhile_lines(lab: Lab, found: list[Experiment]) -> list[str]:
    """One line for each of them, the newest last."""
    rows = [f"meanwhile: {e.id} {str(e.verdict).upper()}  {one_line(e.reason, 200)}" for e in found[-SHOWN:]]
    return [f"meanwhile: {len(found) - SHOWN} more (`log`)", *rows] if len(found) > SHOWN else rows
