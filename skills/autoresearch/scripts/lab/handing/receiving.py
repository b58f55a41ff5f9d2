"""Taking back what a person ran: matched, read by the tool, and from there on a run like any other.

The result is written as the run's `run.json`, last and in one step; `loop` takes it into the journal as it
does for a run of its own. A killed `ingest` has changed nothing before that, and has nothing to do after.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.errors import REFUSED, USAGE, LabError
from lab.handing import handover, machine
from lab.handing.parcel import BEGAN, ENDED, Returned, opened
from lab.handing.provenance import UNVERIFIED, Asked, Judged, judge
from lab.metrics import Reading, Scanner, combine, read_metrics_json
from lab.model import ELSEWHERE, SCHEMA, Run, now
from lab.redact import one_line
from lab.result import DIGEST_TAIL_BYTES, Ending, Row, row_of_ending
from lab.runlog import RunLog
from lab.sandbox.denied import Denied
from lab.spec import Spec
from lab.steps import step

KEPT = ("machine", "host", "system", "driver", "python", "torch", "jax", "numpy", "started", "ended")
TRACE = re.compile(rb"Traceback \(most recent call last\)|[Ee]rror|Killed|OutOfMemory")
LONGEST = 10**9  # seconds


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
    with tempfile.TemporaryDirectory(prefix=".in-", dir=_folder(lab)) as name:
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
    row = _row(lab, run, found, judged, staging)
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
    runs = handover.runs_of(lab, request)
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
    words = next(p for p in handover.planned(lab, run.request) if p.id == run.id)
    code = handover.known_code(lab, run.request)
    return Asked(run.request, run.nonce, run.id, run.commit, run.seed, words.sha256, code)


# -- the result -----------------------------------------------------------------------------------------


def _row(lab: Lab, run: Run, found: Returned, judged: Judged, staging: Path) -> Row | str:
    """The row of run.json, read from the log as for any run; a text when the log has no end."""
    settings = lab.settings
    assert found.log
    for name, data in found.small.items():
        if name != "provenance.txt":
            (staging / name).write_bytes(data)
    kept = staging / "kept.log"
    scanner = Scanner(settings.metric, settings.take, settings.pattern)
    log = _read(found.log, kept, scanner)
    reading = scanner.close()
    beside = read_metrics_json(staging / "metrics.json", settings.metric)
    reading = combine(reading, beside) if beside else reading
    facts = judged.facts
    if (
        "exit" not in facts
        and reading.problem == "no_metric"
        and not TRACE.search(log.tail(DIGEST_TAIL_BYTES))
    ):
        return f"log cut short: it has no {settings.metric} and no error ({one_line(reading.detail, 160)})"
    ending = _ending(facts, reading, log)
    there = Path(one_line(facts.get("tree", ""), 500) or staging)  # for the places a traceback names
    spec = Spec(
        run.id, run.nonce, [], {}, there, there, settings.kill_after,
        {"name": settings.metric, "take": settings.take, "pattern": settings.pattern}, {},
    )  # fmt: skip
    row = row_of_ending(lab.run_dir(run), spec, ending, reading, log, Denied(None, {}))
    changed = facts.get("changed", "").strip("; ")
    if changed:
        what = f"the run changed protected files: {one_line(changed, 200)}"
        row |= {"outcome": "protected", "metric": None, "detail": what}
        row["digest"] = {"kind": "protected", "line": what, "where": None, "text": what}
    if not reading.values.get("peak_vram_mb"):
        row["memory_gb"] = row["peak_rss_mb"] = None
    return row | _origin(lab, run, found, judged, row)


def _read(source: Path, kept: Path, scanner: Scanner) -> RunLog:
    """Feed a log to the reader, without the lines of our script, and keep it as a run's log is kept."""
    log = RunLog(kept)
    size = source.stat().st_size
    with source.open("rb") as file:
        first = file.readline(2000)
        if not BEGAN.match(first):
            file.seek(0)
        while piece := file.read(1 << 18):
            if file.tell() >= size - 300:  # the mark of the end may lie across two pieces
                piece += file.read()
                found = list(ENDED.finditer(piece))
                piece = piece[: found[-1].start()].removesuffix(b"\n") if found else piece
            scanner.feed(piece)
            log.write(piece)
    log.close()
    return log


def _ending(facts: Mapping[str, str], reading: Reading, log: RunLog) -> Ending:
    """How the process ended, by its provenance; of a bare log, by whether it has the metric."""
    said = facts.get("exit", "")
    code = int(said) if said.isascii() and said.isdigit() else (1 if reading.problem == "no_metric" else 0)
    seconds = facts.get("seconds", "")
    took = float(min(int(seconds), LONGEST)) if seconds.isascii() and seconds.isdigit() else 0.0
    stopped = "timeout" if facts.get("timed_out") == "yes" else None
    return Ending(
        status=(code & 0xFF) << 8, seconds=took, stopped=stopped, detail="", peak_rss_mb=0.0, survivors=0,
        oom_kills=0,
    )  # fmt: skip


def _origin(lab: Lab, run: Run, found: Returned, judged: Judged, row: Row) -> Row:
    """Where it ran; a clean result of another kind of machine is no evidence beside the incumbent's."""
    facts = judged.facts
    kind = one_line(facts.get("machine", ""), 200)
    more: Row = {
        "schema": SCHEMA, "run": run.id, "nonce": run.nonce, "level": "L0", "sandbox": {"kind": "none"},
        "machine": kind, "proof": judged.proof, "log_sha256": found.log_sha256, "received_at": now(),
        "host": one_line(facts.get("host", ""), 200),
        "provenance": {name: one_line(facts[name], 200) for name in KEPT if facts.get(name)},
    }  # fmt: skip
    usual = usual_machine(lab, run)
    if row["outcome"] == "ok" and kind and usual and kind != usual:
        more |= {"outcome": ELSEWHERE, "detail": f"it ran on {kind}, what it is compared with on {usual}"}
    elif judged.proof == UNVERIFIED and not kind and usual:
        more["machine"] = usual  # nobody says otherwise, and the verdict is flagged
    return more


def usual_machine(lab: Lab, run: Run) -> str:
    """The kind of machine that results are compared on; "" while there is none."""
    state = lab.state
    places = [state.incumbent, state.baseline]
    for place in places:
        good = [r for r in place.good_runs if r is not run] if place else []
        if good:
            return good[-1].machine or machine.here()
    return ""


def _store(lab: Lab, run: Run, found: Returned, row: Row, staging: Path) -> None:
    """Bring log and small files into the run's folder, and last the result."""
    place = lab.run_dir(run)
    place.mkdir(parents=True, exist_ok=True)
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
