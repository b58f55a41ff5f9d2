"""What a fresh session must know of memory and ideas, in facts and in at most five lines."""

from __future__ import annotations

from collections import Counter

from lab import ideas, memory
from lab.agenda import Idea, ordered
from lab.campaign import Lab
from lab.handing import standing
from lab.marks import QUEUED, TESTED
from lab.memory import HOLDS, Entry
from lab.model import Record
from lab.redact import one_line


def known(lab: Lab) -> Record:
    """The fields `memory` and `ideas` of `status`, each with its lines in `text`; nothing is changed."""
    return {"memory": _memory(lab), "ideas": _ideas(lab), **standing.known(lab)}


def _memory(lab: Lab) -> Record:
    entries = memory.entries(lab.root)
    holding = sum(entry.state in (HOLDS, None) for entry in entries)
    newest = memory.newest(entries)
    text = []
    if entries:
        count = f"{len(entries)} entries" if len(entries) > 1 else "1 entry"
        text = [f'memory: {count}, {holding} hold; `recall "WORDS"` before a new direction. Newest:']
        text += [f"  {shown(entry)}" for entry in newest]
    return {"entries": len(entries), "hold": holding, "newest": [entry.id for entry in newest], "text": text}


def shown(entry: Entry) -> str:
    """An entry in one line: id, kind, state, date, title, evidence."""
    facts = " ".join(filter(None, [entry.id, entry.kind, entry.state, entry.date]))
    return f"{facts}: {one_line(entry.title, 110)}" + (f" ({entry.source})" if entry.source else "")


def _ideas(lab: Lab) -> Record:
    agenda = ideas.agenda(lab.root)
    counts = Counter(idea.state for idea in agenda)
    fresh = ideas.unread(lab, agenda)
    queue = ordered(agenda, lab.state)
    words = [f"{counts[QUEUED]} queued", f"{counts[TESTED]} tested"]
    words += [f"{fresh} new in the inbox (`ideas next` takes them over)"] if fresh else []
    text = [f"ideas: {', '.join(words)}"] if agenda or fresh else []
    if queue:
        text.append(f"  next {ranked(queue[0])}")
    return {
        "queued": counts[QUEUED],
        "tested": counts[TESTED],
        "unread": fresh,
        "next": queue[0].id if queue else None,
        "text": text,
    }


def ranked(idea: Idea) -> str:
    """An idea in one line: id, who had it, score, its words."""
    score = f"score {idea.score:.1f}" if idea.scored else "not scored"
    return f"{idea.id} ({idea.source}, {score}): {one_line(idea.text, 110)}"
