"""What a run said about itself: its metric, its summary numbers and, when it failed, a digest of why.

A log may be a gigabyte of anything. `Scanner` reads it in pieces and holds one line; it works on bytes, since
looking for a line of a known shape there is as fast as looking for a newline. A number counts only when it is
alone on its line and written as a plain decimal: what is odd is reported, never guessed.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGKILL, Signals

from lab.errors import CONFIG, LabError
from lab.guards import FACTS
from lab.redact import ESCAPE_BYTES, clean, one_line, quote

LINE_BYTES = 64 * 1024  # a longer line is cut
PATTERN_BYTES = 4 * 1024  # the user's own pattern may be slow, and the supervisor waits for it
PIECE_BYTES = 1024 * 1024
RECENT_BYTES = 2048
SEEN_BYTES = 400
VALUES = 64
FLOOD = 128
JSON_BYTES = 1_000_000
DIGEST_BYTES = 4096
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Reading:
    """A metric as a run gave it, or the `problem`: no_metric, not_finite or ambiguous."""

    value: float | None
    problem: str | None
    detail: str  # one sentence: what was seen
    values: dict[str, float] = field(
        default_factory=dict
    )  # other finite summary numbers, the last of each name
    digit: float = 0.0  # one unit of the last digit that was printed
    facts: dict[str, str] = field(default_factory=dict)  # what it was measured on, by guards.FACTS


# --- the shapes of a line ---------------------------------------------------------------------------

# Blanks and colours between two parts. NULs lie before the text where a log was truncated under its writer.
GAP = rb"[ \t\0]*(?:" + ESCAPE_BYTES + rb"[ \t\0]*)*"
NAME = rb"([A-Za-z_][\w./%-]{0,63})"
NUMBER = rb"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,5})?"
NOT_FINITE = rb"[+-]?(?:(?i:nan|inf|infinity)(?:\(\w{0,20}\))?|1\.\#\w{1,8})"


@dataclass(frozen=True)
class Parser:
    """A way to print a number: `needle` is in every such line, `head` is all of it before the number."""

    needle: bytes
    head: Callable[[bytes], bytes]


PARSERS: dict[str, Parser] = {
    "line": Parser(b":", lambda name: name + GAP + rb":"),
    "metric": Parser(b"METRIC", lambda name: rb"METRIC[ \t]{1,8}" + name + rb"[ \t]{0,8}="),
}

# What a run says about its data is one short word; anything longer or with blanks in it is talk.
FACT = rb"[A-Za-z0-9._:+/-]{1,80}"
_FACT_NEEDLES = (b"comparison_key", b"fingerprint", b"_hash")  # one of them is in every name of FACTS
_FACT_NAMES = rb"|".join(name.encode() for name in FACTS)
_FACT = re.compile(
    rb"\n" + GAP + rb"(" + _FACT_NAMES + rb")" + GAP + rb":" + GAP + rb"(" + FACT + rb")" + GAP + rb"(?=\n)"
)
_NUMBER = re.compile(NUMBER)
_NOT_FINITE = re.compile(NOT_FINITE)
_ESCAPE = re.compile(ESCAPE_BYTES)
# Each begins with a plain newline, which the regex engine finds at the speed of memchr.
_ANY_NUMBER = {
    kind: re.compile(rb"\n" + GAP + row.head(NAME) + GAP + rb"(" + NUMBER + rb")" + GAP + rb"(?=\n)")
    for kind, row in PARSERS.items()
}


def _shape(name: bytes) -> re.Pattern[bytes]:
    heads = rb"|".join(row.head(re.escape(name)) for row in PARSERS.values())
    return re.compile(rb"\n" + GAP + rb"(?:" + heads + rb")([^\n]{0,%d})" % SEEN_BYTES)


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        compiled = re.compile(pattern.encode())
    except re.error as error:
        raise LabError(f"metric.pattern is no regular expression: {error}", "mend it", CONFIG) from error
    if compiled.groups != 1:
        hint = "put parentheses around the number, and (?:...) around other groups"
        raise LabError(f"metric.pattern has {compiled.groups} groups, not one", hint, CONFIG)
    return compiled


# --- one number -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A value as printed: kind is number, not_finite, malformed, or prose (more than a value on its line)."""

    kind: str
    text: bytes
    value: float = math.nan

    @property
    def digit(self) -> float:
        mantissa, _, exponent = self.text.lower().partition(b"e")
        decimals = len(mantissa.partition(b".")[2])
        return float(f"1e{int(exponent or b'0') - decimals}")


def _seen(raw: bytes) -> Seen:
    """Read one printed value; only a plain finite decimal is a number."""
    text = _ESCAPE.sub(b"", raw).strip(b" \t\0")
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            return Seen("not_finite", text)
        # 1e-999 would be 0 and beat every loss.
        vanished = value == 0 and re.search(rb"[1-9]", re.split(rb"[eE]", text)[0])
        return Seen("malformed", text) if vanished else Seen("number", text, value)
    if _NOT_FINITE.fullmatch(text):
        return Seen("not_finite", text)
    words = text.split()
    if len(words) == 1:
        return Seen("malformed", text)
    return Seen("not_finite" if words and _NOT_FINITE.fullmatch(words[0]) else "prose", text)


