"""Plain measures of a curve: level, noise, trend, rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from lab.course import Series


def finite(series: Series) -> Series:
    """Up to the first value that is not finite."""
    for i, y in enumerate(series.y):
        if not math.isfinite(y):
            return Series(series.x[:i], series.y[:i])
    return series


def head(y: Sequence[float], share: float = 0.1) -> float:
    """The median of the first part."""
    return median(y[: max(1, round(share * len(y)))])


def tail(y: Sequence[float], share: float = 0.1) -> float:
    """The median of the last part."""
    return median(y[-max(1, round(share * len(y))) :])


def smooth(y: Sequence[float], width: int = 5) -> list[float]:
    """Moving medians."""
    half = width // 2
    return [median(y[max(0, i - half) : i + half + 1]) for i in range(len(y))]


def noise(y: Sequence[float]) -> float:
    """The standard deviation of a value around its neighbours, whatever the trend and the odd spike."""
    steps = [abs(c - 2 * b + a) for a, b, c in zip(y, y[1:], y[2:], strict=False)]
    return 1.4826 * median(steps) / math.sqrt(6) if steps else 0.0


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """The rank correlation; 0 where one side does not vary."""
    x, y = _ranks(a), _ranks(b)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    below = math.sqrt(sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y))
    return top / below if below else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, equal values sharing theirs."""
    order = sorted(values)
    return [(order.index(v) + len(order) - 1 - order[::-1].index(v)) / 2 for v in values]


def at(series: Series, x: float) -> float:
    """The value nearest to x."""
    return min(zip(series.x, series.y, strict=True), key=lambda p: abs(p[0] - x))[1]
