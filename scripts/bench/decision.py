"""How much a night gains under each decision rule, and how much of what it keeps is false.

Simulated nights of 100 runs (decision_nights.py) judged by the real engine and by what others do
(decision_rules.py), on the same random numbers. Gains are true improvements in sigma, the noise of one run; a
false keep has a true effect of 0 or less. The noise is never given: who wants it has three baseline runs.

    python3 scripts/bench/decision.py [--nights 300] [--quick] [--only main,disturbed,sigma,frontier,tried]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from decision_nights import DISTURBANCES, INHERITED, NO_GAINS, SCENARIOS, Kind, Night, Result
from decision_rules import RULES, Rule, engine, engine_with
from decision_variants import VARIANTS

BATCH = 10
GREEDY, ORACLE, DEFAULT = "greedy: keep if lower", "oracle (knows every effect)", "engine: balanced (default)"
BINS = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 0.99), (0.99, 1.01))
COLUMNS = (
    "gain against greedy", "false per 100", "share false", "harmful per night", "keeps", "runs per try",
    "reported - true", "pure noise: false per 100",
)  # fmt: skip
Cells = dict[tuple[str, Kind], list[Result]]
TRIED: dict[str, Rule] = {
    f"keep {keep:.2f} drop {drop:.2f} last {last:.2f} runs {runs}": engine_with(
        keep=keep, drop=drop, last=last, runs=runs
    )
    for keep, drop, last, runs in (
        (0.30, 0.30, 0.30, 1), (0.40, 0.40, 0.40, 1), (0.50, 0.50, 0.50, 1), (0.60, 0.60, 0.60, 1),
        (0.40, 0.25, 0.30, 2), (0.45, 0.33, 0.40, 2), (0.50, 0.33, 0.45, 2), (0.55, 0.33, 0.45, 3),
        (0.60, 0.33, 0.45, 3), (0.70, 0.33, 0.55, 3), (0.85, 0.60, 0.70, 3), (0.95, 0.33, 0.85, 4),
    )
}  # fmt: skip
SENTINEL = {"engine: balanced, sentinel": engine("balanced", sentinel=True)}
EVERY = {**RULES, **TRIED, **SENTINEL, **VARIANTS}


def main() -> None:
    options = _options()
    began = time.perf_counter()
    parts = {"main": tell_main, "disturbed": tell_disturbed, "sigma": tell_sigma, "frontier": tell_frontier}
    parts["tried"] = tell_tried
    for name in options.only.split(","):
        parts[name](2 if options.quick else options.nights)
    print(f"\n{time.perf_counter() - began:.0f} s with {os.cpu_count()} processes")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=300, help="of each cell")
    parser.add_argument("--quick", action="store_true", help="two nights of each cell, to see that it runs")
    parser.add_argument("--only", default="main,disturbed,sigma", help="by comma; also frontier, tried")
    return parser.parse_args()


# --- playing -------------------------------------------------------------------------------------------


def play(cell: tuple[str, Kind], nights: range) -> tuple[tuple[str, Kind], list[Result]]:
    """Some nights of one cell."""
    rule, kind = cell
    return cell, [EVERY[rule](Night(kind, number)) for number in nights]


def play_all(rules: Iterable[str], kinds: Sequence[Kind], nights: int) -> Cells:
    """Every rule on every kind of night, shared among the processors."""
    jobs = [
        ((rule, kind), range(first, min(first + BATCH, nights)))
        for rule in rules
        for kind in kinds
        for first in range(0, nights, BATCH)
    ]
    cells: Cells = {}
    os.nice(5)
    with Pool(os.cpu_count()) as pool:
        for cell, results in pool.starmap(play, jobs, chunksize=1):
            cells.setdefault(cell, []).extend(results)
    return cells


# --- telling -------------------------------------------------------------------------------------------


def kinds_of(inherited: str, disturbance: str = "none", spread: float = 1.0) -> list[Kind]:
    return [Kind(scenario, inherited, disturbance, spread) for scenario in SCENARIOS]


def tell_main(nights: int) -> None:
    for inherited in INHERITED:
        kinds = kinds_of(inherited)
        cells = play_all(RULES, kinds, nights)
        tell_table(f"{inherited} luck, {nights} nights a cell", RULES, kinds, cells)
        tell_calibration(cells, kinds)


def tell_disturbed(nights: int) -> None:
    rules = [GREEDY, ORACLE, "bootstrap of three", DEFAULT, *SENTINEL]
    for disturbance in DISTURBANCES[1:]:
        kinds = kinds_of("independent", disturbance)
        tell_table(f"disturbed: {disturbance}", rules, kinds, play_all(rules, kinds, nights))


def tell_sigma(nights: int) -> None:
    """The prior of the noise off by a factor."""
    for spread in (0.1, 0.3, 3.0, 10.0):
        kinds = kinds_of("independent", spread=spread)
        rules = [GREEDY, ORACLE, DEFAULT]
        tell_table(f"true sigma {spread:g} times the assumed", rules, kinds, play_all(rules, kinds, nights))


def tell_frontier(nights: int) -> None:
    for inherited in ("independent", "inherited"):
        kinds = kinds_of(inherited)
        rules = [GREEDY, ORACLE, *TRIED]
        tell_table(f"frontier, {inherited} luck", rules, kinds, play_all(rules, kinds, nights))


def tell_tried(nights: int) -> None:
    for inherited in ("independent", "inherited"):
        kinds = kinds_of(inherited)
        rules = [GREEDY, ORACLE, *VARIANTS]
        tell_table(f"tried, {inherited} luck", rules, kinds, play_all(rules, kinds, nights))


def tell_table(title: str, rules: Iterable[str], kinds: Sequence[Kind], cells: Cells) -> None:
    """One row a rule: true gain by scenario, then what it costs in false keeps."""
    heads = [kind.scenario for kind in kinds]
    print(f"\n### {title}\n")
    print(f"| rule | {' | '.join([*heads, *COLUMNS])} |")
    print(f"|---|{'---|' * len([*heads, *COLUMNS])}")
    for rule in rules:
        print(f"| {rule} | {' | '.join(row(rule, kinds, cells))} |", flush=True)


def row(rule: str, kinds: Sequence[Kind], cells: Cells) -> list[str]:
    gains = [f"{mean_gain(cells[rule, kind]):.2f}" for kind in kinds]
    usual = [r for kind in kinds if kind.scenario != "pure noise" for r in cells[rule, kind]]
    pure = [r for kind in kinds if kind.scenario == "pure noise" for r in cells[rule, kind]]
    every = [r for kind in kinds for r in cells[rule, kind]]
    better = 100 * (efficiency(rule, kinds, cells) / efficiency(GREEDY, kinds, cells) - 1)
    false, keeps, tries = (sum(getattr(r, name) for r in usual) for name in ("false", "keeps", "tries"))
    return [
        *gains,
        f"{better:+.1f} %",
        f"{100 * false / tries:.2f}",
        f"{100 * false / max(1, keeps):.1f} %",
        f"{fmean(r.harmful for r in usual):.2f}",
        f"{fmean(r.keeps for r in usual):.1f}",
        f"{100 / fmean(r.tries for r in usual):.2f}",
        f"{fmean(r.bias for r in every):+.2f}",
        f"{100 * sum(r.false for r in pure) / sum(r.tries for r in pure):.2f}",
    ]


def mean_gain(results: Sequence[Result]) -> float:
    return fmean(result.gain for result in results)


def efficiency(rule: str, kinds: Sequence[Kind], cells: Cells) -> float:
    """Mean share of the oracle's gain, over the scenarios where there is something to gain."""
    kinds = [kind for kind in kinds if kind.scenario not in NO_GAINS]
    return fmean(mean_gain(cells[rule, kind]) / mean_gain(cells[ORACLE, kind]) for kind in kinds)


def tell_calibration(cells: Cells, kinds: Sequence[Kind]) -> None:
    """What P said, and how often the candidate was truly better."""
    print("\nDefault's P at the verdict: said > true (tries); keeps: expected false > false\n")
    print(f"| scenario | {' | '.join(f'{low:.2f} to {min(high, 1):.2f}' for low, high in BINS)} | keeps |")
    print(f"|---|{'---|' * (len(BINS) + 1)}")
    for kind in kinds:
        results = cells[DEFAULT, kind]
        judged = [one for r in results for one in r.judged]
        expected, false = (sum(getattr(r, name) for r in results) for name in ("expected_false", "false"))
        texts = [_bin(judged, low, high) for low, high in BINS]
        print(f"| {kind.scenario} | {' | '.join(texts)} | {expected:.0f} > {false} |")


def _bin(judged: Sequence[tuple[float, bool, bool]], low: float, high: float) -> str:
    inside = [(p, better) for p, better, _ in judged if low <= p < high]
    if not inside:
        return "-"
    return f"{fmean(p for p, _ in inside):.2f} > {fmean(b for _, b in inside):.2f} ({len(inside)})"


if __name__ == "__main__":
    main()
