"""Runs on this machine, each under a supervisor that outlives the command that started it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lab import processes
from lab.runners.base import Examined, State
from lab.sandbox.policy import temporary
from lab.steps import step

SUPERVISOR = Path(__file__).resolve().parents[1] / "supervisor.py"
# Named crash points of the supervisor; the project's environment does not contain them.
FOR_THE_SUPERVISOR = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")
CLAIM_WAIT_SECONDS = 0.05
REAP_SECONDS = 5.0


class Local:
    """One detached supervisor for each run; the directory's `claim` file says whether it lives."""

    def submit(self, run_dir: Path, env: Mapping[str, str]) -> None:
        """Start a supervisor; when another one has claimed the run, it leaves at once."""
        began = time.monotonic()
        step("runner.submit")
        passed = {name: os.environ[name] for name in FOR_THE_SUPERVISOR if name in os.environ}
        with (run_dir / "supervisor.log").open("ab") as log:
            # Returns when the supervisor's first process has forked: 15 ms, and no child of ours is left.
            subprocess.run(
                [sys.executable, "-I", str(SUPERVISOR), str(run_dir.resolve())],
                env={**env, **passed},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                check=False,
            )
        step("runner.spawned")
        while time.monotonic() - began < CLAIM_WAIT_SECONDS and self.poll(run_dir) == "absent":
            time.sleep(0.005)

    def poll(self, run_dir: Path) -> State:
        """Say where the run stands; a dead supervisor is known by its lock, which the kernel frees."""
        if (run_dir / "run.json").exists():
            return "done"
        try:
            descriptor = os.open(run_dir / "claim", os.O_RDONLY)
        except FileNotFoundError:
            return "absent"
        try:
            if not os.fstat(descriptor).st_size:
                return "absent"  # and the lock is left alone: a supervisor may be about to take it
            if _locked(descriptor):
                return "running"
        finally:
            os.close(descriptor)
        # The result is renamed into place before the lock is freed: look once more, then it is certain.
        return "done" if (run_dir / "run.json").exists() else "lost"

    def withdraw(self, run_dir: Path) -> bool:
        """Sign the claim ourselves, so that a supervisor still on its way finds it taken."""
        descriptor = os.open(run_dir / "claim", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size:
                return False
            os.write(descriptor, b'{"withdrawn": true}')
            os.fsync(descriptor)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def cancel(self, run_dir: Path) -> None:
        """Leave the mark that the supervisor looks for at every turn."""
        (run_dir / "cancel").touch()

    def reap(self, run_dir: Path) -> int:
        """Kill what carries this run's cookie or was seen below its supervisor, unless that lives."""
        if self.poll(run_dir) in ("running", "starting"):
            return 0
        spec = _read_json(run_dir / "spec.json")
        if not spec:
            return 0
        cookie = f"{spec['run']}:{spec['nonce']}"
        known = _known(run_dir)
        killed: set[tuple[int, str]] = set()
        give_up = time.monotonic() + REAP_SECONDS
        calm = 0
        while calm < 2 and time.monotonic() < give_up:  # one look may miss a process that just forked
            alive = processes.of_run(None, known, cookie)
            killed |= {process.key for process in alive if processes.send(process, signal.SIGKILL)}
            calm = 0 if alive else calm + 1
            time.sleep(0.01)
        shutil.rmtree(temporary(cookie), ignore_errors=True)
        if isinstance(spec.get("evaluation"), dict):
            shutil.rmtree(str(spec["evaluation"]["tree"]), ignore_errors=True)  # type: ignore[index]
        return len(killed)

    def heartbeat(self, run_dir: Path) -> dict[str, object] | None:
        """Return what the supervisor last wrote about the run."""
        return _read_json(run_dir / "heartbeat.json")

    def place(self, run_dir: Path) -> str:
        """No engine has it."""
        return ""

    def examine(self) -> Examined:
        """This machine is always there."""
        return Examined(None, "local: runs go to this machine")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _of_this_boot(record: bytes) -> bool:
    try:
        return bool(json.loads(record)["boot_id"] == processes.boot_id())
    except (ValueError, KeyError, TypeError):
        return False  # zeros after a power cut


def _known(run_dir: Path) -> list[tuple[int, str]]:
    """Return the processes the dead supervisor last saw, if they are of this boot."""
    try:
        claim = (run_dir / "claim").read_bytes()
    except OSError:
        return []
    beat = _read_json(run_dir / "heartbeat.json") or {}
    rows = beat.get("tree")
    if not isinstance(rows, list) or not _of_this_boot(claim):
        return []
    return [(int(pid), str(started)) for pid, started in rows]


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
