#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "click==8.5.1",
#     "pyyaml==6.0.3",
#     "gitpython==3.2.1",
#     "filelock==4.1.0",
#     "psutil==7.2.2",
# ]
# ///
"""The command line of autoresearch: the one file that prints, exits and knows click."""

from __future__ import annotations

import sys
from pathlib import Path

import bootstrap

bootstrap.start(Path(__file__).resolve(), sys.argv[1:])

import json  # noqa: E402 - everything below may need the packages that the line above found
import os  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from typing import TypeVar  # noqa: E402

import click  # noqa: E402

from lab import errors, views  # noqa: E402
from lab.campaign import Lab, measured_noise  # noqa: E402
from lab.errors import LabError  # noqa: E402
from lab.model import BASELINE, SCHEMA, Experiment, Record  # noqa: E402
from lab.settings import FILE_NAME, GOALS, TAG, seconds_of  # noqa: E402

VERSION = "0.1.0"
MAX_LINES, MAX_BYTES = 60, 8000
TRY_WAIT_SECONDS = 100  # under the two minutes after which most agents' shells give up
WAIT_SECONDS = 540  # under their ten-minute ceiling
Verb = TypeVar("Verb", bound=Callable[..., object])


class Context:
    """What the global options say."""

    def __init__(self) -> None:
        self.folder = Path.cwd()
        self.json = False
        self.verb = ""

    def say(self, lines: Sequence[str], fields: Record) -> None:
        """Print the answer: one JSON object, or a few lines cut at 60 lines and 8 KB."""
        if self.json:
            self.write(json.dumps({"ok": True, "schema": SCHEMA, "verb": self.verb, **fields}))
        else:
            self.write(bounded(lines))

    @staticmethod
    def write(text: str) -> None:
        """Write to stdout whatever the terminal's encoding can show."""
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.flush()


def bounded(lines: Sequence[str]) -> str:
    """Join lines and cut them at 60 lines and 8 KB, saying what was cut."""
    kept: list[str] = []
    size = 0
    flat = "\n".join(lines).split("\n")
    for line in flat:
        size += len(line.encode("utf-8", "backslashreplace")) + 1
        if len(kept) >= MAX_LINES - 1 or size > MAX_BYTES - 100:
            return "\n".join([*kept, f"... cut: {len(flat) - len(kept)} more lines"])
        kept.append(line)
    return "\n".join(kept)


def _set_folder(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Context).folder = Path(value)


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Context).json = True


def everywhere(function: Verb) -> Verb:
    """Add the two global options, before or after the verb."""
    folder = click.option(
        "-C", "folder", type=click.Path(exists=True, file_okay=False), callback=_set_folder,
        expose_value=False, is_eager=True, help="Work in this folder instead of the present one.",
    )  # fmt: skip
    as_json = click.option(
        "--json", is_flag=True, callback=_set_json, expose_value=False, is_eager=True,
        help="Answer with one JSON object.",
    )  # fmt: skip
    return folder(as_json(function))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@everywhere