class Scanner:
    """Reads the output of a run as it comes: feed it pieces cut anywhere, then close it.

    `take`: with "only" a metric printed with two values is ambiguous; with "last" the last one counts.
    `pattern`: a regular expression with one group that finds the metric in a line, in place of `PARSERS`.
    """

    def __init__(self, name: str, take: str = "only", pattern: str | None = None) -> None:
        self.name = name
        self.take = take
        self.values: dict[str, float] = {}
        self.facts: dict[str, str] = {}
        self._needle = name.encode()
        self._shape = _shape(self._needle)
        self._pattern = _compiled(pattern) if pattern else None
        self._line = bytearray()  # the line that has no end yet
        self._skipping = False  # the rest of a line already cut
        self._recent = b""
        self._first: Seen | None = None
        self._other: Seen | None = None  # differs from the first
        self._last: Seen | None = None
        self._kinds: dict[str, Seen] = {}  # an example of each kind

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of output."""
        for start in range(0, len(chunk), PIECE_BYTES):
            self._feed(chunk[start : start + PIECE_BYTES])

    def _feed(self, piece: bytes) -> None:
        self._recent = (self._recent + piece[-RECENT_BYTES:])[-RECENT_BYTES:]
        if b"\r" in piece:
            piece = piece.replace(b"\r", b"\n")
        if self._skipping:
            start = piece.find(b"\n")
            if start < 0:
                return
            self._skipping = False
            piece = piece[start:]
        end = piece.rfind(b"\n") + 1
        if end:
            self._read(b"".join((b"\n", self._line, piece[:end])))
            self._line = bytearray(piece[end:])
        else:
            self._line += piece
        if len(self._line) > LINE_BYTES:
            self._read(b"\n" + bytes(self._line[:LINE_BYTES]) + b"\n")
            self._line.clear()
            self._skipping = True

    def _read(self, lines: bytes) -> None:
        """Look through whole lines; there is a newline before the first and after the last."""
        if self._pattern:
            self._note(self._matches(self._pattern, lines))
        elif self._needle in lines:
            self._note(self._shape.findall(lines))
        for kind, parser in PARSERS.items():
            if parser.needle in lines:
                self._keep(dict(_ANY_NUMBER[kind].findall(lines)))
        if any(needle in lines for needle in _FACT_NEEDLES):
            self.facts |= {name.decode(): text.decode() for name, text in _FACT.findall(lines)}

    def _matches(self, pattern: re.Pattern[bytes], lines: bytes) -> list[bytes]:
        if b"\x1b" in lines:
            lines = _ESCAPE.sub(b"", lines)
        found = (pattern.search(line[:PATTERN_BYTES]) for line in lines.split(b"\n"))
        return [match[1][:SEEN_BYTES] for match in found if match and match[1] is not None]

    def _note(self, found: list[bytes]) -> None:
        """Remember what matters of the printed values, however many there are."""
        distinct = list(dict.fromkeys(found))  # a value printed on a million lines is read once
        if found and distinct[-1] != found[-1]:
            distinct.append(found[-1])
        if len(distinct) > FLOOD:
            self._other = _seen(distinct[-1])  # no need to read them all to know that they differ
            distinct = [*distinct[: FLOOD // 2], *distinct[-FLOOD // 2 :]]
        for seen in map(_seen, distinct):
            self._kinds[seen.kind] = seen
            if seen.kind == "prose":
                continue
            self._last = seen
            if seen.kind == "number":
                self._first = self._first or seen
                if seen.value != self._first.value:
                    self._other = seen

    def _keep(self, found: dict[bytes, bytes]) -> None:
        for raw_name, raw in list(found.items())[-VALUES:]:
            name, seen = raw_name.decode("ascii", "ignore"), _seen(raw)
            if seen.kind == "number" and name != self.name:
                self.values.pop(name, None)  # to the end: a flood of names must not shut out the summary
                self.values[name] = seen.value
        while len(self.values) > VALUES:
            del self.values[next(iter(self.values))]

    @property
    def last_line(self) -> str:
        """The line written last, cleaned, for showing progress."""
        lines = (one_line(line, 200) for line in reversed(clean(self._recent).split("\n")))
        return next((line for line in lines if line), "")

    def close(self) -> Reading:
        """Read what is left and give the result."""
        if self._line:
            self._read(b"\n" + bytes(self._line) + b"\n")
            self._line.clear()
        return replace(self._result(), values=dict(self.values), facts=dict(self.facts))

    def _result(self) -> Reading:
        if self.take == "last":
            kinds = {self._last.kind: self._last} if self._last else self._kinds
            first, other = self._last if "number" in kinds else None, None
        else:
            kinds, first, other = self._kinds, self._first, self._other
            if first and not other:
                other = kinds.get("malformed")
        if "not_finite" in kinds:
            return Reading(None, "not_finite", f"The output says {self._said(kinds['not_finite'])}.")
        if first and other:
            both = f"{self._said(first)} and {self._said(other)}"
            return Reading(None, "ambiguous", f"The output says {both}; print it once, or set take: last.")
        if first:
            return Reading(first.value, None, f"The output says {self._said(first)}.", digit=first.digit)
        odd = kinds.get("malformed") or kinds.get("prose")
        if odd:
            return Reading(None, "no_metric", f"The output says {self._said(odd)}, which is no plain number.")
        return Reading(None, "no_metric", f"The output has no {self.name}; {self._names()}.")

    def _said(self, seen: Seen) -> str:
        return f"{self.name}: '{one_line(seen.text, 60)}'"

    def _names(self) -> str:
        if not self.values:
            return f"print it as `{self.name}: NUMBER` on a line of its own"
        return f"it has {', '.join(list(self.values)[-8:])}"


# --- metrics.json -----------------------------------------------------------------------------------


class _Token(str):
    """A JSON number as written; a quoted string stays a plain str."""


class _Pairs(list[tuple[str, object]]):
    """A JSON object that still has its doubled keys."""


def read_metrics_json(path: Path, name: str) -> Reading | None:
    """Read a metric from the top level of a JSON file; None when there is no such file."""
    text = _small_file(path)
    if text is None:
        return None
    if len(text) > JSON_BYTES:
        return Reading(None, "no_metric", f"{path.name} is over {JSON_BYTES} bytes and was not read.")
    try:
        data = json.loads(
            text, object_pairs_hook=_Pairs, parse_float=_Token, parse_int=_Token, parse_constant=_Token
        )
    except (ValueError, RecursionError) as error:
        return Reading(None, "no_metric", f"{path.name} is no JSON: {one_line(str(error), 100)}.")
    if not isinstance(data, _Pairs):
        return Reading(None, "no_metric", f"{path.name} holds no object at its top level.")
    return _from_pairs(data, path.name, name)


def _small_file(path: Path) -> bytes | None:
    """The start of a regular file; never waits for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(JSON_BYTES + 1)


