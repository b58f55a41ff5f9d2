"""`drive` with scripted agents, real processes and, where it is installed, a real tmux."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import world
from world import Project

from lab.driving.seat import Seat, pane_name
from lab.driving.session import COOKIE
from lab.locks import hold

AGENT = Path(__file__).with_name("driven_agent.py")
PATIENT = 900.0  # seconds for what takes a few on a quiet machine
needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


@dataclass
class Night:
    """A campaign with its scripted agent."""

    project: Project
    folder: Path

    def moods(self, *moods: str) -> None:
        (self.folder / "moods").write_text("".join(f"{mood}\n" for mood in moods))

    def words(self, *flags: str) -> list[str]:
        return ["drive", "--pause", "0", *flags, "--", sys.executable, str(AGENT), str(self.folder)]

    def drive(self, *flags: str, env: dict[str, str] | None = None) -> world.Answer:
        return self.project.run("--json", *self.words(*flags), env=env, timeout=PATIENT)

    def start(self, *flags: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return self.project.start("--json", *self.words(*flags), env=env)

    @property
    def told(self) -> list[dict[str, object]]:
        path = self.folder / "told"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, *names: str) -> list[dict[str, object]]:
        return [record for record in self.project.records() if record["event"] in names]

    @property
    def home(self) -> Path:
        return self.project.root / ".autoresearch"

    @property
    def pane(self) -> str:
        return pane_name("t1", Path(os.path.realpath(self.project.root)))

    def processes(self) -> list[int]:
        """What is alive and belongs to a session of this campaign, keepers included."""
        found = []
        nonces = {str(record["nonce"]) for record in self.events("agent_started")}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if not entry.name.isdigit() or "Z" in (entry / "stat").read_text().rpartition(")")[2][:3]:
                    continue
                environ, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
                named = any(f"{COOKIE}=".encode() in environ and n.encode() in environ for n in nonces)
                if named or os.fsencode(self.home / "agent") in command:
                    found.append(int(entry.name))
        return found


def a_night(tmp_path: Path, files: dict[str, str] | None = None) -> Night:
    made = Night(world.a_project(tmp_path / "project", files), tmp_path / "agent")
    made.folder.mkdir()
    made.moods()
    return made


@pytest.fixture
def young(tmp_path: Path) -> Night:
    """A campaign before its baseline."""
    made = a_night(tmp_path)
    made.project.ok("init", "--tag", "t1")
    return made


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A campaign of four experiments with its baseline; whatever still lives at the end is ended."""
    made = a_night(tmp_path)
    made.project.begin("--experiments", "4")
    yield made
    for pid in made.processes():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if shutil.which("tmux"):
        subprocess.run(["tmux", "-L", made.pane, "kill-server"], capture_output=True)


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def nothing_lost(night: Night, experiments: int) -> None:
    """Each experiment is there once with one verdict, its ref and its row; the user's branch is untouched."""
    verdicts = [record["experiment"] for record in night.events("verdict")]
    wanted = [f"e{n:03d}" for n in range(experiments + 1)]
    assert sorted(verdicts) == wanted
    assert len(night.project.results()) == experiments + 1
    refs = night.project.git("for-each-ref", "--format=%(refname)", "refs/autoresearch/t1/").split()
    assert {f"refs/autoresearch/t1/{n}" for n in range(1, experiments + 1)} <= set(refs)
    assert night.project.git("rev-list", "--count", "main") == "1"
    sessions = [record["session"] for record in night.events("agent_started")]
    assert sessions == [f"s{n}" for n in range(1, len(sessions) + 1)]
    assert [record["session"] for record in night.events("agent_ended")] == sessions
    until(lambda: not night.processes(), "the end of all keepers")


# -- quick -----------------------------------------------------------------------------------------------


