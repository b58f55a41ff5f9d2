"""Builders for tests that execute real runs: a run's directory, its result, processes that stay behind."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.runners.base import Runner
from lab.runners.local import Local

Result = dict[str, object]


def a_run(folder: Path, code: str = "", *, name: str = "e001.1", **spec: object) -> Path:
    """Make a run's directory and its tree; the command is `code` in the tests' own Python."""
    tree, run_dir = folder / f"tree-{name}", folder / name
    tree.mkdir()
    run_dir.mkdir()
    (tree / "train.py").write_text(code)
    fields: Result = {
        "schema": 1,
        "run": name,
        # A fixed one would let two test sessions on one machine end each other's processes.
        "nonce": secrets.token_hex(8),
        "argv": [sys.executable, "train.py"],
        "env_add": {},
        "tree": str(tree),
        "cwd": str(tree),
        "kill_after": 300,
        "grace": 0.3,
        "metric": {"name": "val_bpb", "take": "only", "pattern": None},
        "protected": {},
        "incumbent_memory_gb": None,
        "free_disk_floor_mb": 1,
    }
    (run_dir / "spec.json").write_text(json.dumps(fields | spec))
    return run_dir


def tree_of(run_dir: Path) -> Path:
    """Return the folder that stands for the commit's export."""
    return run_dir.with_name(f"tree-{run_dir.name}")


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something to become true; the limit only ends a test that hangs."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)


def result_of(run_dir: Path, runner: Runner | None = None, seconds: float = 120) -> Result:
    """Wait for the run's end and return what run.json says."""
    until(lambda: (runner or Local()).poll(run_dir) in ("done", "lost"), seconds)
    return dict(json.loads((run_dir / "run.json").read_bytes()))


def executed(folder: Path, code: str = "", env: Mapping[str, str] | None = None, **spec: object) -> Result:
    """Execute a run from beginning to end and return its result."""
    run_dir = a_run(folder, code, **spec)
    Local().submit(run_dir, os.environ if env is None else env)
    return result_of(run_dir)


def claimed(run_dir: Path) -> dict[str, object]:
    """Return who supervises the run."""
    until(lambda: Local().poll(run_dir) != "absent")
    return dict(json.loads((run_dir / "claim").read_bytes()))


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def pids_in(path: Path, count: int) -> list[int]:
    """Wait until `count` processes have written their pid to `path`, a line each, and return them."""
    until(lambda: path.exists() and path.read_text().count("\n") >= count)
    return [int(line) for line in path.read_text().split()]
