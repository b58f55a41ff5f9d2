"""Runs one training command to its end and writes `run.json`: `python -I supervisor.py RUNDIR`.

It is nobody's child and outlives the command that started it. A lock on RUNDIR/claim, held until it
dies, and a record inside that outlives it, make sure that no run is ever executed twice.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the rest is imported where it is used: `detach` has to come first
    from collections.abc import Mapping

    from lab.metrics import Digest, Reading, Scanner
    from lab.runlog import RunLog
    from lab.watch import Ending, Spec

SCHEMA = 1
DIGEST_TAIL_BYTES = 65_536
RESULT_TRIES_SECONDS = 60.0  # how long a full disk may keep run.json from being written
ROOM_BYTES = 16_384  # what a file system may need beside the bytes themselves
OWN_SIGNALS = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
NOT_FOR_THE_TRAINING = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")

Row = dict[str, object]


def main(run_dir: Path) -> None:
    """Execute the run in `run_dir` unless it was executed, or is being executed, by another."""
    from lab.steps import step

    step("supervisor.start")
    nonce = _spec_json(run_dir)["nonce"]
    lock = claim(run_dir, str(nonce))
    if lock is None:
        return
    step("supervisor.claimed")
    write_result(run_dir, perform(run_dir))
    os.close(lock)


def detach() -> None:
    """Let the caller's wait end at once: the parent leaves, the child belongs to nobody."""
    if os.fork():
        os._exit(0)
    os.chdir("/")


