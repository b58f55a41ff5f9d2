"""One run from its checks to its row in `run.json`: what the supervisor does while it holds the claim."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lab.hardware import kind
from lab.metrics import Reading, Scanner, combine, read_metrics_json
from lab.model import now
from lab.result import Row, listed, row_of_ending, row_of_failed_start, row_of_nothing
from lab.runlog import RunLog
from lab.sandbox.box import Box, put_up
from lab.sandbox.denied import Denied
from lab.sandbox.policy import Policy, from_json, temporary
from lab.sandbox.variables import allowed
from lab.sealed import clear, closed, evaluate, failed, from_spec, hidden_paths, with_evaluation
from lab.slots import Slot
from lab.spec import Spec, changed_files, is_plain_file, read_spec
from lab.steps import step
from lab.watch import SandboxFailed, Watch

SCHEMA = 1
OUT = "out"  # in the run's folder: what AUTORESEARCH_RUN_DIR names, so that a training cannot write run.json
OURS = {
    "spec.json", "run.json", "claim", "cancel", "run.log", "heartbeat.json", "supervisor.log", OUT,
    "taken", "environment.json", "intent.json", "job.json", "begun.json", "ended.json",  # of an engine
}  # fmt: skip
WITHOUT = "`sandbox: off` in autoresearch.yaml does without"
NO_SANDBOX = "`sandbox: required`, but this system offers none (`doctor` says what was tried)"
# Where these would keep compiled kernels by themselves cannot be written, or does not outlive the run.
COMPILED = {"torchinductor": "TORCHINDUCTOR_CACHE_DIR", "triton": "TRITON_CACHE_DIR"}
PREFLIGHT_SECONDS = 120.0  # for a start, the compiling of a model included, and one step
NOT_FOR_THE_TRAINING = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")


def perform(run_dir: Path, slot: Slot | None = None) -> Row:
    """Check, run and judge it in its slot; what happened comes back as the row of `run.json`."""
    spec = read_spec(run_dir)
    if slot:
        spec = replace(spec, env_add=slot.environment(spec.env_add))
    host = os.uname().nodename
    row: Row = {"schema": SCHEMA, "run": spec.run, "nonce": spec.nonce, "started_at": now(), "host": host}
    row |= {"slot": slot.name} if slot else {}
    row |= {"hardware": kind({**os.environ, **spec.env_add})}
    refused = refusal(run_dir, spec)
    if refused:
        outcome, detail = refused
        changed = changed_files(spec) if outcome == "protected" else []
        return row | row_of_nothing(outcome, detail, protected_changed=changed)
    policy, sealed = policy_of(run_dir, spec), from_spec(spec)
    row |= {"level": None if sealed else "L0"}  # of a sealed run the evaluation says it
    environment = training_environment(run_dir, spec, os.environ)
    if sealed:
        try:
            hidden = hidden_paths(sealed, environment, spec.kill_after)
        except OSError as error:
            return row | row_of_nothing("infra", f"`evaluate.hidden` does not say what to hide: {error}")
        environment |= {"AUTORESEARCH_SEALED": "1"}
    try:
        shut = closed(policy, hidden) if policy and sealed else policy
        row |= too_large(run_dir, spec, shut, environment) or train(run_dir, spec, shut, environment)
        if sealed and policy and row["outcome"] == "ok":
            hid = "hidden" in _facts(row)
            row |= with_evaluation(row, evaluate(run_dir, spec, sealed, policy, hid, environment), sealed)
        return row
    except (OSError, SandboxFailed) as error:
        return row | row_of_nothing(*failed(error))
    finally:
        tidy(run_dir, spec)
        if sealed:
            clear(run_dir, spec, sealed)


def too_large(run_dir: Path, spec: Spec, policy: Policy | None, environment: dict[str, str]) -> Row | None:
    """Start the training for a moment: the row of one that ran out of memory or was cancelled, else None.

    It sees a budget of one second, and leaves nothing behind for the run that follows.
    """
    if spec.preflight is None:
        return None
    metrics = spec.cwd / "metrics.json"
    stale = metrics.exists()
    short = replace(
        spec, argv=[*spec.argv, *spec.preflight], kill_after=min(spec.kill_after, PREFLIGHT_SECONDS)
    )
    row = train(
        run_dir, short, policy, environment | {"AUTORESEARCH_BUDGET": "1", "AUTORESEARCH_PREFLIGHT": "1"}
    )
    step("supervisor.preflight")
    digest = row.get("digest")
    if isinstance(digest, dict) and digest.get("kind") == "oom":
        return row | {"detail": f"in the preflight, before its clock: {row['detail']}"}
    if row["outcome"] in ("cancelled", "interrupted", "infra"):
        return row
    if not stale:
        metrics.unlink(missing_ok=True)
    if (run_dir / OUT).is_dir():
        shutil.rmtree(run_dir / OUT)
        (run_dir / OUT).mkdir(mode=0o700)
    return None


def train(run_dir: Path, spec: Spec, policy: Policy | None, environment: dict[str, str]) -> Row:
    """Run the training and judge its end."""
    box = put_up(policy) if policy else Box({"kind": "off"})
    if policy and policy.mode == "required" and box.facts["kind"] == "none":
        return row_of_nothing("infra", NO_SANDBOX)
    log = RunLog(run_dir / "run.log")
    name = str(spec.metric["name"])
    scanner = Scanner(name, spec.metric.get("take") or "only", spec.metric.get("pattern"))
    stale = is_plain_file(spec.cwd / "metrics.json")
    watch = Watch(run_dir, spec, log, scanner, box)
    try:
        ending = watch.run(environment)
    except (OSError, ValueError) as error:
        return row_of_failed_start(spec, error)
    except SandboxFailed as error:
        return row_of_nothing("infra", f"the sandbox could not be put up ({error}); {WITHOUT}")
    finally:
        log.close()
    places = [run_dir, run_dir / OUT, *([] if stale else [spec.cwd])]
    reading = _reading(scanner, places, name)
    if spec.evaluation:  # whatever it printed is not what it is judged by
        reading = replace(reading, problem=None, detail="")
    row: Row = {"sandbox": watch.sandbox} if policy else {}
    if watch.judge:
        row |= {"course": watch.judge.points, "early": watch.judge.spoke, "reached": watch.judge.reached}
    return row | row_of_ending(run_dir, spec, ending, reading, log, Denied(policy, watch.sandbox))


def _facts(row: Row) -> dict[str, object]:
    facts = row.get("sandbox")
    return facts if isinstance(facts, dict) else {}


def policy_of(run_dir: Path, spec: Spec) -> Policy | None:
    """The policy of the spec with the run's own folders, which are made here."""
    policy = from_json(spec.sandbox)
    if policy is None:
        return None
    own = [spec.tree, run_dir / OUT, temporary(spec.cookie)]
    for folder in own[1:]:
        folder.mkdir(mode=0o700, exist_ok=True)
    return replace(policy, write=(*policy.write, *map(str, own)), own=tuple(map(str, own)))


