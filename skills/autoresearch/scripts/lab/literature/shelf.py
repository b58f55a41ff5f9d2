"""What the services answered, kept on disk for 30 days, and until when one of them is not to be asked.

A folder of small files that only saves questions: whatever is damaged there counts as not there, and a place
that cannot be written is told and stops nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from lab.atomic import TEMPORARY, write_atomic
from lab.literature.papers import Paper, again, mapped
from lab.model import Record
from lab.steps import step

FRESH = 30 * 86_400.0  # seconds
MOST = 400  # files; the oldest go
SHOWN = "shown"  # the place of the merged list, beside those of the services


class Shelf:
    """The folder `place`, made when something is first put there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.trouble = ""  # why it could not be written

    def papers(self, source: str, words: str) -> tuple[list[Paper], float] | None:
        """What is kept of a service's answer, and when that was; None when there is nothing."""
        found = self._load(_file(source, words))
        at, rows = found.get("at"), found.get("papers")
        if not isinstance(at, float) or not isinstance(rows, list):
            return None
        return [paper for row in rows[:100] if (paper := again(row))], at

    def put(self, source: str, words: str, papers: Sequence[Paper], at: float) -> None:
        """Keep an answer."""
        rows = [paper.record for paper in papers]
        self._save(_file(source, words), {"at": at, "words": words, "papers": rows})

    def earliest(self, source: str) -> tuple[float, float]:
        """When the service was asked last, and until when it wants peace; 0 for unknown."""
        found = self._load(f"{source}-when.json")
        asked, until = found.get("asked"), found.get("until")
        soon = time.time() + FRESH  # a clock that was wrong must not silence a service for ever
        return tuple(t if isinstance(t, float) and t < soon else 0.0 for t in (asked, until))  # type: ignore[return-value]

    def asked(self, source: str, at: float, until: float | None) -> None:
        """Note that a service was asked, and until when it wants peace."""
        self._save(f"{source}-when.json", {"asked": at, "until": until})

    def tidy(self) -> None:
        """Remove the oldest files over the limit, and what killed writers left."""
        try:
            files = sorted(self.place.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
            stale = [p for p in files[:MOST] if p.name.endswith(TEMPORARY) and _older(p, 3600)]
            for path in [*files[MOST:], *stale]:
                path.unlink(missing_ok=True)
        except OSError:
            pass  # somebody else tidies up, or nothing was ever written

    def _load(self, name: str) -> dict[str, object]:
        try:
            return mapped(json.loads((self.place / name).read_bytes()))
        except (OSError, ValueError, RecursionError):
            return {}

    def _save(self, name: str, content: Record) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self.place / name, json.dumps(content), 0o600, durable=False, name="papers_kept")
            step("papers_kept")
        except OSError as error:
            self.trouble = f"{self.place}: {error.strerror}"


def _file(source: str, words: str) -> str:
    return f"{source}-{hashlib.sha256(words.encode()).hexdigest()[:24]}.json"


def _older(path: Path, seconds: float) -> bool:
    return time.time() - os.lstat(path).st_mtime > seconds
