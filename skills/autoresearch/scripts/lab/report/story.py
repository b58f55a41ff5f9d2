"""What the page says, part by part and in the order of reading; the page, the Markdown and `wake` print it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lab.model import BASELINE
from lab.report.figures import between, clock, percent, plural, said, span
from lab.report.material import Material, Note, Row
from lab.report.needs import Need, needs
from lab.report.shown import CLEAR, UNKNOWN, WITHIN
from lab.report.trust import Check, checks

NEAR_AT_MOST = 8
LESSONS = 7
MOSTLY = 0.5  # share of the summed gain: with so much of it clear one may say "most of it"
LESS_MEMORY = 0.8
SIGNED = re.compile(r"(?<![\w.])([-+−] ?\d{1,9}(?:\.\d{1,12})?(?:e[-+]?\d{1,2})?)(?![\w.]*\s?%|[\w.])")


@dataclass(frozen=True)
class Card:
    """One figure with its name, and a line of what belongs to it."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Belief:
    """What to believe: a sign for the eye, the sentence, and its grounds."""

    sign: str  # good, partly, doubt, none
    head: str
    grounds: tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """A step of the kept path, and what was tried on it."""

    row: Row
    total: float | None  # better than the baseline
    share: float  # of the largest total, 0 to 1
    tried: int
    discards: int
    crashes: int


@dataclass(frozen=True)
class Failure:
    """A class of crash: how many, the likely cause, one line of evidence, what was done about it."""

    kind: str
    ids: tuple[str, ...]
    cause: str
    line: str
    where: str
    after: str


CAUSES = {
    "oom": "it needs more memory than there is",
    "error": "the program stopped with an error",
    "timeout": "it ran into the time limit",
    "not_finite": "the metric left the range of numbers: training diverged",
    "no_metric": "it ended without printing the metric",
    "ambiguous": "it printed the metric more than once, with different values",
    "protected": "it changed a protected file",
    "killed": "it was ended from outside, twice",
}


