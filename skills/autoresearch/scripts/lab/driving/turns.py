"""One turn of the driver: the campaign moved on, the next thing about the agent decided and done.

Journal first, as everywhere. Whether an agent did anything is the journal's word, never the agent's.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from lab import loop
from lab.campaign import Lab
from lab.driving.agents import program_of, refuse_attended, with_message
from lab.driving.planning import Plan, Present, Rules, plan
from lab.driving.prompts import Task, message
from lab.driving.quota import limit_in
from lab.driving.seat import Ending, Seat, pane_name, tmux
from lab.driving.session import Spec
from lab.driving.silence import silent_after
from lab.driving.spending import calls_refused, read_spending
from lab.errors import LabError
from lab.model import Record, State, now
from lab.notify import keeping
from lab.redact import one_line
from lab.runners.environment import project_environment, resolve_argv
from lab.steps import step

# Set inside one agent's shell; another one that sees them refuses to start or takes them for its own.
KEEPS_AGENTS_OUT = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID")
WORDS = ("result", "message", "text")  # of an agent's last JSON object
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What the caller asked for."""

    argv: tuple[str, ...]
    way: str = ""  # how the message is given, where the command is not known
    pause: float = 30.0
    fruitless: int = 5
    silent_after: float | None = None
    target: float | None = None
    tmux: bool = True

    def words(self) -> list[str]:
        """The same on a command line, behind the verb."""
        options = {"--prompt": self.way or None, "--silent-after": self.silent_after, "--target": self.target}
        given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        own = ["--pause", str(self.pause), "--fruitless", str(self.fruitless), *given]
        return [*own, *([] if self.tmux else ["--no-tmux"]), "--", *self.argv]


def check(lab: Lab, order: Order) -> None:
    """Refuse what cannot work: no such program, one that waits for a person, a campaign driven by hand."""
    refuse_attended(order.argv)
    program = resolve_argv(list(order.argv), _environment(lab), lab.root)[0]
    if not shutil.which(program, path=_environment(lab).get("PATH")):
        raise LabError(f"there is no program {order.argv[0]!r}", "install it, or give its whole path")
    if lab.settings.mode == "collaborative":
        raise LabError("in collaborative mode a person runs the training", "mode: autonomous, or no `drive`")


def turn(root: Path, order: Order, say: Say, awake: str = "") -> Plan:
    """Move the campaign on, decide what is next for the agent, and do that."""
    lab = Lab(root)
    lab.read()
    _advance(lab, say)
    keeping.ensure(lab)
    decided = plan(present(lab, order, awake), rules(lab, order))
    ACTS[decided.do](lab, order, decided, say)
    return decided


def rules(lab: Lab, order: Order) -> Rules:
    """The caller's choices with what the settings say."""
    patience = silent_after(lab.settings.seconds) if order.silent_after is None else order.silent_after
    return Rules(patience, order.pause, order.fruitless)


def present(lab: Lab, order: Order, awake: str = "") -> Present:
    """The facts of this moment, as `plan` wants them."""
    state = lab.state
    last = state.agents[-1] if state.agents else None
    over = f"stopped: {state.stopped}" if state.stopped else ""
    spent = lab.budget_spent()
    return Present(
        now=now(),
        agents=state.agents,
        seat=Seat(lab.home, str(last["session"])).stand() if last and "ended" not in last else "",
        moved=state.active_at,
        busy=bool(state.at_work()),
        over="the campaign is finished" if state.finished else over,
        broken=bool(state.stopped) and state.stopped_by in ("host", "guard"),
        awake=awake,
        spent=f"budget spent: {spent}" if spent else "",
        enough=_enough(lab, order.target),
        gave_up=state.gave_up,
    )


def progress(state: State) -> int:
    """What an agent can bring: experiments, confirmations, the end; combinations the loop makes itself."""
    own = sum(not e.combines for e in state.experiments.values())
    return own + len(state.confirmations) + len(state.studies) + bool(state.finished)


def _enough(lab: Lab, target: float | None) -> str:
    best = lab.state.incumbent.metric if lab.state.incumbent else None
    if target is None or best is None:
        return ""
    reached = best <= target if lab.settings.goal == "min" else best >= target
    return f"target {target:g} reached: {lab.state.incumbent_id} has {best:.6f}" if reached else ""


def _advance(lab: Lab, say: Say) -> None:
    """Collect what ended and start what waits; trouble with that is no reason to leave the agent alone."""
    if not movable(lab):
        return
    try:
        with lab.changing("drive"):
            loop.advance(lab)
    except LabError as error:
        say(f"note: {error.message} ({error.hint})")


def movable(lab: Lab) -> bool:
    """Whether the campaign can move on now: a verdict half done, a run that ended, one to be started."""
    state = lab.state
    if any(True for _ in state.unsettled()):
        return True
    working = state.at_work()
    if working:
        return any(lab.runner.poll(lab.run_dir(run)) in ("done", "lost", "absent") for _, run in working)
    return not state.stopped and (
        state.confirming is not None or state.studying is not None or any(True for _ in state.open())
    )


# -- what a turn does ------------------------------------------------------------------------------------


