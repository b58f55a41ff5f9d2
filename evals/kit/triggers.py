"""Asking an agent which skill a sentence calls for, and counting how often it is the right one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kit.cases import EVALS

SKILLS = EVALS.parent / "skills"
QUESTION = """You have these skills, each with the moment to use it:

{skills}

A user says: {query}

Which one skill would you load first? Answer with its name alone, or with none."""


def queries() -> list[dict[str, object]]:
    """Every sentence with the skill it should call for, or null."""
    found = json.loads((EVALS / "triggers.json").read_text(encoding="utf-8"))
    return list(found)


def descriptions() -> dict[str, str]:
    """Each skill's name with its description, as an agent is shown them."""
    found = {}
    for path in sorted(SKILLS.glob("*/SKILL.md")):
        match = re.search(
            r"^description:\s*(.+)$", path.read_text(encoding="utf-8").split("---\n", 2)[1], re.MULTILINE
        )
        found[path.parent.name] = match[1] if match else ""
    return found


def question(query: str) -> str:
    """What the agent is asked."""
    skills = "\n".join(f"- {name}: {text}" for name, text in descriptions().items())
    return QUESTION.format(skills=skills, query=json.dumps(query, ensure_ascii=False))


def answered(text: str) -> str | None:
    """The skill that the last line of an answer names; None when it names none."""
    names = list(descriptions())
    for line in reversed(text.strip().splitlines()):
        said = [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line)]
        if said or re.search(r"\bnone\b", line, re.IGNORECASE):
            return said[0] if said else None
    return None


def ask(agent: str, repeats: int, only: str | None) -> Iterator[str]:
    """Yield one line a sentence, then how many were right: those named right in half of the repeats."""
    right, count = 0, 0
    for entry in queries():
        wanted = entry["skill"]
        if only and only not in (wanted, entry.get("near")):
            continue
        said = [answered(_say(agent, question(str(entry["query"])))) for _ in range(repeats)]
        rate = sum(name == wanted for name in said) / repeats
        right, count = right + (rate >= 0.5), count + 1
        yield f"{'ok  ' if rate >= 0.5 else 'MISS'} {rate:.2f} {wanted or 'none'}: {entry['query']}"
    yield f"{right} of {count} sentences"


def _say(agent: str, text: str) -> str:
    words = shlex.split(agent)
    command = [word.replace("{prompt}", text) for word in words]
    command += [] if any("{prompt}" in word for word in words) else [text]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=Path.home(), check=False
    )
    return done.stdout
