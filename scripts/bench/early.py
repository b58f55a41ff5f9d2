"""What ending runs early would have saved, and which winners it would have lost, on recorded real runs.

The runs are those of scripts/bench/sweep.py: train.py with other values of its optimizer's knobs, each with
its loss curve and its final number. The product's own judge (lab/early.py) is shown each curve as the
supervisor would show it, beside two incumbents: train.py's own values, which are tuned, and values that
many others beat. A stop is wrong when the run, left alone, would have ended better than the mean of the
incumbent's runs. Rules that are more eager than the product's stand beside it.

Below it what Hyperband (lab/hyperband.py) makes of a search by chance: the same points in the same order, for
the same number of whole budgets, once with every trial run to its end and once pruned.

    python scripts/bench/early.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "skills" / "autoresearch" / "scripts"))

from lab import early, hyperband  # noqa: E402 - the product's own judges

RECORDED = Path(__file__).resolve().parent / "data" / "sweep_runs.jsonl"
DRAWS = 20  # of the incumbent's runs that the judge knows
SEARCHES = 400
# Where train.py prints its loss in 20 steps: the same places in every run.
PLACES = (0, 5, 10, 20, 25, 30, 35, 40, 45, 50, 55, 65, 75, 80, 90, 95)  # per cent of the budget

Row = dict[str, Any]
Curve = list[early.Point]


@dataclass(frozen=True)
class Rule:
    """A way to end runs early."""

    name: str
    sure: float  # one side of so many sigma
    first: float  # progress before which nothing is ended
    lasts: float  # share of the budget that it lies beyond
    in_a_row: int  # looks, at least
    curves: int  # of the incumbent that it knows


INCUMBENTS: dict[str, Row] = {
    "train.py's own values": {},
    "weak values": {"MATRIX_LR": 0.01, "WARM_DOWN": 0.95},
}

RULES = (
    Rule("3 sigma for a fifth, from a third", 0.99865, 1 / 3, 0.2, 3, 3),
    Rule("3 sigma for a fifth, from a third", 0.99865, 1 / 3, 0.2, 3, 6),
    Rule("3 sigma for a fifth, from a third", 0.99865, 1 / 3, 0.2, 3, 10),
    Rule("3 sigma, 3 looks, from a third", 0.99865, 1 / 3, 0.0, 3, 10),
    Rule("2 sigma, 3 looks, from a third", 0.97725, 1 / 3, 0.0, 3, 10),
    Rule("1 sigma, 1 look, from a third", 0.84134, 1 / 3, 0.0, 1, 10),
    Rule("1 sigma, 1 look, from a tenth", 0.84134, 0.1, 0.0, 1, 10),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=RECORDED)
    rows = [json.loads(line) for line in parser.parse_args().data.read_text(encoding="utf-8").splitlines()]
    whole = [row for row in rows if row["val_bpb"] is not None]
    print(f"{len(whole)} runs with a curve; {len(rows) - len(whole)} more ended by train.py itself")
    for name, knobs in INCUMBENTS.items():
        print(f"\n{table(whole, name, knobs)}")
    print(f"\n{searches(whole)}")


def table(rows: list[Row], name: str, knobs: Row) -> str:
    """Each rule in a line, with the runs of these values as the incumbent's."""
    base = list({row["seed"]: row for row in rows if row["knobs"] == knobs}.values())
    others = list(
        {json.dumps([row["knobs"], row["seed"]]): row for row in rows if row["knobs"] != knobs}.values()
    )
    values = [row["val_bpb"] for row in base]
    bar, sd = statistics.mean(values), statistics.stdev(values)
    better = sum(1 for row in others if row["val_bpb"] < bar)
    lines = [
        f"incumbent: {name}, {len(base)} runs, mean {bar:.4f}, sd {sd:.4f}; "
        f"{len(others)} candidates, {better} better",
        "rule                                curves    ended    saved    wrong stops    winners lost",
    ]
    for rule in RULES:
        found = tried(rule, base, others, bar)
        count = len(found)
        ended, saved = sum(1 for one in found if one.at < 1), sum(1 - one.at for one in found)
        winners = [one for one in found if one.good]
        lost = sum(1 for one in winners if one.at < 1)
        lines.append(
            f"{rule.name:<36s} {rule.curves:>5d} {ended / count:>8.1%} {saved / count:>8.1%} "
            f"{lost / count:>7.1%} of {count}   {lost / max(1, len(winners)):>6.1%} of {len(winners)}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Judged:
    """One run as a rule would have ended it; `at` is 1 when it was left to finish."""

    at: float
    good: bool  # it would have ended better than the incumbent's mean


def tried(rule: Rule, base: list[Row], others: list[Row], bar: float) -> list[Judged]:
    """Every run, over several draws of the incumbent's runs that the judge knows."""
    early.SURE, early.FIRST, early.LASTS, early.IN_A_ROW = rule.sure, rule.first, rule.lasts, rule.in_a_row
    early.QUANTILES.clear()
    chance, found = random.Random(7), []
    for _ in range(DRAWS):
        known = chance.sample(base, rule.curves)
        curves = tuple(tuple(curve_of(row)) for row in known)
        for row in others:
            at = stopped_at(curve_of(row), curves)
            found.append(Judged(1.0 if at is None else at, row["val_bpb"] < bar))
    return found


def stopped_at(curve: Curve, curves: tuple[tuple[early.Point, ...], ...]) -> float | None:
    """The progress at which the judge ends a run, None when it lets it finish."""
    judge = early.Judge(early.Terms("hopeless", 1.0, False, curves))
    for progress, loss in curve:
        judge.add(progress, loss)
        if judge.said()[0]:
            return progress
    return None


# -- a search by chance, pruned or not -----------------------------------------------------------------


def searches(rows: list[Row]) -> str:
    """The best trial of a search with so many whole budgets to spend."""
    points = [row for row in rows if row["knobs"] not in INCUMBENTS.values()]
    points = list({json.dumps(row["knobs"]): row for row in points}.values())
    lines = [
        f"{len(points)} points, in {SEARCHES} orders; the median of each search's best trial",
        "budgets    all to their end    hyperband    trials    better    worse    the same",
    ]
    for budget in (8, 16, 32):
        chance, found = random.Random(11), []
        for number in range(SEARCHES):
            order = chance.sample(points, len(points))
            plain = min(row["val_bpb"] for row in order[:budget])
            pruned, count = pruned_search(f"s{number}", order, budget)
            found.append((plain, pruned, count))
        plain, pruned, count = (statistics.median(column) for column in zip(*found, strict=True))
        better = sum(1 for a, b, _ in found if b < a) / SEARCHES
        worse = sum(1 for a, b, _ in found if b > a) / SEARCHES
        lines.append(
            f"{budget:>7d} {plain:>19.4f} {pruned:>12.4f} {count:>9.0f} {better:>9.0%} {worse:>8.0%} "
            f"{1 - better - worse:>11.0%}"
        )
    return "\n".join(lines)


def pruned_search(name: str, order: list[Row], budget: float) -> tuple[float, int]:
    """The best number of the trials that ran to their end, and for how many trials the budgets lasted."""
    spent, best, seen = 0.0, float("inf"), []
    for number, row in enumerate(order):
        bracket, curve, end = hyperband.bracket_of(name, number), curve_of(row), 1.0
        for place in hyperband.places(bracket):
            losses = [
                loss
                for other, to, course in seen
                if other == bracket and to >= place and (loss := early.at(course, place)) is not None
            ]
            most, own = hyperband.limit(losses), early.at(curve, place)
            if most is not None and own is not None and own > most:
                end = place
                break
        if spent + end > budget:
            return best, number
        spent += end
        seen.append((bracket, end, curve))
        best = min(best, row["val_bpb"]) if end == 1 else best
    return best, len(order)


def curve_of(row: Row) -> Curve:
    """The losses of a run at the places where it printed them."""
    return [(place / 100, loss) for place, loss in zip(PLACES, row["curve"], strict=True)]


if __name__ == "__main__":
    main()
