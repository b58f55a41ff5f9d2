"""The services that know papers, one row each: what is asked, and how its answer is read.

Pure: a query in, an address out; an answer's bytes in, papers out. Another service: two functions and a row.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from lab.literature.papers import LONGEST_ABSTRACT, Paper, listed, mapped, paper, whole

ASKED = 20  # papers from each service: one page of each
WORDS = 8  # arXiv wants every word to occur, so that long questions would find nothing
_ATOM = "{http://www.w3.org/2005/Atom}"


@dataclass(frozen=True)
class Source:
    """A service. `pause` is the seconds it wants between two questions."""

    name: str
    address: str
    question: Callable[[str, str, str], Mapping[str, str]]  # words, key, mail -> the address's parameters
    read: Callable[[bytes], list[Paper]]  # raises ValueError when it is no answer
    key_variable: str = ""
    key_header: str = ""
    pause: float = 0.0


# -- OpenAlex ----------------------------------------------------------------------------------------------


def _ask_openalex(words: str, key: str, mail: str) -> dict[str, str]:
    wanted = (
        "id,doi,title,publication_year,authorships,primary_location,locations,cited_by_count,"
        "abstract_inverted_index"
    )
    asked = {"search": words, "per_page": str(ASKED), "select": wanted}
    return {**asked, **({"api_key": key} if key else {}), **({"mailto": mail} if mail else {})}


def _read_openalex(data: bytes) -> list[Paper]:
    return _each("openalex", _json(data), "results", _of_openalex)


def _of_openalex(work: Mapping[str, object]) -> Mapping[str, object]:
    place = mapped(mapped(work.get("primary_location")).get("source"))
    pages = [mapped(there).get("landing_page_url") for there in listed(work.get("locations"))[:20]]
    arxiv = next((page for page in pages if isinstance(page, str) and "arxiv.org/abs/" in page), "")
    people = [mapped(mapped(a).get("author")).get("display_name") for a in listed(work.get("authorships"))]
    return {
        "title": work.get("title"), "authors": people, "year": work.get("publication_year"),
        "venue": place.get("display_name"), "doi": work.get("doi"), "arxiv": arxiv, "page": work.get("id"),
        "citations": work.get("cited_by_count"), "abstract": _unrolled(work.get("abstract_inverted_index")),
    }  # fmt: skip


def _unrolled(index: object) -> str:
    """An abstract from OpenAlex's list of places for each word."""
    placed = [
        (place, word)
        for word, places in list(mapped(index).items())[:LONGEST_ABSTRACT]
        for place in listed(places)[:500]
        if whole(place, 0, LONGEST_ABSTRACT) is not None
    ]
    return " ".join(word for _, word in sorted(placed, key=lambda pair: str(pair[0]).zfill(6)))


# -- arXiv -------------------------------------------------------------------------------------------------


def _ask_arxiv(words: str, key: str, mail: str) -> dict[str, str]:
    terms = re.findall(r"\w+", words)[:WORDS]
    return {
        "search_query": " AND ".join(f"all:{term}" for term in terms),
        "max_results": str(ASKED), "sortBy": "relevance",
    }  # fmt: skip


def _read_arxiv(data: bytes) -> list[Paper]:
    content = data.decode()
    if "<!DOCTYPE" in content or "<!ENTITY" in content:  # a feed has none; entities can be a bomb
        raise ValueError("a document type in a feed")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    if root.tag != f"{_ATOM}feed":
        raise ValueError("no Atom feed")
    found = [paper("arxiv", _of_arxiv(entry)) for entry in root.findall(f"{_ATOM}entry")[:ASKED]]
    return [each for each in found if each and each.arxiv]  # arXiv tells an error as an entry without id


def _of_arxiv(entry: ElementTree.Element) -> dict[str, object]:
    published = entry.findtext(f"{_ATOM}published") or ""
    place = "{http://arxiv.org/schemas/atom}"
    return {
        "title": entry.findtext(f"{_ATOM}title"), "abstract": entry.findtext(f"{_ATOM}summary"),
        "authors": [author.findtext(f"{_ATOM}name") for author in entry.findall(f"{_ATOM}author")],
        "year": int(published[:4]) if re.match(r"[0-9]{4}-", published) else None,
        "arxiv": entry.findtext(f"{_ATOM}id"), "doi": entry.findtext(f"{place}doi"),
        "venue": entry.findtext(f"{place}journal_ref"),
    }  # fmt: skip