def test_an_agent_that_only_says_that_it_succeeded_is_given_up(young: Night) -> None:
    young.moods("lie", "lie")
    answer = young.drive("--fruitless", "2", "--no-tmux")
    assert answer.code == 4
    assert "2 sessions in a row brought no experiment" in answer.json["message"]
    ended = young.events("agent_ended")
    assert [(e["outcome"], e["steps"]) for e in ended] == [("exited", 0)] * 2
    assert "All 30 experiments are done" in str(ended[0]["detail"])
    assert young.events("drive_ended")[0]["gave_up"]
    once = young.drive("--once", "--no-tmux")  # a heartbeat leaves it at that
    assert once.code == 4 and len(young.told) == 2


def test_a_second_driver_says_who_drives(young: Night) -> None:
    with hold(young.home / "drive.lock", "drive"):
        for flags in ((), ("--once",)):
            answer = young.drive(*flags)
            assert answer.code == 8
            assert f"`drive` (pid {os.getpid()}" in answer.json["message"]
    assert young.told == []


def test_what_cannot_be_driven_is_refused_before_anything_starts(young: Night) -> None:
    young.project.refused(2, "drive")
    young.project.refused(2, "drive", "--", "claude", "--verbose")
    young.project.refused(4, "drive", "--", "no-such-agent")
    plain = young.project.run("drive", "--", "no-such-agent", "--json")  # the agent's option, not ours
    assert plain.code == 4 and plain.out == "" and plain.err.startswith("Error: ")
    assert young.events("agent_started") == []


def test_a_campaign_that_is_over_needs_no_agent(young: Night) -> None:
    young.project.ok("stop")
    answer = young.drive()
    assert answer.code == 0 and answer.json["reason"].startswith("stopped")
    assert answer.json["state"] == "over" and young.told == []


def test_permissions_and_heartbeat_are_printed_and_written_nowhere(young: Night) -> None:
    before = sorted(path.name for path in young.project.root.iterdir())
    rows = young.project.ok("doctor", "--permissions")["permissions"]
    assert [row["host"] for row in rows] == ["claude", "codex", "copilot", "cursor"]
    assert "status" in young.project.ok("drive", "--print", "heartbeat")["text"]
    line = young.project.ok("drive", "--print", "cron", "--", sys.executable, str(AGENT))["line"]
    assert "drive --once" in line and str(young.project.root) in line
    assert sorted(path.name for path in young.project.root.iterdir()) == before


# -- whole campaigns -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_thirty_experiments_are_made_by_agents_that_fail_in_every_way(tmp_path: Path) -> None:
    night = a_night(tmp_path)
    night.project.begin("--experiments", "30")
    night.moods(
        "exit 3", "crash 3", "lie", "limit", "hang 3", "kill 3", "paid 3", "crash", "limit 3", "lie 3",
        "exit 3", "paid 3",
    )  # fmt: skip
    answer = night.drive("--silent-after", "60")
    assert answer.code == 0, answer.out + answer.err
    assert answer.json["reason"] == "the campaign is finished"
    nothing_lost(night, 30)
    ended = night.events("agent_ended")
    assert {e["outcome"] for e in ended} == {"exited", "crashed", "limited", "silent"}
    assert sum(int(str(e["steps"])) for e in ended) == 31  # thirty experiments and the end
    assert [e["session"] for e in night.events("agent_silent")] == [
        e["session"] for e in ended if e["outcome"] == "silent"
    ]
    assert answer.json["cost_usd"] == 0.5  # what the two sessions that said something have said
    silent = len(night.events("agent_silent"))  # the hanging one has spoken; a slow one may not have
    assert len(ended) - max(0, silent - 1) <= len(night.told) <= len(ended)
    assert "never tried" not in str(night.told[0]["message"]) and "never tried" in str(
        night.told[1]["message"]
    )
    report = night.project.ok("wake")["agent"]
    assert (report["sessions"], report["said"], report["cost_usd"]) == (len(ended), 4, 0.5)


