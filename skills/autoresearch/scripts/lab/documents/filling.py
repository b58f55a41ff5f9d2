"""A document of a campaign: made from its template, filled from the journal, filled again later.

What people and agents wrote into it stays. The file is exchanged as notes are: an editor's save is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import morning, notes
from lab.campaign import Lab
from lab.documents import regions
from lab.documents.contents import PARTS
from lab.documents.kinds import NOTEBOOK, Kind, template
from lab.documents.regions import Place
from lab.documents.tried import Facts
from lab.errors import REFUSED, USAGE, LabError
from lab.model import Experiment, now
from lab.redact import hide_secrets
from lab.settings import TAG
from lab.steps import step

AGE = "age"  # says when the rest was filled, and is no reason to fill it again


@dataclass(frozen=True)
class Document:
    """A document as it stands: `old` names parts that no longer say what the journal says."""

    kind: Kind
    path: Path
    parts: tuple[str, ...]
    old: tuple[str, ...]
    edited: tuple[str, ...]
    places: tuple[Place, ...]
    there: bool


def fill(lab: Lab, kind: Kind, next_step: str, experiment: Experiment | None, to: str | None) -> Document:
    """Make the document or fill it again; LabError before anything is written."""
    path = place(lab, kind, experiment, to)
    contents = _contents(lab, kind, next_step, experiment)
    start = _begun(lab, kind, experiment)
    with lab.noting("document"):
        notes.change(path, lambda data: _refilled(data, start, contents, path))
        step("document.written")
    return look(lab, kind, next_step, experiment, to)


def look(lab: Lab, kind: Kind, next_step: str, experiment: Experiment | None, to: str | None) -> Document:
    """The document as it stands; nothing is written."""
    path = place(lab, kind, experiment, to)
    data = notes.read(path)
    text = data.decode("utf-8", "surrogateescape")
    contents = _contents(lab, kind, next_step, experiment) if data else {}
    old = [name for name in regions.differing(text, contents) if name != AGE]
    return Document(
        kind,
        path,
        tuple(regions.names(text)),
        tuple(old),
        tuple(regions.edited(text)),
        tuple(regions.places(text)),
        bool(data),
    )


def place(lab: Lab, kind: Kind, experiment: Experiment | None, to: str | None) -> Path:
    """Where the document lies: in the campaign's notebook, or where the caller wants it in the project."""
    tag = lab.state.tag
    if not TAG.fullmatch(tag) or ".." in tag:
        raise LabError(f"the journal's tag is {tag!r}", "mend the first line of .autoresearch/journal.jsonl")
    if "{experiment}" in kind.file and experiment is None:
        raise LabError("which experiment?", f"`document {kind.name} e012` names it", USAGE)
    name = kind.file.format(experiment=experiment.id if experiment else "")
    return notes.inside(lab.root, to or f"{NOTEBOOK}/{tag}/{name}")


def _begun(lab: Lab, kind: Kind, experiment: Experiment | None) -> str:
    """The template with the names of this campaign in it."""
    words = {"tag": lab.state.tag, "date": now()[:10], "experiment": experiment.id if experiment else ""}
    text = template(kind)
    for name, word in words.items():
        text = text.replace(f"{{{{{name}}}}}", word)
    return text


def _contents(
    lab: Lab, kind: Kind, next_step: str, experiment: Experiment | None
) -> Mapping[str, Sequence[str]]:
    """What each part of this kind says now."""
    facts = Facts(lab, morning.story(lab, next_step), experiment)
    wanted = regions.names(template(kind))
    return {name: [hide_secrets(line) for line in PARTS[name](facts)] for name in wanted}


def _refilled(data: bytes, start: str, contents: Mapping[str, Sequence[str]], path: Path) -> bytes:
    old = data.decode("utf-8", "surrogateescape")
    if old.strip() and not regions.names(old):
        raise LabError(
            f"{path} is no document of ours: nothing in it is marked to be filled",
            "name another file, or leave --to out",
            REFUSED,
        )
    text = old if old.strip() else start
    due = set(regions.differing(text, contents)) - {AGE}
    if old.strip() and not due:
        return data
    return regions.filled(text, contents).encode("utf-8", "surrogateescape")
