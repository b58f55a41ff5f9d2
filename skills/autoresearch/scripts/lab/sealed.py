"""Sealed evaluation: after the training, the baseline's own files work out the number, in another process.

L0: the number comes from the training's output. L1: from `evaluate:`, which loads what the training exported.
L2: the same, and the model's code runs in a further process that is shut in, which the evaluation has to do
itself (AUTORESEARCH_SANDBOX starts a command so) and has to say: `evaluation_level: L2`.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lab.metrics import Reading, Scanner
from lab.postmortem import is_host_trouble
from lab.redact import one_line
from lab.result import Ending, Row, outcome_of
from lab.runlog import RunLog
from lab.sandbox.box import Facts, put_up
from lab.sandbox.landlock import version
from lab.sandbox.policy import Policy, real
from lab.spec import WEIGHTS, Spec, changed_files
from lab.steps import step
from lab.watch import SandboxFailed, Watch

CONFINE = Path(__file__).resolve().parent / "confine.py"
LEVELS = ("L0", "L1", "L2")
SAID = re.compile(rb"^evaluation_level:\s*(L[12])\s*$", re.MULTILINE)
TAIL_BYTES = 65_536
TOLERANCE = 1e-3  # of the number: two devices may differ by so much, a forged one differs by more


@dataclass(frozen=True)
class Sealed:
    """What a run's spec says about its evaluation."""

    argv: list[str]
    tree: str  # a pristine export of the baseline
    cwd: str
    level: str = "L1"  # what the project's evaluation can do
    hidden_argv: list[str] | None = None  # prints what a training may not read, a path a line
    hide: tuple[str, ...] = ()  # the same, fixed
    names: tuple[str, ...] = ()  # metrics that no training's own word stands for
    keep: bool = False  # the model stays until the verdict: `finish` may score it once more


def from_spec(spec: Spec) -> Sealed | None:
    """The evaluation of a run; None where the training's own number counts."""
    data = spec.evaluation
    if data is None:
        return None
    known: dict[str, Any] = {entry.name: data[entry.name] for entry in fields(Sealed) if entry.name in data}
    known |= {name: tuple(known[name]) for name in ("hide", "names") if name in known}
    return Sealed(**known)


def hidden_paths(sealed: Sealed, environment: Mapping[str, str], seconds: float) -> list[str]:
    """What the training may not read; OSError with the reason when the evaluation cannot say it."""
    found = list(sealed.hide)
    if sealed.hidden_argv:
        try:
            done = subprocess.run(
                sealed.hidden_argv,
                cwd=sealed.cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"no answer within {seconds:g} s") from error
        if done.returncode:
            raise OSError(_last_line(done.stderr or done.stdout) or f"exit status {done.returncode}")
        found += [
            line for line in done.stdout.decode("utf-8", "surrogateescape").splitlines() if line[:1] == "/"
        ]
    return found


