"""Judge the decision rules on recorded real runs of train.py: false keeps, missed wins, runs used.

A try draws an incumbent among the equal codes, a candidate and an order of the recorded seeds; the rule
then asks for runs and gets the recorded values. `single` is one try after the baseline runs. `campaign` tries
every other variant once, in an order of its own; after a keep the next candidates stand on it: their values
are moved by the true gains kept so far, as if effects added up. `nothing` is a campaign of equal codes only.
The rule never sees a truth: a null edit's is 0 by construction, the others' are means over all seeds.

    python3 scripts/bench/decision_real.py [--tries 200] [--campaigns 400] [--seed 1] [--quick]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import real_noise as noise
from real_judges import RULES, Night, Rule
from real_noise import EQUAL, KINDS, LATE, Truth, Values, name_of
from real_runs import RECORDED, Run, read
from real_variants import BASE, VARIANTS

LINES = {variant.name: variant.lines for variant in VARIANTS}
SHORTER = {name for name, (added, removed) in LINES.items() if added < removed}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tries", type=int, default=200, help="single tries of each candidate")
    parser.add_argument("--campaigns", type=int, default=400, help="campaigns of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the draws")
    parser.add_argument("--quick", action="store_true", help="few tries and campaigns, no error by seeds")
    parser.add_argument("--runs", type=Path, default=RECORDED, help="file of recorded runs")
    options = parser.parse_args()
    if options.quick:
        options.tries, options.campaigns = 5, 5
    runs = read(options.runs)
    world = World.of(runs)
    tell_noise(runs, world)
    tell_variants(world)
    tell_singles(world, options.tries, options.seed, jackknife=not options.quick)
    tell_campaigns(world, options.campaigns, options.seed)


# --- playing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    candidate: str
    gain: float  # true, positive is better
    kept: bool
    runs: int  # of the candidate and, where it was asked to repeat, of the incumbent


@dataclass(frozen=True)
class World:
    """The recorded values by variant and seed, and what they are taken to mean."""

    values: Values
    truth: dict[str, Truth]
    sigma: float

    @classmethod
    def of(cls, runs: Iterable[Run]) -> World:
        return cls.of_values(noise.table(runs))

    @classmethod
    def of_values(cls, values: Values) -> World:
        equal = [name for name in EQUAL if name in values]
        return cls(values, noise.truths(values), noise.sigma(values, equal))

    @property
    def equal(self) -> list[str]:
        """Codes that do the same: the unchanged one, its late recording, the null edits."""
        return [name for name in EQUAL if name in self.values]

    @property
    def null(self) -> list[str]:
        """Candidates whose keep is false: equal, and not shorter, which would be worth keeping."""
        return [name for name in self.equal if name not in SHORTER]

    @property
    def worse(self) -> list[str]:
        return [name for name in self.ranked if self.gain(name) <= 0]

    @property
    def better(self) -> list[str]:
        """Codes that do something else and gain by it, whatever they were chosen for; smallest gain first."""
        return [name for name in self.ranked if self.gain(name) > 0]

    @property
    def ranked(self) -> list[str]:
        return sorted((name for name in self.values if name not in EQUAL), key=self.gain)

    def gain(self, candidate: str) -> float:
        return 0.0 if candidate in EQUAL else self.truth[candidate].gain

    def without(self, seed: int) -> World:
        """The same runs, one seed left out."""
        values = {n: {s: v for s, v in own.items() if s != seed} for n, own in self.values.items()}
        return World.of_values(values)

    def play(self, rule: Rule, rng: random.Random, start: str, order: Iterable[str]) -> list[Outcome]:
        """One campaign of the rule: what became of every candidate."""
        seeds = sorted(self.values[start])
        rng.shuffle(seeds)
        night = Night(self.values, seeds, self.sigma, LINES)
        judge, outcomes = rule(night, start), []
        for candidate in order:
            before, gain = night.runs, self.gain(candidate)
            kept = judge(candidate)
            outcomes.append(Outcome(candidate, gain, kept, night.runs - before))
            night.gained += gain if kept else 0.0
        return outcomes


def singles(world: World, rule: Rule, candidates: Sequence[str], tries: int, seed: int) -> list[Outcome]:
    """Each candidate `tries` times, against incumbents drawn from the other equal codes."""
    rng = random.Random(seed)
    outcomes = []
    for candidate in candidates:
        for _ in range(tries):
            start = rng.choice([name for name in world.equal if name != candidate])
            outcomes += world.play(rule, rng, start, [candidate])
    return outcomes


def campaigns(world: World, rule: Rule, names: Sequence[str], count: int, seed: int) -> list[list[Outcome]]:
    """Every named variant once, in a new order each time, from an equal code drawn as the start."""
    rng = random.Random(seed)
    played = []
    for _ in range(count):
        start = rng.choice(world.equal)
        order = [name for name in names if name != start]
        rng.shuffle(order)
        played.append(world.play(rule, random.Random(rng.random()), start, order))
    return played


# --- counting ----------------------------------------------------------------------------------------


def kept_percent(outcomes: Iterable[Outcome], names: Sequence[str]) -> float:
    """Share of the tries of these candidates that were kept; nan where there is none."""
    kept = [outcome.kept for outcome in outcomes if outcome.candidate in names]
    return 100 * fmean(kept) if kept else math.nan


def seed_error(world: World, rule: Rule, names: Sequence[str], tries: int, seed: int) -> float:
    """Standard error of `kept_percent` as the recorded seeds go: the jackknife (Efron 1982, chapter 3)."""
    seeds = list(world.values[names[0]])
    shares = []
    for out in seeds:
        outcomes = singles(world.without(out), rule, names, tries, seed)
        shares.append(kept_percent(outcomes, names))
    centre = fmean(shares)
    return math.sqrt((len(seeds) - 1) * fmean((share - centre) ** 2 for share in shares))


# --- telling -----------------------------------------------------------------------------------------


def tell_noise(runs: Sequence[Run], world: World) -> None:
    values, finite = world.values, [run for run in runs if run.val_bpb is not None]
    level, shape = fmean(values[BASE].values()), noise.standardised(values)
    others = [name for name in values if name not in EQUAL]
    print(f"runs                  {len(finite)} finite of {len(runs)}")
    print(f"codes                 {len(values)} on the same {len(values[BASE])} seeds")
    print(f"sigma, equal codes    {world.sigma:.5f} = {100 * world.sigma / level:.2f} % of the metric")
    print(f"sigma, other codes    {noise.sigma(values, others):.5f}")
    print(f"seed taken out        {stdev(noise.residuals(values).values()):.5f}")
    print(f"skew                  {noise.skew(shape):+.2f}")
    print(f"excess kurtosis       {noise.excess_kurtosis(shape):+.2f}")
    pairs = [noise.same_seed(values, a, b) for a, b in combinations(world.equal, 2)]
    print(f"same seed, equal      correlation {fmean(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})")
    tell_conditions(finite, values)


def tell_conditions(finite: Sequence[Run], values: Values) -> None:
    """Drift and load, on what variant and seed leave over."""
    left = noise.residuals(values)
    ordered = sorted((run for run in finite if run.seed in values[BASE]), key=lambda run: run.started_at)
    rest = [left[name_of(run), run.seed] for run in ordered]
    change, error = noise.halves([r for r, run in zip(rest, ordered, strict=True) if run.part == "main"])
    print(f"drift                 second half {change:+.5f} +- {error:.5f} against the first")
    if LATE in values:
        again = [values[LATE][seed] - values[BASE][seed] for seed in values[BASE]]
        error = stdev(again) / math.sqrt(len(again))
        print(f"unchanged, late       {fmean(again):+.5f} +- {error:.5f} against early")
    for name, of in CONDITIONS.items():
        fit = noise.line([of(run) for run in ordered], rest)
        print(f"{name:<22}{fit.slope:+.5f} +- {fit.error:.5f} a unit, correlation {fit.r:+.2f}")


CONDITIONS: dict[str, Callable[[Run], float]] = {
    "load before": lambda run: run.load,
    "seconds / CPU second": lambda run: (run.training_seconds or 0.0) / (run.cpu_seconds or 1.0),
    "GFLOP/s of the core": lambda run: run.gflops or 0.0,
    "log of steps": lambda run: math.log(run.steps or 1),
}


def tell_variants(world: World) -> None:
    print(f"\n{'variant':<20}{'chosen as':<10}{'lines':>7}{'mean':>10}", end="")
    print(f"{'true gain':>20}{'in sigma':>10}{'same seed':>11}")
    for name in sorted(world.values, key=lambda name: world.truth[name].gain):
        truth, own = world.truth[name], world.values[name]
        added, removed = LINES.get(name, (0, 0))
        pairing = fmean(noise.same_seed(world.values, name, e) for e in world.equal if e != name)
        print(
            f"{name:<20}{KINDS[name]:<10}{f'+{added} -{removed}':>7}{fmean(own.values()):10.4f}"
            f"{f'{truth.gain:+.4f} +- {truth.error:.4f}':>20}{truth.gain / world.sigma:+10.2f}{pairing:11.2f}"
        )


def tell_singles(world: World, tries: int, seed: int, jackknife: bool) -> None:
    null, harms, gains = world.null, world.worse, world.better
    print(f"\nsingle tries after the baseline: kept of 100 tries, {tries} tries of each candidate")
    sizes = "".join(f"{world.gain(name) / world.sigma:+8.1f}" for name in harms + gains)
    print(f"{'true gain in sigma':<34}{'0':>13}{sizes}{'runs':>7}")
    for name, rule in RULES.items():
        outcomes = singles(world, rule, [*null, *harms, *gains], tries, seed)
        error = f" +-{seed_error(world, rule, null, max(1, tries // 4), seed):4.1f}" if jackknife else ""
        cells = "".join(f"{kept_percent(outcomes, [one]):8.1f}" for one in harms + gains)
        runs = fmean(outcome.runs for outcome in outcomes)
        print(f"{name:<34}{f'{kept_percent(outcomes, null):.1f}{error}':>13}{cells}{runs:7.2f}", flush=True)


def tell_campaigns(world: World, count: int, seed: int) -> None:
    print(f"\n{count} campaigns: `nothing` of equal codes only, `campaign` of every variant once")
    print(f"{'':<34}{'nothing':^17}{'campaign':^64}")
    titles = ("false", "runs", "false", "harmful", "missed", "runs", "gain", "a run")
    print(f"{'':<34}" + "".join(f"{title:>9}" for title in titles))
    for name, rule in RULES.items():
        empty = [one for night in campaigns(world, rule, world.null, count, seed) for one in night]
        nights = campaigns(world, rule, list(world.values), count, seed)
        cells = (kept_percent(empty, world.null), fmean(one.runs for one in empty), *summary(world, nights))
        print(f"{name:<34}" + "".join(f"{cell:9.2f}" for cell in cells), flush=True)


def summary(world: World, nights: Sequence[Sequence[Outcome]]) -> tuple[float, ...]:
    """Keeps of 100 nulls and harms, misses of 100 gains, runs a try, true gain a campaign and a run."""
    outcomes = [one for night in nights for one in night]
    runs = sum(one.runs for one in outcomes)
    gain = sum(one.gain for one in outcomes if one.kept) / world.sigma
    return (
        kept_percent(outcomes, world.null),
        kept_percent(outcomes, world.worse),
        100 - kept_percent(outcomes, world.better),
        runs / len(outcomes),
        gain / len(nights),
        gain / runs,
    )


if __name__ == "__main__":
    main()
