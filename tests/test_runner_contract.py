from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from runs import a_run, alive, claimed, pids_in, result_of, tree_of, until

from lab.cluster import Cluster
from lab.errors import CONFIG, LabError
from lab.runners import catalog
from lab.runners.base import STATES, Runner
from lab.runners.catalog import RUNNERS

SCRIPTS = Path(catalog.__file__).parents[2]
COUNTS = "open('count', 'a').write('x')\n"
SLEEPS = "import os, time; print(os.getpid(), file=open('pids', 'a'), flush=True); time.sleep(600)"
SUBMIT = """if True:
    import json, os, sys
    from pathlib import Path
    from lab.cluster import Cluster
    from lab.runners.catalog import runner
    runner(sys.argv[1], Cluster(**json.loads(sys.argv[3]))).submit(Path(sys.argv[2]), os.environ)
"""


@pytest.fixture(params=["local", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("slurm", "ray"))])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    if kind == "local":
        return Cluster()
    place = request.getfixturevalue(f"{kind}_cluster")
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    return place.cluster


@pytest.fixture
def runner(kind: str, settings: Cluster) -> Runner:
    return catalog.runner(kind, settings)


def _launch(kind: str, settings: Cluster, run_dir: Path, after: str = "") -> subprocess.Popen[bytes]:
    words = [kind, str(run_dir), json.dumps(dataclasses.asdict(settings))]
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT + after, *words], cwd=SCRIPTS, start_new_session=True
    )


def test_every_runner_of_the_catalog_goes_through_these_tests() -> None:
    assert set(RUNNERS) == {"local", "slurm", "ray"}


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LabError, match="slrum") as caught:
        catalog.runner("slrum")
    assert caught.value.code == CONFIG
    assert all(kind in caught.value.hint for kind in RUNNERS)


def test_a_run_goes_from_absent_to_done(runner: Runner, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "print('val_bpb: 0.9')")
    seen = [runner.poll(run_dir)]
    runner.submit(run_dir, os.environ)
    while seen[-1] not in ("done", "lost"):
        seen.append(runner.poll(run_dir))
        time.sleep(0.005)
    assert seen[0] == "absent"
    assert [s for s in STATES if s in seen] == sorted(set(seen), key=seen.index)
    assert result_of(run_dir, runner)["metric"] == 0.9


def test_a_second_submit_of_a_run_changes_nothing(runner: Runner, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, COUNTS)
    for _ in range(3):
        runner.submit(run_dir, os.environ)
    result_of(run_dir, runner)
    runner.submit(run_dir, os.environ)
    assert (tree_of(run_dir) / "count").read_text() == "x"


def test_a_run_outlives_the_process_that_submitted_it(
    kind: str, settings: Cluster, runner: Runner, tmp_path: Path
) -> None:
    run_dir = a_run(tmp_path, "import time; time.sleep(0.5); print('val_bpb: 0.9')")
    with _launch(kind, settings, run_dir) as launcher:
        assert launcher.wait() == 0
    assert result_of(run_dir, runner)["outcome"] == "ok"


def test_no_process_of_ours_stays_behind_in_the_caller(runner: Runner, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path)
    before = {child.pid for child in psutil.Process().children()}  # of other tests, not yet reaped
    runner.submit(run_dir, os.environ)
    result_of(run_dir, runner)
    assert {child.pid for child in psutil.Process().children()} <= before


def test_a_cancelled_run_ends_and_says_so(runner: Runner, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, SLEEPS)
    runner.submit(run_dir, os.environ)
    pids = pids_in(tree_of(run_dir) / "pids", 1)
    assert runner.poll(run_dir) == "running"
    runner.cancel(run_dir)
    assert result_of(run_dir, runner)["outcome"] == "cancelled"
    assert not any(alive(pid) for pid in pids)


def test_reaping_a_living_run_does_nothing(runner: Runner, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, SLEEPS)
    runner.submit(run_dir, os.environ)
    pids = pids_in(tree_of(run_dir) / "pids", 1)
    assert runner.reap(run_dir) == 0
    assert all(alive(pid) for pid in pids)
    runner.cancel(run_dir)
    result_of(run_dir, runner)


