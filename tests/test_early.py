from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import PREPARE, Project, a_project

from lab.early import DIVERGED, HOPELESS, Judge, Terms, drawn, limit_at, terms_json, terms_of
from lab.errors import LabError
from lab.settings import load


def curve(shift: float = 0.0, start: float = 7.0) -> tuple[tuple[float, float], ...]:
    """A falling loss at 20 places of the budget."""
    return tuple((k / 20, 2 + shift + (start - 2) * math.exp(-3 * k / 20)) for k in range(21))


CURVES = tuple(curve(shift) for shift in (-0.02, -0.01, 0.0, 0.01, 0.02, 0.005))


def judged(points: list[tuple[float, float]], **words: object) -> tuple[str, str, float]:
    """Outcome, reason and the progress at which it was said, 1 when never."""
    judge = Judge(Terms(**{"mode": HOPELESS, "seconds": 100.0, "curves": CURVES, **words}))  # type: ignore[arg-type]
    for progress, loss in points:
        judge.add(progress, loss)
        outcome, reason = judge.said()
        if outcome:
            return outcome, reason, progress
    return "", judge.spoke, 1.0


def test_a_run_like_the_incumbents_goes_on() -> None:
    assert judged(list(curve(0.015)))[0] == ""


def test_a_run_far_behind_is_hopeless_but_not_before_a_third_of_the_budget() -> None:
    outcome, reason, progress = judged(list(curve(3.0)))
    assert outcome == HOPELESS and 1 / 3 <= progress < 0.6
    assert "6 runs of the incumbent" in reason and "hopeless" in reason


def test_a_run_that_has_not_moved_is_called_stalled() -> None:
    outcome, reason, _ = judged([(k / 20, 7.0) for k in range(21)])
    assert outcome == HOPELESS and reason.startswith("stalled")


def test_a_run_that_catches_up_is_not_ended() -> None:
    points = [(p, loss + (3.0 if k % 3 else 0.0)) for k, (p, loss) in enumerate(curve())]
    assert judged(points)[0] == ""


def test_without_three_curves_nothing_is_hopeless() -> None:
    assert judged(list(curve(3.0)), curves=CURVES[:2])[0] == ""


def test_three_curves_end_less_than_many_do() -> None:
    few, many = limit_at(CURVES[:3], 0.5), limit_at(CURVES, 0.5)
    assert few is not None and many is not None and few > many


def test_only_the_mode_hopeless_ends_hopeless_runs() -> None:
    assert judged(list(curve(3.0)), mode="divergence")[0] == ""


def test_a_loss_far_above_its_start_for_long_has_diverged() -> None:
    points = [(k / 20, 7.0 if k < 5 else 70.0) for k in range(21)]
    outcome, reason, progress = judged(points, mode="divergence")
    assert outcome == DIVERGED and "4 times its start" in reason and 0.3 < progress <= 0.4


def test_a_spike_is_no_divergence() -> None:
    points = [(p, 70.0 if k == 8 else loss) for k, (p, loss) in enumerate(curve())]
    assert judged(points)[0] == ""


@given(st.floats(-1e6, 0), st.floats(-1e6, 1e6))
def test_a_loss_that_begins_below_zero_is_never_called_diverged(start: float, later: float) -> None:
    points = [(0.0, start), *((k / 20, later) for k in range(1, 21))]
    assert judged(points, mode="divergence")[0] == ""


def test_a_loss_that_is_no_number_for_three_lines_has_diverged() -> None:
    judge = Judge(Terms("divergence", 100.0))
    assert judge.look(b"step 1 loss 3.0\n", 1) == ("", "")
    said = [judge.look(b"step 1 loss 3.0\nstep %d loss nan\n" % k, 2 + k)[0] for k in range(3)]
    assert said == ["", "", DIVERGED]


@pytest.mark.parametrize("line", ["loss info: written", "no loss nanny", "val_loss_inf 3", "inf loss is bad"])
def test_words_that_begin_like_nan_are_none(line: str) -> None:
    judge = Judge(Terms("divergence", 100.0))
    assert [judge.look(f"step 1 loss 3.0\n{line}\n".encode(), k) for k in range(5)] == [("", "")] * 5


def test_a_number_after_a_nan_clears_it() -> None:
    judge = Judge(Terms("divergence", 100.0))
    for k in range(9):
        line = b"step %d loss nan\n" % k if k % 3 else b"step %d loss nan\nstep %d loss 3.%d\n" % (k, k, k)
        assert judge.look(line, k) == ("", "")


def test_one_nan_that_stays_the_last_line_is_no_divergence() -> None:
    judge = Judge(Terms("divergence", 100.0))
    for second in range(50):
        assert judge.look(b"step 1 loss 3.0\nstep 2 loss nan\nevaluating ...\n", second) == ("", "")


