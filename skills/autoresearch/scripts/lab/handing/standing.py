"""Where things stand with the person, for `status`: open requests, their words, the inbox, a question."""

from __future__ import annotations

import datetime

from lab.campaign import Lab
from lab.handing import dropped, remarks
from lab.model import ELSEWHERE, Record, now
from lab.redact import one_line

SHOWN = 6


def known(lab: Lab) -> Record:
    """The fields `requests` and `remarks` of `status`; their lines are in `text`."""
    return {"requests": _requests(lab), "remarks": _remarks(lab)}


def _requests(lab: Lab) -> Record:
    state = lab.state
    rows = []
    for identity in dict.fromkeys(run.request for _, run in state.handed()):
        made = state.requests[identity]
        runs = [run for _, run in state.handed() if run.request == identity]
        rows.append(
            {"id": identity, "experiment": made["experiment"], "at": made["at"], "age": age(str(made["at"])),
             "open": [run.id for run in runs], "archive": str(lab.archive(identity))}
        )  # fmt: skip
    text = [
        f"{r['id']} {r['experiment']} handed out {r['age']} ago: {', '.join(r['open'])} to come back"
        for r in rows
    ]
    if len(text) > SHOWN:
        text = [*text[:SHOWN], f"... and {len(text) - SHOWN} more requests"]
    held = [
        f"{run.id} kept aside: {one_line(run.detail, 160)}; `handoff best` measures the incumbent there"
        for e in state.open()
        for run in e.runs
        if run.outcome == ELSEWHERE and run.ended > state.moved
    ]
    refused = [
        f"inbox: {key.split(' ')[0]} {what}"
        for key, what in dropped.seen(lab).items()
        if what.startswith("refused")
    ]
    return {"open": rows, "kept_aside": len(held), "text": [*text, *held[:2], *refused[-2:]]}


def _remarks(lab: Lab) -> Record:
    waiting = [r for r in lab.state.remarks if not r["done"]]
    asked = [c for c in lab.state.checkpoints[-1:] if not c["answer"]]
    text = [remarks.shown(r) for r in waiting if r["seen"]][: remarks.LISTED]
    text += [
        f"{c['checkpoint']} waits for the user's answer: {one_line(str(c['question']), 160)}" for c in asked
    ]
    return {
        "open": [
            {"id": r["remark"], "text": r["text"], "at": r["at"], "seen": bool(r["seen"])} for r in waiting
        ],
        "question": asked[0]["checkpoint"] if asked else None,
        "text": text,
    }


def age(at: str) -> str:
    """How long ago that was, in words."""
    began, present = map(datetime.datetime.fromisoformat, (at, now()))
    minutes = max(0.0, (present - began).total_seconds() / 60)
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"