@click.version_option(VERSION, message="autoresearch %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run experiments on training code: propose, measure, decide, remember.

    \b
    Exit codes: 0 done, whatever the verdict · 2 usage · 3 configuration · 4 precondition not met
    8 busy · 9 refused · 124 the wait ended before the run · 130 interrupted · 1 a bug
    """
    ctx.ensure_object(Context).verb = ctx.invoked_subcommand or ""


def verb(name: str | None = None) -> Callable[[Verb], click.Command]:
    """Make a function a verb: global options, and the context as its first argument."""

    def wrap(function: Verb) -> click.Command:
        return cli.command(name or function.__name__)(everywhere(click.pass_obj(function)))

    return wrap


@contextmanager
def agent(lab: Lab, name: str) -> Iterator[None]:
    """Be the only agent at work in the checkout while the body runs."""
    with lab.alone(name):
        yield


# -- starting ------------------------------------------------------------------------------------------


@verb()
@click.option("--tag", required=True, help="Name of the campaign; the branch is autoresearch/TAG.")
@click.option("--command", help="The training command, run in an export of the candidate commit.")
@click.option("--metric", help="Name of the number as the program prints it: `name: value`.")
@click.option("--goal", type=click.Choice(list(GOALS)), help="Whether the metric should fall or rise.")
@click.option("--edit", multiple=True, help="File, folder or glob a candidate may change (repeatable).")
@click.option("--protect", multiple=True, help="File or glob no run may change (repeatable).")
@click.option("--share", multiple=True, help="Git-ignored path that runs see by link (repeatable).")
@click.option("--budget", help="The program's own budget for one run: 300, 90s, 5m.")
@click.option("--experiments", type=click.IntRange(1), help="End of the campaign: number of experiments.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="End of the campaign: hours from now.")
def init(
    obj: Context, tag: str, command: str | None, metric: str | None, goal: str | None, edit: tuple[str, ...],
    protect: tuple[str, ...], share: tuple[str, ...], budget: str | None, experiments: int | None,
    hours: float | None,
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
    wishes = Wishes(
        command, metric, GOALS[goal] if goal else None, edit, protect, share, seconds, experiments, hours
    )
    lab = Lab(Path(os.path.realpath(obj.folder)))
    with agent(lab, "init"):
        told = setup.begin(lab, tag, wishes)
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
            "next: doctor, then baseline",
        ],
        {"campaign": tag, "branch": state.branch, "base": state.base, "config": str(lab.root / FILE_NAME)},
    )


@verb()
def doctor(obj: Context) -> None:
    """Check everything that could spoil a night, each with its fix

    Exits 4 when something must be mended.
    """
    from lab.doctor import examine

    findings = examine(_lab_or_folder(obj))
    bad = [f for f in findings if f.ok is False]
    lines = [
        f"{_mark(f.ok)} {f.name}: {f.text}" + (f"\n      fix: {f.fix}" if f.fix else "") for f in findings
    ]
    lines.append(f"{len(bad)} to mend" if bad else "all good")
    obj.say(lines, {"ok": not bad, "checks": [vars(f) for f in findings]})
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
    from lab import loop

    lab = Lab.find(obj.folder)
    with agent(lab, "baseline"):
        with lab.changing("baseline"):
            loop.catch_up(lab)
            loop.propose_baseline(lab, repeats)
        _answer(obj, lab, BASELINE, wait_seconds)


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
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the verdict.")  # fmt: skip
def try_(
    obj: Context, hypothesis: str, because: str, expect: str, idea: str, arguments: str | None, retry_of: str,
    leave_out: bool, again: bool, wait_seconds: float,
) -> None:  # fmt: skip
    """Measure the working tree's change as a candidate and keep or discard it

    The change in the files of `edit:` becomes a commit, the working tree shows the incumbent again, and the
    candidate runs on its own. Exits 0 with a verdict, 124 while it still runs.

    \b
    try "raise the learning rate to 0.04" --because "loss still falls at the end" --expect "-0.01"
    """
    import shlex

    from lab import loop

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
            experiment = loop.propose(lab, hypothesis, words, leave_out, again)
        _answer(obj, lab, experiment.id, wait_seconds)


@verb()
@click.argument("experiment", required=False)
@click.option("--max", "limit", type=click.FloatRange(0), default=WAIT_SECONDS, show_default=True,
              help="Seconds to wait at most.")  # fmt: skip
def wait(obj: Context, experiment: str | None, limit: float) -> None:
    """Wait for a verdict: of EXPERIMENT, or of the oldest one without

    Exits 0 with a verdict, 124 when the time ended first. Harmless to repeat, and to interrupt.
    """
    lab = Lab.find(obj.folder)
    state = lab.read()
    pending = next(state.open(), None)
    if experiment is None and pending is None and not state.experiments:
        raise LabError("there is nothing to wait for", "`baseline` or `try` starts something")
    wanted = state.get(experiment or (pending.id if pending else "last"))
    _answer(obj, lab, wanted.id, limit)


def _answer(obj: Context, lab: Lab, identity: str, seconds: float) -> None:
    """Wait for a verdict and say what is known; exit 124 when the time ended first."""
    from lab import loop

    experiment = loop.wait_for(lab, identity, seconds)
    state, metric = lab.state, lab.settings.metric
    lines = views.verdict_lines(state, experiment, metric)
    if experiment.verdict == "crash":
        lines += _crash_text(lab, experiment)
    notices = lab.notices
    if state.stopped and experiment.status == "queued" and seconds > 0:
        raise LabError(
            f"{experiment.id} waits, the campaign is stopped: {state.stopped}", "mend that, then `resume`"
        )
    lines += [f"note: {notice}" for notice in notices]
    lines.append(f"next: {_next(lab)}")
    fields = views.experiment_json(state, experiment)
    obj.say(lines, {**fields, "notices": notices, "next": _next(lab)})
    if not experiment.verdict and seconds > 0:
        raise SystemExit(errors.WAIT_ENDED)


def _crash_text(lab: Lab, experiment: Experiment) -> list[str]:
    """The digest the supervisor wrote, quoted: at most 4,096 bytes of cleaned log."""
    run = experiment.fatal_run
    if run is None or experiment.verdict != "crash":
        return []
    try:
        result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
        return str((result.get("digest") or {}).get("text", "")).splitlines()
    except (OSError, ValueError):
        return []


# -- looking -------------------------------------------------------------------------------------------


@verb()
def status(obj: Context) -> None:
    """Say the whole present in at most 30 lines: enough for a fresh session to go on"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    if _needs_hand(lab):
        from lab import loop

        try:
            with lab.changing("status", wait_seconds=1):
                loop.advance(lab)
        except LabError as error:
            lab.told.append(f"{error.message} ({error.hint})")
        state = lab.state
    known = measured_noise(state)
    notices = lab.notices
    running = [
        {**run.as_json(), "experiment": e.id, "heartbeat": lab.runner.heartbeat(lab.run_dir(run))}
        for e, run in state.at_work()
    ]
    fields: Record = {
        "campaign": state.tag,
        "branch": state.branch,
        "incumbent": _brief(state.incumbent),
        "baseline": _brief(state.baseline),
        "experiments": state.counts(),
        "running": running,
        "queued": [e.id for e in state.open() if e.status == "queued"],
        "noise": {"sigma": known.sigma, "n": known.n},
        "stopped": state.stopped or None,
        "finished": state.finished or None,
        "budget_spent": lab.budget_spent() or None,
        "notices": notices,
        "next": _next(lab),
    }
    obj.say(views.status_lines(state, lab.settings, fields), fields)


def _needs_hand(lab: Lab) -> bool:
    """Whether the campaign can move on now: a verdict half done, a run that ended, one to be started."""
    state = lab.state
    working = state.at_work()
    if any(True for _ in state.unsettled()):
        return True
    if working:
        return any(lab.runner.poll(lab.run_dir(run)) in ("done", "lost", "absent") for _, run in working)
    return not state.stopped and any(True for _ in state.open())


def _brief(experiment: Experiment | None) -> Record | None:
    if experiment is None:
        return None
    return {"experiment": experiment.id, "commit": experiment.commit, "metric": experiment.metric}


def _next(lab: Lab) -> str:
    """The one thing to do now."""
    state = lab.state
    going = next(state.open(), None)
    if state.finished:
        return "the campaign is finished; `init --tag NEW` starts another"
    if state.stopped:
        return "`resume` goes on, `finish` ends the campaign"
    if going:
        return "`wait`" + ("" if going.id == BASELINE else "; the next change can be edited meanwhile")
    if state.baseline is None:
        return "`baseline`"
    if state.baseline.verdict == "crash" and state.incumbent is None:
        return "mend what stopped the baseline, then `baseline`"
    spent = lab.budget_spent()
    if spent:
        return f"budget spent ({spent}): `finish`"
    return f'edit {", ".join(lab.settings.edit)}, then `try "HYPOTHESIS"`'


@verb()
@click.option(
    "-n", "count", type=click.IntRange(1), default=20, show_default=True, help="How many, newest last."
)
def log(obj: Context, count: int) -> None:
    """List experiments with metric, gain and verdict"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    rows = list(state.experiments.values())[-count:]
    obj.say(
        views.table(state, lab.settings.metric, count),
        {"experiments": [views.experiment_json(state, e) for e in rows], "total": len(state.experiments)},
    )


@verb()
@click.argument("experiment")
def show(obj: Context, experiment: str) -> None:
    """Show one experiment: hypothesis, verdict, runs, crash, where its log is"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    found = state.get(experiment)
    lines = views.details(state, found, lab.settings.metric, lab.home / "runs")
    obj.say([*lines, *_crash_text(lab, found)], views.experiment_json(state, found))


@verb()
@click.argument("experiment")
def diff(obj: Context, experiment: str) -> None:
    """Show what an experiment changed; `best` shows everything kept since the baseline"""
    lab = Lab.find(obj.folder)
    state = lab.read()
    found = state.get(experiment)
    old = state.base if experiment == "best" else found.parent
    text = lab.workspace.diff(old, found.commit)
    whole = f"whole: git diff {old[:12]} {found.commit[:12]}"
    shown = text if obj.json else bounded(text.splitlines() or ["(no difference)"])
    obj.say([shown, whole] if not obj.json else [], {
        "experiment": found.id, "old": old, "new": found.commit, "diff": text[:MAX_BYTES],
        "cut": max(0, len(text) - MAX_BYTES),
    })  # fmt: skip


@verb()
@click.argument("experiment")
def restore(obj: Context, experiment: str) -> None:
    """Bring the change of an experiment back into the working tree

    It is merged with what is being edited; `try` then measures the result as a new experiment.
    """
    lab = Lab.find(obj.folder)
    with agent(lab, "restore"), lab.changing("restore") as state:
        from lab import loop

        loop.catch_up(lab)
        found = state.get(experiment)
        folder = lab.home / "conflicts" / f"restore-{found.id}"
        conflicts = lab.workspace.sync(found.parent, found.commit, lab.settings.edit, folder)
    lines = [f"the change of {found.id} is in the working tree: {', '.join(found.files) or 'no file'}"]
    lines += [
        f"conflict in {path}: markers are in the file, all three versions in {folder}" for path in conflicts
    ]
    obj.say(lines, {"experiment": found.id, "files": found.files, "conflicts": conflicts})


# -- ending --------------------------------------------------------------------------------------------


@verb()
@click.option("--now", "kill", is_flag=True, help="Also end the run at work; it is repeated after `resume`.")
def stop(obj: Context, kill: bool) -> None:
    """Start no new run; a run at work may end, and its result counts"""
    from lab import loop

    lab = Lab.find(obj.folder)
    with lab.changing("stop"):
        running = loop.stop(lab, "by `stop`", kill)
    end = time.monotonic() + 30
    while kill and running and time.monotonic() < end:
        if lab.runner.poll(lab.run_dir(running[0])) in ("done", "lost"):
            with lab.changing("stop"):
                loop.advance(lab)
            break
        time.sleep(0.05)
    words = ", ".join(run.id for run in running)
    lines = ["stopped: no new run starts"]
    if running:
        lines.append(
            f"{words} was ended, it is repeated after `resume`" if kill else f"{words} is still at work"
        )
    obj.say([*lines, "next: `resume` or `finish`"], {"stopped": True, "running": [run.id for run in running]})


@verb()
def resume(obj: Context) -> None:
    """Take up what a stop, a crash or a reboot left, without losing or repeating a result"""
    from lab import loop

    lab = Lab.find(obj.folder)
    with lab.changing("resume") as state:
        if state.finished:
            raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
        if state.stopped:
            lab.journal.append("resumed")
        loop.advance(lab)
        views.write_results(lab.root / "results.tsv", state, lab.settings.metric)
    going = [e.id for e in state.open()]
    notices = lab.notices
    obj.say(
        [f"campaign {state.tag} goes on" + (f": {', '.join(going)} open" if going else ""),
         *(f"note: {n}" for n in notices), f"next: {_next(lab)}"],
        {"campaign": state.tag, "open": going, "notices": notices, "next": _next(lab)},
    )  # fmt: skip


@verb()
def finish(obj: Context) -> None:
    """Close the campaign: final report, working tree back to your branch, how to take the keeps over"""
    from lab import setup

    lab = Lab.find(obj.folder)
    with agent(lab, "finish"), lab.changing("finish") as state:
        told = setup.end(lab)
    best, near = _brief(state.incumbent), views.near_misses(state, lab.settings.goal)
    report = lab.home / "report" / "report.md"
    obj.say(
        [f"campaign {state.tag} is finished: {_sentence(state.counts())}",
         *([f"best: {best['experiment']} {lab.settings.metric} {views.number(state.incumbent.metric)}"]
           if best and state.incumbent else []),
         *([near] if near else []), *told, f"report: {report}", *views.merge_hint(state)],
        {"campaign": state.tag, "branch": state.branch, "incumbent": best, "experiments": state.counts(),
         "report": str(report), "notices": told},
    )  # fmt: skip


def _sentence(counts: dict[str, int]) -> str:
    words = {"keep": "kept (with the baseline)", "discard": "discarded", "crash": "crashed", "open": "open"}
    said = [f"{counts[name]} {word}" for name, word in words.items() if counts[name]]
    return ", ".join(said) or "nothing was measured"


# -- the way out ---------------------------------------------------------------------------------------


def main() -> int:
    """Run the command line and return its exit code."""
    obj = Context()
    obj.json = "--json" in sys.argv[1:]  # so that a usage error is JSON too
    try:
        cli.main(args=sys.argv[1:], prog_name="autoresearch", obj=obj, standalone_mode=False)
        return errors.OK
    except LabError as error:
        return _failed(obj, error.code, error.message, error.hint)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return errors.USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else "--help lists the verbs"
        return _failed(obj, errors.USAGE, error.format_message(), hint)
    except (KeyboardInterrupt, click.Abort):
        return _failed(
            obj, errors.INTERRUPTED, "interrupted", "`status` gives the present; runs go on by themselves"
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OK
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else errors.BUG
    except Exception as error:
        if obj.json:
            obj.write(
                json.dumps(
                    {"ok": False, "code": errors.BUG, "message": repr(error), "fix": "report this bug"}
                )
            )
        raise


def _failed(obj: Context, code: int, message: str, hint: str) -> int:
    if obj.json:
        obj.write(json.dumps({"ok": False, "code": code, "message": message, "fix": hint}))
    else:
        text = f"Error: {message}" + (f"\nhint: {hint}" if hint else "")
        sys.stderr.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
