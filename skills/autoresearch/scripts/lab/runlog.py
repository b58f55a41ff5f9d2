"""A run's output in bounded space: the first megabytes as they come, the last ones at the end."""

from __future__ import annotations

import os
from pathlib import Path

from lab.atomic import write_all

HEAD_BYTES = 8_000_000
TAIL_BYTES = 1_500_000


class RunLog:
    """The file `run.log`; what does not fit is cut from the middle, and a line says how much.

    The tail is held in memory until `close`. A full disk ends the writing and never the run.
    """

    def __init__(self, path: Path, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self.total = 0
        self.trouble = ""  # why writing stopped early, or ""
        self._written = 0
        self._head_bytes, self._tail_bytes = head_bytes, tail_bytes
        self._tail = bytearray()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            self._file, self.trouble = -1, f"{path.name}: {error.strerror}"

    def write(self, data: bytes) -> None:
        """Take the next bytes of output."""
        room = self._head_bytes - self._written
        if room > 0 and not self.trouble:
            self._append(data[:room])
        self.total += len(data)
        self._tail += data
        if len(self._tail) > 2 * self._tail_bytes:
            del self._tail[: -self._tail_bytes]

    def tail(self, size: int) -> bytes:
        """Return the last `size` bytes of output."""
        return bytes(self._tail[-size:])

    def close(self) -> None:
        """Bring the tail into the file."""
        if self._file < 0:
            return
        self.trouble, before = "", self.trouble  # by now the disk may have room again
        missing = self.total - self._written
        kept = min(missing, self._tail_bytes, len(self._tail))
        if missing > kept:
            self._append(f"\n[autoresearch: {missing - kept} bytes of output cut here]\n".encode())
        if kept:
            self._append(bytes(self._tail[-kept:]))
        self.trouble = self.trouble or before
        os.close(self._file)
        self._file = -1

    def _append(self, data: bytes) -> None:
        try:
            write_all(self._file, data)
            self._written += len(data)
        except OSError as error:
            self.trouble = f"run.log: {error.strerror}"
            self._written = min(self.total, os.lseek(self._file, 0, os.SEEK_CUR))