def claim(run_dir: Path, nonce: str) -> int | None:
    """Return the descriptor that holds the claim for life, or None when this run had its supervisor."""
    import fcntl
    import json

    from lab import processes
    from lab.atomic import sync_file, write_all
    from lab.steps import step

    descriptor = os.open(run_dir / "claim", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_size or (run_dir / "run.json").exists():
        os.close(descriptor)
        return None
    step("supervisor.claim.locked")
    me = processes.look(os.getpid())
    record = {
        "pid": os.getpid(),
        "starttime": me.started if me else "",
        "boot_id": processes.boot_id(),
        "nonce": nonce,
        "at": _now(),
    }
    write_all(descriptor, json.dumps(record).encode())
    sync_file(descriptor)
    return descriptor


def perform(run_dir: Path) -> Row:
    """Check, run and judge; what happened comes back as the row of `run.json`."""
    from lab.metrics import Scanner
    from lab.runlog import RunLog
    from lab.watch import Watch

    spec = read_spec(run_dir)
    host = os.uname().nodename
    row: Row = {"schema": SCHEMA, "run": spec.run, "nonce": spec.nonce, "started_at": _now(), "host": host}
    refused = refusal(run_dir, spec)
    if refused:
        outcome, detail = refused
        changed = changed_files(spec) if outcome == "protected" else []
        return row | _nothing(outcome, detail, protected_changed=changed)
    log = RunLog(run_dir / "run.log")
    name = str(spec.metric["name"])
    scanner = Scanner(name, spec.metric.get("take") or "only", spec.metric.get("pattern"))
    stale = _is_file(spec.cwd / "metrics.json")
    try:
        ending = Watch(run_dir, spec, log, scanner).run(training_environment(run_dir, spec, os.environ))
    except OSError as error:
        log.close()
        return row | _not_started(spec, error)
    log.close()
    places = [run_dir, *([] if stale else [spec.cwd])]
    reading = _reading(scanner, places, name)
    return row | judge(run_dir, spec, ending, reading, log)


def refusal(run_dir: Path, spec: Spec) -> tuple[str, str] | None:
    """Return the outcome and the reason when this run must not start."""
    if (run_dir / "cancel").exists():
        return "cancelled", "cancelled before it started"
    changed = changed_files(spec)
    if changed:
        return "protected", f"protected files differ from the baseline before the run: {_listed(changed)}"
    if not spec.cwd.is_dir():
        return "infra", f"the folder to run in is missing: {spec.cwd}"
    for place in (run_dir, spec.cwd):
        space = os.statvfs(place)
        free_mb = space.f_bavail * space.f_frsize / 2**20
        if free_mb < spec.free_disk_floor_mb:
            floor = f"{spec.free_disk_floor_mb:g} MB are asked for"
            return "infra", f"only {free_mb:.0f} MB are free on the disk of {place}; {floor}"
    return None


def training_environment(run_dir: Path, spec: Spec, own: Mapping[str, str]) -> dict[str, str]:
    """Return what the training sees: the project's environment, the run's own settings and its name."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in own.items() if name not in NOT_FOR_THE_TRAINING}
    environment |= {"PYTHONUNBUFFERED": "1", "MASTER_PORT": str(port)} | spec.env_add
    return environment | {"AUTORESEARCH_RUN": spec.cookie, "AUTORESEARCH_RUN_DIR": str(run_dir)}


def changed_files(spec: Spec) -> list[str]:
    """Return the protected files that are missing, no plain files, or have other bytes than they should."""
    return sorted(path for path, digest in spec.protected.items() if _sha256(spec.tree / path) != digest)


def outcome_of(ending: Ending, changed: list[str], host_trouble: str | None) -> tuple[str, str]:
    """Return the outcome of a run that started, and why; the strongest reason to doubt it comes first."""
    import signal

    if ending.stopped == "cancelled":
        return "cancelled", ending.detail
    if changed:
        return "protected", f"the run changed protected files: {_listed(changed)}"
    if ending.stopped:
        return ending.stopped, ending.detail
    if ending.signal:
        name = signal.Signals(ending.signal).name
        if ending.signal == signal.SIGKILL and ending.oom_kills:
            return "error", "ended by the kernel: the machine ran out of memory"
        # A fault of the program's own making speaks about the candidate; a signal from outside does not.
        return ("error" if name in OWN_SIGNALS else "killed"), f"ended by {name}"
    if ending.exit_code and host_trouble:
        return "infra", host_trouble
    if ending.exit_code:
        return "error", f"exit status {ending.exit_code}"
    return "ok", ""


def judge(run_dir: Path, spec: Spec, ending: Ending, reading: Reading, log: RunLog) -> Row:
    """Return what `run.json` says about a training that ran."""
    from lab.metrics import is_host_trouble

    changed = changed_files(spec)
    tail = log.tail(DIGEST_TAIL_BYTES)
    outcome, why = outcome_of(ending, changed, is_host_trouble(tail))
    notes = [why, reading.detail if outcome == "ok" else "", log.trouble]
    if ending.survivors:
        notes.append(f"{ending.survivors} processes hang in the kernel and could not be ended")
    vram_mb = reading.values.get("peak_vram_mb", 0.0)
    memory_gb = (vram_mb if vram_mb > 0 else ending.peak_rss_mb) / 1024
    return {
        "outcome": outcome,
        "exit_code": ending.exit_code,
        "signal": ending.signal,
        "ended_at": _now(),
        "seconds": round(ending.seconds, 3),
        "peak_rss_mb": round(ending.peak_rss_mb, 1),
        "memory_gb": round(memory_gb, 3),
        "metric": reading.value if outcome == "ok" else None,
        "problem": reading.problem,
        "detail": "; ".join(note for note in notes if note),
        "values": reading.values,
        "log_bytes": log.total,
        "protected_changed": changed,
        "digest": _digest(run_dir, spec, ending, reading, outcome, tail, memory_gb),
    }


def write_result(run_dir: Path, row: Row) -> bool:
    """Write `run.json`; whether it is there.

    On a full disk the end of the log makes room for it, and it is tried again for a while. Without it
    the run reads as lost and is repeated.
    """
    import contextlib
    import json
    import time

    from lab.atomic import write_atomic
    from lab.steps import step

    text = json.dumps(row, indent=1, allow_nan=False)
    give_up = time.monotonic() + RESULT_TRIES_SECONDS
    while True:
        try:
            write_atomic(run_dir / "run.json", text, name="supervisor.result")
            step("supervisor.result_written")
            return True
        except OSError as error:
            with contextlib.suppress(OSError):
                log = run_dir / "run.log"
                os.truncate(log, max(0, log.stat().st_size - len(text) - ROOM_BYTES))
                print(f"{_now()} run.json: {error}", file=sys.stderr, flush=True)
            if time.monotonic() > give_up:
                return False
            time.sleep(0.5)


def read_spec(run_dir: Path) -> Spec:
    """Read `spec.json`; keys of a newer release are left alone."""
    import dataclasses

    from lab.watch import Spec

    data = _spec_json(run_dir)
    names = {entry.name for entry in dataclasses.fields(Spec)}
    fields = {name: value for name, value in data.items() if name in names}
    return Spec(**{**fields, "tree": Path(str(data["tree"])), "cwd": Path(str(data["cwd"]))})  # type: ignore[arg-type]


def _spec_json(run_dir: Path) -> Row:
    import json

    return dict(json.loads((run_dir / "spec.json").read_bytes()))


def _reading(scanner: Scanner, places: list[Path], name: str) -> Reading:
    """Return what the output says, with what a metrics.json of this run says."""
    from lab.metrics import combine, read_metrics_json

    reading = scanner.close()
    for path in (place / "metrics.json" for place in places):
        found = read_metrics_json(path, name) if _is_file(path) else None
        if found:
            return combine(reading, found)
    return reading


def _digest(
    run_dir: Path, spec: Spec, ending: Ending, reading: Reading, outcome: str, tail: bytes, memory_gb: float
) -> Row | None:
    if outcome == "ok" and not reading.problem:
        return None
    from lab.metrics import make_digest

    digest: Digest = make_digest(
        tail=tail,
        tree=spec.tree,
        outcome=outcome,
        exit_code=ending.exit_code,
        signal=ending.signal,
        reading=reading,
        log_path=run_dir / "run.log",
        peak_memory_gb=memory_gb,
        incumbent_memory_gb=spec.incumbent_memory_gb,
        seconds=ending.seconds,
        limit_seconds=spec.kill_after,
    )
    return {"kind": digest.kind, "line": digest.line, "where": digest.where, "text": digest.text}


def _not_started(spec: Spec, error: OSError) -> Row:
    """Return the row of a command that could not be started: the candidate's fault, or the machine's."""
    import errno

    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        return _nothing("infra", f"the machine could not start the command: {error.strerror}")
    name = spec.argv[0] if spec.argv else ""
    if error.errno == errno.ENOENT:
        return _nothing("error", f"command not found: {name}", exit_code=127)
    return _nothing("error", f"cannot run {name}: {error.strerror}", exit_code=126)


def _nothing(outcome: str, detail: str, **known: object) -> Row:
    """Return the row of a run that produced nothing."""
    empty: Row = {
        "outcome": outcome,
        "exit_code": None,
        "signal": None,
        "ended_at": _now(),
        "seconds": 0.0,
        "peak_rss_mb": None,
        "memory_gb": None,
        "metric": None,
        "problem": None,
        "detail": detail,
        "values": {},
        "log_bytes": 0,
        "protected_changed": [],
        "digest": {"kind": outcome, "line": detail, "where": None, "text": detail},
    }
    return empty | known


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _sha256(path: Path) -> str | None:
    import hashlib

    if not _is_file(path):
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _now() -> str:
    from lab.model import now

    return now()


if __name__ == "__main__":
    detach()  # before anything of ours is imported: the caller waits for this
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(Path(sys.argv[1]))
