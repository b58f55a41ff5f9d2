from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from world import PREPARE, TRAIN, Project, a_project, wait_until

from lab.runners.local import Local

BETTER, WORSE = "LR = 0.50", "LR = 1.50"
ONE_FILE = """import json, os, pathlib
WIDTH = 4
accuracy = 1 - 1 / WIDTH
print("epoch 1 done")
print(f"METRIC accuracy={accuracy}")
"""


@pytest.fixture
def world(tmp_path: Path) -> Project:
    return a_project(tmp_path / "project")


# -- the main job ------------------------------------------------------------------------------------


def test_a_karpathy_style_repository_goes_through_better_worse_and_crashing(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    assert world.ok("baseline")["verdict"] == "keep"
    start = world.git("rev-parse", "main")

    world.edit("LR = 1.00", BETTER)
    better = world.ok("try", "halve the rate", "--because", "it overshoots", "--expect", "-0.5")
    assert (better["status"], better["verdict"], better["metric"]) == ("done", "keep", 0.5)
    assert better["incumbent"] == {"experiment": "e001", "commit": better["commit"], "metric": 0.5}
    assert better["memory_gb"] == 1.0
    assert [run["outcome"] for run in better["runs"]] == ["ok"]
    assert world.git("rev-parse", "autoresearch/t1") == better["commit"]
    assert world.git("rev-parse", "autoresearch/t1^") == start
    assert BETTER in world.read("train.py")

    world.edit(BETTER, WORSE)
    worse = world.ok("try", "raise the rate")
    assert (worse["verdict"], worse["incumbent"]["experiment"]) == ("discard", "e001")
    assert BETTER in world.read("train.py")
    assert world.git("rev-parse", "autoresearch/t1") == better["commit"]
    assert world.git("rev-parse", "refs/autoresearch/t1/2") == worse["commit"]

    world.edit("value = ", "raise ValueError('shape mismatch')\nvalue = ")
    crash = world.ok("try", "a broken idea")
    assert (crash["verdict"], crash["metric"]) == ("crash", None)
    assert "shape mismatch" in crash["reason"]
    assert crash["crash"]["where"].startswith("train.py:")

    rows = world.results()
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("1.000000", "1.0", "keep"),
        ("0.500000", "1.0", "keep"),
        ("1.500000", "1.0", "discard"),
        ("0.000000", "0.0", "crash"),
    ]
    assert [len(row) for row in rows] == [5] * 4
    assert [row[0] for row in rows] == [
        commit[:7] for commit in (start, better["commit"], worse["commit"], crash["commit"])
    ]
    note = world.git("notes", "--ref=autoresearch", "show", better["commit"])
    assert "verdict: keep" in note and "val_bpb: 0.500000" in note

    done = world.ok("finish")
    assert done["incumbent"]["experiment"] == "e001"
    assert world.git("status", "--porcelain") == "?? autoresearch.yaml"
    assert world.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert "halve the rate" in Path(done["report"]).read_text()


def test_a_one_file_script_with_a_metric_to_maximise_needs_no_change(tmp_path: Path) -> None:
    world = a_project(tmp_path / "foreign", {"fit.py": ONE_FILE, "scripts/mine.py": "print('mine')\n"})
    world.begin()
    assert "goal: max" in world.read("autoresearch.yaml")
    world.edit("WIDTH = 4", "WIDTH = 8", "fit.py")
    assert world.ok("try", "wider")["metric"] == 0.875
    world.edit("WIDTH = 8", "WIDTH = 2", "fit.py")
    assert world.ok("try", "narrower")["verdict"] == "discard"
    world.edit("WIDTH = 8", "WIDTH = 0", "fit.py")
    crash = world.ok("try", "none at all")
    assert crash["verdict"] == "crash" and "ZeroDivisionError" in crash["reason"]
    assert crash["crash"]["where"] == "fit.py:3"


def test_the_baseline_measures_the_noise_with_three_seeds(world: Project) -> None:
    world.edit("NOISE = 0.0", "NOISE = 0.01")
    world.commit("noisy")
    world.ok("init", "--tag", "t1")
    base = world.ok("baseline")
    assert [run["seed"] for run in base["runs"]] == [42, 43, 44]
    status = world.ok("status")
    assert status["noise"]["n"] == 3
    assert 0.001 < status["noise"]["sigma"] < 0.1


