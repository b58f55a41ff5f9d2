"""One change taken back out of a text that went on: hunk by hunk, where its own lines stand as it left them.

A three-way merge refuses when a neighbouring line was changed later too, which is how constants stand. Here
only the lines of the change itself must be untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher


def taken_out(now: Sequence[str], before: Sequence[str], after: Sequence[str]) -> list[str] | None:
    """The lines `now` with the change before→after taken back; None where later changes touch it."""
    where = _places(after, now)
    found, done = list(now), len(now)
    for _, first, end, was, had in reversed(_hunks(after, before)):
        place = _place(where, first, end)
        if place is None or place[1] > done:
            return None
        found[place[0] : place[1]] = before[was:had]
        done = place[0]
    return found


def _hunks(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return [hunk for hunk in matcher.get_opcodes() if hunk[0] != "equal"]


def _places(one: Sequence[str], other: Sequence[str]) -> dict[int, int]:
    """Line of `one` -> the same line in `other`; lines that are gone are left out."""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return {b.a + n: b.b + n for b in matcher.get_matching_blocks() for n in range(b.size)}


def _place(where: dict[int, int], first: int, end: int) -> tuple[int, int] | None:
    """Where the lines first..end stand now, in one piece; of none, the gap between their neighbours."""
    if first < end:
        lines = [where.get(n) for n in range(first, end)]
        start = lines[0]
        whole = start is not None and lines == list(range(start, start + len(lines)))
        return (start, start + len(lines)) if whole and start is not None else None
    above = where.get(first - 1, -1 if first == 0 else None)
    if above is not None:
        return above + 1, above + 1
    below = where.get(first)
    return None if below is None else (below, below)
