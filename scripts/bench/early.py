"""What ending runs early would have saved, and which winners it would have lost, on recorded real runs.

The runs are those of scripts/bench/sweep.py: train.py with other values of its optimizer's knobs, and with
its own values on further seeds, each with its loss curve and its final number. The product's own judge
(lab/early.py) is shown each curve as the supervisor would show it. A run is good when it ends better than
the mean of the incumbent's runs plus twice their sd: the loop would have looked at it again. A stop of a
good run is wrong. Rules that are more eager than the product's stand beside it.

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

from lab import early  # noqa: E402 - the product's own judge

RECORDED = Path(__file__).resolve().parent / "data" / "sweep_runs.jsonl"
DRAWS = 20  # of the incumbent's runs that the judge knows

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
    print(table(rows))


def table(rows: list[Row]) -> str:
    """Each rule in a line."""
    whole = [row for row in rows if row["val_bpb"] is not None]
    base = list({row["seed"]: row for row in whole if not row["knobs"]}.values())
    others = list({json.dumps([row["knobs"], row["seed"]]): row for row in whole if row["knobs"]}.values())
    values = [row["val_bpb"] for row in base]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    good = sum(1 for row in others if row["val_bpb"] < mean + 2 * sd)
    lines = [
        f"{len(base)} runs of the incumbent: {mean:.4f}, sd {sd:.4f}; {len(others)} of candidates, "
        f"{good} good (below {mean + 2 * sd:.4f}); {len(rows) - len(whole)} more ended by train.py itself",
        "",
        "rule                                curves    ended    saved    wrong stops    good candidates lost",
    ]
    for rule in RULES:
        found = tried(rule, base, others, mean + 2 * sd)
        count = len(found)
        ended, saved = sum(1 for one in found if one.at < 1), sum(1 - one.at for one in found)
        wrong = sum(1 for one in found if one.at < 1 and one.good)
        ours = [one for one in found if one.good and one.candidate]
        lost = sum(1 for one in ours if one.at < 1)
        lines.append(
            f"{rule.name:<36s} {rule.curves:>5d} {ended / count:>8.1%} {saved / count:>8.1%} "
            f"{wrong / count:>7.1%} of {count}   {lost / max(1, len(ours)):>7.1%} of {len(ours)}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Judged:
    """One run as a rule would have ended it; `at` is 1 when it was left to finish."""

    at: float
    good: bool
    candidate: bool


def tried(rule: Rule, base: list[Row], others: list[Row], bar: float) -> list[Judged]:
    """Every run, over several draws of the incumbent's runs that the judge knows."""
    early.SURE, early.FIRST, early.LASTS, early.IN_A_ROW = rule.sure, rule.first, rule.lasts, rule.in_a_row
    early.QUANTILES.clear()
    chance, found = random.Random(7), []
    for _ in range(DRAWS):
        known = chance.sample(base, rule.curves)
        curves = tuple(tuple(curve_of(row)) for row in known)
        for row in [*others, *(one for one in base if one not in known)]:
            at = stopped_at(curve_of(row), curves)
            found.append(Judged(1.0 if at is None else at, row["val_bpb"] < bar, bool(row["knobs"])))
    return found


def stopped_at(curve: Curve, curves: tuple[tuple[early.Point, ...], ...]) -> float | None:
    """The progress at which the judge ends a run, None when it lets it finish."""
    judge = early.Judge(early.Terms("hopeless", 1.0, False, curves))
    for progress, loss in curve:
        judge.add(progress, loss)
        if judge.said()[0]:
            return progress
    return None


def curve_of(row: Row) -> Curve:
    """The losses of a run, shown at even places of its budget."""
    losses = row["curve"]
    return [(number / len(losses), loss) for number, loss in enumerate(losses, 1)]


if __name__ == "__main__":
    main()
