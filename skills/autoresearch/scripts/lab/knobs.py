"""Knobs: numeric constants on top of a Python file, each with the range a sweep may turn it in.

One grammar for the comment beside a constant and for autoresearch.yaml: `1e-4..1e-1 log` or `one of 1, 2, 4`;
in a comment `range` stands before the first. The source is read, never run.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Value = int | float | str | bool

NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})(\s+log)?\b")
CHOICES = re.compile(r"one of\s+(.+)")
HINT = "write 1e-4..1e-1, 1e-4..1e-1 log, or one of 1, 2, 4"
DIGITS = 4  # of a proposed number: what a file shows is what was measured
MOST = 16  # knobs of one sweep


@dataclass(frozen=True)
class Knob:
    """What a knob may be: a number between `low` and `high`, or one of `choices`."""

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()

    def fitted(self, value: Value, whole: bool) -> Value:
        """The value as it is written into the file: few digits, within the range."""
        if self.choices:
            return value
        assert self.low is not None and self.high is not None
        number = float(value)
        if whole:
            return int(min(max(round(number), math.ceil(self.low)), math.floor(self.high)))
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)

    @property
    def words(self) -> str:
        """The knob in the grammar."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        return f"{self.low:g}..{self.high:g}" + (" log" if self.log else "")


@dataclass(frozen=True)
class Constant:
    """Where a constant stands in a file and what it is now (None: no plain value)."""

    name: str
    value: Value | None
    line: int  # from 1
    column: int  # in bytes, of the value
    end_line: int
    end_column: int
    comment: str = ""  # behind it on its line

    @property
    def whole(self) -> bool:
        """Whether it counts something."""
        return isinstance(self.value, int) and not isinstance(self.value, bool)


def knob_of(name: str, text: str) -> Knob:
    """Read the grammar. Raises ValueError, in words, for what is none or has no room."""
    chosen = CHOICES.fullmatch(text.strip())
    if chosen:
        return choices_of(name, [part.strip() for part in chosen[1].split(",") if part.strip()])
    found = RANGE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"is {text!r}, which is no range")
    return range_of(name, float(found[1]), float(found[2]), bool(found[3]))


def range_of(name: str, low: float, high: float, log: bool) -> Knob:
    """A knob between two numbers."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"goes from {low:g} to {high:g}, which leaves no room")
    if log and low <= 0:
        raise ValueError(f"begins at {low:g}, and a log range begins above 0")
    return Knob(name, low, high, log)


def choices_of(name: str, texts: Sequence[str]) -> Knob:
    """A knob that is one of these, each a plain Python value or a word."""
    values = tuple(dict.fromkeys(_literal(text) for text in texts))
    if len(values) < 2:
        raise ValueError("leaves no choice")
    return Knob(name, choices=values)


def _literal(text: str) -> Value:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float, str, bool)) else text


# -- in a file -----------------------------------------------------------------------------------------


def constants(source: str) -> list[Constant]:
    """Every constant at the top of a Python file, in its order; one that is set twice is left out."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    lines = source.encode().split(b"\n")
    found = list(_assigned(tree, lines))
    names = [one.name for one in found]
    return [one for one in found if names.count(one.name) == 1]


def _assigned(tree: ast.Module, lines: list[bytes]) -> Iterator[Constant]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, ast.AnnAssign) and node.value:
            target = node.target
        else:
            continue
        value = node.value
        if not isinstance(target, ast.Name) or value is None or value.end_lineno is None:
            continue
        end = value.end_col_offset or 0
        behind = lines[value.end_lineno - 1][end:].decode("utf-8", "replace")
        comment = behind.partition("#")[2].strip()
        yield Constant(
            target.id, _plain(value), value.lineno, value.col_offset, value.end_lineno, end, comment
        )


def _plain(node: ast.expr) -> Value | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (int, float, str, bool)) else None


def marked(found: Sequence[Constant]) -> Iterator[tuple[Constant, Knob]]:
    """The constants whose comment says what they may be; one that says it badly raises ValueError."""
    for one in found:
        at = re.search(rf"\brange\s+({RANGE.pattern})", one.comment)
        chosen = None if at else CHOICES.search(one.comment)
        if at and _is_number(one.value):
            yield one, knob_of(one.name, at[1])
        elif chosen and one.value is not None:
            yield one, knob_of(one.name, chosen[0])


def _is_number(value: Value | None) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def written(source: str, values: Mapping[str, Value]) -> str:
    """The source with these constants set; KeyError names one that is not there."""
    there = {one.name: one for one in constants(source)}
    text = source.encode()
    starts = [0]
    for line in text.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    places = [(there[name], value) for name, value in values.items()]
    # From the end, so that no place moves before it is used.
    for one, value in sorted(places, key=lambda place: place[0].line, reverse=True):
        begin, end = starts[one.line - 1] + one.column, starts[one.end_line - 1] + one.end_column
        text = text[:begin] + repr(value).encode() + text[end:]
    return text.decode()
