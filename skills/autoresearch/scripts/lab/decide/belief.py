"""What is believed of the incumbent: its true level and its luck on each seed, as a Gaussian in four worlds.

A run of a commit on a seed is level + luck on that seed + luck of its own. Which share of the noise belongs
to the seed, and how much of that luck a changed commit inherits, differs between projects; each of `WORLDS`
is one guess, and Bayes' rule weighs them by how well each foretold the runs. So a pair on the same seed
counts as sharp as this campaign's pairs have been. Every step is the Kalman filter's (Kalman 1960; West and
Harrison, Bayesian Forecasting and Dynamic Models, section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.decide import effects

# (share of the noise that belongs to the seed, part of that luck a change inherits, weight beforehand)
WORLDS = ((0.0, 0.0, 0.20), (0.60, 0.60, 0.20), (0.80, 0.80, 0.20), (0.95, 0.97, 0.40))
LEAST_WEIGHT = 1e-3  # so that no world is ever lost for good
VAGUE = 1e4  # sigma; the sd of what is not known at all
OWN = 1e-3  # of the variance: a run is never wholly its seed's
CLIP = 4.0  # sd; a re-measurement further off pulls no more than this
DIGITS = 9  # of the numbers in the journal

Matrix = list[list[float]]


@dataclass(frozen=True)
class World:
    """The incumbent under one guess: the mean and covariance of its level and its luck by seed."""

    weight: float
    mean: list[float]  # the level first, then one number for each seed
    cov: Matrix


@dataclass(frozen=True)
class Belief:
    """Losses, so that lower is better; `zero` is what the numbers are counted from."""

    zero: float
    first: float  # the baseline's level, from the same zero
    seen: int  # runs of the incumbent that are in it
    seeds: tuple[int, ...]
    worlds: tuple[World, ...]
    regimes: tuple[float, ...]

    @property
    def level(self) -> float:
        """The incumbent's expected loss."""
        return self.zero + self._centre

    @property
    def _centre(self) -> float:
        return sum(world.weight * world.mean[0] for world in self.worlds)

    @property
    def error(self) -> float:
        """Standard deviation of that level."""
        spread = sum(w.weight * (w.cov[0][0] + (w.mean[0] - self._centre) ** 2) for w in self.worlds)
        return math.sqrt(max(spread, 0.0))

    @property
    def gained(self) -> float:
        """What the keeps have gained in truth, as far as is known: free of the luck that chose them."""
        return self.first - self._centre

    @property
    def pairing(self) -> float:
        """Expected correlation of an incumbent's and a candidate's run on the same seed."""
        return sum(w.weight * share * part for w, (share, part, _) in zip(self.worlds, WORLDS, strict=True))

    @property
    def seed_share(self) -> float:
        """Expected share of the noise variance that belongs to the seed; the rest is the machine's."""
        return sum(w.weight * share for w, (share, _, _) in zip(self.worlds, WORLDS, strict=True))

    @property
    def settled(self) -> float:
        """Weight of the likeliest guess about luck."""
        return max(world.weight for world in self.worlds)


def pair_noise(belief: Belief, sigma: float) -> float:
    """The part of the noise that a pair on one seed does not share: what effects and prices count in."""
    return sigma * math.sqrt(1 - belief.pairing)


def opened(runs: Sequence[tuple[int | None, float]], sigma: float) -> Belief:
    """The belief that the runs of a baseline give; `runs` hold losses."""
    vague = (VAGUE * sigma) ** 2
    worlds = tuple(World(weight, [0.0], [[vague]]) for _, _, weight in WORLDS)
    belief = Belief(runs[0][1], 0.0, 0, (), worlds, effects.PRIOR)
    for seed, loss in runs:
        belief = ran(belief, seed, loss, sigma, clip=math.inf)
    return replace(belief, first=belief.level - belief.zero)


def with_seed(belief: Belief, seed: int | None, sigma: float) -> Belief:
    """Make room for the luck on a seed that has not been seen."""
    if seed is None or seed in belief.seeds:
        return belief
    worlds = []
    for world, (share, _, _) in zip(belief.worlds, WORLDS, strict=True):
        cov = [[*row, 0.0] for row in world.cov]
        cov.append([*([0.0] * len(world.mean)), share * sigma * sigma])
        worlds.append(World(world.weight, [*world.mean, 0.0], cov))
    return replace(belief, seeds=(*belief.seeds, seed), worlds=tuple(worlds))


def absorb(
    mean: list[float], cov: Matrix, row: Sequence[tuple[int, float]], noise: float, value: float, clip: float
) -> tuple[list[float], Matrix, float]:
    """One Kalman step on `value` = row . state + noise; also the log density it had."""
    size = len(mean)
    gains = [0.0] * size
    for j, c in row:
        for i in range(size):
            gains[i] += cov[i][j] * c
    total = noise + sum(gains[j] * c for j, c in row)
    off = value - sum(mean[j] * c for j, c in row)
    log = -0.5 * (off * off / total + math.log(total))
    limit = clip * math.sqrt(total)
    step = min(max(off, -limit), limit) / total
    after = [m + g * step for m, g in zip(mean, gains, strict=True)]
    share = [g / total for g in gains]
    return (
        after,
        [[c - s * g for c, g in zip(r, gains, strict=True)] for r, s in zip(cov, share, strict=True)],
        log,
    )