def test_before_the_first_heartbeat_there_is_none(runner: Runner, tmp_path: Path) -> None:
    assert runner.heartbeat(a_run(tmp_path)) is None


def test_a_claim_made_unreadable_by_a_power_cut_reads_as_lost(tmp_path: Path) -> None:
    runner = catalog.runner("local")
    run_dir = a_run(tmp_path)
    (run_dir / "claim").write_bytes(bytes(150))
    assert runner.poll(run_dir) == "lost"
    assert runner.reap(run_dir) == 0


def test_a_claim_of_another_boot_reads_as_lost(tmp_path: Path) -> None:
    runner = catalog.runner("local")
    run_dir = a_run(tmp_path)
    (run_dir / "claim").write_text(
        f'{{"pid": {os.getpid()}, "starttime": "1", "boot_id": "old", "nonce": "x"}}'
    )
    (run_dir / "heartbeat.json").write_text(f'{{"tree": [[{os.getpid()}, "1"]]}}')
    assert runner.poll(run_dir) == "lost"
    assert runner.reap(run_dir) == 0


LEAVES_TWO = """
import os, sys, time
for cleared in (False, True):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print(os.getpid(), file=open('pids', 'a'), flush=True)
            program = [sys.executable, '-c', 'import time; time.sleep(600)']
            os.execve(sys.executable, program, {} if cleared else dict(os.environ))
        os._exit(0)
print(os.getpid(), file=open('pids', 'a'), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death reaches the child only on Linux")
def test_a_killed_supervisor_takes_the_training_along_and_the_rest_is_reaped(
    kind: str, runner: Runner, tmp_path: Path
) -> None:
    run_dir = a_run(tmp_path, LEAVES_TWO)
    stranger = subprocess.Popen(["sleep", "600"], env={**os.environ, "AUTORESEARCH_RUN": "e001.1:other"})
    runner.submit(run_dir, os.environ)
    pids = pids_in(tree_of(run_dir) / "pids", 3)
    until(lambda: len(list(_tree(runner, run_dir))) == 3)
    os.kill(int(str(claimed(run_dir)["pid"])), signal.SIGKILL)
    until(lambda: runner.poll(run_dir) == "lost")
    until(lambda: sum(alive(pid) for pid in pids) <= 2)
    reaped = runner.reap(run_dir)
    assert reaped == 2 or kind != "local"  # an engine may have ended some of them itself
    assert not any(alive(pid) for pid in pids)
    assert runner.reap(run_dir) == 0
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def _tree(runner: Runner, run_dir: Path) -> list[object]:
    beat = runner.heartbeat(run_dir) or {}
    rows = beat.get("tree", [])
    assert isinstance(rows, list)
    return rows


@pytest.mark.slow
def test_many_submits_at_once_execute_the_run_once(
    kind: str, settings: Cluster, runner: Runner, tmp_path: Path
) -> None:
    run_dir = a_run(tmp_path, COUNTS + "import time; time.sleep(0.5)")
    launchers = [_launch(kind, settings, run_dir) for _ in range(20 if kind == "local" else 5)]
    assert [launcher.wait() for launcher in launchers] == [0] * len(launchers)
    assert result_of(run_dir, runner)["outcome"] == "ok"
    time.sleep(0.5)  # a supervisor that started late would show now
    assert (tree_of(run_dir) / "count").read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3])
def test_killing_the_launchers_whole_process_group_loses_no_run(
    kind: str, settings: Cluster, runner: Runner, tmp_path: Path, delay: float
) -> None:
    if kind != "local" and delay not in (0.1, 0.2):
        return  # a job takes a second or more; two of these are enough of them
    run_dir = a_run(tmp_path, COUNTS + "import time; time.sleep(0.3)")
    with _launch(kind, settings, run_dir, "import time; time.sleep(600)") as launcher:
        time.sleep(delay)
        os.killpg(launcher.pid, signal.SIGKILL)
    time.sleep(0.2)
    runner.submit(run_dir, os.environ)  # what `resume` does for a run that nobody has taken up
    assert result_of(run_dir, runner)["outcome"] == "ok"
    assert (tree_of(run_dir) / "count").read_text() == "x"
