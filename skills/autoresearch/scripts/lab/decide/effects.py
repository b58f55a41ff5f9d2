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

from lab.decide.statistics import normal_cdf, positive_part

SIZES = (0.5, 1.5, 5.0, 25.0)  # sigma; scales of the half-normals
COUNT = len(SIZES)  # classes: 0 nothing, 1 to 4 gains by size, 5 to 8 losses by size
GAIN_SHARES = ((0.03, 0.20), (0.10, 0.30), (0.25, 0.30), (0.50, 0.20))  # (share of all changes, weight)
GAIN_SIZES = (
    ((0.80, 0.17, 0.02, 0.01), 1 / 3),
    ((0.40, 0.45, 0.12, 0.03), 1 / 3),
    ((0.15, 0.25, 0.45, 0.15), 1 / 3),
)
LOSS_SHARES = ((0.05, 0.25), (0.40, 0.40), (0.75, 0.35))  # of the changes that gain nothing
LOSS_SIZES = (0.35, 0.35, 0.20, 0.10)
FORGET = 0.95
FAR = 60.0  # sigma; beyond it no prior has a say


def _regimes() -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Give the weight of every guess, and how often each class comes under it."""
    weights, rows = [], []
    for gains, weight in GAIN_SHARES:
        for sizes, of_sizes in GAIN_SIZES:
            for losses, of_losses in LOSS_SHARES:
                weights.append(weight * of_sizes * of_losses)
                up = [gains * size for size in sizes]
                down = [(1 - gains) * losses * size for size in LOSS_SIZES]
                rows.append(((1 - gains) * (1 - losses), *up, *down))
    return tuple(weights), tuple(rows)


PRIOR, REGIMES = _regimes()


def shares(regimes: Sequence[float]) -> list[float]:
    """How often each class of effect is expected."""
    pairs = list(zip(regimes, REGIMES, strict=True))
    return [sum(weight * row[k] for weight, row in pairs) for k in range(1 + 2 * COUNT)]


def learned(regimes: Sequence[float], likelihood: Sequence[float]) -> tuple[float, ...]:
    """Give the weights of the guesses after one more candidate."""
    raw = [
        weight**FORGET * sum(a * b for a, b in zip(row, likelihood, strict=True))
        for weight, row in zip(regimes, REGIMES, strict=True)
    ]
    total = sum(raw)
    return tuple(max(x / total, 1e-6) for x in raw) if total > 0 else tuple(regimes)


def likelihoods(seen: float, variance: float, sigma: float) -> list[float]:
    """Density, up to a constant, of an estimate with that error variance under each class."""
    seen = max(-FAR * sigma, min(FAR * sigma, seen))
    up, down = [], []
    for size in SIZES:
        prior = (size * sigma) ** 2
        total = prior + variance
        density = 2 * math.exp(-0.5 * seen * seen / total) / math.sqrt(total)
        side = normal_cdf(seen * math.sqrt(prior / (total * variance)))
        up.append(density * side)
        down.append(density * (1 - side))
    return [math.exp(-0.5 * seen * seen / variance) / math.sqrt(variance), *up, *down]


@dataclass(frozen=True)
class Effect:
    """Posterior of the true gain: P(it is at least the price), its mean and variance."""

    p: float
    mean: float
    variance: float


def effect(seen: float, variance: float, sigma: float, classes: Sequence[float], price: float) -> Effect:
    """Give the posterior of the gain, from the posterior weights of the classes."""
    if abs(seen) > FAR * sigma:
        return Effect(normal_cdf((seen - price) / math.sqrt(variance)), seen, variance)
    p = classes[0] * (price < 0)
    centre = square = 0.0
    for k in range(1, 1 + 2 * COUNT):
        weight = classes[k]
        if weight < 1e-9:
            continue
        sign = 1.0 if k <= COUNT else -1.0
        prior = (SIZES[(k - 1) % COUNT] * sigma) ** 2
        shrink = prior / (prior + variance)
        middle, spread = sign * seen * shrink, math.sqrt(shrink * variance)
        share, size, around = positive_part(middle, spread)
        centre += weight * sign * size
        square += weight * (around + size * size)
        p += weight * _beyond(sign, price, middle, spread, share)
    return Effect(min(1.0, p), centre, max(0.0, square - centre * centre))


def _beyond(sign: float, price: float, middle: float, spread: float, share: float) -> float:
    """P(gain > price) for a gain, or a loss where `sign` is negative, whose size is a truncated normal."""
    if sign * price <= 0:
        return float(sign > 0)
    if share <= 0.0:
        return float(sign < 0)
    tail = normal_cdf((middle - sign * price) / spread) / share
    return min(1.0, tail) if sign > 0 else 1 - min(1.0, tail)
