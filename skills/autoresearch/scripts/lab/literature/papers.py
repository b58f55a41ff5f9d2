"""A paper as the services describe it, and one list out of the lists of several services.

All of it is text from outside: a field comes in cleaned, on one line and bounded, and an address is built
here from an identifier with a known shape, never taken over.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.model import Record
from lab.redact import one_line

LONGEST_TITLE, LONGEST_ABSTRACT, LONGEST_NAME, AUTHORS = 300, 4000, 80, 8
RANK_OFFSET = 60  # reciprocal rank fusion: two services that agree beat one that is sure
_DOI = re.compile(r"10\.\d{4,9}/[-._;()/:a-z0-9]{1,200}")
_ARXIV = re.compile(r"(\d{4}\.\d{4,5}|[a-z][a-z.-]{1,16}/\d{7})(?:v\d+)?")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9:]{0,20}(?:\s[^<>]{0,200})?/?>")  # JATS and HTML; `a < b` stays
_ARXIV_DOI = "10.48550/arxiv."
_PAGES = {
    "openalex": (re.compile(r"W\d{4,12}"), "https://openalex.org/"),
    "semanticscholar": (re.compile(r"[0-9a-f]{40}"), "https://www.semanticscholar.org/paper/"),
}


@dataclass(frozen=True)
class Paper:
    """What is known of one paper. Unknown is "" or None."""

    title: str
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str = ""
    doi: str = ""
    arxiv: str = ""
    page: str = ""  # at the service itself, for a paper without DOI and arXiv id
    citations: int | None = None
    abstract: str = ""
    sources: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where a person reads it."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.page

    @property
    def cited(self) -> str:
        """The paper in a few words: “Title” (First et al., 2024)."""
        names = [name.split()[-1] for name in self.authors if name.split()]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        when = str(self.year) if self.year else ""
        return f"“{self.title}”" + (f" ({', '.join(filter(None, (who, when)))})" if who or when else "")

    @property
    def record(self) -> Record:
        """As the cache keeps it and `--json` shows it."""
        return {**vars(self), "authors": list(self.authors), "sources": list(self.sources)}


# -- fields from outside -----------------------------------------------------------------------------------


def paper(source: str, fields: Mapping[str, object]) -> Paper | None:
    """A paper from fields that hold anything; None when it has no title."""
    title = text(fields.get("title"), LONGEST_TITLE)
    if not title:
        return None
    doi, given = doi_of(fields.get("doi")), fields.get("arxiv")
    arxiv = arxiv_of(given) or (arxiv_of(doi[len(_ARXIV_DOI) :]) if doi.startswith(_ARXIV_DOI) else "")
    authors = [text(name, LONGEST_NAME) for name in listed(fields.get("authors"))[:AUTHORS]]
    return Paper(
        title=title,
        authors=tuple(name for name in authors if name),
        year=whole(fields.get("year"), 1500, 2200),
        venue=text(fields.get("venue"), 120),
        doi="" if doi.startswith(_ARXIV_DOI) else doi,
        arxiv=arxiv,
        page=_page(source, fields.get("page")),
        citations=whole(fields.get("citations"), 0, 10**8),
        abstract=text(fields.get("abstract"), LONGEST_ABSTRACT),
        sources=(source,),
    )


def text(value: object, limit: int) -> str:
    """A string from outside on one line, without markup; anything else is ""."""
    if not isinstance(value, str):
        return ""
    return one_line(html.unescape(_TAG.sub(" ", value[: 8 * limit])), limit)


def listed(value: object) -> list[object]:
    """A list from outside, else an empty one."""
    return value if isinstance(value, list) else []


def mapped(value: object) -> dict[str, object]:
    """An object from outside, else an empty one."""
    return value if isinstance(value, dict) else {}


def whole(value: object, low: int, high: int) -> int | None:
    """A whole number between two bounds, else None."""
    return value if type(value) is int and low <= value <= high else None


def doi_of(value: object) -> str:
    """A DOI in lower case without its address, else ""."""
    found = _DOI.search(value[:300].lower()) if isinstance(value, str) else None
    return found[0].rstrip(".,;)") if found else ""


def arxiv_of(value: object) -> str:
    """An arXiv id without its version, else ""."""
    if not isinstance(value, str):
        return ""
    found = _ARXIV.fullmatch(value[:300].lower().rsplit("/abs/", 1)[-1].removeprefix("arxiv:").strip())
    return found[1] if found else ""


def _page(source: str, value: object) -> str:
    shape, front = _PAGES.get(source, (None, ""))
    found = shape.fullmatch(value[:200].rsplit("/", 1)[-1]) if shape and isinstance(value, str) else None
    return front + found[0] if found else ""


# -- one list out of several -------------------------------------------------------------------------------


def merged(lists: Sequence[Sequence[Paper]]) -> list[Paper]:
    """Each paper once, those first that several services put high."""
    groups: list[tuple[float, list[Paper]]] = []
    for ranked in lists:
        for place, found in enumerate(ranked, 1):
            same = [group for group in groups if any(_same(found, other) for other in group[1])]
            points = 1 / (RANK_OFFSET + place) + sum(group[0] for group in same)
            groups = [group for group in groups if not any(group is other for other in same)]
            groups.append((points, [*(p for group in same for p in group[1]), found]))
    groups.sort(key=lambda group: (-group[0], words(group[1][0].title)))
    return [_joined(group) for _, group in groups]


def words(title: str) -> str:
    """A title's letters and digits alone, in lower case."""
    return " ".join(re.findall(r"\w+", title.casefold()))


def _same(one: Paper, two: Paper) -> bool:
    if (one.doi and one.doi == two.doi) or (one.arxiv and one.arxiv == two.arxiv):
        return True
    if words(one.title) != words(two.title) or not words(one.title):
        return False
    if one.arxiv and two.arxiv:
        return False  # two ids of one kind are two papers, whatever they are called
    # A preprint and its journal version differ in DOI and year; different people named theirs alike.
    if one.authors and two.authors:
        return bool(_families(one) & _families(two))
    return len(words(one.title)) > 25


def _families(found: Paper) -> set[str]:
    return {words(name).split()[-1] for name in found.authors if words(name)}


def _joined(group: Sequence[Paper]) -> Paper:
    first = group[0]
    counts = [p.citations for p in group if p.citations is not None]
    years = [p.year for p in group if p.year is not None]
    return Paper(
        title=first.title,
        authors=max((p.authors for p in group), key=len),
        year=min(years, default=None),
        venue=next((p.venue for p in group if p.venue and "arxiv" not in p.venue.lower()), first.venue),
        doi=next((p.doi for p in group if p.doi), ""),
        arxiv=next((p.arxiv for p in group if p.arxiv), ""),
        page=next((p.page for p in group if p.page), ""),
        citations=max(counts, default=None),
        abstract=max((p.abstract for p in group), key=len),
        sources=tuple(dict.fromkeys(name for p in group for name in p.sources)),
    )


def again(record: object) -> Paper | None:
    """A paper as the cache has it; None when that is damaged."""
    fields = mapped(record)
    names = [name for name in listed(fields.get("sources")) if isinstance(name, str) and name.isalpha()]
    pages = [found for name in names if (found := paper(name, fields))]
    best = next((found for found in pages if found.page), pages[0] if pages else None)
    return Paper(**{**vars(best), "sources": tuple(names[:8])}) if best else None
