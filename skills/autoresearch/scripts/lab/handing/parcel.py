"""What a person brings back, read without trusting it: a folder, a tar or zip archive, or a bare log.

Nothing is ever unpacked by its own names. Only files of a few known names are read, whatever folder of the
archive they lie in; each is streamed with a limit on what comes out of it, so that a bomb stops early.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lab.errors import REFUSED, LabError
from lab.redact import one_line

LOG = "run.log"
SMALL_FILES = ("provenance.txt", "metrics.json", "curve.jsonl")
SMALL_BYTES = 5_000_000
LOG_BYTES = 400_000_000
ALL_BYTES = 1_000_000_000
ENTRIES = 5_000
RUN = re.compile(r"[a-z]\d{1,6}\.\d{1,6}")
PIECE = 1 << 18
NOT_OURS = "it was not made by run.sh: take the result file as that wrote it"
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
# What our script writes into the log itself, so that a log alone still says what it is.
BEGAN = re.compile(
    rb"\[autoresearch (r\d{3,6}) run ([a-z]\d{1,6}\.\d{1,6}) seed (none|-?\d{1,20}) commit ([0-9a-f]{40,64})"
    rb" token ([0-9a-f]{32})\]"
)
ENDED = re.compile(
    rb"\[autoresearch end ([a-z]\d{1,6}\.\d{1,6}) exit (\d{1,3}) seconds (\d{1,9}) timed_out (yes|no)\]"
)


@dataclass
class Returned:
    """One run as it came back: its small files, and its log in a file of ours."""

    name: str  # of the run, as its folder says; "" for a bare log
    small: dict[str, bytes] = field(default_factory=dict)
    log: Path | None = None
    log_bytes: int = 0
    log_sha256: str = ""
    head: bytes = b""
    tail: bytes = b""

    @property
    def facts(self) -> dict[str, str]:
        """The lines of provenance.txt; of a log alone, what our script wrote into it."""
        text = self.small.get("provenance.txt")
        if text is None:
            return self._marks()
        rows = (line.split(":", 1) for line in text.decode("utf-8", "replace").splitlines() if ":" in line)
        return {name.strip(): one_line(value, 500) for name, value in rows}

    def _marks(self) -> dict[str, str]:
        began, ended = BEGAN.match(self.head), self.end
        if not began:
            return {}
        names = ("request", "run", "seed", "commit", "token")
        facts = {name: value.decode() for name, value in zip(names, began.groups(), strict=True)}
        if ended and ended[1] == began[2]:
            facts |= {"exit": ended[2].decode(), "seconds": ended[3].decode(), "timed_out": ended[4].decode()}
        return facts

    @property
    def end(self) -> re.Match[bytes] | None:
        """The mark at the end of the log."""
        found = list(ENDED.finditer(self.tail))
        return found[-1] if found and not self.tail[found[-1].end() :].strip() else None


def opened(path: Path, staging: Path) -> list[Returned]:
    """Read what lies at `path`; logs go to files in `staging`. Raises LabError for what cannot be taken."""
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise LabError(f"{path} is no file and no folder", "name the result file that came back")
    reader = _folder if path.is_dir() else _archive_of(path)
    if reader is None:
        with path.open("rb") as file:
            found = Returned("")
            _take_log(found, file, staging / "bare.log", [0])
        return [found]
    try:
        return _runs(reader(path), staging)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
        raise LabError(
            f"{path.name} cannot be read to its end ({error}): cut short on its way, or no archive",
            "copy it again from the machine that made it",
            REFUSED,
        ) from error


Entries = Iterator[tuple[str, Callable[[], IO[bytes]]]]


def _archive_of(path: Path) -> Callable[[Path], Entries] | None:
    if not path.name.endswith(ARCHIVES):
        return None
    return _zip if path.name.endswith(".zip") else _tar


def _runs(entries: Entries, staging: Path) -> list[Returned]:
    """The runs in an archive or a folder, each under the name of its folder."""
    runs: dict[str, Returned] = {}
    spent = [0]
    for count, (name, open_it) in enumerate(entries):
        if count > ENTRIES:
            raise LabError(f"it holds more than {ENTRIES} files", "send back only the result file", REFUSED)
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or ".." in parts:
            raise LabError(f"it holds a file with the path {name[:80]!r}", NOT_OURS, REFUSED)
        if len(parts) < 2 or not RUN.fullmatch(parts[-2]) or parts[-1] not in (LOG, *SMALL_FILES):
            continue
        run = runs.setdefault(parts[-2], Returned(parts[-2]))
        if parts[-1] in run.small or (parts[-1] == LOG and run.log):
            raise LabError(f"it holds {parts[-2]}/{parts[-1]} twice", NOT_OURS, REFUSED)
        with open_it() as file:
            if parts[-1] == LOG:
                _take_log(run, file, staging / f"{parts[-2]}.log", spent)
            else:
                run.small[parts[-1]] = b"".join(_pieces(file, SMALL_BYTES, parts[-1], spent))
    return [runs[name] for name in sorted(runs, key=_order)]


def _order(name: str) -> tuple[str, int]:
    place, _, number = name.partition(".")
    return place, int(number)


class _Bounded:
    """A stream that ends with an error when more comes out of it than a result can hold."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, ALL_BYTES

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        piece = self._file.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise _too_large("what is packed", ALL_BYTES)
        return piece


def _tar(path: Path) -> Entries:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw)  # type: ignore[arg-type]
        with tarfile.open(fileobj=file, mode="r|") as archive:  # type: ignore[call-overload]
            for entry in archive:
                if entry.isreg():
                    yield entry.name, partial(archive.extractfile, entry)
                elif not entry.isdir():
                    raise LabError(f"{entry.name[:80]!r} in it is a link or a device", NOT_OURS, REFUSED)


def _zip(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            kind = entry.external_attr >> 16
            if kind and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind) and stat.S_IFMT(kind):
                raise LabError(f"{entry.filename[:80]!r} in it is a link", NOT_OURS, REFUSED)
            if not entry.is_dir():
                yield entry.filename, partial(archive.open, entry)


def _folder(path: Path) -> Entries:
    for here, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            place = Path(here, name)
            inside = str(PurePosixPath(path.name, place.relative_to(path).as_posix()))
            if place.is_symlink():
                raise LabError(f"{place} is a link", "copy the file itself", REFUSED)
            elif place.is_file():
                yield inside, partial(_bytes_of, place)


def _bytes_of(place: Path) -> IO[bytes]:
    return place.open("rb")


def _take_log(run: Returned, file: IO[bytes], target: Path, spent: list[int]) -> None:
    digest, tail = hashlib.sha256(), b""
    with target.open("wb") as kept:
        for piece in _pieces(file, LOG_BYTES, LOG, spent):
            digest.update(piece)
            kept.write(piece)
            run.head = (run.head + piece)[:1000] if len(run.head) < 1000 else run.head
            tail = (tail + piece)[-1000:]
            run.log_bytes += len(piece)
    run.log, run.log_sha256, run.tail = target, digest.hexdigest(), tail


def _pieces(file: IO[bytes], limit: int, name: str, spent: list[int]) -> Iterator[bytes]:
    size = 0
    while piece := file.read(PIECE):
        size += len(piece)
        spent[0] += len(piece)
        if size > limit or spent[0] > ALL_BYTES:
            raise _too_large(name, limit)
        yield piece


def _too_large(name: str, limit: int) -> LabError:
    return LabError(
        f"{name} is larger than {limit // 1_000_000} MB", "send the run's own output only", REFUSED
    )
