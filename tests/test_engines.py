"""Whole campaigns on a real Slurm and a real Ray: nothing lost, nothing doubled, the same journal as here."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusters import Place
from world import PREPARE, Project, a_project

pytestmark = pytest.mark.slow

KILL_AFTER = 3
# Writes who it is, on which device, when it began and ended, outside every folder of ours: a run that was
# executed twice, or beside too many others, shows.
TRAIN = """import json, os, sys, time
LR = 1.00
MODE = "fine"
def note(what):
    row = dict(run=os.environ["AUTORESEARCH_RUN"], pid=os.getpid(), what=what, at=time.time(),
               device=os.environ.get("CUDA_VISIBLE_DEVICES"))
    with open(os.environ["DIARY"], "a") as file:
        file.write(json.dumps(row) + chr(10))
note("begin")
print("step 1 loss 3.2", flush=True)
if MODE == "broken":
    note("end")
    raise ValueError("a broken idea")
if MODE == "hangs":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    time.sleep(600)
time.sleep(float(os.environ.get("SLEEP", "1")))
note("end")
print("---")
print(f"val_bpb: {LR:.6f}")
"""
SETTINGS = """command: python3 train.py
metric: {name: val_bpb, goal: min}
edit: [train.py]
protect: [prepare.py]
budget: {seconds: 2, kill_after: KILL_AFTER}
seed: {env: SEED}
decision: {min_effect: 0.001, max_runs: 1}
"""


@dataclass
class World:
    """A project whose runs keep a diary."""

    project: Project
    diary: Path

    def rows(self) -> list[dict]:
        if not self.diary.exists():
            return []
        return [json.loads(line) for line in self.diary.read_text().splitlines()]

    def events(self, name: str) -> list[dict]:
        return [row for row in self.project.records() if row["event"] == name]


@pytest.fixture
def diary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="diary-"))
    yield folder / "diary.jsonl"
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()


def a_world(folder: Path, diary: Path, runner: str) -> World:
    """A campaign at its beginning, with the runner's line in autoresearch.yaml."""
    settings = (
        SETTINGS.replace("KILL_AFTER", str(KILL_AFTER)) + f"sandbox: {{write: [{diary.parent}]}}\n" + runner
    )
    project = a_project(folder, {"train.py": TRAIN, "prepare.py": PREPARE, "autoresearch.yaml": settings})
    project.env["DIARY"] = str(diary)
    return World(project, diary)


def alive_of(world: World) -> list[int]:
    """Processes that carry a run of this world in their environment."""
    known = {row["run"].encode() for row in world.rows()}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(
                word.partition(b"AUTORESEARCH_RUN=")[2] in known
                for word in words
                if word[:17] == b"AUTORESEARCH_RUN="
            ):
                found.append(int(entry.name))
    return found


def most_at_once(rows: list[dict]) -> int:
    """The largest number of runs at work together; one that was killed counts at its beginning."""
    ends = {row["run"]: row["at"] for row in rows if row["what"] == "end"}
    spans = [(r["at"], ends.get(r["run"], r["at"])) for r in rows if r["what"] == "begin"]
    return max((sum(a <= at < b or at == a for a, b in spans) for at, _ in spans), default=0)


def doubled(rows: list[dict]) -> list[str]:
    """Runs that were executed more than once."""
    began = [row["run"] for row in rows if row["what"] == "begin"]
    return sorted({run for run in began if began.count(run) > 1})


