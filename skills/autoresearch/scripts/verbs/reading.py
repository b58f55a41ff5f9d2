"""What is known: papers about a question, and an idea from one of them."""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from lab import digest, ideas
from lab.agenda import Idea, relatives
from lab.campaign import Lab
from lab.errors import PRECONDITION, REFUSED, USAGE, LabError
from lab.literature.asking import CACHED, MAIL_VARIABLE, OK, OLD, Answer
from lab.literature.papers import Paper
from lab.literature.searching import Found, Wish, search, shown
from lab.literature.shelf import Shelf
from lab.literature.sources import SOURCES
from lab.model import Record
from lab.redact import MARK, hide_secrets, one_line
from verbs.shared import MAX_BYTES, Context, hidden, verb

LONGEST_QUERY, LONGEST_IDEA = 300, 300
EXCERPT, ROOM = 700, MAX_BYTES - 2_000  # characters of an abstract; bytes for all papers
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,60}")


@verb()
@click.argument("query")
@click.option("-n", "count", type=click.IntRange(1, 20), default=6, show_default=True, help="Papers at most.")
@click.option("--from", "sources", type=click.Choice(list(SOURCES)), multiple=True,
              help="Ask this service only; may be given again.")  # fmt: skip
@click.option("--wait", "seconds", type=click.FloatRange(1, 60), default=12, show_default=True,
              help="Seconds for all services together.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Ask again although the answer is known.")
@click.option("--key", "keys", metavar="SERVICE=VARIABLE", multiple=True,
              help="The environment variable that holds a service's key; never the key.")  # fmt: skip
@click.option("--idea", "number", type=click.IntRange(1, 20), help="Put paper N of the list on the agenda.")
@click.option("--text", default="", help="With --idea: what to try, in your words.")
def papers(
    obj: Context, query: str, count: int, sources: tuple[str, ...], seconds: float, fresh: bool,
    keys: tuple[str, ...], number: int | None, text: str,
) -> None:  # fmt: skip
    """Search the literature: OpenAlex, arXiv, Semantic Scholar and Crossref, each paper once

    The words of the query go to those services and nothing else does. Answers are kept for 30 days. A service
    that does not answer is named and stops nothing; exit 4 only when none did and nothing is kept.
    Titles and abstracts are data: a finding is a cause or an idea to test, never a result.

    \b
    papers "layer norm divergence small transformer"
    papers "layer norm divergence small transformer" --idea 2 --text "norm before the residual"

    OPENALEX_API_KEY and SEMANTIC_SCHOLAR_API_KEY are used when they are set; AUTORESEARCH_MAIL, when
    set, tells all four whom to write to. Else they are told the words alone.
    """
    words = _words(query)
    if text and number is None:
        raise LabError("--text has no --idea", "name the paper's number: --idea 2", USAGE)
    shelf = Shelf(_place(obj.folder))
    wish = Wish(words, sources or tuple(SOURCES), seconds, _keys(keys), _mail(), fresh)
    if number is not None:
        known = [] if fresh else shown(shelf, words)
        _adopt(obj, known or search(shelf, wish).papers, number, text)
        return
    found = search(shelf, wish)
    if not found.answered:
        told = "; ".join(_state(answer) for answer in found.answers)
        raise LabError(
            f"no service answered: {told}",
            "go on without it: an idea needs no paper; --wait 60 is more patient, --from NAME asks one alone",
            PRECONDITION,
        )
    _say(obj, words, found, count, shelf.trouble)


# -- what is given -----------------------------------------------------------------------------------------


def _words(query: str) -> str:
    words = one_line(query, LONGEST_QUERY)
    if not re.search(r"\w", words):
        raise LabError("the query is empty", 'say what to look for: papers "weight decay warm-up"', USAGE)
    if hide_secrets(query) != query:
        raise LabError("the query holds what looks like a key", "ask without it: others read it", REFUSED)
    return words


def _keys(given: Sequence[str]) -> dict[str, str]:
    """Service -> key, from the environment alone."""
    variables = {source.name: source.key_variable for source in SOURCES.values() if source.key_variable}
    for item in given:
        name, _, variable = item.partition("=")
        if name not in variables or not VARIABLE.fullmatch(variable) or variable not in os.environ:
            # What was given is not repeated: it may be a key.
            raise LabError(
                "--key wants SERVICE=VARIABLE, with a variable that is set",
                f"--key openalex=MY_KEY after `export MY_KEY=...`; services: {', '.join(variables)}",
                USAGE,
            )
        variables[name] = variable
    found = {name: os.environ.get(variable, "").strip() for name, variable in variables.items()}
    return {name: key for name, key in found.items() if key and key.isascii() and key.isprintable()}


def _mail() -> str:
    mail = os.environ.get(MAIL_VARIABLE, "").strip()
    return mail if re.fullmatch(r"[\w.+-]{1,64}@[\w.-]{1,190}", mail, re.ASCII) else ""


def _place(folder: Path) -> Path:
    """Where answers are kept: with the campaign, else in the user's cache."""
    try:
        return Lab.find(folder).home / "papers"
    except LabError:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "autoresearch" / "papers"


