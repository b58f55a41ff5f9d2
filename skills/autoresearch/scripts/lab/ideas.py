"""What to try: ideas added, judged, taken from people's notes, and followed to what came out.

The agenda (memories/ideas.md) is the one truth of an idea's words, scores and state; the journal is the
truth of what was tested, and `follow` carries it into the agenda. A note that serves as inbox is only read
and marked: its items are taken over once, and their marks follow the agenda.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab import marks, notes
from lab.agenda import AGENDA, Idea, adopted, find, marked, parsed, plain, updated, with_new
from lab.campaign import Lab
from lab.errors import LabError
from lab.marks import QUEUED, TESTED
from lab.model import Experiment
from lab.redact import one_line

NOTES = (".md", ".markdown", ".mdx", ".txt")
TAKEN_AT_ONCE = 200  # from one note: more is a wrong file


@dataclass(frozen=True)
class Taken:
    """What reading a note gave."""

    fresh: tuple[Idea, ...] = ()
    known: int = 0
    told: tuple[str, ...] = ()


def agenda(root: Path) -> list[Idea]:
    """The ideas on the agenda, in its order; [] when there is none or it cannot be read as text."""
    try:
        return parsed(notes.read(_path(root)))
    except LabError:
        return []


def add(lab: Lab, wish: Idea) -> tuple[Idea, bool]:
    """Put an idea on the agenda; return it, and whether it is new there."""
    with lab.noting("ideas"):
        before = {idea.id for idea in _written(lab)}
        after = _change(lab, lambda data: with_new(data, [wish]))
    found = next(idea for idea in after if plain(idea.text) == plain(wish.text))  # just put there
    return found, found.id not in before


def judge(lab: Lab, identity: str, wishes: Mapping[str, object]) -> Idea:
    """Change scores, state or reason of an idea; its mark in the note it came from follows."""

    def judged(idea: Idea) -> Idea:
        return replace(idea, **wishes) if idea.id == identity else idea  # type: ignore[arg-type]

    with lab.noting("ideas"):
        find(_written(lab), identity)
        after = _change(lab, lambda data: updated(data, judged))
        found = find(after, identity)
        _mark_origins(lab, after, [found])
    return found


# -- notes of people ---------------------------------------------------------------------------------------


def take(lab: Lab, path: Path, source: str = "inbox") -> Taken:
    """Take the open items of a note over into the agenda, and mark them where they stand."""
    real = Path(os.path.realpath(path))
    if real == _path(lab.root):
        return Taken()
    if real.suffix.lower() not in NOTES:  # marks in a script would break it
        raise LabError(f"{path} is no note", f"name a file that ends with {', '.join(NOTES)}")
    origin = _origin(lab.root, real)
    found = _open_items(real)
    with lab.noting("ideas"):
        before = _written(lab)
        texts, ids = {plain(idea.text) for idea in before}, {idea.id for idea in before}
        unmarked = {plain(item.text): item.text for item in found if not item.mark}
        new = [text for key, text in unmarked.items() if key not in texts]
        wishes = [Idea("", text, source=source, origin=origin) for text in new[:TAKEN_AT_ONCE]]
        words = {item.mark.id: item.text for item in found if item.mark}
        after = before
        if wishes or any(_reworded(idea, words, origin) != idea for idea in before):
            after = _change(
                lab, lambda data: with_new(updated(data, lambda i: _reworded(i, words, origin)), wishes)
            )
        told = _mark_note(real, after) if found else []
    if len(new) > TAKEN_AT_ONCE:
        told.append(f"{origin}: {len(new) - TAKEN_AT_ONCE} more items are left for the next call")
    return Taken(tuple(i for i in after if i.id not in ids), len(found) - len(new), tuple(told))


def _open_items(path: Path) -> list[marks.Item]:
    return [item for item in marks.items(notes.read(path)) if item.mark or not item.ticked]


def _reworded(idea: Idea, words: Mapping[str, str], origin: str) -> Idea:
    """The idea in the words its note has now, while it is queued."""
    text = words.get(idea.id, idea.text)
    mine = idea.state == QUEUED and idea.origin == origin
    return replace(idea, text=text) if mine and plain(text) != plain(idea.text) else idea


def inbox(lab: Lab) -> Path | None:
    """The note that autoresearch.yaml names as the inbox."""
    name = lab.settings.ideas_inbox
    return lab.root / os.path.expanduser(name) if name else None  # noqa: PTH111 - Path's raises without a home


def take_inbox(lab: Lab) -> Taken:
    """Take over what is new in the inbox; a fault of that note is told and stops nothing."""
    path = inbox(lab)
    if path is None:
        return Taken()
    try:
        if not path.exists():
            return Taken(told=(f"ideas.inbox: {path} is not there",))
        return take(lab, path)
    except (LabError, OSError, ValueError) as error:
        return Taken(told=(f"ideas.inbox: {error}",))


def unread(lab: Lab, ideas: Sequence[Idea]) -> int:
    """How many items of the inbox the agenda does not have yet; nothing is changed."""
    path = inbox(lab)
    try:
        found = _open_items(path) if path else []
    except (LabError, OSError, ValueError):
        return 0
    return len({plain(item.text) for item in found if not item.mark} - {plain(idea.text) for idea in ideas})


# -- outcomes ----------------------------------------------------------------------------------------------


def follow(lab: Lab) -> list[str]:
    """Let agenda and notes say what the journal knows; harmless to repeat. Return what could not be done."""
    # What is continued as another experiment has its outcome there.
    tested = [e for e in lab.state.experiments.values() if e.idea and e.verdict and not e.continued_as]
    if not tested:
        return []
    wanted = {experiment.idea for experiment in tested}
    tag = lab.state.tag
    try:
        with lab.noting("ideas"):
            if not wanted & {idea.id for idea in _written(lab)}:
                return []
            after = _change(lab, lambda data: updated(data, lambda idea: _with_outcomes(idea, tested, tag)))
            return _mark_origins(lab, after, [idea for idea in after if idea.id in wanted])
    except (LabError, OSError) as error:  # a campaign does not stand still for a note
        return [f"the outcome is not in {AGENDA} yet: {error}"]


def _with_outcomes(idea: Idea, tested: Sequence[Experiment], tag: str) -> Idea:
    """The idea with the outcomes it lacks; one that somebody queued again since then stays queued."""
    for experiment in tested:
        place = f"{tag}/{experiment.id} "
        if experiment.idea == idea.id and not any(result.startswith(place) for result in idea.results):
            results = (*idea.results, f"{place}{experiment.verdict}")
            idea = replace(idea, state=TESTED, results=results, reason="")
    return idea


# -- files -------------------------------------------------------------------------------------------------


def _path(root: Path) -> Path:
    return notes.memory_file(root, Path(AGENDA).name)


def _written(lab: Lab) -> list[Idea]:
    return parsed(notes.read(_path(lab.root)))


def _change(lab: Lab, make: Callable[[bytes], bytes]) -> list[Idea]:
    """Change the agenda, in which every idea then has its mark, and return its ideas."""
    path = _path(lab.root)
    notes.change(path, lambda data: make(adopted(data)))
    return parsed(notes.read(path))


def _mark_origins(lab: Lab, ideas: Sequence[Idea], changed: Sequence[Idea]) -> list[str]:
    """Let the notes that `changed` came from follow the agenda."""
    told: list[str] = []
    for origin in dict.fromkeys(idea.origin for idea in changed if idea.origin):
        path = Path(os.path.realpath(lab.root / origin))
        told += _mark_note(path, ideas) if path.exists() else [f"{origin} is gone, it was not marked"]
    return told


def _mark_note(path: Path, ideas: Sequence[Idea]) -> list[str]:
    """Put the marks of `ideas` into a note; return what to tell when that is not possible."""
    try:
        notes.change(path, lambda data: marked(data, ideas))
    except (LabError, OSError) as error:
        return [f"{path} is not marked: {error}"]
    return []


def _origin(root: Path, path: Path) -> str:
    """A note's path as the agenda has it: from the project's folder where it is inside."""
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if one_line(name, 500) != name:
        raise LabError(f"{name!r} cannot be written into a note", "give the file a plain name")
    return name
