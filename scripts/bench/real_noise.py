"""What the recorded runs say about the noise of a real metric: spread, shape, pairing, drift, load.

Standard library only. `Recorded` is the table everything else reads: variant and seed to val_bpb.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from real_runs import SEEDS, Run
from real_variants import BASE, VARIANTS


def row(variant: str, part: str) -> str:
    """Name of a row of values; the late recording of a variant that has two is a row of its own."""
    return f"{variant}, late" if part == "late" and variant in TWICE else variant


TWICE = {variant.name for variant in VARIANTS if len(variant.parts) > 1}
ROWS = {row(variant.name, part): (variant, part) for variant in VARIANTS for part in variant.parts}
EQUAL = tuple(name for name, (variant, _) in ROWS.items() if variant.kind in ("base", "null"))
LATE = row(BASE, "late")

Values = Mapping[str, Mapping[int, float]]  # row -> seed -> val_bpb


def table(runs: Iterable[Run]) -> dict[str, dict[int, float]]:
    """The values of each row on the seeds that all rows have run on."""
    return column(runs, lambda run: run.val_bpb or math.nan)


def column(runs: Iterable[Run], of: Callable[[Run], float]) -> dict[str, dict[int, float]]:
    """A number of each finite run, by row, on the seeds that all rows have run on."""
    values: dict[str, dict[int, float]] = {}
    for run in runs:
        if run.val_bpb is not None and run.seed in SEEDS:
            values.setdefault(row(run.variant, run.part), {})[run.seed] = of(run)
    common = set.intersection(*(set(seeds) for seeds in values.values()))
    return {name: {seed: value[seed] for seed in sorted(common)} for name, value in values.items()}


def at_equal_work(runs: Sequence[Run]) -> dict[str, dict[int, float]]:
    """The values as if the machine had been equally free for every run.

    Takes out what the log of the steps explains (least squares within row and seed); the steps that a code
    itself costs or saves, against the equal codes of its part, stay in.
    """
    values, work = table(runs), column(runs, log_steps)
    slope = line(list(residuals(work).values()), list(residuals(values).values())).slope
    means = {name: fmean(own.values()) for name, own in work.items()}
    usual = {
        name: 0.0 if name in EQUAL else means[name] - fmean(means[e] for e in equal_to(name, means))
        for name in work
    }
    common = fmean(means[name] for name in means if name in EQUAL)
    return {
        name: {seed: value - slope * (work[name][seed] - common - usual[name]) for seed, value in own.items()}
        for name, own in values.items()
    }


def log_steps(run: Run) -> float:
    return math.log(run.steps or 1)


def equal_to(name: str, values: Container[str]) -> list[str]:
    """The other rows recorded in the same part whose code does what the unchanged code does."""
    part = ROWS[name][1]
    return [other for other in EQUAL if other in values and other != name and ROWS[other][1] == part]


# --- truth ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """`gain` over the equal codes, positive is better; `error`: its standard error over seeds."""

    gain: float
    error: float


def truths(values: Values) -> dict[str, Truth]:
    """Paired by seed with the mean of the equal codes; a null edit's true gain is 0 by construction."""
    found = {}
    for name, own in values.items():
        equal = equal_to(name, values)
        differences = [fmean(values[other][seed] for other in equal) - own[seed] for seed in own]
        found[name] = Truth(fmean(differences), stdev(differences) / math.sqrt(len(differences)))
    return found


# --- spread and shape -------------------------------------------------------------------------------


def sigma(values: Values, names: Iterable[str]) -> float:
    """Standard deviation over the seeds of one code, pooled over the named ones."""
    return math.sqrt(fmean(stdev(values[name].values()) ** 2 for name in names))


def residuals(values: Values) -> dict[tuple[str, int], float]:
    """What neither row nor seed explains: additive two-way model, stretched for the degrees it takes."""
    seeds = list(next(iter(values.values())))
    by_row = {name: fmean(own.values()) for name, own in values.items()}
    by_seed = {seed: fmean(own[seed] for own in values.values()) for seed in seeds}
    grand = fmean(by_row.values())
    stretch = math.sqrt(len(values) * len(seeds) / ((len(values) - 1) * (len(seeds) - 1)))
    return {
        (name, seed): stretch * (own[seed] - by_row[name] - by_seed[seed] + grand)
        for name, own in values.items()
        for seed in seeds
    }


def seed_taken_out(values: Values, names: Sequence[str]) -> float:
    """Standard deviation of what is left of a run when its seed's share is known."""
    left = residuals({name: values[name] for name in names})
    return math.sqrt(fmean(x * x for x in left.values()))


def standardised(values: Values) -> list[float]:
    """Each run's distance from its row's mean, in standard deviations of its row."""
    groups = [list(own.values()) for own in values.values()]
    return [(x - fmean(group)) / stdev(group) for group in groups for x in group]


def skew(sample: Sequence[float]) -> float:
    return _moment(sample, 3) / math.sqrt(_moment(sample, 2)) ** 3


def excess_kurtosis(sample: Sequence[float]) -> float:
    """0 for a Gaussian."""
    return _moment(sample, 4) / _moment(sample, 2) ** 2 - 3


def _moment(sample: Sequence[float], order: int) -> float:
    centre = fmean(sample)
    return fmean((x - centre) ** order for x in sample)


# --- pairing, drift, load ---------------------------------------------------------------------------


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    x, y = fmean(a), fmean(b)
    both = math.fsum((p - x) * (q - y) for p, q in zip(a, b, strict=True))
    return both / math.sqrt(math.fsum((p - x) ** 2 for p in a) * math.fsum((q - y) ** 2 for q in b))


def same_seed(values: Values, one: str, other: str) -> float:
    """Correlation of two variants' values over the seeds."""
    seeds = list(values[one])
    return correlation([values[one][s] for s in seeds], [values[other][s] for s in seeds])


@dataclass(frozen=True)
class Line:
    """Least squares of `y` on `x`: slope with its standard error, and the correlation."""

    slope: float
    error: float
    r: float


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    centre = fmean(x)
    spread = math.fsum((a - centre) ** 2 for a in x)
    r = correlation(x, y)
    slope = r * math.sqrt(math.fsum((b - fmean(y)) ** 2 for b in y) / spread)
    left = (1 - r * r) * math.fsum((b - fmean(y)) ** 2 for b in y) / (len(x) - 2)
    return Line(slope, math.sqrt(left / spread), r)


def halves(values: Sequence[float]) -> tuple[float, float]:
    """Mean of the second half minus that of the first, and its standard error."""
    first, second = values[: len(values) // 2], values[len(values) // 2 :]
    error = math.sqrt(stdev(first) ** 2 / len(first) + stdev(second) ** 2 / len(second))
    return fmean(second) - fmean(first), error
