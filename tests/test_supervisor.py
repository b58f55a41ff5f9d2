from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import a_run, alive, claimed, executed, pids_in, result_of, tree_of, until
from world import carrying

from lab import supervisor
from lab.clock import ClockSample, interruption
from lab.result import Ending, outcome_of
from lab.runlog import RunLog
from lab.runners.local import Local

KEYS = {
    *(
        "schema",
        "run",
        "nonce",
        "outcome",
        "exit_code",
        "facts",
        "signal",
        "started_at",
        "ended_at",
        "seconds",
    ),
    *("peak_rss_mb", "memory_gb", "metric", "level", "problem", "detail", "values", "log_bytes"),
    *("protected_changed", "digest", "host", "hardware"),
}
PRINTS = "print('val_bpb: 0.9'); "
SLEEPS = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(600)"


# -- how a run can end -----------------------------------------------------------------------------------


def test_a_run_that_prints_its_metric_ends_ok_with_the_number(tmp_path: Path) -> None:
    result = executed(tmp_path, PRINTS)
    assert set(result) == KEYS
    assert (result["outcome"], result["metric"], result["exit_code"]) == ("ok", 0.9, 0)
    assert result["digest"] is None
    assert float(str(result["memory_gb"])) > 0


def test_a_command_that_ends_at_once_has_a_result(tmp_path: Path) -> None:
    result = executed(tmp_path, argv=["true"])
    assert (result["outcome"], result["metric"]) == ("ok", None)
    assert result["problem"] == "no_metric"
    assert result["digest"]


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code", "number"),
    [
        ("raise SystemExit(3)", "error", 3, None),
        ("raise ValueError('no')", "error", 1, None),
        ("import os; os.kill(os.getpid(), 9)", "killed", 137, 9),
        ("import os; os.kill(os.getpid(), 15)", "killed", 143, 15),
        ("import os; os.kill(os.getpid(), 11)", "error", 139, 11),
        ("import os; os.kill(os.getpid(), 6)", "error", 134, 6),
    ],
)
def test_the_exit_status_is_what_the_outcome_rests_on(
    tmp_path: Path, code: str, outcome: str, exit_code: int, number: int | None
) -> None:
    result = executed(
        tmp_path, "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); " + PRINTS + code
    )
    assert (result["outcome"], result["exit_code"], result["signal"]) == (outcome, exit_code, number)
    assert result["metric"] is None
    assert result["digest"]


def test_a_command_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    result = executed(tmp_path, argv=["no-such-program", "x"])
    assert (result["outcome"], result["exit_code"]) == ("error", 127)
    assert "no-such-program" in str(result["detail"])


def test_a_file_that_cannot_be_executed_is_an_error(tmp_path: Path) -> None:
    result = executed(tmp_path, argv=["./train.py"])
    assert (result["outcome"], result["exit_code"]) == ("error", 126)


def test_a_run_over_its_limit_is_a_timeout_even_if_it_then_ends_well(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, lambda *_: exit(0)); " + PRINTS + "time.sleep(600)"
    result = executed(tmp_path, code, kill_after=0.3, grace=5)
    assert (result["outcome"], result["metric"]) == ("timeout", None)


def test_a_full_disk_in_the_training_is_the_machines_fault(tmp_path: Path) -> None:
    result = executed(tmp_path, "raise OSError(28, 'No space left on device')")
    assert result["outcome"] == "infra"


def test_below_the_floor_of_free_disk_nothing_starts(tmp_path: Path) -> None:
    result = executed(tmp_path, "open('ran', 'w')", free_disk_floor_mb=10**12)
    assert result["outcome"] == "infra"
    assert not list(tmp_path.rglob("ran"))


def test_a_run_cancelled_before_it_starts_does_not_start(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "open('ran', 'w')")
    Local().cancel(run_dir)
    Local().submit(run_dir, os.environ)
    assert result_of(run_dir)["outcome"] == "cancelled"
    assert not list(tmp_path.rglob("ran"))


def test_a_signal_to_the_supervisor_ends_the_training_and_is_no_evidence(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, SLEEPS)
    Local().submit(run_dir, os.environ)
    (pid,) = pids_in(tree_of(run_dir) / "pid", 1)
    os.kill(int(str(claimed(run_dir)["pid"])), signal.SIGTERM)
    assert result_of(run_dir)["outcome"] == "interrupted"
    assert not alive(pid)


# -- what may not be touched -----------------------------------------------------------------------------


def _hashes(run_dir: Path) -> dict[str, str]:
    content = b"limit = 300\n"
    (tree_of(run_dir) / "prepare.py").write_bytes(content)
    return {"prepare.py": hashlib.sha256(content).hexdigest()}


