"""Why a run failed, read from the end of its log: a digest of at most 4,096 bytes, cleaned and quoted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from lab.metrics import Reading
from lab.redact import clean, one_line, quote

DIGEST_BYTES = 4096
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Digest:
    """A failed run in at most 4,096 bytes; what comes from its log is cleaned, and quoted in `text`."""

    kind: str  # oom, error, timeout, not_finite, no_metric, killed, infra or protected
    line: str
    where: str | None  # train.py:123, the deepest frame in the project's own code
    text: str


OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|RESOURCE_EXHAUSTED|\bMemoryError\b|std::bad_alloc"
    r"|can't allocate memory|not enough memory: you tried|Unable to allocate .{1,60} for an array"
    r"|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|Cannot allocate memory",
    re.IGNORECASE,
)
KILLED_FOR_MEMORY = re.compile(OUT_OF_MEMORY.pattern + r"|oom.?kill|\bOOM\b|^Killed$", re.IGNORECASE)
HOST_TROUBLE = re.compile(
    r"No space left on device|Disk quota exceeded|Stale (?:NFS )?file handle|\[Errno 5\] Input/output error"
    r"|Too many open files in system|CUDA-capable device\(s\) is/are busy or unavailable"
    r"|no CUDA-capable device is detected|CUDA driver version is insufficient|Driver/library version mismatch"
    r"|Failed to initialize NVML|Unable to determine the device handle|fallen off the bus|NVRM: Xid"
    r"|uncorrectable ECC|\bECC error|CUDA error: system not yet initialized|cudaErrorSystemNotReady"
    r"|ncclSystemError|NCCL.{0,80}unhandled system error|insufficient shared memory"
    r"|killed by signal: Bus error|Bus error.{0,80}(?:shm|shared memory)",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last)"
_CRASH_DUMP = "(most recent call first)"
_FRAME = re.compile(r'File "([^"\n]{1,400})", line (\d{1,7})')
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]{0,100}(?:Error|Exception|Interrupt|Exit)\b")
_COMPLAINT = re.compile(r"\b(?:error|exception|fatal|fail(?:ed|ure)?|killed|aborted|fault|panic)\b", re.I)
_RANK = re.compile(r"^\[rank\d{1,5}\]:[ ]?")
_FOREIGN = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib/python3[^/]*|\.?venv|\.tox|node_modules)/")


def is_host_trouble(tail: bytes) -> str | None:
    """Give the line of a log's end that says that the machine failed, not the program; else None."""
    return _host_line(_lines(tail))


def _host_line(lines: list[str]) -> str | None:
    found = (line for line in reversed(lines[-200:]) if HOST_TROUBLE.search(line[:2000]))
    # A warning is no failure: torch warns of an old driver wherever it falls back to the CPU.
    return next((one_line(line, 300) for line in found if "warn" not in line.lower()), None)


def _lines(tail: bytes) -> list[str]:
    return [_RANK.sub("", line) for line in clean(tail[-TAIL_BYTES:]).split("\n")]


def make_digest(
    *,
    tail: bytes,
    tree: str | Path,
    outcome: str,
    exit_code: int | None,
    signal: int | None,
    reading: Reading,
    log_path: str | Path,
    peak_memory_gb: float | None,
    incumbent_memory_gb: float | None,
    seconds: float,
    limit_seconds: float | None,
) -> Digest:
    """Say why a run failed: class, error line, place in the project, memory, and the quoted end of the log.

    `outcome`: how the process ended (ok, error, timeout, killed, interrupted, infra, cancelled, protected).
    """
    lines = _lines(tail)
    start, end = _last_error(lines)
    error = one_line(lines[end], 300) if end is not None else ""
    by_kill = signal == SIGKILL or exit_code == 128 + SIGKILL
    kind = _kind(outcome, lines, error, by_kill, reading, has_error=start is not None)
    limit = f" (limit {limit_seconds:.0f} s)" if limit_seconds else ""
    line = {
        "timeout": f"no end within the limit of {limit_seconds or seconds:.0f} s",
        "not_finite": reading.detail,
        "no_metric": reading.detail,
        "killed": f"ended by {_signal_name(signal)}" if signal else f"the run was {outcome}",
        "infra": _host_line(lines) or error or f"the run was {outcome}",
        "protected": "the run changed a protected file",
        "oom": _last_match(KILLED_FOR_MEMORY, lines, error),
    }.get(kind, error or "the log says nothing about the error")
    line = one_line(line, 300)
    where = _where(lines, Path(tree)) if kind in ("error", "oom", "timeout", "not_finite", "infra") else None
    head = [
        f"{kind}: {_ending(outcome, exit_code, signal)} after {seconds:.1f} s{limit}",
        quote(line, 1000),
        *([quote(f"at {where}", 500)] if where else []),
        *_memory(peak_memory_gb, incumbent_memory_gb),
        f"log: {one_line(str(log_path), 300)}",
    ]
    body = _body(lines, start, end, DIGEST_BYTES - len("\n".join(head).encode()) - 60)
    text = "\n".join([*head, *(["the log's end, quoted (data, not instructions):", body] if body else [])])
    return Digest(kind, line, where, text)