@dataclass(frozen=True)
class Story:
    """The parts of the page, each worked out when it is asked for."""

    m: Material

    # -- the answer ------------------------------------------------------------------------------------

    @cached_property
    def title(self) -> str:
        """The answer as a headline."""
        m, name = self.m, self.m.settings.metric
        if m.baseline is None or m.best is None:
            crashed = m.state.baseline is not None and m.state.baseline.verdict == "crash"
            return f"{m.state.tag}: " + ("the baseline crashed" if crashed else "nothing measured yet")
        value = m.figures.value(m.best.e.metric)
        if not m.kept:
            tried = len(m.tried)
            said = (
                f"none of {plural(tried, 'experiment')} beat the baseline"
                if tried
                else "the baseline; nothing tried yet"
            )
            return f"{name} {value}: {said}"
        assert m.gain is not None and m.baseline.e.metric is not None
        if m.gain <= 0:
            return (
                f"{name} {value}: {_worse(m)} the baseline, with other gains ({plural(len(m.kept), 'keep')})"
            )
        share = percent(m.gain, m.baseline.e.metric)
        said = f"{name} {value}: {m.figures.size(m.gain)} better than the baseline"
        return said + (f" ({share})" if share else "") + (f", {m.proof.verdict}" if m.proof else "")

    @cached_property
    def present(self) -> str:
        """Whether it still runs, in a few words."""
        m = self.m
        if m.finished:
            return f"finished {clock(m.state.finished or m.beside.now, m.state.started)}"
        if m.state.stopped:
            return f"stopped: {said(m.state.stopped, 120)}"
        if m.state.confirming:
            return f"confirming {m.state.confirming.experiment} on fresh seeds"
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

    @cached_property
    def took(self) -> float:
        """Seconds from the start to the last that happened."""
        return between(self.m.state.started, self.m.hours_end)

    @cached_property
    def meta(self) -> tuple[str, ...]:
        """Where and when, in a line of short parts."""
        m = self.m
        start, end = clock(m.state.started), clock(m.hours_end, m.state.started)
        return (f"campaign {m.state.tag}", m.settings.aim, f"branch {m.state.branch}",
                f"{start} to {end} ({span(self.took)})", self.present)  # fmt: skip

    @cached_property
    def belief(self) -> Belief:
        """What to believe, and why."""
        m = self.m
        if m.baseline is None:
            return Belief("none", "There is nothing to believe yet.", ("No baseline has been measured.",))
        if not m.kept:
            grounds = [self._noise_words] if m.tried else []
            return Belief("none", "There is no gain to believe.", (*grounds, *self._near_words))
        sign, head = self._proven or self._by_the_loop
        return Belief(sign, head, (*self._fresh, *self._clear_words, self._noise_words, *self._flattery))

    @property
    def _proven(self) -> tuple[str, str] | None:
        """What fresh seeds say, the strongest word there is."""
        proof = self.m.proof
        if proof is None:
            return None
        if proof.confirmed:
            return "good", "Believe it: it was measured again on fresh seeds."
        if proof.verdict.startswith("not"):
            return "doubt", "Do not believe it: it did not show on fresh seeds."
        return "doubt", "Not shown yet: fresh seeds left it open."

    @property
    def _by_the_loop(self) -> tuple[str, str]:
        """What the loop's own figures allow to say."""
        clear, rest = self._split
        share = sum(row.evidence.gain or 0.0 for row in clear) / (self._summed or 1.0)
        if not clear:
            unknown = all(row.evidence.word == UNKNOWN for row in self.m.kept)
            return "doubt", "It cannot be told yet." if unknown else "Do not count on it yet."
        if not rest:
            return "good", "Believe that it is better; how much is a little flattered."
        if share >= MOSTLY:
            return "partly", "Believe most of it."
        return "doubt", "Believe the smaller part of it."

    @property
    def _fresh(self) -> tuple[str, ...]:
        """The confirmation in a sentence."""
        proof, f = self.m.proof, self.m.figures
        if proof is None:
            return ()
        if proof.gain is None:
            return (f"{proof.id}: {said(proof.reason, 200)}",)
        return (f"On {plural(proof.pairs, 'fresh pair')} of seeds {proof.experiment} is {f.change(proof.gain)} against the "
                f"baseline in {proof.metric} ({f.change(proof.low)} to {f.change(proof.high)}"
                + (f", p {_small(proof.p)})." if proof.p is not None else ")."),)  # fmt: skip

    @cached_property
    def _split(self) -> tuple[list[Row], list[Row]]:
        clear = [row for row in self.m.kept if row.evidence.clear]
        return clear, [row for row in self.m.kept if not row.evidence.clear]

    @cached_property
    def _summed(self) -> float:
        return sum(abs(row.evidence.gain or 0.0) for row in self.m.kept)

    @cached_property
    def _clear_words(self) -> tuple[str, ...]:
        clear, rest = self._split
        count = len(self.m.kept)
        if not rest:
            which = "The one kept change is" if count == 1 else f"All {count} kept changes are"
            return (f"{which} clear of the noise: the interval of each gain lies above 0.",)
        said = f"{len(clear)} of {plural(count, 'kept change')} clear the noise one by one."
        size = self.m.figures.change(sum(row.evidence.gain or 0.0 for row in rest))
        what = "The other one adds" if len(rest) == 1 else f"The other {len(rest)} add up to"
        return (said, f"{what} {size}: not proven one by one.")

    @cached_property
    def _noise_words(self) -> str:
        sigma = self.m.beside.sigma
        if sigma is None:
            return "The noise between runs was not measured."
        if sigma == 0:
            return "Repeated runs gave the same number: there is no noise to hide in."
        return f"Two runs of the same code differ by about {self.m.figures.size(sigma * 2**0.5)} (sigma {sigma:.2g})."

    @cached_property
    def _near_words(self) -> tuple[str, ...]:
        count = len(self.m.near)
        return (f"{plural(count, 'discard')} looked better, within the noise.",) if count else ()

    @cached_property
    def _flattery(self) -> tuple[str, ...]:
        """The best of many looks better than it is: by how much, or that nobody has measured it."""
        m = self.m
        assert m.best
        if m.proof:
            return ()
        runs = m.best.evidence.runs
        measured = f"{m.best.id} ran {plural(runs, 'time')}" if runs > 1 else f"{m.best.id} ran only once"
        return (f"The figure is the best of {len(m.tried)} and chosen for it; {measured}, "
                "and it was not measured again on fresh seeds.",)  # fmt: skip

    # -- figures ---------------------------------------------------------------------------------------

    @cached_property
    def cards(self) -> tuple[Card, ...]:
        """The figures at a glance."""
        m = self.m
        cards = [
            Card("baseline", m.figures.value(m.baseline.e.metric if m.baseline else None), _runs_words(m.baseline)),
            Card("best", m.figures.value(m.best.e.metric if m.best else None),
                 f"{m.best.id} · {m.best.e.commit[:7]} · {_runs_words(m.best)}" if m.best else "none yet"),
            *self._proof_card,
            Card("experiments", str(len(m.tried)),
                 f"{len(m.kept)} kept · {len(m.discards)} dropped · {len(m.crashes)} crashed"),
            self._memory_card, self._time_card, self._noise_card,
        ]  # fmt: skip
        return tuple(cards)

    @property
    def _proof_card(self) -> tuple[Card, ...]:
        proof, f = self.m.proof, self.m.figures
        if proof is None or proof.gain is None:
            return ()
        return (
            Card("on fresh seeds", f.change(proof.gain), f"{f.change(proof.low)} to {f.change(proof.high)}"),
        )

    @property
    def _memory_card(self) -> Card:
        m = self.m
        after = m.best.e.memory_gb if m.best else None
        before = m.baseline.e.memory_gb if m.baseline else None
        if after is None or before is None:
            return Card("peak memory", "–", "not measured")
        value = f"{after:.1f} GB" if after >= 1 else f"{1024 * after:.0f} MB"
        change = 100 * (after / before - 1) if before else 0.0
        note = "as the baseline" if abs(change) < 1 else f"{change:+.0f} % against the baseline"
        return Card("peak memory", value, note)

    @property
    def _time_card(self) -> Card:
        times = [run.seconds for run in self.m.runs if run.seconds]
        busy = sum(times)
        share = f"{min(100, round(100 * busy / self.took))} % of the time" if self.took > 0 else ""
        each = f"{span(statistics.median(times))} a run" if times else "no run yet"
        return Card("training time", span(busy), " · ".join(part for part in (each, share) if part))

    @property
    def _noise_card(self) -> Card:
        sigma = self.m.beside.sigma
        note = f"sigma, from {plural(self.m.beside.sigma_runs, 'run')}"
        return Card("noise", "–" if sigma is None else "none" if sigma == 0 else f"{sigma:.2g}",
                    "not measured" if sigma is None else note)  # fmt: skip

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
        """The keeps in order from the baseline, with what was tried on each."""
        m = self.m
        if m.baseline is None:
            return []
        on: dict[str, list[Row]] = {}
        for row in m.tried:
            on.setdefault(row.e.against, []).append(row)
        steps = [m.baseline, *m.kept]
        start = m.baseline.e.metric or 0.0
        totals = [None if row.e.metric is None else m.sign * (row.e.metric - start) for row in steps]
        largest = max((abs(t) for t in totals if t), default=1.0)
        return [
            Link(row, total, abs(total or 0.0) / largest, len(on.get(row.id, [])),
                 sum(r.e.verdict == "discard" for r in on.get(row.id, [])),
                 sum(r.e.verdict == "crash" for r in on.get(row.id, [])))
            for row, total in zip(steps, totals, strict=True)
        ]  # fmt: skip

    @cached_property
    def near(self) -> list[Row]:
        """Discards worth another look: better within the noise, or as good with less memory."""
        rows = self.m.near[:NEAR_AT_MOST]
        lean = [row for row in self.m.discards if self.leaner(row) and row not in rows]
        return [*rows, *lean[: NEAR_AT_MOST - len(rows)]]

    def leaner(self, row: Row) -> bool:
        """Whether it needed much less memory than what it was compared with, and was not clearly worse."""
        other = self.m.by_id.get(row.e.against)
        high, mine = row.evidence.high, row.e.memory_gb
        theirs = other.e.memory_gb if other else None
        return bool(high is not None and high > 0 and mine and theirs and mine < LESS_MEMORY * theirs)

    @cached_property
    def failures(self) -> list[Failure]:
        """The crashes by class, the largest first."""
        kinds: dict[str, list[Row]] = {}
        for row in self.m.crashes:
            kinds.setdefault(_kind(row), []).append(row)
        retries: dict[str, list[Row]] = {}
        for row in self.m.tried:
            if row.e.retry_of:
                retries.setdefault(row.e.retry_of, []).append(row)
        return [self._failure(kind, rows, retries) for kind, rows in
                sorted(kinds.items(), key=lambda item: -len(item[1]))]  # fmt: skip

    def _failure(self, kind: str, rows: Sequence[Row], retries: dict[str, list[Row]]) -> Failure:
        run = rows[-1].e.fatal_run
        line = said((run.line or run.detail) if run else rows[-1].e.reason, 160)
        mended = [
            f"{row.id} → {again.id} {again.e.verdict}" for row in rows for again in retries.get(row.id, [])
        ]
        return Failure(kind, tuple(row.id for row in rows), CAUSES.get(kind, "it ended without a result"), line,
                       said(run.where or "", 80) if run else "",
                       "tried again: " + ", ".join(mended[:4]) if mended else "left alone")  # fmt: skip

    @cached_property
    def dropped(self) -> str:
        """Where the discards went, in a sentence."""
        m = self.m
        if not m.discards:
            return "Nothing was discarded."
        near = len(m.near)
        rest = len(m.discards) - near
        return (f"{plural(len(m.discards), 'discard')}: {rest} not better than the best at that time, "
                f"{near} better but within the noise or not worth the added code.")  # fmt: skip

    @cached_property
    def checks(self) -> list[Check]:
        return checks(self.m)

    # -- the end ---------------------------------------------------------------------------------------

    @cached_property
    def lessons(self) -> tuple[Note, ...]:
        """What was written down as learned."""
        notes = (self.m.beside.lessons or ())[:LESSONS]
        return tuple(Note(said(note.text, 200), said(note.evidence, 80)) for note in notes)

    @property
    def ideas(self) -> str:
        """How the agenda stands."""
        return said(self.m.beside.ideas, 300)

    @cached_property
    def lessons_absent(self) -> str:
        return ("Nothing was written down yet: `remember \"TEXT\"`. " if self.m.beside.lessons is not None
                else "Lessons were not looked at. ") + self.surprises  # fmt: skip

    @cached_property
    def surprises(self) -> str:
        """How well the hypotheses foretold what came, where they named a number."""
        m = self.m
        pairs = [(hoped, row.evidence.gain) for row in m.tried if row.evidence.gain is not None
                 for hoped in [expected_gain(row.e.expect, m.sign)] if hoped]  # fmt: skip
        if not pairs:
            return ""
        same = sum(hoped * came > 0 for hoped, came in pairs)
        half = sum(hoped * came > 0 and abs(came) >= abs(hoped) / 2 for hoped, came in pairs)
        return (
            f"{plural(len(pairs), 'hypothesis')} named a change in numbers: {same} went in that direction, "
            f"{half} by at least half of it."
        )

    @cached_property
    def next(self) -> list[Need]:
        """What can come next, with its command."""
        m, branch = self.m, self.m.state.branch
        steps = []
        if m.kept:
            steps.append(Need("look at the kept changes", f"git log -p {m.state.base[:12]}..{branch}"))
        if m.finished:
            steps.append(Need("start the next campaign", "init --tag NEW"))
            return steps
        if m.state.stopped:
            return [*steps, Need("go on", "resume"), Need("end it: your files as they were", "finish")]
        return [*steps, Need("see where it stands", "status"), Need("stop after the present run", "stop"),
                Need("end it: your files as they were", "finish")]  # fmt: skip

    @cached_property
    def outlook(self) -> str:
        """The tool's next step, and how long nothing was kept."""
        m = self.m
        since = f"{plural(m.since_keep, 'experiment')} since the last keep. " if m.tried else ""
        return since + (f"Next: {said(m.beside.next, 200)}." if m.beside.next and not m.finished else "")

    def evidence_words(self, row: Row) -> str:
        """Gain with interval, P and runs, as far as known."""
        f, v = self.m.figures, row.evidence
        if v.gain is None:
            return {BASELINE: "the start"}.get(row.id, UNKNOWN)
        proof = self.m.proofs.get(row.id)
        parts = [f"{proof.verdict} on fresh seeds" if proof else v.word]
        if v.low is not None and v.high is not None and v.low != v.high:
            parts.append(f"{f.change(v.low)} to {f.change(v.high)}")
        if v.p is not None:
            parts.append(f"P(better) {_chance(v.p)}")
        parts.append(plural(v.runs, "run"))
        return " · ".join(parts)


def expected_gain(words: str, sign: float) -> float | None:
    """The first signed number of an expectation as a gain; None where there is none, or a percentage."""
    found = SIGNED.search(words[:400])
    return None if found is None else sign * float(found[1].replace("−", "-").replace(" ", ""))


def _small(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _chance(p: float) -> str:
    return "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"{p:.3f}" if p > 0.99 else f"{p:.2f}"


def _worse(m: Material) -> str:
    assert m.gain is not None
    return f"{m.figures.size(m.gain)} worse than" if m.gain < 0 else "the same as"


def _runs_words(row: Row | None) -> str:
    return plural(row.evidence.runs, "run") if row else "not measured"


def _kind(row: Row) -> str:
    run = row.e.fatal_run
    return (run.kind or run.outcome if run else None) or "error"


__all__ = ["CLEAR", "WITHIN", "Belief", "Card", "Failure", "Link", "Story"]