def _protecting(tmp_path: Path, code: str) -> Path:
    run_dir = a_run(tmp_path, code)
    spec = json.loads((run_dir / "spec.json").read_text())
    (run_dir / "spec.json").write_text(json.dumps(spec | {"protected": _hashes(run_dir)}))
    return run_dir


@pytest.mark.parametrize(
    "change",
    [
        "open('prepare.py', 'a').write('#')",
        "import os; os.remove('prepare.py')",
        "import os; os.rename('prepare.py', 'p'); os.symlink('p', 'prepare.py')",
    ],
)
def test_a_run_that_changes_a_protected_file_is_not_believed(tmp_path: Path, change: str) -> None:
    run_dir = _protecting(tmp_path, PRINTS + change)
    Local().submit(run_dir, os.environ)
    result = result_of(run_dir)
    assert (result["outcome"], result["protected_changed"]) == ("protected", ["prepare.py"])
    assert result["metric"] is None


def test_a_protected_file_that_differs_beforehand_keeps_the_run_from_starting(tmp_path: Path) -> None:
    run_dir = _protecting(tmp_path, "open('ran', 'w')")
    (tree_of(run_dir) / "prepare.py").write_text("limit = 3000\n")
    Local().submit(run_dir, os.environ)
    assert result_of(run_dir)["outcome"] == "protected"
    assert not (tree_of(run_dir) / "ran").exists()


# -- what the training sees ------------------------------------------------------------------------------

SHOW = "import os, json; json.dump(dict(os.environ), open('env.json', 'w'))"


def test_the_training_gets_the_runs_settings_and_name_and_not_our_test_switches(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, SHOW, env_add={"SEED": "42"})
    env = {**os.environ, "AUTORESEARCH_STEPS": str(tmp_path / "steps"), "AUTORESEARCH_DATA": "/data"}
    Local().submit(run_dir, env)
    result_of(run_dir)
    seen = json.loads((tree_of(run_dir) / "env.json").read_text())
    assert seen["SEED"] == "42"
    assert seen["AUTORESEARCH_RUN"].startswith("e001.1:")
    assert seen["AUTORESEARCH_RUN_DIR"] == str(run_dir)
    assert seen["AUTORESEARCH_DATA"] == "/data"
    assert "AUTORESEARCH_STEPS" not in seen
    assert (seen["PYTHONUNBUFFERED"], seen["MASTER_PORT"].isdigit()) == ("1", True)


def test_the_training_has_no_input_and_a_session_of_its_own(tmp_path: Path) -> None:
    code = (
        "import os, sys; assert sys.stdin.read() == ''; assert os.getsid(0) == os.getpid() == os.getpgid(0)"
    )
    assert executed(tmp_path, code)["outcome"] == "ok"


def test_output_and_errors_come_in_one_log_in_their_order(tmp_path: Path) -> None:
    executed(tmp_path, "import os; [os.write(i, b'%d\\n' % i) for i in (1, 2, 1)]")
    assert (tmp_path / "e001.1" / "run.log").read_text() == "1\n2\n1\n"


def test_a_metrics_file_of_the_run_counts(tmp_path: Path) -> None:
    code = """if True:
        import os
        with open(os.environ["AUTORESEARCH_RUN_DIR"] + "/metrics.json", "w") as file:
            file.write('{"val_bpb": 0.8}')
    """
    assert executed(tmp_path, code)["metric"] == 0.8


def test_a_metrics_file_that_came_with_the_commit_is_no_result(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "pass")
    (tree_of(run_dir) / "metrics.json").write_text('{"val_bpb": 0.1}')
    Local().submit(run_dir, os.environ)
    assert result_of(run_dir)["metric"] is None


def test_a_running_run_shows_signs_of_life(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "import time; print('step 1', flush=True); time.sleep(600)")
    Local().submit(run_dir, os.environ)
    until(lambda: Local().heartbeat(run_dir))
    beat = Local().heartbeat(run_dir)
    assert beat is not None
    assert {"at", "elapsed", "rss_mb", "log_bytes", "last_line"} <= set(beat)
    Local().cancel(run_dir)
    assert result_of(run_dir)["outcome"] == "cancelled"


# -- once and only once ----------------------------------------------------------------------------------


def test_a_run_whose_supervisor_died_is_never_executed_again(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "open('ran', 'w')")
    (run_dir / "claim").write_text('{"pid": 1}')
    Local().submit(run_dir, os.environ)
    until(lambda: supervisor.claim(run_dir) is None)
    assert not (tree_of(run_dir) / "ran").exists()


def test_a_run_with_a_result_is_never_executed_again(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "open('ran', 'w')")
    (run_dir / "run.json").write_text("{}")
    assert supervisor.claim(run_dir) is None


