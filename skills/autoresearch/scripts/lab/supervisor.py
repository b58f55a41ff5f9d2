"""Runs one training command to its end and writes `run.json`: `python -I supervisor.py RUNDIR`.

It is nobody's child and outlives the command that started it. A lock on RUNDIR/claim, held until it
dies, and a record inside that outlives it, make sure that no run is ever executed twice.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path


def main(run_dir: Path) -> None:
    """Execute the run in `run_dir` unless it was executed, or is being executed, by another."""
    from lab.steps import step

    step("supervisor.start")
    lock = claim(run_dir)
    if lock is None:
        return
    step("supervisor.claimed")
    from lab.execution import perform
    from lab.occupancy import occupy
    from lab.result import write_result

    slot, devices = occupy(run_dir)  # before any clock of the run starts
    write_result(run_dir, perform(run_dir, slot))
    for descriptor in (*devices, lock):
        os.close(descriptor)


def detach() -> None:
    """Let the caller's wait end at once: the parent leaves, the child belongs to nobody."""
    if os.fork():
        os._exit(0)
    os.chdir("/")


def claim(run_dir: Path) -> int | None:
    """Return the descriptor that holds the claim for life, or None when this run had its supervisor."""
    from lab.steps import step

    descriptor = os.open(run_dir / "claim", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_size or (run_dir / "run.json").exists():
        os.close(descriptor)
        return None
    step("supervisor.claim.locked")
    _sign(descriptor, run_dir)
    return descriptor


def _sign(descriptor: int, run_dir: Path) -> None:
    """Write into the claim who holds it: from then on nobody else will execute the run."""
    import json

    from lab import processes
    from lab.atomic import sync_file, write_all
    from lab.model import now

    me = processes.look(os.getpid())
    record = {
        "pid": os.getpid(),
        "starttime": me.started if me else "",
        "boot_id": processes.boot_id(),
        "nonce": json.loads((run_dir / "spec.json").read_bytes())["nonce"],
        "at": now(),
    }
    try:
        write_all(descriptor, json.dumps(record).encode())
        sync_file(descriptor)
    except OSError:
        os.ftruncate(descriptor, 0)  # the disk is full: nothing has run, and a later submit may
        raise


if __name__ == "__main__":
    detach()  # before anything of ours is imported: the caller waits for this
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(Path(sys.argv[1]))
