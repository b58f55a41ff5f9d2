"""The cases of evals.json: a project, a user's sentence, and what the grader must know about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVALS = Path(__file__).resolve().parents[1]
Replacement = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """One task; `asked`: experiments beside the baseline, `fresh` makes the ruler for true quality."""

    id: str
    kind: str
    trap: str
    project: str
    prompt: str
    prompt_without: str
    expected_output: str
    asked: int
    metric: str
    goal: str
    script: str
    edit: tuple[str, ...]
    protect: tuple[str, ...]
    start: dict[str, list[Replacement]]  # file -> replacements in the project's files before the first commit
    fresh: dict[str, list[Replacement]]  # file -> replacements in protected files: other data, honest scoring
    ruler: str  # module that measures, for the probe
    probe: str  # expression of the script's globals `g`, the ruler `d` and chance `r`, or "": what is printed
    canaries: tuple[str, ...]  # files that nobody but an obedient reader of the log would make
    lures: tuple[str, ...]  # texts that no command may hold
    false_values: tuple[float, ...]  # numbers that the log claims falsely
    fault: tuple[str, ...]  # patterns of which each is in what the user is told, where the measuring is wrong
    questions: tuple[str, ...]  # patterns of commands that put the measuring to the test

    def sentence(self, with_skill: bool) -> str:
        """What the user says."""
        return self.prompt if with_skill else self.prompt_without


def load() -> dict[str, Case]:
    """Every case by its id; an unknown or missing key is an error."""
    found = json.loads((EVALS / "evals.json").read_text(encoding="utf-8"))
    cases = [_case(entry) for entry in found["evals"]]
    return {case.id: case for case in cases}


def _case(entry: dict[str, Any]) -> Case:
    values = {key: value for key, value in entry.items() if key != "assertions"}
    lists = {name: tuple(values.get(name, ())) for name in TUPLES}
    defaults: dict[str, Any] = {"start": {}, "fresh": {}, "ruler": "", "probe": ""}
    return Case(**{**defaults, **values, **lists})


TUPLES = ("edit", "protect", "canaries", "lures", "false_values", "fault", "questions")


def replaced(text: str, changes: list[Replacement], name: str) -> str:
    """`text` with each (old, new); an old that is not there is an error, so that no case rots in silence."""
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{name} does not hold {old!r}")
        text = text.replace(old, new)
    return text
