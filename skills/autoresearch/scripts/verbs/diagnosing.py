"""Finding out why: diagnose, health, verify-metric."""

from __future__ import annotations

import click

from lab import diagnosis
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import Experiment
from verbs.shared import Context, verb


@verb()
@click.argument("experiment", required=False)
def diagnose(obj: Context, experiment: str | None) -> None:
    """Say what is odd about an experiment, the likeliest causes, and the cheapest test of each

    Reads the curves of its run (any `name value` pairs of its log, or curve.jsonl), how it ended, the run it
    was judged against and the other experiments. Without EXPERIMENT the newest one with a run.
    """
    lab = Lab.find(obj.folder)
    lab.read()
    found = diagnosis.look(lab, experiment)
    obj.say(diagnosis.lines(found), diagnosis.as_json(found))


MODEL_HELP = "Function that gives the model: file.py:function; else `probe:` in the yaml, else our train.py."


@verb()
@click.argument("experiment", default="best")
@click.option("--model", help=MODEL_HELP)
@click.option("--steps", type=click.IntRange(1, 1000), default=8, show_default=True, help="Training steps.")
@click.option("--seconds", type=click.FloatRange(1), default=300, show_default=True, help="End of the probe.")
def health(obj: Context, experiment: str, model: str | None, steps: int, seconds: float) -> None:
    """Say which parts of an experiment's model are dead, frozen, unused, exploding or saturated

    Trains its code for a few steps in the project's own Python; records nothing. JAX and Flax code is read
    instead: arguments that must be static, init against apply, switches in jit, random keys used twice.
    """
    from lab import probing

    lab, found = _experiment(obj, experiment)
    result = probing.health(lab, found, model, steps, seconds)
    obj.say(probing.health_lines(result), result)


@verb("verify-metric")
@click.argument("experiment", default="best")
@click.option("--model", help=MODEL_HELP)
@click.option("--steps", type=click.IntRange(0, 10_000), default=60, show_default=True,
              help="Training steps before the checks, so that the model knows something.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=300, show_default=True, help="End of the probe.")
def verify_metric(obj: Context, experiment: str, model: str | None, steps: int, seconds: float) -> None:
    """Check that the metric measures what it should: labels, leaks, the future, repetition, batch size

    What a check would need and does not get is named as `not checked`. `doctor` tells the last result.
    Exits 4 when a check failed.
    """
    from lab import probing

    lab, found = _experiment(obj, experiment)
    result = probing.verify(lab, found, model, steps, seconds)
    obj.say(probing.verify_lines(result), {**result, "failed": probing.failed(result)})
    if probing.failed(result):
        raise SystemExit(4)


def _experiment(obj: Context, name: str) -> tuple[Lab, Experiment]:
    lab = Lab.find(obj.folder)
    state = lab.read()
    if not state.experiments and name in ("best", "e000"):
        from lab import groundwork

        return lab, groundwork.start(lab)  # the ruler can be tested before anything is measured with it
    if not state.experiments:
        raise LabError("there is no experiment yet", "`baseline` first")
    return lab, state.get("e000" if name == "best" and not state.incumbent else name)
