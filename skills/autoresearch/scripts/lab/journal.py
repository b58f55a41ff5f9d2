"""Append-only record of every experiment: one JSON object a line, replayed to know the present.

A line is written whole, flushed and fsynced before the caller acts on it. What a crash leaves
behind is at most one line without a newline; it never counted and is dropped before the next append.
Every line is linked to the ones before it (`chain.py`): what was changed afterwards shows.
"""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

from lab.atomic import sync_file, sync_folder, write_atomic
from lab.chain import Chain, digest, link_of, linked
from lab.changes import apply
from lab.errors import BUSY, LabError
from lab.frozen import freeze, thaw
from lab.model import SCHEMA, Record, State, now
from lab.steps import step

# A replay reads about 150,000 records a second; below this many bytes a snapshot saves nothing.
SNAPSHOT_EVERY_BYTES = 1 << 18


class Journal:
    """The journal of one campaign folder, with the state its records give.

    `notices` tells what loading had to mend. The caller holds the state lock around `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.snapshot_path = path.with_name("snapshot.json")
        self.state = State()
        self.notices: list[str] = []
        self.broken: int | None = None  # the first line that does not follow from those before it
        self._end = digest(b"")  # what the next record's link is made from
        self._good = 0  # bytes up to the end of the last whole line
        self._size = 0  # bytes in the file, a torn tail included
        self._snapshot_at = 0
        self._inode = 0  # of the file that the state comes from

    def load(self) -> State:
        """Read the journal and replay it; a damaged line in the middle is an error that names it."""
        gc.disable()  # nothing here becomes garbage, and ten thousand new objects would be searched for it
        try:
            return self._load_more() or self._load()
        finally:
            gc.enable()

    def _load_more(self) -> State | None:
        """Replay what was written since this object last looked; None when that is not all there is to do."""
        if not self._good or not self.path.exists():
            return None
        with self.path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_ino != self._inode or facts.st_size < self._good:
                return None
            file.seek(self._good)
            tail = file.read()
        whole = tail.rfind(b"\n") + 1
        chain, lines = Chain(), tail[:whole].split(b"\n")[:-1]
        chain.link, chain.begins = self._end, 0
        if not all(chain.take(line) for line in lines):
            return None
        try:
            for line in lines:
                self._replay_line(line, chain.line)
        except LabError:
            return None  # which line that is the whole file tells
        self._size, self._good, self._end = self._good + len(tail), self._good + whole, chain.end
        if self._good < self._size:
            self._say_torn()
        return self.state

    def _say_torn(self) -> None:
        self.notices.append(
            f"the journal's last line was cut short ({self._size - self._good} bytes); it never counted"
        )

    def _load(self) -> State:
        data = self.path.read_bytes() if self.path.exists() else b""
        self._inode = self.path.stat().st_ino if data else 0
        self._size = len(data)
        self._good = data.rfind(b"\n") + 1
        if self._good < len(data):
            self._say_torn()
        start, lines, self.state = self._from_snapshot(data)
        self._snapshot_at = start
        last = data[data.rfind(b"\n", 0, max(0, start - 1)) + 1 : start]
        chain = Chain(last if link_of(last) else data[:start], lines)
        for line in data[start : self._good].split(b"\n")[:-1]:
            chain.take(line)
            self._replay_line(line, chain.line)
        self._end = chain.end
        self.broken = self.broken or chain.broken
        if self.broken:
            self.notices.append(
                f"{self.path.name}:{self.broken} does not follow from the lines before it: something was "
                "changed after it was written; `verify` looks closer"
            )
        return self.state

    def _replay_line(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
            apply(self.state, record)
        except LabError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise LabError(
                f"{self.path}:{number}: this line is not a journal record ({type(error).__name__}: {error})",
                f"lines before {number} are whole; keep a copy of the file, then mend or remove that line",
            ) from error

    def _from_snapshot(self, data: bytes) -> tuple[int, int, State]:
        """Return (bytes, lines, state) when the snapshot belongs to exactly these first bytes."""
        try:
            head, _, frozen = self.snapshot_path.read_bytes().partition(b"\n")
            snapshot = json.loads(head)
            covered = int(snapshot["bytes"])
            whole = covered <= self._good and snapshot["own"] == digest(frozen)
            if whole and snapshot["hash"] == digest(memoryview(data)[:covered]):
                state = thaw(frozen)
                self.broken = snapshot["broken"]
                return covered, int(snapshot["lines"]), state
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a view that is missing, old or cut: the journal is the truth
        return 0, 0, State()

    @property
    def size(self) -> int:
        """Bytes in the file as last loaded or written."""
        return self._size

    def grown(self, size: int) -> bool:
        """Whether the file has another size than `size`, or is gone."""
        try:
            return self.path.stat().st_size != size
        except OSError:
            return True

    def append(self, event: str, **fields: object) -> Record:
        """Write one record durably, apply it to the state, and return it."""
        record: Record = {"schema": SCHEMA, "seq": self.state.seq + 1, "at": now(), "event": event, **fields}
        line = linked(json.dumps(record, separators=(",", ":")).encode(), self._end)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        step(f"journal.{event}.before")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            self._write(descriptor, line)
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(self.path.parent)
        self._end = link_of(line)
        self._good += len(line)
        self._size = self._good
        apply(self.state, record)
        step(f"journal.{event}.after")
        return record

    def _write(self, descriptor: int, line: bytes) -> None:
        """Put `line` behind the last whole line; whatever goes wrong, no half line stays."""
        if os.fstat(descriptor).st_size != self._size:
            raise LabError(f"{self.path} was changed by another process", "run the command again", BUSY)
        try:
            os.ftruncate(descriptor, self._good)  # drops a torn tail
            written = os.pwrite(descriptor, line, self._good)
            if written != len(line):
                raise OSError(28, "No space left on device")
            sync_file(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, self._good)
            raise LabError(
                f"cannot write {self.path}: {error.strerror}",
                "nothing was lost; free some disk space or mend the rights, then run `resume`",
            ) from error

    def save_snapshot(self) -> None:
        """Write the state beside the journal when enough has come since the last one."""
        if self._good - self._snapshot_at < SNAPSHOT_EVERY_BYTES:
            return
        with self.path.open("rb") as file:
            covered = file.read(self._good)
        frozen = freeze(self.state)
        facts = {
            "bytes": self._good, "lines": covered.count(b"\n"), "hash": digest(covered),
            "own": digest(frozen), "broken": self.broken,
        }  # fmt: skip
        write_atomic(self.snapshot_path, json.dumps(facts).encode() + b"\n" + frozen)
        self._snapshot_at = self._good
