from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from world import PREPARE, Project, a_project

from lab import hyperband, sampling, searching
from lab.early import DIVERGED, PRUNED, Judge, Terms, terms_json, terms_of

STEPS = 9  # of a trial, in Optuna's terms: the whole budget


def curve(chance: random.Random) -> list[float]:
    """The losses of a trial at steps 1 to 9, which may cross those of others."""
    floor, fall = chance.uniform(1, 3), chance.uniform(0.3, 0.9)
    return [floor + 4 * fall**step + chance.gauss(0, 0.05) for step in range(1, STEPS + 1)]


def ours(curves: list[list[float]]) -> list[int]:
    """The step at which each trial ends, one after the other."""
    ends: list[int] = []
    for number, losses in enumerate(curves):
        own = hyperband.bracket_of("s1", number)
        end = STEPS
        for place in hyperband.places(own):
            step = round(place * STEPS)
            others = [
                curves[n][step - 1]
                for n in range(number)
                if hyperband.bracket_of("s1", n) == own and ends[n] >= step
            ]
            most = hyperband.limit(others)
            if most is not None and losses[step - 1] > most:
                end = step
                break
        ends.append(end)
    return ends


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("seed", range(5))
def test_the_same_trials_end_at_the_same_places_as_optunas_own(seed: int) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chance = random.Random(seed)
    curves = [curve(chance) for _ in range(60)]
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=STEPS, reduction_factor=3)
    study = optuna.create_study(
        study_name="s1", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=seed)
    )
    theirs = []
    for losses in curves:
        trial = study.ask()
        for step, loss in enumerate(losses, 1):
            trial.report(loss, step)
            if trial.should_prune() and step < STEPS:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, losses[-1])
        theirs.append(step)
    assert ours(curves) == theirs
    assert Counter(theirs).keys() == {1, 3, 9}


def test_brackets_have_their_shares() -> None:
    seen = Counter(hyperband.bracket_of("s2", number) for number in range(17_000))
    for bracket, share in enumerate((9, 5, 3)):
        assert seen[bracket] == pytest.approx(1000 * share, rel=0.1)
    assert [len(hyperband.places(bracket)) for bracket in range(3)] == [2, 1, 0]


def judged(points: list[tuple[float, float]], mode: str = "divergence") -> Judge:
    spec = terms_json(mode, 100.0, "n", [], [(1 / 9, 5.0, 4), (1 / 3, 4.0, 2)])
    terms = terms_of(json.loads(json.dumps(spec)))
    assert isinstance(terms, Terms)
    judge = Judge(terms)
    for progress, loss in points:
        judge.add(progress, loss)
        if judge.said()[0]:
            break
    return judge


def test_a_trial_behind_the_best_third_ends_at_the_place_where_it_is() -> None:
    judge = judged([(0.0, 7.0), (0.1, 4.8), (0.2, 4.6), (0.3, 4.4), (0.4, 4.2), (0.5, 3.0)])
    outcome, reason = judge.said()
    assert outcome == PRUNED and judge.points[-1][0] == 0.4
    assert judge.reached == (1 / 3, pytest.approx(4.3333, abs=1e-3))
    assert reason.startswith("at 33% of the budget its loss is 4.333, and the best third of 3 trials")


def test_a_trial_among_the_best_goes_on_and_without_others_every_one_does() -> None:
    assert judged([(0.0, 7.0), (0.1, 4.8), (0.3, 3.9), (0.4, 3.8), (1.0, 3.8)]).said() == ("", "")
    assert hyperband.limit([]) is None
    assert hyperband.limit([3.0]) == hyperband.limit([4.0, 3.0]) == 3.0
    assert hyperband.limit([6.0, 5.0, 4.0, 3.0, 2.0]) == 3.0  # of six the best two go on


def test_pruning_works_where_nothing_else_ends_runs() -> None:
    far = [(k / 20, 100.0 * (k + 1)) for k in range(21)]
    assert judged(far, "off").said()[0] == PRUNED
    assert terms_of(terms_json("off", 100.0, "n", [])) is None
    diverging = Judge(Terms("off", 100.0, rungs=((1 / 3, 1e9, 3),)))
    for point in far:
        diverging.add(*point)
        assert diverging.said()[0] not in (DIVERGED, PRUNED)


