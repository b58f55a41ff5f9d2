"""The loss curves of the incumbent and of a sweep's trials, and which runs may be ended early beside them."""

from __future__ import annotations

import json
from typing import Any

from lab import hyperband
from lab.campaign import Lab
from lab.early import HOPELESS, Point, at, terms_json
from lab.hyperband import Rung
from lab.model import BASELINE, Experiment, Run

POINTS = 60  # kept of one curve
CURVES = 12  # the last of the incumbent's runs


def terms(lab: Lab, experiment: Experiment, run: Run) -> dict[str, Any] | None:
    """What a run's spec says of its early end; None for runs that are measured to the end whatever they show.

    The incumbent's own runs, confirmations and studies have their whole budget: their curves are what others
    are compared with, and half of a pair shows nothing.
    """
    state, mode = lab.state, lab.settings.early_stop
    rungs = _rungs(lab, experiment) if experiment.trial else []
    if run.role or (mode == "off" and not rungs):
        return None
    if experiment.id in (BASELINE, state.incumbent_id):
        mode = "divergence"
    curves = _curves(lab) if mode == HOPELESS else []
    return terms_json(mode, lab.settings.seconds, run.nonce, curves, rungs)


def _rungs(lab: Lab, trial: Experiment) -> list[Rung]:
    """Where a trial may end, beside those of its sweep and bracket that came so far."""
    sweep = trial.sweep
    if lab.state.sweeps[sweep].get("pruner", "none") == "none":
        return []
    trials = [e for e in lab.state.experiments.values() if e.sweep == sweep and e.trial]
    own = hyperband.bracket_of(sweep, trials.index(trial))
    others = [e for n, e in enumerate(trials) if e is not trial and hyperband.bracket_of(sweep, n) == own]
    courses = [_course(lab, e.runs[-1]) for e in others if e.runs]
    rungs = []
    for place in hyperband.places(own):
        losses = [loss for course in courses if (loss := at(course, place)) is not None]
        most = hyperband.limit(losses)
        rungs += [(place, most, len(losses))] if most is not None else []
    return rungs


def _curves(lab: Lab) -> list[list[Point]]:
    """What the supervisors of the incumbent's runs saw of the loss."""
    incumbent = lab.state.incumbent
    runs = incumbent.good_runs[incumbent.fresh_from :][-CURVES:] if incumbent else []
    curves = []
    for run in runs:
        points = _course(lab, run)
        step = max(1, -(-len(points) // POINTS))
        curves += [points[::step] + points[-1:]] if len(points) > 1 else []
    return curves


def _course(lab: Lab, run: Run) -> list[Point]:
    """What its supervisor saw of a run's loss; [] while it is at work."""
    try:
        result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
    except (OSError, ValueError):
        return []
    return [(float(p), float(loss)) for p, loss in result.get("course") or []]