# -- Semantic Scholar --------------------------------------------------------------------------------------


def _ask_semanticscholar(words: str, key: str, mail: str) -> dict[str, str]:
    wanted = "title,abstract,year,venue,authors,externalIds,citationCount"
    plain = words.replace("-", " ")  # its search finds nothing for a word with a hyphen
    return {"query": plain, "limit": str(ASKED), "fields": wanted}


def _read_semanticscholar(data: bytes) -> list[Paper]:
    answer = _json(data)
    if answer.get("total") == 0:  # and then it leaves `data` out
        return []
    return _each("semanticscholar", answer, "data", _of_semanticscholar)


def _of_semanticscholar(item: Mapping[str, object]) -> Mapping[str, object]:
    ids = mapped(item.get("externalIds"))
    return {
        **{name: item.get(name) for name in ("title", "abstract", "year", "venue")},
        "authors": [mapped(author).get("name") for author in listed(item.get("authors"))],
        "doi": ids.get("DOI"), "arxiv": ids.get("ArXiv"), "page": item.get("paperId"),
        "citations": item.get("citationCount"),
    }  # fmt: skip


# -- Crossref ----------------------------------------------------------------------------------------------


def _ask_crossref(words: str, key: str, mail: str) -> dict[str, str]:
    wanted = "DOI,title,author,issued,container-title,abstract,is-referenced-by-count"
    asked = {"query.bibliographic": words, "rows": str(ASKED), "select": wanted}
    return {**asked, **({"mailto": mail} if mail else {})}


def _read_crossref(data: bytes) -> list[Paper]:
    return _each("crossref", mapped(_json(data).get("message")), "items", _of_crossref)


def _of_crossref(item: Mapping[str, object]) -> Mapping[str, object]:
    parts = listed(mapped(item.get("issued")).get("date-parts"))
    day = listed(parts[0]) if parts else []
    return {
        "title": next(iter(listed(item.get("title"))), None),
        "authors": [_called(mapped(author)) for author in listed(item.get("author"))],
        "year": day[0] if day else None,
        "venue": next(iter(listed(item.get("container-title"))), None), "doi": item.get("DOI"),
        "citations": item.get("is-referenced-by-count"), "abstract": item.get("abstract"),
    }  # fmt: skip


def _called(author: Mapping[str, object]) -> str:
    return f"{author.get('given') or ''} {author.get('family') or author.get('name') or ''}"


# -- all ---------------------------------------------------------------------------------------------------


def _json(data: bytes) -> dict[str, object]:
    try:
        answer = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    return answer


def _each(
    name: str,
    answer: Mapping[str, object],
    key: str,
    fields: Callable[[Mapping[str, object]], Mapping[str, object]],
) -> list[Paper]:
    rows = answer.get(key)
    if not isinstance(rows, list):
        raise ValueError(f"no list of {key}")
    found = [paper(name, fields(mapped(row))) for row in rows[:ASKED]]
    return [each for each in found if each]


SOURCES: dict[str, Source] = {
    row.name: row
    for row in (
        Source("openalex", "https://api.openalex.org/works", _ask_openalex, _read_openalex,
               key_variable="OPENALEX_API_KEY"),
        Source("arxiv", "https://export.arxiv.org/api/query", _ask_arxiv, _read_arxiv, pause=3.0),
        Source("semanticscholar", "https://api.semanticscholar.org/graph/v1/paper/search",
               _ask_semanticscholar, _read_semanticscholar,
               key_variable="SEMANTIC_SCHOLAR_API_KEY", key_header="x-api-key", pause=1.0),
        Source("crossref", "https://api.crossref.org/works", _ask_crossref, _read_crossref),
    )
}  # fmt: skip


def address(source: Source, base: str, words: str, key: str, mail: str) -> str:
    """Where to ask a service for papers about `words`."""
    return f"{base}?{urlencode(source.question(words, key, mail))}"
