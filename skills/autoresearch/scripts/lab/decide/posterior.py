"""A candidate against the belief: what its runs say of its true gain, and what a verdict leaves behind.

The gain is one more unknown of the Kalman filter, at first without any prior. What the filter then says of
it is an estimate with a variance, to which the prior of `effects` is added in closed form. A verdict is
folded back by matching the first two moments (assumed-density filtering; Minka 2001): a keep makes the
candidate the incumbent, with a level that is shrunk because it was chosen; a discard is one more look at the
incumbent's level and luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import mul

from lab.decide import effects
from lab.decide.belief import (
    LEAST_WEIGHT,
    OWN,
    VAGUE,
    WORLDS,
    Belief,
    Matrix,
    World,
    absorb,
    pair_noise,
    with_seed,
)
from lab.decide.effects import Effect
from lab.decide.noise import Trusted

STALE = 0.005  # of the noise variance, added to the level before each candidate
CAUTION = (
    1.0  # the noise variance is taken for (1 + CAUTION / df) times what it seems while it is little known
)
NO_CLIP = math.inf
TELLING = 8.0  # sigma; an effect beyond it says nothing of how sharp a pair is

Losses = Sequence[tuple["int | None", float]]


@dataclass(frozen=True)
class Read:
    """What one world reads off the candidate: an estimate of the gain and the state it was read with."""

    estimate: float
    variance: float
    mean: list[float]  # level, luck by seed, gain
    cov: Matrix
    log: float  # density of the runs, up to a constant that all worlds share


@dataclass(frozen=True)
class Posterior:
    """The gain over all worlds, and what each of them has to say."""

    whole: Effect
    reads: list[Read]
    effects: list[Effect]
    weights: list[float]  # of the worlds, after the candidate's runs
    likelihood: list[float]  # of each class of effect, over the worlds


def careful(noise: Trusted) -> tuple[float, float]:
    """Sigma and the candidate's, made larger while few runs tell them: Student's tails, near enough."""
    factor = math.sqrt(1 + CAUTION / max(noise.df, 1))
    return noise.sigma * factor, noise.candidate * factor


def read(belief: Belief, runs: Losses, noise: Trusted, kept: bool = False) -> list[Read]:
    """Each world's estimate of the gain; with `kept`, the luck in the state is the candidate's own."""
    sigma, own_sigma = careful(noise)
    return [
        _read(belief, world, guess, runs, sigma, own_sigma, kept)
        for world, guess in zip(belief.worlds, WORLDS, strict=True)
    ]


def _read(
    belief: Belief,
    world: World,
    guess: tuple[float, float, float],
    runs: Losses,
    sigma: float,
    own_sigma: float,
    kept: bool,
) -> Read:
    share, part, _ = guess
    last, variance = len(world.mean), own_sigma * own_sigma
    carry = part * own_sigma / sigma
    fresh, own = (1 - part * part) * share * variance, max(1 - share, OWN) * variance
    state = [*world.mean, 0.0]
    cov = [[*row, 0.0] for row in world.cov] + [[0.0] * last + [(VAGUE * sigma) ** 2]]
    cov[0][0] += STALE * sigma * sigma
    if kept:
        state, cov = _inherited(state, cov, carry, fresh)
    log = 0.0
    for seed, loss in runs:
        row, noise = [(0, 1.0), (last, -1.0)], variance
        if seed is not None:
            row.append((1 + belief.seeds.index(seed), 1.0 if kept else carry))
            noise = own if kept else own + fresh
        state, cov, density = absorb(state, cov, row, noise, loss - belief.zero, NO_CLIP)
        log += density
    return Read(state[last], cov[last][last], state, cov, log)


def _inherited(state: list[float], cov: Matrix, carry: float, fresh: float) -> tuple[list[float], Matrix]:
    """The same state with the luck of a changed commit: part of the old one, and some of its own."""
    last = len(state) - 1
    factors = [1.0, *([carry] * (last - 1)), 1.0]
    cov = [
        [c * a * b for c, b in zip(row, factors, strict=True)] for row, a in zip(cov, factors, strict=True)
    ]
    for i in range(1, last):
        cov[i][i] += fresh
    return [s * f for s, f in zip(state, factors, strict=True)], cov


def posterior(belief: Belief, runs: Losses, noise: Trusted, asked: float, kept: bool = False) -> Posterior:
    """The true gain over all worlds and classes of effects."""
    sigma = careful(noise)[0]
    for seed, _ in runs:
        belief = with_seed(belief, seed, sigma)
    prior = effects.shares(belief.regimes)
    reads = read(belief, runs, noise, kept)
    top = max(r.log for r in reads)
    unit = pair_noise(belief, sigma)
    seen = [effects.reading(r.estimate, r.variance, unit) for r in reads]
    scales = [w.weight * math.exp(r.log - top) for w, r in zip(belief.worlds, reads, strict=True)]
    totals = [sum(map(mul, prior, one.likelihood)) for one in seen]
    near = min(abs(r.estimate) for r in reads) < TELLING * sigma
    joint = [scale * total for scale, total in zip(scales, totals, strict=True)] if near else scales
    weights = [weight / sum(joint) for weight in joint]
    found = [
        effects.effect(one, [p * d / total for p, d in zip(prior, one.likelihood, strict=True)], asked)
        for one, total in zip(seen, totals, strict=True)
    ]
    columns = zip(*(one.likelihood for one in seen), strict=True)
    return Posterior(
        _mixed(weights, found), reads, found, weights, [sum(map(mul, scales, c)) for c in columns]
    )


def _mixed(weights: Sequence[float], found: Sequence[Effect]) -> Effect:
    pairs_ = list(zip(weights, found, strict=True))
    centre = sum(w * e.mean for w, e in pairs_)
    square = sum(w * (e.variance + e.mean * e.mean) for w, e in pairs_)
    p = min(1.0, sum(w * e.p for w, e in pairs_))
    variance = max(0.0, square - centre * centre)
    return Effect(p, centre, variance, (centre, variance))


def after_verdict(
    belief: Belief, runs: Losses, noise: Trusted, keep: bool, found: Posterior | None = None
) -> Belief:
    """The belief once the candidate of `runs` is kept or discarded; `found` is what a look has worked out."""
    sigma = careful(noise)[0]
    for seed, _ in runs:
        belief = with_seed(belief, seed, sigma)
    if keep or found is None:
        found = posterior(belief, runs, noise, 0.0, kept=keep)
    worlds = [
        _folded(r, e, max(w, LEAST_WEIGHT), keep)
        for r, e, w in zip(found.reads, found.effects, found.weights, strict=True)
    ]
    total = sum(w.weight for w in worlds)
    return replace(
        belief,
        seen=len(runs) if keep else belief.seen,
        worlds=tuple(replace(w, weight=w.weight / total) for w in worlds),
        regimes=effects.learned(belief.regimes, found.likelihood),
    )


def _folded(r: Read, gain: Effect, weight: float, keep: bool) -> World:
    """One world's state once the gain is known as its posterior says; on a keep it moves by that gain."""
    last = len(r.mean) - 1
    slope = [r.cov[i][last] / r.variance for i in range(last)]
    rest = [[r.cov[i][j] - slope[i] * slope[j] * r.variance for j in range(last)] for i in range(last)]
    mean, variance = (gain.mean, gain.variance) if keep else gain.local
    state = [r.mean[i] + slope[i] * (mean - r.estimate) for i in range(last)]
    if keep:
        state[0] -= mean
        slope[0] -= 1.0
    cov = [[rest[i][j] + slope[i] * slope[j] * variance for j in range(last)] for i in range(last)]
    return World(weight, state, cov)
