"""The agenda as bytes and as ideas: what to try, in a Markdown file that people and the tool both edit.

Pure functions: the file's bytes in, ideas or other bytes out, and whose turn it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lab import marks, notes
from lab.errors import LabError
from lab.likeness import alike
from lab.marks import QUEUED, Mark
from lab.model import BASELINE, MEMORIES, State
from lab.redact import one_line

AGENDA = f"{MEMORIES}/ideas.md"
SOURCES = ("inbox", "own", "diagnosis", "paper")  # who had the idea; at a tie the earlier one has the turn
QUANTITIES = ("impact", "feasibility", "complexity")
_JUDGED = re.compile(r"(impact|feasibility|complexity)\s*[:=]?\s*([1-5])\b")
UNKNOWN = 3  # what a quantity counts that nobody has judged: the middle of 1 to 5
RESULTS_KEPT = 40
HEAD = """# Ideas

What to try. Score = impact × feasibility / complexity, each 1 to 5.
The mark behind an idea holds its id, its state (QUEUED, TESTED, DEFERRED, OUT_OF_SCOPE) and what came out.
Add an item to the list, reword one, change a state by hand: it counts.
One that came from a note is reworded in that note.

"""


@dataclass(frozen=True)
class Idea:
    """Something to try. A quantity nobody has judged is None."""

    id: str
    text: str
    state: str = QUEUED
    results: tuple[str, ...] = ()  # "nov21/e012 discard", oldest first
    source: str = "inbox"
    origin: str = ""  # the note it came from
    because: str = ""
    category: str = ""
    reason: str = ""  # why it is deferred or out of scope
    impact: int | None = None
    feasibility: int | None = None
    complexity: int | None = None

    @property
    def score(self) -> float:
        """(impact × feasibility) / complexity, an unknown one counted as the middle."""
        return (self.impact or UNKNOWN) * (self.feasibility or UNKNOWN) / (self.complexity or UNKNOWN)

    @property
    def scored(self) -> bool:
        """Whether anybody has judged it."""
        return None not in (self.impact, self.feasibility, self.complexity)

    @property
    def mark(self) -> Mark:
        """Its mark in a note."""
        return Mark(self.id, self.state, self.results[-RESULTS_KEPT:])

    @property
    def details(self) -> dict[str, str]:
        """What stands below it in the agenda."""
        parts = [f"{name} {value}" for name in QUANTITIES if (value := getattr(self, name)) is not None]
        source = f"{self.source} ({self.origin})" if self.origin else self.source
        return {
            "because": self.because,
            "score": ", ".join(parts),
            "source": source,
            "category": self.category,
            "reason": self.reason,
        }


def _items(data: bytes) -> list[marks.Item]:
    """The list items that are ideas: all but those a person ticked before they had a mark."""
    return [item for item in marks.items(data, sentences=False) if item.mark or not item.ticked]


def parsed(data: bytes) -> list[Idea]:
    """Every item as an idea; one without a mark, or with one that stands twice, gets the id it will have."""
    found: list[Idea] = []
    taken = {item.mark.id for item in _items(data) if item.mark}
    seen: set[str] = set()
    for item in _items(data):
        mark = item.mark
        if mark is None or mark.id in seen:
            mark = replace(mark or Mark("", QUEUED), id=notes.fresh_id("i", item.text, taken))
        seen.add(mark.id)
        taken.add(mark.id)
        found.append(_idea(item, mark))
    return found


def _idea(item: marks.Item, mark: Mark) -> Idea:
    details = item.details
    source, _, origin = details.get("source", "").partition(" (")
    judged = _JUDGED.findall(details.get("score", "").lower())
    return Idea(
        id=mark.id,
        text=item.text,
        state=mark.state,
        results=mark.results,
        source=source if source in SOURCES else "inbox",  # a line somebody wrote by hand
        origin=origin.removesuffix(")"),
        because=details.get("because", ""),
        category=details.get("category", ""),
        reason=details.get("reason", ""),
        **{name: int(value) for name, value in judged},
    )


def find(ideas: Sequence[Idea], identity: str) -> Idea:
    """The idea with this id, or say where the ids are."""
    found = next((idea for idea in ideas if idea.id == identity), None)
    if found is None:
        raise LabError(f"there is no idea {identity!r} in {AGENDA}", "`ideas list` shows the ids")
    return found


def plain(text: str) -> str:
    """The words alone: two lines with the same ones are the same idea."""
    return " ".join(text.split()).casefold()


def ordered(ideas: Sequence[Idea], state: State) -> list[Idea]:
    """The queued ideas in the order of their turns: the sources alternate, each with its best one first.

    The source whose last test is longest ago begins. An experiment without an idea was the agent's own.
    """
    busy = {experiment.idea for experiment in state.open()}
    waiting = {
        source: sorted(
            (i for i in ideas if i.source == source and i.state == QUEUED and i.id not in busy),
            key=lambda idea: -idea.score,
        )
        for source in SOURCES
    }
    if not any(waiting.values()):
        return []
    last = _last_turns(ideas, state)
    turns = sorted(SOURCES, key=lambda source: last.get(source, -1))
    rounds = max((len(queue) for queue in waiting.values()), default=0)
    found = [waiting[source][n] for n in range(rounds) for source in turns if n < len(waiting[source])]
    return _steered(found, state)


def _steered(queue: Sequence[Idea], state: State) -> list[Idea]:
    """What the user chose at a checkpoint first, in their order; what they dropped since is not offered."""
    place: dict[str, int] = {}
    for number, asked in enumerate(reversed(state.checkpoints)):  # the newest answer counts
        for identity in asked.get("dropped", []):
            place.setdefault(identity, -1)
        for n, identity in enumerate(asked.get("chosen", [])):
            place.setdefault(identity, 1000 * number + n)
    kept = [idea for idea in queue if place.get(idea.id) != -1]
    return sorted(kept, key=lambda idea: place.get(idea.id, 1_000_000))


def _last_turns(ideas: Sequence[Idea], state: State) -> dict[str, int]:
    """Source -> number of the latest experiment that tested an idea of it, among the last ones."""
    sources = {idea.id: idea.source for idea in ideas}
    last: dict[str, int] = {}
    for experiment in state.lately():
        if experiment.id != BASELINE:
            last.setdefault(sources.get(experiment.idea, "own"), experiment.number)
    return last


def relatives(text: str, ideas: Sequence[Idea], state: State, leave: Sequence[str] = ()) -> list[str]:
    """What was tried in much the same words: experiments of this campaign, tested ideas of earlier ones."""
    found = [
        f"{e.id} was worded alike: {one_line(e.hypothesis, 80)!r} ({e.verdict or 'no verdict yet'})"
        for e in state.experiments.values()
        if e.id not in (BASELINE, *leave) and alike(text, e.hypothesis)
    ]
    ours = f"{state.tag}/"
    found += [
        f"idea {idea.id} was worded alike: {one_line(idea.text, 80)!r} ({', '.join(idea.results[-2:])})"
        for idea in ideas
        if idea.results and not idea.results[-1].startswith(ours) and alike(text, idea.text)
    ]
    return found[-2:]


def adopted(data: bytes) -> bytes:
    """The agenda with a mark behind every line that somebody added by hand."""
    lines = notes.lines_of(data)
    for item, idea in zip(_items(data), parsed(data), strict=True):
        if item.mark is None or item.mark.id != idea.id:
            lines[item.line] = marks.with_mark(lines[item.line], idea.mark)
    return b"".join(lines)


def with_new(data: bytes, wishes: Sequence[Idea]) -> bytes:
    """The agenda with the ideas it lacks at its end."""
    known = parsed(data)
    texts, taken = {plain(idea.text) for idea in known}, {idea.id for idea in known}
    text = ""
    for wish in wishes:
        if plain(wish.text) not in texts:
            idea = replace(wish, id=notes.fresh_id("i", wish.text, taken))
            texts.add(plain(idea.text))
            taken.add(idea.id)
            text += marks.written(idea.text, idea.mark, idea.details)
    if not text:
        return data
    return notes.appended(data or HEAD.encode(), text, blank=not known)


def updated(data: bytes, make: Callable[[Idea], Idea]) -> bytes:
    """The agenda with every idea as `make` gives it, every byte that this does not concern as it was."""
    lines = notes.lines_of(data)
    for item in reversed(_items(data)):  # from the end, so that an added line moves nothing we still need
        if item.mark is None:
            continue
        old = _idea(item, item.mark)
        new = make(old)
        for key, value in new.details.items():
            if value != old.details[key]:
                marks.with_detail(lines, item, key, value)
        if new.text != old.text:
            lines[item.line] = marks.with_text(lines[item.line], new.text)
        if new.mark != old.mark:
            lines[item.line] = marks.with_mark(lines[item.line], new.mark)
    return b"".join(lines)


def marked(data: bytes, ideas: Sequence[Idea]) -> bytes:
    """A note with a mark behind each of its items that is one of `ideas`."""
    by_id = {idea.id: idea for idea in ideas}
    by_text = {plain(idea.text): idea for idea in reversed(ideas)}
    lines = notes.lines_of(data)
    for item in marks.items(data):
        if item.mark:
            idea = by_id.get(item.mark.id)
        else:
            idea = None if item.ticked else by_text.get(plain(item.text))
        if idea and item.mark != idea.mark:
            lines[item.line] = marks.with_mark(lines[item.line], idea.mark)
    return b"".join(lines)
