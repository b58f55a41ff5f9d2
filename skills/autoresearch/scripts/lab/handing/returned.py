"""What came back as the row of `run.json`: its number, how it ended, where it ran."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lab.campaign import Lab
from lab.handing import machine
from lab.handing.parcel import BEGAN, ENDED, Returned
from lab.handing.provenance import UNVERIFIED, Judged
from lab.metrics import Reading, Scanner, combine, read_metrics_json
from lab.model import ELSEWHERE, SCHEMA, Run, now
from lab.redact import one_line
from lab.result import DIGEST_TAIL_BYTES, Ending, Row, row_of_ending
from lab.runlog import RunLog
from lab.sandbox.denied import Denied
from lab.spec import Spec

KEPT = ("machine", "host", "system", "driver", "python", "torch", "jax", "numpy", "started", "ended")
TRACE = re.compile(rb"Traceback \(most recent call last\)|[Ee]rror|Killed|OutOfMemory")
LONGEST = 10**9  # seconds


def row(lab: Lab, run: Run, found: Returned, judged: Judged, staging: Path) -> Row | str:
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
