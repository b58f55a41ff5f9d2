from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import PREPARE, Project, a_project

from lab import extras, sampling, searching
from lab.errors import LabError
from lab.knobs import Knob, constants, knob_of, marked, written
from lab.settings import load

# Two knobs that matter, by an amount that no noise hides; WIDTH 8 crashes.
TRAIN = """import math, os, random, time
LR = 0.1  # range 1e-4..1e-1 log
WIDTH = 2  # channels, range 1..8
seed = int(os.environ.get("SEED", "0"))
while os.path.exists(os.environ.get("HOLD", "")):
    time.sleep(0.02)
if WIDTH == 8:
    raise ValueError("too wide")
value = 1 + (math.log10(LR) + 2.5) ** 2 + 0.05 * (WIDTH - 5) ** 2 + random.Random(seed).gauss(0, 0.001)
print("---")
print(f"val_bpb: {value:.6f}")
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with its baseline, only to copy."""
    made = a_project(tmp_path_factory.mktemp("measured") / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
    made.begin(repeats=2)
    return made


@pytest.fixture
def project(measured: Project, tmp_path: Path) -> Project:
    root = shutil.copytree(measured.root, tmp_path / "p", symlinks=True)
    return Project(root, {**measured.env, "HOLD": str(tmp_path / "hold")})


def proposals(project: Project) -> list[dict]:
    return [r for r in project.records() if r["event"] == "proposed" and r["experiment"] != "e000"]


# -- knobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-4..1e-1 log", "1..8", "-0.5..0.5", "one of 1, 2, 4", "one of 'a', 'b'"])
def test_a_range_reads_back_as_it_is_said(text: str) -> None:
    knob = knob_of("LR", text)
    assert knob_of("LR", knob.words) == knob


@pytest.mark.parametrize("text", ["", "8..1", "0..1 log", "one of 3", "1..", "nan..1"])
def test_a_range_without_room_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="room|range|log|choice"):
        knob_of("LR", text)


def test_only_constants_whose_comment_says_a_range_are_knobs() -> None:
    source = "A = 1  # range 1..3\nB = 2  # steps\nC = 0.5  # share, range 0.1..0.9\nD = [1]  # range 1..3\n"
    assert [knob.name for _, knob in marked(constants(source))] == ["A", "C"]


def test_a_constant_that_is_set_twice_is_no_knob() -> None:
    assert [one.name for one in constants("A = 1\nB = 2\nA = 3\n")] == ["B"]


@given(st.floats(1e-6, 1e6), st.integers(-9, 9), st.text(max_size=5))
def test_written_values_read_back_and_nothing_else_changes(number: float, whole: int, word: str) -> None:
    source = 'é = "ü"; A = 0.1  # range 1..3\nB: int = (2 +\n  3)  # x\nC = "c"\nprint(A)\n'
    text = written(source, {"A": number, "B": whole, "C": word})
    assert {one.name: one.value for one in constants(text)} == {"é": "ü", "A": number, "B": whole, "C": word}
    assert "  # range 1..3\n" in text and text.endswith("\nprint(A)\n")


@given(st.floats(0, 1))
def test_a_proposed_number_stays_in_its_range_with_few_digits(share: float) -> None:
    knob = Knob("LR", 1e-4, 1e-1, log=True)
    value = knob.fitted(1e-4 * 1e3**share, whole=False)
    assert 1e-4 <= float(value) <= 1e-1 and len(f"{value:e}".split("e")[0].rstrip("0")) <= 5
    assert knob_of("N", "1..8").fitted(8.4, whole=True) == 8


def test_the_yaml_names_knobs_in_three_ways(tmp_path: Path) -> None:
    path = tmp_path / "autoresearch.yaml"
    base = "command: python train.py\nmetric: {name: m, goal: min}\nedit: [train.py]\n"
    path.write_text(base + "sweep:\n  knobs: {A: {low: 1e-4, high: 1e-1, log: true}, B: 1..8, C: [1, 2]}\n")
    assert load(path).knobs == (Knob("A", 1e-4, 1e-1, True), Knob("B", 1, 8), Knob("C", choices=(1, 2)))


