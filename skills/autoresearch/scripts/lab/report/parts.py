"""Which parts carry the result: what was seen when keeps were taken out and switches turned."""

from __future__ import annotations

from dataclasses import dataclass

from lab import weighed
from lab.model import Record, Study
from lab.report.figures import plural, said
from lab.report.material import Material

STUDIES = 4  # on the page, the newest


@dataclass(frozen=True)
class Part:
    """A keep or a switch with what was measured of it."""

    name: str
    verdict: str
    figures: str
    words: str


@dataclass(frozen=True)
class Shares:
    """One study: what it was about and what each part came to."""

    title: str
    parts: tuple[Part, ...]


def shares(m: Material) -> list[Shares]:
    """The newest studies that have a result."""
    done = [study for study in m.state.studies.values() if study.verdict]
    return [_shares(study) for study in done[-STUDIES:]]


def _shares(study: Study) -> Shares:
    rounds = plural(weighed.rounds_done(study), "fresh seed")
    cut = f"; cut short {study.cut}" if study.cut else ""
    title = said(f"{study.id}: {weighed.title(study)}, on {rounds}{cut}", 200)
    return Shares(title, tuple(_part(study, row) for row in study.rows))


def _part(study: Study, row: Record) -> Part:
    figures = weighed.effect_words(study, row) if row["interval"] else said(str(row["trouble"]), 200)
    return Part(said(str(row["name"]), 80), str(row["verdict"]), figures, said(str(row["words"]), 120))
