"""Does the record hold: the journal read again from its first line, with everything that bears witness to it.

Neither snapshot nor lock is used, and nothing on disk is changed.
"""

from __future__ import annotations

import json
import math

from lab.campaign import Lab
from lab.chain import Chain
from lab.changes import apply
from lab.errors import LabError
from lab.model import Record, State
from lab.verify.commits import check_commits, check_refs
from lab.verify.exports import check_beyond, check_exports
from lab.verify.found import Findings
from lab.verify.numbers import check_number


def examine(lab: Lab) -> Findings:
    """Look at every record and at everything that bears witness to it."""
    found = Findings()
    records = _read(lab, found)
    whole = not any(m.what == "record" for m in found.misfits)
    state = lab.journal.state = State()
    for line, record in records:
        try:
            apply(state, record)
        except (LabError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            found.add(line, str(record.get("event")), f"it cannot follow on what stands before it ({error})")
            whole = False
            break
        check_number(lab, state, line, record, found)
    found.experiments = len(state.experiments)
    if state.tag:
        lines = _lines(records)
        check_commits(lab, records, found)
        check_exports(lab, state, lines, found)
        if whole:  # what git and the folders know beyond it says nothing where reading broke off
            check_refs(lab, state, lines, found)
            check_beyond(lab, state, found)
    found.misfits.sort(key=lambda m: m.line or math.inf)
    return found


def _read(lab: Lab, found: Findings) -> list[tuple[int, Record]]:
    """The records with their lines, as far as they can be read; a break of the chain is noted."""
    chain = Chain()
    records: list[tuple[int, Record]] = []
    data = lab.journal.path.read_bytes()
    for line in data.split(b"\n")[:-1]:
        if not chain.take(line) and chain.broken == chain.line:
            text = "it does not follow from the lines before it: changed, or a line is missing or new here"
            found.add(chain.line, "chain", text)
        try:
            record = json.loads(line)
        except ValueError:
            found.add(chain.line, "record", "it is not a journal record")
            break
        if not isinstance(record, dict):
            found.add(chain.line, "record", "it is not a journal record")
            break
        records.append((chain.line, record))
    found.records, found.held_from = len(records), chain.begins
    return records


def _lines(records: list[tuple[int, Record]]) -> dict[str, int]:
    """Experiment or run -> the line that began it (or rebased it); "end e012.1" -> the line of its end."""
    begun = {"proposed": "experiment", "rebased": "experiment", "run_started": "run"}
    lines = {str(r.get(begun[str(r["event"])])): n for n, r in records if str(r.get("event")) in begun}
    return lines | {f"end {r.get('run')}": n for n, r in records if r.get("event") == "run_ended"}
