from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from world import Project, a_project

from lab.detect import Wishes, detect
from lab.sandbox import landlock
from lab.sandbox.box import put_up
from lab.sandbox.policy import Policy, temporary

REPOSITORY = Path(__file__).resolve().parents[1]
# The training leaves its "model", a number; score.py, which no candidate changes, measures it.
TRAIN = """import os, pathlib
MODEL = 1.0
out = pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"])
(out / "model.txt").write_text(str(MODEL))
print("val_loss:", MODEL + 0.5)
"""
SCORE = """import pathlib, sys
model = float(pathlib.Path(sys.argv[1], "model.txt").read_text())
if model != model:
    sys.exit("FAIL: the model is nan")
held = float((pathlib.Path(__file__).parent / "val.txt").read_text())
print("val_loss:", model + held)
"""
EVALUATE = "evaluate: {command: 'python score.py {export}', hide: [val.txt]}\n"
needs_landlock = pytest.mark.skipif(landlock.version() < 1, reason="this kernel has no Landlock")


@pytest.fixture
def world(tmp_path: Path) -> Project:
    """A campaign at L1 with its baseline measured."""
    files = {"train.py": TRAIN, "score.py": SCORE, "val.txt": "0.5"}
    project = a_project(tmp_path / "p", files)
    flags = ("--metric", "val_loss", "--goal", "min", "--protect", "score.py", "--protect", "val.txt")
    project.ok("init", "--tag", "t1", "--edit", "train.py", *flags)
    project.write("autoresearch.yaml", project.read("autoresearch.yaml") + EVALUATE)
    project.ok("baseline", "--repeats", "1")
    return project


def last(world: Project) -> dict:
    """What run.json says of the newest experiment's first run."""
    experiment = world.ok("show", "last")["experiment"]
    return json.loads(world.read(f".autoresearch/runs/{experiment}.1/run.json"))


def test_the_metric_is_what_the_evaluation_gives(world: Project) -> None:
    assert world.ok("show", "e000")["metric"] == 1.5
    result = last(world)
    assert (result["level"], result["own_metric"], result["metric"]) == ("L1", 1.5, 1.5)
    assert result["evaluation_seconds"] > 0
    world.edit("MODEL = 1.0", "MODEL = 0.25")
    found = world.ok("try", "a smaller number")
    assert (found["verdict"], found["metric"], found["level"], found["flags"]) == ("keep", 0.75, "L1", [])
    assert "measured: L1" in world.run("wait", "e001").out


def test_a_number_of_the_trainings_own_counts_for_nothing_and_is_told(world: Project) -> None:
    world.edit("MODEL + 0.5", "0.001")
    found = world.ok("try", "say something better")
    assert (found["verdict"], found["metric"]) == ("discard", 1.5)
    assert "itself printed 0.001" in " ".join(found["flags"])
    assert "printed 0.001" in last(world)["detail"]


def test_a_training_that_prints_no_number_is_measured_all_the_same(world: Project) -> None:
    world.edit('print("val_loss:", MODEL + 0.5)', 'print("done")')
    world.edit("MODEL = 1.0", "MODEL = 0.5")
    assert world.ok("try", "print nothing")["metric"] == 1.0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("MODEL = 1.0", "MODEL = float('nan')", "FAIL: the model is nan"),
        ('(out / "model.txt").write_text(str(MODEL))', "pass", "FileNotFoundError"),
    ],
)
def test_what_the_evaluation_refuses_is_a_crash_in_its_words(
    world: Project, old: str, new: str, says: str
) -> None:
    world.edit(old, new)
    found = world.ok("try", "leave no good model")
    assert found["verdict"] == "crash" and "invalid" in found["reason"] and says in found["reason"]


def test_the_evaluation_comes_from_the_baseline(world: Project) -> None:
    """What a training leaves beside its model, under the names of the evaluation, is not used."""
    world.edit("MODEL = 1.0", "MODEL = 1.0\nopen('score.py', 'w').write('print(\"val_loss: 0.0\")')")
    found = world.ok("try", "write another evaluation")
    assert found["verdict"] == "crash" and "protected" in found["reason"]
    beside = "import json, pathlib, os; place = pathlib.Path(os.environ['AUTORESEARCH_RUN_DIR'])"
    files = "(place / 'score.py').write_text('print(0)'); (place / 'json.py').write_text('print(0)')"
    world.edit("MODEL = 1.0", f"MODEL = 1.0\n{beside}\n{files}")
    assert world.ok("try", "leave modules beside the model")["metric"] == 1.5


@needs_landlock
def test_a_training_cannot_read_what_is_scored(world: Project) -> None:
    place = world.root / "val.txt"
    world.edit("MODEL = 1.0", f"MODEL = -float(open({str(place)!r}).read())")
    found = world.ok("try", "learn the scored number")
    assert found["verdict"] == "crash" and "sandbox hides" in found["reason"]
    world.edit("MODEL = 1.0", "MODEL = -float(open('val.txt').read())")
    assert world.ok("try", "from its own folder")["verdict"] == "crash"
    assert (world.root / "val.txt").read_text() == "0.5"


BUBBLEWRAP = put_up(Policy(write=(), kind="bubblewrap")).facts["kind"] == "bubblewrap"


