"""Evidence beyond the loop's own: confirm."""

from __future__ import annotations

import click

from lab import confirm as confirming
from lab import errors, proof
from lab.campaign import Lab
from lab.comparison import FIRST_LOOK
from lab.errors import LabError
from lab.model import Confirmation
from verbs.shared import TRY_WAIT_SECONDS, Context, agent, next_step, to_hand_over, verb


@verb()
@click.argument("experiment", required=False)
@click.option(
    "--pairs",
    type=click.IntRange(FIRST_LOOK, 100),
    help=f"Pairs of runs at most, {confirming.PAIRS} when not said; more adds to what was measured.",
)
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the result.")  # fmt: skip
def confirm(obj: Context, experiment: str | None, pairs: int | None, wait_seconds: float) -> None:
    """Measure an experiment against the baseline on fresh seeds: is the gain real?

    Without EXPERIMENT the incumbent. Both sides run in turns on seeds no run has had, 5 pairs and, when those
    decide nothing, up to --pairs; on the held-out split too, where `confirm:` in the yaml names one. Called
    again it goes on waiting, or says the result again. Exits 124 when the wait ended first.

    \b
    confirm
    confirm e012 --pairs 20
    """
    lab = Lab.find(obj.folder)
    with agent(lab, "confirm"):
        with lab.changing("confirm"):
            made = confirming.propose_confirmation(lab, experiment, pairs)
        answer_confirmation(obj, lab, made.id, wait_seconds)


def answer_confirmation(obj: Context, lab: Lab, identity: str, seconds: float) -> None:
    """Wait for the result and say what is known; exit 124 when the time ended first."""
    from lab import loop

    loop.wait_until(lab, lambda state: bool(state.confirmations[identity].verdict), seconds)
    state = lab.state
    found = state.confirmations[identity]
    if state.stopped and not found.verdict and not found.open_run and seconds > 0:
        raise LabError(
            f"{identity} waits, the campaign is stopped: {state.stopped}", "mend that, then `resume`"
        )
    lines = [*proof.lines(state, found), *_cost(lab, found)]
    lines += [f"note: {notice}" for notice in lab.notices]
    handed = [run for run in found.runs if run.outcome is None and run.request]
    lines += to_hand_over(lab, handed)
    lines.append(f"next: {next_step(lab)}")
    fields = proof.as_json(state, found)
    assert fields
    obj.say(lines, {**fields, "notices": lab.notices, "next": next_step(lab)})
    if not found.verdict and seconds > 0 and not handed:
        raise SystemExit(errors.WAIT_ENDED)


def _cost(lab: Lab, found: Confirmation) -> list[str]:
    """What is still to come at most, in runs and hours, while it is going."""
    took = [run.seconds for run in found.runs if run.counts and run.seconds is not None]
    left = 2 * found.pairs - len(took)
    if found.verdict or not took:
        return []
    return [f"at most {left} more runs, {left * sum(took) / len(took) / 3600:.1f} hours"]
