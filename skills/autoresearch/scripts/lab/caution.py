"""What the loop does when a guard speaks: measures the incumbent again, sets a run aside, stops.

Each step is journaled before it has an effect, and what was done is read from the runs, so that it can be cut
anywhere and taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab import guards, parallel
from lab.campaign import Lab
from lab.decide import Decision
from lab.launch import start
from lab.model import BASELINE, INCOMPARABLE, KILLS_ALLOWED, Experiment, Run
from lab.settle import give_verdict


def apart(lab: Lab, experiment: Experiment, run: Run, facts: Mapping[str, str]) -> str:
    """Say why a run of an experiment that ended well cannot be compared, or ""."""
    if run.role in ("confirm", "study"):  # their runs are compared with each other
        return ""
    state = lab.state
    reference = (state.incumbent or experiment).good_runs
    return guards.difference(reference[0].facts, facts) if reference else ""


def elsewhere(lab: Lab, run: Run, hardware: str) -> str:
    """Say that a run had another kind of hardware than what it would be compared with, or ""."""
    baseline = lab.state.baseline
    places = [place for place in (lab.state.incumbent, baseline) if place]
    known = next((r.hardware for place in places for r in place.good_runs if r.hardware), "")
    if not known or not hardware or known == hardware or run.request:
        return ""
    return f"it ran on {hardware}, what it is compared with on {known}: never compared with each other"


def look(lab: Lab, experiment: Experiment) -> bool | None:
    """Do what a guard asks for; None when none speaks, else whether the campaign moved."""
    odd = next((run for run in experiment.runs if _differs(run, experiment)), None)
    if odd:
        return _incomparable(lab, experiment, odd)
    incumbent = lab.state.incumbent
    places = [experiment] if incumbent in (None, experiment) else [experiment, incumbent]
    for place in places:
        assert place
        changed = next((run for run in place.runs if _differs(run, place)), None)
        if changed:
            return _stop(lab, place, changed)
        due = place is experiment or _not_yet(place, experiment)
        if due and _set_aside(lab, place):
            return True
    return None


def _not_yet(incumbent: Experiment, experiment: Experiment) -> bool:
    """Whether the incumbent's last run is one that the candidate will be paired with, and not an old one."""
    runs = incumbent.good_runs
    return bool(runs) and runs[-1].seed not in {run.seed for run in experiment.good_runs}


def _differs(run: Run, experiment: Experiment) -> bool:
    return run.outcome == INCOMPARABLE and run.commit == experiment.commit


def _incomparable(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Find out who changed what is measured: the candidate, or somebody outside."""
    incumbent = lab.state.incumbent
    if incumbent is None or experiment.id == BASELINE:
        return _stop(lab, experiment, run)
    probes = [r for r in incumbent.runs if r.side == run.id]
    if "prints no" in run.detail or any(r.counts for r in probes):
        return _crash(lab, experiment, run, incumbent, probes)
    changed = next((r for r in probes if r.outcome == INCOMPARABLE), None)
    if changed:
        return _stop(lab, incumbent, changed)
    killed = [r for r in probes if r.outcome == "killed"]
    if any(r.failed for r in probes) or len(killed) > KILLS_ALLOWED:
        return _crash(lab, experiment, run, incumbent, probes)
    return start(lab, incumbent, run.seed, beside=run.id)


def _crash(lab: Lab, experiment: Experiment, run: Run, incumbent: Experiment, probes: list[Run]) -> bool:
    """The candidate is to blame: its number means something else than the incumbent's."""
    again = next((r for r in probes if r.counts), None)
    seen = f"; {incumbent.id} run again beside it ({again.id}) is as it was" if again else ""
    reason = (
        f"incomparable: {run.detail}{seen}. The change alters what is measured, so its number says nothing: "
        f"leave data, tokenizer, preset and budget alone"
    )
    give_verdict(lab, experiment, "crash", reason)
    return True


def _stop(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Nobody's candidate is to blame: what is measured changed on this machine."""
    if lab.state.stopped:
        return False
    reason = (
        f"{run.id} of {experiment.id}, whose code did not change: {run.detail}. Nothing measured before can "
        "be compared: put it back and `resume`, or `finish` and `init` anew, to measure the baseline again"
    )
    lab.journal.append("stopped", reason=reason, by="guard")
    return False


def _set_aside(lab: Lab, experiment: Experiment) -> bool:
    """Let a run that another program slowed down be repeated, once for each seed."""
    runs = experiment.good_runs
    if not runs or (experiment.verdict and experiment.runs[-1] is not runs[-1]):
        return False
    return set_aside(lab, experiment.id, runs, experiment.runs)


def set_aside(lab: Lab, identity: str, good: Sequence[Run], runs: Sequence[Run]) -> bool:
    """Journal that the newest of `good`, all of one commit, is no evidence, once for each seed."""
    margin = lab.settings.throughput
    if margin == 0:
        return False
    if margin is None:
        margin = guards.usual_margin(lab.state.experiments.values())
    newest = good[-1]
    words = guards.disturbed([r for r in good if parallel.alike(r, newest)], margin)
    words = words or parallel.slowed(lab.state, newest, max(margin, guards.MARGIN))
    place = (newest.seed, newest.side, newest.pair)
    before = any(r.outcome == "contended" and (r.seed, r.side, r.pair) == place for r in runs)
    if not words or before:
        return False
    lab.journal.append("set_aside", experiment=identity, run=newest.id, reason=words)
    return True


def look_at_new(lab: Lab, runs: Sequence[Run], experiment: str = "") -> bool:
    """The same for runs side by side, those that ended since the last one began.

    They are of the experiment, or each of the one that its `side` names.
    """
    begun = max((run.began for run in runs), default=0)
    ended = sorted((run for run in runs if run.counts), key=lambda run: run.ended)
    for n, run in enumerate(ended):
        beside = [other for other in ended[: n + 1] if other.side == run.side]
        if run.ended > begun and set_aside(lab, experiment or run.side, beside, runs):
            return True
    return False


def second_look(lab: Lab, experiment: Experiment, decision: Decision) -> bool:
    """Whether a keep on a single run is too good to be believed before it runs on another seed."""
    if decision.action != "keep" or len(experiment.good_runs) > 1:
        return False
    metric = experiment.good_runs[0].metric
    return bool(guards.too_good(lab.state, experiment, metric, lab.settings.goal, decision.sigma))
