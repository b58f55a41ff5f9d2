"""How often the interval of `confirm` holds the truth, after a campaign has selected what it confirms.

    python scripts/bench/confirm.py [--campaigns 2000] [--worlds iid,seeds] [--quick]

Each simulated campaign tries 30 ideas (half do nothing, a third harm, a sixth help) with the real `decide`;
what it ends with is then measured against the baseline on fresh seeds by the real functions of
`lab.comparison`, and by the rules one might have chosen instead, on the same runs. One unit is the noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))

from lab.comparison import (
    FIRST_LOOK,
    Comparison,
    compare_groups,
    compare_pairs,
    judge,
    level_of,
    next_look,
)
from lab.confirm import PAIRS
from lab.decide import Belief, Facts, decide, opening, pooled_noise, settle

SIGMA = 0.0005  # of a metric near 1: what published language-model runs have
LEVEL = 1.0
TRIES = 30
FIRST_SEED = 42  # of the loop; the fresh ones begin at 1000
LONGEST = 40  # pairs
Pair = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class World:
    """What a run adds to the true mean of its commit, in units of SIGMA."""

    shared: float = 0.0  # share of the variance that belongs to the seed and is passed on to every change
    tails: int = 0  # degrees of freedom of Student's t; 0: Gaussian
    drift: float = 0.0  # random walk of the machine, sd from one run to the next
    skew: bool = False  # one run in ten is hit by a busy machine and comes out worse
    equal: bool = False  # the worst case: no better at all, though the loop claims 2 sigma


WORLDS = {
    "iid": World(),
    "seeds": World(shared=0.6),
    "heavy tails": World(tails=3),
    "drift": World(drift=0.15),
    "busy machine": World(skew=True),
    "no gain": World(equal=True),
}


class Machine:
    """Runs commits, given their true means, one after the other."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.walk = 0.0
        self.seeds: dict[int, float] = {}

    def run(self, mean: float, seed: int) -> float:
        world, rng = self.world, self.rng
        self.walk += rng.gauss(0, world.drift)
        part = self.seeds.setdefault(seed, rng.gauss(0, 1))
        noise = rng.gauss(0, 1)
        if world.tails:  # scaled to unit variance
            chi = rng.gammavariate(world.tails / 2, 2) / world.tails
            noise *= math.sqrt((world.tails - 2) / world.tails / chi)
        if world.skew and rng.random() < 0.1:
            noise += rng.expovariate(1 / 2)
        total = math.sqrt(world.shared) * part + math.sqrt(1 - world.shared) * noise + self.walk
        return LEVEL + SIGMA * (mean + total)


def effect(rng: random.Random) -> float:
    """How much an idea changes the true mean; below 0 is better."""
    kind = rng.random()
    return 0.0 if kind < 0.5 else rng.expovariate(1.0) if kind < 5 / 6 else -rng.expovariate(1.0)


def campaign(machine: Machine, rng: random.Random) -> tuple[float, float]:
    """Run a campaign; return the true mean of what it ends with, and the gain it claims in the metric."""
    runs = [(FIRST_SEED + k, machine.run(0.0, FIRST_SEED + k)) for k in range(3)]
    groups: list[list[float]] = []  # the numbers of every commit but the incumbent and the candidate
    best, start = 0.0, statistics.fmean(m for _, m in runs)
    belief = opening(facts([], runs, groups, None))
    for _ in range(TRIES):
        mean = best + effect(rng)
        mine = [(FIRST_SEED, machine.run(mean, FIRST_SEED))]
        while True:
            known = facts(mine, runs, groups, belief)
            verdict = decide(known)
            if verdict.action != "repeat":
                break
            if verdict.side == "incumbent":
                runs.append((FIRST_SEED + len(runs), machine.run(best, FIRST_SEED + len(runs))))
            else:
                mine.append((FIRST_SEED + len(mine), machine.run(mean, FIRST_SEED + len(mine))))
        belief = settle(known, verdict.action) or belief
        kept = verdict.action == "keep"
        groups.append([m for _, m in (runs if kept else mine)])
        if kept:
            best, runs = mean, mine
    return best, start - statistics.fmean([m for _, m in runs])


Runs = list[tuple[int, float]]


def facts(mine: Runs, runs: Runs, groups: list[list[float]], belief: Belief | None) -> Facts:
    noise = pooled_noise([*groups, [m for _, m in mine], [m for _, m in runs]])
    return Facts(
        goal="min",
        candidate=tuple(mine),
        incumbent=tuple(runs),
        sigma=noise.sigma,
        sigma_n=noise.n,
        sigma_df=noise.df,
        baseline_metric=LEVEL,
        added=2,
        removed=1,
        belief=belief,
        next_seed=FIRST_SEED + len(mine),
        incumbent_seed=FIRST_SEED + len(runs),
        incumbent_may=True,
    )


# -- the rules -----------------------------------------------------------------------------------------

Compare = Callable[[Sequence[Pair], float], "Comparison | None"]


def paired(pairs: Sequence[Pair], level: float) -> Comparison | None:
    return compare_pairs(pairs, "min", level)


def unpaired(pairs: Sequence[Pair], level: float) -> Comparison | None:
    return compare_groups([b for b, _ in pairs], [a for _, a in pairs], "min", level)


def fixed(n: int, compare: Compare) -> Callable[[Sequence[Pair], float], tuple[Comparison, str]]:
    def rule(pairs: Sequence[Pair], claimed: float) -> tuple[Comparison, str]:
        found = compare(pairs[:n], 0.05)
        assert found
        return found, judge(found, found, claimed)

    return rule


