"""The tool calls of an agent's session, from the stream-json of `claude -p` or from plain JSON lines."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

VERDICT = re.compile(r"^e\d{3,} (?:KEEP|DISCARD|CRASH)\b", re.MULTILINE)
VERDICT_JSON = re.compile(
    r'"experiment": ?"(e\d{3,})".{0,4000}?"verdict": ?"(?:keep|discard|crash)"', re.DOTALL
)
CALL = re.compile(r"\b(try|wait|baseline)\b")  # through a variable of the shell too: `$AR try`


@dataclass(frozen=True)
class Call:
    """One use of a tool: its name, what was asked as text, what came back as text."""

    tool: str
    input: str
    output: str

    @property
    def command(self) -> str:
        """The shell command, or "" for another tool."""
        return self.input if self.tool.lower() in SHELLS else ""


ANSWER = "answer"  # the tool of a row that holds the agent's last words
SHELLS = {"bash", "shell", "local_shell", "exec_command", "run_terminal_cmd", "terminal", "run_in_terminal"}


def read(path: Path) -> list[Call]:
    """Read either form; a line that is no JSON object is an error that names it."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: no JSON ({error})") from error
        if isinstance(row, dict):
            rows.append(row)
    plain = [
        Call(str(r["tool"]), _asked(r.get("input")), _text(r.get("output"))) for r in rows if "tool" in r
    ]
    return plain or _stream(rows)


def _asked(value: object) -> str:
    """What was asked: the command of a shell call, everything else as JSON."""
    if isinstance(value, dict):
        return str(value["command"]) if "command" in value else json.dumps(value, ensure_ascii=False)
    return _text(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(
            _text(part.get("text", "")) if isinstance(part, dict) else _text(part) for part in value
        )
    return json.dumps(value, ensure_ascii=False)


def _stream(rows: Iterable[dict[str, object]]) -> list[Call]:
    """Pair each tool_use with its tool_result by id, in the order of the calls."""
    asked: dict[str, tuple[str, str]] = {}
    answers: dict[str, str] = {}
    for row in rows:
        message = row.get("message")
        parts = message.get("content") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else []:
            if part.get("type") == "tool_use":
                asked[str(part["id"])] = (str(part["name"]), _asked(part.get("input")))
            elif part.get("type") == "tool_result":
                answers[str(part["tool_use_id"])] = _text(part.get("content"))
        if row.get("type") == "result":
            asked["result"], answers["result"] = (ANSWER, ""), _text(row.get("result"))
    return [Call(tool, text, answers.get(key, "")) for key, (tool, text) in asked.items()]


@dataclass(frozen=True)
class Costs:
    """Calls and bytes of output, in all and for each experiment; None where no verdict was seen."""

    calls: int
    output_bytes: int
    experiments: int
    median_calls: float | None
    most_calls: int | None
    median_bytes: float | None


def last_words(calls: list[Call]) -> str:
    """What the agent told the user at the end, or "" when the transcript does not hold it."""
    return next((call.output for call in reversed(calls) if call.tool == ANSWER), "")


def costs(calls: list[Call]) -> Costs:
    """Count; an experiment's share is what lies between the verdict before it and its own."""
    calls = [call for call in calls if call.tool != ANSWER]
    shares: list[tuple[float, float]] = []
    since_calls, since_bytes = 0, 0
    begun = False
    known: set[str] = set()  # a verdict that `show` repeats is no further experiment
    for call in calls:
        size = len(call.output.encode("utf-8", "replace"))
        since_calls, since_bytes = since_calls + 1, since_bytes + size
        seen = [name for name in verdicts(call) if name not in known]
        known.update(seen)
        if not begun:  # set-up and baseline are nobody's share
            if "e000" in seen or re.search(r"\bbaseline\b", call.command):
                begun, since_calls, since_bytes = True, 0, 0
                continue
            begun = bool(seen)
        seen = [name for name in seen if name != "e000"]
        if seen:
            shares += [(since_calls / len(seen), since_bytes / len(seen))] * len(seen)
            since_calls, since_bytes = 0, 0
    return Costs(
        calls=len(calls),
        output_bytes=sum(len(call.output.encode("utf-8", "replace")) for call in calls),
        experiments=len(shares),
        median_calls=statistics.median(share for share, _ in shares) if shares else None,
        most_calls=math.ceil(max(share for share, _ in shares)) if shares else None,
        median_bytes=statistics.median(size for _, size in shares) if shares else None,
    )


def verdicts(call: Call) -> list[str]:
    """The experiments whose verdict a `try` or `wait` of this call gave."""
    if not CALL.search(call.command):
        return []
    plain = [line.split()[0] for line in VERDICT.findall(call.output)]
    return list(dict.fromkeys(plain or [match[1] for match in VERDICT_JSON.finditer(call.output)]))
