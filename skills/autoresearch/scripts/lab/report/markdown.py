"""Text and tables in Markdown that no reader takes for anything else."""

from __future__ import annotations

from collections.abc import Sequence


def plain(text: str) -> str:
    """Text that no Markdown reader takes for a tag, a cell or a mark."""
    for sign, word in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "/"), ("`", "'")):
        text = text.replace(sign, word)
    for sign in "*[]":  # an underscore inside a word means nothing in Markdown
        text = text.replace(sign, "\\" + sign)
    return text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, its cells each on one line."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(plain(" ".join(cell.split())) for cell in row) + " |" for row in rows]
