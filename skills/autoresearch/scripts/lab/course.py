"""How the numbers of a run went: every series of a log, whatever program printed it.

A series is a name with a number beside it (`loss 1.5`, `loss: 1.5`, `"loss": 1.5`) that comes back. Only
plain names and the numbers themselves leave the log, so that nothing else of its text can.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

NAME = rb"(?<![\w.])([A-Za-z_][\w./-]{0,39})"
PLAIN = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
NUMBER = rb"(" + PLAIN + rb")(?![\w.])"
PAIR = re.compile(NAME + rb"(?:\s*[:=]\s*|[ \t]+)" + NUMBER)
# The same with what only a diagnosis needs: nan and inf, quotes around the name, a bracket before the number.
ANY = rb"(" + PLAIN + rb"|[-+]?(?i:nan|inf|infinity))(?![\w.]|,\d{3})"
LOOSE = re.compile(NAME + rb"(?:[\"\']?[ \t]*[:=][ \t]*|[ \t]+)\[?" + ANY)
SPEED = re.compile(rb"(?<![\w.])(\d[\d,]*\.?\d*)[ ]?((?:tokens?|tok|samples?|it|steps?)/s(?:ec)?)(?!\w)")
COUNTERS = {b"step", b"epoch", b"iter", b"iteration", b"pass", b"batch", b"round", b"it"}
LEAST = 4  # values that make a series
SPOTS = 6  # values shown of it
SERIES = 6
READ = 4_000_000  # bytes of a log
MOST_SERIES = 48  # read of one log
POINTS = 1500  # kept of one series
LINE_BYTES = 4096


def course(log: bytes) -> list[str]:
    """`name: first, ..., last (n values)` for each of the first six series that vary."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in PAIR.findall(log[:READ]):
        if name.lower() not in COUNTERS:
            found.setdefault(name, []).append(value)
    moving = [(name, values) for name, values in found.items() if len(values) >= LEAST and len({*values}) > 1]
    return [_line(name, values) for name, values in moving[:SERIES]]


def _line(name: bytes, values: list[bytes]) -> str:
    last = len(values) - 1
    spots = sorted({round(i * last / (SPOTS - 1)) for i in range(SPOTS)})
    shown = ", ".join(f"{float(values[i]):.5g}" for i in spots)
    return f"{name.decode()}: {shown} ({len(values)} values, evenly from first to last)"


# -- every point, for a diagnosis ----------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """The values of one name; `x` is the step counter beside each, or its place in the log."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.y)

    def thin(self, points: int) -> Series:
        """At most `points` of it, both ends and every value that is not finite among them."""
        if len(self) <= points:
            return self
        last = len(self) - 1
        keep = {round(i * last / (points - 1)) for i in range(points)}
        keep |= set([i for i, value in enumerate(self.y) if not math.isfinite(value)][:points])
        spots = sorted(keep)
        return Series(tuple(self.x[i] for i in spots), tuple(self.y[i] for i in spots))


def every(log: bytes) -> dict[str, Series]:
    """All series of a log, a value printed once included, in the order of their first line."""
    points: dict[bytes, tuple[list[float], list[float]]] = {}
    counter, place = b"", 0.0
    for number, line in enumerate(_both_ends(log).splitlines()):
        pairs = LOOSE.findall(line[:LINE_BYTES])
        pairs += [(unit, value.replace(b",", b"")) for value, unit in SPEED.findall(line[:LINE_BYTES])]
        for name, value in pairs:
            key = name.lower()
            # The finest counter of a log counts: of `epoch 3 step 120` the step.
            finest = counter in (b"", key) or (counter == b"epoch" and key != b"epoch")
            if key in COUNTERS and finest and math.isfinite(float(value)):
                counter, place = key, float(value)
        for name, value in pairs:
            if name not in points and len(points) >= MOST_SERIES:
                continue
            xs, ys = points.setdefault(name, ([], []))
            xs.append(place if counter else float(number))
            ys.append(float(value))
    found = {name.decode(): Series(tuple(xs), tuple(ys)).thin(POINTS) for name, (xs, ys) in points.items()}
    return dict(found)


def _both_ends(log: bytes) -> bytes:
    """All of a log up to the limit, else its two ends."""
    return log if len(log) <= READ else log[: READ // 2] + b"\n" + log[-READ // 2 :]


def from_rows(rows: list[object]) -> dict[str, Series]:
    """The series of a curve file: objects of names and numbers, one a row."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            continue
        numbers = {
            str(k)[:40]: float(v)
            for k, v in row.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool)
        }
        x = next(
            (numbers[name] for name in ("step", "iter", "iteration", "epoch") if name in numbers), number
        )
        for name, value in list(numbers.items())[:MOST_SERIES]:
            xs, ys = points.setdefault(name, ([], []))
            xs.append(float(x))
            ys.append(value)
    return {name: Series(tuple(xs), tuple(ys)).thin(POINTS) for name, (xs, ys) in points.items()}