@pytest.mark.parametrize(
    "knob", ["{low: 1}", "8..1", "{low: 1, high: 2, step: 3}", "[1]", "{low: a, high: 2}"]
)
def test_a_bad_knob_in_the_yaml_is_named_with_its_line(tmp_path: Path, knob: str) -> None:
    path = tmp_path / "autoresearch.yaml"
    base = "command: python train.py\nmetric: {name: m, goal: min}\nedit: [train.py]\n"
    path.write_text(base + f"sweep:\n  knobs:\n    LR: {knob}\n")
    with pytest.raises(LabError) as found:
        load(path)
    assert "autoresearch.yaml:6" in found.value.message and found.value.code == 3


# -- the search ----------------------------------------------------------------------------------------


def task(sampler: str, told: list[dict] | None = None, **words: object) -> dict:
    knobs = [
        {"name": "LR", "low": 1e-4, "high": 1e-1, "log": True, "choices": [], "whole": False},
        {"name": "X", "low": -1.0, "high": 1.0, "log": False, "choices": [], "whole": False},
    ]
    return {
        "knobs": knobs,
        "sampler": sampler,
        "seed": 7,
        "goal": "min",
        "told": told or [],
        "ask": 2,
        **words,
    }


def points(count: int) -> list[dict]:
    """Measured points of a bowl whose floor is at LR 0.003, X 0."""
    asked = sampling.drawn(task("random", ask=count))
    return [{"values": v, "state": "complete", "value": (v["X"]) ** 2 + abs(v["LR"] - 0.003)} for v in asked]


def test_the_same_question_has_the_same_answer() -> None:
    assert sampling.drawn(task("random")) == sampling.drawn(task("random"))


def test_values_by_chance_are_new_while_there_are_any() -> None:
    knobs = [{"name": "D", "low": None, "high": None, "log": False, "choices": [1, 2, 3], "whole": False}]
    told = [{"values": {"D": 1}, "state": "failed"}]
    asked = sampling.drawn(task("random", told, knobs=knobs, ask=5))
    assert sorted(one["D"] for one in asked) == [2, 3]


def test_cma_es_moves_towards_the_good_points() -> None:
    pytest.importorskip("cmaes")
    few, many = (sampling.evolved(task("cma", points(n), ask=40)) for n in (0, 60))

    def far(asked: list[dict]) -> float:
        return sum(abs(one["X"]) for one in asked) / len(asked)

    assert far(many) < far(few)


@pytest.mark.parametrize("sampler", searching.SAMPLERS)
def test_every_search_answers_within_the_ranges(sampler: str) -> None:
    pytest.importorskip("optuna")
    told = [*points(12), {"values": {"LR": 0.05, "X": 0.0}, "state": "failed"}]
    told.append({"values": {"LR": 0.01, "X": 0.5}, "state": "running"})
    asked = searching.answer(task(sampler, told))["asked"]
    assert len(asked) == 2
    assert all(1e-4 <= one["LR"] <= 1e-1 and -1 <= one["X"] <= 1 for one in asked)


def test_a_point_that_failed_counts_as_the_worst_measured() -> None:
    told = [{"state": "complete", "value": v, "values": {}} for v in (1.0, 3.0)] + [
        {"state": "failed", "values": {}}
    ]
    assert [one.get("value") for one in sampling.with_failures(told, "min")] == [1.0, 3.0, 3.0]
    assert [one.get("value") for one in sampling.with_failures(told, "max")] == [1.0, 3.0, 1.0]
    assert sampling.with_failures(told[2:], "min") == told[2:]


def test_the_knob_that_makes_the_difference_is_called_important() -> None:
    pytest.importorskip("optuna")
    shares = searching.answer(task("tpe", points(40), importance=True))["importance"]
    assert shares["X"] > shares["LR"]