def _row(
    belief: Belief, share: float, seed: int | None, sigma: float
) -> tuple[list[tuple[int, float]], float]:
    """How a run of the incumbent reads the state, and the variance of its own luck."""
    if seed is None:
        return [(0, 1.0)], sigma * sigma
    return [(0, 1.0), (1 + belief.seeds.index(seed), 1.0)], max(1 - share, OWN) * sigma * sigma


def ran(belief: Belief, seed: int | None, loss: float, sigma: float, clip: float = CLIP) -> Belief:
    """The belief after one more run of the incumbent."""
    belief = with_seed(belief, seed, sigma)
    worlds, logs = [], []
    for world, (share, _, _) in zip(belief.worlds, WORLDS, strict=True):
        row, noise = _row(belief, share, seed, sigma)
        mean, cov, log = absorb(world.mean, world.cov, row, noise, loss - belief.zero, clip)
        worlds.append(World(world.weight, mean, cov))
        logs.append(log)
    return replace(belief, seen=belief.seen + 1, worlds=reweighed(worlds, logs))


def reweighed(worlds: Sequence[World], logs: Sequence[float]) -> tuple[World, ...]:
    """Weigh the worlds by the log densities that each gave to what was seen."""
    top = max(logs)
    weights = [w.weight * math.exp(log - top) for w, log in zip(worlds, logs, strict=True)]
    floor = LEAST_WEIGHT * sum(weights)
    weights = [max(weight, floor) for weight in weights]
    total = sum(weights)
    return tuple(replace(w, weight=x / total) for w, x in zip(worlds, weights, strict=True))


def surprise(belief: Belief, seed: int | None, loss: float, sigma: float) -> float:
    """How many standard deviations a further run of the incumbent is off, in the likeliest world."""
    belief = with_seed(belief, seed, sigma)
    best = max(range(len(WORLDS)), key=lambda i: belief.worlds[i].weight)
    world = belief.worlds[best]
    row, noise = _row(belief, WORLDS[best][0], seed, sigma)
    total = noise + sum(world.cov[i][j] * a * b for i, a in row for j, b in row)
    return (loss - belief.zero - sum(world.mean[j] * c for j, c in row)) / math.sqrt(total)


def restarted(belief: Belief, runs: Sequence[tuple[int | None, float]], sigma: float) -> Belief:
    """The bar starts afresh at runs that show another machine; what was learned of effects stays."""
    fresh = opened(runs, sigma)
    worlds = tuple(
        replace(new, weight=old.weight) for new, old in zip(fresh.worlds, belief.worlds, strict=True)
    )
    moved = replace(fresh, worlds=worlds, regimes=belief.regimes)
    return rounded(replace(moved, first=moved.level - moved.zero + belief.gained))


# --- the journal's form -------------------------------------------------------------------------------


def as_json(belief: Belief) -> dict[str, object]:
    """Plain lists; of each covariance the lower half."""
    worlds = [
        {"weight": w.weight, "mean": w.mean, "cov": [row[: i + 1] for i, row in enumerate(w.cov)]}
        for w in belief.worlds
    ]
    plain = {"zero": belief.zero, "first": belief.first, "seen": belief.seen, "seeds": list(belief.seeds)}
    return {**plain, "worlds": worlds, "regimes": list(belief.regimes)}


def from_json(record: dict[str, object]) -> Belief | None:
    """What `as_json` gave; None where another release wrote other worlds or regimes."""
    worlds, regimes, seeds = record["worlds"], record["regimes"], record["seeds"]
    assert isinstance(worlds, list) and isinstance(regimes, list) and isinstance(seeds, list)
    if len(worlds) != len(WORLDS) or len(regimes) != len(effects.PRIOR):
        return None
    return Belief(
        zero=float(str(record["zero"])),
        first=float(str(record["first"])),
        seen=int(str(record["seen"])),
        seeds=tuple(seeds),
        worlds=tuple(World(w["weight"], list(w["mean"]), _whole(w["cov"])) for w in worlds),
        regimes=tuple(regimes),
    )


def _whole(half: Matrix) -> Matrix:
    size = len(half)
    return [[half[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)]


def rounded(belief: Belief) -> Belief:
    """The belief with as many digits as the journal holds, so that a replay starts from the same numbers."""
    worlds = tuple(
        World(
            _short(w.weight), list(map(_short, w.mean)), _whole([[_short(x) for x in row] for row in w.cov])
        )
        for w in belief.worlds
    )
    regimes = tuple(float(f"{x:.6g}") for x in belief.regimes)
    return replace(belief, first=_short(belief.first), worlds=worlds, regimes=regimes)


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
