from __future__ import annotations

import hashlib
import math
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "bench"))

import decision_real
import real_noise
import real_runs
import real_world
from real_judges import RULES
from real_variants import BASE, COMMIT, VARIANTS
from real_world import World

RUNS = real_runs.read(real_runs.RECORDED)
FINITE = [run for run in RUNS if run.val_bpb is not None]
KINDS = Counter(variant.kind for variant in VARIANTS)


@pytest.fixture(scope="module")
def world() -> World:
    return World.of(RUNS)


def moved(world: World, name: str, sigmas: float) -> World:
    """The same recorded runs, one variant's made worse by so many standard deviations."""
    values = {n: dict(own) for n, own in world.values.items()}
    values[name] = {seed: value + sigmas * spread(world) for seed, value in values[name].items()}
    return World.of_values(values)


def spread(world: World) -> float:
    return real_noise.sigma(world.values, world.equal())


def kept(world: World, rule: str, name: str, tries: int = 20) -> float:
    outcomes = real_world.singles(world, RULES[rule], [name], tries, seed=1)
    return real_world.kept_percent(outcomes, [name])


# --- the recorded data ------------------------------------------------------------------------------


def test_at_least_two_hundred_runs_are_finite() -> None:
    assert len(FINITE) >= 200
    assert all(1 < run.val_bpb < 3 for run in FINITE if run.val_bpb)


def test_every_variant_ran_once_on_each_of_the_same_seeds() -> None:
    counts = Counter((run.variant, run.seed, run.part) for run in RUNS)
    assert set(counts.values()) == {1}
    assert set(counts) == set(real_runs.plan())
    for variant in VARIANTS:
        for part in variant.parts:
            seeds = {r.seed for r in FINITE if (r.variant, r.part) == (variant.name, part)}
            assert seeds >= set(real_runs.SEEDS)


def test_all_runs_are_comparable() -> None:
    assert len({run.fingerprint for run in FINITE}) == 1
    assert len({run.comparison_key for run in FINITE}) == 1
    assert {run.commit for run in RUNS} == {COMMIT}


def test_a_failed_run_says_why_and_a_finite_one_has_no_error() -> None:
    assert all((run.val_bpb is None) == (run.error is not None) for run in RUNS)


def test_the_recorded_code_is_what_the_table_of_variants_makes() -> None:
    shown = subprocess.run(
        ["git", "-C", str(ROOT), "show", f"{COMMIT}:train.py"], capture_output=True, text=True
    )
    if shown.returncode:
        pytest.skip("this clone has no history to make the variants from")
    made = {v.name: hashlib.sha256(v.apply(shown.stdout).encode()).hexdigest()[:12] for v in VARIANTS}
    assert {run.variant: run.code for run in RUNS} == made
    assert len(set(made.values())) == len(made)


def test_there_are_enough_variants_of_each_kind(world: World) -> None:
    assert KINDS["null"] >= 5
    assert len(world.better) >= 4
    assert len(world.worse) >= 4


# --- recording --------------------------------------------------------------------------------------


def test_what_is_recorded_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    first = real_runs.RECORDED.read_text().splitlines()[0]
    path.write_text(first + "\n")
    todo = list(real_runs.plan())
    left = real_runs.missing(todo, path)
    assert len(left) == len(todo) - 1
    assert (RUNS[0].variant, RUNS[0].seed, RUNS[0].part) not in left


def test_a_failing_run_is_recorded_as_failed(tmp_path: Path) -> None:
    run = real_runs.one_run(tmp_path, "raise SystemExit('FAIL: diverged')", BASE, 42, "main")
    assert run.val_bpb is None
    assert run.error == "FAIL: diverged"


def test_a_metric_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    run = real_runs.one_run(tmp_path, "print('val_bpb:  nan')", BASE, 42, "main")
    assert run.val_bpb is None
    assert run.error == "val_bpb is nan"


