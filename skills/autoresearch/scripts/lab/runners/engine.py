"""What every engine that places runs has in common: Slurm and Ray are each four questions below this.

The supervisor on the node writes `run.json`, and only that may say ok or failed. The engine is asked only
where there is none, and what it says can mean timeout, out of memory, cancelled or lost, nothing else. All
that a later process needs lies in the run's directory: `intent.json` before the engine is asked to take it,
`job.json` after it has, `taken` from the node, `ended.json` when the engine first said that it is over.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lab.atomic import write_atomic
from lab.model import SCHEMA, now
from lab.result import row_of_nothing
from lab.runners.base import Examined, State
from lab.runners.local import Local
from lab.runners.worker import ENVIRONMENT, TAKEN, take
from lab.sandbox.variables import allowed
from lab.spec import Spec, read_spec
from lab.steps import step

WORKER = Path(__file__).resolve().with_name("worker.py")
FOR_THE_SUPERVISOR = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")
LOOK_SECONDS = 2.0  # between two questions of one process
BACKOFF_SECONDS = 10.0  # after no answer: each such question may block that long
SETTLE_SECONDS = 3.0  # from the engine's end to the result: a network file system shows it late
FRESH_SECONDS = 30.0  # a supervisor shows a sign of life every 2 s
START_SECONDS = (
    90.0  # from the engine's word that a job runs to the node's: a job may be lost on its way there
)
SPARE_SECONDS = 60.0  # for the supervisor's own work, before the engine ends the job

# waiting: in the engine's queue; unknown: the engine has never heard of it, or has forgotten it
Phase = Literal["waiting", "running", "ended", "unknown"]
# timeout and oom speak of the run, stopped of somebody who ended it; lost is all the rest
Why = Literal["timeout", "oom", "stopped", "lost"]


class EngineUnavailable(Exception):
    """The engine does not answer, or refuses for now: nothing is known to be lost."""


@dataclass(frozen=True)
class Job:
    """What the engine says of one run."""

    phase: Phase
    why: Why = "lost"
    words: str = ""


class Door(Protocol):
    """What an engine is asked; each may raise EngineUnavailable."""

    name: str

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        """Hand the run in under `label` and return the engine's id; OSError with the reason of a refusal."""

    def find(self, label: str) -> str | None:
        """The id of the job called `label`, for a handing-in that was cut."""

    def look(self, identity: str, label: str, since: float) -> Job:
        """Where the job stands, from an answer no older than `since` (seconds since 1970)."""

    def end(self, identity: str, *, waiting: bool) -> None:
        """End the job; with `waiting` only if it still waits."""

    def examine(self) -> Examined:
        """Whether the engine answers and would take a run."""


