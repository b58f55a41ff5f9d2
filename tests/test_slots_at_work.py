"""Several runs at once, as real processes: what starts when, who waits for whom, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import PREPARE, a_project, wait_until

from lab import mover
from lab.campaign import Lab

# Tells that it has begun, and ends when its gate is opened.
TRAIN = """import os, pathlib, random, time
LR = 1.00
A = 1

B = 1

C = 1

D = 1

E = 1

gates, run = pathlib.Path(os.environ["GATES"]), os.environ["AUTORESEARCH_RUN"].split(":")[0]
(gates / f"{run}.began").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
while not (gates / "all").exists() and not (gates / run).exists():
    time.sleep(0.02)
print("---")
print(f"val_bpb: {LR + random.Random(int(os.environ['SEED'])).gauss(0, 1) * 0.001:.6f}")
"""
SETTINGS = """command: python3 train.py
metric: {{name: val_bpb, goal: min}}
edit: [train.py]
protect: [prepare.py]
budget: {{seconds: 60}}
seed: {{env: SEED}}
sandbox: off
decision: {{mode: fast, max_runs: 1}}
runner: {{slots: {slots}}}
"""


class Crowd:
    """A project whose runs end when they are told to."""

    def __init__(self, folder: Path, slots: str, locks: Path) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.world = a_project(folder / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
        self.world.write("autoresearch.yaml", SETTINGS.format(slots=slots))
        self.world.env |= {"GATES": str(self.gates), "AUTORESEARCH_SLOTS": str(locks)}
        self.home = self.world.root / ".autoresearch"

    def began(self, run: str) -> bool:
        return (self.gates / f"{run}.began").exists()

    def open(self, run: str = "all") -> None:
        (self.gates / run).touch()

    def shut(self) -> None:
        (self.gates / "all").unlink()

    def measured(self) -> Crowd:
        """With a baseline of three runs, and the gates shut again."""
        self.world.ok("init", "--tag", "t1")
        self.open()
        assert self.world.ok("baseline")["verdict"] == "keep"
        self.shut()
        return self

    def attempt(self, name: str, value: str = "2") -> dict:
        self.world.edit(f"{name} = 1", f"{name} = {value}")
        return self.world.ok("try", f"{name} {value}")

    def event(self, event: str, experiment: str) -> bool:
        return any(r["event"] == event and r["experiment"] == experiment for r in self.world.records())

    def rest(self) -> None:
        """Let everything end and wait for it, as a last `wait` would."""

        def over() -> bool:
            present = self.world.ok("status")  # a verdict may be under way when nothing runs
            return not present["running"] and not present["experiments"]["open"]

        self.open()
        wait_until(over)

    def whole(self) -> None:
        """Each run started once and ended once, each experiment has one verdict."""
        records = self.world.records()
        for one, other, key in (("run_started", "run_ended", "run"), ("proposed", "verdict", "experiment")):
            first = [r[key] for r in records if r["event"] == one]
            second = [r[key] for r in records if r["event"] == other]
            assert len(first) == len(set(first)) and sorted(first) == sorted(second), (first, second)


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def crowd(tmp_path: Path, locks: Path) -> Iterator[Crowd]:
    made = Crowd(tmp_path / "one", "2", locks)
    yield made
    leave(made)


def leave(made: Crowd) -> None:
    """Leave no process behind."""
    made.open()
    if (made.home / "journal.jsonl").exists():
        made.world.run("stop", "--now")
        wait_until(lambda: not mover.alive(made.home))


@pytest.mark.slow
def test_the_baselines_runs_go_side_by_side(crowd: Crowd) -> None:
    crowd.world.ok("init", "--tag", "t1")
    crowd.world.ok("baseline", "--repeats", "2", "--wait", "0")
    wait_until(lambda: crowd.began("e000.1") and crowd.began("e000.2"))
    crowd.open()
    done = crowd.world.ok("wait")
    assert done["verdict"] == "keep" and [run["seed"] for run in done["runs"]] == [42, 43]
    slots = [r["slot"] for r in crowd.world.records() if r["event"] == "run_ended"]
    assert sorted(slots) == ["CPU share 1 of 2", "CPU share 2 of 2"]


def test_what_is_queued_starts_when_a_run_ends_though_nobody_calls(crowd: Crowd) -> None:
    crowd.measured()
    assert [crowd.attempt(name)["status"] for name in "ABC"] == ["running", "running", "queued"]
    wait_until(lambda: mover.alive(crowd.home))
    present = crowd.world.ok("status")
    assert [run["id"] for run in present["running"]] == ["e001.1", "e002.1"]
    assert (present["queued"], present["slots"]["free"]) == (["e003"], 0) and present["slots"]["mover"]
    wait_until(lambda: crowd.began("e001.1") and crowd.began("e002.1"))
    assert not crowd.began("e003.1")
    crowd.open("e002.1")
    wait_until(lambda: crowd.began("e003.1"))
    assert crowd.event("verdict", "e002") and not crowd.event("verdict", "e001")
    crowd.rest()
    crowd.whole()


@pytest.mark.slow
def test_wait_comes_back_with_the_first_verdict_and_tells_of_the_others(crowd: Crowd) -> None:
    crowd.measured()
    for name in "AB":
        crowd.attempt(name)
    crowd.open("e002.1")
    assert crowd.world.ok("wait")["experiment"] == "e002"
    crowd.open("e001.1")
    wait_until(lambda: crowd.event("settled", "e001"))
    assert crowd.attempt("C")["meanwhile"] == [{"experiment": "e001", "verdict": "discard"}]


@pytest.mark.slow
def test_the_mover_leaves_the_files_alone_that_are_being_edited(crowd: Crowd) -> None:
    crowd.measured()
    crowd.world.edit("LR = 1.00", "LR = 0.50")
    crowd.world.ok("try", "halve")
    crowd.world.edit("E = 1", "E = 5")
    crowd.open()
    wait_until(lambda: crowd.event("settled", "e001"))
    assert "LR = 1.00" in crowd.world.read("train.py") and "E = 5" in crowd.world.read("train.py")
    tried = crowd.world.ok("try", "five", "--wait", "60")
    assert "LR = 0.50" in crowd.world.git("show", f"{tried['commit']}:train.py"), "it stands on the keep"
    assert crowd.world.git("diff", "--stat", tried["parent"], tried["commit"]).startswith("train.py | 2")


@pytest.mark.slow
def test_a_killed_mover_is_started_again_by_the_next_call(crowd: Crowd) -> None:
    crowd.measured()
    for name in "ABC":
        crowd.attempt(name)
    wait_until(lambda: mover.alive(crowd.home) > 1)  # it has written who it is
    pid = mover.alive(crowd.home)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: mover.alive(crowd.home) != pid)
    crowd.world.ok("status")
    wait_until(lambda: mover.alive(crowd.home) not in (0, pid))
    crowd.open("e001.1")
    wait_until(lambda: crowd.began("e003.1"))
    crowd.rest()
    crowd.whole()


@pytest.mark.slow
def test_a_killed_supervisor_frees_its_slot_and_its_run_is_repeated(crowd: Crowd) -> None:
    crowd.measured()
    crowd.attempt("A")
    wait_until(lambda: crowd.began("e001.1"))
    claim = crowd.home / "runs/e001.1/claim"
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: crowd.began("e001.2"))
    crowd.rest()
    crowd.whole()
    outcomes = [r["outcome"] for r in crowd.world.records() if r["event"] == "run_ended"][3:]
    assert outcomes == ["interrupted", "ok"]


@pytest.mark.slow
def test_stop_now_ends_the_runs_in_every_slot(crowd: Crowd) -> None:
    crowd.measured()
    for name in "ABC":
        crowd.attempt(name)
    wait_until(lambda: crowd.began("e001.1") and crowd.began("e002.1"))
    stopped = crowd.world.ok("stop", "--now")
    assert stopped["running"] == ["e001.1", "e002.1"]
    ended = {r["run"]: r["outcome"] for r in crowd.world.records() if r["event"] == "run_ended"}
    assert (ended["e001.1"], ended["e002.1"]) == ("cancelled", "cancelled")
    wait_until(lambda: not mover.alive(crowd.home))
    crowd.world.ok("resume")
    wait_until(lambda: crowd.began("e001.2") and crowd.began("e002.2"))
    crowd.rest()
    crowd.whole()


def test_two_campaigns_take_turns_on_one_device(tmp_path: Path, locks: Path) -> None:
    one, other = (Crowd(tmp_path / name, "[7]", locks) for name in ("one", "other"))
    try:
        one.world.ok("init", "--tag", "gpu")
        other.world.ok("init", "--tag", "gpu")
        one.world.ok("baseline", "--repeats", "1", "--wait", "0")
        wait_until(lambda: one.began("e000.1"))
        other.world.ok("baseline", "--repeats", "1", "--wait", "0")
        wait_until(lambda: other.world.ok("status")["running"][0].get("waits_for"))
        (waiting,) = other.world.ok("status")["running"]
        assert waiting["outcome"] == "queued"
        assert waiting["waits_for"] == f"GPU 7 (e000.1 of {one.world.root})"
        assert f"waits for GPU 7 (e000.1 of {one.world.root})" in other.world.run("status").out
        assert not other.began("e000.1")
        one.open()
        wait_until(lambda: other.began("e000.1"))
        assert (other.gates / "e000.1.began").read_text() == "7", "the variable names its device"
        other.open()
        assert other.world.ok("wait")["verdict"] == "keep"
        assert one.world.ok("wait")["verdict"] == "keep"
    finally:
        leave(one)
        leave(other)


@pytest.mark.slow
def test_a_run_that_waits_for_its_device_can_be_cancelled(tmp_path: Path, locks: Path) -> None:
    one, other = (Crowd(tmp_path / name, "[7]", locks) for name in ("one", "other"))
    try:
        one.world.ok("init", "--tag", "gpu")
        other.world.ok("init", "--tag", "gpu")
        one.world.ok("baseline", "--repeats", "1", "--wait", "0")
        wait_until(lambda: one.began("e000.1"))
        other.world.ok("baseline", "--repeats", "1", "--wait", "0")
        other.world.ok("stop", "--now")
        ended = [r["outcome"] for r in other.world.records() if r["event"] == "run_ended"]
        assert ended == ["cancelled"] and not other.began("e000.1")
    finally:
        leave(one)
        leave(other)


# -- beside the loop -----------------------------------------------------------------------------------


def with_a_keep(made: Crowd) -> Crowd:
    made.measured()
    made.open()
    made.world.edit("LR = 1.00", "LR = 0.50")
    assert made.world.ok("try", "halve", "--wait", "60")["verdict"] == "keep"
    made.shut()
    return made


def aside(made: Crowd, event: str = "run_started") -> list[dict]:
    return [r for r in made.world.records() if r["event"] == event and r["run"].startswith("c1.")]


def test_the_sides_of_a_pair_run_beside_each_other_and_no_call_is_needed(tmp_path: Path, locks: Path) -> None:
    made = Crowd(tmp_path / "three", "3", locks)
    try:
        with_a_keep(made).world.ok("confirm", "--pairs", "5", "--wait", "0")
        wait_until(lambda: made.began("c1.1") and made.began("c1.2"))
        first, second = aside(made)  # one slot is free, and no side of another pair gets it
        assert (first["pair"], second["pair"]) == (1, 1) and first["seed"] == second["seed"]
        assert made.world.ok("status")["slots"]["free"] == 1
        made.open("c1.1")
        wait_until(lambda: made.began("c1.3") and made.began("c1.4"))
        assert {(r["pair"], r["seed"]) for r in aside(made)[2:]} == {(2, aside(made)[2]["seed"])}
        made.open()
        wait_until(lambda: any(r["event"] == "confirmed" for r in made.world.records()))
        result = made.world.ok("confirm")
        assert result["verdict"] == "confirmed" and result["pairs"]["done"] == 5
        ends = [r["run"] for r in aside(made, "run_ended")]
        assert sorted(ends) == sorted(r["run"] for r in aside(made)) and len(ends) == len(set(ends)) == 10
        assert made.world.ok("verify")["holds"] is True
    finally:
        leave(made)


@pytest.mark.slow
def test_a_fault_that_ends_both_sides_at_once_stops_nothing(crowd: Crowd) -> None:
    with_a_keep(crowd).world.ok("confirm", "--pairs", "5", "--wait", "0")
    for first in (1, 3, 5):  # six in a row, but three times
        runs = [f"c1.{first}", f"c1.{first + 1}"]
        wait_until(lambda: all(map(crowd.began, runs)))  # noqa: B023
        lab = Lab.find(crowd.world.root)
        with lab.changing("test"):  # nobody sees one of them dead and the other alive
            for run in runs:
                claim = json.loads((crowd.home / f"runs/{run}/claim").read_text())
                os.kill(claim["pid"], signal.SIGKILL)
            wait_until(lambda: all(lab.runner.poll(crowd.home / "runs" / r) == "lost" for r in runs))  # noqa: B023
    wait_until(lambda: bool(crowd.world.ok("status")["stopped"]))
    assert "3 times in a row" in crowd.world.ok("status")["stopped"] and len(aside(crowd)) == 6
    crowd.open()
    crowd.world.ok("resume")
    wait_until(lambda: any(r["event"] == "confirmed" for r in crowd.world.records()))
    assert crowd.world.ok("confirm")["verdict"] == "confirmed"


@pytest.mark.slow
def test_with_one_slot_a_confirmation_goes_on_without_a_call(tmp_path: Path, locks: Path) -> None:
    made = Crowd(tmp_path / "alone", "1", locks)
    try:
        with_a_keep(made).world.ok("confirm", "--pairs", "5", "--wait", "0")
        made.open()
        wait_until(lambda: any(r["event"] == "confirmed" for r in made.world.records()))
        sides = "".join("B" if r["experiment"] == "e000" else "F" for r in aside(made))
        assert sides == "BFFBBFFBBF"
    finally:
        leave(made)
