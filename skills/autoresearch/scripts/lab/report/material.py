"""What the page is made of: state, settings, what was read beside them, and the lists drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lab.driving.silence import silent_after
from lab.model import BASELINE, Experiment, Run, State
from lab.report.figures import Figures, between, figures, said
from lab.report.shown import Evidence, Proof, proofs, weigh
from lab.settings import Settings

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Note:
    """A thing learned, with what it stands on."""

    text: str
    evidence: str = ""


@dataclass(frozen=True)
class Beside:
    """What is not in the state: read from files, git and the machine by the caller."""

    now: str
    command: str = "autoresearch"  # how a person calls the tool from anywhere
    next: str = ""
    sigma: float | None = None
    sigma_runs: int = 0
    budget_spent: str = ""
    notices: tuple[str, ...] = ()
    disk_free_gb: float | None = None
    stray: tuple[str, ...] | None = None  # files the keeps changed outside `edit:`; None: not looked at
    diffs: Mapping[str, str] = field(default_factory=dict)  # by experiment
    curves: Mapping[str, Curve] = field(default_factory=dict)  # by run
    account: Mapping[str, object] = field(default_factory=dict)  # what the keeps are worth, see lab.account
    lessons: tuple[Note, ...] | None = None  # None: nothing keeps them in this release
    issues: tuple[
        Note, ...
    ] = ()  # found in this campaign and not mended; the evidence: words to recall it by
    ideas: str = ""
    pages: tuple[str, ...] = ()  # reports that lie there


@dataclass(frozen=True)
class Row:
    """One experiment with its evidence."""

    e: Experiment
    evidence: Evidence

    @property
    def id(self) -> str:
        return self.e.id

    def words(self, limit: int) -> str:
        """The hypothesis on one line."""
        return said(self.e.hypothesis, limit) or "(no words)"

    @property
    def seconds(self) -> float:
        """Time its runs took, all of them."""
        return sum(run.seconds or 0.0 for run in self.e.runs)

    @property
    def mark(self) -> str:
        """Its kind on the page: keep, within, discard, crash or open."""
        if self.e.verdict == "keep":
            return "keep" if self.evidence.clear or self.id == BASELINE else "within"
        return self.e.verdict or "open"


@dataclass(frozen=True)
class Material:
    """Everything the parts of the page read. Gains are positive when better, whatever the goal."""

    state: State
    settings: Settings
    beside: Beside

    @cached_property
    def rows(self) -> list[Row]:
        return [Row(e, weigh(e)) for e in self.state.experiments.values()]

    @cached_property
    def by_id(self) -> dict[str, Row]:
        return {row.id: row for row in self.rows}

    @cached_property
    def by_commit(self) -> dict[str, Row]:
        """The kept experiments by their commit: what later ones stand on."""
        return {row.e.commit: row for row in self.rows if row.e.verdict == "keep"}

    @cached_property
    def kept(self) -> list[Row]:
        """The keeps in order, the baseline left out."""
        return [row for row in self.rows if row.e.verdict == "keep" and row.id != BASELINE]

    @cached_property
    def discards(self) -> list[Row]:
        return [row for row in self.rows if row.e.verdict == "discard"]

    @cached_property
    def crashes(self) -> list[Row]:
        return [row for row in self.rows if row.e.verdict == "crash"]

    @cached_property
    def tried(self) -> list[Row]:
        """All experiments with a verdict, the baseline left out."""
        return [row for row in self.rows if row.e.verdict and row.id != BASELINE]

    @cached_property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.e.runs]

    @cached_property
    def baseline(self) -> Row | None:
        row = self.by_id.get(BASELINE)
        return row if row and row.e.metric is not None else None

    @cached_property
    def best(self) -> Row | None:
        row = self.by_id.get(self.state.incumbent_id)
        return row if row and row.e.metric is not None else None

    @cached_property
    def figures(self) -> Figures:
        values = [row.e.metric for row in (self.baseline, self.best) if row and row.e.metric is not None]
        return figures(self.beside.sigma, values)

    @property
    def sign(self) -> float:
        """1 where a higher metric is better, -1 where a lower one is."""
        return 1.0 if self.settings.goal == "max" else -1.0

    @cached_property
    def gain(self) -> float | None:
        """How much better the best is than the baseline, as measured."""
        if self.best is None or self.baseline is None:
            return None
        after, before = self.best.e.metric, self.baseline.e.metric
        assert after is not None and before is not None
        return self.sign * (after - before)

    @cached_property
    def proofs(self) -> dict[str, Proof]:
        """The last confirmation of each experiment that has one with a result."""
        return {proof.experiment: proof for proof in proofs(self.state)}

    @cached_property
    def proof(self) -> Proof | None:
        """The confirmation of the best."""
        return self.proofs.get(self.best.id) if self.best else None

    @cached_property
    def believed(self) -> tuple[float, float] | None:
        """The gain of all keeps free of the luck that chose them, and its standard deviation."""
        gain, error = self.beside.account.get("gain"), self.beside.account.get("gain_error")
        known = isinstance(gain, float) and isinstance(error, float)
        return (float(str(gain)), float(str(error))) if known else None

    @cached_property
    def since_keep(self) -> int:
        """Experiments tried after the last keep."""
        last = self.kept[-1].e.number if self.kept else 0
        return sum(row.e.number > last for row in self.tried)

    @cached_property
    def near(self) -> list[Row]:
        """Discards that look better than what they were compared with, the likeliest first."""
        # A gain that shows as 0 in the digits of this metric is none.
        nothing = self.figures.change(0.0)
        rows = [
            r
            for r in self.discards
            if r.evidence.likely and self.figures.size(r.evidence.gain or 0.0) != nothing
        ]
        return sorted(rows, key=lambda row: (-(row.evidence.p or 0.0), -(row.evidence.gain or 0.0)))

    @cached_property
    def finished(self) -> bool:
        return bool(self.state.finished)

    @cached_property
    def last_at(self) -> str:
        """When something last happened, as far as the state knows."""
        times = [e.verdict_at or e.at for e in [*self.state.experiments.values()][-50:]]
        return self.state.finished or max(times, default=self.state.started)

    @cached_property
    def hours_end(self) -> str:
        """The end of the time the page speaks of: now, while something runs."""
        return self.beside.now if self.state.at_work() else self.last_at

    @cached_property
    def silent_seconds(self) -> float:
        """How long no experiment has come although one could, 0 while all is well."""
        busy = next(self.state.open(), None) or self.state.at_work()
        if self.finished or self.state.stopped or self.beside.budget_spent or busy:
            return 0.0
        since = between(self.last_at, self.beside.now)
        return since if since > silent_after(self.settings.seconds) else 0.0
