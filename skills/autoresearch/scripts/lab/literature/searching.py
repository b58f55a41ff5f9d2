"""One question to all services: from the shelf where it is known, else asked; one merged list comes out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lab.literature.asking import BUSY, CACHED, OK, OLD, Answer, Question, ask, base_of
from lab.literature.papers import Paper, merged
from lab.literature.shelf import FRESH, SHOWN, Shelf
from lab.literature.sources import SOURCES, Source

ANSWERED = (OK, CACHED, OLD)
LONGEST_QUEUE = 60.0  # seconds; a turn further ahead is a clock that was wrong


@dataclass(frozen=True)
class Found:
    """The merged list, and what each service said."""

    papers: tuple[Paper, ...]
    answers: tuple[Answer, ...]

    @property
    def answered(self) -> bool:
        """Whether any service did, now or before."""
        return any(answer.state in ANSWERED for answer in self.answers)


@dataclass(frozen=True)
class Wish:
    """What is looked for: `keys` by service, `seconds` for all of them together."""

    words: str
    sources: Sequence[str] = tuple(SOURCES)
    seconds: float = 12.0
    keys: Mapping[str, str] | None = None
    mail: str = ""
    fresh: bool = False  # ask again although the answer is known


def search(shelf: Shelf, wish: Wish) -> Found:
    """Papers about `wish.words`, each once, with the state of every service."""
    answers: dict[str, Answer] = {}
    questions: list[Question] = []
    for name in wish.sources:
        known = None if wish.fresh else _known(shelf, name, wish.words)
        known = known or _resting(shelf, name)
        if known:
            answers[name] = known
        else:
            questions.append(_question(shelf, SOURCES[name], wish))
    for question, answer in zip(questions, _ask(shelf, questions, wish.seconds), strict=True):
        answers[question.source.name] = answer
    rows = [_instead(shelf, answers[name], wish.words) for name in wish.sources]
    papers = merged([answer.papers for answer in rows])
    found = Found(tuple(papers), tuple(rows))
    if found.answered:
        shelf.put(SHOWN, wish.words, papers, time.time())
    shelf.tidy()
    return found


def shown(shelf: Shelf, words: str) -> list[Paper]:
    """The list as it was last shown for these words, so that its numbers still mean the same."""
    found = shelf.papers(SHOWN, words)
    return found[0] if found else []


def _known(shelf: Shelf, name: str, words: str) -> Answer | None:
    found = shelf.papers(name, words)
    if found is None or not 0 <= time.time() - found[1] < FRESH:
        return None
    return Answer(name, CACHED, tuple(found[0]), at=found[1])


def _resting(shelf: Shelf, name: str) -> Answer | None:
    """A service that said when it may be asked again is not asked before."""
    until = shelf.earliest(name)[1]
    return Answer(name, BUSY, detail="not asked", until=until) if until > time.time() else None


def _question(shelf: Shelf, source: Source, wish: Wish) -> Question:
    base_of(source)  # a wrong address is the caller's to mend, and said before anything is sent
    asked = shelf.earliest(source.name)[0]
    ago = time.time() - asked  # below 0 when another call has its turn first
    earliest = asked + source.pause if -LONGEST_QUEUE < ago < source.pause else 0.0
    key = (wish.keys or {}).get(source.name, "")
    return Question(source, wish.words, key, wish.mail, earliest)


def _ask(shelf: Shelf, questions: Sequence[Question], seconds: float) -> list[Answer]:
    for question in questions:
        turn = max(time.time(), question.earliest)
        if question.source.pause and turn < time.time() + seconds:
            shelf.asked(question.source.name, turn, None)  # before: two calls at once keep the pause too
    answers = ask(questions, seconds) if questions else []
    for question, answer in zip(questions, answers, strict=True):
        if answer.state == OK and answer.papers:  # nothing found may be a service's bad day: ask again
            shelf.put(answer.source, question.words, answer.papers, answer.at or time.time())
        elif answer.state == BUSY and answer.until and answer.until > question.earliest:
            shelf.asked(answer.source, time.time(), answer.until)
    return answers


def _instead(shelf: Shelf, answer: Answer, words: str) -> Answer:
    """An old answer is better than none; what stands in the way now is said with it."""
    if answer.state in ANSWERED:
        return answer
    old = shelf.papers(answer.source, words)
    if old is None:
        return answer
    why = f"{answer.state}: {answer.detail}" if answer.detail else answer.state
    return replace(answer, state=OLD, papers=tuple(old[0]), at=old[1], detail=why)
