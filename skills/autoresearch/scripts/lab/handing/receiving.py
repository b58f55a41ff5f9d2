"""Taking back what a person ran: matched, read by the tool, and from there on a run like any other.

The result is written as the run's `run.json`, last and in one step; `loop` takes it into the journal as it
does for a run of its own. A killed `ingest` has changed nothing before that, and has nothing to do after.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.atomic import sweep, write_atomic
from lab.campaign import Lab
from lab.errors import REFUSED, USAGE, LabError
from lab.handing import packing, returned
from lab.handing.parcel import Returned, opened
from lab.handing.provenance import Asked, judge
from lab.model import Run
from lab.result import Row
from lab.steps import step

STAGING = ".in-"


@dataclass
class Receipt:
    """What became of a parcel: for each run of it a word and the reason."""

    request: str = ""
    rows: list[dict[str, str]] = field(default_factory=list)

    def note(self, run: str, outcome: str, text: str, hint: str = "") -> None:
        """Write down what became of a run: taken, known, refused."""
        self.rows.append({"run": run, "outcome": outcome, "text": text, "hint": hint})

    @property
    def taken(self) -> list[str]:
        """The runs whose result is new."""
        return [row["run"] for row in self.rows if row["outcome"] == "taken"]

    @property
    def refused(self) -> list[dict[str, str]]:
        """What was not taken."""
        return [row for row in self.rows if row["outcome"] == "refused"]


def receive(lab: Lab, path: Path, wanted: str | None, said: Mapping[str, str]) -> Receipt:
    """Take what lies at `path` back; the caller then lets the loop move on."""
    if lab.state.finished:
        raise LabError(
            f"campaign {lab.state.tag} is finished", "its results stand; `init --tag NEW` starts another"
        )
    if not lab.state.requests:
        raise LabError("nothing was handed out in this campaign", "`handoff EXP` writes a run request")
    place = _folder(lab)
    sweep(place)
    for left in place.glob(f"{STAGING}*"):  # of a call that was killed: the state lock is held
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=STAGING, dir=place) as name:
        staging = Path(name)
        runs = opened(path, staging)
        if not runs:
            raise LabError(
                f"{path.name} holds no run of a request (a folder such as e001.1 with run.log)",
                "name the result file that run.sh made, or a log file with --request",
                REFUSED,
            )
        receipt = Receipt()
        for run in runs:
            _one(lab, run, wanted, said, staging, receipt)
        return receipt


def _folder(lab: Lab) -> Path:
    place = lab.home / "requests"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _one(
    lab: Lab, found: Returned, wanted: str | None, said: Mapping[str, str], staging: Path, receipt: Receipt
) -> None:
    """Match one run that came back, and write its result down."""
    before = _known(lab, found)
    if before:
        receipt.request = receipt.request or before.request
        receipt.note(
            before.id,
            "known",
            f"the same log is in already ({before.outcome or 'being taken'}); nothing changed",
        )
        return
    run = _meant(lab, found, wanted, said)
    receipt.request = receipt.request or run.request
    result = lab.run_dir(run) / "run.json"
    if run.outcome is not None or result.exists():
        text = f"{run.id} has a result already ({run.outcome or 'being taken'}), and this log is another one"
        receipt.note(run.id, "refused", text, f"a further run of it: `handoff {run.id.split('.')[0]}`")
        return
    judged = judge(_asked(lab, run), found, {"run": run.id, **said})
    if judged.fault:
        receipt.note(run.id, "refused", judged.fault, judged.hint)
        return
    row = returned.row(lab, run, found, judged, staging)
    if isinstance(row, str):
        receipt.note(run.id, "refused", row, "send the whole output of the run")
        return
    _store(lab, run, found, row, staging)
    receipt.note(run.id, "taken", "; ".join(judged.doubts))


def _known(lab: Lab, found: Returned) -> Run | None:
    runs = (run for place in lab.state.places() for run in place.runs if run.request)
    for run in runs:
        if found.log_sha256 and found.log_sha256 in (run.log_sha256, _waiting(lab, run)):
            return run
    return None


def _waiting(lab: Lab, run: Run) -> str:
    """The hash of a log whose result was written and is not in the journal yet."""
    if run.outcome is not None:
        return ""
    try:
        return str(json.loads((lab.run_dir(run) / "run.json").read_bytes()).get("log_sha256", ""))
    except (OSError, ValueError):
        return ""


def _meant(lab: Lab, found: Returned, wanted: str | None, said: Mapping[str, str]) -> Run:
    """The run that a returned one answers: by its provenance, else by what the person says."""
    facts = found.facts
    request = facts.get("request") or wanted
    if wanted and request != wanted:
        raise LabError(f"it answers {request}, not {wanted}", "leave --request out", REFUSED)
    if request is None:
        waiting = {r.request for r in _open(lab)}
        if len(waiting) != 1:
            listed = ", ".join(sorted(waiting)) or "none"
            raise LabError(
                "a bare log does not say what it answers", f"name it with --request (open: {listed})", USAGE
            )
        request = waiting.pop()
    if request not in lab.state.requests:
        known = ", ".join(lab.state.requests)
        raise LabError(f"there is no request {request!r} in this campaign", f"known: {known}", REFUSED)
    runs = packing.runs_of(lab, request)
    name = found.name or facts.get("run")
    if name:
        run = next((r for r in runs if r.id == name), None)
        if run is None:
            raise LabError(
                f"{name} is no run of {request}", f"it asks for {', '.join(r.id for r in runs)}", REFUSED
            )
        return run
    seed = said.get("seed")
    if seed is None and len(runs) == 1:
        return runs[0]
    run = next((r for r in runs if str(r.seed) == seed and r.outcome is None), None)
    run = run or next((r for r in runs if str(r.seed) == seed), None)
    if run is None:
        seeds = ", ".join(str(r.seed) for r in runs)
        told = (
            f"different seed: {request} asks for {seeds}, not {seed}"
            if seed
            else "nothing says which seed it ran"
        )
        raise LabError(told, f"say the seed it ran with --seed (asked for: {seeds})", REFUSED)
    return run


def _open(lab: Lab) -> list[Run]:
    return [r for place in lab.state.places() for r in place.runs if r.request and r.outcome is None]


def _asked(lab: Lab, run: Run) -> Asked:
    words = next(p for p in packing.planned(lab, run.request) if p.id == run.id)
    code = packing.known_code(lab, run.request)
    return Asked(run.request, run.nonce, run.id, run.commit, run.seed, words.sha256, code)


def _store(lab: Lab, run: Run, found: Returned, row: Row, staging: Path) -> None:
    """Bring log and small files into the run's folder, and last the result."""
    place = lab.run_dir(run)
    place.mkdir(parents=True, exist_ok=True)
    sweep(place)
    row = {**row, "digest": _here(row.get("digest"), staging, place)}
    for name in ("metrics.json", "curve.jsonl"):
        if name in found.small:
            write_atomic(place / name, found.small[name])
    if "provenance.txt" in found.small:
        write_atomic(place / "provenance.txt", found.small["provenance.txt"])
    shutil.copyfile(staging / "kept.log", place / "run.log.draft")
    os.replace(place / "run.log.draft", place / "run.log")  # noqa: PTH105 - beside its copy
    step("ingest.log")
    write_atomic(place / "run.json", json.dumps(row, indent=1, allow_nan=False), name="ingest.result")
    step("ingest.stored")


def _here(digest: object, staging: Path, place: Path) -> object:
    if not isinstance(digest, dict):
        return digest
    return {k: v.replace(str(staging), str(place)) if isinstance(v, str) else v for k, v in digest.items()}
