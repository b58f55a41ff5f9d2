"""A diff cut to what a person reads."""

from __future__ import annotations

from dataclasses import dataclass

from lab.redact import clean

DIFF_LINES, DIFF_BYTES = 60, 3_500


@dataclass(frozen=True)
class Line:
    """One line of a diff: its first sign, and the text."""

    kind: str
    text: str


def diff_lines(text: str) -> list[Line]:
    """A diff cut to what a person reads; its headers are told by one line a file."""
    lines: list[Line] = []
    size, whole = 0, clean(text[: 40 * DIFF_BYTES]).replace("\t", "    ").split("\n")
    for line in whole:
        kind = _kind(line)
        if kind is None:
            continue
        size += len(line.encode())
        if len(lines) >= DIFF_LINES or size > DIFF_BYTES:
            lines.append(Line("cut", "… the rest is cut"))
            break
        lines.append(
            Line(kind, line[:300] if kind != "file" else line.removeprefix("+++ ").removeprefix("b/"))
        )
    return lines


def _kind(line: str) -> str | None:
    """What a line of a unified diff is; None for a header that says nothing to a reader."""
    if line.startswith(
        ("diff --git", "index ", "--- ", "new file", "deleted file", "old mode", "new mode", "\\")
    ):
        return None
    if line.startswith("+++ "):
        return "file"
    return {"@": "at", "+": "plus", "-": "minus"}.get(line[:1], "same" if line else None)
