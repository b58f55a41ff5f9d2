"""Two locks of one campaign folder, held by the kernel for a living process and never stolen.

`agent.lock` is held through the whole of a verb that edits or proposes, so that two agents in one
checkout cannot mix; `state.lock` only while the journal and refs change, so that `status`, `wait` and
`stop` work beside a waiting `try`.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.atomic import write_atomic
from lab.errors import BUSY, LabError
from lab.model import now

POLL_SECONDS = 0.02
ASKED_TIMES = 100  # a process that asks who holds a lock has it for a moment, and may be frozen in it
NAMING_TRIES = 250


@contextmanager
def hold(path: Path, verb: str, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the lock file `path`; after `wait_seconds` of another holder, exit code 8 names them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".json")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LabError(f"cannot lock {path}: {error.strerror}", "mend the rights or the disk") from error
    try:
        _take(descriptor, path, holder, wait_seconds)
        yield from _held(holder, verb)
    finally:
        os.close(descriptor)


def pid_of(path: Path) -> int:
    """Which process holds the lock `path` for life; 0 for none, 1 while it has not written its pid yet."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or b"1")
    except (OSError, ValueError):
        pass
    return 0


def hold_for_life(descriptor: int) -> bool:
    """Take the lock and write this process's pid into the file; False when another has it."""
    for _ in range(ASKED_TIMES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(POLL_SECONDS)
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return True
    return False


def _take(descriptor: int, path: Path, holder: Path, wait_seconds: float) -> None:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError as error:
            raise LabError(f"cannot lock {path}: {error.strerror}", "mend the rights or the disk") from error
        if time.monotonic() >= end:
            raise LabError(
                f"busy: {_who(holder)} holds this campaign",
                "let it end (`wait` and `status` work meanwhile), or stop that process yourself",
                BUSY,
            )
        time.sleep(POLL_SECONDS)


def _held(holder: Path, verb: str) -> Iterator[None]:
    """Say who has it for as long as it is held."""
    try:
        with suppress(OSError):  # a full disk must not stop `stop`; the lock itself is held
            record = {"pid": os.getpid(), "verb": verb, "since": now()}
            write_atomic(holder, json.dumps(record), durable=False)
        yield
    finally:
        with suppress(OSError):
            holder.unlink()  # before the lock is free: nobody shall read a name that is not true


def _who(holder: Path) -> str:
    """Name the holder; it writes its name a moment after it has the lock, and a killed one left its own."""
    for _ in range(NAMING_TRIES):
        with suppress(OSError, ValueError, KeyError, TypeError):
            who = json.loads(holder.read_text())
            if _alive(int(who["pid"])):
                return f"`{who['verb']}` (pid {who['pid']}, since {who['since'][:19]})"
        time.sleep(POLL_SECONDS)
    return "another process"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
