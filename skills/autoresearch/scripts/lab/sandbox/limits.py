"""Bounds on a whole run, which no limit of a single process gives: looked at from outside while it runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lab.sandbox.policy import Policy

ENTRIES = 20_000  # looked at in one go


def too_many(policy: Policy | None, alive: int) -> str:
    """Say that a run has more processes than it may, or ""."""
    over = policy is not None and alive > policy.processes
    return f"more than {policy.processes} processes at once" if policy and over else ""


def too_large(policy: Policy | None, folders: list[Path]) -> str:
    """Say that a run has written more than it may, or ""."""
    if policy is None or size_of(folders) <= policy.disk_bytes:
        return ""
    size = policy.disk_bytes / 2**30
    return f"wrote more than {size:g} GB; `sandbox: {{disk_gb: N}}` in autoresearch.yaml allows more"


def size_of(folders: list[Path]) -> int:
    """Bytes on disk in all of them together, of the first entries that are found; links are not followed."""
    total, left, waiting = 0, ENTRIES, [str(folder) for folder in folders]
    while waiting and left > 0:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                left -= 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += 512 * entry.stat(follow_symlinks=False).st_blocks
    return total
