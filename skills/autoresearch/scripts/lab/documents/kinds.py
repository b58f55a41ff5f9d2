"""The kinds of document there are, where their templates lie and where the filled ones go.

The templates are assets of the skill collaborative-and-templates, which is installed beside this one: there
is one copy, which an agent may also read without the tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.errors import USAGE, LabError
from lab.model import MEMORIES

NOTEBOOK = f"{MEMORIES}/notebook"
SIBLING = "collaborative-and-templates"


@dataclass(frozen=True)
class Kind:
    """A kind of document; `file` is its place in the campaign's notebook."""

    name: str
    file: str
    words: str


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("working", "working.md", "the working file: goal, best so far, what is open, next ideas"),
        Kind("entry", "entries/{experiment}.md", "the journal entry of one experiment"),
        Kind("progress", "progress.md", "a progress summary for a person who decides"),
        Kind("audit", "audit.md", "the architecture audit: what the parts do, cost and lack"),
        Kind("literature", "literature.md", "the literature survey"),
        Kind("agenda", "agenda.md", "the research agenda with what came of each idea"),
        Kind("report", "report.md", "the final report"),
        Kind("config", "config.md", "the settings of the campaign, for a person to agree to"),
        Kind("suggestions", "configuration_suggestions.md", "which keeps and switches to have on, and why"),
    )
}


def kind_of(name: str) -> Kind:
    """The kind of this name, or say which there are."""
    if name not in KINDS:
        raise LabError(f"there is no document {name!r}", f"there are: {', '.join(KINDS)}", USAGE)
    return KINDS[name]


def folder() -> Path:
    """The templates; LabError when the skill that has them is not installed beside this one."""
    here = Path(__file__)
    tried = [base.parents[4] / SIBLING / "assets" for base in (here.resolve(), here.absolute())]
    found = next((place for place in tried if place.is_dir()), None)
    if found is None:
        raise LabError(
            f"the templates are not there: {tried[0]} is missing",
            f"install the skill {SIBLING} beside autoresearch, from the same place as this one",
        )
    return found


def template(kind: Kind) -> str:
    """The text of a kind's template."""
    path = folder() / f"{kind.name}.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LabError(
            f"the template {path} cannot be read: {error.strerror}", f"install {SIBLING} again"
        ) from error