def _start(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    """Write the session down, then start it."""
    program = program_of(order.argv)
    with lab.changing("drive") as state:
        session = f"s{len(state.agents) + 1}"
        lab.journal.append(
            "agent_started", session=session, program=PurePath(order.argv[0]).name, host=program.host,
            nonce=secrets.token_hex(8), progress=progress(state), closing=decided.words,
        )  # fmt: skip
    _seat(lab, order, replace(decided, words=session), say)


def _seat(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    """Fill the session's folder and start its keeper; done again for a session that nobody took up."""
    record = lab.state.agents[-1]
    seat = Seat(lab.home, decided.words)
    env = _environment(lab)
    if not (seat.folder / "spec.json").exists():
        text = message(_task(lab, order, record))
        argv, stdin = with_message(order.argv, text, order.way)
        spec = Spec(
            decided.words, str(record["nonce"]), resolve_argv(argv, env, lab.root), str(lab.root), bool(stdin)
        )
        seat.fill(spec, text)
    pane = pane_name(lab.state.tag, lab.root) if order.tmux and tmux() else ""
    attached = seat.start(env, pane)
    if seat.stand() == "absent":
        raise LabError(f"the keeper of {decided.words} does not start", f"see {seat.folder / 'keeper.log'}")
    where = (
        f"; look at it: tmux -L {pane} attach" if attached else f"; its output: {seat.folder / 'output.log'}"
    )
    say(f"{decided.words} started: {record['program']}{where}")


def _task(lab: Lab, order: Order, record: Record) -> Task:
    entry = Path(__file__).resolve().parents[2] / "autoresearch.py"
    sign = "at most" if lab.settings.goal == "min" else "at least"
    return Task(
        tag=lab.state.tag, skill=str(entry.parents[1] / "SKILL.md"), entry=str(entry), root=str(lab.root),
        edit=", ".join(lab.settings.edit), first=len(lab.state.agents) == 1, closing=str(record["closing"]),
        target="" if order.target is None else f"{lab.settings.metric} {sign} {order.target:g}",
    )  # fmt: skip


def _environment(lab: Lab) -> dict[str, str]:
    """What the agent gets: the caller's environment, as a run of the project does."""
    env = project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))
    return {name: value for name, value in env.items() if name not in KEEPS_AGENTS_OUT}


def _silent(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    with lab.changing("drive"):
        lab.journal.append("agent_silent", session=decided.words, seconds=round(decided.seconds, 1))
    say(f"{decided.words} is silent: nothing in the journal for {decided.seconds:.0f} s")
    Seat(lab.home, decided.words).end()


def _ask_to_end(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    seat = Seat(lab.home, str(lab.state.agents[-1]["session"]))
    if not (seat.folder / "cancel").exists():
        say(f"{decided.words}: it is asked to end")
    seat.end()


def collect(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    """Take a session's end into the journal."""
    seat = Seat(lab.home, decided.words)
    seat.reap()
    ending = seat.ending()
    step("drive.reaped")
    with lab.changing("drive") as state:
        record = state.agents[-1]
        steps = progress(state) - int(str(record["progress"]))
        told = ended(record, ending, steps, now())
        spent = read_spending(str(record["host"]), ending.output)
        lab.journal.append(
            "agent_ended", session=decided.words, steps=steps, seconds=ending.seconds,
            exit_code=ending.exit_code, busy=bool(state.at_work()), **vars(spent), **told,
        )  # fmt: skip
    cost = f", ${spent.cost_usd:.2f}" if spent.cost_usd is not None else ""
    said = "" if steps else f": {told['detail']}"
    say(f"{decided.words} {told['outcome']}, {steps} new in the journal{cost}{said}")


def ended(record: Record, ending: Ending, steps: int, at: str) -> Record:
    """What kind of end it was: silent, ended, lost, limited, exited or crashed, with its last words."""
    present = datetime.datetime.fromisoformat(at)
    detail = ending.error or one_line(last_words(ending.output), 200)
    refused = calls_refused(ending.output)
    if refused:
        detail += f" ({refused} tool calls were not permitted: `doctor --permissions`)"
    if "silent" in record or ending.asked:
        return {"outcome": "silent" if "silent" in record else "ended", "detail": detail, "until": ""}
    if ending.exit_code is None:
        return {"outcome": "lost", "detail": "its keeper was killed or the machine restarted", "until": ""}
    limit = limit_in(ending.output, present) if ending.exit_code or not steps else None
    if limit:
        until = limit.until.astimezone(present.tzinfo).isoformat() if limit.until else ""
        return {"outcome": "limited", "detail": one_line(limit.words, 200), "until": until}
    outcome = f"exit code {ending.exit_code}: " if ending.exit_code else ""
    return {"outcome": "crashed" if outcome else "exited", "detail": f"{outcome}{detail}", "until": ""}


def last_words(output: str) -> str:
    """The last line; of a JSON object its text."""
    line = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    with suppress(ValueError, RecursionError):
        row = json.loads(line) if line.lstrip().startswith("{") else None
        if row:
            return next((row[name] for name in WORDS if isinstance(row.get(name), str)), "")
    return line


def _nothing(lab: Lab, order: Order, decided: Plan, say: Say) -> None:
    """Let it work, or wait."""


ACTS: dict[str, Callable[[Lab, Order, Plan, Say], None]] = {
    "start": _start, "seat": _seat, "silent": _silent, "end": _ask_to_end, "collect": collect,
    "work": _nothing, "idle": _nothing, "rest": _nothing, "leave": _nothing,
}  # fmt: skip
