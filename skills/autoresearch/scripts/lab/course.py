"""How the numbers of a run went: each series of a log in one short line, whatever program printed it.

A series is a name with a number beside it (`loss 1.5`, `loss: 1.5`, `loss=1.5`) that comes back. Only plain
names and the numbers themselves leave the log, so that nothing else of its text can.
"""

from __future__ import annotations

import re

NAME = rb"(?<![\w.])([A-Za-z_][\w./-]{0,39})"
NUMBER = rb"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
PAIR = re.compile(NAME + rb"(?:\s*[:=]\s*|[ \t]+)" + NUMBER)
COUNTERS = {b"step", b"epoch", b"iter", b"iteration", b"pass", b"batch", b"round", b"it"}
LEAST = 4  # values that make a series
SPOTS = 6  # values shown of it
SERIES = 6
READ = 4_000_000  # bytes of a log


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