class Engine:
    """Runs placed by an engine, on a file system that this machine and the nodes share."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.silent_until, self.silent = 0.0, ""  # monotonic; what it said instead of an answer

    def submit(self, run_dir: Path, env: Mapping[str, str]) -> None:
        """Hand the run in once; cut anywhere and called again, it finds what was handed in."""
        step("runner.submit")
        with contextlib.suppress(EngineUnavailable):  # `poll` says so, and `submit` comes again
            if self._identity(run_dir) and self._look(run_dir).phase != "unknown":
                return
            if (run_dir / TAKEN).exists() or (run_dir / "run.json").exists():
                return
            _keep_environment(run_dir, env)
            for name in ("begun.json", "ended.json"):  # of a job that the engine has forgotten
                (run_dir / name).unlink(missing_ok=True)
            spec = read_spec(run_dir)
            write_atomic(run_dir / "intent.json", json.dumps({"label": label_of(spec), "at": time.time()}))
            step("runner.intended")
            self._send(run_dir, spec)

    def _send(self, run_dir: Path, spec: Spec) -> None:
        try:
            with self._asking():
                identity = self.door.send(run_dir, label_of(spec), minutes(spec))
        except OSError as error:  # a partition that is not there, an account that may not: for `_last_words`
            with (run_dir / "supervisor.log").open("a") as log:
                log.write(f"{self.door.name} does not take the run: {error}\n")
            return
        step("runner.sent")
        self._keep(run_dir, identity)
        step("runner.spawned")

    def poll(self, run_dir: Path) -> State:
        """Say where the run stands; without an answer of the engine that is `unavailable`, never lost."""
        if (run_dir / "run.json").exists():
            return "done"
        try:
            if not self._identity(run_dir):
                return "lost" if _taken(run_dir) else "absent"
            job = self._look(run_dir)
        except EngineUnavailable:
            return "unavailable"
        if job.phase == "waiting":
            return "starting"
        if job.phase == "running" or (job.phase == "unknown" and _breathing(run_dir)):
            if _taken(run_dir):
                self._end_overdue(run_dir)
                return "running"
            return "lost" if self._never_came(run_dir) else "starting"
        return self._over(run_dir, job)

    def _never_came(self, run_dir: Path) -> bool:
        """Whether a job that runs, as the engine says, has reached no node for long; then it never will."""
        return time.time() - _first_seen(run_dir, "begun.json") > START_SECONDS and self.withdraw(run_dir)

    def _end_overdue(self, run_dir: Path) -> None:
        """End a job whose supervisor is stuck, for engines that keep no time."""
        at = (_read(run_dir / TAKEN) or {}).get("at")
        if isinstance(at, float) and time.time() - at > 60 * (minutes(read_spec(run_dir)) + 1):
            with contextlib.suppress(EngineUnavailable):
                identity = self._identity(run_dir)
                if identity:
                    self._end(identity, waiting=False)

    def _over(self, run_dir: Path, job: Job) -> State:
        """The engine is done with it: wait for a result that is on its way, then say what the end means."""
        if time.time() - _first_seen(run_dir, "ended.json") < SETTLE_SECONDS:
            return "running"
        _look_anew(run_dir)
        if (run_dir / "run.json").exists():
            return "done"
        row = _row_of(run_dir, job, self.door.name)
        if row is None:
            return "lost" if _taken(run_dir) or job.phase == "ended" else "absent"
        write_atomic(run_dir / "run.json", json.dumps(row, indent=1))
        return "done"

    def withdraw(self, run_dir: Path) -> bool:
        """Take the run up ourselves, so that a job still on its way finds it taken."""
        if not take(run_dir, withdrawn=True):
            return False
        with contextlib.suppress(EngineUnavailable):
            identity = self._identity(run_dir)
            if identity:
                self._end(identity, waiting=False)
        return True

    def cancel(self, run_dir: Path) -> None:
        """Leave the mark that the supervisor looks for; a job that only waits is taken out of the queue."""
        (run_dir / "cancel").touch()
        with contextlib.suppress(EngineUnavailable):
            identity = self._identity(run_dir)
            if identity:
                self._end(identity, waiting=True)

    def reap(self, run_dir: Path) -> int:
        """End the job and, where that was on this machine, what it has left."""
        if self.poll(run_dir) in ("running", "starting", "unavailable"):
            return 0
        with contextlib.suppress(EngineUnavailable):
            identity = self._identity(run_dir)
            if identity:
                with (run_dir / "supervisor.log").open("a") as log:
                    log.write(f"{self.place(run_dir)}\n")
                self._end(identity, waiting=False)
        return Local().reap(run_dir)

    def heartbeat(self, run_dir: Path) -> dict[str, object] | None:
        """Return what the supervisor last wrote about the run."""
        return Local().heartbeat(run_dir)

    def place(self, run_dir: Path) -> str:
        """The engine's own words for where the run is."""
        try:
            identity = self._identity(run_dir)
            if not identity:
                return f"{self.door.name}: not handed in yet"
            return f"{self.door.name} job {identity}: {self._look(run_dir).words}"
        except EngineUnavailable as error:
            return f"{self.door.name} does not answer: {error}"

    def examine(self) -> Examined:
        """Whether the engine answers and would take a run."""
        try:
            return self.door.examine()
        except EngineUnavailable as error:
            return Examined(False, f"{self.door.name} does not answer: {error}", "runs wait until it does")

    # -- what lies in the run's directory, and what the engine says ---------------------------------------

    def _identity(self, run_dir: Path) -> str | None:
        """The engine's id of the run; one that was never written down is found by the run's label.

        Of two jobs for one run, after a handing-in that was cut, the one that took it up is the run's.
        """
        taker = (_read(run_dir / TAKEN) or {}).get("job")
        kept = _read(run_dir / "job.json")
        if kept and taker and taker != kept["id"]:
            self._keep(run_dir, str(taker))
        if taker or kept:
            return str(taker or (kept or {})["id"])
        if not (run_dir / "intent.json").exists():
            return None
        with self._asking():
            found = self.door.find(label_of(read_spec(run_dir)))
        if found:
            self._keep(run_dir, found)
        return found

    def _keep(self, run_dir: Path, identity: str) -> None:
        record = {"engine": self.door.name, "id": identity, "label": label_of(read_spec(run_dir))}
        write_atomic(run_dir / "job.json", json.dumps({**record, "at": time.time()}))

    def _look(self, run_dir: Path) -> Job:
        kept = _read(run_dir / "job.json") or {}
        since = kept.get("at")
        with self._asking():
            return self.door.look(
                str(kept.get("id")), str(kept.get("label")), float(since) if isinstance(since, float) else 0.0
            )

    def _end(self, identity: str, *, waiting: bool) -> None:
        with self._asking():
            self.door.end(identity, waiting=waiting)

    @contextlib.contextmanager
    def _asking(self):  # type: ignore[no-untyped-def]
        """Leave an engine that has just not answered alone for a while."""
        if time.monotonic() < self.silent_until:
            raise EngineUnavailable(self.silent)
        try:
            yield
        except EngineUnavailable as error:
            self.silent_until, self.silent = time.monotonic() + BACKOFF_SECONDS, str(error)
            raise


