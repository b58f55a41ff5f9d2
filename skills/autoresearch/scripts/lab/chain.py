"""The hash chain of the journal: each record ends in a `link` made from its own bytes and the link before it.

A flipped byte, a line that was changed, taken out, put in or moved breaks the chain at a line with a number.
Lines of a release without links stand before the first link, which covers all of them at once.
"""

from __future__ import annotations

import hashlib

KEY = b',"link":"'
END = b'"}'
DIGITS = 32
_TAIL = len(KEY) + DIGITS + len(END)


def digest(data: bytes | memoryview) -> str:
    """The hash that links and snapshots use."""
    return hashlib.blake2b(data, digest_size=DIGITS // 2).hexdigest()


def linked(body: bytes, before: str) -> bytes:
    """The line of a record: its JSON `body` with the link that ties it to the link `before` it."""
    return body[:-1] + KEY + digest(before.encode() + body).encode() + END + b"\n"


def link_of(line: bytes) -> str:
    """The link that a line states (with or without its newline), or ""."""
    line = line.removesuffix(b"\n")
    if line[-_TAIL : -_TAIL + len(KEY)] != KEY or not line.endswith(END):
        return ""
    return line[-len(END) - DIGITS : -len(END)].decode("ascii", "replace")


class Chain:
    """Reads lines in order and remembers which of them do not fit.

    `link` is the last one seen, `begins` the line from which the chain is held (None: nowhere yet), and
    `broken` the first line that does not follow from those before it.
    """

    def __init__(self, before: bytes = b"", line: int = 0) -> None:
        """Start behind the bytes `before`, which are `line` whole lines taken as they are."""
        last = before[before.rfind(b"\n", 0, -1) + 1 :]
        self.line = line
        self.link = link_of(last)
        self.begins = line if self.link else None
        self.broken: int | None = None
        self._plain = hashlib.blake2b(b"" if self.link else before, digest_size=DIGITS // 2)

    def take(self, line: bytes) -> bool:
        """Look at the next line (without its newline); False when it does not follow."""
        self.line += 1
        stated = link_of(line)
        if not stated:
            self._plain.update(line + b"\n")
            return self.begins is None or self._break()
        before, self.link = self.end, stated
        if self.begins is None:
            self.begins = self.line
        body = line[:-_TAIL] + b"}"
        return digest(before.encode() + body) == stated or self._break()

    def _break(self) -> bool:
        self.broken = self.broken or self.line
        return False

    @property
    def end(self) -> str:
        """What the next record's link is made from."""
        return self.link or self._plain.hexdigest()