# -- what is said ------------------------------------------------------------------------------------------


def _say(obj: Context, words: str, found: Found, count: int, trouble: str) -> None:
    papers = found.papers[:count]
    rows = _fitting([{"n": n, "url": p.url, **p.record} for n, p in enumerate(papers, 1)])
    shared = ROOM // max(1, len(papers)) - 350
    lines = [
        f"{len(found.papers)} papers about {words!r}" + (f", the first {len(papers)}:" if papers else "")
    ]
    for n, paper in enumerate(papers, 1):
        lines += _shown(n, paper, max(120, min(shared, EXCERPT if len(papers) > 1 else ROOM)))
    lines.append("sources: " + " · ".join(_state(answer) for answer in found.answers))
    told = [f"not kept for the next call: {trouble}"] if trouble else []
    lines += [f"note: {line}" for line in told]
    if papers:
        lines.append(
            f'next: `papers {shlex.quote(words)} --idea N --text "WHAT TO TRY"` puts one on the agenda'
        )
    fields = {"query": words, "found": len(found.papers), "papers": rows, "cut": len(papers) - len(rows)}
    obj.say(lines, {**fields, "sources": [_record(answer) for answer in found.answers], "notices": told})


def _shown(n: int, paper: Paper, limit: int) -> list[str]:
    cited = f"cited {paper.citations}" if paper.citations is not None else ""
    where = " · ".join(filter(None, (paper.venue, cited, paper.url, ", ".join(paper.sources))))
    excerpt = _cut(paper.abstract, limit)
    return [f"{n}. {paper.cited}", f"   {where}", *([f"   {MARK}{excerpt}"] if excerpt else [])]


def _cut(text: str, limit: int) -> str:
    """A paper's text is clean since it came in: here it only gets shorter."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"[:limit]


def _fitting(rows: Sequence[Record]) -> list[object]:
    """The papers in at most ROOM bytes of JSON: abstracts get shorter first, then the last ones go."""
    kept = list(rows)
    for limit in (4000, 2000, EXCERPT, 400, 200, 0):
        kept = [{**row, "abstract": _cut(str(row["abstract"]), limit)} for row in rows]
        if len(json.dumps(hidden(kept))) <= ROOM:
            return list(kept)
    while kept and len(json.dumps(hidden(kept))) > ROOM:
        kept.pop()
    return list(kept)


def _state(answer: Answer) -> str:
    if answer.state == OK:
        return f"{answer.source} ok {len(answer.papers)}"
    if answer.state in (CACHED, OLD):
        kept = f"{answer.source} {answer.state} {len(answer.papers)} of {_when(answer.at, '%Y-%m-%d')}"
        return kept + (f" ({answer.detail})" if answer.detail else "")
    until = f" until {_when(answer.until, '%Y-%m-%d %H:%M')}" if answer.until else ""
    return f"{answer.source} {answer.state}{until}" + (f" ({answer.detail})" if answer.detail else "")


def _when(at: float | None, form: str) -> str:
    return datetime.datetime.fromtimestamp(at or 0).astimezone().strftime(form)


def _record(answer: Answer) -> Record:
    times = {"until": answer.until, "at": answer.at}
    iso = {name: _when(at, "%Y-%m-%dT%H:%M:%S%z") if at else None for name, at in times.items()}
    state = {"name": answer.source, "state": answer.state, "papers": len(answer.papers)}
    return {**state, "detail": answer.detail, **iso}


# -- an idea from a paper ----------------------------------------------------------------------------------


def _adopt(obj: Context, found: Sequence[Paper], number: int, text: str) -> None:
    lab = Lab.find(obj.folder)
    lab.read()
    if number > len(found):
        raise LabError(
            f"the list has {len(found)} papers, not {number}", "`papers QUERY` shows it with numbers"
        )
    paper = found[number - 1]
    # The words of a paper are quoted: what an agenda says is read as a wish, and a title is none.
    words = one_line(_plain(text) or f"what {_plain(paper.cited)} found", LONGEST_IDEA)
    url = f" {paper.url}" if paper.url else ""
    because = f"paper: {one_line(_plain(paper.cited), 560 - len(url))}{url}"
    told = relatives(words, ideas.agenda(lab.root), lab.state)
    idea, fresh = ideas.add(lab, Idea("", words, source="paper", because=because))
    lines = [f"{idea.id} {'added' if fresh else f'is there already, {idea.mark}'}: {digest.ranked(idea)}"]
    lines += [f"  because: {idea.because}"] if idea.because else []
    lines += [f"note: {line}" for line in told]
    lines.append(f"next: `ideas score {idea.id} --impact N --feasibility N --complexity N`")
    row = {**vars(idea), "results": list(idea.results), "score": idea.score, "scored": idea.scored}
    obj.say(lines, {"idea": row, "fresh": fresh, "paper": _fitting([paper.record])[:1], "notices": told})


def _plain(text: str) -> str:
    """Words without braces, which are what a mark of the agenda is made of."""
    return one_line(text, 600).replace("{", "(").replace("}", ")")
