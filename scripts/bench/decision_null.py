"""How often `decide` keeps a change that does nothing, and finds one that does, beside the greedy rule.

Two questions, noise Gaussian with sigma = 1 and metric to minimise, every candidate adding 5 lines:
`first`, the first try after the baseline runs, when sigma stands on these alone; `night`, a try somewhere
in a campaign of 100 against one incumbent, when sigma is pooled with every repeat so far. `rho` is the
correlation of two runs on one seed. Greedy is one run each, keep when lower; the incumbent stays what it is
here, so the bar does not rise with every lucky keep as it would in a real night.

    python3 scripts/bench/decision_null.py [--tries 20000] [--seed 1]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))

from lab.decide import Facts, decide, pooled_noise

EFFECTS = (0.0, 1.0, 2.0, 3.0, 5.0)
SEEDS = (42, 1337, 2024, 7, 11, 13)
LEVEL = 2000.0  # so that sigma is 0.05 % of the metric, as published runs have it
Runs = tuple[tuple[int, float], ...]


class World:
    """Draws runs: part of a run's luck belongs to its seed, the rest to itself."""

    def __init__(self, rng: random.Random, rho: float) -> None:
        self.rng, self.own = rng, math.sqrt(1 - rho)
        self.luck = {seed: rng.gauss(0, math.sqrt(rho)) for seed in SEEDS}

    def run(self, seed: int, gain: float) -> tuple[int, float]:
        return seed, LEVEL - gain + self.luck[seed] + self.own * self.rng.gauss(0, 1)


def judge(world: World, incumbent: Runs, gain: float, groups: list[list[float]]) -> tuple[bool, Runs]:
    """Run and decide until there is a verdict; give whether it was a keep, and the runs it took."""
    runs: Runs = ()
    while True:
        runs += (world.run(SEEDS[len(runs)], gain),)
        noise = pooled_noise([*groups, [metric for _, metric in runs]])
        action = decide(
            Facts("min", runs, incumbent, noise.sigma, noise.n, noise.df, incumbent[0][1], added=8, removed=3)
        ).action
        if action != "repeat":
            return action == "keep", runs


def first(rng: random.Random, rho: float, gain: float, baselines: int) -> tuple[bool, int, bool]:
    """Judge one try after the baseline; give kept, runs used, and what greedy does with the first run."""
    world = World(rng, rho)
    incumbent = tuple(world.run(seed, 0.0) for seed in SEEDS[:baselines])
    kept, runs = judge(world, incumbent, gain, [[metric for _, metric in incumbent]])
    return kept, len(runs), runs[0][1] < incumbent[0][1]


def night(
    rng: random.Random, rho: float, tries: int, baselines: int
) -> dict[float, list[tuple[bool, int, bool]]]:
    """Judge a campaign of tries, two thirds without effect, the incumbent staying what it is."""
    world = World(rng, rho)
    incumbent = tuple(world.run(seed, 0.0) for seed in SEEDS[:baselines])
    groups = [[metric for _, metric in incumbent]]
    seen: dict[float, list[tuple[bool, int, bool]]] = {effect: [] for effect in EFFECTS}
    for _ in range(tries):
        gain = 0.0 if rng.random() < 2 / 3 else rng.choice(EFFECTS[1:])
        kept, runs = judge(world, incumbent, gain, groups)
        groups.append([metric for _, metric in runs])
        seen[gain].append((kept, len(runs), runs[0][1] < incumbent[0][1]))
    return seen


def row(name: str, rho: float, results: dict[float, list[tuple[bool, int, bool]]]) -> str:
    cells = []
    for effect in EFFECTS:
        seen = results[effect]
        kept, runs, greedy = (sum(column) / len(seen) for column in zip(*seen, strict=True))
        cells.append(f"{100 * kept:5.1f} {runs:4.2f} {100 * greedy:4.0f}")
    return f"{name:<22} {rho:3.1f}  " + "   ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tries", type=int, default=20_000, help="tries for each cell, five times as many without a gain"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print("each cell: kept %, runs used, kept by greedy %\n")
    print(f"{'true gain in sigma':<22} rho  " + "   ".join(f"{effect:^15g}" for effect in EFFECTS))
    for rho in (0.0, 0.5):
        for baselines in (3, 5):
            # Keeps of nothing are rare, so that cell takes more tries to be known as well.
            tries = {effect: options.tries * (1 if effect else 5) for effect in EFFECTS}
            results = {e: [first(rng, rho, e, baselines) for _ in range(tries[e])] for e in EFFECTS}
            print(row(f"first, {baselines} baseline runs", rho, results), flush=True)
        nights = [night(rng, rho, 100, 3) for _ in range(max(1, options.tries * 12 // 100))]
        merged = {e: [one for seen in nights for one in seen[e]] for e in EFFECTS}
        print(row("night, 3 baseline runs", rho, merged), flush=True)


if __name__ == "__main__":
    main()