def test_an_empty_claim_can_be_claimed(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path)
    (run_dir / "claim").touch()
    descriptor = supervisor.claim(run_dir)
    assert descriptor is not None
    assert supervisor.claim(run_dir) is None
    os.close(descriptor)


POINTS = [
    "supervisor.start",
    "supervisor.claim.locked",
    "supervisor.claimed",
    "supervisor.spawned",
    "supervisor.child_ended",
    "supervisor.tree_dead",
    "supervisor.result_tmp",
    "supervisor.result_written",
]


def test_the_named_crash_points_are_the_ones_a_run_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_STEPS", str(tmp_path / "steps"))
    executed(tmp_path)
    until(lambda: "result_written" in (tmp_path / "steps").read_text())
    seen = [line.partition("#")[0] for line in (tmp_path / "steps").read_text().split()]
    assert [name for name in seen if name.startswith("supervisor.")] == POINTS


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_supervisor_killed_anywhere_loses_nothing_it_had_promised(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = a_run(tmp_path, "open('count', 'a').write('x')\nimport time; time.sleep(0.2)")
    monkeypatch.setenv("AUTORESEARCH_DIE_AT", f"{point}#1")
    steps = tmp_path / "steps"
    steps.touch()
    monkeypatch.setenv("AUTORESEARCH_STEPS", str(steps))
    Local().submit(run_dir, os.environ)
    monkeypatch.delenv("AUTORESEARCH_DIE_AT")
    until(lambda: f"{point}#1" in steps.read_text())
    until(
        lambda: not carrying(tmp_path)
    )  # one that has its claim and is not dead yet would keep the next away
    wanted = "absent" if point in POINTS[:2] else "done" if point == POINTS[-1] else "lost"
    until(lambda: Local().poll(run_dir) == wanted)
    Local().reap(run_dir)
    Local().submit(run_dir, os.environ)
    until(lambda: Local().poll(run_dir) != "running" and Local().poll(run_dir) != "absent")
    count = tree_of(run_dir) / "count"
    assert len(count.read_text() if count.exists() else "") <= 1
    assert Local().poll(run_dir) == ("lost" if wanted == "lost" else "done")


# -- clocks ----------------------------------------------------------------------------------------------

START = ClockSample(monotonic=100.0, wall=5000.0, boot=100.0)
LATER = ClockSample(monotonic=160.0, wall=5060.0, boot=160.0)


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (ClockSample(160.05, 5060.05, 160.05), None),
        (ClockSample(160.05, 5061.0, 160.05), None),
        (ClockSample(160.05, 5092.05, 192.05), "suspended"),
        (ClockSample(160.05, 5092.05, None), "clock jumped"),
        (ClockSample(160.05, 5050.0, 160.05), "clock jumped by -10 s"),
        (ClockSample(180.0, 5080.0, 180.0), "frozen"),
        (ClockSample(174.0, 5074.0, 174.0), None),
    ],
)
def test_a_sleep_a_clock_step_and_a_freeze_are_told_from_a_busy_machine(
    now: ClockSample, word: str | None
) -> None:
    why = interruption(START, LATER, now, gap_seconds=15)
    assert (why is None) == (word is None)
    assert (word or "") in (why or "")


def test_many_short_suspensions_add_up() -> None:
    now = ClockSample(160.05, 5060.05, 162.5)
    almost = ClockSample(160.0, 5060.0, 162.4)
    assert interruption(START, almost, now, 15)


def test_a_clock_slowly_corrected_over_hours_is_no_interruption() -> None:
    assert (
        interruption(START, ClockSample(9000.0, 13930.0, 9000.0), ClockSample(9000.05, 13930.06, 9000.05), 15)
        is None
    )


def _frozen(run_dir: Path, number: int) -> bool:
    """Start the run when nobody did, send supervisor and training a signal; whether both were there."""
    pid = tree_of(run_dir) / "pid"
    if number == signal.SIGSTOP:
        Local().submit(run_dir, os.environ)
        until(lambda: (pid.exists() and pid.read_text().endswith("\n")) or (run_dir / "run.json").exists())
    if not pid.exists():
        return False
    both = [int(str(claimed(run_dir)["pid"])), *pids_in(pid, 1)]
    with contextlib.suppress(ProcessLookupError):
        for one in both:
            os.kill(one, number)
        return True
    return False


