"""Whole campaigns on a real Slurm and a real Ray: nothing lost, nothing doubled, the same journal as here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusters import DEVICES, Place
from runs import a_run, alive, pids_in, result_of, tree_of
from runs import until as wait_for
from world import ENTRY, PREPARE, Project, a_project

from lab import mover
from lab.cluster import Cluster
from lab.runners import catalog
from lab.runners.base import Examined, State
from lab.runners.engine import Engine, EngineUnavailable
from lab.runners.ray import Ray
from lab.runners.slurm import Controller, Slurm

pytestmark = pytest.mark.slow

SCRIPTS = Path(catalog.__file__).parents[2]

KILL_AFTER = 20
# Writes who it is, on which device, when it began and ended, outside every folder of ours: a run that was
# executed twice, or beside too many others, shows.
TRAIN = """import json, os, sys, time
LR = 1.00
MODE = "fine"
def note(what):
    row = dict(run=os.environ["AUTORESEARCH_RUN"], pid=os.getpid(), what=what, at=time.time(),
               device=os.environ.get("CUDA_VISIBLE_DEVICES"), job=os.environ.get("SLURM_JOB_ID"))
    with open(os.environ["DIARY"], "a") as file:
        file.write(json.dumps(row) + chr(10))
note("begin")
print("step 1 loss 3.2", flush=True)
if MODE == "broken":
    note("end")
    raise ValueError("a broken idea")
if MODE == "slow":
    time.sleep(600)
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


def until(world: World, true, seconds: float = 240):
    """Wait for something that is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, world.project.run("status").out
        time.sleep(0.1)
    return found


def kill_driver_and_mover(world: World) -> None:
    """End with -9 an agent's call that waits, and what moves the campaign on while nobody calls."""
    driver = world.project.start("wait", "--max", "300")
    before = len(world.events("run_ended"))
    until(world, lambda: len(world.events("run_ended")) > before or driver.poll() is not None)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    found = mover.alive(world.project.root / ".autoresearch")
    if found:
        os.kill(found, signal.SIGKILL)


MODES = {4: "broken", 7: "hangs"}  # by the number of the experiment; all others are fine


def propose(world: World, number: int) -> None:
    """Edit and hand in candidate `number`, without waiting for it."""
    world.project.edit("LR = 1.00", f"LR = {1 + number / 100:.2f}")
    world.project.edit('MODE = "fine"', f'MODE = "{MODES.get(number, "fine")}"')
    answer = world.project.ok("try", f"change number {number}", "--wait", "0")
    assert answer["experiment"] == f"e{number:03d}"


@pytest.mark.parametrize("cluster", ["slurm", "ray"], indirect=True)
def test_twelve_experiments_two_at_a_time_survive_kills_of_driver_and_node(
    cluster: Place, tmp_path: Path, diary: Path
) -> None:
    world = a_world(tmp_path / "project", diary, cluster.settings(slots=2))
    project = world.project
    project.begin()
    cancelled = ""
    for number in range(1, 13):
        propose(world, number)
        if number == 6:
            kill_driver_and_mover(world)
            # Nobody lives who would start another run: those at work are on the node or have ended, or were
            # only written down when their starter was killed.
            time.sleep(1)
            until(world, lambda: "starting" not in states(world))
            if cluster.kind == "slurm":
                cluster.restart_node()
            project.ok("resume")
        if number > 7 and not cancelled:
            cancelled = cancel_one(world)
    cancelled = cancelled or until(world, lambda: cancel_one(world))
    until(world, lambda: project.run("wait", "--max", "10") and not open_ones(world))

    modes = {f"e{n:03d}": MODES.get(n, "fine") for n in range(1, 13)}
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
    assert hung["seconds"] - KILL_AFTER < 8 + 30  # TERM, eight seconds of grace, KILL
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
    """Cancel a run that is at work, as `stop --now` does, and name it; it is repeated. "" when none is."""
    from lab.campaign import Lab

    lab = Lab(world.project.root)
    lab.read()
    for experiment, run in lab.state.at_work():
        state = lab.runner.poll(lab.run_dir(run))
        if experiment.number > 7 and (
            state == "starting" or state == "running" and not ending(world, run.id)
        ):
            lab.runner.cancel(lab.run_dir(run))
            return run.id
    return ""


