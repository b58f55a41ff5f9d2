"""Distributions by formula: normal, truncated normal and Student's t, from the standard library alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

FAR = 30.0  # standard deviations; beyond this the normal tail underflows and its asymptote is exact enough


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, exact where all values are equal."""
    return values[0] + math.fsum(x - values[0] for x in values) / len(values)


def normal_cdf(z: float) -> float:
    """P(Z <= z) for a standard normal Z."""
    return 0.5 * math.erfc(-z * 0.7071067811865476)


def normal_density(z: float) -> float:
    """Density of a standard normal at `z`; 0 where it underflows."""
    return 0.3989422804014327 * math.exp(-0.5 * z * z) if abs(z) < 38 else 0.0


def positive_part(mean: float, sd: float) -> tuple[float, float, float]:
    """P(X > 0) of X ~ N(mean, sd^2), then mean and variance of X given X > 0 (Johnson, Kotz: 10.1)."""
    z = mean / sd
    if z < -FAR:  # X given X > 0 is then exponential with the rate |mean| / sd^2
        scale = sd * sd / -mean
        return 0.0, scale, scale * scale
    share = normal_cdf(z)
    hazard = normal_density(z) / share
    return share, mean + sd * hazard, max(0.0, sd * sd * (1 - hazard * (hazard + z)))


def student_cdf(t: float, df: int) -> float:
    """P(T <= t) for Student's t with whole degrees of freedom (Abramowitz and Stegun, 26.7.3-4)."""
    if df > 300:
        return normal_cdf(t)
    theta = math.atan(t / math.sqrt(df))
    cosine2 = math.cos(theta) ** 2
    odd = df % 2
    term = total = 0.0
    if df > 1:
        term = total = math.cos(theta) if odd else 1.0
        for k in range(2 + odd, df - 1, 2):
            term *= cosine2 * (k - 1) / k
            total += term
    central = math.sin(theta) * total
    if odd:
        central = (theta + central) * 2 / math.pi
    return min(1.0, max(0.0, 0.5 * (1 + central)))


def student_quantile(p: float, df: int) -> float:
    """Give the t with P(T <= t) = p, by bisection, for 0 < p < 1."""
    low, high = -1.0, 1.0
    while student_cdf(low, df) > p and low > -1e9:
        low *= 4
    while student_cdf(high, df) < p and high < 1e9:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def normal_quantile(p: float) -> float:
    """Give the z with P(Z <= z) = p."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def median(numbers: Iterable[float]) -> float:
    """Give the middle one, or the mean of the two in the middle."""
    import statistics  # 5 ms, which the calls that need no median are spared

    return statistics.median(numbers)
