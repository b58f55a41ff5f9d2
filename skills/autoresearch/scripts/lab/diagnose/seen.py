"""What a diagnosis looks at: one run, the run it is compared with, and the others of the campaign."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from lab.course import Series

HELD = {"val", "valid", "validation", "eval", "test", "dev", "heldout", "cv"}
TRAIN = {"train", "training", "total", "tr"}
LOSSES = {
    "loss", "losses", "nll", "ce", "xent", "mse", "mae", "rmse", "bpb", "bpc", "ppl", "perplexity", "err",
    "error", "cost", "elbo", "objective",
}  # fmt: skip
SCORES = {"acc", "accuracy", "auc", "auroc", "ic", "f1", "r2", "bleu", "precision", "recall", "reward", "iou"}
RATES = {"lr", "rate", "learning"}
NORMS = {"norm", "gnorm", "gradnorm"}
MEMORY = {"mem", "memory", "rss", "vram"}
CLOCKS = {"seconds", "elapsed", "time", "wall", "sec"}
SPEEDS = {"tokens/s", "tok/s", "samples/s", "it/s", "steps/s", "tokens/sec", "it/sec", "samples/sec"}
CLASSES = ({"classes"}, {"num", "classes"}, {"n", "classes"}, {"vocab"}, {"vocab", "size"})
FEW = 8  # points that make a curve
EMPTY = Series((), ())


@dataclass(frozen=True)
class Ran:
    """One run: its curves, and its end as the supervisor saw it."""

    id: str
    course: dict[str, Series] = field(default_factory=dict)
    metric: float | None = None
    outcome: str = "ok"  # ok, or the class of its crash
    detail: str = ""
    seed: int | None = None
    same_code: bool = False  # as the run it is compared with

    def find(self, fits: Callable[[set[str]], bool], least: int = 1) -> Series:
        """The first series whose name's words fit, cleaned; an empty one when there is none."""
        for name, series in self.course.items():
            if len(series) >= least and fits(words(name)):
                return _once(series)
        return EMPTY

    @cached_property
    def loss(self) -> Series:
        """The training loss."""
        exact = self.course.get("loss") or self.course.get("train_loss")
        if exact and len(exact) >= FEW:
            return _once(exact)
        named = self.find(lambda w: bool(w & LOSSES) and bool(w & TRAIN) and not w & HELD, FEW)
        return named if len(named) else self.find(lambda w: bool(w & LOSSES) and not w & HELD, FEW)

    @cached_property
    def val(self) -> Series:
        """The loss on the validation split."""
        return self.find(lambda w: bool(w & LOSSES) and bool(w & HELD), 3)

    @cached_property
    def rate(self) -> Series:
        """The learning rate."""
        return self.find(lambda w: bool(w & RATES) and not w & (LOSSES | SCORES), 3)

    @cached_property
    def norm(self) -> Series:
        """The norm of the gradient."""
        return self.find(lambda w: bool(w & NORMS), 3)

    @cached_property
    def memory(self) -> Series:
        """Memory in use."""
        return self.find(lambda w: bool(w & MEMORY), 6)

    @cached_property
    def epochs(self) -> float | None:
        """How often the data were gone through, by the log's own counter."""
        series = self.find(lambda w: w in ({"epoch"}, {"epochs"}))
        return max((y for y in series.y if math.isfinite(y)), default=None)

    @cached_property
    def classes(self) -> int | None:
        """How many classes or tokens there are, when the log says it."""
        series = self.find(lambda w: w in CLASSES)
        return int(series.y[0]) if len(series) and 2 <= series.y[0] < 1e7 else None

    @cached_property
    def steps(self) -> float:
        """The last step seen."""
        return self.loss.x[-1] if len(self.loss) else 0.0

    @cached_property
    def step_times(self) -> Series:
        """Seconds for a step, between two lines of the log."""
        for name, series in self.course.items():
            if name.lower() in SPEEDS and len(series) >= FEW and all(y > 0 for y in series.y):
                return Series(series.x, tuple(1 / y for y in series.y))
        clock = self.find(lambda w: bool(w & CLOCKS), FEW)
        spans = [
            (x1, (y1 - y0) / (x1 - x0))
            for x0, x1, y0, y1 in zip(clock.x, clock.x[1:], clock.y, clock.y[1:], strict=False)
            if x1 > x0
        ]
        if len(spans) < FEW or any(not dt >= 0 for _, dt in spans):
            return EMPTY
        return Series(tuple(x for x, _ in spans), tuple(dt for _, dt in spans))


@dataclass(frozen=True)
class Seen:
    """All that a check may look at."""

    run: Ran
    metric: str
    goal: str  # min or max
    best: Ran | None = None  # the run it is compared with: the incumbent's, or the baseline's
    others: tuple[Ran, ...] = ()
    sigma: float | None = None  # noise between runs of the same code

    @cached_property
    def score(self) -> Series:
        """The metric in the course of the run."""
        found = self.run.course.get(self.metric)
        return _once(found) if found and len(found) >= 3 else EMPTY

    @property
    def chance(self) -> float | None:
        """The cross-entropy of a guess."""
        classes = self.run.classes or (self.best.classes if self.best else None)
        plain = words(self.metric) & {"mse", "mae", "rmse", "bpb", "r2"}
        return math.log(classes) if classes and not plain else None

    def better(self, a: float, b: float) -> bool:
        """Whether metric `a` is better than `b`."""
        return a < b if self.goal == "min" else a > b


@dataclass(frozen=True)
class Sign:
    """One odd thing, with its figures, and how much it speaks for each cause (0 to 1)."""

    name: str
    text: str
    causes: tuple[tuple[str, float], ...]


def words(name: str) -> set[str]:
    """The words of a name: `val/loss_total` has val, loss and total."""
    return {word for word in re.split(r"[^a-z0-9]+", name.lower()) if word}


def _once(series: Series) -> Series:
    """Without the repetition of the last value in the summary, where it has other digits."""
    if len(series) > 1 and series.x[-1] == series.x[-2]:
        a, b = series.y[-2:]
        if abs(a - b) <= 2e-3 * max(abs(a), abs(b), 1e-3):
            return Series(series.x[:-1], series.y[:-1])
    return series
