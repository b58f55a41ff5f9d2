"""Full-text search in what is remembered: SQLite's FTS5 over the entries, a plain scan where that is missing.

The index is a copy that may be deleted at any time: it is made anew when a file of memories/ has changed.
What is indexed and asked are words of `likeness.words`, so that no sign in a query means anything to SQLite.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import ideas, memory
from lab.agenda import AGENDA
from lab.likeness import words
from lab.memory import Entry

if TYPE_CHECKING:
    import sqlite3

FORMAT = "1"  # of the index: another one is made anew
MOST_WORDS = 32  # of a query
SHORTEST_PREFIX = 3  # from here on a word also finds longer ones
SETTLED_SECONDS = 2.0  # a file changed since then may change once more within one tick of its clock


@dataclass(frozen=True)
class Found:
    """What a search gave: the best entries, how many matched, how many there are, and what searched."""

    hits: list[Entry]
    matching: int
    known: int
    by: str  # fts5 or scan


def recall(root: Path, index: Path | None, query: str, count: int) -> Found:
    """The entries that fit `query` best; `index` is where the index may be kept. Never raises for a query."""
    asked = list(dict.fromkeys(words(query)))[:MOST_WORDS]
    try:
        import sqlite3  # 0.01 s, and some builds of Python lack it
    except ImportError:
        return scan(everything(root), asked, count)
    try:
        with contextlib.closing(_opened(root, index)) as base:
            return _searched(base, asked, count)
    except (sqlite3.Error, ValueError):  # no FTS5, or an index that is no database
        return scan(everything(root), asked, count)


def everything(root: Path) -> list[Entry]:
    """The entries of memories/ and the ideas that were tested or set aside, which are knowledge too."""
    known = memory.entries(root)
    for idea in ideas.agenda(root):
        if idea.state != "QUEUED":
            words_of_it = "\n".join(filter(None, [idea.because, idea.reason, ", ".join(idea.results)]))
            known.append(Entry(idea.id, "idea", idea.text, words_of_it, AGENDA, 0, state=idea.state))
    return known


def scan(known: Sequence[Entry], asked: Sequence[str], count: int) -> Found:
    """Search without an index: entries with more of the words first, the title counting most."""
    scored = []
    for entry in known:
        title, text = words(entry.title), words(entry.text)
        score = sum(3 * _has(title, word) + _has(text, word) for word in asked)
        if score:
            scored.append((score, entry))
    scored.sort(key=lambda pair: -pair[0])
    return Found([entry for _, entry in scored[:count]], len(scored), len(known), "scan")


def _has(found: Sequence[str], word: str) -> bool:
    return any(_matches(each, word) for each in found)


def _matches(found: str, word: str) -> bool:
    return found.startswith(word) if len(word) >= SHORTEST_PREFIX else found == word


# -- the index ---------------------------------------------------------------------------------------------


def _searched(base: sqlite3.Connection, asked: Sequence[str], count: int) -> Found:
    known = int(base.execute("SELECT count(*) FROM entries").fetchone()[0])
    if not asked:
        return Found([], 0, known, "fts5")
    match = " OR ".join(f'"{word}"{"*" if len(word) >= SHORTEST_PREFIX else ""}' for word in asked)
    where = "FROM entries WHERE entries MATCH ?"
    matching = int(base.execute(f"SELECT count(*) {where}", (match,)).fetchone()[0])
    best = f"SELECT entry {where} ORDER BY bm25(entries, 3.0, 1.0), rowid LIMIT ?"
    hits = [_thawed(row[0]) for row in base.execute(best, (match, count))]
    return Found(hits, matching, known, "fts5")


def _thawed(text: str) -> Entry:
    fields = json.loads(text)
    return Entry(**{**fields, "evidence": tuple(fields["evidence"])})


def _opened(root: Path, index: Path | None) -> sqlite3.Connection:
    """The index, as it is when it is true, made anew when it is not; in memory where none may be kept."""
    import sqlite3

    if index is None or not index.parent.is_dir():
        base = sqlite3.connect(":memory:")
        _fill(base, everything(root), "", "")
        return base
    stamp, newest = _stamp(root)
    facts = _facts(index)
    if facts.get("stamp") != stamp or not stamp:
        content = _content(root)
        settled = stamp if time.time() - newest > SETTLED_SECONDS else ""
        if facts.get("content") != content:
            _rebuild(root, index, settled, content)
        elif settled:
            _restamp(index, settled)
    return sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)


def _sources(root: Path) -> list[Path]:
    agenda = root / AGENDA
    return [*memory.files(root), *([agenda] if agenda.is_file() else [])]


def _stamp(root: Path) -> tuple[str, float]:
    """Names, times and sizes of the files, and the newest time: what one look can tell without reading."""
    rows, newest = [FORMAT], 0.0
    for path in _sources(root):
        with contextlib.suppress(OSError):
            seen = path.stat()
            rows.append(f"{os.fsencode(path).hex()} {seen.st_mtime_ns} {seen.st_size}")
            newest = max(newest, seen.st_mtime)
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest(), newest


def _content(root: Path) -> str:
    digest = hashlib.blake2b(FORMAT.encode(), digest_size=16)
    for path in _sources(root):
        with contextlib.suppress(OSError):
            digest.update(os.fsencode(path) + b"\0" + hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def _facts(index: Path) -> dict[str, str]:
    """What the index says of itself; {} when there is none, or it is no index."""
    import sqlite3

    if not index.is_file():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)) as base:
            return dict(base.execute("SELECT name, value FROM facts"))
    except sqlite3.Error:
        return {}


def _rebuild(root: Path, index: Path, stamp: str, content: str) -> None:
    """Make the index beside the old one and put it in its place: a reader sees the one or the other."""
    import sqlite3

    fresh = index.with_name(f"{index.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(fresh)) as base:
            base.execute("PRAGMA journal_mode = OFF")
            base.execute("PRAGMA synchronous = OFF")
            _fill(base, everything(root), stamp, content)
        fresh.replace(index)
    finally:
        fresh.unlink(missing_ok=True)


def _restamp(index: Path, stamp: str) -> None:
    """Note that the files look different and hold the same; when another process is at it, that one does."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(index)) as base:
        base.execute("UPDATE facts SET value = ? WHERE name = 'stamp'", (stamp,))
        base.commit()


def _fill(base: sqlite3.Connection, known: Sequence[Entry], stamp: str, content: str) -> None:
    base.execute(
        "CREATE VIRTUAL TABLE entries USING fts5(title, body, entry UNINDEXED, tokenize = 'unicode61')"
    )
    base.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)")
    rows = [
        (" ".join(words(e.title)), " ".join(words(e.text)), json.dumps(dataclasses.asdict(e))) for e in known
    ]
    base.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
    base.executemany("INSERT INTO facts VALUES (?, ?)", [("stamp", stamp), ("content", content)])
    base.commit()
