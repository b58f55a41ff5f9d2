"""What the page says, part by part in the order of reading; page, Markdown and `wake` print it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lab import weighed
from lab.model import BASELINE
from lab.report import answer, cards, tries
from lab.report.answer import Belief
from lab.report.cards import Card
from lab.report.figures import clock, plural, said, span
from lab.report.material import Material, Note, Row
from lab.report.needs import Need, needs
from lab.report.parts import Shares, shares
from lab.report.shown import UNKNOWN
from lab.report.tries import Failure, Link
from lab.report.trust import Check, checks

LESSONS = 7


@dataclass(frozen=True)
class Story:
    """The parts of the page, each worked out when it is asked for."""

    m: Material

    # -- the answer ------------------------------------------------------------------------------------

    @cached_property
    def title(self) -> str:
        return answer.title(self.m)

    @cached_property
    def belief(self) -> Belief:
        return answer.belief(self.m)

    @cached_property
    def present(self) -> str:
        """Whether it still runs, in a few words."""
        m = self.m
        if m.finished:
            return f"finished {clock(m.state.finished, m.state.started)}"
        if m.state.stopped:
            return f"stopped: {said(m.state.stopped, 120)}"
        if m.state.confirming:
            return f"confirming {m.state.confirming.experiment} on fresh seeds"
        if m.state.studying:
            return f"measuring {weighed.title(m.state.studying)}"
        working = [run.id for _, run in m.state.at_work()]
        if working:
            return f"running {', '.join(working)}"
        if next(m.state.open(), None):
            return "waiting to run"
        if m.beside.budget_spent:
            return f"budget spent: {m.beside.budget_spent}"
        if m.silent_seconds:
            return f"silent since {clock(m.last_at, m.state.started)}"
        return "between two experiments"

    @property
    def took(self) -> float:
        """Seconds from the start to the last that happened."""
        return cards.took(self.m)

    @cached_property
    def meta(self) -> tuple[str, ...]:
        """Where and when, in a line of short parts."""
        m = self.m
        start, end = clock(m.state.started), clock(m.hours_end, m.state.started)
        when = f"{start} to {end} ({span(self.took)})"
        return (f"campaign {m.state.tag}", m.settings.aim, f"branch {m.state.branch}", when, self.present)

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        return cards.cards(self.m)

    @cached_property
    def needs(self) -> list[Need]:
        return needs(self.m)

    # -- experiments -----------------------------------------------------------------------------------

    @cached_property
    def worked(self) -> list[Row]:
        """The keeps, the largest gain first."""
        return sorted(self.m.kept, key=lambda row: -(row.evidence.gain or 0.0))

    @cached_property
    def path(self) -> list[Link]:
        return tries.path(self.m)

    @cached_property
    def near(self) -> list[Row]:
        return tries.near(self.m)

    @cached_property
    def failures(self) -> list[Failure]:
        return tries.failures(self.m)

    @cached_property
    def dropped(self) -> str:
        return tries.dropped(self.m)

    @cached_property
    def checks(self) -> list[Check]:
        return checks(self.m)

    def evidence_words(self, row: Row) -> str:
        """Gain with interval, probability and runs, as far as known."""
        f, v = self.m.figures, row.evidence
        if v.gain is None:
            return "the start" if row.id == BASELINE else UNKNOWN
        proof = self.m.proofs.get(row.id)
        parts = [v.word, f"with all before it {proof.verdict} on fresh seeds"] if proof else [v.word]
        if v.low is not None and v.high is not None and v.low != v.high:
            parts.append(f"{f.change(v.low)} to {f.change(v.high)}")
        if v.measured is not None:
            parts.append(f"as measured {f.change(v.measured)}")
        if v.p is not None:
            parts.append(f"{v.p_words} {_chance(v.p)}")
        return " · ".join([*parts, plural(v.runs, "run")])

    @cached_property
    def shares(self) -> list[Shares]:
        """What the parts of the result are worth, where that was measured."""
        return shares(self.m)

    # -- the end ---------------------------------------------------------------------------------------

    @cached_property
    def lessons(self) -> tuple[Note, ...]:
        """What was written down as learned."""
        notes = (self.m.beside.lessons or ())[:LESSONS]
        return tuple(Note(said(note.text, 200), said(note.evidence, 80)) for note in notes)

    @property
    def no_lessons(self) -> str:
        """Why there are none."""
        if self.m.beside.lessons is None:
            return "What was written down as learned was not looked at."
        return 'Nothing was written down yet: `remember "TEXT" --from EXP` does it.'

    @property
    def foretold(self) -> str:
        return tries.foretold(self.m)

    @property
    def ideas(self) -> str:
        """How the agenda stands."""
        return said(self.m.beside.ideas, 300)

    @cached_property
    def next(self) -> list[Need]:
        """What can come next, with its command."""
        m = self.m
        look = Need("look at the kept changes", f"git log -p {m.state.base[:12]}..{m.state.branch}")
        end = Need("end it: your files as they were", "finish")
        if m.finished:
            steps = [Need("start the next campaign", "init --tag NEW")]
        elif m.state.stopped:
            steps = [Need("go on", "resume"), end]
        else:
            steps = [Need("see where it stands", "status"), Need("stop after the present run", "stop"), end]
        return [look, *steps] if m.kept else steps

    @cached_property
    def outlook(self) -> str:
        """How long nothing was kept, and the tool's next step."""
        m = self.m
        since = f"{plural(m.since_keep, 'experiment')} since the last keep. " if m.tried else ""
        return since + (f"Next: {said(m.beside.next, 200)}." if m.beside.next and not m.finished else "")


def _chance(p: float) -> str:
    return "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"{p:.3f}" if p > 0.99 else f"{p:.2f}"