@pytest.mark.slow
@pytest.mark.skipif(not BUBBLEWRAP, reason="bubblewrap is not here, or does not work")
def test_bubblewrap_hides_what_is_scored_as_well(world: Project) -> None:
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "sandbox: {kind: bubblewrap}\n")
    place = world.root / "val.txt"
    world.edit("MODEL = 1.0", f"MODEL = -float(open({str(place)!r}).read())")
    found = world.ok("try", "learn the scored number")
    assert found["verdict"] == "crash" and "sandbox hides" in found["reason"]
    world.git("restore", "train.py")
    world.edit("MODEL = 1.0", "MODEL = 0.5")
    found = world.ok("try", "an honest change")
    assert (found["verdict"], found["metric"], found["level"]) == ("keep", 1.0, "L1")
    assert {run["sandbox"] for run in found["runs"]} == {"bubblewrap"}
    checks = {row["name"]: row for row in world.ok("doctor")["checks"]}
    assert checks["sandbox"]["ok"] and checks["sandbox"]["text"].startswith("bubblewrap, network own")


@pytest.mark.slow
def test_a_kind_that_is_not_to_be_had_is_said_with_its_reason(world: Project) -> None:
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "sandbox: {kind: seatbelt}\n")
    checks = {row["name"]: row for row in world.ok("doctor")["checks"]}
    if sys.platform != "darwin":
        assert checks["sandbox"]["ok"] is None and "seatbelt: sandbox-exec" in checks["sandbox"]["text"]
        world.edit("{kind: seatbelt}", "{kind: seatbelt, mode: required}", "autoresearch.yaml")
        answer = world.run("--json", "doctor")
        checks = {row["name"]: row for row in answer.json["checks"]}
        assert (
            answer.code == 4 and checks["sandbox"]["ok"] is False and "kind: auto" in checks["sandbox"]["fix"]
        )
    world.edit("kind: seatbelt", "kind: sebelt", "autoresearch.yaml")
    assert "seatbelt" in world.refused(3, "status")["fix"]


def test_a_hidden_list_that_fails_is_no_candidates_fault(world: Project) -> None:
    text = world.read("autoresearch.yaml")
    world.write(
        "autoresearch.yaml", text.replace("hide: [val.txt]", "hide: [val.txt], hidden: python nothing.py")
    )
    world.edit("MODEL = 1.0", "MODEL = 0.9")
    world.run("try", "anything")
    runs = [r for r in world.records() if r["event"] == "run_ended" and r["experiment"] == "e001"]
    assert runs and {r["outcome"] for r in runs} == {"infra"}
    assert "evaluate.hidden" in runs[0]["detail"]


def test_the_evaluation_may_not_change_in_a_campaign(world: Project) -> None:
    text = world.read("autoresearch.yaml")
    world.write("autoresearch.yaml", text.replace("python score.py", "python -B score.py"))
    assert "began with" in world.refused(3, "status")["message"]


def test_nothing_is_left_of_the_pristine_export(world: Project) -> None:
    assert [p.name for p in (world.root / ".autoresearch" / "worktrees").iterdir()] in ([], ["e000.1"])
    names = {p.name for p in (world.root / ".autoresearch" / "runs" / "e000.1").iterdir()}
    assert {"evaluate.log", "run.log", "model.txt"} <= names and "out" not in names


def test_our_own_target_is_sealed_at_the_highest_level() -> None:
    found = detect(REPOSITORY, Wishes(command="SEED=1 uv run train.py"), set(), {"prepare.py", "train.py"})
    assert found.evaluate == "uv run prepare.py --score {export}"
    assert (found.evaluate_level, found.evaluate_hidden) == ("L2", "uv run prepare.py --hidden")


def test_another_project_is_not(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p")
    assert detect(project.root, Wishes(), set(), {"prepare.py"}).evaluate is None


@pytest.mark.parametrize("point", ["supervisor.evaluate.before", "supervisor.evaluated"])
def test_a_supervisor_killed_around_the_evaluation_costs_no_result(tmp_path: Path, point: str) -> None:
    project = a_project(tmp_path / "p", {"train.py": TRAIN, "score.py": SCORE, "val.txt": "0.5"})
    project.ok("init", "--tag", "t1", "--edit", "train.py", "--metric", "val_loss", "--goal", "min")
    project.write("autoresearch.yaml", project.read("autoresearch.yaml") + EVALUATE)
    project.run("baseline", "--repeats", "1", env={"AUTORESEARCH_DIE_AT": f"{point}#1"})
    ends = [record["outcome"] for record in project.records() if record["event"] == "run_ended"]
    assert ends and set(ends) <= {"interrupted", "infra"}
    project.ok("resume")
    assert project.ok("baseline", "--repeats", "1")["metric"] == 1.5
    left = [path.name for path in (project.root / ".autoresearch" / "worktrees").iterdir()]
    assert not [name for name in left if name.endswith(".sealed")]
    for run in project.ok("show", "e000")["runs"]:
        spec = json.loads(project.read(f".autoresearch/runs/{run['id']}/spec.json"))
        assert not temporary(f"{spec['run']}:{spec['nonce']}").exists()


@needs_landlock
def test_doctor_and_report_say_how_it_is_measured(world: Project) -> None:
    found = {row["name"]: row for row in world.ok("doctor")["checks"]}
    assert found["sandbox"]["ok"] and "a write outside was denied" in found["sandbox"]["text"]
    assert found["evaluation"]["ok"] and found["evaluation"]["text"].startswith("L1")
    world.ok("report")
    assert "L1: a process of its own scored" in world.read(".autoresearch/report/report.md")