def ending(world: World, run: str) -> bool:
    """Whether the run's training has said that it is about to end."""
    return any(row["run"].startswith(f"{run}:") and row["what"] == "end" for row in world.rows())


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
        [("LR = 1.00", "LR = 0.50"), ("LR = 0.50", "LR = 0.70"), ("fine", "broken"), ("fine", "slow")]
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


@pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
def test_a_sweeps_trials_run_on_the_cluster_two_at_a_time(
    cluster: Place, tmp_path: Path, diary: Path
) -> None:
    world = a_world(tmp_path / "project", diary, cluster.settings(slots=2))
    project = world.project
    project.write("autoresearch.yaml", project.read("autoresearch.yaml") + "sweep: {knobs: {LR: 0.2..1.8}}\n")
    project.begin()
    project.env["SLEEP"] = "5"  # long enough for two to be at work at once, however slowly they start
    told = project.run("--json", "sweep", "--trials", "4", "--sampler", "random", "--wait", "100")
    while told.code == 124:
        told = project.run("--json", "sweep", "--wait", "100")
    assert told.json["status"] == "done" and told.json["kept"] and len(told.json["measured"]) == 4
    trials = {row["experiment"] for row in told.json["measured"]}
    rows = [row for row in world.rows() if row["run"].split(".")[0] in trials]
    assert most_at_once(rows) == 2 and doubled(world.rows()) == [] and all(row["job"] for row in rows)
    project.ok("verify")


# -- an engine that does not answer, a handing-in that is cut, ids that come again ------------------------


