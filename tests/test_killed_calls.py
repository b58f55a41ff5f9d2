"""kill -9 at the k-th fsync, rename and fork of a try, and of its shell; power cuts; the long campaign."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_crash_points import EDITS, TRAIN, Trial, counts, prepared  # noqa: F401 - fixtures
from world import ENTRY

pytestmark = pytest.mark.faults

CAN_TRACE = (
    shutil.which("strace") is not None
    and not subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=none", "true"], capture_output=True
    ).returncode
)
# Each process of the tree counts its own calls: the command line, every git it starts, the supervisor.
CALLS = {"fsync": 9, "rename,renameat,renameat2": 7, "clone,clone3,fork,vfork": 12}
KILLS_OF_THE_SHELL = 50


@pytest.fixture(scope="module", name="ready")
def _ready(prepared: dict[str, Path]) -> Path:  # noqa: F811 - the fixture
    return prepared["ready"]


def children_seconds() -> float:
    """CPU time of the processes that were waited for, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def traced(trial: Trial, calls: str, count: int, log: Path) -> int:
    """Run a try in which every process dies at its `count`-th call; return how many did."""
    inject = f"inject={calls}:signal=KILL:when={count}"
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", inject]
    subprocess.run(
        [*command, sys.executable, str(ENTRY), "try", "a keep", "--wait", "30"],
        cwd=trial.world.root,
        env={**os.environ, **trial.world.env},
        capture_output=True,
        timeout=600,
    )
    return log.read_text(errors="replace").count("+++ killed by SIGKILL +++")


@pytest.mark.skipif(not CAN_TRACE, reason="strace is not there or may not trace")
@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls.split(",")[0])
def test_a_try_killed_at_any_call_loses_nothing(ready: Path, tmp_path: Path, calls: str) -> None:
    killed, slowest, busiest, failures = 0, 0.0, 0.0, []
    for count in range(1, CALLS[calls] + 1):
        place = tmp_path / str(count)
        place.mkdir()
        trial = Trial(ready, place)
        trial.world.edit(*EDITS["keep"])
        died = traced(trial, calls, count, place / "trace")
        killed += died > 0
        try:
            began, before = time.monotonic(), children_seconds()
            trial.world.ok("resume")
            slowest = max(slowest, time.monotonic() - began)
            busiest = max(busiest, children_seconds() - before)
            trial.settle()
            if len([r for r in trial.world.records() if r["event"] == "proposed"]) < 2:
                trial.world.ok("try", "a keep")
            trial.settle()
            trial.check(["keep", "keep"])
        except Exception as error:
            failures.append(f"{calls} {count} ({died} killed): {str(error)[:400]}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    name = calls.split(",")[0]
    print(
        f"FIGURE P2 {name}_kills={killed} damaged={len(failures)} slowest_resume_s={slowest:.2f}"
        f" slowest_resume_cpu_s={busiest:.2f}"
    )
    assert busiest < 2, "what a loaded machine does not change"
    assert not failures, "\n".join(failures)
    assert killed >= 3


def test_the_launching_shell_killed_fifty_times_costs_no_run(ready: Path, tmp_path: Path) -> None:
    """The whole process group of an agent's shell dies at a random moment; a new session goes on."""
    rng = random.Random(11)
    trial = Trial(ready, tmp_path)
    world = trial.world
    usual, lost = 1.0, 0
    for number in range(KILLS_OF_THE_SHELL):
        text = world.read("train.py")
        assert "LR = " in text
        world.write("train.py", TRAIN.replace("LR = 1.00", f"LR = {2.0 + number}"))
        began = time.monotonic()
        shell = subprocess.Popen(
            ["sh", "-c", f'"$0" "$1" try "idea {number}"; true', sys.executable, str(ENTRY)],
            cwd=world.root,
            env={**os.environ, **world.env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            shell.wait(rng.uniform(0.05, 1.1) * usual)
            usual = time.monotonic() - began
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        world.ok("resume")
        for _ in range(5):
            if not world.ok("status")["next"].startswith("`wait`"):
                break
            world.run("wait")
        if not any(r.get("hypothesis") == f"idea {number}" for r in world.records()):
            assert world.read("train.py") != world.git("show", "main:train.py"), "the edit is lost"
            world.ok("try", f"idea {number}")
    records = world.records()
    ideas = [r["hypothesis"] for r in records if r["event"] == "proposed"]
    given = [r["experiment"] for r in records if r["event"] == "verdict"]
    executed = trial.executions()
    lost = KILLS_OF_THE_SHELL + 1 - len(set(given))
    print(f"FIGURE P7 shell_kills={KILLS_OF_THE_SHELL} lost={lost} doubled={len(given) - len(set(given))}")
    assert sorted(ideas) == sorted(["baseline", *(f"idea {n}" for n in range(KILLS_OF_THE_SHELL))])
    assert len(given) == len(set(given)) == KILLS_OF_THE_SHELL + 1
    assert executed and all(count == 1 for count in executed.values()), executed
    assert world.ok("verify")["holds"] is True


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_power_cut_loses_an_acknowledged_record(kind: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which(f"mkfs.{kind}") is None or shutil.which("unshare") is None:
        pytest.skip(f"needs root and mkfs.{kind}")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, str(Path(__file__).with_name("powercut.py")), kind, "--cuts", "25"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_long_campaign_leaves_nothing_behind(tmp_path: Path) -> None:
    from soak import figure, soak

    seen = soak(tmp_path / "soak", int(os.environ.get("SOAK_EXPERIMENTS", "2000")), every=200)
    print(figure(seen))
    assert seen.left == [] and seen.holds
    assert seen.status_bytes <= 8000 and seen.ours_mb < 60 and (seen.supervisor_mb or 0) < 60
    assert seen.disk_mb_per_run <= 1.5