def test_a_summary_is_read_and_the_seed_is_passed_on(tmp_path: Path) -> None:
    code = "import os\nprint('val_bpb: 1.' + os.environ['SEED'], 'num_steps: 7', sep='\\n')"
    run = real_runs.one_run(tmp_path, code, BASE, 43, "main")
    assert (run.val_bpb, run.steps, run.error) == (1.43, 7, None)


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times"):
        VARIANTS[1].apply("nothing of it")


# --- judging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_variant_moved_down_by_five_sigma_is_discarded(world: World, rule: str) -> None:
    assert kept(moved(world, "null-tiny", +5), rule, "null-tiny") == 0


@pytest.mark.parametrize("rule", RULES)
def test_a_variant_moved_up_by_eight_sigma_is_kept(world: World, rule: str) -> None:
    assert kept(moved(world, "null-tiny", -8), rule, "null-tiny") >= 80


def test_a_moved_variant_has_a_moved_truth(world: World) -> None:
    before, after = world.truth["mlp-2"], moved(world, "mlp-2", +1).truth["mlp-2"]
    assert before.gain - after.gain == pytest.approx(spread(world))
    assert before.error == pytest.approx(after.error)


def test_a_truth_apart_does_not_know_the_drawn_runs(world: World) -> None:
    drawn = set(world.truth_apart().values[BASE])
    assert len(drawn) == len(world.values[BASE]) // 2
    values = {name: {s: v + (s in drawn) for s, v in own.items()} for name, own in world.values.items()}
    values["mlp-2"] = dict(world.values["mlp-2"])  # so much better, on the drawn seeds only
    assert World.of_values(values).truth_apart().truth == world.truth_apart().truth


def test_the_same_draws_give_the_same_outcomes(world: World) -> None:
    twice = [real_world.campaigns(world, RULES["greedy"], world.null, 3, seed=5) for _ in range(2)]
    assert twice[0] == twice[1]


def test_a_campaign_stands_on_the_gains_it_has_kept(world: World) -> None:
    # After a keep of 8 sigma, an equal code is no further gain: its values are moved along.
    better = moved(world, "mlp-2", -8)
    outcomes = [
        one
        for start in range(20)
        for one in better.play(RULES["lower by 0.03"], random.Random(start), BASE, ["mlp-2", "null-tiny"])
    ]
    assert real_world.kept_percent(outcomes, ["mlp-2"]) == 100
    assert real_world.kept_percent(outcomes, ["null-tiny"]) <= 20


@pytest.mark.slow
def test_judging_prints_every_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decision_real.py", "--quick"])
    decision_real.main()
    text = capsys.readouterr().out
    assert all(text.count(f"\n{name} ") >= 2 for name in RULES)


def test_equal_work_takes_out_what_the_steps_explain() -> None:
    # The log of the steps moves the value of two codes by -0.5 for 1 more; one of the two is 0.1 quicker.
    def a_run(variant: str, seed: int, busy: float, quicker: float) -> real_runs.Run:
        steps = round(10_000 * math.exp(quicker - busy))
        value = 2 + 0.01 * seed - 0.5 * (quicker - busy)
        return replace(RUNS[0], variant=variant, part="main", seed=seed, steps=steps, val_bpb=value)

    plan = [(BASE, 0.0), ("null-log", 0.0), ("mlp-2", 0.1)]
    runs = [
        a_run(name, seed, busy=0.05 * ((seed + n) % 4), quicker=quicker)
        for n, (name, quicker) in enumerate(plan)
        for seed in real_runs.SEEDS
    ]
    values = real_noise.at_equal_work(runs)
    for seed in real_runs.SEEDS:
        assert values[BASE][seed] == pytest.approx(values["null-log"][seed], abs=1e-4)
    assert real_noise.truths(values)["mlp-2"].gain == pytest.approx(0.05, abs=0.005)
    assert real_noise.seed_taken_out(values, [BASE, "null-log"]) < 1e-3


def test_a_line_and_a_correlation_are_least_squares() -> None:
    fit = real_noise.line([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0])
    assert (fit.slope, fit.r) == pytest.approx((2.0, 1.0))
    assert real_noise.skew([-1, -1, 2]) == pytest.approx(0.5**0.5)
    assert real_noise.excess_kurtosis([-1, 1]) == pytest.approx(-2)
