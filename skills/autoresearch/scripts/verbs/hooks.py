"""Answering an agent program's hooks: a digest at the start, a refusal before a tool, a step at a stop."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from lab import hosts, refusals, sessions
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import Record, State
from lab.shell import Command, commands
from verbs.shared import Context, bounded, next_step, verb

ENTRY = Path(__file__).resolve().parents[1] / "autoresearch.py"
# A session that calls one of these works on the campaign; one that only looks does not.
WORKING = {"baseline", "try", "wait", "resume", "restore", "confirm", "ablate", "sweep", "isolate"}


@verb()
@click.argument("event", required=False, default="")
@click.option(
    "--print", "host", type=click.Choice(list(hosts.FILES)), help="Print a host's settings instead."
)
def hook(obj: Context, event: str, host: str | None) -> None:
    """Answer a hook of the agent program: SessionStart, PreToolUse or Stop, its JSON on stdin

    Exits 0 whatever happens, and says nothing where no campaign is active.
    """
    if host:
        obj.say(
            [json.dumps(hosts.snippet(host), indent=2)], {"file": hosts.FILES[host], **hosts.snippet(host)}
        )
        print(f"belongs into {hosts.FILES[host]}", file=sys.stderr)
        return
    try:
        found = answer(event, _stdin(), obj.folder)
    except Exception as error:  # a session must not break because of us: any fault is a line on stderr
        message = " ".join(str(error).split())[:300]
        print(f"autoresearch hook {event}: {type(error).__name__}: {message}", file=sys.stderr)
        return
    if found is not None:
        obj.write(json.dumps(found))


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def answer(event: str, text: str, folder: Path) -> Record | None:
    """The JSON object for the host, from the event and what it sent; None for nothing to say."""
    call = hosts.read_call(event, text, os.environ, folder)
    if call is None:
        return None
    lab = _find(call)
    if lab is None:
        return None
    if call.event == hosts.TOOL:
        return _before_tool(lab, call)
    return _at_start(lab, call) if call.event == hosts.START else _at_stop(lab, call)


def _find(call: hosts.Call) -> Lab | None:
    """The campaign of the tool's folder, or of the host's project."""
    named = [os.environ[name] for name in hosts.PROJECT_VARIABLES if os.environ.get(name)]
    for folder in (call.folder, *map(Path, named)):
        try:
            return Lab.find(folder)
        except LabError:
            continue
    return None


def _under_way(lab: Lab) -> State | None:
    state = lab.read()
    return state if state.tag and not state.finished else None


# -- a session's start ---------------------------------------------------------------------------------


def _at_start(lab: Lab, call: hosts.Call) -> Record | None:
    state = _under_way(lab)
    if state is None:
        return None
    sessions.sweep(lab.home)
    if not _first(lab, call, call.source or "start"):
        return None
    return hosts.context(call.host, bounded(digest(lab)))


def digest(lab: Lab) -> list[str]:
    """The present for a session that knows nothing of it; no line of a log, which would pass for our word."""
    from lab import views
    from verbs.looking import facts

    present = facts(lab)
    running = present["running"]
    assert isinstance(running, list)
    present["running"] = [{k: v for k, v in run.items() if k != "heartbeat"} for run in running]
    return [
        f"An autoresearch campaign is under way in {lab.root}; this is its status now, from its journal:",
        *views.status_lines(lab.state, lab.settings, present),
        "To work on it use the autoresearch skill and go on from `next:`; no new set-up and no new baseline.",
        f"Its commands, called in {lab.root}: python3 {ENTRY} VERB",
    ]


# -- before a tool -------------------------------------------------------------------------------------


def _before_tool(lab: Lab, call: hosts.Call) -> Record | None:
    """Refuse what would harm the campaign; the journal is read only when something is to be refused."""
    reason = _refusal(lab, call, "")
    if not reason:
        if _works(lab, call):
            with sessions.opened(lab.home, call.session) as session:
                if session:
                    session.worked = True
        return None
    state = _under_way(lab)
    if state is None or not _first(lab, call, call.tool_use):
        return None
    return hosts.denial(call.host, f"autoresearch: {_refusal(lab, call, state.tag)}")


def _refusal(lab: Lab, call: hosts.Call, tag: str) -> str | None:
    settings = lab.settings
    ground = refusals.Ground.of(lab.root, tag, settings.edit, settings.protect, settings.command)
    reason = refusals.of_edit(call.edits, call.folder, ground)
    return reason or refusals.of_shell(call.shell, call.folder, _variables(), ground)


def _variables() -> dict[str, str]:
    """What a shell line may name and we know."""
    return {name: os.environ[name] for name in ("HOME", *hosts.PROJECT_VARIABLES) if name in os.environ}


def _first(lab: Lab, call: hosts.Call, key: str) -> bool:
    """Whether this event is answered for the first time; without a name or a record every time is."""
    with suppress(OSError), sessions.opened(lab.home, call.session if key else "") as session:
        return session is None or session.first(f"{call.event} {key}")
    return True


def _works(lab: Lab, call: hosts.Call) -> bool:
    """Whether the shell line calls a measuring verb of this campaign."""
    if ENTRY.name not in call.shell:
        return False
    return any(
        _verb(command, lab.root) in WORKING for command in commands(call.shell, call.folder, _variables())
    )


def _verb(command: Command, root: Path) -> str:
    """The verb of a call of ours in this project, or ""."""
    words = list(command.words)
    at = next((place for place, word in enumerate(words) if Path(word).name == ENTRY.name), None)
    rest = words[at + 1 :] if at is not None else []
    folder = command.folder
    while rest and rest[0].startswith("-"):
        option, *rest = rest
        if option == "-C" and rest and folder:
            folder, rest = folder / rest[0], rest[1:]
    found = Path(os.path.realpath(folder)) if folder else root
    return rest[0] if rest and (found == root or root in found.parents) else ""


# -- at a stop -----------------------------------------------------------------------------------------


def _at_stop(lab: Lab, call: hosts.Call) -> Record | None:
    """Name the next step while there is budget, for a session that works here and gets somewhere."""
    state = _under_way(lab)
    if state is None or state.stopped or call.aborted or lab.settings.mode == "collaborative":
        return None
    if lab.budget_spent() or (state.baseline and state.baseline.verdict == "crash" and not state.incumbent):
        return None
    verdicts = sum(1 for experiment in state.experiments.values() if experiment.verdict)
    with sessions.opened(lab.home, call.session) as session:
        if session is None or not session.held(state.tag, verdicts, call.going_on):
            return None
    return hosts.going_on(call.host, reminder(lab))


def reminder(lab: Lab) -> str:
    """What a turn goes on with."""
    tried = max(0, len(lab.state.experiments) - 1)
    return (
        f"Campaign {lab.state.tag} is active and its budget is not used up ({tried} experiments so far). "
        f"Next: {next_step(lab)} (python3 {ENTRY} VERB, called in {lab.root}). "
        "If the user wants a pause or an end, or the list of ideas is empty, say so and end the turn: "
        "this reminder comes once for each new verdict."
    )