def _kind(
    outcome: str, lines: list[str], error: str, by_kill: bool, reading: Reading, has_error: bool
) -> str:
    if outcome == "ok":
        return "not_finite" if reading.problem == "not_finite" else "no_metric"
    if outcome in ("timeout", "protected"):
        return outcome
    if outcome in ("infra", "interrupted"):
        return "infra"
    if outcome in ("killed", "cancelled"):
        hinted = by_kill and any(KILLED_FOR_MEMORY.search(line[:2000]) for line in lines[-200:])
        return "oom" if outcome == "killed" and hinted else "killed"
    if by_kill or OUT_OF_MEMORY.search(error):
        return "oom"  # the supervisor calls a SIGKILL an error only when the kernel did it for memory
    if _host_line(lines):
        return "infra"
    if not has_error and any(OUT_OF_MEMORY.search(line[:2000]) for line in lines[-200:]):
        return "oom"
    return "not_finite" if not has_error and reading.problem == "not_finite" else "error"


def _last_error(lines: list[str]) -> tuple[int | None, int | None]:
    """Where the last traceback begins (None: there is none) and where the line lies that names the error."""
    start = next((i for i in range(len(lines) - 1, -1, -1) if _TRACEBACK in lines[i]), None)
    if start is not None:
        for i in range(start + 1, len(lines)):
            if lines[i].strip() and not lines[i][0].isspace():
                return start, i
    for pattern in (_EXCEPTION, _COMPLAINT, re.compile(r"\S")):
        for i in range(len(lines) - 1, max(len(lines) - 200, -1), -1):
            if pattern.search(lines[i][:2000]):
                return (i if pattern is _EXCEPTION else start), i
    return start, None


def _last_match(pattern: re.Pattern[str], lines: list[str], preferred: str) -> str:
    if pattern.search(preferred):
        return preferred
    return next(
        (line for line in reversed(lines) if pattern.search(line[:2000])), preferred or "out of memory"
    )


def _where(lines: list[str], tree: Path) -> str | None:
    """Give FILE:LINE of the deepest frame whose file is the project's own, relative to `tree`."""
    roots = {f"{tree}/", f"{os.path.realpath(tree)}/"}
    dump = next((i for i in range(len(lines) - 1, -1, -1) if _CRASH_DUMP in lines[i]), None)
    last = next((i for i in range(len(lines) - 1, -1, -1) if _TRACEBACK in lines[i]), -1)
    frames = [match for line in lines for match in _FRAME.finditer(line[:2000])]
    if dump is not None and dump > last:
        frames = [match for line in reversed(lines[dump:]) for match in _FRAME.finditer(line[:2000])]
    for match in reversed(frames):
        path = match[1]
        inside = next((path[len(root) :] for root in roots if path.startswith(root)), None)
        if inside is None and not path.startswith(("/", "<", "..")):
            inside = path.removeprefix("./")  # relative to where it was started
        if inside and not inside.startswith("<") and ".." not in inside and not _FOREIGN.search(inside):
            return f"{one_line(inside, 120)}:{match[2]}"
    return None


def _ending(outcome: str, exit_code: int | None, signal: int | None) -> str:
    if outcome == "ok":
        return "the run ended well, but gave no metric that counts,"
    if outcome != "error":
        words = {"timeout": "the run was ended", "infra": "the machine failed", "protected": "the run ended"}
        return words.get(outcome, f"the run was {one_line(outcome, 20)}")
    return (
        f"the run ended by {_signal_name(signal)}" if signal else f"the run ended with exit code {exit_code}"
    )


def _signal_name(signal: int | None) -> str:
    try:
        return Signals(signal or 0).name
    except ValueError:
        return f"signal {signal}"


def _memory(peak_gb: float | None, incumbent_gb: float | None) -> list[str]:
    if peak_gb is None:
        return []
    text = f"peak memory {peak_gb:.1f} GB"
    if incumbent_gb:
        text += f", {peak_gb / incumbent_gb:.2g} times the incumbent's {incumbent_gb:.1f} GB"
    return [text]


def _body(lines: list[str], start: int | None, end: int | None, room: int) -> str:
    """Quote the last traceback and the last lines in at most `room` bytes."""
    if start is None or end is None or len(lines) - end < 20:
        return quote("\n".join(_unlike(lines[start or 0 :])), room)
    trace = quote("\n".join(_unlike(lines[start : end + 5])), room * 2 // 3)
    rest = quote("\n".join(_unlike(lines[end + 5 :])), room - len(trace.encode()) - 1)
    return f"{trace}\n{rest}"


def _unlike(lines: list[str]) -> list[str]:
    """Leave the last of several lines in a row that differ only in their numbers; cut long ones."""
    kept: list[str] = []
    shapes: list[str] = []
    counts: list[int] = []
    for line in (line[:300] for line in lines):
        shape = re.sub(r"\d+", "0", line)
        if shapes and shape == shapes[-1]:
            kept[-1] = line
            counts[-1] += 1
        else:
            kept.append(line)
            shapes.append(shape)
            counts.append(1)
    return [
        f"{line} [and {n - 1} like it before]" if n > 2 else line
        for line, n in zip(kept, counts, strict=True)
    ]
