"""What the studies ask for: keeps that no longer carry weight, and switches that help, put on the agenda."""

from __future__ import annotations

from collections.abc import Iterator

from lab import ideas, weights
from lab.agenda import AGENDA, Idea
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import Record, State, Study
from lab.redact import one_line
from lab.weighed import effect_words


def latest(state: State, kind: str) -> Study | None:
    """The newest study of a kind with a result that speaks of the present incumbent."""
    done = (s for s in reversed(state.studies.values()) if s.verdict and s.kind == kind)
    return next((s for s in done if s.experiment == state.incumbent_id), None)


def wishes(state: State) -> Iterator[Idea]:
    """The ideas that the newest studies of the incumbent give."""
    for kind in ("ablate", "isolate"):
        study = latest(state, kind)
        for row in study.rows if study else ():
            text = _wish(kind, row)
            if text and study:
                because = f"{study.id}: {effect_words(study, row)}"
                yield Idea(
                    "", text, source="diagnosis", because=because, impact=2, feasibility=5, complexity=1
                )


def _wish(kind: str, row: Record) -> str:
    words = one_line(str(row["words"]), 80)
    if kind == "ablate" and row["verdict"] == weights.NOT_NEEDED:
        return f"take {row['of']} out, it no longer carries weight ({words})"
    if kind == "isolate" and row["verdict"] == weights.HELPS and row["against"] == "default":
        return f"turn {words}: it helps alone"
    return ""


def follow(lab: Lab) -> list[str]:
    """Put what the studies ask for on the agenda; harmless to repeat. Return what is new or failed."""
    told = []
    for wish in wishes(lab.state):
        try:
            idea, fresh = ideas.add(lab, wish)
        except (LabError, OSError) as error:
            return [f"{wish.text!r} is not in {AGENDA} yet: {error}"]
        if fresh:
            told.append(f"new idea {idea.id}: {idea.text}")
    return told