def _from_pairs(pairs: _Pairs, file: str, name: str) -> Reading:
    values: dict[str, float] = {}
    mine: list[Seen] = []
    for key, value in pairs:
        seen = (
            _seen(value.encode())
            if isinstance(value, _Token)
            else Seen("malformed", repr(value)[:60].encode())
        )
        if key == name:
            mine.append(seen)
        elif seen.kind == "number":
            values[one_line(key, 64)] = seen.value
    kept = dict(list(values.items())[-VALUES:])
    return replace(_of_file(mine, kept, file, name), facts=_facts(pairs))


def _facts(pairs: _Pairs) -> dict[str, str]:
    """The facts among the values of a file; a fingerprint of digits alone is a number there."""
    texts = {key: value for key, value in pairs if key in FACTS and isinstance(value, str)}
    return {key: str(text) for key, text in texts.items() if re.fullmatch(FACT.decode(), text)}


def _of_file(mine: list[Seen], kept: dict[str, float], file: str, name: str) -> Reading:
    if not mine:
        return Reading(None, "no_metric", f"{file} has no {name}.", kept)
    texts = " and ".join(dict.fromkeys(f"'{one_line(seen.text, 60)}'" for seen in mine))
    kinds = {seen.kind for seen in mine}
    says = f"{file} says {name}: {texts}"
    if "not_finite" in kinds:
        return Reading(None, "not_finite", f"{says}.", kept)
    if kinds != {"number"}:
        return Reading(None, "no_metric", f"{says}, which is no number.", kept)
    if len({seen.value for seen in mine}) > 1:
        return Reading(None, "ambiguous", f"{says}.", kept)
    return Reading(mine[0].value, None, f"{says}.", kept, mine[0].digit)


def combine(log: Reading, file: Reading | None) -> Reading:
    """One reading of both; a file without the metric adds its other values; two that differ are none."""
    if file is None:
        return log
    values = {**log.values, **file.values}
    values = dict(list(values.items())[-VALUES:])
    facts = {**file.facts, **log.facts}
    return replace(_combined(log, file, values), facts=facts)


def _combined(log: Reading, file: Reading, values: dict[str, float]) -> Reading:
    if file.problem == "no_metric":
        detail = f"{log.detail} {file.detail}" if log.problem else log.detail
        return replace(log, values=values, detail=detail)
    if log.problem == "no_metric":
        return replace(file, values=values)
    if file.problem or log.problem:
        worst = file if file.problem else log
        return replace(worst, values=values)
    if not _agree(log, file):
        both = f"The output says {log.value}, the file says {file.value}."
        return Reading(None, "ambiguous", both, values)
    exact = file if file.digit < log.digit else log
    return replace(exact, values=values)


def _agree(one: Reading, other: Reading) -> bool:
    """Equal, or one is the other rounded for printing."""
    assert one.value is not None and other.value is not None
    difference = abs(one.value - other.value)
    rounding = 0.51 * max(one.digit, other.digit)
    return difference == 0 or difference <= min(rounding, 1e-3 * abs(other.value))


# --- why a run failed -------------------------------------------------------------------------------


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
