"""kill -9 at the named steps of every verb that writes, enumerated: nothing lost, nothing doubled.

`scripts/check --faults` kills at every one of them, the usual tests at each third.
"""

from __future__ import annotations

import collections
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import PREPARE, Project, a_project, carrying, wait_until

from lab import mover, verify
from lab.campaign import Lab

pytestmark = pytest.mark.slow

# Counts its own executions outside every folder of ours, and shows the loop a metric that depends on LR.
TRAIN = """import os, sys, time
LR = 1.00
MODE = "fine"
with open(os.environ["COUNT_FILE"], "a") as file:
    file.write(os.environ["AUTORESEARCH_RUN"].split(":")[0] + chr(10))
if os.environ.get("KILL_ME") == "start":
    os.kill(os.getpid(), 9)
if MODE == "broken":
    raise ValueError("a broken idea")
print("---", flush=True)
if os.environ.get("KILL_ME") == "middle":
    os.kill(os.getpid(), 9)
print(f"val_bpb: {LR:.6f}", flush=True)
if os.environ.get("KILL_ME") == "end":
    os.kill(os.getpid(), 9)
"""
COUNTS = Path(tempfile.mkdtemp(prefix="counts-"))  # the one place outside of their own that runs may write
SETTINGS = """command: python3 train.py
metric: {name: val_bpb, goal: min}
edit: [train.py]
protect: [prepare.py]
budget: {seconds: 60}
seed: {env: SEED}
sweep: {knobs: {LR: 0.2..0.9}}
"""
EDITS = {
    "keep": ("LR = 1.00", "LR = 0.50"),
    "discard": ("LR = 1.00", "LR = 1.50"),
    "crash": ("fine", "broken"),
}


@pytest.fixture(scope="module")
def counts() -> Iterator[None]:
    COUNTS.mkdir(exist_ok=True)  # another module's use of `prepared` took it away
    yield
    shutil.rmtree(COUNTS, ignore_errors=True)


@pytest.fixture(scope="module")
def prepared(counts: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Projects to copy: one fresh, one with the baseline measured."""
    folder = tmp_path_factory.mktemp("prepared")
    fresh = a_project(folder / "fresh", {"train.py": TRAIN, "prepare.py": PREPARE})
    fresh.write("autoresearch.yaml", SETTINGS + f"sandbox: {{write: ['{COUNTS}']}}\n")
    ready = Project(shutil.copytree(fresh.root, folder / "ready"), _env(fresh, COUNTS / "ready"))
    ready.ok("init", "--tag", "t1")
    ready.ok("baseline", "--repeats", "1")
    return {"fresh": fresh.root, "ready": ready.root}


def _env(project: Project, count: Path) -> dict[str, str]:
    return {**project.env, "COUNT_FILE": str(count)}


class Trial:
    """One copy of a project, in which one process is killed at one point."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.count = COUNTS / uuid.uuid4().hex
        base = Project(template, {})
        self.world = Project(shutil.copytree(template, folder / "p", symlinks=True))
        self.world.env = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "a user", "GIT_AUTHOR_EMAIL": "u@localhost",
            "GIT_COMMITTER_NAME": "a user", "GIT_COMMITTER_EMAIL": "u@localhost",
            "COUNT_FILE": str(self.count),
        }  # fmt: skip
        self.base = base.git("rev-parse", "main")

    def executions(self) -> collections.Counter[str]:
        return collections.Counter(self.count.read_text().split() if self.count.exists() else [])

    def settle(self) -> None:
        """What a fresh session does: resume, then wait for whatever is open."""
        self.world.ok("resume")
        for _ in range(5):
            if not self.world.ok("status")["next"].startswith("`wait`"):
                wait_until(lambda: not mover.alive(self.world.root / ".autoresearch"))
                return
            self.world.run("wait")
        raise AssertionError("the campaign does not come to rest")

    def check(self, verdicts: list[str]) -> None:
        """The record is complete, single and true."""
        world = self.world
        records = world.records()
        given = [(r["experiment"], r["verdict"]) for r in records if r["event"] == "verdict"]
        # Side by side, the later one's run may end first.
        assert sorted(given) == [(f"e{i:03d}", v) for i, v in enumerate(verdicts)], given
        rows = world.results()
        assert [row[3] for row in rows] == verdicts
        keeps = [
            r for r in records if r["event"] == "proposed" and verdicts[int(r["experiment"][1:])] == "keep"
        ]
        chain = world.git("rev-list", "--reverse", f"{self.base}..autoresearch/t1").split()
        assert chain == [r["commit"] for r in keeps if r["experiment"] != "e000"]
        for record, row in zip((r for r in records if r["event"] == "proposed"), rows, strict=True):
            number = int(record["experiment"][1:])
            assert record["commit"].startswith(row[0])
            assert world.git("rev-parse", f"refs/autoresearch/t1/{number}") == record["commit"]
            assert f"verdict: {row[3]}" in world.git("notes", "--ref=autoresearch", "show", record["commit"])
        incumbent = keeps[-1]["commit"]
        assert world.read("train.py").strip() == world.git("show", f"{incumbent}:train.py")
        ended = {r["run"]: r["outcome"] for r in records if r["event"] == "run_ended"}
        started = [r["run"] for r in records if r["event"] == "run_started"]
        assert len(started) == len(set(started)) == len(ended)
        executed = self.executions()
        assert all(count == 1 for count in executed.values()), f"executed twice: {executed}"
        for run, outcome in ended.items():
            if outcome in ("ok", "error") and not run.startswith("e000"):
                assert executed[run] == 1, f"{run} has a result and never ran"
        assert world.git("status", "--porcelain", "--untracked-files=no") in ("", "M train.py")
        assert not list(world.root.rglob("*autoresearch-tmp")), "a temporary file is left"
        assert not [p for p in (world.root / ".git").rglob("*.lock")], "a git lock is left"
        trees = {p.name for p in (world.root / ".autoresearch/worktrees").iterdir()}
        assert all(name.startswith(keeps[-1]["experiment"]) for name in trees), trees
        found = verify.examine(Lab(world.root))
        assert not found.misfits, [str(misfit) for misfit in found.misfits]


