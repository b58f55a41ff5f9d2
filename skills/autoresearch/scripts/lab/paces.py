"""The incumbent's loss curves, and which runs may be ended early beside them."""

from __future__ import annotations

import json
from typing import Any

from lab.campaign import Lab
from lab.early import HOPELESS, Point, terms_json
from lab.model import BASELINE, Experiment, Run

POINTS = 60  # kept of one curve
CURVES = 12  # the last of the incumbent's runs


def terms(lab: Lab, experiment: Experiment, run: Run) -> dict[str, Any] | None:
    """What a run's spec says of its early end; None for runs that are measured to the end whatever they show.

    The incumbent's own runs, confirmations and studies have their whole budget: their curves are what others
    are compared with, and half of a pair shows nothing.
    """
    state, mode = lab.state, lab.settings.early_stop
    if mode == "off" or run.role:
        return None
    if experiment.id in (BASELINE, state.incumbent_id):
        mode = "divergence"
    curves = _curves(lab) if mode == HOPELESS else []
    return terms_json(mode, lab.settings.seconds, run.nonce, curves)


def _curves(lab: Lab) -> list[list[Point]]:
    """What the supervisors of the incumbent's runs saw of the loss."""
    incumbent = lab.state.incumbent
    runs = incumbent.good_runs[incumbent.fresh_from :][-CURVES:] if incumbent else []
    curves = []
    for run in runs:
        try:
            result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
        except (OSError, ValueError):
            continue
        points = [(float(p), float(loss)) for p, loss in result.get("course") or []]
        step = max(1, -(-len(points) // POINTS))
        curves += [points[::step] + points[-1:]] if len(points) > 1 else []
    return curves
