"""Beginning and measuring: init, doctor, baseline, try, wait."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lab import errors, lineup, loop, propose, settle
from lab.campaign import Lab
from lab.errors import LabError
from lab.grammars import GOALS, MOST_SLOTS
from lab.model import BASELINE
from lab.settings import FILE_NAME, TAG
from lab.values import seconds_of
from verbs.shared import TRY_WAIT_SECONDS, WAIT_SECONDS, Context, agent, answer, next_step, verb


@verb()
@click.option("--tag", required=True, help="Name of the campaign; the branch is autoresearch/TAG.")
@click.option("--command", help="The training command, run in an export of the candidate commit.")
@click.option("--metric", help="Name of the number as the program prints it: `name: value`.")
@click.option("--goal", type=click.Choice(list(GOALS)), help="Whether the metric should fall or rise.")
@click.option("--edit", multiple=True, help="File, folder or glob a candidate may change (repeatable).")
@click.option("--protect", multiple=True, help="File or glob no run may change (repeatable).")
@click.option("--share", multiple=True, help="Git-ignored path that runs see by link (repeatable).")
@click.option("--budget", help="The program's own budget for one run: 300, 90s, 5m.")
@click.option("--experiments", type=click.IntRange(1),
              help="End of the campaign: number of experiments, those of sweeps among them.")  # fmt: skip
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="End of the campaign: hours from now.")
@click.option("--slots", type=click.IntRange(1, MOST_SLOTS),
              help="How many runs go at once; one on each GPU when not said.")  # fmt: skip
@click.option("--mode", type=click.Choice(["autonomous", "collaborative"]),
              help="Who runs: this machine, or a person who gets requests.")  # fmt: skip
@click.option("--leave-out", is_flag=True, help="Uncommitted changes elsewhere are the user's and stay.")
def init(
    obj: Context, tag: str, command: str | None, metric: str | None, goal: str | None, edit: tuple[str, ...],
    protect: tuple[str, ...], share: tuple[str, ...], budget: str | None, experiments: int | None,
    hours: float | None, slots: int | None, mode: str | None, leave_out: bool,
) -> None:  # fmt: skip
    """Begin a campaign: write autoresearch.yaml, make the branch autoresearch/TAG

    What no flag says is read from train.py and prepare.py. An autoresearch.yaml that exists is used as it is.

    \b
    init --tag nov21
    init --tag nov21 --command "python fit.py" --metric val_acc --goal max --edit fit.py --budget 5m
    """
    from lab import setup
    from lab.detect import Wishes

    if not TAG.fullmatch(tag) or ".." in tag or tag.endswith((".lock", ".")):
        raise LabError(f"--tag is {tag!r}", "use a to z, 0 to 9, dot, dash: nov21", errors.USAGE)
    seconds = seconds_of(budget) if budget else None
    if budget and not seconds:
        raise LabError(f"--budget is {budget!r}", "write seconds, or 90s, 5m, 1h30m", errors.USAGE)
    wanted = GOALS[goal] if goal else None
    wishes = Wishes(command, metric, wanted, edit, protect, share, seconds, experiments, hours, mode, slots)
    lab = Lab(Path(os.path.realpath(obj.folder)))
    with agent(lab, "init"):
        told = setup.begin(lab, tag, wishes, leave_out)
    settings, state = lab.settings, lab.state
    obj.say(
        [
            f"campaign {tag} on branch {state.branch} at {state.base[:7]}",
            f"{settings.aim}; `{settings.command}`; {settings.seconds:g} s a run, "
            f"ended at {settings.kill_after:g} s",
            f"edit: {', '.join(settings.edit)}   protect: {', '.join(settings.protect) or 'nothing'}",
            f"share: {', '.join(settings.share) or 'nothing'}   "
            f"seed: {settings.seed_env or settings.seed_arg or 'none'}",
            *told,
            "next: `doctor`, then `baseline`",
        ],
        {"campaign": tag, "branch": state.branch, "base": state.base, "config": str(lab.root / FILE_NAME)},
    )


@verb()
@click.option("--permissions", is_flag=True, help="Print what each agent program must be allowed instead.")
def doctor(obj: Context, permissions: bool) -> None:
    """Check everything that could spoil a night, each with its fix

    Exits 4 when something must be mended.
    """
    from lab.doctor import examine

    lab = _lab_or_folder(obj)
    if permissions:
        from verbs.driving import say_permissions

        say_permissions(obj, lab)
        return
    findings = examine(lab)
    bad = [f for f in findings if f.ok is False]
    lines = [
        f"{_mark(f.ok)} {f.name}: {f.text}" + (f"\n      fix: {f.fix}" if f.fix else "") for f in findings
    ]
    if not lab.state.tag:
        follow = "`init --tag TAG`, then `doctor`"
    else:
        follow = "the fixes, then `doctor`" if bad else next_step(lab)
    lines += [f"{len(bad)} to mend" if bad else "all good", f"next: {follow}"]
    obj.say(lines, {"ok": not bad, "checks": [vars(f) for f in findings], "next": follow})
    if bad:
        raise SystemExit(errors.PRECONDITION)


def _mark(ok: bool | None) -> str:
    return {True: "ok  ", False: "MEND", None: "    "}[ok]


def _lab_or_folder(obj: Context) -> Lab:
    try:
        lab = Lab.find(obj.folder)
    except LabError:
        lab = Lab(Path(os.path.realpath(obj.folder)))
    lab.read()
    return lab


@verb()
@click.option(
    "--repeats", type=click.IntRange(1, 20), help="Runs of the unchanged code (3 when a run is short)."
)
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the end.")  # fmt: skip
def baseline(obj: Context, repeats: int | None, wait_seconds: float) -> None:
    """Measure the unchanged code as e000; repeats give the noise between runs

    Called again with more --repeats it adds runs. Exits 124 while runs are still going: `wait` then.
    """
    lab = Lab.find(obj.folder)
    with agent(lab, "baseline"):
        with lab.changing("baseline"):
            settle.catch_up(lab)
            propose.propose_baseline(lab, repeats)
        answer(obj, lab, BASELINE, wait_seconds)


@verb("try")
@click.argument("hypothesis")
@click.option("--because", default="", help="Why it should help.")
@click.option("--expect", default="", help="What you expect, written before the run.")
@click.option("--idea", default="", help="Id of the idea this tests.")
@click.option("--args", "arguments", help="Extra arguments for the command; by default the incumbent's.")
@click.option("--retry-of", default="", help="The crashed experiment that this mends.")
@click.option(
    "--leave-out", is_flag=True, help="Other edits in the tree are the user's: measure without them."
)
@click.option("--again", is_flag=True, help="Measure a candidate that was tried before.")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), help="Seconds to wait for the verdict "
              f"(default {TRY_WAIT_SECONDS}; with several slots 0).")  # fmt: skip
def try_(
    obj: Context, hypothesis: str, because: str, expect: str, idea: str, arguments: str | None, retry_of: str,
    leave_out: bool, again: bool, wait_seconds: float | None,
) -> None:  # fmt: skip
    """Measure the working tree's change as a candidate and keep or discard it

    The change in the files of `edit:` becomes a commit, the working tree shows the incumbent again, and the
    candidate runs on its own. Exits 0 with a verdict, 124 while it still runs. With several slots it exits 0
    as soon as the candidate runs or is queued.

    \b
    try "raise the learning rate to 0.04" --because "loss still falls at the end" --expect "-0.01"
    """
    import shlex

    if not hypothesis.strip():
        raise LabError("the hypothesis is empty", 'say what should happen: try "wider MLP"', errors.USAGE)
    try:
        shlex.split(arguments or "")
    except ValueError as error:
        raise LabError(f"--args is {arguments!r} ({error})", "close every quote", errors.USAGE) from error
    words = {"because": because, "expect": expect, "idea": idea, "retry_of": retry_of}
    if arguments is not None:
        words["args"] = arguments
    lab = Lab.find(obj.folder)
    with agent(lab, "try"):
        with lab.changing("try"):
            loop.advance(lab)
            experiment = propose.propose(lab, hypothesis, words, leave_out, again)
        if wait_seconds is None:
            wait_seconds = TRY_WAIT_SECONDS if lab.width == 1 else 0
        answer(obj, lab, experiment.id, wait_seconds)


@verb()
@click.argument("experiment", required=False)
@click.option("--max", "limit", type=click.FloatRange(0), default=WAIT_SECONDS, show_default=True,
              help="Seconds to wait at most.")  # fmt: skip
def wait(obj: Context, experiment: str | None, limit: float) -> None:
    """Wait for a verdict: of EXPERIMENT (or a confirmation, c1, or a study, a1), or of the oldest one without

    Exits 0 with a verdict, 124 when the time ended first. Harmless to repeat, and to interrupt.
    """
    lab = Lab.find(obj.folder)
    state = lab.read()
    pending = next(state.open(), None)
    if experiment is None and pending is None and not state.experiments:
        raise LabError("there is nothing to wait for", "`baseline` or `try` starts something")
    confirming = state.confirming.id if state.confirming and not (pending and pending.runs) else None
    confirmation = confirming if experiment is None else experiment
    if confirmation in state.confirmations:
        from verbs.evidence import answer_confirmation

        answer_confirmation(obj, lab, str(confirmation), limit)
        return
    studying = state.studying.id if state.studying and not (pending and pending.runs) else None
    study = studying if experiment is None else experiment
    if study in state.studies:
        from verbs.ablating import answer_study

        answer_study(obj, lab, str(study), limit)
        return
    several = [] if experiment or lab.width == 1 else [*lineup.unheard(lab), *state.open()]
    first, *others = several or [state.get(experiment or (pending.id if pending else "last"))]
    answer(obj, lab, first.id, limit, *(e.id for e in others))