def label_of(spec: Spec) -> str:
    """The job's name: ids come again after a controller's crash, this does not."""
    return f"{spec.run}-{spec.nonce}"


def minutes(spec: Spec) -> int:
    """When the engine ends a job whose supervisor has not: a backstop, the supervisor is the clock."""
    parts = 3 if spec.evaluation else 1  # what is hidden, the training, the evaluation
    return math.ceil((parts * (spec.kill_after + spec.grace) + SPARE_SECONDS) / 60)


def _keep_environment(run_dir: Path, env: Mapping[str, str]) -> None:
    """Write down what the run will see: the engine's own store of environments is read by others."""
    spec = read_spec(run_dir)
    if spec.sandbox is not None and spec.sandbox.get("mode") != "off":
        env = allowed(env, spec.variables)
    passed = {name: os.environ[name] for name in FOR_THE_SUPERVISOR if name in os.environ}
    write_atomic(run_dir / ENVIRONMENT, json.dumps({**env, **passed}), mode=0o600)


def _row_of(run_dir: Path, job: Job, engine: str) -> dict[str, object] | None:
    """The result of a run that the engine ended before its supervisor could speak; None when it is lost."""
    spec = read_spec(run_dir)
    said = f"ended by {engine}: {job.words}"
    head: dict[str, object] = {
        "schema": SCHEMA, "run": spec.run, "nonce": spec.nonce, "started_at": now(), "host": None,
    }  # fmt: skip
    if (run_dir / "cancel").exists():
        return head | row_of_nothing("cancelled", "cancelled on request")
    if job.phase != "ended" or not _taken(run_dir):
        return None
    if job.why == "timeout":
        return head | row_of_nothing("timeout", said)
    if job.why == "oom":
        digest = {"kind": "oom", "line": said, "where": None, "text": said}
        return head | row_of_nothing("error", said, digest=digest)
    return None


def _taken(run_dir: Path) -> bool:
    return (run_dir / TAKEN).exists()


def _breathing(run_dir: Path) -> bool:
    """Whether the supervisor lives although the engine does not know the job, as after its crash."""
    try:
        age = time.time() - (run_dir / "heartbeat.json").stat().st_mtime
    except OSError:
        return False
    return age < FRESH_SECONDS and not (run_dir / "ended.json").exists()


def _first_seen(run_dir: Path, name: str) -> float:
    """When it was first seen, by any process, what the file `name` stands for; now, at the first time."""
    at = (_read(run_dir / name) or {}).get("at")
    if isinstance(at, float):
        return at
    moment = time.time()
    write_atomic(run_dir / name, json.dumps({"at": moment}), durable=False)
    return moment


def _look_anew(run_dir: Path) -> None:
    """Opening a folder makes a network file system ask what is in it."""
    with contextlib.suppress(OSError):
        os.listdir(run_dir)  # noqa: PTH208 - for its effect


def _read(path: Path) -> dict[str, object] | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