def enumerate_points(template: Path, folder: Path, go: Callable[[Trial, dict[str, str]], None]) -> list[str]:
    """Every named step that `go` passes, in its own process or the supervisor's."""
    folder.mkdir()
    trial = Trial(template, folder)
    steps = folder / "steps"
    go(trial, {"AUTORESEARCH_STEPS": str(steps)})
    wait_until(lambda: not carrying(folder, "AUTORESEARCH_STEPS"))  # steps that come after the result
    return list(dict.fromkeys(steps.read_text().split()))


def try_once(kind: str) -> Callable[[Trial, dict[str, str]], None]:
    def go(trial: Trial, env: dict[str, str]) -> None:
        if EDITS[kind][0] in trial.world.read("train.py"):
            trial.world.edit(*EDITS[kind])
        trial.world.run("try", f"a {kind}", env=env)

    return go


def run_points(
    template: Path, folder: Path, go: Callable[[Trial, dict[str, str]], None],
    after: Callable[[Trial], None], at_least: int, worth_it: Callable[[str], bool] = lambda point: True,
) -> None:  # fmt: skip
    points = list(filter(worth_it, enumerate_points(template, folder / "enumerate", go)))
    assert len(points) >= at_least, points
    points = points if os.environ.get("FAULTS_EVERY_POINT") else points[::3]  # scripts/faults.py takes all
    failures = []
    for number, point in enumerate(points):
        place = folder / str(number)
        place.mkdir()
        trial = Trial(template, place)
        try:
            go(trial, {"AUTORESEARCH_DIE_AT": point})
            wait_until(lambda: not carrying(place))  # noqa: B023
            after(trial)
        except Exception as error:
            failures.append(f"{point}: {str(error)[:400]}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    assert not failures, f"{len(failures)} of {len(points)} points:\n" + "\n".join(failures)
    print(f"{len(points)} points: {', '.join(points)}")


@pytest.mark.parametrize("kind", list(EDITS))
def test_a_try_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path, kind: str) -> None:
    def after(trial: Trial) -> None:
        trial.settle()
        if len([r for r in trial.world.records() if r["event"] == "proposed"]) < 2:
            assert EDITS[kind][1] in trial.world.read("train.py"), "the edit is lost"
            trial.world.run("try", f"a {kind}")
        trial.settle()
        trial.check(["keep", kind])

    run_points(prepared["ready"], tmp_path, try_once(kind), after, at_least=30)