def cut(night: Night) -> None:
    """Kill a driver as soon as something has come into the journal."""
    before, driver = len(night.project.records()), night.start("--silent-after", "60")
    until(lambda: len(night.project.records()) > before + 1 or driver.poll() is not None, "progress")
    driver.kill()
    driver.communicate()


@pytest.mark.slow
def test_a_driver_killed_again_and_again_goes_on_where_it_was(night: Night) -> None:
    night.moods("exit 1", "hang 1", "exit 1")
    for _ in range(3):
        cut(night)
    answer = night.drive("--silent-after", "60")
    assert answer.code == 0, answer.out + answer.err
    nothing_lost(night, 4)
    started, silent = len(night.events("agent_started")), len(night.events("agent_silent"))
    assert started - max(0, silent - 1) <= len(night.told) <= started  # no session ran twice


POINTS = (
    "journal.agent_started.before", "journal.agent_started.after",
    "seat.spec_tmp", "seat.start", "seat.started",
    "keeper.start", "keeper.claimed", "keeper.spawned",
    "keeper.child_ended", "keeper.end_tmp", "keeper.ended",
    "drive.reaped", "journal.agent_ended.before", "journal.agent_ended.after",
    "journal.drive_ended.before", "journal.drive_ended.after",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_campaign_ends_with_nothing_lost(tmp_path: Path, point: str) -> None:
    night = a_night(tmp_path)
    night.moods("exit 1")
    night.project.begin("--experiments", "1")
    driver = night.start("--no-tmux", "--pause", "600", env={"AUTORESEARCH_DIE_AT": f"{point}#1"})
    if point.startswith("keeper"):  # every keeper of this driver dies there
        seat = Seat(night.home, "s1")
        ends = ("absent",) if point == "keeper.start" else ("lost", "done")
        until(lambda: (seat.folder / "keeper.log").exists() and seat.stand() in ends, "the keeper's end")
        driver.kill()
    driver.communicate(timeout=PATIENT)
    # One quicker than its killer starts a second session, and may even have come to the campaign's end.
    quicker = (0,) if point.startswith("keeper") else ()
    assert driver.returncode in (-signal.SIGKILL, *quicker)
    doomed = max(1, len(night.events("agent_started")))
    answer = night.drive("--no-tmux")
    assert answer.code == 0, answer.out + answer.err
    nothing_lost(night, 1)
    started = len(night.events("agent_started"))
    cut_short = doomed if point in ("keeper.claimed", "keeper.spawned") else 0  # before the agent said a word
    assert started - cut_short <= len(night.told) <= started  # no session ran twice
    assert sum(e["outcome"] == "lost" for e in night.events("agent_ended")) <= doomed


@pytest.mark.slow
def test_every_step_of_a_drive_is_a_point_it_was_killed_at(tmp_path: Path) -> None:
    night = a_night(tmp_path)
    night.moods("exit 1")
    night.project.begin("--experiments", "1")
    assert night.drive("--no-tmux", env={"AUTORESEARCH_STEPS": str(tmp_path / "steps")}).code == 0
    seen = {line.split("#")[0] for line in (tmp_path / "steps").read_text().split()}
    mine = ("keeper", "seat", "drive", "journal.agent", "journal.drive")
    assert {name for name in seen if name.startswith(mine)} == set(POINTS)


@pytest.mark.slow
def test_heartbeats_alone_finish_a_campaign(night: Night) -> None:
    night.moods("exit 2", "lie", "exit 1")
    states = []
    for _ in range(60):
        answer = night.drive("--once")
        assert answer.code == 0, answer.out + answer.err
        states.append(answer.json["state"])
        if states[-1] == "over":
            break
        seat = Seat(night.home, str(night.events("agent_started")[-1]["session"]))
        until(lambda s=seat: s.stand() == "done", "the session's end")
    assert states[-1] == "over" and set(states[:-1]) == {"working"}
    nothing_lost(night, 4)
    again = night.drive("--once")
    assert again.code == 0 and again.json["state"] == "over" and len(night.events("drive_ended")) == 1


@pytest.mark.slow
def test_a_reached_target_ends_the_search_and_the_campaign_is_closed(night: Night) -> None:
    night.moods("exit 3", "exit")
    answer = night.drive("--target", "0.995")  # the third experiment is better
    assert answer.code == 0 and answer.json["reason"] == "the campaign is finished"
    nothing_lost(night, 3)
    closing = [record for record in night.events("agent_started") if record["closing"]]
    assert "target 0.995 reached" in str(closing[0]["closing"])
    assert "Start no new experiment" in str(night.told[1]["message"])


SLOW_TRAIN = world.TRAIN.replace("import os, random\n", "import os, random, time\n").replace(
    'print("---")', 'time.sleep(3 if LR < 0.95 else 0)\nprint("---")'
)


@pytest.mark.slow
def test_an_interrupted_driver_ends_its_session_and_no_run(tmp_path: Path) -> None:
    files = {"train.py": SLOW_TRAIN, "prepare.py": world.PREPARE}
    night = a_night(tmp_path, files)
    night.project.begin("--experiments", "4")
    night.project.edit("LR = 1.00", "LR = 0.90")
    night.moods("hang")
    driver = night.start()
    until(lambda: night.told, "the agent")
    assert night.project.run("try", "slow", "--wait", "0").code == 0
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=PATIENT)
    assert driver.returncode == 130
    assert night.events("agent_ended")[0]["outcome"] == "ended"
    until(lambda: not night.processes(), "the end of all keepers")
    assert night.project.ok("wait", "--max", "300")["runs"][0]["outcome"] == "ok"
    assert [e["run"] for e in night.events("run_started")].count("e001.1") == 1