def test_what_is_only_shown_again_is_no_further_look() -> None:
    judge = Judge(Terms(HOPELESS, 100.0, curves=CURVES))
    for second in range(40, 60):
        assert judge.look(b"step 4 loss 6.9\n", second) == ("", "")
    assert len(judge.points) == 1


def test_the_lot_lets_a_tenth_finish_and_says_what_the_rule_said() -> None:
    outcome, spoke, _ = judged(list(curve(3.0)), finishes=True)
    assert outcome == "" and "hopeless" in spoke
    assert 70 < sum(drawn(f"{n:016x}") for n in range(1000)) < 130


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1e9, 1e9)), max_size=40))
def test_no_curve_makes_the_judge_fail(points: list[tuple[float, float]]) -> None:
    judged(points)


def test_the_terms_survive_json() -> None:
    data = json.loads(json.dumps(terms_json(HOPELESS, 60.0, "ab", CURVES)))
    terms = terms_of(data)
    assert terms and terms.curves == CURVES and terms.finishes == drawn("ab")
    assert terms_of(None) is None and terms_of({**data, "mode": "off"}) is None


def test_the_setting_takes_three_words(tmp_path: Path) -> None:
    path = tmp_path / "autoresearch.yaml"
    base = "command: python train.py\nmetric: {name: m, goal: min}\nedit: [train.py]\n"
    path.write_text(base)
    assert load(path).early_stop == "divergence"
    path.write_text(base + "early_stop: off\n")
    assert load(path).early_stop == "off"
    path.write_text(base + "early_stop: eager\n")
    with pytest.raises(LabError, match="early_stop is 'eager'"):
        load(path)


# -- real runs -----------------------------------------------------------------------------------------

TRAIN = """import math, os, random, time
SHIFT = 0.0
BAD = False
chance = random.Random(int(os.environ.get("SEED", "0")))
for k in range(41):
    loss = 2 + 5 * math.exp(-3 * k / 40) + SHIFT + chance.gauss(0, 0.001)
    print(f"step {k} ({100 * k / 40:.0f} %) loss {'nan' if BAD and k > 10 else f'{loss:.4f}'}", flush=True)
    time.sleep(0.2)
print("---")
print(f"val_bpb: {2 + SHIFT + chance.gauss(0, 0.001):.6f}")
"""


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A campaign that ends hopeless runs, after its baseline and two candidates that are ended."""
    project = a_project(tmp_path_factory.mktemp("early") / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
    project.ok("init", "--tag", "t1")
    project.write("autoresearch.yaml", project.read("autoresearch.yaml") + "early_stop: hopeless\n")
    project.ok("baseline", "--repeats", "3", "--wait", "100")
    for edit in (("SHIFT = 0.0", "SHIFT = 3.0"), ("BAD = False", "BAD = True")):
        project.edit(*edit)
        project.run("try", f"{edit[1]}", "--wait", "100")
    return project


@pytest.mark.slow
def test_a_hopeless_run_is_a_discard_with_its_evidence(hopeless: Project) -> None:
    shown = hopeless.ok("show", "e001")
    row = json.loads(hopeless.read(".autoresearch/runs/e001.1/run.json"))
    lot = json.loads(hopeless.read(".autoresearch/runs/e001.1/spec.json"))["early"]["finishes"]
    said = row["early"] if lot else shown["reason"]
    assert shown["verdict"] == "discard" and "3 runs of the incumbent" in said
    assert (row["outcome"] == "ok") if lot else (row["outcome"] == HOPELESS and row["metric"] is None)


@pytest.mark.slow
def test_a_diverged_run_is_a_crash_that_says_so(hopeless: Project) -> None:
    shown = hopeless.ok("show", "e002")
    assert shown["verdict"] == "crash" and "no number any more" in shown["reason"]
    assert shown["runs"][0]["outcome"] == DIVERGED


@pytest.mark.slow
def test_the_incumbents_runs_have_their_whole_budget_and_leave_their_course(hopeless: Project) -> None:
    for run in ("e000.1", "e000.2", "e000.3"):
        spec = json.loads(hopeless.read(f".autoresearch/runs/{run}/spec.json"))
        course = json.loads(hopeless.read(f".autoresearch/runs/{run}/run.json"))["course"]
        assert spec["early"]["mode"] == "divergence" and not spec["early"]["curves"]
        assert len(course) > 5 and course == sorted(course)


@pytest.mark.slow
def test_the_record_of_runs_ended_early_verifies(hopeless: Project) -> None:
    assert hopeless.run("verify").code == 0
