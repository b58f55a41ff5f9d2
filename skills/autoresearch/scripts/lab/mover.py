"""The process that moves a campaign on while nobody calls: when a run ends, the next one starts at once.

It is started by whoever leaves runs at work with more to come, takes the state lock like everybody else, and
leaves as soon as it is not needed. It never touches the working tree, which an agent may be editing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import detached
from lab.campaign import Lab
from lab.steps import step

LOCK, LOG = "mover.lock", "mover.log"
ASKED_TIMES = 5
NOT_ITS_OWN = ("AUTORESEARCH_AGENT",)  # what carries it ends with an agent's session


def needed(lab: Lab) -> bool:
    """Whether something can follow on the runs at work without a call."""
    state = lab.state
    if not state.going or state.stopped or state.finished:
        return False
    aside = state.confirming or state.studying or state.sweeping
    return lab.width > 1 or bool(aside) or any(not e.open_run for e in state.open())


def ensure(lab: Lab) -> None:
    """Start the mover when it is needed and none lives; the caller holds the state lock. Never an error."""
    if lab.aside or not needed(lab) or alive(lab.home):
        return
    step("mover.start")
    environment = {name: value for name, value in os.environ.items() if name not in NOT_ITS_OWN}
    try:
        detached.start(lab.root, ["move"], lab.home / LOG, environment)
    except OSError as error:
        lab.told.append(f"what is queued starts only when somebody calls: {error.strerror}")


def alive(home: Path) -> int:
    """The pid of the campaign's mover, 0 when there is none."""
    try:
        with (home / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or b"1")
    except (OSError, ValueError):
        pass
    return 0


@contextmanager
def only_one(home: Path) -> Iterator[Callable[[], None] | None]:
    """Be the campaign's mover: gives what ends that, or None when there is one."""
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _locked(descriptor):
            yield None
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; who only asks whether it is held has it for a moment, too."""
    for _ in range(ASKED_TIMES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.01)
    return False
