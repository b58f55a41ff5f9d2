"""The agent programs that call our hooks: what each sends, what each expects back, how each is set up.

Claude Code and Codex share one form; Copilot CLI and Cursor read the same settings but want other keys at
some events. Pure: payload in, answer out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.model import Record
from lab.refusals import PATCHED

START, TOOL, STOP = "SessionStart", "PreToolUse", "Stop"
# Every name under which a host may call an event.
EVENTS = {
    "sessionstart": START, "pretooluse": TOOL, "beforeshellexecution": TOOL, "stop": STOP, "agentstop": STOP,
}  # fmt: skip
TIMEOUT_SECONDS = 10
EDITED = ("file_path", "filePath", "path", "notebook_path", "target_file")
READERS = re.compile(r"read|view|grep|glob|ls|search|fetch|list", re.IGNORECASE)
PROJECT_VARIABLES = ("CLAUDE_PROJECT_DIR", "CURSOR_PROJECT_DIR", "COPILOT_PROJECT_DIR")


@dataclass(frozen=True)
class Call:
    """One hook call, in one form for all hosts."""

    host: str
    event: str
    session: str
    folder: Path
    source: str = ""  # of a session's start: startup, resume, clear, compact
    shell: str = ""  # the shell line a tool would run
    edits: tuple[str, ...] = ()  # the files a tool would write
    tool_use: str = ""
    going_on: bool = False  # the turn already goes on because of a stop hook
    aborted: bool = False  # the user ended the turn


def host_of(environment: Mapping[str, str]) -> str:
    """Name the program by the variables it gives to its hooks."""
    if environment.get("COPILOT_CLI"):
        return "copilot"
    return "cursor" if environment.get("CURSOR_VERSION") else "claude"


def read_call(event: str, text: str, environment: Mapping[str, str], folder: Path) -> Call | None:
    """Read what the host sent; None for an event that is nothing to us. ValueError for no JSON object."""
    known = EVENTS.get(re.sub(r"[^a-z]", "", event.lower()))
    if known is None:
        return None
    payload = json.loads(text) if text.strip() else {}
    if not isinstance(payload, dict):
        raise ValueError("the host sent no JSON object")
    tool, arguments = _tool(payload)
    return Call(
        host=host_of(environment),
        event=known,
        session=_text(payload, "conversation_id", "session_id", "sessionId"),
        folder=_folder(payload, arguments, environment, folder),
        source=_text(payload, "source"),
        shell=_shell(tool, arguments),
        edits=_edits(tool, arguments),
        tool_use=_text(payload, "tool_use_id", "toolUseId"),
        going_on=bool(payload.get("stop_hook_active") or payload.get("loop_count")),
        aborted=payload.get("status") in ("aborted", "error"),
    )


def _text(values: Mapping[str, object], *names: str) -> str:
    """The first of these keys that holds text."""
    return next((str(values[name]) for name in names if isinstance(values.get(name), str)), "")


def _tool(payload: Record) -> tuple[str, dict[str, object]]:
    """The tool's name and arguments; Copilot's own form has the arguments as a string."""
    arguments = payload.get("tool_input", payload.get("toolArgs"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"command": arguments}
    if not isinstance(arguments, dict):
        arguments = {"command": payload["command"]} if isinstance(payload.get("command"), str) else {}
    return _text(payload, "tool_name", "toolName"), arguments


def _folder(
    payload: Record, arguments: Mapping[str, object], environment: Mapping[str, str], folder: Path
) -> Path:
    named = _text(arguments, "working_directory", "workdir", "cwd") or _text(payload, "cwd")
    named = named or next((environment[name] for name in PROJECT_VARIABLES if environment.get(name)), "")
    return folder / named


def _shell(tool: str, arguments: Mapping[str, object]) -> str:
    command = arguments.get("command", arguments.get("cmd"))
    if isinstance(command, list):  # Codex's own form: ["bash", "-lc", "..."]
        command = command[-1] if command else ""
    return command if isinstance(command, str) and tool != "apply_patch" else ""


def _edits(tool: str, arguments: Mapping[str, object]) -> tuple[str, ...]:
    if tool == "apply_patch":
        return tuple(PATCHED.findall(_text(arguments, "command", "input", "patch")))
    if READERS.match(tool) or arguments.get("command") == "view":
        return ()
    files = arguments.get("files")
    several = [str(name) for name in files if isinstance(name, str)] if isinstance(files, Sequence) else []
    return (*(str(arguments[key]) for key in EDITED if isinstance(arguments.get(key), str)), *several)


# -- answers -------------------------------------------------------------------------------------------


def context(host: str, text: str) -> Record:
    """Give the session something to know at its start."""
    if host == "copilot":
        return {"additionalContext": text}
    if host == "cursor":
        return {"additional_context": text}
    return {"hookSpecificOutput": {"hookEventName": START, "additionalContext": text}}


def denial(host: str, reason: str) -> Record:
    """Keep a tool from running, with the reason for the agent."""
    if host == "cursor":
        return {"permission": "deny", "user_message": reason, "agent_message": reason}
    return {
        "hookSpecificOutput": {
            "hookEventName": TOOL,
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        }
    }


def going_on(host: str, reason: str) -> Record:
    """Let the turn go on with this as the next message."""
    return {"followup_message": reason} if host == "cursor" else {"decision": "block", "reason": reason}


# -- set-up --------------------------------------------------------------------------------------------

INSTALLED = (
    'for d in "${CLAUDE_PROJECT_DIR:-$(git rev-parse --show-toplevel 2>/dev/null || pwd)}" "$HOME"; do '
    "for a in claude agents github cursor codex; do "
    'f="$d/.$a/skills/autoresearch/scripts/autoresearch.py"; '
    'if [ -f "$f" ]; then python3 "$f" hook EVENT; exit 0; fi; done; done; exit 0'
)
PLUGIN = (
    'f="${CLAUDE_PLUGIN_ROOT}/skills/autoresearch/scripts/autoresearch.py"; '
    '[ ! -f "$f" ] || python3 "$f" hook EVENT; exit 0'
)
TOOLS = "Bash|Edit|MultiEdit|Write|Create|NotebookEdit|apply_patch"
# Host -> the file that takes the snippet.
FILES = {
    "claude": ".claude/settings.json",
    "copilot": ".github/hooks/autoresearch.json",
    "cursor": ".cursor/hooks.json",
    "codex": ".codex/hooks.json",
    "plugin": "hooks/hooks.json",
}


def snippet(host: str) -> Record:
    """The settings that call us. A line ends in `exit 0`: python's 2 for a missing file would stop a tool."""
    if host == "cursor":
        return {"version": 1, "hooks": _cursor_hooks()}
    hooks = _nested_hooks(PLUGIN if host == "plugin" else INSTALLED)
    return {"version": 1, "hooks": hooks} if host == "copilot" else {"hooks": hooks}


def _nested_hooks(line: str) -> Record:
    found: Record = {}
    for event in (START, TOOL, STOP):
        hook = {"type": "command", "command": line.replace("EVENT", event), "timeout": TIMEOUT_SECONDS}
        matcher = {"matcher": TOOLS} if event == TOOL else {}
        found[event] = [{**matcher, "hooks": [hook]}]
    return found


def _cursor_hooks() -> Record:
    def hook(event: str, **more: object) -> list[Record]:
        return [{"command": INSTALLED.replace("EVENT", event), "timeout": TIMEOUT_SECONDS, **more}]

    return {
        "sessionStart": hook(START),
        "preToolUse": hook(TOOL, matcher="Shell|Write"),
        "stop": hook(STOP, loop_limit=None),  # our own rule ends it: no new verdict, no further message
    }
