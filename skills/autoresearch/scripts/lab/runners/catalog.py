"""The runners by the name `runner: {kind: ...}` gives them; a new one is a file and a row here."""

from __future__ import annotations

from lab.errors import CONFIG, LabError
from lab.runners.base import Runner
from lab.runners.local import Local

RUNNERS: dict[str, type[Runner]] = {"local": Local}


def runner(kind: str) -> Runner:
    """Return the runner called `kind`. Raises LabError naming the valid kinds."""
    if kind not in RUNNERS:
        raise LabError(f"runner kind is {kind!r}", f"use one of: {', '.join(RUNNERS)}", CONFIG)
    return RUNNERS[kind]()
