"""Judge the decision rules on recorded real runs of train.py: false keeps, missed wins, runs used.

A try draws an incumbent among the equal codes, a candidate and an order of the recorded seeds; the rule
then asks for runs and gets the recorded values. A single try follows the baseline runs. A campaign tries
every row of the main part once, in an order of its own; after a keep the next candidates stand on it: their
values are moved by the true gains kept so far, as if effects added up. A campaign of nothing has equal codes
only. `busier` are equal codes of the late part against incumbents of the main part, `freer` the other way
round: what the machine does in between. The rule never sees a truth: a null edit's is 0 by construction,
the others' are means over all seeds.

    python3 scripts/bench/decision_real.py [--tries 300] [--campaigns 400] [--seed 1] [--quick]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import real_noise as noise
from real_judges import RULES
from real_noise import LATE, ROWS, Values
from real_runs import RECORDED, Run, read
from real_variants import BASE
from real_world import LINES, SHORTER, Outcome, World, across, campaigns, kept_percent, seed_error, singles

CONDITIONS: dict[str, Callable[[Run], float]] = {
    "load before": lambda run: run.load,
    "seconds / CPU second": lambda run: (run.training_seconds or 0.0) / (run.cpu_seconds or 1.0),
    "GFLOP/s of the core": lambda run: run.gflops or 0.0,
    "log of steps": noise.log_steps,
}
RULE_WIDTH = max(map(len, RULES)) + 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tries", type=int, default=300, help="single tries of each candidate")
    parser.add_argument("--campaigns", type=int, default=400, help="campaigns of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the draws")
    parser.add_argument("--quick", action="store_true", help="few tries and campaigns, no error by seeds")
    parser.add_argument("--equal-work", action="store_true", help="take out what the steps explain")
    parser.add_argument("--truth-apart", action="store_true", help="truth from seeds that are not drawn")
    parser.add_argument("--runs", type=Path, default=RECORDED, help="file of recorded runs")
    options = parser.parse_args()
    if options.quick:
        options.tries, options.campaigns = 5, 5
    runs = read(options.runs)
    world = World.of(runs, options.equal_work)
    tell_noise(runs, world)
    if options.truth_apart:
        world = world.truth_apart()
    tell_rows(world)
    tell_singles(world, options.tries, options.seed, errors=not options.quick)
    tell_campaigns(world, options.campaigns, options.seed)


# --- the noise ---------------------------------------------------------------------------------------


def tell_noise(runs: Sequence[Run], world: World) -> None:
    values, finite = world.values, [run for run in runs if run.val_bpb is not None]
    spread, shape = noise.sigma(values, world.equal()), noise.standardised(values)
    pairs = [noise.same_seed(values, a, b) for a, b in combinations(world.equal(), 2)]
    left = left_over(values)
    say("runs", f"{len(finite)} finite of {len(runs)}")
    say("rows", f"{len(values)} on the same {len(values[BASE])} seeds")
    say("sd over seeds", f"{spread:.5f} = {100 * spread / fmean(values[BASE].values()):.2f} % of the metric")
    say("sd, seed taken out", f"{noise.seed_taken_out(values, world.equal()):.5f} (equal codes)")
    say("  other codes", f"{noise.seed_taken_out(values, main_part(values)):.5f} (all of the main part)")
    say("skew", f"{noise.skew(shape):+.2f} over seeds, {noise.skew(left):+.2f} seed taken out")
    tails = noise.excess_kurtosis(shape), noise.excess_kurtosis(left)
    say("excess kurtosis", f"{tails[0]:+.2f} over seeds, {tails[1]:+.2f} seed taken out")
    say("same seed, equal", f"correlation {fmean(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
    tell_conditions(finite, values)


def say(name: str, text: str) -> None:
    print(f"{name:<22}{text}")


def main_part(values: Values) -> list[str]:
    return [name for name in values if ROWS[name][1] == "main"]


def left_over(values: Values) -> list[float]:
    return list(noise.residuals({name: values[name] for name in main_part(values)}).values())


def tell_conditions(finite: Sequence[Run], values: Values) -> None:
    """Drift and load; the latter on what row and seed leave over of the main part."""
    unchanged = [run for run in finite if (run.variant, run.part) == (BASE, "main")]
    unchanged.sort(key=lambda run: run.started_at)
    change, error = noise.halves([run.val_bpb or math.nan for run in unchanged])
    say("drift, as recorded", f"{change:+.4f} +- {error:.4f}, later half of {len(unchanged)} unchanged runs")
    if LATE in values:
        again = [values[LATE][seed] - values[BASE][seed] for seed in values[BASE]]
        change, error = fmean(again), stdev(again) / math.sqrt(len(again))
        same = noise.same_seed(values, BASE, LATE)
        say("the same code later", f"{change:+.4f} +- {error:.4f} on the same seeds, correlation {same:.2f}")
    main = [run for run in finite if run.part == "main"]
    left = left_over(values)
    for name, of in CONDITIONS.items():
        numbers = noise.column(main, of)
        fit = noise.line(list(noise.residuals(numbers).values()), left)
        low, high = min(map(of, unchanged)), max(map(of, unchanged))
        effect = f"{fit.slope:+.5f} +- {fit.error:.5f} for 1 more, correlation {fit.r:+.2f}"
        say(name, f"{effect}; {low:.3g} to {high:.3g}")


def tell_rows(world: World) -> None:
    spread = noise.sigma(world.values, world.equal())
    paired = noise.seed_taken_out(world.values, world.equal())
    print(f"\n{'row':<20}{'chosen as':<10}{'lines':>7}{'mean':>9}{'true gain':>20}", end="")
    print(f"{'/ sd seeds':>12}{'/ sd rest':>11}{'same seed':>11}")
    for name in sorted(world.values, key=lambda name: world.truth[name].gain):
        truth, own, (added, removed) = world.truth[name], world.values[name], LINES[name]
        pairing = fmean(noise.same_seed(world.values, name, e) for e in noise.equal_to(name, world.values))
        gain = f"{truth.gain:+.4f} +- {truth.error:.4f}"
        lines = f"+{added} -{removed}"
        print(
            f"{name:<20}{ROWS[name][0].kind:<10}{lines:>7}{fmean(own.values()):9.4f}{gain:>20}"
            f"{truth.gain / spread:+12.2f}{truth.gain / paired:+11.2f}{pairing:11.2f}"
        )


# --- the rules ---------------------------------------------------------------------------------------


def tell_singles(world: World, tries: int, seed: int, errors: bool) -> None:
    null, others = world.null, world.ranked
    print(f"\nsingle tries after the baseline runs: kept of 100, {tries} tries of each candidate")
    sizes = "".join(f"{1000 * world.gain(name):+5.0f}" for name in others)
    print(f"{'true gain in 0.001 bpb':<{RULE_WIDTH}}{'0':>12}{'busier':>7}{'freer':>7}{sizes}{'runs':>6}")
    for name, rule in RULES.items():
        outcomes = singles(world, rule, [*null, *others], tries, seed)
        share = f"{kept_percent(outcomes, null):.1f}"
        if errors:
            share += f" +-{seed_error(world, rule, null, max(1, tries // 6), seed):4.1f}"
        moved = "".join(
            f"{kept_percent(across(world, rule, parts, tries, seed), world.null):7.1f}"
            for parts in (("main", "late"), ("late", "main"))
        )
        cells = "".join(f"{kept_percent(outcomes, [one]):5.0f}" for one in others)
        runs = fmean(outcome.runs for outcome in outcomes)
        print(f"{name:<{RULE_WIDTH}}{share:>12}{moved}{cells}{runs:6.2f}", flush=True)


COLUMNS = ("false", "runs", "false", "harmful", "missed", "runs", "gain", "/ 10 runs", "share false")


def tell_campaigns(world: World, count: int, seed: int) -> None:
    print(
        f"\n{count} campaigns: of nothing (two columns), and of every row of the main part; gain in 0.001 bpb"
    )
    print(" " * RULE_WIDTH + "".join(f"{title:>12}" for title in COLUMNS))
    null = [name for name in world.null if name in world.equal()]
    for name, rule in RULES.items():
        empty = [one for night in campaigns(world, rule, null, count, seed) for one in night]
        nights = campaigns(world, rule, main_part(world.values), count, seed)
        cells = (kept_percent(empty, null), fmean(one.runs for one in empty), *summary(world, nights))
        print(f"{name:<{RULE_WIDTH}}" + "".join(f"{cell:12.2f}" for cell in cells), flush=True)


def summary(world: World, nights: Sequence[Sequence[Outcome]]) -> tuple[float, ...]:
    """Keeps of 100 nulls and harms, misses of 100 gains, runs a try, true gain, false share of the keeps."""
    outcomes = [one for night in nights for one in night]
    keeps = [one for one in outcomes if one.kept and one.candidate not in SHORTER]
    runs = sum(one.runs for one in outcomes)
    gain = 1000 * sum(one.gain for one in outcomes if one.kept)
    return (
        kept_percent(outcomes, world.null),
        kept_percent(outcomes, world.worse),
        100 - kept_percent(outcomes, world.better),
        runs / len(outcomes),
        gain / len(nights),
        10 * gain / runs,
        100 * fmean(one.gain <= 0 for one in keeps) if keeps else 0.0,
    )


if __name__ == "__main__":
    main()
