"""A state as bytes for the snapshot beside the journal, and back.

The first line is JSON: everything but the experiments, and of those what calls need before they look at one.
Each line behind it is the row of an experiment, its values in the order of the fields: rows without names
parse in a third of the time, and most of them are never parsed at all (see `roster`).
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from lab.model import Confirmation, Experiment, Place, Run, State, Study
from lab.roster import Roster

RUN_FIELDS = [f.name for f in fields(Run)]
EXPERIMENT_FIELDS = [f.name for f in fields(Experiment)]
CONFIRMATION_FIELDS = [f.name for f in fields(Confirmation)]
STUDY_FIELDS = [f.name for f in fields(Study)]
FIELDS = [EXPERIMENT_FIELDS, CONFIRMATION_FIELDS, STUDY_FIELDS, RUN_FIELDS]
RUNS = EXPERIMENT_FIELDS.index("runs")
APART = ("experiments", "confirmations", "studies")


def freeze(state: State) -> bytes:
    """The state as lines of JSON."""
    roster = state.experiments
    rows, asleep = [], {}
    for name in roster:
        row = roster.row(name)
        if row is not None:
            asleep[name] = roster.kind(name)
        else:
            experiment = roster[name]
            row = _json(_row(experiment, EXPERIMENT_FIELDS))
            if experiment.past:
                asleep[name] = str(experiment.verdict)
        rows.append(row)
    head = {
        "fields": FIELDS,
        "names": list(roster),
        "asleep": asleep,
        "confirmations": [_row(c, CONFIRMATION_FIELDS) for c in state.confirmations.values()],
        "studies": [_row(s, STUDY_FIELDS) for s in state.studies.values()],
        "rest": {name: value for name, value in vars(state).items() if name not in APART},
    }
    return b"\n".join([_json(head), *rows])


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _row(place: Place, names: list[str]) -> list[object]:
    row = [getattr(place, name) for name in names]
    row[names.index("runs")] = [[getattr(run, name) for name in RUN_FIELDS] for run in place.runs]
    return row


def thaw(frozen: bytes) -> State:
    """The state that `freeze` gave; ValueError when another release wrote it with other fields."""
    lines = frozen.split(b"\n")
    head = json.loads(lines[0])
    if head["fields"] != FIELDS:
        raise ValueError("the snapshot has other fields")
    state = State(**head["rest"])
    state.experiments = Roster.of(head["names"], lines[1:], head["asleep"], _experiment)
    rows = _thawed(head["confirmations"], CONFIRMATION_FIELDS)
    state.confirmations = {row[0]: Confirmation(*row) for row in rows}
    state.studies = {row[0]: Study(*row) for row in _thawed(head["studies"], STUDY_FIELDS)}
    return state


def _experiment(row: list[Any]) -> Experiment:
    row[RUNS] = [Run(*run) for run in row[RUNS]]
    return Experiment(*row)


def _thawed(rows: list[list[Any]], names: list[str]) -> list[list[Any]]:
    runs = names.index("runs")
    for row in rows:
        row[runs] = [Run(*run) for run in row[runs]]
    return rows
