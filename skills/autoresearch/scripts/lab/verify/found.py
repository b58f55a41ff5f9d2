"""What was looked at, and what does not fit: the answer of `verify`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Misfit:
    """Something that cannot have come about by itself; `line` is None where it speaks against no one line."""

    line: int | None
    what: str
    text: str

    def __str__(self) -> str:
        place = f"journal.jsonl:{self.line} " if self.line else ""
        return f"{place}({self.what}): {self.text}"


@dataclass
class Findings:
    """What was looked at, and what does not fit, first line first."""

    records: int = 0
    held_from: int | None = None  # the line from which the chain is held
    experiments: int = 0
    exported: int = 0  # commits exported again
    reread: int = 0  # runs whose number was read again from their log
    unread: int = 0  # runs that have no log any more
    misfits: list[Misfit] = field(default_factory=list)

    def add(self, line: int | None, what: str, text: str) -> None:
        """Note one more misfit."""
        self.misfits.append(Misfit(line, what, text))
