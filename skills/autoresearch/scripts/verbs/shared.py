"""What every verb needs: the answer's shape, the global options, the next step, waiting for a verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from lab import errors, ideas, lineup, views
from lab.agenda import ordered
from lab.campaign import Lab
from lab.errors import LabError
from lab.handing import remarks
from lab.model import BASELINE, SCHEMA, Experiment, Record, Run
from lab.redact import hide_secrets, one_line

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
        """Print the answer: one JSON object, or a few lines cut at 60 lines and 8 KB.

        What the user said and no agent was shown yet comes first, whatever the verb.
        """
        heard = remarks.fresh(Lab.latest.state) if Lab.latest else []
        if heard:
            lines, fields = [*heard, *lines], {**fields, "user_says": heard}
        if self.json:
            self.write(json.dumps(hidden({"ok": True, "schema": SCHEMA, "verb": self.verb, **fields})))
        else:
            self.write(hide_secrets(bounded(lines)))

    @staticmethod
    def write(text: str) -> None:
        """Write to stdout whatever the terminal's encoding can show."""
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.flush()


def hidden(value: object) -> object:
    """The value with every text in it freed of what is shaped like a secret."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, dict):
        return {name: hidden(part) for name, part in value.items()}
    return [hidden(part) for part in value] if isinstance(value, list | tuple) else value


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


def verb(name: str | None = None) -> Callable[[Verb], click.Command]:
    """Make a function a verb: global options, and the context as its first argument."""

    def wrap(function: Verb) -> click.Command:
        made = click.command(name or function.__name__)
        return made(everywhere(click.pass_obj(function)))

    return wrap


@contextmanager
def agent(lab: Lab, name: str) -> Iterator[None]:
    """Be the only agent at work in the checkout while the body runs."""
    with lab.alone(name):
        yield


# -- words and waiting ---------------------------------------------------------------------------------


def answer(obj: Context, lab: Lab, identity: str, seconds: float, *others: str) -> None:
    """Wait for a verdict, or the first of several, and say what is known; exit 124 at the end of the time."""
    from lab import loop

    experiment = loop.wait_for_first(lab, [identity, *others], seconds)
    state, metric = lab.state, lab.settings.metric
    lines = views.verdict_lines(state, experiment, metric)
    if experiment.verdict == "crash":
        lines += crash_text(lab, experiment)
    notices = lab.notices
    if state.stopped and experiment.status == "queued" and seconds > 0:
        raise LabError(
            f"{experiment.id} waits, the campaign is stopped: {state.stopped}", "mend that, then `resume`"
        )
    lines += [f"note: {notice}" for notice in notices]
    fields = views.experiment_json(state, experiment)
    if lab.width > 1:
        others_decided = lineup.meanwhile(lab, experiment.id if experiment.verdict else "")
        lines += lineup.meanwhile_lines(lab, others_decided)
        fields["meanwhile"] = [{"experiment": e.id, "verdict": e.verdict} for e in others_decided]
    lines += to_hand_over(lab, experiment.handed)
    lines.append(f"next: {next_step(lab)}")
    obj.say(lines, {**fields, "notices": notices, "next": next_step(lab)})
    remarks.acknowledge(lab)
    if not experiment.verdict and seconds > 0 and not experiment.handed:
        raise SystemExit(errors.WAIT_ENDED)


def to_hand_over(lab: Lab, runs: Sequence[Run]) -> list[str]:
    """The archives of the requests that these runs are waited for from."""
    names = dict.fromkeys(run.request for run in runs)
    return [f"hand over: {lab.archive(name)}" for name in names]


def crash_text(lab: Lab, experiment: Experiment) -> list[str]:
    """The digest the supervisor wrote, quoted: at most 4,096 bytes of cleaned log."""
    run = experiment.fatal_run
    if run is None or experiment.verdict != "crash":
        return []
    try:
        result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
        return str((result.get("digest") or {}).get("text", "")).splitlines()
    except (OSError, ValueError):
        return []


def brief(experiment: Experiment | None) -> Record | None:
    if experiment is None:
        return None
    return {"experiment": experiment.id, "commit": experiment.commit, "metric": experiment.metric}


def next_step(lab: Lab) -> str:
    """The one thing to do now."""
    state = lab.state
    going = next(state.open(), None)
    if state.finished:
        return "the campaign is finished; `init --tag NEW` starts another"
    if state.stopped:
        return "`resume` goes on, `finish` ends the campaign"
    if state.confirming and not (going and going.runs):
        return f"`wait` for {state.confirming.id}, or `confirm` again"
    if state.studying and not (going and going.runs):
        return f"`wait` for {state.studying.id}, or `{state.studying.kind}` again"
    if state.sweeping and not going:
        return f"`sweep` goes on with {state.sweeping['sweep']}"
    if state.waiting and not state.going:
        return _with_a_person(lab)
    if going and going.id != BASELINE and lab.width > 1:
        return lineup.next_words(lab)
    if going:
        return "`wait`" + ("" if going.id == BASELINE else "; the next change can be edited meanwhile")
    if state.baseline is None:
        return "`baseline`"
    if state.baseline.verdict == "crash" and state.incumbent is None:
        return "mend what stopped the baseline, then `baseline`"
    spent = lab.budget_spent()
    if spent:
        return f"budget spent ({spent}): {_unconfirmed(lab)}`finish`"
    queue = ordered(ideas.agenda(lab.root), state)
    tied = f" --idea {queue[0].id}" if queue else ""
    about = f" ({one_line(queue[0].text, 60)})" if queue else ""
    return f'edit {", ".join(lab.settings.edit)}, then `try "HYPOTHESIS"{tied}`{about}'


def _with_a_person(lab: Lab) -> str:
    """What to do while a person has runs to make."""
    waiting = ", ".join(dict.fromkeys(run.request for _, run in lab.state.handed()))
    meanwhile = "" if lab.state.incumbent is None else "; meanwhile the next `try` becomes its own request"
    return f"hand {waiting} over, then `ingest` what comes back{meanwhile}"


def _unconfirmed(lab: Lab) -> str:
    """`confirm` first, when there is something to confirm and time for it."""
    state = lab.state
    confirmed = any(c.experiment == state.incumbent_id for c in state.confirmations.values())
    nothing = state.incumbent_id in ("", BASELINE) or confirmed or lab.hours_spent()
    return "" if nothing else "`confirm`, then "
