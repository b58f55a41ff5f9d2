"""One run from its checks to its row in `run.json`: what the supervisor does while it holds the claim."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from lab.metrics import Reading, Scanner, combine, read_metrics_json
from lab.model import now
from lab.result import Row, listed, row_of_ending, row_of_failed_start, row_of_nothing
from lab.runlog import RunLog
from lab.spec import Spec, changed_files, is_plain_file, read_spec
from lab.watch import Watch

SCHEMA = 1
NOT_FOR_THE_TRAINING = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")


def perform(run_dir: Path) -> Row:
    """Check, run and judge it; what happened comes back as the row of `run.json`."""
    spec = read_spec(run_dir)
    host = os.uname().nodename
    row: Row = {"schema": SCHEMA, "run": spec.run, "nonce": spec.nonce, "started_at": now(), "host": host}
    refused = refusal(run_dir, spec)
    if refused:
        outcome, detail = refused
        changed = changed_files(spec) if outcome == "protected" else []
        return row | row_of_nothing(outcome, detail, protected_changed=changed)
    log = RunLog(run_dir / "run.log")
    name = str(spec.metric["name"])
    scanner = Scanner(name, spec.metric.get("take") or "only", spec.metric.get("pattern"))
    stale = is_plain_file(spec.cwd / "metrics.json")
    try:
        ending = Watch(run_dir, spec, log, scanner).run(training_environment(run_dir, spec, os.environ))
    except (OSError, ValueError) as error:
        log.close()
        return row | row_of_failed_start(spec, error)
    log.close()
    places = [run_dir, *([] if stale else [spec.cwd])]
    reading = _reading(scanner, places, name)
    return row | row_of_ending(run_dir, spec, ending, reading, log)


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
    environment |= {"PYTHONUNBUFFERED": "1", "MASTER_PORT": str(port)} | spec.env_add
    return environment | {"AUTORESEARCH_RUN": spec.cookie, "AUTORESEARCH_RUN_DIR": str(run_dir)}


def _reading(scanner: Scanner, places: list[Path], name: str) -> Reading:
    """Return what the output says, with what a metrics.json of this run says."""
    reading = scanner.close()
    for path in (place / "metrics.json" for place in places):
        found = read_metrics_json(path, name) if is_plain_file(path) else None
        if found:
            return combine(reading, found)
    return reading
