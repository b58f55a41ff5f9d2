"""The process that moves a campaign on while nobody calls: when a run ends, the next one starts at once.

It is started by whoever leaves runs at work with more to come, takes the state lock like everybody else, and
leaves as soon as it is not needed. It never touches the working tree, which an agent may be editing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import detached
from lab.campaign import Lab
from lab.locks import hold_for_life, pid_of
from lab.steps import step

LOCK, LOG = "mover.lock", "mover.log"
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
    return pid_of(home / LOCK)


@contextmanager
def only_one(home: Path) -> Iterator[Callable[[], None] | None]:
    """Be the campaign's mover: gives what ends that, or None when there is one."""
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not hold_for_life(descriptor):
            yield None
            return
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
