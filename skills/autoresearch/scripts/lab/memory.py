"""What was learned, in words: dated entries with evidence and state, in Markdown that people edit too.

An entry is a `## ` heading with a date and what follows it. What it rests on and whether it still holds stand
in its last line as `Evidence: e012 keep 0.981200. Campaign: nov21, commit 1a2b3c4. State: holds.`, which a
person may write or leave out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab import notes
from lab.agenda import AGENDA
from lab.errors import LabError
from lab.model import MEMORIES

HOLDS, CONTRADICTED, REPLACED = "holds", "contradicted", "replaced"
STATES = (HOLDS, CONTRADICTED, REPLACED)
# Kind -> its file, and the first line of a new one.
KINDS = {
    "learning": ("learnings.md", "# Learnings"),
    "issue": ("issues.md", "# Issues"),
    "decision": ("decisions.md", "# Decisions"),
    "architecture": ("repo/architecture.md", "# Architecture"),
    "campaign": ("campaigns/{tag}.md", "# Campaign {tag}"),
}
NOTEBOOK = "notebook"  # documents filled from the journal: nothing in them is known only there
MOST_FILES = 2_000
LONGEST_TITLE = 300
ENTRIES_ONLY = ("learnings.md", "issues.md", "decisions.md")  # what stands there before a heading is preface
_DATE = re.compile(r"\b(\d{4}-\d\d-\d\d)\b")
_STATE = re.compile(r"\bState:[ \t*_`]*(holds|contradicted|replaced)\b", re.IGNORECASE)
_EVIDENCE = re.compile(r"\bEvidence:(.*?)(?:Campaign:|State:|$)", re.MULTILINE)
_CAMPAIGN = re.compile(r"\bCampaign:[ \t]*([a-z0-9][a-z0-9._-]*[a-z0-9]|[a-z0-9])")
_EXPERIMENT = re.compile(r"\be\d{3,9}\b")


@dataclass(frozen=True)
class Entry:
    """One thing that is known. `state` is None where the file does not say."""

    id: str
    kind: str
    title: str
    text: str  # everything below the heading
    file: str  # from the project's folder
    line: int  # of the heading, from 1
    date: str = ""
    state: str | None = None
    evidence: tuple[str, ...] = ()
    campaign: str = ""

    @property
    def source(self) -> str:
        """The evidence with its campaign, in a few words."""
        return " ".join([f"{self.campaign}:" if self.campaign else "", ", ".join(self.evidence)]).strip(" :")


# -- reading -----------------------------------------------------------------------------------------------


def files(root: Path) -> list[Path]:
    """The Markdown files of memories/, without those that a link brings in from outside."""
    try:
        top = notes.inside(root, MEMORIES)
    except LabError:
        return []
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != NOTEBOOK)
        found += [
            Path(folder, name)
            for name in sorted(names)
            if name.lower().endswith(".md")
            and not name.startswith(".")
            and Path(os.path.realpath(Path(folder, name))).is_relative_to(top)
        ]
    agenda = top / Path(AGENDA).name
    return [path for path in found if path != agenda and path.is_file()][:MOST_FILES]


def entries(root: Path) -> list[Entry]:
    """Every entry of memories/, file by file; a file that is no text is left out. Ids are unique."""
    found: list[Entry] = []
    taken: set[str] = set()
    top = os.path.realpath(root / MEMORIES)
    for path in files(root):
        try:
            data = notes.read(path)
        except (LabError, OSError):
            continue
        for entry in parsed(data, f"{MEMORIES}/{os.path.relpath(path, top)}"):
            identity = _identity(entry, taken)
            taken.add(identity)
            found.append(replace(entry, id=identity))
    return found


def _identity(entry: Entry, taken: set[str]) -> str:
    """An id from kind and heading: stable while those stay, and nothing has to be written into the file."""
    return notes.fresh_id("m", f"{entry.kind}\0{entry.date}\0{entry.title}", taken)


def parsed(data: bytes, file: str) -> list[Entry]:
    """The entries of one file; a file of a person's own without such headings is one entry."""
    lines, kind = text_lines(data), _kind(file)
    heads = [n for n in outside_code(lines) if lines[n].startswith("## ")]
    if not heads and any(lines) and Path(file).name not in ENTRIES_ONLY:
        first = next(n for n, line in enumerate(lines) if line)
        return [_entry(lines[first].lstrip("# "), lines[first + 1 :], file, first, kind)]
    ends = [*heads, len(lines)][1:]
    return [
        _entry(lines[n][3:], lines[n + 1 : end], file, n, kind) for n, end in zip(heads, ends, strict=True)
    ]


def text_lines(data: bytes) -> list[str]:
    """The lines as text, counted as `notes.lines_of` counts them."""
    lines = notes.lines_of(data.removeprefix(notes.BYTE_ORDER_MARK))
    return [line.decode("utf-8", "replace").rstrip() for line in lines]


def _entry(heading: str, body: Sequence[str], file: str, line: int, kind: str) -> Entry:
    text = "\n".join(body).strip()
    date = _DATE.search(heading)
    title = heading.replace(date[1], "", 1) if date else heading
    state = _STATE.findall(text)
    evidence = _EVIDENCE.findall(text)
    campaign = _CAMPAIGN.findall(text)
    return Entry(
        id="",
        kind=kind,
        title=" ".join(title.split())[:LONGEST_TITLE].strip(" -:·") or "(no title)",  # shown through one_line
        text=text,
        file=file,
        line=line + 1,
        date=date[1] if date else "",
        state=state[-1].lower() if state else None,
        evidence=tuple(dict.fromkeys(_EXPERIMENT.findall(evidence[-1]))) if evidence else (),
        campaign=campaign[-1] if campaign else "",
    )


def _kind(file: str) -> str:
    inner = Path(file).relative_to(MEMORIES).as_posix() if file.startswith(f"{MEMORIES}/") else file
    if inner.startswith("campaigns/"):
        return "campaign"
    return next((kind for kind, (name, _) in KINDS.items() if name == inner), "note")


def outside_code(lines: Sequence[str]) -> Iterator[int]:
    """The numbers of the lines outside code fences; a fence that is never closed is none."""
    n = 0
    while n < len(lines):
        mark = lines[n].lstrip()[:3]
        end = None
        if mark in ("```", "~~~"):
            end = next((m for m in range(n + 1, len(lines)) if lines[m].lstrip().startswith(mark)), None)
        if end is None:
            yield n
        n = (n if end is None else end) + 1


def find(known: Sequence[Entry], identity: str) -> Entry:
    """The entry with this id, or say where the ids are."""
    found = next((entry for entry in known if entry.id == identity), None)
    if found is None:
        raise LabError(f"there is no entry {identity!r} in {MEMORIES}/", '`recall "WORDS"` shows the ids')
    return found


def newest(known: Sequence[Entry], count: int = 2) -> list[Entry]:
    """What a fresh session should know of: the newest that hold, measured ones before the rest."""
    alive = [entry for entry in known if entry.state in (HOLDS, None) and entry.kind != "note"]
    rank = {"learning": 2, "issue": 1}
    return sorted(alive, key=lambda e: (rank.get(e.kind, 0), e.date, e.line), reverse=True)[:count]
