"""Keeps as branches for review: what they hold, say and leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import Project, a_project

pytestmark = pytest.mark.slow

LINES = [f"KNOB_{letter} = 0.0  # {letter}" for letter in "abcdef"]
TRAIN = (
    "\n\n\n\n".join(LINES)
    + """



knobs = [value for name, value in sorted(globals().items()) if name.startswith("KNOB_")]
print(f"val_bpb: {10 - sum(knobs):.6f}")
"""
)


@pytest.fixture
def world(tmp_path: Path) -> Project:
    """A campaign whose metric is 10 less the sum of six knobs that stand far apart in one file."""
    project = a_project(
        tmp_path / "p", {"train.py": TRAIN, "prepare.py": "# fixed\n", "README.md": "hello\n"}
    )
    project.begin(
        "--metric", "val_bpb", "--goal", "min", "--edit", "train.py", "--command", "python train.py"
    )
    return project


def turn(world: Project, knob: str, old: str, new: str, why: str = "it helps") -> None:
    world.edit(f"KNOB_{knob} = {old} ", f"KNOB_{knob} = {new} ")
    done = world.ok("try", f"turn {knob} to {new}", "--because", why)
    assert done["verdict"] == "keep", done["reason"]


def knobs(world: Project, commit: str) -> dict[str, str]:
    text = world.git("show", f"{commit}:train.py")
    return {row[5]: row.split(" = ")[1].split(" ")[0] for row in text.splitlines() if row.startswith("KNOB_")}


def untouched(world: Project) -> tuple[str, ...]:
    """What belongs to the user."""
    return (
        world.git("rev-parse", "main"),
        world.git("symbolic-ref", "HEAD"),
        world.git("write-tree"),
        world.git("status", "--porcelain", "--untracked-files=no"),
        world.read("train.py"),
    )


def test_all_keeps_become_one_commit_on_the_merge_base_with_their_evidence(world: Project) -> None:
    before = untouched(world)
    turn(world, "a", "0.0", "1.0")
    turn(world, "b", "0.0", "2.0", "because of b")
    answer = world.ok("finish", "--squash")
    assert untouched(world) == before
    (review,) = answer["review"]
    assert review["branch"] == "autoresearch-review/t1/all" and review["experiments"] == ["e001", "e002"]
    commit = world.git("rev-parse", review["branch"])
    assert world.git("rev-parse", f"{commit}^") == world.git("rev-parse", "main")
    assert world.git("diff", commit, "autoresearch/t1") == ""
    text = world.git("log", "-1", "--format=%B", commit)
    for words in (
        "autoresearch t1: val_bpb 10.000000 -> 7.000000",
        "Not confirmed.",
        "Experiment e001: turn a to 1.0",
        "val_bpb: 10.000000 -> 9.000000 (-1.000000), keep (clear)",
        "because: because of b",
        "runs: e002.1 7.000000",
        f"candidate: {world.git('rev-parse', 'autoresearch/t1')}",
    ):
        assert words in text, text


def test_each_change_that_stands_alone_gets_a_branch_and_one_that_builds_on_it_goes_there(
    world: Project,
) -> None:
    before = untouched(world)
    turn(world, "a", "0.0", "1.0")
    turn(world, "c", "0.0", "1.0")
    turn(world, "a", "1.0", "2.0")
    turn(world, "e", "0.0", "1.0")
    answer = world.ok("finish", "--squash", "each")
    assert untouched(world) == before
    made = {review["branch"]: review["experiments"] for review in answer["review"]}
    assert made == {
        "autoresearch-review/t1/e001": ["e001", "e003"],
        "autoresearch-review/t1/e002": ["e002"],
        "autoresearch-review/t1/e004": ["e004"],
    }
    start = world.git("rev-parse", "main")
    for branch, experiments in made.items():
        assert world.git("merge-base", "main", branch) == start
        subjects = world.git("log", "--reverse", "--format=%s", f"main..{branch}").splitlines()
        assert len(subjects) == len(experiments)
    values = {branch[-4:]: knobs(world, branch) for branch in made}
    assert values["e001"] == {**dict.fromkeys("bcdef", "0.0"), "a": "2.0"}
    assert values["e002"] == {**dict.fromkeys("abdef", "0.0"), "c": "1.0"}
    assert values["e004"] == {**dict.fromkeys("abcdf", "0.0"), "e": "1.0"}
    assert "not alone" in world.git("log", "-1", "--format=%B", "autoresearch-review/t1/e004")


def test_a_change_that_joins_two_puts_them_into_one_branch(world: Project) -> None:
    turn(world, "a", "0.0", "1.0")
    turn(world, "c", "0.0", "1.0")
    turn(world, "e", "0.0", "1.0")
    world.edit("KNOB_a = 1.0 ", "KNOB_a = 2.0 ")
    turn(world, "c", "1.0", "2.0")
    made = world.ok("finish", "--squash", "each")["review"]
    assert [review["experiments"] for review in made] == [["e001", "e002", "e003", "e004"]]
    last = made[0]["branch"]
    assert knobs(world, last)["a"] == knobs(world, last)["c"] == "2.0"


def test_a_second_call_finds_the_branches_and_a_foreign_one_is_not_moved(world: Project) -> None:
    turn(world, "a", "0.0", "1.0")
    first = world.ok("finish", "--squash")["review"]
    assert world.ok("finish", "--squash")["review"] == first
    world.git("update-ref", "refs/heads/autoresearch-review/t1/all", "main")
    error = world.refused(4, "finish", "--squash")
    assert "exists with something else" in error["message"]
    assert world.git("rev-parse", "autoresearch-review/t1/all") == world.git("rev-parse", "main")


def test_a_user_who_went_on_and_one_who_took_everything_get_what_is_left(world: Project) -> None:
    turn(world, "a", "0.0", "1.0")
    start = world.git("rev-parse", "main")
    world.git("checkout", "-q", "main", "--", "train.py")
    world.write("README.md", "the user went on\n")
    world.git("commit", "-q", "-m", "own work", "README.md")
    (review,) = world.ok("finish", "--squash")["review"]
    assert world.git("rev-parse", f"{review['branch']}^") == start
    world.git("merge", "-q", "--no-edit", "autoresearch/t1")
    assert world.ok("finish", "--squash", "each")["review"] == []
    assert "nothing was kept that your branch does not have" in world.run("finish", "--squash").out


@pytest.mark.parametrize("point", ["finish.tree#1", "git.update_ref.before#1", "git.update_ref.after#1"])
def test_killed_at_its_branches_a_second_call_makes_them_whole(world: Project, point: str) -> None:
    turn(world, "a", "0.0", "1.0")
    turn(world, "c", "0.0", "1.0")
    assert world.run("finish", "--squash", "each", env={"AUTORESEARCH_DIE_AT": point}).code == -9
    made = world.ok("finish", "--squash", "each")["review"]
    assert [review["experiments"] for review in made] == [["e001"], ["e002"]]
    assert [r["event"] for r in world.records()].count("finished") == 1
    assert world.git(
        "for-each-ref", "--format=%(refname:short)", "refs/heads/autoresearch-review"
    ).split() == [review["branch"] for review in made]