def test_a_close_candidate_is_repeated_on_the_incumbents_seeds(world: Project) -> None:
    world.edit("NOISE = 0.0", "NOISE = 0.01")
    world.commit("noisy")
    world.begin(repeats=3)
    world.edit("LR = 1.00", "LR = 0.985")
    tried = world.ok("try", "a little better")
    assert len(tried["runs"]) > 1
    assert [run["seed"] for run in tried["runs"]] == [42, 43, 44][: len(tried["runs"])]
    assert tried["verdict"] in ("keep", "discard") and tried["reason"]


def test_the_incumbent_runs_on_the_seeds_it_lacks_beside_a_close_candidate(world: Project) -> None:
    world.edit("NOISE = 0.0", "NOISE = 0.01")
    world.commit("noisy")
    world.begin(repeats=1)
    world.edit("LR = 1.00", "LR = 0.985")
    tried = world.ok("try", "a little better")
    base = world.ok("show", "e000")
    assert [run["seed"] for run in tried["runs"]] == [42, 43, 44][: len(tried["runs"])]
    assert len(tried["runs"]) > 1
    assert [run["seed"] for run in base["runs"]] in ([42, 43], [42, 43, 44])
    assert base["metric"] == pytest.approx(sum(run["metric"] for run in base["runs"]) / len(base["runs"]))
    assert float(world.results()[0][1]) == pytest.approx(base["metric"], abs=1e-6)


def test_more_baseline_runs_can_be_asked_for(world: Project) -> None:
    world.begin(repeats=1)
    assert world.ok("status")["noise"]["n"] in (0, 1)
    assert len(world.ok("baseline", "--repeats", "3")["runs"]) == 3
    assert len(world.ok("baseline", "--repeats", "2")["runs"]) == 3
    assert world.ok("status")["incumbent"]["experiment"] == "e000"


def test_an_equal_change_that_only_adds_lines_is_not_kept(world: Project) -> None:
    world.begin(repeats=3)
    world.edit("LR = 1.00", "LR = 1.00\nUNUSED = 3")
    tried = world.ok("try", "a constant nobody reads")
    assert tried["verdict"] == "discard"


def test_an_equal_change_that_makes_the_code_shorter_is_kept(world: Project) -> None:
    world.begin(repeats=3)
    world.edit('print("step 1 loss 3.2", flush=True)\n', "")
    assert world.ok("try", "less talk")["verdict"] == "keep"


def test_arguments_of_a_candidate_reach_its_command(tmp_path: Path) -> None:
    text = "import sys\nprint('val_loss:', 2.0 if '--fast' in sys.argv else 3.0)\n"
    world = a_project(tmp_path / "p", {"train.py": text})
    world.begin("--metric", "val_loss", "--goal", "min")
    tried = world.ok("try", "the fast path", "--args", "--fast")
    assert (tried["verdict"], tried["metric"]) == ("keep", 2.0)
    assert "nothing to try" in world.refused(4, "try", "the same", "--args", "--fast")["message"]
    world.edit("2.0", "1.5")
    assert world.ok("try", "the incumbent's arguments stay")["metric"] == 1.5
    assert world.ok("try", "without them", "--args", "")["metric"] == 3.0


# -- what a run sees -----------------------------------------------------------------------------------


def test_a_run_sees_the_commit_and_not_the_live_tree(tmp_path: Path) -> None:
    text = "import os, helper\nprint('val_loss:', helper.VALUE)\nprint('cwd:', 1)\n"
    world = a_project(
        tmp_path / "p", {"train.py": text, "helper.py": "VALUE = 1.0\n", ".gitignore": "data/\n"}
    )
    world.write("data/x.txt", "7")
    world.ok("init", "--tag", "t1", "--metric", "val_loss", "--goal", "min")
    assert "share: [data]" in world.read("autoresearch.yaml")
    world.write("helper.py", "VALUE = 0.0\n")  # not committed: the baseline must not see it
    assert world.ok("baseline")["metric"] == 1.0