def test_a_wait_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """The run ends while nobody waits; then `wait` takes it in and is killed."""

    def go(trial: Trial, env: dict[str, str]) -> None:
        trial.world.edit(*EDITS["keep"])
        trial.world.run("try", "a keep", "--wait", "0")
        wait_until((trial.world.root / ".autoresearch/runs/e001.1/run.json").exists)
        trial.world.run("wait", env=env)

    def after(trial: Trial) -> None:
        trial.settle()
        trial.check(["keep", "keep"])

    run_points(prepared["ready"], tmp_path, go, after, at_least=12)


def test_a_resume_after_a_killed_try_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """Pairs: the try dies between journal and effect, and the process that mends it dies too."""

    def pair(first: str) -> None:
        def go(trial: Trial, env: dict[str, str]) -> None:
            trial.world.edit(*EDITS["discard"])  # one run: no mover that wants to die comes late
            trial.world.run("try", "a discard", env={"AUTORESEARCH_DIE_AT": first})
            wait_until(lambda: not carrying(trial.world.root))
            trial.world.run("resume", env=env)

        def after(trial: Trial) -> None:
            trial.settle()
            trial.check(["keep", "discard"])

        run_points(prepared["ready"], tmp_path / first.replace("#", "_"), go, after, at_least=4)

    for first in ("journal.proposed.after#1", "journal.run_started.after#1", "journal.verdict.after#1"):
        (tmp_path / first.replace("#", "_")).mkdir()
        pair(first)


def test_init_and_baseline_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    def go(trial: Trial, env: dict[str, str]) -> None:
        if trial.world.run("init", "--tag", "t1", env=env).code == 0:
            trial.world.run("baseline", "--repeats", "1", env=env)

    def after(trial: Trial) -> None:
        if trial.world.run("status").code:
            assert trial.world.git("for-each-ref", "refs/heads/autoresearch") == ""
            trial.world.ok("init", "--tag", "t1")
        trial.world.run("baseline", "--repeats", "1")
        trial.settle()
        trial.check(["keep"])

    run_points(prepared["fresh"], tmp_path, go, after, at_least=25)


def test_a_sweep_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """One trial and its verdict as an ordinary experiment pass every step of a sweep's own."""
    call = ("sweep", "--trials", "1", "--sampler", "random", "--wait", "600")

    def go(trial: Trial, env: dict[str, str]) -> None:
        trial.world.run(*call, env=env)

    def after(trial: Trial) -> None:
        trial.world.ok("resume")
        for _ in range(5):
            if any(r["event"] == "sweep_ended" for r in trial.world.records()):
                break
            trial.world.run(*call)
        trial.settle()
        trial.check(["keep", "discard", "keep"])

    def own(point: str) -> bool:  # what `try` passes as well is killed there
        return "sweep" in point or point.startswith(("journal.proposed", "journal.verdict"))

    run_points(prepared["ready"], tmp_path, go, after, at_least=9, worth_it=own)


def test_a_confirm_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """One of the ten runs passes every step there is, and a second one every step of its journal."""

    def go(trial: Trial, env: dict[str, str]) -> None:
        try_once("keep")(trial, {})
        trial.world.run("confirm", "--pairs", "5", env=env)

    def after(trial: Trial) -> None:
        trial.settle()
        done = trial.world.ok("confirm", "--pairs", "5", "--wait", "600")
        assert done["verdict"] == "confirmed" and done["gain"] == 0.5, done
        good = [(run["pair"], run["experiment"]) for run in done["runs"] if run["outcome"] == "ok"]
        assert sorted(good) == sorted({(k, side) for k in range(1, 6) for side in ("e000", "e001")}), good
        events = collections.Counter(record["event"] for record in trial.world.records())
        assert (events["confirm_started"], events["confirmed"]) == (1, 1)
        trial.check(["keep", "keep"])

    def worth_it(point: str) -> bool:
        name, count = point.split("#")
        return int(count) <= 1 + name.startswith("journal.")

    run_points(prepared["ready"], tmp_path, go, after, at_least=25, worth_it=worth_it)


