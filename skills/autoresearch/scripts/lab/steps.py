"""Named crash points: a test asks a process to die at one of them, and no other code can tell.

`AUTORESEARCH_DIE_AT=NAME#K` kills the process with SIGKILL the K-th time it reaches NAME, and `*#K` at its
K-th step of whatever name;
`AUTORESEARCH_STEPS=FILE` writes every name reached to FILE, which is how the tests enumerate them.
"""

from __future__ import annotations

import os
import signal

_seen: dict[str, int] = {}
_die_at = os.environ.get("AUTORESEARCH_DIE_AT", "")
_record = os.environ.get("AUTORESEARCH_STEPS", "")


def step(name: str) -> None:
    """Mark that the process stands at `name`, between two durable actions."""
    if not (_die_at or _record):
        return
    _seen[name] = _seen.get(name, 0) + 1
    here = f"{name}#{_seen[name]}"
    if _record:
        descriptor = os.open(_record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{here}\n".encode())
        os.close(descriptor)
    if _die_at in (here, f"*#{sum(_seen.values())}"):
        os.kill(os.getpid(), signal.SIGKILL)
