"""Signs that only several runs of a campaign show: nothing moves, the rankings disagree, all crash alike."""

from __future__ import annotations

from collections import Counter

from lab.diagnose.descent import figure
from lab.diagnose.seen import FEW, Ran, Seen, Sign
from lab.diagnose.shapes import finite, spearman, tail

ALIKE = 3  # experiments
RANKED = 5


def all_same(seen: Seen) -> Sign | None:
    """The same metric, to the last digit, from different code on the same seed."""
    runs = _distinct(seen)
    groups = Counter((run.seed, run.metric) for run in runs if run.metric is not None)
    if not groups:
        return None
    (_, value), count = groups.most_common(1)[0]
    if count < ALIKE or count < 0.6 * len(runs):
        return None
    names = ", ".join(run.id for run in runs if run.metric == value)
    said = f"{count} different candidates have {seen.metric} {value:.10g}, to the last digit: {names[:120]}"
    return Sign("all the same", said, (("change_unreached", 0.9), ("stale_metric", 0.5), ("frozen", 0.3)))


def rankings_disagree(seen: Seen) -> Sign | None:
    """What is best on the training data is worst on the validation data."""
    runs = [r for r in _distinct(seen) if r.metric is not None and len(finite(r.loss)) >= FEW]
    if len(runs) < RANKED:
        return None
    sign = 1 if seen.goal == "min" else -1
    badness = [sign * run.metric for run in runs if run.metric is not None]
    agree = spearman([tail(finite(run.loss).y) for run in runs], badness)
    if agree > -0.5:
        return None
    said = f"over {len(runs)} experiments the lower training loss has the worse {seen.metric} "
    said += f"(rank correlation {figure(agree)})"
    return Sign("rankings disagree", said, (("overfit", 0.93), ("data_repeated", 0.3), ("labels_wrong", 0.1)))


def crash_alike(seen: Seen) -> Sign | None:
    """Different candidates that end with the same error."""
    ends = [run for run in _distinct(seen) if run.outcome not in ("ok", "not_finite")]
    groups = Counter((run.outcome, run.detail) for run in ends)
    if not groups:
        return None
    (outcome, detail), count = groups.most_common(1)[0]
    if count < ALIKE:
        return None
    names = ", ".join(run.id for run in ends if (run.outcome, run.detail) == (outcome, detail))
    said = f"{count} different candidates end alike ({names[:120]}): {outcome} {detail}"
    return Sign("crashes alike", said, (("environment", 0.95),))


def within_noise(seen: Seen) -> Sign | None:
    """No candidate moved the metric by more than two runs of the same code differ."""
    runs = [run for run in _distinct(seen) if run.metric is not None]
    base = seen.best.metric if seen.best else None
    if not seen.sigma or base is None or len(runs) < RANKED:
        return None
    moved = [abs(run.metric - base) for run in runs if run.metric is not None and not run.same_code]
    if len(moved) < RANKED or max(moved) > 2 * seen.sigma:
        return None
    said = f"{len(moved)} candidates are all within 2 x {figure(seen.sigma)}, the noise between equal runs"
    return Sign("within noise", said, (("noise_large", 0.8), ("change_unreached", 0.3)))


def _distinct(seen: Seen) -> list[Ran]:
    """One run of each experiment."""
    return list({run.id.split(".")[0]: run for run in (*seen.others, seen.run)}.values())
