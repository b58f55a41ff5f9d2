from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import a_run, alive, pids_in, result_of, tree_of

from lab.runners.local import Local

# Every way a descendant can get away from a process group, an environment cookie, or both. None of them
# listens to SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
SLEEP = [sys.executable, '-c',
    'import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);'
    'print(os.getpid(), file=open("pids", "a"), flush=True); time.sleep(300)']

def double_fork(environment):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, SLEEP, environment)
        os._exit(0)
    os.wait()

subprocess.Popen(SLEEP)
subprocess.Popen(SLEEP, start_new_session=True)
subprocess.Popen(SLEEP, process_group=0) if sys.version_info >= (3, 11) else subprocess.Popen(SLEEP)
double_fork(dict(os.environ))
double_fork({})
print(os.getpid(), file=open('pids', 'a'), flush=True)
LAST
"""


def _stranger(folder: Path) -> subprocess.Popen[bytes]:
    """A process with the run's program name that is none of its own."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3000)", "train.py"], cwd=folder)


def _ended_by_the_clock(
    folder: Path, code: str, count: int, first: float, grace: float
) -> tuple[Path, list[int]]:
    """A run whose `count` processes had begun before its time was over: a slow moment gets a longer time."""
    for number, limit in enumerate((first, 10.0, 60.0), 1):
        run_dir = a_run(folder, code, name=f"e00{number}.1", kill_after=limit, grace=grace)
        Local().submit(run_dir, os.environ)
        result_of(run_dir)
        pids = tree_of(run_dir) / "pids"
        if pids.exists() and pids.read_text().count("\n") >= count:
            return run_dir, pids_in(pids, count)
    raise AssertionError("they never began")


@pytest.mark.slow
def test_at_the_time_limit_every_descendant_dies_and_no_stranger(tmp_path: Path) -> None:
    stranger = _stranger(tmp_path)
    run_dir, pids = _ended_by_the_clock(tmp_path, STUBBORN.replace("LAST", "time.sleep(300)"), 6, 2, 1)
    assert len(pids) == 6
    result = result_of(run_dir)
    assert (result["outcome"], result["signal"]) == ("timeout", 9)
    assert not any(alive(pid) for pid in pids)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.slow
def test_what_a_run_leaves_behind_when_it_ends_by_itself_dies_too(tmp_path: Path) -> None:
    all_begun = "while open('pids').read().count('\\n') < 6: time.sleep(0.05)\nprint('val_bpb: 0.9')"
    run_dir = a_run(tmp_path, STUBBORN.replace("LAST", all_begun), grace=0.5, kill_after=120)
    stranger = _stranger(tmp_path)
    Local().submit(run_dir, os.environ)
    result, pids = result_of(run_dir), pids_in(tree_of(run_dir) / "pids", 6)
    assert (result["outcome"], result["metric"]) == ("ok", 0.9)
    assert not any(alive(pid) for pid in pids)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.slow
def test_a_fork_that_goes_on_forking_while_it_is_killed_is_caught(tmp_path: Path) -> None:
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), file=open('pids', 'a'), flush=True)
open('beat', 'w').write('0')
end = time.time() + 30
while time.time() < end:
    if os.fork():
        os._exit(0)  # the child goes on: a new pid fifty times a second
    os.setsid()
    time.sleep(0.02)
    open('beat', 'w').write(str(time.time()))
"""
    run_dir = a_run(tmp_path, code, grace=0.3)
    Local().submit(run_dir, os.environ)
    result_of(run_dir)
    beat = tree_of(run_dir) / "beat"
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last


@pytest.mark.slow
def test_a_stopped_process_is_ended_like_the_others(tmp_path: Path) -> None:
    code = "import os; print(os.getpid(), file=open('pids', 'a'), flush=True); os.kill(os.getpid(), 19)"
    run_dir, (pid,) = _ended_by_the_clock(tmp_path, code, 1, 0.5, 5)
    assert result_of(run_dir)["outcome"] == "timeout"
    assert not alive(pid)
