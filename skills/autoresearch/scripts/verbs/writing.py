"""Research documents filled from the journal: document."""

from __future__ import annotations

import click

from lab import errors
from lab.campaign import Lab
from lab.documents.filling import Document, fill, look
from lab.documents.kinds import KINDS, kind_of
from lab.errors import LabError
from lab.model import Experiment, Record
from verbs.shared import Context, next_step, verb

SHOWN = 12


@verb()
@click.argument("kind", required=False)
@click.argument("experiment", required=False)
@click.option("--to", metavar="FILE", help="Where it goes, inside the project; else memories/notebook/TAG/.")
@click.option("--check", is_flag=True, help="Only say whether it still says what the journal says; 4 if not.")
def document(obj: Context, kind: str | None, experiment: str | None, to: str | None, check: bool) -> None:
    """Make a research document from its template, or fill it again from the journal

    Without KIND it says which there are and how they stand. Figures and tables stand between marks, as the
    tool's; what is left to you stands in `<!-- agent: … -->`: put your words in its place. What you or a
    person wrote stays when the document is filled again.

    \b
    document report
    document entry e012
    document suggestions --check
    """
    lab = Lab.find(obj.folder)
    lab.read()
    if kind is None:
        _list(obj, lab)
        return
    chosen, of = kind_of(kind), _experiment(lab, experiment)
    if check:
        _check(obj, lab, look(lab, chosen, next_step(lab), of, to))
        return
    made = fill(lab, chosen, next_step(lab), of, to)
    lines = [f"{kind}: {made.path}", f"{len(made.parts)} parts from the journal (record {lab.state.seq})"]
    lines += [f"left as it was edited: {name}" for name in made.edited]
    lines += [f"{len(made.places)} places wait for you" if made.places else "no place is left open"]
    lines += [f"  line {place.line}: {place.text}" for place in made.places[:SHOWN]]
    obj.say(lines, as_json(made))


def as_json(made: Document) -> Record:
    """The fields of `document`."""
    return {
        "kind": made.kind.name,
        "file": str(made.path) if made.there else None,
        "parts": list(made.parts),
        "old": list(made.old),
        "edited": list(made.edited),
        "places": [vars(place) for place in made.places],
    }


def _experiment(lab: Lab, name: str | None) -> Experiment | None:
    return lab.state.get(name) if name else None


def _check(obj: Context, lab: Lab, made: Document) -> None:
    if not made.there:
        raise LabError(f"{made.path} is not there", f"`document {made.kind.name}` makes it")
    told = f"no longer as the journal has it: {', '.join(made.old)}" if made.old else "as the journal has it"
    follow = f"`document {made.kind.name}`" if made.old else next_step(lab)
    obj.say([f"{made.path}: {told}", f"next: {follow}"], {**as_json(made), "next": follow})
    if made.old:
        raise SystemExit(errors.PRECONDITION)


def _list(obj: Context, lab: Lab) -> None:
    rows: list[Record] = []
    lines = []
    for kind in KINDS.values():
        if "{" in kind.file:
            rows.append({"kind": kind.name, "words": kind.words, "file": None})
            lines.append(f"{kind.name} EXP: {kind.words}")
            continue
        made = look(lab, kind, next_step(lab), None, None)
        left = f"{len(made.places)} places open" + (f", old: {', '.join(made.old)}" if made.old else "")
        lines.append(f"{kind.name}: {kind.words}" + (f" ({made.path.name}, {left})" if made.there else ""))
        rows.append({"words": kind.words, **as_json(made)})
    obj.say([*lines, "next: `document KIND`"], {"documents": rows})