def until(world: World, true, seconds: float = 240) -> None:
    """Wait for something, the campaign being moved on by `status` as a person's look would."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, world.project.run("status").out
        time.sleep(0.1)


def kill_mover(world: World) -> None:
    """End what moves the campaign on while nobody calls."""
    found = world.project.ok("status")["slots"]["mover"]
    if found:
        os.kill(int(found), signal.SIGKILL)


def propose_twelve(world: World) -> dict[str, str]:
    """Twelve candidates: mode by experiment."""
    modes = {4: "broken", 7: "hangs"}
    said = {}
    for n in range(1, 13):
        world.project.edit("LR = 1.00", f"LR = {1 + n / 100:.2f}")
        world.project.edit('MODE = "fine"', f'MODE = "{modes.get(n, "fine")}"')
        answer = world.project.ok("try", f"change number {n}", "--wait", "0")
        said[answer["experiment"]] = modes.get(n, "fine")
    return said


@pytest.mark.parametrize("cluster", ["slurm", "ray"], indirect=True)
def test_twelve_experiments_two_at_a_time_survive_kills_of_driver_and_node(
    cluster: Place, tmp_path: Path, diary: Path
) -> None:
    world = a_world(tmp_path / "project", diary, cluster.settings(slots=2))
    project = world.project
    project.begin()
    modes = propose_twelve(world)
    assert len(modes) == 12
    driver = project.start("wait", "--max", "300")
    until(world, lambda: len(world.events("run_ended")) >= 3)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    kill_mover(world)
    if cluster.kind == "slurm":
        until(world, lambda: set(states(world)) == {"running"})  # nobody lives who would start another
        cluster.restart_node()
    project.ok("resume")
    cancelled = cancel_one(world)
    until(world, lambda: project.run("wait", "--max", "10") and not open_ones(world))

    ended = world.events("run_ended")
    outcomes = {row["run"]: row["outcome"] for row in ended}
    verdicts = {row["experiment"]: row["verdict"] for row in world.events("verdict")}
    assert set(modes) <= set(verdicts)
    assert sorted(row["run"] for row in world.events("run_started")) == sorted(outcomes)
    assert len(ended) == len(outcomes), "a result was taken twice"
    assert doubled(world.rows()) == []
    assert most_at_once(world.rows()) <= 2
    assert outcomes[cancelled] == "cancelled"
    hung = next(
        row for row in ended if modes.get(row["experiment"]) == "hangs" and row["outcome"] == "timeout"
    )
    assert hung["seconds"] - KILL_AFTER < 10 + 5  # TERM, ten seconds of grace, KILL
    assert {e: v for e, v in verdicts.items() if v == "crash"}.keys() == {
        e for e, mode in modes.items() if mode != "fine"
    }
    until(world, lambda: not alive_of(world), 30)
    project.ok("verify")


def open_ones(world: World) -> list[str]:
    """Experiments without a verdict."""
    done = {row["experiment"] for row in world.events("verdict")}
    return [row["experiment"] for row in world.events("proposed") if row["experiment"] not in done]


def states(world: World) -> list[str]:
    """Where the runs at work stand; nothing is moved on."""
    from lab.campaign import Lab

    lab = Lab(world.project.root)
    lab.read()
    return [lab.runner.poll(lab.run_dir(run)) for _, run in lab.state.at_work()]


def cancel_one(world: World) -> str:
    """End a run that is at work, as `stop --now` does; it is repeated like every run that was cancelled."""
    from lab.campaign import Lab

    lab = Lab(world.project.root)
    found: list[str] = []

    def one_at_work() -> bool:
        lab.read()
        for experiment, run in lab.state.at_work():
            if experiment.id not in ("e004", "e007") and lab.runner.poll(lab.run_dir(run)) == "running":
                lab.runner.cancel(lab.run_dir(run))
                found.append(run.id)
                return True
        return False

    until(world, one_at_work)
    return found[0]


# -- the same campaign everywhere ------------------------------------------------------------------------

# What may differ: moments, durations, memory, ids and the names of places.
APART = {"at", "link", "nonce", "seconds", "memory_gb", "sandbox", "slot", "base"}
HERE: list[dict] = []  # this machine's journal, made once for both engines and never changed


def plain(records: list[dict]) -> list[dict]:
    """The journal without what may differ; commits by the order of their first appearance."""
    names: dict[str, str] = {}

    def named(value: object) -> object:
        if isinstance(value, dict):
            return {k: named(v) for k, v in value.items() if k not in APART}
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, str) and len(value) == 40 and set(value) <= set("0123456789abcdef"):
            return names.setdefault(value, f"commit {len(names)}")
        return value

    rows = [named(row) for row in records]
    return [row for row in rows if isinstance(row, dict)]


def small_campaign(folder: Path, diary: Path, runner: str) -> list[dict]:
    """Two runs of the baseline, a keep, a discard, a crash and one that runs over its time."""
    world = a_world(folder, diary, runner)
    project = world.project
    project.env["SLEEP"] = "0.1"
    project.begin(repeats=2)
    for n, (old, new) in enumerate(
        [("LR = 1.00", "LR = 0.50"), ("LR = 0.50", "LR = 0.70"), ("fine", "broken"), ("fine", "hangs")]
    ):
        project.edit(old, new)
        answer = project.ok("try", f"change number {n}", "--wait", "100")
        while answer["status"] != "done":
            answer = project.ok("wait", answer["experiment"], "--max", "100")
    project.ok("finish")
    return plain(project.records())


@pytest.mark.parametrize("cluster", ["slurm", "ray"], indirect=True)
def test_a_campaign_has_the_same_journal_as_on_this_machine(
    cluster: Place, tmp_path: Path, diary: Path
) -> None:
    if not HERE:
        HERE.extend(small_campaign(tmp_path / "here", diary, "runner: {kind: local, slots: 1}\n"))
    there = small_campaign(tmp_path / "there", diary, cluster.settings(slots=1))
    kinds = [row.get("outcome") or row.get("verdict") for row in HERE]
    assert {"ok", "keep", "discard", "crash", "error", "timeout"} <= set(kinds)
    for mine, theirs in zip(HERE, there, strict=True):
        assert mine == theirs
