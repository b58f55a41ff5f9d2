"""Which results may be compared, which runs were disturbed, and what looks too odd to be believed at once.

Pure functions over runs and experiments. A guard refuses a comparison, asks for one more run or raises a flag
that people read; none of them turns a keep into a discard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from lab.decide.statistics import median
from lab.model import BASELINE, Experiment, Run, State

WHOLE = "comparison_key"  # names everything a comparison rests on; where it is printed, it decides alone
# What a run may print as `name: TEXT` about what it was measured on, and what it speaks of.
FACTS: dict[str, str] = {
    WHOLE: "data, tokenizer, preset or budget",
    "fingerprint": "the data",
    "data_fingerprint": "the data",
    "dataset_hash": "the data",
    "data_hash": "the data",
    "tokenizer_hash": "the tokenizer",
}
# What a run may print about the work it got done; under a budget of steps or tokens these are equal, and so
# no run is ever repeated there. Speeds come last: they also move where the metric cannot.
WORK = ("num_steps", "steps", "total_tokens", "total_tokens_M", "tokens", "tokens_per_second")
# By scripts/bench/throughput.py: on a busy machine repeating what lies 10 % low halves the metric's
# variance. On a quiet one 1 % of the steps is about the noise of the metric.
MARGIN = 0.10  # also while the campaign's own spread of the work is not known
MARGIN_LEAST = 0.02
MARGIN_SPREADS = 3.0  # standard deviations of the work between runs of one commit
SPREAD_DF = 4  # repeats from which that spread is believed
ALIKE = 3  # different candidates with the same number to the last bit
EFFECTS = 5  # judged candidates from which the size of an effect is known
UNBELIEVABLE = 6.0  # sigma
BOUNDS = {"min": (0.0,), "max": (1.0, 100.0)}


def difference(reference: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """Say in which fact two runs differ so that their metrics cannot be compared, or ""."""
    names = [WHOLE] if WHOLE in reference else [name for name in FACTS if name in reference]
    for name in names:
        if name not in facts:
            return f"it prints no {name}, which was {reference[name]}"
        if facts[name] != reference[name]:
            return f"{name} was {reference[name]} and is {facts[name]}: {FACTS[name]} changed"
    return ""


# -- throughput ----------------------------------------------------------------------------------------


def work_of(runs: Sequence[Run]) -> list[float] | None:
    """What each run got done, by the first word of `WORK` that all of them print."""
    for name in WORK:
        found = [run.values[name] for run in runs if run.values.get(name, 0.0) > 0]
        if runs and len(found) == len(runs):
            return found
    return None


def usual_margin(experiments: Iterable[Experiment]) -> float:
    """How far below its siblings a run's work may lie: 3 sd of the campaign's own repeats, 2 to 10 %.

    The sd is robust (1.4826 times the median deviation), so that the disturbed runs that are looked for do
    not widen it; deviations are scaled by sqrt(n / (n - 1)), as a group of two lies close to its own middle.
    """
    deviations = []
    df = 0
    for experiment in experiments:
        work = work_of(experiment.good_runs)
        if work and len(work) > 1:
            middle, scale = median(work), math.sqrt(len(work) / (len(work) - 1))
            deviations += [abs(x / middle - 1) * scale for x in work]
            df += len(work) - 1
    if df < SPREAD_DF:
        return MARGIN
    return min(MARGIN, max(MARGIN_LEAST, MARGIN_SPREADS * 1.4826 * median(deviations)))


def disturbed(runs: Sequence[Run], margin: float) -> str:
    """Say how much less work the newest of `runs`, all of one commit, got done than the others, or ""."""
    work = work_of(runs)
    if work is None or len(work) < 2:
        return ""
    usual = median(work[:-1])
    if work[-1] >= (1 - margin) * usual:
        return ""
    less = 100 * (1 - work[-1] / usual)
    return f"{runs[-1].id} did {less:.0f} % less work than the runs beside it ({work[-1]:g} for {usual:g})"


# -- flags ---------------------------------------------------------------------------------------------


def all_the_same(state: State) -> list[str]:
    """Of the last candidates the most whose first numbers are equal to the last bit, three or more."""
    groups: dict[float, dict[tuple[str, str], str]] = {}
    for e in reversed([*state.lately()]):
        if e.id != BASELINE and e.good_runs and e.verdict != "crash":
            groups.setdefault(e.good_runs[0].metric or 0.0, {}).setdefault((e.tree, e.args), e.id)
    largest = max(groups.values(), key=len, default={})
    return list(largest.values()) if len(largest) >= ALIKE else []


def too_good(
    state: State, experiment: Experiment, metric: float | None, goal: str, sigma: float | None
) -> str:
    """Say that a gain is 6 sigma beyond what this campaign's changes do, or "".

    Sigma here is the size of an effect, robustly (1.4826 times the median of what the others did), and the
    noise of a difference together; before five others were judged nobody knows what is usual. Effects are
    plain differences of means: what a judge believes of a failed idea is shrunk to almost nothing.
    """
    every = ((e, effect(state, e, e.metric, goal)) for e in state.experiments.values())
    others = [size for e, size in every if e is not experiment and size is not None]
    gain = effect(state, experiment, metric, goal)
    if gain is None or len(others) < EFFECTS:
        return ""
    usual = 1.4826 * median(map(abs, others))
    scale = math.sqrt(usual**2 + 2 * (sigma or 0.0) ** 2)
    if not scale or gain <= UNBELIEVABLE * scale:
        return ""
    return (
        f"too good to be true: {gain / scale:.0f} times what changes do here ({scale:.2g}); look at the diff"
    )


def effect(state: State, experiment: Experiment, metric: float | None, goal: str) -> float | None:
    """How much better than the incumbent of its time an experiment came out; None for the baseline."""
    against = state.experiments.get(experiment.against) or state.reference(experiment)
    if metric is None or against is None or against.metric is None or experiment.id == BASELINE:
        return None
    return metric - against.metric if goal == "max" else against.metric - metric


def at_bound(metric: float | None, goal: str) -> str:
    """Say that a metric is exactly what only a perfect model or a broken evaluation gives, or ""."""
    if metric is None or metric not in BOUNDS[goal]:
        return ""
    return f"the metric is exactly {metric:g}, its bound: does the evaluation still see the model's output?"


def flags(
    state: State,
    experiment: Experiment,
    metric: float | None,
    goal: str,
    sigma: float | None,
) -> list[str]:
    """What to look at before this experiment's number is believed."""
    alike = all_the_same(state)
    found = [too_good(state, experiment, metric, goal, sigma), at_bound(metric, goal)]
    if experiment.id in alike:
        found.append(alike_words(alike))
    margin = usual_margin(state.experiments.values())
    runs = experiment.good_runs
    found += [words for n in range(2, len(runs) + 1) if (words := disturbed(runs[:n], margin))]
    found += [disagreement(run) for run in runs] + [unverified(run) for run in runs]
    return [words for words in found if words]


