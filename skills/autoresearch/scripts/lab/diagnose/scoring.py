"""Signs in the metric: it stands still, moves the wrong way, is too good, or is the training data's."""

from __future__ import annotations

import math

from lab.course import Series
from lab.diagnose.descent import figure, repeated
from lab.diagnose.seen import FEW, LOSSES, SCORES, Seen, Sign, words
from lab.diagnose.shapes import at, finite, head, spearman, tail

TOO_GOOD = 0.5  # of the compared run's loss or error: less than that in one step is no ordinary gain


def stale(seen: Seen) -> Sign | None:
    """The same metric at each evaluation while the model learns."""
    score, loss = seen.score, finite(seen.run.loss).y
    if len(score) < 4 or len(loss) < FEW or len({f"{y:.4g}" for y in score.y}) > 1:
        return None
    if abs(score.y[0]) in (0.0, 1.0) or head(loss) - tail(loss) < 0.05 * abs(head(loss)):
        return None
    said = (
        f"{seen.metric} is {figure(score.y[0])} at each of {len(score)} evaluations, while the training loss "
    )
    said += f"falls from {figure(head(loss))} to {figure(tail(loss))}"
    return Sign("stale", said, (("stale_metric", 0.95), ("frozen", 0.3)))


def wrong_way(seen: Seen) -> Sign | None:
    """A metric that gets worse while both losses get better, or whose name says the other direction."""
    score, loss = finite(seen.score), finite(seen.run.loss)
    said_by_name = _named_otherwise(seen)
    if len(score) < 4 or len(loss) < FEW:
        return Sign("direction", said_by_name, (("polarity", 0.6),)) if said_by_name else None
    loss_at = [at(loss, x) for x in score.x]
    sign = -1.0 if seen.goal == "min" else 1.0
    good = [sign * y for y in score.y]
    learned = head(loss.y) - tail(loss.y) > 0.05 * abs(head(loss.y))
    if not learned:
        return None
    if words(seen.metric) & LOSSES and seen.goal == "min":
        # A validation loss may rise for other reasons; a negative one beside a positive loss has no other.
        if max(score.y) < 0 < min(loss.y):
            said = (
                f"{seen.metric} is negative ({figure(score.y[-1])}) and rises while the training loss falls"
            )
            return Sign("direction", said, (("polarity", 0.95),))
        return None
    val = finite(seen.run.val)
    others_fall = len(val) < 3 or val.y[-1] < 0.97 * val.y[0]
    moved = abs(score.y[-1] - score.y[0]) > 0.2 * max(abs(score.y[0]), abs(score.y[-1]))
    if others_fall and moved and good[-1] < good[0] and spearman([-v for v in loss_at], good) < -0.7:
        said = f"{seen.metric} goes from {figure(score.y[0])} to {figure(score.y[-1])}, which is worse by "
        said += f"goal: {seen.goal}, while the loss falls"
        return Sign("direction", said, (("polarity", 0.95), ("labels_wrong", 0.2)))
    return Sign("direction", said_by_name, (("polarity", 0.9),)) if said_by_name else None


def _named_otherwise(seen: Seen) -> str:
    named = words(seen.metric)
    if seen.goal == "min" and named & SCORES and not named & LOSSES:
        return f"{seen.metric} is a score by its name, and the goal is min"
    if seen.goal == "max" and named & LOSSES and not named & SCORES:
        return f"{seen.metric} is a loss by its name, and the goal is max"
    return ""


def too_good(seen: Seen) -> Sign | None:
    """A gain over the compared run that no single change brings."""
    mine, theirs = seen.run.metric, seen.best.metric if seen.best else None
    if mine is None or theirs is None or not seen.better(mine, theirs) or mine < 0 or theirs < 0:
        return None
    a, b = (mine, theirs) if seen.goal == "min" else (1 - mine, 1 - theirs)
    if seen.goal == "max" and not (theirs <= 1 and mine <= 1):  # not a share: only a leap says something
        a, b = theirs, mine
    if a > TOO_GOOD * b:
        return None
    said = f"{seen.metric} is {figure(mine)}, the compared run's {figure(theirs)}: too much for one change"
    if repeated(seen):
        causes = (("val_is_train", 0.9), ("leak", 0.6))
        return Sign("too good", f"{said}; and {seen.run.epochs:g} epochs leave no gap to new data", causes)
    return Sign("too good", said, (("leak", 0.85), ("val_is_train", 0.5)))


def same_as_training(seen: Seen) -> Sign | None:
    """A validation loss that is the training loss, digit for digit or closer than two samples can be."""
    loss, val = finite(seen.run.loss), finite(seen.run.val)
    if len(loss) < FEW or len(val) < 3:
        return None
    pairs = [(at(loss, x), y) for x, y in zip(val.x, val.y, strict=True)]
    if len({y for _, y in pairs}) > 2 and all(math.isclose(a, b, rel_tol=1e-4) for a, b in pairs):
        said = f"validation and training loss are equal at all {len(pairs)} evaluations"
        return Sign("equal splits", said, (("val_is_train", 0.95),))
    if _no_gap(pairs) and repeated(seen):
        said = f"after {seen.run.epochs:g} epochs new data are no harder than those learned by heart: "
        said += f"{figure(pairs[-1][1])} against {figure(pairs[-1][0])}"
        return Sign("no gap", said, (("val_is_train", 0.9), ("leak", 0.4)))
    return None


def _no_gap(pairs: list[tuple[float, float]]) -> bool:
    late = pairs[len(pairs) // 2 :]
    return sum(b for _, b in late) < 1.05 * sum(a for a, _ in late)


def all_known(seen: Seen) -> Sign | None:
    """A perfect score on data that are noisy for the compared run."""
    score: Series = finite(seen.score)
    if len(score) < 3 or seen.goal != "max" or score.y[-1] < 0.9995 or score.y[-1] > 1:
        return None
    if seen.best is None or seen.best.metric is None or seen.best.metric > 0.98:
        return None
    said = f"{seen.metric} is {figure(score.y[-1])}: nothing is left to get wrong"
    return Sign("perfect", said, (("leak", 0.5), ("val_is_train", 0.5)))