@pytest.mark.slow
def test_a_run_that_was_frozen_is_interrupted_and_not_a_timeout(tmp_path: Path) -> None:
    for number, limit in enumerate((2.0, 10.0, 60.0), 1):  # a slow moment gets a longer time
        name = f"e00{number}.1"
        run_dir = a_run(tmp_path, PRINTS + SLEEPS, name=name, gap_seconds=limit / 2, kill_after=limit)
        began = time.monotonic()
        if _frozen(run_dir, signal.SIGSTOP) and time.monotonic() - began < limit / 2:
            time.sleep(limit + 0.5)
            assert _frozen(run_dir, signal.SIGCONT)
            break
        _frozen(run_dir, signal.SIGCONT)
    result = result_of(run_dir)
    assert (result["outcome"], result["metric"]) == ("interrupted", None)
    assert "frozen" in str(result["detail"])


# -- the outcome, as a function --------------------------------------------------------------------------


def _ending(status: int = 0, stopped: str | None = None, oom_kills: int = 0) -> Ending:
    return Ending(status, 1.0, stopped, "why", 10.0, 0, oom_kills)


@pytest.mark.parametrize(
    ("ending", "changed", "trouble", "outcome"),
    [
        (_ending(), [], None, "ok"),
        (_ending(), [], "no space left", "ok"),
        (_ending(256), [], None, "error"),
        (_ending(256), [], "no space left", "infra"),
        (_ending(9), [], None, "killed"),
        (_ending(137 * 256), [], None, "killed"),
        (_ending(64), [], None, "killed"),
        (_ending(9, oom_kills=1), [], None, "error"),
        (_ending(137 * 256, oom_kills=1), [], None, "error"),
        (_ending(15, oom_kills=1), [], None, "killed"),
        (_ending(9, "timeout"), [], None, "timeout"),
        (_ending(9, "interrupted"), [], None, "interrupted"),
        (_ending(9, "timeout"), ["prepare.py"], None, "protected"),
        (_ending(0), ["prepare.py"], None, "protected"),
        (_ending(9, "cancelled"), ["prepare.py"], None, "cancelled"),
    ],
)
def test_the_strongest_reason_to_doubt_a_run_is_its_outcome(
    ending: Ending, changed: list[str], trouble: str | None, outcome: str
) -> None:
    assert outcome_of(ending, changed, trouble)[0] == outcome


# -- the log ---------------------------------------------------------------------------------------------


def _logged(path: Path, pieces: list[bytes], head: int, tail: int) -> bytes:
    log = RunLog(path, head, tail)
    for piece in pieces:
        log.write(piece)
    log.close()
    return path.read_bytes()


def test_output_that_fits_is_logged_as_it_came(tmp_path: Path) -> None:
    assert _logged(tmp_path / "run.log", [b"ab", b"cd", b""], 4, 2) == b"abcd"


def test_output_a_little_over_the_head_loses_nothing(tmp_path: Path) -> None:
    assert _logged(tmp_path / "run.log", [b"abc", b"def"], 4, 2) == b"abcdef"


def test_a_flood_keeps_its_beginning_and_its_end_and_says_what_is_gone(tmp_path: Path) -> None:
    logged = _logged(tmp_path / "run.log", [b"%04d " % i for i in range(1000)], 20, 10)
    assert logged == b"0000 0001 0002 0003 \n[autoresearch: 4970 bytes of output cut here]\n0998 0999 "


def test_the_last_bytes_are_at_hand_while_the_run_goes_on(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run.log", 4, 8)
    log.write(b"0123456789")
    assert log.tail(3) == b"789"
    log.close()


def test_a_log_that_cannot_be_opened_does_not_stop_the_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "missing" / "run.log")
    log.write(b"x")
    log.close()
    assert log.total == 1
    assert log.trouble


@pytest.mark.slow
def test_a_flood_is_bounded_and_the_metric_in_the_middle_of_it_is_found(tmp_path: Path) -> None:
    code = """
import sys
noise = 'x' * 999 + '\\n'
for i in range(50_000):
    sys.stdout.write(noise)
    if i == 25_000: sys.stdout.write('val_bpb: 0.75\\n')
"""
    result = executed(tmp_path, code, kill_after=120)
    assert (result["outcome"], result["metric"]) == ("ok", 0.75)
    assert result["log_bytes"] == 50_000_000 + len("val_bpb: 0.75\n")
    assert (tmp_path / "e001.1" / "run.log").stat().st_size < 10_000_000
    assert b"bytes of output cut here" in (tmp_path / "e001.1" / "run.log").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs a file system of its own")
def test_a_disk_that_fills_up_costs_the_log_and_not_the_result(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], check=False).returncode:
        pytest.skip("mount is not permitted")
    try:
        code = "print('val_bpb: 0.5')\nfor _ in range(4000): print('x' * 999)\nprint('the end')"
        result = executed(small, code)
        assert (result["outcome"], result["metric"]) == ("ok", 0.5)
        assert "No space left" in str(result["detail"])
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
