"""The parts of a document that the tool fills, between two marks, and the places it leaves to the agent.

A part stands between `<!-- filled: NAME -->` and `<!-- end: NAME HASH -->`; the hash is of what was written.
A part that somebody has edited since has another one and stays as it is. Everything else is theirs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.redact import one_line

_PART = re.compile(
    r"<!-- filled: ([a-z][a-z-]*) -->[ \t]*\r?\n(.*?)<!-- end: \1(?: ([0-9a-f]{8}))? -->", re.DOTALL
)
_PLACE = re.compile(r"<!-- agent: (.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Something the agent still has to write, from the line it stands in (from 1)."""

    line: int
    text: str


def names(text: str) -> list[str]:
    """The parts a text has, in its order."""
    return [found[1] for found in _PART.finditer(text)]


def edited(text: str) -> list[str]:
    """The parts that somebody has written into since they were filled."""
    return [found[1] for found in _PART.finditer(text) if _is_edited(found)]


def differing(text: str, contents: Mapping[str, Sequence[str]]) -> list[str]:
    """The parts of ours that would read otherwise now."""
    return [
        found[1]
        for found in _PART.finditer(text)
        if found[1] in contents and not _is_edited(found) and _flat(found[2]) != _text(contents[found[1]])
    ]


def filled(text: str, contents: Mapping[str, Sequence[str]]) -> str:
    """The text with each part of ours as it is now, in the text's own line endings."""
    ending = "\r\n" if "\r\n" in text else "\n"

    def fresh(found: re.Match[str]) -> str:
        if found[1] not in contents or _is_edited(found):
            return found[0]
        body = _text(contents[found[1]])
        lines = f"<!-- filled: {found[1]} -->\n{body}<!-- end: {found[1]} {_hash(body)} -->"
        return lines.replace("\n", ending)

    return _PART.sub(fresh, text)


def places(text: str) -> list[Place]:
    """What is still left to the agent."""
    return [
        Place(text.count("\n", 0, found.start()) + 1, one_line(" ".join(found[1].split()), 160))
        for found in _PLACE.finditer(text)
    ]


def _is_edited(found: re.Match[str]) -> bool:
    body = _flat(found[2])
    return bool(body.strip()) and (found[3] is None or _hash(body) != found[3])


def _flat(body: str) -> str:
    return body.replace("\r\n", "\n")


def _text(lines: Sequence[str]) -> str:
    """Lines as the body of a part: nothing in them can pass for a mark."""
    return "".join(f"{line}\n".replace("<!--", "&lt;!--") for line in lines)


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:8]