def tidy(run_dir: Path, spec: Spec) -> None:
    """Bring what the run has left for us beside its log, and drop its temporary files."""
    if spec.sandbox is None:
        return
    out = run_dir / OUT
    with contextlib.suppress(OSError):
        for entry in list(out.iterdir()):
            if entry.name not in OURS and not (run_dir / entry.name).is_dir():
                entry.rename(run_dir / entry.name)
        out.rmdir()
    step("supervisor.tidied")
    shutil.rmtree(temporary(spec.cookie), ignore_errors=True)


def refusal(run_dir: Path, spec: Spec) -> tuple[str, str] | None:
    """Return the outcome and the reason when this run must not start."""
    if (run_dir / "cancel").exists():
        return "cancelled", "cancelled before it started"
    changed = changed_files(spec)
    if changed:
        return "protected", f"protected files differ from the baseline before the run: {listed(changed)}"
    if not spec.cwd.is_dir():
        return "infra", f"the folder to run in is missing: {spec.cwd}"
    for place in (run_dir, spec.cwd):
        space = os.statvfs(place)
        free_mb = space.f_bavail * space.f_frsize / 2**20
        if free_mb < spec.free_disk_floor_mb:
            floor = f"{spec.free_disk_floor_mb:g} MB are asked for"
            return "infra", f"only {free_mb:.0f} MB are free on the disk of {place}; {floor}"
    return None


def training_environment(run_dir: Path, spec: Spec, own: Mapping[str, str]) -> dict[str, str]:
    """Return what the training sees: the project's environment, the run's own settings and its name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in own.items() if name not in NOT_FOR_THE_TRAINING}
    folder = run_dir
    if spec.sandbox is not None:
        if spec.sandbox.get("mode") != "off":
            environment = _narrowed(environment, spec)
        folder = run_dir / OUT
    environment |= {"PYTHONUNBUFFERED": "1", "MASTER_PORT": str(port)} | spec.env_add
    return environment | {"AUTORESEARCH_RUN": spec.cookie, "AUTORESEARCH_RUN_DIR": str(folder)}


def _narrowed(environment: dict[str, str], spec: Spec) -> dict[str, str]:
    """Only what a training needs, temporary files in its own folder; compiled kernels outlive the run."""
    narrow = allowed(environment, spec.variables) | {"TMPDIR": str(temporary(spec.cookie))}
    home = narrow.get("HOME", "")
    if home.startswith("/") and Path(home).is_dir():
        for name, variable in COMPILED.items():
            folder = Path(home, ".cache", name)
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                narrow.setdefault(variable, str(folder))
    return narrow


def _reading(scanner: Scanner, places: list[Path], name: str) -> Reading:
    """Return what the output says, with what a metrics.json of this run says."""
    reading = scanner.close()
    for path in (place / "metrics.json" for place in places):
        found = read_metrics_json(path, name) if is_plain_file(path) else None
        if found:
            return combine(reading, found)
    return reading