def test_without_optuna_the_error_says_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError) as found:
        searching.ready()
    assert "pip install optuna==" in found.value.hint and "cmaes==" in found.value.hint


def test_the_search_says_what_went_wrong_in_one_line() -> None:
    with pytest.raises(LabError, match="the search failed: KeyError"):
        searching.answer(task("random", knobs=[{"name": "X"}]))


def test_the_search_needs_nothing_of_ours() -> None:
    given = json.dumps(task("random")).encode()
    done = subprocess.run(
        [sys.executable, "-I", sampling.__file__], input=given, capture_output=True, check=True
    )
    assert len(json.loads(done.stdout)["asked"]) == 2


# -- a whole sweep -------------------------------------------------------------------------------------


def test_trials_run_once_and_only_the_judged_best_is_kept(project: Project) -> None:
    made = project.ok("sweep", "--trials", "4", "--sampler", "random", "--wait", "300")
    trials = [r for r in proposals(project) if r["trial"]]
    judged = [r for r in proposals(project) if not r["trial"]]
    assert made["status"] == "done" and len(trials) == 4 and made["kept"] == judged[-1]["experiment"]
    started = [r for r in project.records() if r["event"] == "run_started"]
    runs = {
        r["experiment"]: [s["seed"] for s in started if s["experiment"] == r["experiment"]] for r in trials
    }
    assert all(len(seeds) == 1 for seeds in runs.values())
    # The seed that chose plays no part in the verdict.
    chosen_by = {seed for seeds in runs.values() for seed in seeds}
    assert len(chosen_by) == 1 and all(
        s["seed"] not in chosen_by for s in started if s["experiment"] not in runs
    )
    verdicts = {r["experiment"]: r["verdict"] for r in project.records() if r["event"] == "verdict"}
    assert all(verdicts[r["experiment"]] in ("discard", "crash") for r in trials)
    kept = judged[-1]
    assert kept["knobs"] in [r["knobs"] for r in trials] and verdicts[kept["experiment"]] == "keep"
    assert f"LR = {kept['knobs']['LR']!r}  # range 1e-4..1e-1 log" in project.read("train.py")
    assert project.run("verify").code == 0


def test_trials_teach_nothing_about_the_incumbent(project: Project) -> None:
    before = project.ok("status")["noise"]
    project.ok("sweep", "WIDTH", "--trials", "2", "--sampler", "random", "--wait", "300")
    trials = [r["experiment"] for r in proposals(project) if r["trial"]]
    verdicts = [r for r in project.records() if r["event"] == "verdict" and r["experiment"] in trials]
    assert len(verdicts) == 2 and not any("belief" in r for r in verdicts)
    assert before["n"] == 2


def test_a_sweep_that_finds_nothing_better_keeps_nothing(tmp_path: Path) -> None:
    best = TRAIN.replace("LR = 0.1 ", "LR = 0.00316 ").replace("WIDTH = 2 ", "WIDTH = 5 ")
    made = a_project(tmp_path / "p", {"train.py": best, "prepare.py": PREPARE})
    made.begin()
    told = made.ok("sweep", "--trials", "2", "--sampler", "random", "--wait", "300")
    assert told["kept"] is None and told["reason"] == "no trial was near the incumbent or better"
    assert made.read("train.py") == best


# The seed of a sweep is large; here such a seed has bad luck, less than the noise between small ones.
UNLUCKY = """import os
LR = 0.1  # range 0.1..1.0
seed = int(os.environ["SEED"])
luck = 0.03 if seed > 1000 else 0.04 * (seed % 2)
print(f"val_bpb: {1 - 0.01 * LR + luck:.6f}")
"""