def told(goal: str) -> dict:
    """Whole runs near one end, and pruned ones: those at the other end are worse."""
    chance = random.Random(3)
    sign = 1 if goal == "min" else -1
    xs = [chance.random() for _ in range(12)]
    rows: list[dict] = [
        {"values": {"X": x}, "state": "complete", "value": sign * (x - 0.2) ** 2} for x in xs if x < 0.5
    ]
    rows += [{"values": {"X": x}, "state": "pruned", "at": 33, "loss": 5 + x} for x in xs if x >= 0.5]
    knob = {"name": "X", "low": 0.0, "high": 1.0, "log": False, "choices": [], "whole": False}
    return {"knobs": [knob], "seed": 1, "goal": goal, "told": rows, "ask": 20}


@pytest.mark.parametrize("goal", ["min", "max"])
def test_the_search_keeps_away_from_where_trials_were_pruned(goal: str) -> None:
    pytest.importorskip("optuna")
    asked = searching.answer({**told(goal), "sampler": "tpe"})["asked"]
    assert sum(one["X"] for one in asked) / len(asked) < 0.5
    assert len(searching.answer({**told(goal), "sampler": "cma"})["asked"]) == 20


def test_a_pruned_point_is_no_failed_one() -> None:
    rows = sampling.with_failures(told("min")["told"], "min")
    assert all("value" not in one for one in rows if one["state"] == "pruned")
    whole = sampling.with_failures(sampling.pruned_as_failed(told("min")["told"]), "min")
    assert all(one["state"] == "complete" for one in whole)


# -- a real sweep --------------------------------------------------------------------------------------

TRAIN = """import math, os, time
LR = 0.1  # range 1e-4..1e-1 log
far = abs(math.log10(LR) + 2.5)
for k in range(31):
    loss = 2 + 5 * math.exp(-3 * k / 30) + far
    print(f"step {k} ({100 * k / 30:.0f} %) loss {loss:.4f}", flush=True)
    time.sleep(0.1)
print("---")
print(f"val_bpb: {2 + far:.6f}")
"""
TRIALS = 12


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict]:
    project = a_project(
        tmp_path_factory.mktemp("hyperband") / "p", {"train.py": TRAIN, "prepare.py": PREPARE}
    )
    project.ok("init", "--tag", "t1")
    project.ok("baseline", "--repeats", "1")
    command = ("sweep", "--trials", str(TRIALS), "--sampler", "random", "--prune", "hyperband")
    answer = project.run("--json", *command, "--wait", "100")
    while answer.code == 124:
        answer = project.run("--json", "sweep", "--wait", "100")
    assert answer.code == 0, answer.out
    return project, answer.json


@pytest.mark.slow
def test_a_sweep_that_prunes_still_finds_its_best(swept: tuple[Project, dict]) -> None:
    project, told = swept
    assert told["pruner"] == "hyperband" and told["status"] == "done" and len(told["measured"]) == TRIALS
    runs = {r["run"]: r for r in project.records() if r["event"] == "run_ended"}
    trials = {r["experiment"]: r for r in project.records() if r["event"] == "proposed" and r.get("trial")}
    ended = [r for r in runs.values() if r["experiment"] in trials]
    pruned = [r for r in ended if r["outcome"] == PRUNED]
    assert pruned and len(ended) == TRIALS
    for row in pruned:
        share, loss = row["reached"]
        assert share in (pytest.approx(1 / 9), pytest.approx(1 / 3)) and loss > 2
        assert row["metric"] is None
        assert "val_bpb" not in project.read(f".autoresearch/runs/{row['run']}/run.log")
        assert project.ok("show", row["experiment"])["verdict"] == "discard"
    whole = [r for r in ended if r["outcome"] == "ok"]
    kept = next(row for row in told["judged"] if row["experiment"] == told["kept"])
    assert kept["knobs"] in [trials[r["experiment"]]["knobs"] for r in whole]
    assert "of the budget its loss" in project.ok("show", pruned[0]["experiment"])["reason"]
    assert project.run("verify").code == 0
    counted = f"{TRIALS} of {TRIALS} trials (random), {len(pruned)} pruned"
    assert counted in project.run("sweep", "--importance").out or len(whole) < 8


@pytest.mark.slow
def test_a_sweep_under_way_keeps_its_pruner(swept: tuple[Project, dict], tmp_path: Path) -> None:
    project, _ = swept
    started = [r for r in project.records() if r["event"] == "sweep_started"]
    assert started[-1]["pruner"] == "hyperband"
    fresh = a_project(tmp_path / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
    fresh.ok("init", "--tag", "t1")
    fresh.ok("baseline", "--repeats", "1")
    fresh.run("sweep", "--trials", "2", "--sampler", "random", "--wait", "0")
    assert "is under way" in fresh.refused(4, "sweep", "--prune", "hyperband")["message"]
    assert fresh.ok("sweep", "--trials", "1", "--wait", "60")["status"] == "done"
