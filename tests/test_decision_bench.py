"""The decision bench: it runs, its nights are fair, and its columns count what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "bench"))

import decision  # noqa: E402
from decision_nights import INHERITED, SCENARIOS, Kind, Night  # noqa: E402
from decision_rules import RULES, engine, oracle, threshold  # noqa: E402


def test_every_rule_meets_the_same_ideas_and_the_same_luck() -> None:
    one, other = Night(Kind("plateau"), 3), Night(Kind("plateau"), 3)
    assert one.effects == other.effects
    assert [one.run(one.start, seed) for seed in (0, 1)] == [other.run(other.start, seed) for seed in (0, 1)]
    assert Night(Kind("plateau"), 4).effects != one.effects


def test_a_child_inherits_its_parents_luck_on_the_seed() -> None:
    pairs = []
    for number in range(300):
        night = Night(Kind("pure noise", "sharp"), number)
        pairs.append((night.run(night.start, 0), night.run(night.change(night.start), 0)))
    centre = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    apart = [(a - centre[0], b - centre[1]) for a, b in pairs]
    covariance = sum(a * b for a, b in apart) / len(pairs)
    variance = sum(a * a + b * b for a, b in apart) / len(pairs) / 2
    share, part = INHERITED["sharp"]
    assert covariance / variance == pytest.approx(share * part, abs=0.05)


def test_a_night_counts_gains_false_keeps_and_flattery() -> None:
    result = threshold(0.0)(Night(Kind("pure noise"), 0))
    assert result.gain == 0
    assert result.false == result.keeps > 0
    assert result.bias > 0.5  # the best of a hundred runs of nothing
    assert result.tries == 99
    best = oracle(Night(Kind("rich"), 0))
    assert best.false == 0 and best.gain > 10


def test_the_engine_plays_a_night_and_says_what_it_believes() -> None:
    result = engine("balanced")(Night(Kind("rich"), 0))
    assert result.keeps > 3
    assert result.tries == len(result.judged)
    assert abs(result.bias) < 3
    assert 0 < result.expected_false < result.keeps


def test_a_rule_that_gains_less_has_a_smaller_column() -> None:
    kind, rules = Kind("rich"), (decision.ORACLE, decision.GREEDY, "threshold 2.5 sigma")
    cells = {(rule, kind): [RULES[rule](Night(kind, n)) for n in range(3)] for rule in rules}
    shares = [decision.efficiency(rule, [kind], cells) for rule in rules]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1


@pytest.mark.slow
def test_the_bench_prints_its_tables_in_quick_mode() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "decision.py"), "--quick", "--only", "main"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in (*SCENARIOS, *RULES, "keeps: expected false"):
        assert name in done.stdout
