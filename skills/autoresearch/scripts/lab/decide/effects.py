"""What changes usually do: the prior over true gains, and how it learns from the campaign.

A true gain is nothing, or a half-normal of one of four sizes to either side, in units of the noise. How
often each of these comes is not known: every row of `REGIMES` is one guess, and Bayes' rule weighs the
guesses by how well each foretold the candidates so far (a finite mixture with a discrete hyperprior; Gelman
et al., Bayesian Data Analysis, sections 5.3 and 22.2). A campaign where nothing works soon believes in the
regimes without gains, and the same number is then worth less. Older candidates count less (`FORGET`), as a
campaign's luck changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from lab.decide.statistics import normal_cdf, positive_part

SIZES = (0.5, 1.5, 5.0, 25.0)  # sigma; scales of the half-normals
LOCAL = 3  # the smaller ones; only these let a candidate tell where the incumbent is
COUNT = len(SIZES)  # classes: 0 nothing, 1 to 4 gains by size, 5 to 8 losses by size
GAIN_SHARES = ((0.03, 0.20), (0.10, 0.30), (0.25, 0.30), (0.50, 0.20))  # (share of all changes, weight)
GAIN_SIZES = (
    ((0.80, 0.17, 0.02, 0.01), 1 / 3),
    ((0.40, 0.45, 0.12, 0.03), 1 / 3),
    ((0.15, 0.25, 0.45, 0.15), 1 / 3),
)
LOSS_SHARES = ((0.25, 0.30), (0.50, 0.40), (0.75, 0.30))  # of the changes that gain nothing
LOSS_SIZES = (0.35, 0.35, 0.20, 0.10)
INERT, INERT_GAINS, INERT_LOSSES = 0.20, 0.01, 0.03  # weight of the guess that changes do nothing at all
FORGET = 0.95  # what is learned fades into the prior by 5 % with each candidate
FAR = 60.0  # sigma; beyond it no prior has a say


def _regimes() -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Give the weight of every guess, and how often each class comes under it."""
    weights, rows = [INERT], [_row(INERT_GAINS, GAIN_SIZES[1][0], INERT_LOSSES)]
    for gains, weight in GAIN_SHARES:
        for sizes, of_sizes in GAIN_SIZES:
            for losses, of_losses in LOSS_SHARES:
                weights.append((1 - INERT) * weight * of_sizes * of_losses)
                rows.append(_row(gains, sizes, losses))
    return tuple(weights), tuple(rows)


def _row(gains: float, sizes: Sequence[float], losses: float) -> tuple[float, ...]:
    """Shares of the classes: nothing, gains by size, losses by size."""
    up = [gains * size for size in sizes]
    down = [(1 - gains) * losses * size for size in LOSS_SIZES]
    return ((1 - gains) * (1 - losses), *up, *down)


PRIOR, REGIMES = _regimes()


COLUMNS = tuple(zip(*REGIMES, strict=True))


def shares(regimes: Sequence[float]) -> list[float]:
    """How often each class of effect is expected."""
    return [sum(map(mul, regimes, column)) for column in COLUMNS]


def learned(regimes: Sequence[float], likelihood: Sequence[float]) -> tuple[float, ...]:
    """Give the weights of the guesses after one more candidate; what is old fades into the prior."""
    raw = [
        weight**FORGET * prior ** (1 - FORGET) * sum(map(mul, row, likelihood))
        for weight, prior, row in zip(regimes, PRIOR, REGIMES, strict=True)
    ]
    total = sum(raw)
    return tuple(max(x / total, 1e-6) for x in raw) if total > 0 else tuple(regimes)


@dataclass(frozen=True)
class Reading:
    """An estimate of a gain as each class of effects sees it."""

    seen: float
    variance: float
    far: bool  # so large that no prior has a say
    likelihood: list[float]  # density of the estimate by class, up to a constant
    middles: list[float]  # by size: mean and sd of the gain's posterior, before its sign is known
    spreads: list[float]


def reading(seen: float, variance: float, unit: float) -> Reading:
    """Work out the density of an estimate with that error variance under each class."""
    near = max(-FAR * unit, min(FAR * unit, seen))
    half = -0.5 * near * near
    up, down, middles, spreads = [], [], [], []
    for size in SIZES:
        prior = (size * unit) ** 2
        total = prior + variance
        spread = math.sqrt(prior * variance / total)
        middle = near * prior / total
        density = 2 * math.exp(half / total) / math.sqrt(total)
        side = normal_cdf(middle / spread)
        up.append(density * side)
        down.append(density * (1 - side))
        middles.append(middle)
        spreads.append(spread)
    nothing = math.exp(half / variance) / math.sqrt(variance)
    return Reading(seen, variance, abs(seen) > FAR * unit, [nothing, *up, *down], middles, spreads)


@dataclass(frozen=True)
class Effect:
    """Posterior of the true gain: P(it is at least the price), its mean and variance.

    `local` is mean and variance when the prior of large effects is taken for flat: a change that is far off
    must not move what is believed of the incumbent, however many of its kind come.
    """

    p: float
    mean: float
    variance: float
    local: tuple[float, float]


def effect(read: Reading, classes: Sequence[float], price: float) -> Effect:
    """Give the posterior of the gain, from the posterior weights of the classes."""
    if read.far:
        p = normal_cdf((read.seen - price) / math.sqrt(read.variance))
        return Effect(p, read.seen, read.variance, (read.seen, read.variance))
    p = classes[0] * (price < 0)
    centre = square = 0.0
    near, near_square = 0.0, 0.0
    flat = read.variance + read.seen * read.seen
    for k in range(1, 1 + 2 * COUNT):
        weight = classes[k]
        if weight < 1e-6:
            continue
        sign = 1.0 if k <= COUNT else -1.0
        middle, spread = sign * read.middles[(k - 1) % COUNT], read.spreads[(k - 1) % COUNT]
        share, size, around = positive_part(middle, spread)
        centre += weight * sign * size
        square += weight * (around + size * size)
        local = (k - 1) % COUNT < LOCAL
        near += weight * (sign * size if local else read.seen)
        near_square += weight * (around + size * size if local else flat)
        p += weight * _beyond(sign, price, middle, spread, share)
    local_variance = max(0.0, near_square - near * near)
    return Effect(min(1.0, p), centre, max(0.0, square - centre * centre), (near, local_variance))


def _beyond(sign: float, price: float, middle: float, spread: float, share: float) -> float:
    """P(gain > price) for a gain, or a loss where `sign` is negative, whose size is a truncated normal."""
    if sign * price <= 0:
        return float(sign > 0)
    if share <= 0.0:
        return float(sign < 0)
    tail = normal_cdf((middle - sign * price) / spread) / share
    return min(1.0, tail) if sign > 0 else 1 - min(1.0, tail)
