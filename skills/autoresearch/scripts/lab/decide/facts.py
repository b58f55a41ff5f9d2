"""What a verdict is given on, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lab.decide.belief import Belief

Runs = tuple[tuple[int | None, float], ...]  # (seed, metric) of each finished run


@dataclass(frozen=True)
class Facts:
    """What is known when a verdict is due; `added` and `removed` count lines of the diff."""

    goal: str  # min or max
    candidate: Runs
    incumbent: Runs  # in the order they ended; the first `belief.seen` of them are in the belief
    sigma: float | None  # pooled over every repeated commit, these two included
    sigma_n: int
    sigma_df: int
    baseline_metric: float
    added: int
    removed: int
    memory_gb: float | None = None
    incumbent_memory_gb: float | None = None
    max_runs: int | None = None  # None: as many as the mode allows
    confidence: float = 0.95  # of the interval
    min_effect: float | None = None  # smallest gain that counts, in units of the metric
    mode: str = "balanced"
    price: float | None = None  # gain asked for each net line, in units of the metric; None: 0.1 sigma
    constants: int = 0  # new ones in the diff
    candidate_sigma: float | None = None  # where the noise at the candidate's level is another
    belief: Belief | None = None  # of the incumbent; None: what its runs here tell
    next_seed: int | None = None  # of the candidate's next run
    incumbent_seed: int | None = None  # of the incumbent's next run ...
    incumbent_may: bool = False  # ... if it may be asked for one

    @property
    def sign(self) -> float:
        """What turns the metric into a loss."""
        return 1.0 if self.goal == "min" else -1.0

    @property
    def net(self) -> int:
        """Lines the code grows by."""
        return self.added - self.removed


@dataclass(frozen=True)
class Decision:
    """`p`: P(the candidate is better by at least its price); positive gains are better.

    `difference` is what the runs show, `gain` what is to be believed of it, `interval` of that gain.
    """

    action: str  # keep, discard or repeat
    reason: str
    p: float | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None
    sigma: float | None = None
    difference: float | None = None
    price: float | None = None
    side: str = "candidate"  # who runs next, when the action is `repeat`


def is_number(metric: float | None) -> bool:
    """Whether a metric is finite."""
    return metric is not None and math.isfinite(metric)


def unusable(facts: Facts) -> Decision | None:
    """The verdict where there is nothing to compare."""
    if not facts.candidate:
        return Decision("repeat", "The candidate has no finished run yet.")
    if not all(is_number(metric) for _, metric in facts.candidate):
        return Decision(
            "discard", "The metric of a run is not a finite number, which never counts as a gain."
        )
    if not facts.incumbent or not all(is_number(metric) for _, metric in facts.incumbent):
        return Decision("discard", "The incumbent has no finite measurement to compare with.")
    return None
