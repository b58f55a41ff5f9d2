"""Turning knobs: sweep."""

from __future__ import annotations

import click

from lab import errors, lineup, searching, swept
from lab import sweeps as turning
from lab.campaign import Lab
from lab.errors import LabError
from lab.hyperband import PRUNERS
from lab.searching import SAMPLERS, Sweep
from verbs.shared import TRY_WAIT_SECONDS, Context, agent, next_step, verb


@verb()
@click.argument("knobs", nargs=-1)
@click.option(
    "--trials",
    type=click.IntRange(1, 1000),
    help=f"Points to measure, {turning.TRIALS} when not said; also of a sweep under way.",
)
@click.option("--sampler", type=click.Choice(SAMPLERS), help="How points are chosen; tpe when not said.")
@click.option(
    "--prune", type=click.Choice(PRUNERS), help="Whether trials far behind others of theirs end early."
)
@click.option("--list", "only_list", is_flag=True, help="Name the knobs and their ranges.")
@click.option("--importance", is_flag=True, help="Say which knobs of the last sweep matter.")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the result.")  # fmt: skip
def sweep(
    obj: Context, knobs: tuple[str, ...], trials: int | None, sampler: str | None, prune: str | None,
    only_list: bool, importance: bool, wait_seconds: float,
) -> None:  # fmt: skip
    """Search for better values of numeric constants, and let the best be judged

    A KNOB is a constant at the top of an edited file with its range beside it: `LR = 0.01  # range 1e-4..1e-1
    log`, `DEPTH = 2  # one of 2, 4, 8`, or in the yaml: sweep: {knobs: {LR: 1e-4..1e-1 log}}. Without KNOBS
    all of them. Each trial is an experiment that runs once and is never kept; the best 3 are then judged like
    any `try`, until one is kept. All of these count in the campaign's number of experiments. Called again it
    goes on waiting. Exits 124 when the wait ended first.

    \b
    sweep --list
    sweep LR WARM_UP --trials 30 --prune hyperband
    sweep --importance
    """
    lab = Lab.find(obj.folder)
    if only_list:
        _say_knobs(obj, lab)
    elif importance:
        _say_importance(obj, lab)
    else:
        with agent(lab, "sweep"):
            with lab.changing("sweep"):
                made = turning.propose_sweep(lab, knobs, trials, sampler, prune)
            answer_sweep(obj, lab, str(made["sweep"]), wait_seconds)


def _say_knobs(obj: Context, lab: Lab) -> None:
    lab.read()
    rows = turning.found(lab)
    lines = [f"{one.name} = {one.value}  {knob.words}  ({path}:{one.line})" for path, one, knob in rows]
    fields = [
        {"name": one.name, "now": one.value, "range": knob.words, "file": path, "line": one.line}
        for path, one, knob in rows
    ]
    obj.say(lines or ["no constant says its range; `sweep --help` shows how"], {"knobs": fields})


def _say_importance(obj: Context, lab: Lab) -> None:
    state = lab.read()
    if not state.sweeps:
        raise LabError("no sweep was made yet", "`sweep` makes one")
    last: Sweep = list(state.sweeps.values())[-1]
    measured = [e for e in searching.trials(state, last) if e.metric is not None]
    if len(measured) < turning.TRIALS_TO_WEIGH:
        raise LabError(
            f"{last['sweep']} has {len(measured)} numbers, too few to tell knobs apart",
            f"ask again after {turning.TRIALS_TO_WEIGH}",
        )
    shares = searching.importance(state, last, lab.settings.goal)
    fields = {"sweep": last["sweep"], "importance": shares, "trials": len(measured)}
    obj.say([f"{last['sweep']}, {len(measured)} trials", *swept.important(shares)], fields)


def answer_sweep(obj: Context, lab: Lab, identity: str, seconds: float) -> None:
    """Wait for the result and say what is known; exit 124 when the time ended first."""
    from lab import loop

    loop.wait_until(lab, lambda state: bool(state.sweeps[identity]["ended"]), seconds)
    state, goal = lab.state, lab.settings.goal
    made: Sweep = state.sweeps[identity]
    if state.stopped and not made["ended"] and not state.going and seconds > 0:
        raise LabError(
            f"{identity} waits, the campaign is stopped: {state.stopped}", "mend that, then `resume`"
        )
    lines = swept.lines(state, made, goal)
    if lab.width > 1:  # its own trials have just been told
        lines += lineup.meanwhile_lines(lab, [e for e in lineup.meanwhile(lab) if e.sweep != identity])
    lines += [*(f"note: {notice}" for notice in lab.notices), f"next: {next_step(lab)}"]
    obj.say(lines, {**swept.as_json(state, made, goal), "notices": lab.notices, "next": next_step(lab)})
    if not made["ended"] and seconds > 0:
        raise SystemExit(errors.WAIT_ENDED)
