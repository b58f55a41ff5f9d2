"""What a driven session is told: the start message, the one to go on with, and the one to close with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What the message is about."""

    tag: str
    skill: str  # the file SKILL.md
    entry: str
    root: str
    edit: str  # files, for people
    first: bool  # no session of this campaign before
    closing: str = ""  # why only the end is left
    target: str = ""


def message(task: Task) -> str:
    """The whole message, in plain words; the skill has the protocol and the journal the state."""
    call = f"python3 {shlex.quote(task.entry)}"
    lines = [
        f"Work on the autoresearch campaign {task.tag} in {task.root}, by the skill autoresearch "
        f"({task.skill}): read it if you have not.",
        f"Begin with `{call} status` and follow its `next:` line; the state is all on disk.",
        _before(task),
        _aim(task),
        "You are started by `drive` and nobody sits beside you; the user agreed on the budget at set-up. "
        "What you are not permitted stays undone: say in your last words what you were refused.",
    ]
    return "\n".join(line for line in lines if line)


def _before(task: Task) -> str:
    if task.first:
        return ""
    return (
        f"A session before you ended. {task.edit} may hold an edit of it that was never tried: look at "
        f"it, then try it or drop it (`git show autoresearch/{task.tag}:FILE > FILE`) before your own."
    )


def _aim(task: Task) -> str:
    if task.closing:
        return (
            f"Start no new experiment ({task.closing}): `wait` for what still runs, then `confirm` until it "
            "has a result, then `finish`."
        )
    aim = f" The aim is {task.target}; when it is reached stop trying." if task.target else ""
    return (
        "Go from one experiment to the next until `try` answers that the budget is spent; then `confirm` and "
        f"`finish`.{aim} Do not end your turn while a run is going: `wait` for it."
    )


def heartbeat(call: str) -> str:
    """HEARTBEAT.md for an agent that is woken at fixed times and reads this file."""
    return f"""# Heartbeat: the autoresearch campaign

At each heartbeat:

1. Run `{call} --json status`.
2. `finished` or `stopped` is set: say so once, then answer HEARTBEAT_OK from then on.
3. `running` is not empty: answer HEARTBEAT_OK. The run goes on by itself.
4. Otherwise follow the `next` field by the skill autoresearch: one experiment a heartbeat is enough.
5. The budget is spent: `confirm`, then `finish`, then tell the user the first line of `wake`.
"""


def cron_line(argv: list[str], log: str, path: str) -> str:
    """A crontab line for every ten minutes; cron gives no PATH to speak of, and reads % as a newline."""
    line = f"PATH={shlex.quote(path)} {shlex.join(argv)} >> {shlex.quote(log)} 2>&1"
    return "*/10 * * * * " + line.replace("%", "\\%")
