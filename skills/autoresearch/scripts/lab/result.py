"""What a run's end means, and its row in `run.json`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lab.atomic import write_atomic
from lab.early import DIVERGED, HOPELESS, PRUNED
from lab.metrics import Reading
from lab.model import now
from lab.postmortem import Digest, is_host_trouble, make_digest
from lab.runlog import RunLog
from lab.sandbox.denied import Denied
from lab.spec import Spec, changed_files
from lab.steps import step

DIGEST_TAIL_BYTES = 65_536
TRIES_SECONDS = 60.0  # how long a full disk may keep run.json from being written
ROOM_BYTES = 16_384  # what a file system may need beside the bytes themselves
OWN_FAULTS = {
    *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL),
    *(signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS),
}
# How a shell or a launcher between us and the training reports a signal that came from outside.
FROM_A_SHELL = {
    128 + number: number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
}

Row = dict[str, object]


@dataclass(frozen=True)
class Ending:
    """How a training process ended; `stopped` is why we ended it, or None when it ended by itself."""

    status: int  # as of wait(2)
    seconds: float
    stopped: str | None
    detail: str
    peak_rss_mb: float
    survivors: int  # processes that not even KILL ended
    oom_kills: int  # on the whole machine, meanwhile

    @property
    def signal(self) -> int | None:
        """The signal that ended the process."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def exit_code(self) -> int:
        """The exit status, 128 + n after signal n as in a shell."""
        return 128 + self.signal if self.signal else os.WEXITSTATUS(self.status)


def outcome_of(ending: Ending, changed: list[str], host_trouble: str | None) -> tuple[str, str]:
    """Return the outcome of a run that started, and why; the strongest reason to doubt it comes first."""
    if ending.stopped == "cancelled":
        return "cancelled", ending.detail
    if changed:
        return "protected", f"the run changed protected files: {listed(changed)}"
    if ending.stopped:
        return ending.stopped, ending.detail
    number = ending.signal or FROM_A_SHELL.get(ending.exit_code)
    if number == signal.SIGKILL and ending.oom_kills:
        return "error", "ended by the kernel: the machine ran out of memory"
    if number:
        # A fault of the program's own making speaks about the candidate; a signal from outside does not.
        outcome = "error" if number in OWN_FAULTS else "killed"
        return outcome, f"ended by {_signal_name(number)}"
    if ending.exit_code and host_trouble:
        return "infra", host_trouble
    if ending.exit_code:
        return "error", f"exit status {ending.exit_code}"
    return "ok", ""


def row_of_ending(
    run_dir: Path, spec: Spec, ending: Ending, reading: Reading, log: RunLog, denied: Denied
) -> Row:
    """Return what `run.json` says about a training that ran."""
    changed = changed_files(spec)
    tail = log.tail(DIGEST_TAIL_BYTES)
    outcome, why = outcome_of(ending, changed, is_host_trouble(tail))
    told = denied.reason(tail) if outcome in ("error", "infra") else ""
    notes = [why, reading.detail if outcome == "ok" and reading.problem else "", told, log.trouble]
    if ending.survivors:
        notes.append(f"{ending.survivors} processes hang in the kernel and could not be ended")
    vram_mb = reading.values.get("peak_vram_mb", 0.0)
    memory_gb = (vram_mb if vram_mb > 0 else ending.peak_rss_mb) / 1024
    return {
        "outcome": outcome,
        "exit_code": ending.exit_code,
        "signal": ending.signal,
        "ended_at": now(),
        "seconds": round(ending.seconds, 3),
        "peak_rss_mb": round(ending.peak_rss_mb, 1),
        "memory_gb": round(memory_gb, 3),
        "metric": reading.value if outcome == "ok" else None,
        "problem": reading.problem,
        "detail": "; ".join(note for note in notes if note),
        "values": reading.values,
        "facts": reading.facts,
        "log_bytes": log.total,
        "protected_changed": changed,
        "digest": _digest(run_dir, spec, ending, reading, outcome, tail, memory_gb, told),
    }


def row_of_failed_start(spec: Spec, error: OSError | ValueError) -> Row:
    """Return the row of a command that could not be started: the candidate's fault, or the machine's."""
    if isinstance(error, ValueError):  # a NUL or half a character in the command
        return row_of_nothing("error", f"the command cannot be passed to the system: {error}", exit_code=126)
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        return row_of_nothing("infra", f"the machine could not start the command: {error.strerror}")
    name = spec.argv[0] if spec.argv else ""
    if error.errno == errno.ENOENT:
        return row_of_nothing("error", f"command not found: {name}", exit_code=127)
    return row_of_nothing("error", f"cannot run {name}: {error.strerror}", exit_code=126)


def row_of_nothing(outcome: str, detail: str, **known: object) -> Row:
    """Return the row of a run that produced nothing."""
    empty: Row = {
        "outcome": outcome,
        "exit_code": None,
        "signal": None,
        "ended_at": now(),
        "seconds": 0.0,
        "peak_rss_mb": None,
        "memory_gb": None,
        "metric": None,
        "problem": None,
        "detail": detail,
        "values": {},
        "facts": {},
        "log_bytes": 0,
        "protected_changed": [],
        "digest": {"kind": outcome, "line": detail, "where": None, "text": detail},
    }
    return empty | known


def write_result(run_dir: Path, row: Row) -> bool:
    """Write `run.json`; whether it is there.

    On a full disk the end of the log makes room for it, and it is tried again for a while. Without it
    the run reads as lost and is repeated.
    """
    text = json.dumps(row, indent=1, allow_nan=False)
    give_up = time.monotonic() + TRIES_SECONDS
    while True:
        try:
            write_atomic(run_dir / "run.json", text, name="supervisor.result")
            step("supervisor.result_written")
            return True
        except OSError as error:
            with contextlib.suppress(OSError):
                log = run_dir / "run.log"
                os.truncate(log, max(0, log.stat().st_size - len(text) - ROOM_BYTES))
                print(f"{now()} run.json: {error}", file=sys.stderr, flush=True)
            if time.monotonic() > give_up:
                return False
            time.sleep(0.5)


def _digest(
    run_dir: Path,
    spec: Spec,
    ending: Ending,
    reading: Reading,
    outcome: str,
    tail: bytes,
    memory_gb: float,
    told: str,
) -> Row | None:
    if outcome == "ok" and not reading.problem:
        return None
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
    line = f"{told}: {digest.line}" if told else digest.line
    if outcome in (DIVERGED, HOPELESS, PRUNED):  # we ended it: the log cannot say why
        text = f"{outcome}: {ending.detail}\n{digest.text}"
        return {"kind": outcome, "line": ending.detail, "where": None, "text": text}
    head, _, rest = digest.text.partition("\n")
    text = "\n".join([head, told, rest]) if told else digest.text
    return {"kind": digest.kind, "line": line, "where": digest.where, "text": text}


def listed(names: list[str]) -> str:
    """Return the first names in words."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal
