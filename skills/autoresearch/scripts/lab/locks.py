"""Two locks of one campaign folder, held by the kernel for a living process and never stolen.

`agent.lock` is held through the whole of a verb that edits or proposes, so that two agents in one
checkout cannot mix; `state.lock` only while the journal and refs change, so that `status`, `wait` and
`stop` work beside a waiting `try`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.errors import BUSY, LabError
from lab.model import now


@contextmanager
def hold(path: Path, verb: str, wait_seconds: float = 0) -> Iterator[None]:
    """Hold the lock file `path`; after `wait_seconds` of another holder, exit code 8 names them."""
    from filelock import FileLock, Timeout  # 0.02 s: `status` does without

    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.02)
    except Timeout:
        raise LabError(
            f"busy: {_who(holder)} holds this campaign",
            "let it end (`wait` and `status` work meanwhile), or stop that process yourself",
            BUSY,
        ) from None
    except OSError as error:
        raise LabError(f"cannot lock {path}: {error.strerror}", "mend the rights or the disk") from error
    try:
        with suppress(OSError):  # a full disk must not stop `stop`; the lock itself is held
            holder.write_text(json.dumps({"pid": os.getpid(), "verb": verb, "since": now()}))
        yield
    finally:
        lock.release()


def _who(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"`{who['verb']}` (pid {who['pid']}, since {who['since'][:19]})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