@pytest.mark.slow
def test_a_detached_driver_outlives_its_caller(night: Night) -> None:
    answer = night.drive("--detach")
    assert answer.code == 0 and answer.json["state"] == "detached"
    until(lambda: night.events("drive_ended"), "the end of the campaign")
    until(lambda: not Path(f"/proc/{answer.json['pid']}").exists(), "the driver's end")
    assert "the campaign is finished" in (night.home / "agent" / "drive.log").read_text()
    nothing_lost(night, 4)


# -- tmux ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_tmux
def test_a_person_can_look_at_a_session_in_tmux_and_closing_the_view_loses_nothing(night: Night) -> None:
    night.moods("hang 1", "hang 1")
    driver = night.start("--silent-after", "300")

    def screen() -> str:
        shown = subprocess.run(
            ["tmux", "-L", night.pane, "capture-pane", "-p"], capture_output=True, text=True
        )
        return shown.stdout

    until(lambda: "agent session s1" in screen() and "thinking" in screen(), "the agent's words in the pane")
    subprocess.run(["tmux", "-L", night.pane, "kill-server"], check=True)
    time.sleep(0.1)
    assert len(night.processes()) >= 2  # keeper and agent go on without the view
    Seat(night.home, "s1").end()
    until(lambda: "agent session s2" in screen() and "thinking" in screen(), "the next session")
    subprocess.run(["tmux", "-L", night.pane, "send-keys", "C-c"], check=True)
    until(lambda: len(night.events("agent_ended")) == 2, "the end that a person asked for")
    assert [e["outcome"] for e in night.events("agent_ended")] == ["ended", "ended"]
    driver.communicate(timeout=PATIENT)
    assert driver.returncode == 0
    nothing_lost(night, 4)


@pytest.mark.slow
def test_a_tmux_that_does_not_work_is_done_without(night: Night, tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "tmux"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    answer = night.drive(env={"PATH": f"{broken.parent}:{os.environ['PATH']}"})
    assert answer.code == 0 and "its output" in answer.err
    nothing_lost(night, 4)