OWN_TOLERANCE = 1e-3  # of the metric: what two devices may make of the same weights


def disagreement(run: Run) -> str:
    """Say that a training printed another number than the sealed evaluation found, or ""."""
    if run.own is None or run.metric is None or run.level not in ("L1", "L2"):
        return ""
    if abs(run.own - run.metric) <= max(1e-6, OWN_TOLERANCE * abs(run.metric)):
        return ""
    return f"{run.id} itself printed {run.own:g}, the evaluation of its export gave {run.metric:g}"


def unverified(run: Run) -> str:
    """Say that nothing but a log stands behind a run, or ""."""
    return (
        f"{run.id} came back as a bare log: nobody can say what code made it"
        if run.proof == "unverified"
        else ""
    )


def warnings(state: State) -> list[str]:
    """The flags that concern the campaign now: of the incumbent, and of its candidates together."""
    best = state.incumbent
    found = [f"{best.id}: {flag}" for flag in best.flags] if best else []
    alike = all_the_same(state)
    return [*found, *([alike_words(alike)] if alike else [])]


def alike_words(ids: Sequence[str]) -> str:
    """All the same, in words."""
    shown = ", ".join(ids[:6]) + (f" and {len(ids) - 6} more" if len(ids) > 6 else "")
    return f"all the same: {shown} differ and have the same number; the metric may not see the change"
