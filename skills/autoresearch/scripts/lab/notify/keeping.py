"""Making sure that the messenger of a campaign lives: what verbs call, in microseconds when it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import detached
from lab.campaign import Lab
from lab.errors import BUSY, LabError
from lab.locks import hold_for_life, pid_of
from lab.steps import step


def ensure(lab: Lab) -> None:
    """Start the messenger when there is something to tell or to push and none lives; never an error."""
    if not (lab.settings.notify or lab.settings.push is not None):
        return
    folder = lab.home / "notify"
    try:
        folder.mkdir(exist_ok=True)
        if alive(folder):
            return
        step("messenger.start")
        detached.start(lab.root, ["notify", "run"], folder / "messenger.log")
    except OSError as error:
        lab.told.append(f"messages cannot be sent: {error.strerror}")


def alive(folder: Path) -> int:
    """The pid of the messenger that holds the lock, 0 when there is none."""
    return pid_of(folder / "messenger.lock")


@contextmanager
def only_one(folder: Path) -> Iterator[Callable[[], bool]]:
    """Be the messenger of this campaign, or leave with exit code 8; gives a check that one still is.

    Where the folder was removed and made anew, another messenger may hold the lock that lies there now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "messenger.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not hold_for_life(descriptor):
            raise LabError(
                f"process {alive(folder)} already tells people of this campaign",
                "nothing is to be done; to run it here instead, end that process first",
                BUSY,
            )
        yield lambda: _same(folder / "messenger.lock", descriptor)
    finally:
        os.close(descriptor)


def _same(path: Path, descriptor: int) -> bool:
    mine = os.fstat(descriptor)
    try:
        there = path.stat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
