"""Write a file so that a crash or a power cut leaves either the old bytes or the new ones."""

from __future__ import annotations

import fcntl
import itertools
import os
from pathlib import Path

from lab.steps import step

# What a killed writer leaves behind ends like this, so that its owner can sweep it away.
TEMPORARY = ".autoresearch-tmp"
_counter = itertools.count()


def sync_file(descriptor: int) -> None:
    """Bring the file's bytes to the disk itself; on macOS fsync alone stops at the drive's cache."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError:
            pass  # network and foreign file systems refuse it
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring a rename or a new name in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot; the rename itself stays atomic
    finally:
        os.close(descriptor)


def write_atomic(
    path: Path, data: bytes | str, mode: int = 0o644, *, durable: bool = True, name: str = ""
) -> None:
    """Replace `path` by `data` in one step; a symbolic link at `path` is replaced, not followed.

    `durable=False` leaves out the syncs: atomic for a reader, not for a power cut. `name` is the
    crash point `<name>_tmp` between the finished temporary file and the rename. Text is UTF-8;
    `mode` is subject to the umask. Raises OSError with no temporary file left.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{os.getpid()}-{next(_counter)}{TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            write_all(descriptor, content)
            if durable:
                sync_file(descriptor)
        finally:
            os.close(descriptor)
        if name:
            step(f"{name}_tmp")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`; nobody may be writing there now."""
    for left in folder.iterdir():
        if left.name.endswith(TEMPORARY):
            left.unlink(missing_ok=True)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte of `content`; one write call may take only a part of them."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