@pytest.fixture
def slurm(slurm_cluster: Place, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    for name, value in slurm_cluster.env.items():
        monkeypatch.setenv(name, value)
    return Slurm(slurm_cluster.cluster)


SLEEPS = "import os, time; print(os.getpid(), file=open('pids', 'a'), flush=True); time.sleep(600)"


@pytest.mark.parametrize("kind", ["slurm", "ray"])
def test_an_engine_that_does_not_answer_is_unavailable_and_no_run_is_lost(kind: str, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path)
    silent = Ray(Cluster(address=f"http://127.0.0.1:{a_free_port()}")) if kind == "ray" else Engine(Silent())
    silent.submit(run_dir, os.environ)
    assert silent.poll(run_dir) == "unavailable"
    assert "does not answer" in silent.place(run_dir)
    assert silent.examine().ok is False
    assert silent.reap(run_dir) == 0


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Silent(Controller):
    """Slurm with an unreachable controller."""

    def __init__(self) -> None:
        super().__init__(Cluster())

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        raise EngineUnavailable("Unable to contact slurm controller (connect failure)")

    def find(self, label: str) -> str | None:
        raise EngineUnavailable("Unable to contact slurm controller (connect failure)")

    def examine(self) -> Examined:
        raise EngineUnavailable("Unable to contact slurm controller (connect failure)")


def test_a_run_goes_on_while_the_controller_is_dead(
    own_slurm: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", own_slurm.env["SLURM_CONF"])
    slurm = Slurm(own_slurm.cluster)
    code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.1)\nprint('val_bpb: 0.9')"
    run_dir = a_run(tmp_path, code, kill_after=300)
    slurm.submit(run_dir, os.environ)
    wait_for(lambda: slurm.poll(run_dir) == "running")
    # What a controller has not written down yet it starts a second time, and then drains the node. It writes
    # after a change, so here is one.
    held, other, at = Slurm(Cluster(extra=("--hold",))), a_run(tmp_path, name="e002.1"), time.time()
    held.submit(other, os.environ)
    wait_for(lambda: own_slurm.saved_at() > at, 120)
    held.cancel(other)
    own_slurm.kill_controller()
    assert Slurm(own_slurm.cluster).poll(run_dir) == "unavailable"
    own_slurm.start_controller()
    assert Slurm(own_slurm.cluster).poll(run_dir) == "running"
    (tree_of(run_dir) / "go").touch()
    assert result_of(run_dir, slurm)["outcome"] == "ok"


@pytest.mark.parametrize("point", ["submit", "intended", "sent", "spawned"])
def test_a_handing_in_that_is_cut_anywhere_is_taken_up_again(
    slurm: Slurm, tmp_path: Path, point: str
) -> None:
    run_dir = a_run(tmp_path, "open('count', 'a').write('x')\nprint('val_bpb: 0.9')")
    code = (
        "import os, sys; from pathlib import Path; from lab.cluster import Cluster\n"
        "from lab.runners.slurm import Slurm\n"
        "env = {k: v for k, v in os.environ.items() if 'DIE' not in k}\n"
        "Slurm(Cluster(gpus=1)).submit(Path(sys.argv[1]), env)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(run_dir)], cwd=SCRIPTS, check=False,
        env={**os.environ, "AUTORESEARCH_DIE_AT": f"runner.{point}#1", "PYTHONPATH": str(SCRIPTS)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    # The job that was handed in keeps the crash points, and reaches none of these names.
    slurm.submit(run_dir, os.environ)
    assert result_of(run_dir, slurm)["outcome"] == "ok"
    assert (tree_of(run_dir) / "count").read_text() == "x"


def test_a_job_of_another_name_under_the_same_id_is_not_the_run(slurm: Slurm, tmp_path: Path) -> None:
    mine, other = a_run(tmp_path, name="e001.1"), a_run(tmp_path, SLEEPS, name="e002.1")
    slurm.submit(other, os.environ)
    wait_for(lambda: slurm.poll(other) == "running")
    job = json.loads((other / "job.json").read_text())
    (mine / "intent.json").write_text("{}")
    (mine / "taken").write_text("{}")
    (mine / "job.json").write_text(json.dumps({**job, "label": "e001.1-of-mine"}))
    wait_for(lambda: slurm.poll(mine) == "lost")
    slurm.cancel(other)
    assert result_of(other, slurm)["outcome"] == "cancelled"


def test_a_run_that_waits_in_the_queue_is_cancelled_there(slurm: Slurm, tmp_path: Path) -> None:
    held = Slurm(Cluster(gpus=1, extra=("--hold",)))
    run_dir = a_run(tmp_path, SLEEPS)
    held.submit(run_dir, os.environ)
    assert held.poll(run_dir) == "starting"
    assert "PENDING" in held.place(run_dir)
    held.cancel(run_dir)
    assert result_of(run_dir, held)["outcome"] == "cancelled"
    assert not (tree_of(run_dir) / "pids").exists()


def test_what_slurm_refuses_is_said_in_its_own_words(slurm: Slurm, tmp_path: Path) -> None:
    nowhere = Slurm(Cluster(partition="nowhere"))
    run_dir = a_run(tmp_path)
    nowhere.submit(run_dir, os.environ)
    assert nowhere.poll(run_dir) == "absent"
    assert "Invalid partition" in (run_dir / "supervisor.log").read_text()
    assert nowhere.withdraw(run_dir)
    assert nowhere.examine().ok is False


def test_the_environment_of_a_run_is_no_part_of_its_job(slurm: Slurm, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, "import os; print(os.environ['PLAIN'], os.environ['CUDA_VISIBLE_DEVICES'])")
    slurm.submit(run_dir, {**os.environ, "PLAIN": "seen", "CUDA_VISIBLE_DEVICES": "77"})
    result_of(run_dir, slurm)
    words = (run_dir / "run.log").read_text().split()
    assert words[0] == "seen"
    assert words[1] in ("0", "1"), "the engine's device counts"
    assert not (run_dir / "environment.json").exists()


PILOT = """#!/bin/sh
cd {root} || exit 1
for n in 1 2; do
    sed -i "s/LR = 1.00/LR = 1.0$n/" train.py
    {python} {entry} try "number $n" --wait 0
done
{python} {entry} wait e001 --max 100
{python} {entry} wait e002 --max 100
"""


def test_inside_one_allocation_the_runs_of_this_machine_use_its_devices(
    slurm_cluster: Place, tmp_path: Path, diary: Path
) -> None:
    world = a_world(tmp_path / "project", diary, "runner: {kind: local, slots: [0, 1]}\n")
    world.project.begin()
    words = {"root": world.project.root, "python": sys.executable, "entry": ENTRY}
    script = tmp_path / "pilot.sh"
    script.write_text(PILOT.format(**words))
    env = {**os.environ, **slurm_cluster.env, **world.project.env}
    log = tmp_path / "pilot.log"
    argv = ["sbatch", "--gres=gpu:2", "--time=5", f"--output={log}", "--export=ALL", str(script)]
    subprocess.run(argv, env=env, check=True, capture_output=True)
    wait_for(lambda: len(world.events("verdict")) == 3, 120)
    verdicts = [row["verdict"] for row in world.events("verdict")]
    assert verdicts == ["keep", "discard", "discard"]
    rows = [row for row in world.rows() if row["what"] == "begin" and not row["run"].startswith("e000")]
    assert len(rows) == 2
    assert all(row["device"] in ("0", "1") and row["job"] for row in rows)


# -- negative controls: runners that are broken on purpose must be caught -----------------------------------


class Heedless(Controller):
    """Slots ignored: asks for no device, so that Slurm starts everything at once."""

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        self.cluster = Cluster()
        return super().send(run_dir, label, minutes)


class Hasty(Slurm):
    """Says done of everything, as a runner does that takes `handed in` for `ended`."""

    def poll(self, run_dir: Path) -> State:
        return "done"


# In place of the worker: a supervisor that sees nothing below its child.
CLUMSY = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPTS)!r})
from lab import processes, watch
from lab.runners import worker
processes.adopt_orphans = processes.kill_children = lambda: None
processes.of_run = lambda *_: []
judge = watch.Watch._judge
def only_the_child(self, now):
    judge(self, now)
    if self.stopped:
        os.kill(self.child.pid, 9)
