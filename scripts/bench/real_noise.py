"""What the recorded runs say about the noise of a real metric: spread, shape, pairing, drift, load.

Standard library only. `Recorded` is the table everything else reads: variant and seed to val_bpb.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from real_runs import SEEDS, Run
from real_variants import VARIANTS

LATE = "base, late"  # the second recording of the unchanged code
KINDS = {variant.name: variant.kind for variant in VARIANTS} | {LATE: "null"}
EQUAL = tuple(name for name, kind in KINDS.items() if kind in ("base", "null"))
OTHERS = tuple(name for name in KINDS if name not in EQUAL)

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> val_bpb


def table(runs: Iterable[Run]) -> dict[str, dict[int, float]]:
    """The finite values on the seeds that every variant has run on."""
    values: dict[str, dict[int, float]] = {}
    for run in runs:
        if run.val_bpb is not None and run.seed in SEEDS:
            values.setdefault(name_of(run), {})[run.seed] = run.val_bpb
    common = set.intersection(*(set(seeds) for seeds in values.values()))
    return {name: {seed: value[seed] for seed in sorted(common)} for name, value in values.items()}


def name_of(run: Run) -> str:
    return LATE if run.part == "late" else run.variant


# --- truth ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """`gain` over the equal codes, positive is better; `error`: its standard error over seeds."""

    gain: float
    error: float


def truths(values: Values) -> dict[str, Truth]:
    """Paired by seed against the mean of all equal codes; a null edit's true gain is 0 by construction."""
    equal = [name for name in EQUAL if name in values]
    found = {}
    for name, own in values.items():
        others = [other for other in equal if other != name]
        differences = [fmean(values[other][seed] for other in others) - own[seed] for seed in own]
        found[name] = Truth(fmean(differences), stdev(differences) / math.sqrt(len(differences)))
    return found


# --- spread and shape -------------------------------------------------------------------------------


def sigma(values: Values, names: Iterable[str]) -> float:
    """Standard deviation over the seeds of one code, pooled over the named ones."""
    return math.sqrt(fmean(stdev(values[name].values()) ** 2 for name in names))


def residuals(values: Values) -> dict[tuple[str, int], float]:
    """What neither the variant nor the seed explains: additive two-way model, freed of its lost degrees."""
    seeds = list(next(iter(values.values())))
    by_variant = {name: fmean(own.values()) for name, own in values.items()}
    by_seed = {seed: fmean(own[seed] for own in values.values()) for seed in seeds}
    grand = fmean(by_variant.values())
    rows, columns = len(values), len(seeds)
    stretch = math.sqrt(rows * columns / ((rows - 1) * (columns - 1)))
    return {
        (name, seed): stretch * (own[seed] - by_variant[name] - by_seed[seed] + grand)
        for name, own in values.items()
        for seed in seeds
    }


def standardised(values: Values) -> list[float]:
    """Each run's distance from its variant's mean, in standard deviations of its variant."""
    groups = [list(own.values()) for own in values.values()]
    return [(x - fmean(group)) / stdev(group) for group in groups for x in group]


def skew(sample: Sequence[float]) -> float:
    return _moment(sample, 3) / _moment(sample, 2) ** 1.5


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