def test_shared_inputs_are_linked_and_outputs_can_be_kept(tmp_path: Path) -> None:
    text = (
        "import json, os, pathlib\n"
        "value = float(pathlib.Path('data/x.txt').read_text())\n"
        "out = pathlib.Path(os.environ['AUTORESEARCH_RUN_DIR'])\n"
        "(out / 'metrics.json').write_text(json.dumps({'val_loss': value}))\n"
    )
    world = a_project(tmp_path / "p", {"train.py": text, ".gitignore": "data/\n"})
    world.write("data/x.txt", "7.5")
    world.begin("--metric", "val_loss", "--goal", "min")
    assert world.ok("status")["baseline"]["metric"] == 7.5


def test_the_projects_own_environment_runs_the_training(tmp_path: Path) -> None:
    text = "import sys\nprint('val_loss:', 1.0)\nprint(sys.prefix)\n"
    world = a_project(tmp_path / "p", {"train.py": text, ".gitignore": ".venv/\n"})
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(world.root / ".venv")], check=True)
    world.begin("--metric", "val_loss", "--goal", "min")
    assert str(world.root / ".venv") in world.read(".autoresearch/runs/e000.1/run.log")


def test_a_campaign_in_a_subfolder_of_a_repository_works(tmp_path: Path) -> None:
    outer = a_project(
        tmp_path / "mono", {"README.md": "x\n", "exp/train.py": TRAIN, "exp/prepare.py": PREPARE}
    )
    world = Project(outer.root / "exp", outer.env)
    world.begin()
    world.edit("LR = 1.00", BETTER)
    assert world.ok("try", "halve it")["verdict"] == "keep"
    assert outer.git("show", "autoresearch/t1:exp/train.py").startswith("import os")
    assert outer.git("status", "--porcelain").splitlines() == ["M exp/train.py", "?? exp/autoresearch.yaml"]


# -- metrics that are none ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("print('val_bpb: nan')", "not_finite"),
        ("print('val_bpb: -inf')", "not_finite"),
        ("pass", "no_metric"),
        ("print('val_bpb: 0.1'); print('val_bpb: 0.9')", "no_metric"),
        ("os.kill(os.getpid(), 9)", "killed"),
        ("raise MemoryError", "oom"),
        ("raise SystemExit(3)", "error"),
    ],
)
def test_a_run_without_one_finite_metric_is_a_crash_with_its_class(
    world: Project, line: str, kind: str
) -> None:
    world.begin()
    text = world.read("train.py")
    world.write("train.py", text[: text.index('print("---")')] + line + "\n")
    tried = world.ok("try", "break it")
    assert tried["verdict"] == "crash"
    assert tried["crash"]["kind"] == kind
    assert len(tried["runs"]) == (2 if kind == "killed" else 1)  # a kill from outside is repeated once
    assert tried["incumbent"]["experiment"] == "e000"
    assert tried["reason"]


def test_a_run_over_its_limit_is_ended(world: Project) -> None:
    world.ok("init", "--tag", "t1", "--budget", "1")
    yaml = world.read("autoresearch.yaml")
    world.ok("baseline", "--repeats", "1")
    world.write("autoresearch.yaml", yaml.replace("kill_after: 121", "kill_after: 1"))
    world.edit("value = ", "import time; time.sleep(60)\nvalue = ")
    tried = world.ok("try", "sleep")
    assert (tried["verdict"], tried["crash"]["kind"]) == ("crash", "timeout")


# -- refusals --------------------------------------------------------------------------------------------


def test_nothing_changed_is_said(world: Project) -> None:
    world.begin()
    assert "nothing to try" in world.refused(4, "try", "no change")["message"]


