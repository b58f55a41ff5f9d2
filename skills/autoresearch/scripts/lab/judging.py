"""From the state of a campaign to the facts a verdict stands on, and back: what a verdict lets one believe.

Pure functions over state and settings, so that a journal replays every decision with the same numbers.
"""

from __future__ import annotations

from dataclasses import replace

from lab.campaign import FIRST_SEED, measured_noise
from lab.decide import (
    Belief,
    Facts,
    Trusted,
    as_json,
    from_json,
    opening,
    restarted,
    settle,
    student_quantile,
    surprise,
    trusted,
)
from lab.model import Experiment, Run, State
from lab.settings import Settings

SENTINEL_EVERY = 25  # verdicts without a run of the incumbent, after which it is measured again
WAVE_SLOTS, WAVE = 3, 8  # runs beside each other load the machine in more ways, so it is looked at oftener
DRIFT = 3.0  # sd; two runs in a row further off than this mean that the machine has changed ...
UNLIKELY = 0.995  # ... or than this quantile of Student's t, while the noise is little known
ATTEMPTS = 2  # of the incumbent on one seed


def value_of(run: Run) -> float:
    """The metric of a run that counts."""
    assert run.metric is not None  # good_runs holds finite numbers only
    return run.metric


def peak(experiment: Experiment) -> float | None:
    """The most memory that any run of it took."""
    return max((r.memory_gb for r in experiment.runs if r.memory_gb is not None), default=None)


def believed(state: State, incumbent: Experiment | None = None) -> Belief | None:
    """What is believed of the incumbent or a former one; None in a journal that did not write it."""
    former = incumbent is not None and incumbent.id != state.incumbent_id
    belief = state.left.get(incumbent.id) if incumbent and former else state.belief
    return from_json(belief) if belief else None


def facts_of(state: State, settings: Settings, experiment: Experiment) -> Facts:
    """Everything that a verdict is given on; the runs of a stale experiment count against its parent."""
    incumbent, baseline = state.reference(experiment) or experiment, state.baseline or experiment
    own = [value_of(r) for r in experiment.good_runs]
    known = measured_noise(state, incumbent.metric if state.stale(experiment) else None)
    level = sum(own) / len(own) if own else None
    seed = lacking(settings, incumbent)
    return Facts(
        goal=settings.goal,
        candidate=_runs(experiment),
        incumbent=_runs(incumbent),
        sigma=known.sigma,
        sigma_df=known.df,
        sigma_n=known.n,
        baseline_metric=baseline.metric if baseline.metric is not None else level or 0.0,
        added=experiment.added,
        removed=experiment.removed,
        memory_gb=peak(experiment),
        incumbent_memory_gb=incumbent.memory_gb,
        max_runs=settings.max_runs,
        confidence=settings.confidence,
        min_effect=settings.min_effect,
        mode=settings.decision_mode,
        price=settings.price,
        constants=experiment.constants,
        candidate_sigma=measured_noise(state, level).sigma,
        belief=believed(state, incumbent),
        next_seed=seed_of(settings, len(own)),
        incumbent_seed=seed,
        incumbent_may=seed is not None or not settings.seeded,
    )


def _runs(experiment: Experiment) -> tuple[tuple[int | None, float], ...]:
    return tuple((r.seed, value_of(r)) for r in experiment.good_runs[experiment.fresh_from :])


def seed_of(settings: Settings, index: int) -> int | None:
    """The seed of the run number `index` (from 0) of any candidate."""
    return FIRST_SEED + index if settings.seeded else None


def lacking(settings: Settings, incumbent: Experiment) -> int | None:
    """The first seed that the incumbent has not run on; one that failed it twice is left alone."""
    if not settings.seeded:
        return None
    for seed in range(FIRST_SEED, FIRST_SEED + len(incumbent.runs) + 1):
        runs = [run for run in incumbent.runs if run.seed == seed and run.commit == incumbent.commit]
        if not any(run.counts for run in runs) and len(runs) < ATTEMPTS:
            return seed
    return None


def belief_after(
    state: State, settings: Settings, experiment: Experiment, verdict: str
) -> dict[str, object] | None:
    """What the journal says of the incumbent after a verdict; None when nothing was learned."""
    if verdict == "crash" or not experiment.good_runs:
        return None
    if experiment is state.baseline or state.incumbent is None:
        return as_json(opening(_of_baseline(state, settings, experiment)))
    belief = settle(facts_of(state, settings, experiment), verdict)
    return as_json(belief) if belief else None


def _of_baseline(state: State, settings: Settings, baseline: Experiment) -> Facts:
    known = measured_noise(state)
    runs = _runs(baseline)
    level = sum(value for _, value in runs) / len(runs)
    return Facts(settings.goal, (), runs, known.sigma, known.n, known.df, level, 0, 0)


# --- drift ---------------------------------------------------------------------------------------------


def sentinel_due(state: State, slots: int = 1) -> bool:
    """Whether the incumbent has to be measured again because it has not run for long.

    With three slots or more that is once in every wave: as many verdicts as there are slots, `WAVE` at least.
    """
    every = SENTINEL_EVERY if slots < WAVE_SLOTS else min(max(slots, WAVE), SENTINEL_EVERY)
    return state.unchecked >= every and state.incumbent is not None


def off(state: State, settings: Settings) -> list[float]:
    """How far each run of the incumbent since the last verdict is off, in limits of what luck explains."""
    incumbent, belief = state.incumbent, believed(state)
    if incumbent is None or belief is None:
        return []
    facts = facts_of(state, settings, incumbent)
    fresh = facts.incumbent[belief.seen :]
    noise = _noise_without(state, facts, len(fresh))
    if noise.none or not noise.measured:
        return []
    limit = max(DRIFT, student_quantile(UNLIKELY, noise.df))
    return [surprise(belief, seed, facts.sign * metric, noise.sigma) / limit for seed, metric in fresh]


def _noise_without(state: State, facts: Facts, runs: int) -> Trusted:
    """The noise as it stood before the incumbent's last runs, which are in doubt."""
    known = measured_noise(state, leave=runs)
    return trusted(replace(facts, sigma=known.sigma, sigma_n=known.n, sigma_df=known.df))


def drift_of(state: State, settings: Settings) -> dict[str, object] | None:
    """The journal's record of a jump of the machine, when two runs in a row agree on it."""
    incumbent, belief, seen = state.incumbent, believed(state), off(state, settings)
    if incumbent is None or belief is None or len(seen) < 2 or not _agree(seen[-2], seen[-1]):
        return None
    facts = facts_of(state, settings, incumbent)
    fresh = facts.incumbent[-2:]
    losses = [(seed, facts.sign * metric) for seed, metric in fresh]
    belief = restarted(belief, losses, _noise_without(state, facts, len(fresh)).sigma)
    return {
        "experiment": incumbent.id,
        "fresh_from": len(incumbent.good_runs) - len(fresh),
        "belief": as_json(belief),
    }


def suspicious(state: State, settings: Settings) -> bool:
    """Whether the incumbent's last run is so far off that another has to tell luck from drift."""
    seen = off(state, settings)
    return bool(seen) and abs(seen[-1]) > 1 and not (len(seen) > 1 and _agree(seen[-2], seen[-1]))


def _agree(one: float, other: float) -> bool:
    return abs(one) > 1 and abs(other) > 1 and one * other > 0
