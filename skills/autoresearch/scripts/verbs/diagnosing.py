"""Finding out why: diagnose."""

from __future__ import annotations

import click

from lab import diagnosis
from lab.campaign import Lab
from verbs.shared import Context, verb


@verb()
@click.argument("experiment", required=False)
def diagnose(obj: Context, experiment: str | None) -> None:
    """Say what is odd about an experiment, the likeliest causes, and the cheapest test of each

    Reads the curves of its run (any `name value` pairs of its log, or curve.jsonl), how it ended, the run it was
    judged against and the other experiments. Without EXPERIMENT the newest one with a run.
    """
    lab = Lab.find(obj.folder)
    lab.read()
    found = diagnosis.look(lab, experiment)
    obj.say(diagnosis.lines(found), diagnosis.as_json(found))
