"""What a sweep's search is told and asked: the journal's trials in, values out."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import extras
from lab.errors import LabError
from lab.model import Experiment, State
from lab.redact import one_line

PACKAGES = ("optuna==5.0.0", "cmaes==0.13.1")
MODULES = ("optuna", "cmaes")
SAMPLERS = ("tpe", "cma", "random")
LIMIT_SECONDS = 120.0

Sweep = dict[str, Any]  # as the journal's `sweep_started` says it, see model.State.sweeps


def ready() -> str:
    """The Python that has the search, or an error with the one command to type."""
    python = installed()
    if python is None:
        raise LabError("a sweep needs Optuna, which is not installed", f"type: {install_command()}")
    return python


def installed() -> str | None:
    """The Python that has the search, None when there is none."""
    return extras.python_with(MODULES, PACKAGES)


def install_command() -> str:
    """The line that gets it."""
    return extras.command(PACKAGES)


def trials(state: State, sweep: Sweep) -> list[Experiment]:
    """The sweep's measured points, in the order they were proposed."""
    return [e for e in state.experiments.values() if e.sweep == sweep["sweep"] and e.trial]


def finalists(state: State, sweep: Sweep) -> list[Experiment]:
    """The sweep's best points, proposed once more as ordinary experiments."""
    return [e for e in state.experiments.values() if e.sweep == sweep["sweep"] and not e.trial]


def ask(state: State, sweep: Sweep, goal: str, count: int) -> list[dict[str, Any]]:
    """The next values to measure, at most `count`; [] when there are none that are new."""
    asked = answer(_task(state, sweep, goal) | {"ask": count})["asked"]
    assert isinstance(asked, list)
    return asked


def importance(state: State, sweep: Sweep, goal: str) -> dict[str, float]:
    """The share of each knob in what makes a trial a good one."""
    found = answer(_task(state, sweep, goal) | {"importance": True})["importance"]
    assert isinstance(found, dict)
    return {str(name): float(share) for name, share in found.items()}


def _task(state: State, sweep: Sweep, goal: str) -> dict[str, Any]:
    told = [_told(trial) for trial in trials(state, sweep)]
    if sweep["start"]:  # the incumbent's own values are measured already
        told = [{"values": sweep["start"], "state": "complete", "value": sweep["level"]}, *told]
    return {
        "knobs": sweep["knobs"],
        "sampler": sweep["sampler"],
        "seed": seed_of(f"{sweep['sweep']} {len(told)}"),
        "goal": goal,
        "told": told,
    }


def _told(trial: Experiment) -> dict[str, Any]:
    """A trial without a verdict counts as running; without a number it was pruned, or failed."""
    if trial.verdict is None:
        return {"values": trial.knobs, "state": "running"}
    reached = trial.runs[-1].reached if trial.runs else None
    if reached:
        return {"values": trial.knobs, "state": "pruned", "at": round(100 * reached[0]), "loss": reached[1]}
    if trial.metric is None:
        return {"values": trial.knobs, "state": "failed"}
    return {"values": trial.knobs, "state": "complete", "value": trial.metric}


def seed_of(words: str) -> int:
    """A number that the same words always give, of 31 bits: every generator takes it."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") >> 1


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """What `sampling.py` answers to a task."""
    program = Path(__file__).with_name("sampling.py")
    bare = task["sampler"] == "random" and not task.get("importance")
    argv: Sequence[str] = (sys.executable if bare else ready(), "-I", str(program))
    try:
        done = subprocess.run(
            argv, input=json.dumps(task).encode(), capture_output=True, timeout=LIMIT_SECONDS, check=False
        )
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    except subprocess.TimeoutExpired:
        said = [f"no answer in {LIMIT_SECONDS:g} s"]
    raise LabError(
        f"the search failed: {one_line(said[-1] if said else 'no word', 200)}", "`sweep` asks again"
    )