def test_a_try_before_the_baseline_is_refused(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    world.edit("LR = 1.00", BETTER)
    assert "baseline" in world.refused(4, "try", "x")["message"]
    assert BETTER in world.read("train.py")


def test_a_protected_file_edited_is_refused_and_left_alone(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    world.edit("TIME_BUDGET = 5", "TIME_BUDGET = 500", "prepare.py")
    error = world.refused(9, "try", "more time")
    assert "prepare.py" in error["message"]
    assert "500" in world.read("prepare.py") and BETTER in world.read("train.py")
    tried = world.ok("try", "more time", "--leave-out")
    assert tried["verdict"] == "keep"
    assert "TIME_BUDGET = 5\n" in world.git("show", f"{tried['commit']}:prepare.py") + "\n"
    assert "500" in world.read("prepare.py")


def test_a_source_file_out_of_scope_is_refused_once_and_named(tmp_path: Path) -> None:
    files = {"train.py": TRAIN, "prepare.py": PREPARE, "model.py": "X = 1\n", "README.md": "hi\n"}
    world = a_project(tmp_path / "p", files)
    world.begin()
    world.write("model.py", "X = 2\n")
    assert "model.py" in world.refused(9, "try", "x")["message"]
    world.edit("LR = 1.00", BETTER)
    assert "model.py" in world.refused(9, "try", "x")["message"]
    assert world.ok("try", "x", "--leave-out")["verdict"] == "keep"
    world.edit(BETTER, "LR = 0.25")
    answer = world.run("try", "y")  # the same edit was accepted once
    assert answer.out.startswith("e002 KEEP")
    assert "not part of it: model.py" in answer.out
    assert world.read("model.py") == "X = 2\n"


def test_a_readme_edited_beside_the_loop_stops_nothing(world: Project) -> None:
    world.begin()
    world.write("README.md", "the user's words\n")
    world.git("add", "README.md")
    world.write("README.md", "the user's words, unstaged\n")
    staged = world.git("ls-files", "-s")
    world.edit("LR = 1.00", BETTER)
    assert world.ok("try", "x")["verdict"] == "keep"
    assert world.read("README.md") == "the user's words, unstaged\n"
    assert world.git("ls-files", "-s") == staged


def test_the_same_candidate_twice_is_recognised(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", WORSE)
    world.ok("try", "worse")
    world.edit("LR = 1.00", WORSE)
    assert "e001" in world.refused(4, "try", "worse again")["message"]
    assert world.ok("try", "worse again", "--again")["verdict"] == "discard"


def test_a_budget_of_experiments_is_kept(world: Project) -> None:
    world.begin("--experiments", "1")
    world.edit("LR = 1.00", WORSE)
    world.ok("try", "one")
    world.edit("LR = 1.00", BETTER)
    assert "1 of 1 experiments" in world.refused(9, "try", "two")["message"]
    assert "finish" in world.ok("status")["next"]


def test_init_refuses_what_would_lose_something(world: Project) -> None:
    world.edit("LR = 1.00", BETTER)
    assert "train.py" in world.refused(4, "init", "--tag", "t1")["message"]
    world.git("checkout", "-q", "train.py")
    world.git("branch", "autoresearch/t1")
    assert "exists" in world.refused(4, "init", "--tag", "t1")["message"]
    world.ok("init", "--tag", "t2")
    assert "not finished" in world.refused(4, "init", "--tag", "t3")["message"]


@pytest.mark.parametrize(
    "tag", ["../x", "/etc", "a b", "", "-x", "x" * 100, "a..b", "x.lock", "Ä", "a\nb", "x."]
)
def test_a_tag_cannot_leave_its_namespace(world: Project, tag: str) -> None:
    assert world.refused(2, "init", "--tag", tag)["fix"]
    assert world.git("for-each-ref", "refs/autoresearch", "refs/heads/autoresearch") == ""


def test_init_says_which_flag_is_missing(tmp_path: Path) -> None:
    silent = a_project(tmp_path / "silent", {"train.py": "print('hello')\n"})
    assert "--metric" in silent.refused(3, "init", "--tag", "t")["fix"]
    several = a_project(tmp_path / "several", {"a.py": "1\n", "b.py": "2\n"})
    assert "--command" in several.refused(3, "init", "--tag", "t")["fix"]
    empty = a_project(tmp_path / "none", {"README.md": "x\n"})
    assert "--command" in empty.refused(3, "init", "--tag", "t")["fix"]
    odd = a_project(tmp_path / "odd", {"train.py": "print(f'val_thing: {1}')\n"})
    assert "--goal" in odd.refused(3, "init", "--tag", "t", "--metric", "val_thing")["fix"]


def test_a_folder_without_git_or_without_a_commit_is_said(tmp_path: Path) -> None:
    bare = Project(tmp_path / "bare")
    bare.root.mkdir()
    bare.write("train.py", TRAIN)
    assert "git init" in bare.refused(4, "init", "--tag", "t")["fix"]
    bare.git("init", "-q")
    assert "commit" in bare.refused(4, "init", "--tag", "t")["fix"]
    assert "init" in bare.refused(4, "status")["fix"]


def test_a_setting_that_makes_results_incomparable_may_not_change(world: Project) -> None:
    world.begin()
    world.write("autoresearch.yaml", world.read("autoresearch.yaml").replace("goal: min", "goal: max"))
    assert "goal" in world.refused(3, "status")["message"]


def test_settings_can_be_mended_until_something_was_measured(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    world.write(
        "autoresearch.yaml", world.read("autoresearch.yaml").replace("protect: [prepare.py]", "protect: []")
    )
    assert world.ok("status")["campaign"] == "t1"
    world.ok("baseline", "--repeats", "1")
    world.write(
        "autoresearch.yaml", world.read("autoresearch.yaml").replace("protect: []", "protect: [prepare.py]")
    )
    assert "protect" in world.refused(3, "status")["message"]


def test_what_a_script_imports_from_the_project_is_protected(tmp_path: Path) -> None:
    files = {
        "train.py": "import os\nfrom data import X\nprint('val_loss:', X)\n",
        "data.py": "X = 1.0\n",
        "os2.py": "",
    }
    world = a_project(tmp_path / "p", files)
    world.ok("init", "--tag", "t1")
    assert "protect: [data.py]" in world.read("autoresearch.yaml")


def test_a_detached_head_is_no_trouble(world: Project) -> None:
    world.git("checkout", "-q", "--detach")
    world.begin()
    world.edit("LR = 1.00", BETTER)
    assert world.ok("try", "x")["verdict"] == "keep"
    world.ok("finish")
    assert world.git("status", "--porcelain") == "?? autoresearch.yaml"


def test_usage_errors_are_json_too(world: Project) -> None:
    assert world.run("--json", "nonsense").code == 2
    assert world.run("--json", "nonsense").json["ok"] is False
    assert world.run("try").code == 2
    assert world.run("--json", "try", " ").json["code"] == 2


# -- the working tree ----------------------------------------------------------------------------------


def test_new_and_deleted_files_inside_edit_belong_to_the_candidate(tmp_path: Path) -> None:
    text = "import pathlib\nprint('val_loss:', 5 - len(list(pathlib.Path('src').glob('*.py'))))\n"
    world = a_project(tmp_path / "p", {"train.py": text, "src/a.py": "1\n", "src/b.py": "2\n"})
    world.begin("--metric", "val_loss", "--goal", "min", "--edit", "src")
    world.write("src/c.py", "3\n")
    world.write("src/a.py", "10\n")
    assert world.ok("try", "one more")["verdict"] == "keep"
    assert (world.root / "src/c.py").exists()
    (world.root / "src/b.py").unlink()
    (world.root / "src/a.py").unlink()
    lost = world.ok("try", "two fewer")
    assert lost["verdict"] == "discard"
    assert world.read("src/b.py") == "2\n" and world.read("src/a.py") == "10\n"
    world.ok("restore", lost["experiment"])
    assert not (world.root / "src/b.py").exists()


def gated(world: Project) -> Path:
    """Let every run from here on wait until somebody touches the path that is returned."""
    gate = world.root.parent / "gate"
    world.env["GATE"] = str(gate)
    wait = "import time\nwhile not os.path.exists(os.environ['GATE']):\n    time.sleep(0.02)\n"
    world.edit("value = ", f"{wait}value = ")
    return gate


def test_a_keep_is_merged_into_what_is_being_edited(world: Project) -> None:
    world.begin()
    gate = gated(world)
    world.edit("LR = 1.00", "LR = 0.50")
    first = world.ok("try", "better, slowly", "--wait", "0")
    assert first["status"] in ("queued", "running")
    assert "LR = 1.00" in world.read("train.py")
    world.edit('print("---")', 'print("-----")\nprint("---")')
    gate.touch()
    assert world.ok("wait")["verdict"] == "keep"
    text = world.read("train.py")
    assert "LR = 0.50" in text and '"-----"' in text


def test_a_keep_that_conflicts_leaves_both_versions_and_stops_the_next_try(world: Project) -> None:
    world.begin()
    gate = gated(world)
    world.edit("LR = 1.00", "LR = 0.50")
    world.ok("try", "better, slowly", "--wait", "0")
    world.edit("LR = 1.00", "LR = 0.75")
    gate.touch()
    answer = world.ok("wait")
    assert answer["verdict"] == "keep"
    assert "conflict" in " ".join(answer["notices"])
    text = world.read("train.py")
    assert "<<<<<<<" in text and "LR = 0.75" in text and "LR = 0.50" in text
    saved = world.root / ".autoresearch/conflicts/e001/train.py"
    assert "LR = 0.75" in (saved / "edited").read_text()
    assert "conflict markers" in world.refused(4, "try", "x")["message"]


def test_a_second_try_is_queued_and_measured_on_the_new_incumbent(world: Project) -> None:
    world.begin(repeats=3)  # no noise, so that one run decides
    gate = gated(world)
    world.edit("value = LR", "value = -0.3 + LR")
    world.ok("try", "first", "--wait", "0")
    world.edit("LR = 1.00", "LR = 0.90")
    second = world.ok("try", "second", "--wait", "0")
    assert second["status"] == "queued"
    assert world.ok("status")["queued"] == ["e002"]
    gate.touch()
    assert world.ok("wait", "e001")["verdict"] == "keep"
    done = world.ok("wait", "e002")
    assert done["verdict"] == "keep"
    assert done["metric"] == pytest.approx(0.6)
    assert world.git("rev-parse", "autoresearch/t1^") == world.ok("show", "e001")["commit"]
    assert world.git("cat-file", "-t", "refs/autoresearch/t1/2.proposed") == "commit"


def test_restore_brings_a_discarded_change_back_on_top_of_edits(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", WORSE)
    world.ok("try", "worse")
    world.edit('print("---")', 'print("-----")\nprint("---")')
    world.ok("restore", "e001")
    text = world.read("train.py")
    assert WORSE in text and '"-----"' in text


def test_a_user_on_the_campaign_branch_sees_a_clean_tree_after_a_keep(world: Project) -> None:
    world.begin()
    world.git("checkout", "-q", "autoresearch/t1")
    world.edit("LR = 1.00", BETTER)
    world.ok("try", "x")
    assert world.git("status", "--porcelain") == "?? autoresearch.yaml"
    assert world.git("symbolic-ref", "HEAD") == "refs/heads/autoresearch/t1"


def test_a_branch_moved_by_someone_else_is_not_overwritten(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    world.ok("try", "x")
    foreign = world.git("commit-tree", "HEAD^{tree}", "-p", "autoresearch/t1", "-m", "the user's")
    world.git("branch", "-f", "autoresearch/t1", foreign)
    world.edit(BETTER, "LR = 0.25")
    error = world.refused(4, "try", "y")
    assert foreign[:7] in error["message"]
    assert world.git("rev-parse", "autoresearch/t1") == foreign
    world.git("branch", "-f", "autoresearch/t1", f"{foreign}^")
    world.ok("resume")
    assert world.ok("show", "e002")["verdict"] == "keep"
    assert "LR = 0.25" in world.git("show", "autoresearch/t1:train.py")


def test_a_candidate_just_proposed_survives_a_collection_of_garbage(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    assert world.run("try", "x", env={"AUTORESEARCH_DIE_AT": "journal.proposed.after#1"}).code == -9
    world.git("reflog", "expire", "--expire=now", "--all")
    world.git("gc", "-q", "--prune=now")
    world.ok("resume")
    assert world.ok("wait")["verdict"] == "keep"


def test_hooks_signing_and_fsmonitor_of_the_user_do_not_run(world: Project) -> None:
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-commit", "fsmonitor"):
        hook = world.root / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {world.root}/HOOK_{name}\nexit 1\n")
        hook.chmod(0o755)
    world.git("config", "commit.gpgSign", "true")
    world.git("config", "user.signingKey", "NOBODY")
    world.git("config", "core.fsmonitor", str(world.root / ".git/hooks/fsmonitor"))
    config = (world.root / ".git/config").read_bytes()
    world.begin()
    world.edit("LR = 1.00", BETTER)
    assert world.ok("try", "x")["verdict"] == "keep"
    assert not list(world.root.glob("HOOK_*"))
    assert (world.root / ".git/config").read_bytes() == config


def test_a_left_behind_index_lock_is_no_trouble(world: Project) -> None:
    world.begin()
    (world.root / ".git/index.lock").touch()
    world.edit("LR = 1.00", BETTER)
    assert world.ok("try", "x")["verdict"] == "keep"
    assert (world.root / ".git/index.lock").exists()


def test_without_a_git_identity_commits_are_ours(world: Project) -> None:
    for name in list(world.env):
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            del world.env[name]
    env = {"GIT_CONFIG_GLOBAL": os.devnull, "EMAIL": ""}
    world.git("config", "user.useConfigOnly", "true")
    world.ok("init", "--tag", "t1", env=env)
    world.ok("baseline", env=env)
    world.edit("LR = 1.00", BETTER)
    tried = world.ok("try", "x", env=env)
    assert world.git("show", "-s", "--format=%an", tried["commit"]) == "autoresearch"


# -- stopping and going on -----------------------------------------------------------------------------


def test_stop_and_resume(world: Project) -> None:
    world.begin()
    world.ok("stop")
    world.edit("LR = 1.00", BETTER)
    assert "resume" in world.refused(4, "try", "x")["fix"]
    world.ok("resume")
    assert world.ok("try", "x")["verdict"] == "keep"


def test_stop_now_ends_the_run_and_resume_repeats_it(world: Project) -> None:
    world.begin()
    gate = gated(world)
    world.ok("try", "slow", "--wait", "0")
    assert world.ok("stop", "--now")["running"] == ["e001.1"]
    assert world.ok("status")["queued"] == ["e001"]
    gate.touch()
    world.ok("resume")
    done = world.ok("wait")
    assert [run["outcome"] for run in done["runs"]][:2] == ["cancelled", "ok"]
    assert done["verdict"] in ("keep", "discard")


def test_a_wait_that_ends_first_says_124_and_loses_nothing(world: Project) -> None:
    world.begin()
    gate = gated(world)
    answer = world.run("--json", "try", "slow", "--wait", "0.1")
    assert answer.code == 124 and answer.json["status"] == "running"
    assert world.run("--json", "wait", "--max", "0.05").code == 124
    gate.touch()
    assert world.run("--json", "wait").json["status"] == "done"
    assert world.run("--json", "wait").code == 0


def test_a_finished_campaign_makes_room_for_the_next(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    world.ok("try", "x")
    world.ok("finish")
    assert "finished" in world.refused(4, "try", "y")["message"]
    assert world.ok("finish")["campaign"] == "t1"
    world.ok("init", "--tag", "t2")
    world.ok("baseline", "--repeats", "1")
    assert len(world.results()) == 1
    assert (world.root / ".autoresearch/past/t1/journal.jsonl").exists()
    assert "\tx\n" in world.read(".autoresearch/past/t1/results.tsv")
    assert world.git("rev-parse", "refs/autoresearch/t1/1")


def test_finish_leaves_an_edit_in_progress_alone(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", "LR = 0.33")
    assert "train.py" in " ".join(world.ok("finish")["notices"])
    assert "LR = 0.33" in world.read("train.py")


def test_host_trouble_is_repeated_and_stops_the_campaign_after_three(world: Project) -> None:
    world.begin()
    world.edit("value = ", "raise OSError('No space left on device')\nvalue = ")
    assert "No space left" in world.refused(4, "try", "the disk is full")["message"]
    found = world.ok("show", "e001")
    assert found["verdict"] is None and found["status"] == "queued"
    assert [run["outcome"] for run in found["runs"]] == ["infra"] * 3
    status = world.ok("status")
    assert "host trouble" in status["stopped"]
    assert status["incumbent"]["experiment"] == "e000"
    assert "resume" in status["next"]


def test_a_run_that_the_host_lost_before_resume_does_not_stop_what_resume_starts(world: Project) -> None:
    world.begin()
    world.edit("value = ", "import time; time.sleep(60)\nvalue = ")
    world.run("try", "lost three times", "--wait", "0")
    for number in (1, 2, 3):
        claim = world.root / f".autoresearch/runs/e001.{number}/claim"
        wait_until(lambda claim=claim: claim.exists() and claim.stat().st_size)
        os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
        wait_until(lambda claim=claim: Local().poll(claim.parent) == "lost")
        if number < 3:
            world.run("wait", "--max", "0")
    going = world.ok("resume")
    assert going["open"] == ["e001"]
    assert world.ok("status")["stopped"] is None
    world.ok("stop", "--now")


# -- what is said ----------------------------------------------------------------------------------------


def test_status_log_show_and_diff_stay_within_their_bounds(world: Project) -> None:
    world.begin()
    for step in range(9):
        world.edit("LR = 1.00", f"LR = {2 + step}.0\n" + "# padding line\n" * 400)
        world.ok("try", f"attempt {step} " + "word " * 200)
    for args in (
        ["status"],
        ["log"],
        ["log", "-n", "500"],
        ["show", "e003"],
        ["diff", "e003"],
        ["diff", "best"],
    ):
        answer = world.run(*args)
        assert answer.code == 0
        limit = 30 if args == ["status"] else 60
        assert len(answer.out.splitlines()) <= limit, args
        assert len(answer.out.encode()) <= 8192, args
    assert "cut" in world.run("diff", "e003").out
    assert "e008" in world.run("log").out


def test_the_first_line_of_a_verdict_is_the_verdict(world: Project) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    assert world.run("try", "x").out.startswith("e001 KEEP")


def test_doctor_is_content_and_names_what_is_not(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    assert world.ok("doctor")["ok"] is True
    assert not world.git("for-each-ref", "refs/autoresearch-doctor")
    broken = a_project(world.root.parent / "broken")
    broken.write(
        "autoresearch.yaml", "command: nosuchprogram x\nmetric: {name: m, goal: min}\nedit: [gone.py]\n"
    )
    answer = broken.run("--json", "doctor")
    assert answer.code == 4
    found = {check["name"]: check for check in answer.json["checks"]}
    assert found["command"]["ok"] is False and found["command"]["fix"]
    assert found["files"]["ok"] is False and "gone.py" in found["files"]["text"]


def test_a_description_cannot_break_the_table(world: Project) -> None:
    import csv
    import io

    world.begin()
    nasty = "tab\there \"quote\" 'single' `tick` $(date)\nnewline\r\x00\x1b[31mred\u202e\U000e0041 , comma \\"
    nasty = nasty.replace("\x00", "")  # no shell passes NUL
    world.edit("LR = 1.00", WORSE)
    assert world.ok("try", nasty)["verdict"] == "discard"
    text = world.read("results.tsv")
    for quoting in (csv.QUOTE_NONE, csv.QUOTE_MINIMAL):
        rows = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=quoting))
        assert [len(row) for row in rows] == [5, 5, 5]
        assert "newline" in rows[2][4]
    assert json.loads(world.read(".autoresearch/journal.jsonl").splitlines()[-4])["schema"] == 1
    assert world.ok("show", "e001")["hypothesis"] == nasty


def test_the_command_line_answers_from_any_folder(world: Project, tmp_path: Path) -> None:
    world.begin()
    (world.root / "deep/er").mkdir(parents=True)
    elsewhere = Project(world.root / "deep/er", world.env)
    assert elsewhere.ok("status")["campaign"] == "t1"
    outside = Project(tmp_path, world.env)
    assert outside.ok("-C", str(world.root), "status")["campaign"] == "t1"
    assert outside.ok("status", "-C", str(world.root))["campaign"] == "t1"


def test_nothing_of_ours_is_left_running_or_lying_about(world: Project) -> None:
    world.begin()
    for step in range(3):
        world.edit("LR = 1.00", f"LR = {2 + step}.0")
        world.ok("try", f"worse {step}")
    time.sleep(0.1)
    left = [p.name for p in (world.root / ".autoresearch/worktrees").iterdir()]
    assert left == ["e000.1"]
    assert not list(world.root.rglob("*autoresearch-tmp"))
    assert not list((world.root / ".git").rglob("*.lock"))


def test_an_absolute_interpreter_in_the_command_is_not_taken_for_the_script(world: Project) -> None:
    world.ok("init", "--tag", "t1", "--command", "/usr/bin/env python train.py")
    assert "val_bpb" in world.read("autoresearch.yaml")