watch.Watch._judge = only_the_child
watch.Watch._swept = lambda self: self.status is not None
worker.main(Path(sys.argv[1]))
"""


FORKS = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), file=open('pids', 'a'), flush=True)
        time.sleep(600)
    os._exit(0)
print(os.getpid(), file=open('pids', 'a'), flush=True)
time.sleep(600)
"""


# Waits for a third run beside it, as long as it is told to.
CROWD = """
import json, os, time
def note(what):
    row = dict(run=os.environ["AUTORESEARCH_RUN"], what=what, at=time.time())
    with open(os.environ["DIARY"], "a") as file:
        file.write(json.dumps(row) + chr(10))
note("begin")
end = time.monotonic() + float(os.environ["PATIENCE"])
while open(os.environ["DIARY"]).read().count("begin") < 3 and time.monotonic() < end:
    time.sleep(0.05)
note("end")
"""


def together(runner: Engine, folder: Path, diary: Path, patience: float) -> int:
    """How many of three runs were at work at once, each waiting for the others."""
    env = {"DIARY": str(diary), "PATIENCE": str(patience)}
    runs = [a_run(folder, CROWD, name=f"e00{n}.1", env_add=env, kill_after=120) for n in range(3)]
    for run_dir in runs:
        runner.submit(run_dir, os.environ)
    for run_dir in runs:
        result_of(run_dir, runner)
    return most_at_once([json.loads(line) for line in diary.read_text().splitlines()])


def left_after_cancel(runner: Engine, folder: Path) -> list[int]:
    """Processes of a run that was cancelled, a daemon of its own among them."""
    run_dir = a_run(folder, FORKS)
    runner.submit(run_dir, os.environ)
    pids = pids_in(tree_of(run_dir) / "pids", 2)
    runner.cancel(run_dir)
    result_of(run_dir, runner)
    return [pid for pid in pids if alive(pid)]


def test_a_runner_that_ignores_the_slots_is_caught(slurm: Slurm, tmp_path: Path, diary: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    assert together(slurm, tmp_path / "good", diary, patience=2) <= DEVICES
    diary.unlink()
    assert together(Engine(Heedless(Cluster())), tmp_path / "bad", diary, patience=60) > DEVICES


def test_a_runner_that_says_done_too_early_is_caught(slurm: Slurm, tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, SLEEPS)
    hasty = Hasty(Cluster(gpus=1))
    hasty.submit(run_dir, os.environ)
    with pytest.raises(FileNotFoundError):
        result_of(run_dir, hasty)
    hasty.cancel(run_dir)
    assert result_of(run_dir, slurm)["outcome"] == "cancelled"


def test_a_runner_that_kills_only_the_direct_child_is_caught(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    assert left_after_cancel(slurm, tmp_path / "good") == []
    clumsy = tmp_path / "clumsy.py"
    clumsy.write_text(CLUMSY)
    monkeypatch.setattr("lab.runners.slurm.WORKER", clumsy)
    left = left_after_cancel(slurm, tmp_path / "bad")
    assert left, "the check does not see a process that was left"
    for pid in left:
        os.kill(pid, signal.SIGKILL)