def peeking(pairs: Sequence[Pair], claimed: float) -> tuple[Comparison, str]:
    """Look after every pair from the fifth on, stop as soon as a plain 95 % interval decides."""
    for n in range(FIRST_LOOK, PAIRS + 1):
        found, verdict = fixed(n, paired)(pairs, claimed)
        if not verdict.startswith("inconclusive"):
            break
    return found, verdict


def looking(
    limit: int, compare: Compare = paired
) -> Callable[[Sequence[Pair], float], tuple[Comparison, str]]:
    """The rule of `confirm`: looks at 5, 10, 20, ... pairs, each with an error of its own."""

    def rule(pairs: Sequence[Pair], claimed: float) -> tuple[Comparison, str]:
        look = n = 0
        while n < limit:
            look, n = look + 1, min(next_look(n), limit)
            found = compare(pairs[:n], level_of(look))
            assert found
            verdict = judge(found, found, claimed)
            if not verdict.startswith("inconclusive"):
                break
        return found, verdict

    return rule


RULES: dict[str, Callable[[Sequence[Pair], float], tuple[Comparison, str]]] = {
    "confirm (5, then 10)": looking(PAIRS),
    "confirm --pairs 5": looking(5),
    "confirm, extended to 40": looking(LONGEST),
    "confirm, seeds none": looking(PAIRS, unpaired),
    "always 5, plain 95 %": fixed(5, paired),
    "always 10, plain 95 %": fixed(10, paired),
    "peeking from 5 to 10": peeking,
}


@dataclasses.dataclass
class Tally:
    """What one rule gave in one world."""

    held: int = 0
    pairs: int = 0
    width: float = 0.0
    bias: float = 0.0
    confirmed: int = 0
    wrongly: int = 0  # confirmed although the truth is no gain
    not_confirmed: int = 0

    def add(self, found: Comparison, verdict: str, truth: float) -> None:
        # 1e-9: a truth of exactly 0 that both ends meet is inside
        self.held += found.interval[0] - 1e-9 <= truth <= found.interval[1] + 1e-9
        self.pairs += found.n
        self.width += (found.interval[1] - found.interval[0]) / 2 / SIGMA
        self.bias += (found.gain - truth) / SIGMA
        self.confirmed += verdict == "confirmed"
        self.wrongly += verdict == "confirmed" and truth <= 1e-6 * SIGMA
        self.not_confirmed += verdict == "not confirmed"


def part(job: tuple[str, int, int]) -> tuple[dict[str, Tally], float, float]:
    """Some campaigns of one world; also the sum of what they claimed too much, and of the true gains."""
    name, first, last = job
    tallies = {rule: Tally() for rule in RULES}
    excess = true_gain = 0.0
    for number in range(first, last):
        rng = random.Random(f"{name} {number}")
        kept = False
        while not kept:  # a campaign without a keep has nothing to confirm
            machine = Machine(WORLDS[name], rng)
            equal = WORLDS[name].equal
            mean, claimed = (-1e-9, 2 * SIGMA) if equal else campaign(machine, rng)
            kept = mean != 0.0
        truth = -mean * SIGMA
        excess += (claimed - truth) / SIGMA
        true_gain += -mean
        pairs = []
        for k in range(LONGEST):
            if k % 2:
                after = machine.run(mean, 1000 + k)
                pairs.append((machine.run(0.0, 1000 + k), after))
            else:
                pairs.append((machine.run(0.0, 1000 + k), machine.run(mean, 1000 + k)))
        for rule, measure in RULES.items():
            found, verdict = measure(pairs, claimed)
            tallies[rule].add(found, verdict, truth)
    return tallies, excess, true_gain


def report(name: str, campaigns: int, parts: Sequence[tuple[dict[str, Tally], float, float]]) -> None:
    excess, gain = (sum(p[i] for p in parts) / campaigns for i in (1, 2))  # type: ignore[misc]
    print(
        f"\n{name}: {campaigns} campaigns, true gain {gain:.2f}, claimed in the loop {excess:+.2f} too much"
    )
    print(
        "| rule | coverage % | se | pairs | half width | gain - truth | confirmed % | of no gain % | not % |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rule in RULES:
        total = Tally(
            *(sum(values) for values in zip(*(dataclasses.astuple(p[0][rule]) for p in parts), strict=True))
        )
        share = total.held / campaigns
        error = 100 * math.sqrt(share * (1 - share) / campaigns)
        print(
            f"| {rule} | {100 * share:.1f} | {error:.1f} | {total.pairs / campaigns:.1f} | "
            f"{total.width / campaigns:.2f} | {total.bias / campaigns:+.2f} | "
            f"{100 * total.confirmed / campaigns:.0f} | {100 * total.wrongly / campaigns:.2f} | "
            f"{100 * total.not_confirmed / campaigns:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--campaigns", type=int, default=2000, help="per world")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="names, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="40 campaigns of two worlds: does it run?")
    given = parser.parse_args()
    worlds = ["iid", "seeds"] if given.quick else given.worlds.split(",")
    campaigns = 40 if given.quick else given.campaigns
    step = max(1, campaigns // (8 * given.processes))
    with multiprocessing.Pool(given.processes) as pool:
        for name in worlds:
            jobs = [(name, at, min(at + step, campaigns)) for at in range(0, campaigns, step)]
            report(name, campaigns, pool.map(part, jobs))


if __name__ == "__main__":
    main()
