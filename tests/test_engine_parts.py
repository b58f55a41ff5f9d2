"""What an engine's word means for a run, and what autoresearch.yaml may say of one: without any engine."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from runs import a_run

from lab.cluster import KEYS, KINDS, Cluster
from lab.errors import CONFIG, LabError
from lab.rendering import render
from lab.runners import engine
from lab.runners.base import Examined
from lab.runners.catalog import RUNNERS
from lab.runners.engine import Engine, Job, minutes
from lab.runners.worker import take
from lab.settings import Settings, load
from lab.spec import read_spec

GOOD = "command: python train.py\nmetric: {name: val_bpb, goal: min}\nedit: [train.py]\n"


class Said:
    """A door that gives the answers of a test."""

    name = "slurm"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sent: list[str] = []
        self.ended: list[str] = []

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        self.sent.append(label)
        return str(len(self.sent))

    def find(self, label: str) -> str | None:
        return "1" if label in self.sent else None

    def look(self, identity: str, label: str, since: float) -> Job:
        return self.job

    def end(self, identity: str, *, waiting: bool) -> None:
        self.ended.append(identity)

    def examine(self) -> Examined:
        return Examined(True, "fine")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for a network file system."""
    monkeypatch.setattr(engine, "SETTLE_SECONDS", -1.0)


def handed_in(folder: Path, job: Job) -> tuple[Engine, Said, Path]:
    """A run that was handed in to an engine which says `job`."""
    door, run_dir = Said(job), a_run(folder)
    runner = Engine(door)
    runner.submit(run_dir, os.environ)
    return runner, door, run_dir


def result(run_dir: Path) -> dict[str, object]:
    return dict(json.loads((run_dir / "run.json").read_text()))


@pytest.mark.parametrize(
    ("why", "taken", "cancelled", "state", "outcome", "kind"),
    [
        ("timeout", True, False, "done", "timeout", "timeout"),
        ("oom", True, False, "done", "error", "oom"),
        ("stopped", True, True, "done", "cancelled", "cancelled"),
        ("stopped", False, True, "done", "cancelled", "cancelled"),
        ("stopped", True, False, "lost", None, None),
        ("lost", True, False, "lost", None, None),
        ("timeout", False, False, "lost", None, None),
        ("oom", False, False, "lost", None, None),
    ],
)
def test_what_an_engine_says_of_an_end_is_never_ok_and_never_a_failure(
    at_once: None, tmp_path: Path, why: str, taken: bool, cancelled: bool, state: str, outcome: str, kind: str
) -> None:
    runner, _, run_dir = handed_in(tmp_path, Job("ended", why, "its words"))  # type: ignore[arg-type]
    if taken:
        take(run_dir)
    if cancelled:
        (run_dir / "cancel").touch()
    assert runner.poll(run_dir) == state
    if outcome:
        row = result(run_dir)
        assert (row["outcome"], row["digest"]["kind"]) == (outcome, kind)  # type: ignore[index]
        assert row["metric"] is None


def test_a_result_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    runner, _, run_dir = handed_in(tmp_path, Job("ended", "lost"))
    take(run_dir)
    assert runner.poll(run_dir) == "running"
    (run_dir / "run.json").write_text("{}")
    assert runner.poll(run_dir) == "done"


def test_a_job_that_the_engine_forgot_before_it_began_is_handed_in_again(
    at_once: None, tmp_path: Path
) -> None:
    runner, door, run_dir = handed_in(tmp_path, Job("unknown"))
    assert runner.poll(run_dir) == "absent"
    runner.submit(run_dir, os.environ)
    assert len(door.sent) == 2


def test_a_job_that_the_engine_forgot_goes_on_while_its_supervisor_breathes(
    at_once: None, tmp_path: Path
) -> None:
    runner, _, run_dir = handed_in(tmp_path, Job("unknown"))
    take(run_dir)
    (run_dir / "heartbeat.json").write_text("{}")
    assert runner.poll(run_dir) == "running"
    os.utime(run_dir / "heartbeat.json", (1, 1))
    assert runner.poll(run_dir) == "lost"


def test_a_job_that_reaches_no_node_is_given_up_and_can_no_longer_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner, door, run_dir = handed_in(tmp_path, Job("running"))
    assert runner.poll(run_dir) == "starting"
    monkeypatch.setattr(engine, "START_SECONDS", -1.0)
    assert runner.poll(run_dir) == "lost"
    assert door.ended == ["1"]
    assert not take(run_dir)


