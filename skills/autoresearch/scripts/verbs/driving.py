"""Keeping an agent at work through the night: drive."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import FrameType

import click

from lab.campaign import Lab
from lab.driving import driver, prompts, turns
from lab.driving.agents import Place, allowances, unguarded
from lab.driving.planning import Plan
from lab.driving.spending import account_of
from lab.errors import USAGE, LabError
from lab.model import Record
from verbs.shared import Context, next_step, verb

ENTRY = Path(__file__).resolve().parents[1] / "autoresearch.py"
DETACH_SECONDS = 10.0


@verb()
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--once", is_flag=True, help="Do what one heartbeat should, and leave: for cron.")
@click.option("--detach", is_flag=True, help="Go on in the background; the terminal may be closed.")
@click.option("--target", type=float, help="Stop trying when the incumbent's metric has reached this.")
@click.option("--pause", type=click.FloatRange(0), default=30.0, show_default=True,
              help="Seconds to wait after a session that brought nothing, doubled each time.")  # fmt: skip
@click.option("--fruitless", type=click.IntRange(1), default=5, show_default=True,
              help="Give up after so many sessions in a row that brought nothing.")  # fmt: skip
@click.option(
    "--silent-after",
    type=click.FloatRange(0.1),
    help="Seconds without a journal event that end a session (two budgets, 600 at least).",
)
@click.option("--prompt", "way", type=click.Choice(["argument", "stdin"]), default=None,
              help="How a program that `drive` does not know takes its message.")  # fmt: skip
@click.option("--tmux/--no-tmux", default=True, show_default=True,
              help="Run the session in tmux where that is installed, to be looked at.")  # fmt: skip
@click.option("--print", "what", type=click.Choice(["heartbeat", "cron"]),
              help="Print HEARTBEAT.md, or the crontab line for this command.")  # fmt: skip
def drive(
    obj: Context, command: tuple[str, ...], once: bool, detach: bool, target: float | None, pause: float,
    fruitless: int, silent_after: float | None, way: str | None, tmux: bool, what: str | None,
) -> None:  # fmt: skip
    """Keep an agent at work until the budget, the target or `stop`

    COMMAND is how the agent program is called without a person; the message is added. It is started again
    when it exits, crashes, falls silent or was at a usage limit. Exits 0 at the end of the campaign, 4 when
    the agent brings nothing, 8 when another driver is at work.

    \b
    drive -- claude -p --output-format stream-json --verbose
    drive -- codex exec --json --sandbox workspace-write
    drive --prompt stdin -- my-agent
    """
    lab = Lab.find(obj.folder)
    lab.read()
    if what == "heartbeat":
        text = prompts.heartbeat(f"python3 {shlex.quote(str(ENTRY))}")
        obj.say([text.rstrip()], {"file": "HEARTBEAT.md", "text": text})
        return
    if not command:
        raise LabError("no agent command", "drive -- claude -p", USAGE)
    if lab.settings.mode == "collaborative":
        raise LabError(
            "mode: collaborative: the next step is a person's, and an agent would be started for nothing",
            "`status` says what is waited for; mode: autonomous runs here",
        )
    if "/" in command[0]:  # the session's folder is the project's, and not where this is typed
        command = (str(Path(command[0]).absolute()), *command[1:])
    order = turns.Order(command, way or "", pause, fruitless, silent_after, target, tmux)
    turns.check(lab, order)
    if what == "cron":
        _print_cron(obj, lab, order)
        return
    for word in unguarded(command) if not (once and lab.state.agents) else []:
        _talk(f"note: your command has {word}: the agent may do anything; see `doctor --permissions`")
    if detach:
        _detach(obj, lab, order)
        return
    done = _run(lab, order, once)
    if done.failed:
        hint = f"see `status` and {lab.home / 'agent'}, then `drive` again"
        raise LabError(f"no further session: {done.words}", hint)
    _say_end(obj, lab, done)


def _run(lab: Lab, order: turns.Order, once: bool) -> Plan:
    """Drive, with TERM as an interruption and a closed terminal as nothing."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)  # handled: what is ignored here stays so below
    return driver.once(lab.root, order, _talk) if once else driver.drive(lab.root, order, _talk)


def _talk(line: str) -> None:
    try:
        print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone, the night is not
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the rest of the process


def _say_end(obj: Context, lab: Lab, done: Plan) -> None:
    state = lab.read()
    total = account_of(state.agents)
    best = state.incumbent
    first = {
        "work": f"the agent is at work: {done.words}",
        "rest": f"waits until {done.until[:19]}: {done.words}",
        "idle": f"waits: {done.words}",
    }
    fields: Record = {
        "campaign": state.tag,
        "state": {"work": "working", "idle": "waiting", "rest": "waiting"}.get(done.do, "over"),
        "reason": done.words,
        "until": done.until or None,
        "sessions": total.sessions,
        "cost_usd": total.spent.cost_usd,
        "tokens": total.spent.tokens,
        "incumbent": best and {"experiment": best.id, "commit": best.commit, "metric": best.metric},
        "next": next_step(lab),
    }
    obj.say(
        [first.get(done.do, f"over: {done.words}"), f"sessions: {total.sessions}", f"next: {next_step(lab)}"],
        fields,
    )


def _print_cron(obj: Context, lab: Lab, order: turns.Order) -> None:
    argv = ["python3", str(ENTRY), "-C", str(lab.root), "drive", "--once", *order.words()]
    line = prompts.cron_line(argv, str(lab.home / "heartbeat.log"), os.environ.get("PATH", os.defpath))
    obj.say([line], {"line": line})


def say_permissions(obj: Context, lab: Lab) -> None:
    """Print the allow-list of each agent program: what a session by itself needs, and nothing more."""
    place = Place(str(ENTRY), lab.settings.edit, str(lab.root), str(lab.workspace.common.resolve()))
    rows = allowances(place)
    lines = ["What an agent that nobody sits beside must be allowed. Where it is written is your decision."]
    for row in rows:
        lines += [f"{row.host}: {row.where}", f"  {row.text}", f"  {row.note}"]
    obj.say(lines, {"permissions": [vars(row) for row in rows]})


def _detach(obj: Context, lab: Lab, order: turns.Order) -> None:
    """Start the same again as a process of its own, and say how to look at it."""
    folder = lab.home / "agent"
    folder.mkdir(exist_ok=True)
    log = folder / "drive.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, str(ENTRY), "-C", str(lab.root), "drive", *order.words()], cwd=lab.root,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + DETACH_SECONDS
    while process.poll() is None and not _holds(lab, process.pid) and time.monotonic() < end:
        time.sleep(0.05)
    if process.poll():
        last = log.read_text(errors="replace").strip().splitlines()[-2:]
        raise LabError(f"the driver ended at once: {' '.join(last)}", f"see {log}", process.returncode)
    obj.say(
        [f"drive is at work (pid {process.pid}), its words: {log}",
         f"end it: `stop` starts nothing new, `kill {process.pid}` ends the driver and its session"],
        {"campaign": lab.state.tag, "state": "detached", "pid": process.pid, "log": str(log)},
    )  # fmt: skip


def _holds(lab: Lab, pid: int) -> bool:
    """Whether that process is the campaign's driver by now."""
    try:
        return bool(json.loads((lab.home / "drive.json").read_bytes())["pid"] == pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False
