"""What a run said about itself: its metric and its summary numbers.

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

from lab.errors import CONFIG, LabError
from lab.guards import FACTS
from lab.redact import ESCAPE_BYTES, clean, one_line

LINE_BYTES = 64 * 1024  # a longer line is cut
PATTERN_BYTES = 4 * 1024  # the user's own pattern may be slow, and the supervisor waits for it
PIECE_BYTES = 1024 * 1024
RECENT_BYTES = 2048
SEEN_BYTES = 400
VALUES = 64
FLOOD = 128
JSON_BYTES = 1_000_000


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
