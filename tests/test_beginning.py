"""What `init` sees for itself, and what it does about work in progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import PREPARE, TRAIN, Project, a_project

BPC = """import os, time
import data
print(f"val_bpc: {data.score() + int(os.environ.get('SEED', 0)) * 1e-4:.6f}")
print(f"seconds: {time.process_time():.3f}")
"""
DATA = """from pathlib import Path
CACHE = "scratch/cache.bin"
def score():
    return len(Path(__file__).with_name("corpus.txt").read_text()) / 10
"""


@pytest.fixture
def language(tmp_path: Path) -> Project:
    return a_project(tmp_path / "language", {"train.py": BPC, "data.py": DATA, "corpus.txt": "to be or not"})


@pytest.fixture
def world(tmp_path: Path) -> Project:
    files = {"train.py": TRAIN, "prepare.py": PREPARE, "report.py": "rows = []\n", "old.py": "pass\n"}
    return a_project(tmp_path / "project", files)


def test_a_held_out_score_counts_before_the_seconds_printed_beside_it(language: Project) -> None:
    language.ok("init", "--tag", "t1")
    assert "{name: val_bpc, goal: min}" in language.read("autoresearch.yaml")


def test_several_runs_at_once_can_be_agreed_on_at_init(language: Project) -> None:
    language.ok("init", "--tag", "t1", "--slots", "2")
    assert "slots: 2" in language.read("autoresearch.yaml")


def test_a_score_of_unknown_direction_is_asked_for_not_passed_over(language: Project) -> None:
    language.edit("val_bpc", "val_quux")
    language.commit()
    error = language.refused(3, "init", "--tag", "t1")
    assert "val_quux" in error["message"] and "--goal" in error["fix"]


def test_data_that_a_protected_module_names_are_protected_too(language: Project) -> None:
    language.ok("init", "--tag", "t1")
    assert "protect: [data.py, corpus.txt]" in language.read("autoresearch.yaml")
    language.ok("baseline", "--repeats", "1")
    language.write("corpus.txt", "to")
    assert "corpus.txt" in language.refused(9, "try", "a shorter text")["message"]


def test_work_in_progress_stops_init_unless_it_is_left_out(world: Project) -> None:
    world.write("report.py", "rows = [1]\n")
    world.git("add", "report.py")
    world.write("report.py", "rows = [1, 2]\n")
    world.git("mv", "old.py", "new.py")
    before = world.git("status", "--porcelain")
    error = world.refused(4, "init", "--tag", "t1")
    assert "report.py" in error["message"] and "--leave-out" in error["fix"]

    world.ok("init", "--tag", "t1", "--leave-out")
    world.ok("baseline", "--repeats", "1")
    world.edit("LR = 1.00", "LR = 0.50")
    assert world.ok("try", "halve the rate")["verdict"] == "keep"
    world.ok("finish")
    assert world.read("report.py") == "rows = [1, 2]\n"
    seen = [line for line in world.git("status", "--porcelain").splitlines() if not line.startswith("??")]
    assert seen == before.splitlines()
    assert world.git("diff", "--name-only", "main", "autoresearch/t1") == "train.py"


def test_what_is_edited_or_protected_cannot_be_left_out(world: Project) -> None:
    world.edit("LR = 1.00", "LR = 0.50")
    error = world.refused(4, "init", "--tag", "t1", "--leave-out")
    assert "train.py" in error["message"] and "commit" in error["fix"]
    assert not world.git("for-each-ref", "refs/heads/autoresearch")


def test_work_left_out_at_init_is_asked_about_again_once_it_changes(world: Project) -> None:
    world.write("report.py", "rows = [1]\n")
    world.ok("init", "--tag", "t1", "--leave-out")
    world.ok("baseline", "--repeats", "1")
    world.write("report.py", "rows = [1, 2, 3]\n")
    world.edit("LR = 1.00", "LR = 0.50")
    assert "report.py" in world.refused(9, "try", "halve the rate")["message"]
    assert world.ok("try", "halve the rate", "--leave-out")["verdict"] == "keep"


def test_each_step_of_the_beginning_names_the_next_one(world: Project) -> None:
    assert "next: `init" in world.run("doctor").out
    assert "next: `doctor`, then `baseline`" in world.run("init", "--tag", "t1").out
    assert "next: `baseline`" in world.run("doctor").out


def test_the_next_step_names_the_idea_whose_turn_it_is(world: Project) -> None:
    world.begin()
    idea = world.ok("ideas", "add", "half the rate overshoots less", "--impact", "4")["idea"]
    assert f"--idea {idea['id']}` (half the rate" in world.ok("status")["next"]
    world.edit("LR = 1.00", "LR = 0.50")
    assert "--idea" not in world.ok("try", "halve the rate", "--idea", idea["id"])["next"]


def test_the_baseline_is_closed_once_something_was_kept(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", "LR = 0.50")
    assert world.ok("try", "halve the rate")["verdict"] == "keep"
    assert "e001" in world.refused(4, "baseline", "--repeats", "3")["message"]
    assert world.ok("baseline", "--repeats", "1")["incumbent"]["experiment"] == "e001"


def test_finish_without_a_keep_names_nothing_to_merge(tmp_path: Path) -> None:
    project = a_project(tmp_path / "project")
    project.begin()
    assert "git merge" not in project.run("finish").out