def closed(policy: Policy, hidden: list[str]) -> Policy:
    """The training's policy with the evaluation's files hidden, and nothing beside them to be written."""
    beside = {str(Path(path).parent) for path in real(hidden)}
    return replace(policy, hidden=(*policy.hidden, *hidden), locked=(*policy.locked, *sorted(beside)))


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found, and how."""

    ending: Ending
    reading: Reading
    level: str
    tail: bytes
    changed: list[str]
    sandbox: Facts


def evaluate(
    run_dir: Path, spec: Spec, sealed: Sealed, policy: Policy, hidden: bool, environment: dict[str, str]
) -> Evaluated:
    """Run the evaluation under the same watch; `hidden`: whether the training was kept from the labels."""
    step("supervisor.evaluate.before")
    asked = sealed.level if hidden else "L1"
    box = put_up(policy)
    if box.facts["kind"] in ("none", "off") or not version():  # confine.py has no other means than Landlock
        asked = "L1"
    environment = environment | {"AUTORESEARCH_LEVEL": asked, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    if asked == "L2":
        environment["AUTORESEARCH_SANDBOX"] = json.dumps([sys.executable, "-I", str(CONFINE)])
    pristine = replace(spec, argv=sealed.argv, tree=Path(sealed.tree), cwd=Path(sealed.cwd))
    changed = changed_files(pristine)
    log = RunLog(run_dir / "evaluate.log")
    scanner = Scanner(str(spec.metric["name"]), spec.metric.get("take") or "only", spec.metric.get("pattern"))
    watch = Watch(run_dir, pristine, log, scanner, box)
    try:
        ending = watch.run(environment)
        tail = log.tail(TAIL_BYTES)
    finally:
        log.close()
    step("supervisor.evaluated")
    said = SAID.findall(tail)
    level = "L2" if asked == "L2" and said == [b"L2"] else "L1"
    return Evaluated(ending, scanner.close(), level, tail, changed + changed_files(pristine), watch.sandbox)


def failed(error: OSError | SandboxFailed) -> tuple[str, str]:
    """The outcome of what could not be started: nobody's candidate is to blame."""
    return "infra", f"training or evaluation could not be started: {error}"


def verdict_of(found: Evaluated, asked: str) -> tuple[str, str]:
    """The outcome of a run whose training went well, and why: `ok`, or what stands in the way of a number."""
    host = is_host_trouble(found.tail)
    outcome, why = outcome_of(found.ending, sorted(set(found.changed)), host)
    if outcome == "error":
        outcome, why = "invalid", f"the evaluation refused it: {_last_line(found.tail) or why}"
    elif outcome == "ok" and found.reading.problem:
        outcome, why = "invalid", f"the evaluation gave no number: {found.reading.detail}"
    elif outcome == "ok" and found.level != asked:
        why = f"evaluated at {found.level}, {asked} is not to be had here"
    return outcome, why


def with_evaluation(row: Row, found: Evaluated, sealed: Sealed) -> Row:
    """The row of a training with what the evaluation found: its number is the metric."""
    outcome, why = verdict_of(found, sealed.level)
    own = row["metric"]
    values = {name: value for name, value in _mapping(row, "values").items() if name not in sealed.names}
    notes = [str(row["detail"]), why]
    if outcome == "ok" and differs(own, found.reading.value):
        notes.append(f"the training itself printed {own:g}")
    digest = None
    if outcome != "ok":
        text = f"{outcome}: the evaluation ended with {found.ending.exit_code}\n| {one_line(why, 1000)}"
        digest = {"kind": outcome, "line": one_line(why, 300), "where": None, "text": text}
    return row | {
        "outcome": outcome,
        "metric": found.reading.value if outcome == "ok" else None,
        "own_metric": own,
        "level": found.level,
        "problem": None,
        "detail": "; ".join(note for note in notes if note),
        "values": values | found.reading.values,
        "facts": _mapping(row, "facts") | found.reading.facts,
        "evaluation_seconds": round(found.ending.seconds, 3),
        "digest": digest,
    }


def differs(own: object, sealed: float | None) -> bool:
    """Whether a training's own number is another than the one it is judged by."""
    if not isinstance(own, float) or sealed is None:
        return False
    return abs(own - sealed) > max(1e-6, TOLERANCE * abs(sealed))


def clear(run_dir: Path, spec: Spec, sealed: Sealed) -> None:
    """Drop the pristine export, and weights that were written for the evaluation alone."""
    shutil.rmtree(sealed.tree, ignore_errors=True)
    if "AUTORESEARCH_EXPORT" not in spec.env_add and not sealed.keep:
        with contextlib.suppress(OSError):
            (run_dir / WEIGHTS).unlink()


def _mapping(row: Row, name: str) -> dict[str, object]:
    value = row.get(name)
    return dict(value) if isinstance(value, dict) else {}


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1], 300) if lines else ""