def test_a_job_whose_supervisor_is_stuck_is_ended_by_us_where_the_engine_keeps_no_time(
    tmp_path: Path,
) -> None:
    runner, door, run_dir = handed_in(tmp_path, Job("running"))
    take(run_dir)
    assert runner.poll(run_dir) == "running"
    assert door.ended == []
    record = json.loads((run_dir / "taken").read_text())
    record["at"] -= 60 * (minutes(read_spec(run_dir)) + 2)
    (run_dir / "taken").write_text(json.dumps(record))
    runner.poll(run_dir)
    assert door.ended == ["1"]


def test_a_run_is_handed_in_once(tmp_path: Path) -> None:
    runner, door, run_dir = handed_in(tmp_path, Job("waiting"))
    runner.submit(run_dir, os.environ)
    (run_dir / "job.json").unlink()  # killed between the engine's answer and our note of it
    runner.submit(run_dir, os.environ)
    assert len(door.sent) == 1
    assert runner.poll(run_dir) == "starting"


def test_of_two_jobs_for_one_run_the_one_that_took_it_counts(tmp_path: Path) -> None:
    runner, door, run_dir = handed_in(tmp_path, Job("running"))
    (run_dir / "taken").write_text(json.dumps({"job": "77", "at": 4e9}))
    assert "job 77" in runner.place(run_dir)
    runner.cancel(run_dir)
    assert door.ended == ["77"]


def test_the_engine_ends_a_job_later_than_the_supervisor_ever_would(tmp_path: Path) -> None:
    spec = read_spec(a_run(tmp_path, kill_after=600, grace=10.0))
    assert minutes(spec) == 12
    assert minutes(spec) * 60 >= 600 + 10 + 60


def test_the_environment_lies_in_the_runs_folder_for_its_owner_alone_and_without_keys(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, sandbox={"mode": "auto", "write": []}, variables=["PLAIN"])
    Engine(Said(Job("waiting"))).submit(
        run_dir, {"PATH": "/bin", "PLAIN": "1", "SOME_TOKEN": "x", "OTHER": "y"}
    )
    path = run_dir / "environment.json"
    assert json.loads(path.read_text()) == {"PATH": "/bin", "PLAIN": "1"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- autoresearch.yaml ------------------------------------------------------------------------------------


def read(folder: Path, runner: str) -> Settings:
    (folder / "autoresearch.yaml").write_text(GOOD + runner)
    return load(folder / "autoresearch.yaml")


def test_every_kind_has_a_runner_and_a_list_of_keys() -> None:
    assert set(KINDS) == set(RUNNERS) == set(KEYS)


def test_an_engines_keys_are_read_and_written_again(tmp_path: Path) -> None:
    keys = "partition: gpu, account: lab, gres: 'gpu:a100:1', extra: [--mem=64G, -x n1]"
    settings = read(tmp_path, f"runner: {{kind: slurm, slots: 8, {keys}}}\n")
    assert settings.runner == "slurm"
    assert settings.cluster == Cluster("gpu", "lab", "gpu:a100:1", extra=("--mem=64G", "-x n1"))
    (tmp_path / "autoresearch.yaml").write_text(render(settings))
    assert load(tmp_path / "autoresearch.yaml") == settings


@pytest.mark.parametrize(
    ("runner", "seen", "hint"),
    [
        ("runner: {kind: slrum}\n", "slrum", "slurm"),
        ("runner: {kind: ray, partition: gpu}\n", "partition", "slurm"),
        ("runner: {gpus: 1}\n", "gpus", "slurm and ray"),
        ("runner: {kind: slurm, address: 'http://h:1'}\n", "address", "ray"),
        ("runner: {kind: ray, address: 'head:8265'}\n", "head:8265", "http"),
        ("runner: {kind: ray, address: 'http://user:word@head:8265'}\n", "address", "http"),
        ("runner: {kind: slurm, gpus: none}\n", None, None),
        ("runner: {kind: slurm, partiton: gpu}\n", "partiton", "partition"),
    ],
)
def test_a_wrong_key_is_named_with_the_way_out(
    tmp_path: Path, runner: str, seen: str | None, hint: str | None
) -> None:
    if seen is None:
        assert read(tmp_path, runner).cluster == Cluster()
        return
    with pytest.raises(LabError) as caught:
        read(tmp_path, runner)
    assert caught.value.code == CONFIG
    assert seen in caught.value.message
    assert hint is not None
    assert hint in caught.value.hint
