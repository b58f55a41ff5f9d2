"""Runs as Slurm jobs, through sbatch, squeue, sacct and scancel: nothing else is needed on this machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lab.cluster import Cluster
from lab.errors import CONFIG, LabError
from lab.redact import one_line
from lab.runners.base import Examined
from lab.runners.engine import LOOK_SECONDS, WORKER, Engine, EngineUnavailable, Job, Phase, Why

ANSWER_SECONDS = 30.0  # of one command; an unreachable controller is given up after Slurm's own 10 s
WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
# What speaks of the run itself; every other end (a node's failure, a preemption) is the machine's.
ENDS: dict[str, Why] = {
    "TIMEOUT": "timeout", "DEADLINE": "timeout", "OUT_OF_MEMORY": "oom", "CANCELLED": "stopped",
}  # fmt: skip
# sbatch says these when it may take the run later; anything else it says is a refusal.
FOR_NOW = re.compile(
    r"(?i)unable to contact|connection (refused|failure|timed)|timed out|not responding|zero bytes"
    r"|temporarily|backup mode|SubmitJob|protocol authentication|munge"
)


@dataclass(frozen=True)
class Row:
    """One job as squeue or sacct shows it."""

    label: str
    state: str
    reason: str = ""


class Controller:
    """Slurm's commands; one look at all of the user's jobs serves every run for a while."""

    name = "slurm"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rows: dict[str, Row] = {}
        self.looked = 0.0  # seconds since 1970; 0: not yet

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        """Hand the run in; the node must see `run_dir` and this very program at the same paths."""
        words = [self.cluster.python or sys.executable, "-I", str(WORKER), str(run_dir.resolve())]
        script = f"#!/bin/sh\nexec {shlex.join(words)}\n"
        done = _run(["sbatch", *self._options(run_dir.resolve(), label, minutes)], script)
        if done.returncode:
            said = one_line(done.stderr.strip() or f"sbatch ended with {done.returncode}", 300)
            if FOR_NOW.search(said):
                raise EngineUnavailable(said)
            raise OSError(said)
        self.looked = 0.0
        return done.stdout.strip().splitlines()[-1].split(";")[0]

    def _options(self, run_dir: Path, label: str, minutes: int) -> list[str]:
        c = self.cluster
        log = str(run_dir / "supervisor.log").replace("%", "%%")
        gres = c.gres or (f"gpu:{c.gpus}" if c.gpus else None)
        given = {"partition": c.partition, "account": c.account, "gres": gres, "cpus-per-task": c.cpus}
        return [
            "--parsable",
            f"--job-name={label}",
            "--no-requeue",  # a second start would be refused by `taken`, and is another run's business
            f"--time={minutes}",
            "--ntasks=1",
            f"--output={log}",
            "--open-mode=append",
            f"--chdir={run_dir}",
            "--export=NIL",  # the run's environment travels in its folder: Slurm's own store is not private
            *(f"--{name}={value}" for name, value in given.items() if value is not None),
            *c.extra,
        ]

    def find(self, label: str) -> str | None:
        """The newest job called `label`."""
        self._fetch(time.time())
        return next((identity for identity, row in reversed(self.rows.items()) if row.label == label), None)

    def look(self, identity: str, label: str, since: float) -> Job:
        """Where the job stands. The name is compared: after a controller's crash ids come again."""
        self._fetch(max(since, time.time() - LOOK_SECONDS))
        row = self.rows.get(identity)
        if row is None or row.label != label:
            row = _of_accounting(identity, label)
        if row is None:
            return Job("unknown", words="Slurm does not know this job")
        phase: Phase = "waiting" if row.state in WAITING else "running" if row.state in RUNNING else "ended"
        said = row.state + (f" ({row.reason})" if row.reason not in ("", "None") else "")
        return Job(phase, ENDS.get(row.state, "lost"), said)

    def _fetch(self, since: float) -> None:
        """Ask for all of the user's jobs unless that was done after `since`."""
        if self.looked > since:
            return
        moment = time.time()
        done = _run(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%j|%T|%r"])
        if done.returncode:
            raise EngineUnavailable(one_line(done.stderr.strip() or "squeue failed", 200))
        self.rows = {}
        for line in done.stdout.splitlines():
            identity, label, state, reason = (line.split("|", 3) + ["", "", ""])[:4]
            self.rows[identity.strip()] = Row(label, state, reason)
        self.looked = moment

    def end(self, identity: str, *, waiting: bool) -> None:
        """Cancel the job; one that is gone already is no error."""
        only = ["--state=PENDING"] if waiting else ["--full"]
        done = _run(["scancel", *only, identity])
        self.looked = 0.0
        if done.returncode and FOR_NOW.search(done.stderr):
            raise EngineUnavailable(one_line(done.stderr.strip(), 200))

    def examine(self) -> Examined:
        """Whether the controller answers, and has the partition."""
        version = _run(["sbatch", "--version"]).stdout.strip()
        asked = [f"--partition={self.cluster.partition}"] if self.cluster.partition else []
        done = _run(["sinfo", "--noheader", "--format=%R|%a|%D|%l|%G", *asked])
        if done.returncode:
            raise EngineUnavailable(one_line(done.stderr.strip() or "sinfo failed", 200))
        rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 4]
        if not rows:
            where = self.cluster.partition or "any partition"
            return Examined(False, f"{version}: there is no {where}", "`sinfo` lists them: mend `partition:`")
        shown = "; ".join(
            f"{name} {state}, {n} nodes, limit {limit}, {gres}" for name, state, n, limit, gres in rows[:3]
        )
        return Examined(any(row[1] == "up" for row in rows), f"{version}: {shown}", "no partition is up")


def _of_accounting(identity: str, label: str) -> Row | None:
    """The job in Slurm's accounting, where the site keeps one: squeue forgets after five minutes."""
    done = _run(["sacct", "-X", "-n", "-P", "-j", identity, "-o", "JobName%120,State"])
    for line in reversed(done.stdout.splitlines() if not done.returncode else []):
        name, _, state = line.partition("|")
        if name == label and state.strip():
            return Row(name, state.split()[0])
    return None


def _run(argv: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, input=text, capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS,
            env={**os.environ, "LC_ALL": "C"}, start_new_session=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineUnavailable(f"{argv[0]} gave no answer within {ANSWER_SECONDS:g} s") from None
    except FileNotFoundError:
        raise LabError(
            f"{argv[0]} is not on the PATH",
            "run this on a machine of the cluster (its login node), or load Slurm's module",
            CONFIG,
        ) from None


class Slurm(Engine):
    """The runner `kind: slurm`."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        super().__init__(Controller(cluster or Cluster()))
