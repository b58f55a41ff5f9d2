"""The agent programs that `drive` knows: how each takes its message, and what each must be allowed.

A further program is a row in PROGRAMS and, for its permissions, a function in ALLOWANCES. Any other program
works too: `{prompt}` in its command, `--prompt stdin`, or the message as the last argument. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lab.errors import USAGE, LabError

HOLE = "{prompt}"
STDIN, ARGUMENT = "stdin", "argument"


@dataclass(frozen=True)
class Program:
    """One agent program."""

    host: str
    way: str  # stdin, argument, or the option that takes the message
    unattended: tuple[str, ...]  # one of these makes it work without a person at the keyboard
    typed: str  # how it is then called


# By the name of the program. Claude's --allowedTools takes every word behind it: its message comes by stdin.
PROGRAMS = {
    "claude": Program("claude", STDIN, ("-p", "--print"), "claude -p"),
    "codex": Program("codex", STDIN, ("exec", "e"), "codex exec"),
    "copilot": Program("copilot", "--prompt", (), "copilot"),
    "cursor-agent": Program("cursor", ARGUMENT, ("-p", "--print"), "cursor-agent -p"),
}
UNKNOWN = Program("", ARGUMENT, (), "")
WRAPPED = 8  # words before the program: `nice -n 10 env A=b npx ...`


def program_of(argv: Sequence[str]) -> Program:
    """The known program that the command runs, also behind a wrapper."""
    names = [PurePath(word).name for word in argv[:WRAPPED]]
    return next((PROGRAMS[name] for name in names if name in PROGRAMS), UNKNOWN)


def refuse_attended(argv: Sequence[str]) -> None:
    """Refuse a known program that would wait for a person. Raises LabError with code 2."""
    program = program_of(argv)
    if program.unattended and not set(program.unattended) & set(argv):
        raise LabError(
            f"`{' '.join(argv)}` waits for a person at the keyboard", f"drive -- {program.typed} ...", USAGE
        )


def with_message(argv: Sequence[str], message: str, way: str = "") -> tuple[list[str], str]:
    """The command with its message: the argv, and what it is to read from stdin."""
    if any(HOLE in word for word in argv):
        return [word.replace(HOLE, message) for word in argv], ""
    way = way or program_of(argv).way
    if way == STDIN:
        return list(argv), message
    if way == ARGUMENT:
        return [*argv, message], ""
    if argv[-1] in (way, "-p"):  # `copilot ... -p` with the message still to come
        return [*argv, message], ""
    return [*argv, way, message], ""


def unguarded(argv: Sequence[str]) -> list[str]:
    """The words of the user's own command that let the agent do anything."""
    bare = {"yolo", "allow-all", "allow-all-tools", "trust-all-tools"}
    found = [w for w in argv if w.startswith("--danger") or (w[:2] == "--" and w[2:] in bare)]
    found += [w for w in argv if w.split("=")[-1] in ("bypassPermissions", "danger-full-access")]
    if program_of(argv).host == "cursor":
        found += [word for word in argv if word in ("-f", "--force")]
    return list(dict.fromkeys(found))


# -- permissions -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What the permissions are about."""

    entry: str  # the tool's entry file
    edit: tuple[str, ...]  # patterns of the files a candidate may change
    root: str
    git: str  # the repository's own folder


@dataclass(frozen=True)
class Allowance:
    """What one program must be allowed, and nothing more: where it is written, the text, what to know."""

    host: str
    where: str
    text: str
    note: str = ""


def allowances(place: Place) -> list[Allowance]:
    """For each known program."""
    return [make(place) for make in ALLOWANCES]


def _claude(p: Place) -> Allowance:
    tools = [
        f"Bash(python3 {p.entry} *)", *(f"Edit({path})" for path in p.edit), "Read", "Grep", "Glob",
        "Skill(autoresearch)",
    ]  # fmt: skip
    return Allowance(
        "claude",
        ".claude/settings.json (or each behind --allowedTools)",
        json.dumps({"permissions": {"allow": tools}}),
        "with -p, what is not allowed is refused without a question",
    )


def _codex(p: Place) -> Allowance:
    roots = json.dumps([p.git])
    return Allowance(
        "codex",
        "the command",
        f"codex exec --sandbox workspace-write -c 'sandbox_workspace_write.writable_roots={roots}'",
        "its sandbox has no network and keeps .git read-only otherwise; run `doctor` inside it once",
    )


def _copilot(p: Place) -> Allowance:
    writes = " ".join(f"--allow-tool 'write({path})'" for path in p.edit)
    return Allowance(
        "copilot",
        "the command",
        f"copilot --trust-folder --allow-tool 'shell(python3:*)' {writes}",
        "it knows commands by their name only: this allows every python3 call",
    )


def _cursor(p: Place) -> Allowance:
    allowed = ["Shell(python3)", "Read(**)", *(f"Write({path})" for path in p.edit)]
    return Allowance(
        "cursor",
        ".cursor/cli.json",
        json.dumps({"permissions": {"allow": allowed, "deny": []}}),
        "print mode only proposes edits unless its own force option is set, says its manual: your decision",
    )


ALLOWANCES: tuple[Callable[[Place], Allowance], ...] = (_claude, _codex, _copilot, _cursor)