def test_trials_on_an_unlucky_seed_are_judged_all_the_same(tmp_path: Path) -> None:
    made = a_project(tmp_path / "p", {"train.py": UNLUCKY, "prepare.py": PREPARE})
    made.begin(repeats=3)
    assert "Optuna" in str(made.ok("doctor")["checks"])
    told = made.ok("sweep", "--trials", "2", "--sampler", "random", "--wait", "300")
    level = made.ok("show", "e000")["metric"]
    assert all(row["metric"] > level for row in told["measured"])  # not one number is better
    assert told["judged"] and told["best"]


@pytest.mark.slow
def test_a_crashed_trial_is_told_as_failed_and_the_sweep_goes_on(project: Project) -> None:
    made, text = project, project.read("autoresearch.yaml")
    made.write("autoresearch.yaml", text + "sweep: {knobs: {WIDTH: [8, 3]}}\n")
    told = made.ok("sweep", "WIDTH", "--trials", "5", "--sampler", "random", "--wait", "300")
    assert sorted(str(row["verdict"]) for row in told["measured"]) == ["crash", "discard"]
    assert told["cut"] is None or told["cut"] == "every choice was measured"
    assert told["kept"] and "WIDTH = 3" in made.read("train.py")


@pytest.mark.slow
def test_stop_holds_a_sweep_and_resume_goes_on(project: Project) -> None:
    hold = Path(project.env["HOLD"])
    hold.touch()
    assert project.run("sweep", "--trials", "3", "--sampler", "random", "--wait", "0").code == 0
    project.ok("stop")
    hold.unlink()
    project.run("wait")
    assert len(proposals(project)) == 1
    project.refused(4, "sweep")
    assert len(proposals(project)) == 1
    project.ok("resume")
    assert project.ok("sweep", "--wait", "300")["status"] == "done"
    assert len([r for r in proposals(project) if r["trial"]]) == 3


@pytest.mark.slow
def test_the_budget_of_experiments_leaves_room_for_the_best(project: Project) -> None:
    made, text = project, project.read("autoresearch.yaml")
    made.write("autoresearch.yaml", text.replace("budget: {", "budget: {experiments: 5, "))
    told = made.ok("sweep", "--trials", "20", "--sampler", "random", "--wait", "300")
    assert len(told["measured"]) == 2 and len(proposals(made)) <= 5
    assert "the last of the 5 experiments" in str(told["cut"]) or told["kept"]


@pytest.mark.slow
def test_fewer_trials_end_a_sweep_under_way(project: Project) -> None:
    hold = Path(project.env["HOLD"])
    hold.touch()
    project.run("sweep", "--trials", "40", "--sampler", "random", "--wait", "0")
    project.run("sweep", "--trials", "2", "--wait", "0")
    hold.unlink()
    told = project.ok("sweep", "--wait", "300")
    assert told["trials"] == 2 and told["status"] == "done" and len(told["measured"]) == 2


def test_what_a_sweep_cannot_do_is_said_before_anything_is_written(project: Project) -> None:
    before = len(project.records())
    assert "NO_SUCH" in project.refused(4, "sweep", "NO_SUCH")["message"]
    assert "cma" in project.refused(2, "sweep", "--sampler", "cma")["message"]  # WIDTH is whole
    assert "no sweep" in project.refused(4, "sweep", "--importance")["message"]
    assert len(project.records()) == before


def test_the_knobs_are_listed_with_their_ranges(project: Project) -> None:
    rows = project.ok("sweep", "--list")["knobs"]
    assert [(row["name"], row["now"], row["range"]) for row in rows] == [
        ("LR", 0.1, "0.0001..0.1 log"),
        ("WIDTH", 2, "1..8"),
    ]


@pytest.mark.slow
def test_the_tree_of_parzen_estimators_finds_the_floor(project: Project) -> None:
    pytest.importorskip("optuna")
    told = project.ok("sweep", "--trials", "16", "--wait", "300")
    assert told["kept"] and min(row["metric"] for row in told["measured"] if row["metric"]) < 1.3
    assert set(project.ok("sweep", "--importance")["importance"]) == {"LR", "WIDTH"}
