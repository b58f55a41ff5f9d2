"""What carries the result: ablate, isolate."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lab import errors, suggestions, weighed
from lab.campaign import Lab
from lab.documents.filling import fill
from lab.documents.kinds import KINDS
from lab.errors import LabError
from lab.isolating import Found
from lab.model import Study
from verbs.shared import TRY_WAIT_SECONDS, Context, agent, next_step, verb

PAIRS = click.option(
    "--pairs", type=click.IntRange(2, 100), help="Rounds at most, each variant once a round; 6 when not said."
)
RUNS = click.option("--runs", type=click.IntRange(2), help="Runs at most, of all variants together.")
WAIT = click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS,
                    show_default=True, help="Seconds to wait for the result.")  # fmt: skip


@verb()
@click.argument("keeps", nargs=-1)
@PAIRS
@RUNS
@WAIT
def ablate(
    obj: Context, keeps: tuple[str, ...], pairs: int | None, runs: int | None, wait_seconds: float
) -> None:
    """Measure the incumbent without each keep: which of them still carries weight?

    Every KEEP (all when none is named) is taken out alone and runs beside the incumbent on fresh seeds, in
    rounds; what is decided after 3 rounds runs no further. Nothing is kept, dropped or decided by it: a keep
    that is no longer needed becomes an idea. Called again it goes on waiting, or says the result again. Exits
    124 when the wait ended first.

    \b
    ablate --runs 24
    ablate e003 e007 --pairs 12
    """
    from lab import ablation

    lab = Lab.find(obj.folder)
    with agent(lab, "ablate"):
        with lab.changing("ablate"):
            made = ablation.propose(lab, keeps, pairs, runs)
        answer_study(obj, lab, made.id, wait_seconds)


@verb()
@click.argument("switches", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Name the switches found in the edited files.")
@PAIRS
@RUNS
@WAIT
def isolate(
    obj: Context, switches: tuple[str, ...], only_list: bool, pairs: int | None, runs: int | None,
    wait_seconds: float,
) -> None:  # fmt: skip
    """Measure what each switch does, alone and among the others

    A SWITCH is an option (`--use-x`, or `"--depth 8"`; write `--` before the first) or a constant of the
    edited files (`USE_X = False`, `use_x: bool = True` in a class). Each is turned alone with the others as
    they are, and all are turned with each in turn left as it is, on the same fresh seeds. Without names:
    every one that is found, 8 at most. Exits 124 when the wait ended first.

    \b
    isolate --list
    isolate USE_ROPE USE_QK_NORM --runs 30
    isolate -- --use-rope "--depth 8"
    """
    from lab import isolating

    lab = Lab.find(obj.folder)
    if only_list:
        lab.read()
        _say_switches(obj, isolating.found(lab))
        return
    with agent(lab, "isolate"):
        with lab.changing("isolate"):
            made = isolating.propose(lab, switches, pairs, runs)
        answer_study(obj, lab, made.id, wait_seconds)


def _say_switches(obj: Context, found: Sequence[Found]) -> None:
    rows = [
        {"name": o.name, "file": o.path, "kind": o.switch.kind, "default": o.switch.default} for o in found
    ]
    lines = [f"{len(rows)} switches in the edited files"]
    lines += [f"  {r['name']} ({r['kind']} of {r['file']}, {'on' if r['default'] else 'off'})" for r in rows]
    obj.say(lines, {"switches": rows})


def _follow(lab: Lab) -> list[str]:
    """Let the agenda and configuration_suggestions.md say what the study says; return what to tell."""
    told = suggestions.follow(lab)
    try:
        made = fill(lab, KINDS["suggestions"], next_step(lab), None, None)
    except (LabError, OSError) as error:  # a result does not wait for a page
        return [*told, f"no page of suggestions: {error}"]
    return [*told, f"suggestions: {made.path}"]


def answer_study(obj: Context, lab: Lab, identity: str, seconds: float) -> None:
    """Wait for the result and say what is known; exit 124 when the time ended first."""
    from lab import loop

    loop.wait_until(lab, lambda state: bool(state.studies[identity].verdict), seconds)
    state = lab.state
    study: Study = state.studies[identity]
    if state.stopped and not study.verdict and not study.open_run and seconds > 0:
        raise LabError(
            f"{identity} waits, the campaign is stopped: {state.stopped}", "mend that, then `resume`"
        )
    told = _follow(lab) if study.verdict else []
    lines = [*weighed.lines(study), *told, *(f"note: {notice}" for notice in lab.notices)]
    lines.append(f"next: {next_step(lab)}")
    fields = weighed.as_json(study)
    obj.say(lines, {**fields, "notices": lab.notices, "next": next_step(lab)})
    if not study.verdict and seconds > 0:
        raise SystemExit(errors.WAIT_ENDED)