def test_an_ablate_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """Plan, runs, look, result, idea and page; later repeats of a step only where the journal is written."""

    def go(trial: Trial, env: dict[str, str]) -> None:
        try_once("keep")(trial, {})
        trial.world.run("ablate", "--pairs", "2", env=env)

    def after(trial: Trial) -> None:
        trial.settle()
        done = trial.world.ok("ablate", "--pairs", "2", "--wait", "600")
        assert [(r["of"], r["verdict"], r["effect"]) for r in done["rows"]] == [
            ("e001", "carries weight", 0.5)
        ]
        good = sorted((run["round"], run["arm"]) for run in done["runs"] if run["outcome"] == "ok")
        assert good == [(k, arm) for k in (1, 2) for arm in ("all keeps", "without e001")], good
        events = collections.Counter(record["event"] for record in trial.world.records())
        assert (events["study_started"], events["studied"]) == (1, 1)
        page = trial.world.read("memories/notebook/t1/configuration_suggestions.md")
        assert page.count("| e001 | on | carries weight |") == 1
        trial.check(["keep", "keep"])

    def worth_it(point: str) -> bool:
        name, count = point.split("#")
        return int(count) <= 1 + name.startswith("journal.study")

    run_points(prepared["ready"], tmp_path, go, after, at_least=25, worth_it=worth_it)


def test_a_bootstrap_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """Its own steps and those of the documents; the baseline's are those of `baseline`."""

    def go(trial: Trial, env: dict[str, str]) -> None:
        trial.world.run("bootstrap", "--skip", "literature", "--because", "no network", env=env)

    def after(trial: Trial) -> None:
        done = trial.world.ok("bootstrap", "--skip", "literature", "--because", "no network")
        assert {s["name"]: s["state"] for s in done["steps"]} == {
            "memories": "not applicable", "measurement": "not applicable", "baseline": "done",
            "audit": "to do", "literature": "not applicable", "inbox": "not applicable",
            "agenda": "to do", "working": "done",
        }  # fmt: skip
        for name in ("audit", "working"):
            assert trial.world.ok("document", name, "--check")["old"] == []
        trial.check(["keep"])

    run_points(prepared["ready"], tmp_path, go, after, at_least=12)


def test_finish_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    def go(trial: Trial, env: dict[str, str]) -> None:
        try_once("keep")(trial, {})
        trial.world.run("finish", env=env)

    def after(trial: Trial) -> None:
        trial.world.ok("finish")
        world = trial.world
        assert world.git("status", "--porcelain", "--untracked-files=no") == ""
        assert [r["event"] for r in world.records()].count("finished") == 1
        assert world.git("show", "autoresearch/t1:train.py").count("LR = 0.50") == 1
        assert "a keep" in world.read(".autoresearch/report/report.md")

    run_points(prepared["ready"], tmp_path, go, after, at_least=4)


@pytest.mark.parametrize("moment", ["start", "middle", "end"])
def test_a_training_killed_from_outside_is_repeated_and_never_counts(
    prepared: dict[str, Path], tmp_path: Path, moment: str
) -> None:
    """The first execution is killed; the repeats run without the switch."""
    trial = Trial(prepared["ready"], tmp_path)
    trial.world.edit(*EDITS["keep"])
    trial.world.edit(
        'os.environ.get("KILL_ME")',
        f'("{moment}" if os.environ["AUTORESEARCH_RUN"].startswith("e001.1:") else "")',
    )
    done = trial.world.ok("try", "a keep")
    assert [run["outcome"] for run in done["runs"]][:2] == ["killed", "ok"]
    assert done["runs"][0]["metric"] is None
    assert done["verdict"] == "keep"
    trial.check(["keep", "keep"])
