"""Lessons written into memory: put at the end of their file, and older ones told what took their place."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import notes
from lab.campaign import Lab
from lab.errors import USAGE, LabError
from lab.likeness import alike
from lab.memory import (
    CONTRADICTED,
    HOLDS,
    KINDS,
    REPLACED,
    Entry,
    entries,
    find,
    outside_code,
    parsed,
    text_lines,
)
from lab.model import MEMORIES, Experiment
from lab.redact import one_line
from lab.settings import TAG
from lab.steps import step

LONGEST_TEXT, LONGEST_TITLE = 2_000, 90
_STATE = re.compile(rb"State:[ \t*_`]*(?:holds|contradicted|replaced)\b(?:, see [^\r\n]*)?\.?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[^\W\d]{2}[.!?])\s|(?<=[。！？])")


@dataclass(frozen=True)
class Lesson:
    """What somebody wants to be remembered."""

    text: str
    kind: str = "learning"
    evidence: tuple[str, ...] = ()  # experiment ids of the present campaign
    state: str = HOLDS
    replaces: str = ""
    contradicts: str = ""


def remember(lab: Lab, lesson: Lesson) -> tuple[Entry, bool, list[str]]:
    """Append an entry to the file of its kind; return it, whether it is new, and what to tell.

    Raises LabError before anything is written when an experiment or an entry that it names does not exist.
    """
    text = _flat(lesson.text)
    if not text:
        raise LabError("there is nothing to remember", 'say it in one sentence: remember "..."', USAGE)
    block = _block(text, lesson.state, _proofs(lab, lesson.evidence), lab)
    name, head = (part.format(tag=_tag(lab)) for part in KINDS[lesson.kind])
    with lab.noting("remember"):
        before = entries(lab.root)
        old = {word: find(before, identity) for word, identity in _older(lesson).items()}
        path = notes.memory_file(lab.root, name)
        notes.change(path, lambda data: _with_block(data, f"{head}\n", block, f"{MEMORIES}/{name}"))
        step("remember.appended")
        after = entries(lab.root)
        same = next(e for e in reversed(after) if e.kind == lesson.kind and _says(e, block))
        for word, entry in old.items():
            if entry.id != same.id:
                _set_state(lab.root, entry, word, one_line(f"{same.date} {same.title}", 120))
    fresh = same.id not in {entry.id for entry in before}
    return same, fresh, _alike(before, same, set(_older(lesson).values()))


def _flat(text: str) -> str:
    """The text as one line that cannot pass for a heading or for the beginning of a code block."""
    line = one_line(" ".join(text.split()), LONGEST_TEXT)
    return line.replace("```", "`").replace("~~~", "~").lstrip("# ")


def _proofs(lab: Lab, names: Sequence[str]) -> list[Experiment]:
    found = [lab.state.get(name) for name in names]
    unproven = [experiment.id for experiment in found if not experiment.verdict]
    if unproven:
        raise LabError(
            f"{', '.join(unproven)} has no verdict yet", "`wait` for it: until then it proves nothing"
        )
    return list({experiment.id: experiment for experiment in found}.values())


def _older(lesson: Lesson) -> dict[str, str]:
    wanted = {REPLACED: lesson.replaces, CONTRADICTED: lesson.contradicts}
    return {word: identity for word, identity in wanted.items() if identity}


def _tag(lab: Lab) -> str:
    """The campaign's tag, which names a file here: a journal edited by hand must not lead elsewhere."""
    tag = lab.state.tag
    if not TAG.fullmatch(tag) or ".." in tag:
        raise LabError(f"the journal's tag is {tag!r}", "mend the first line of .autoresearch/journal.jsonl")
    return tag


def _alike(before: Sequence[Entry], entry: Entry, leave: set[str]) -> list[str]:
    others = [e for e in before if e.id not in {entry.id, *leave} and e.state != REPLACED]
    return [
        f"{e.id} says something alike: {one_line(e.title, 100)!r}; if this is better: --replaces {e.id}"
        for e in others
        if alike(e.title, entry.title)
    ][:2]


def _block(text: str, state: str, proofs: Sequence[Experiment], lab: Lab) -> str:
    """The entry as it stands in the file."""
    title = _title(text)
    body = "" if title == text.rstrip(".") else f"{text}\n"
    today = datetime.date.today().isoformat()
    shown = [f"{e.id} {e.verdict}" + (f" {e.metric:.6f}" if e.metric is not None else "") for e in proofs]
    facts = [f"Evidence: {', '.join(shown)}."] if shown else []
    facts += [f"Campaign: {lab.state.tag}, commit {lab.state.incumbent_commit[:7]}.", f"State: {state}."]
    return f"## {today} {title}\n\n{body}{' '.join(facts)}\n"


def _title(text: str) -> str:
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    return one_line(first, LONGEST_TITLE).rstrip(".") or text[:LONGEST_TITLE]


def _with_block(data: bytes, head: str, block: str, file: str) -> bytes:
    """The file with the entry at its end, unless it says so already."""
    if any(_says(entry, block) for entry in parsed(data, file)):
        return data
    return notes.appended(data or head.encode(), block)


def _says(entry: Entry, block: str) -> bool:
    """Whether an entry has the words of `block`, whatever its date, evidence and state."""
    wanted = parsed(block.encode("utf-8", "replace"), entry.file)[0]
    body, _, facts = wanted.text.rpartition("\n")
    return entry.title == wanted.title and bool(facts) and entry.text.startswith(body)


def _set_state(root: Path, entry: Entry, word: str, by: str) -> None:
    """Change the state of an entry in its file, and say what took its place."""

    def changed(data: bytes) -> bytes:
        heading = (entry.date, entry.title)
        known = [found for found in parsed(data, entry.file) if (found.date, found.title) == heading]
        if not known or known[0].state == word:
            return data
        lines = notes.lines_of(data)
        start, end = known[0].line, _end_of(text_lines(data), known[0].line)
        said = f"State: {word}, see {by}.".encode("utf-8", "replace")
        for n in reversed(range(start, end)):
            spots = list(_STATE.finditer(lines[n]))
            if spots:
                lines[n] = lines[n][: spots[-1].start()] + said + lines[n][spots[-1].end() :]
                return b"".join(lines)
        front = b"".join(lines[:end]).rstrip(b"\r\n")
        return front + notes.ending(data) + said + (data[len(front) :] or notes.ending(data))

    notes.change(notes.memory_file(root, entry.file.removeprefix(f"{MEMORIES}/")), changed)


def _end_of(lines: Sequence[str], start: int) -> int:
    """The line (from 0) before which the entry ends whose text begins at `start`."""
    return next((n for n in outside_code(lines) if n >= start and lines[n].startswith("## ")), len(lines))
