"""Lists of experiments: the kept path, near misses, crashes by class, and what became of expectations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.report.figures import plural, said
from lab.report.material import Material, Row

NEAR_AT_MOST = 8
LESS_MEMORY = 0.8
SIGNED = re.compile(r"(?<![\w.])([-+−] ?\d{1,9}(?:\.\d{1,12})?(?:e[-+]?\d{1,2})?)(?![\w.]*\s?%|[\w.])")
CAUSES = {
    "oom": "it needs more memory than there is",
    "error": "the program stopped with an error",
    "timeout": "it ran into the time limit",
    "not_finite": "the metric left the range of numbers: training diverged",
    "no_metric": "it ended without printing the metric",
    "ambiguous": "it printed the metric more than once, with different values",
    "protected": "it changed a protected file",
    "incomparable": "it measured something else: other data, tokenizer, preset or budget",
    "killed": "it was ended from outside, twice",
}


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


def path(m: Material) -> list[Link]:
    """The keeps in order from the baseline, with what was tried on each."""
    if m.baseline is None:
        return []
    on: dict[str, list[Row]] = {}
    for row in m.tried:
        on.setdefault(row.e.against, []).append(row)
    steps = [m.baseline, *m.kept]
    start = m.baseline.e.metric or 0.0
    totals = [None if row.e.metric is None else m.sign * (row.e.metric - start) for row in steps]
    largest = max((abs(total) for total in totals if total), default=1.0)
    return [
        Link(
            row=row,
            total=total,
            share=abs(total or 0.0) / largest,
            tried=len(on.get(row.id, [])),
            discards=sum(r.e.verdict == "discard" for r in on.get(row.id, [])),
            crashes=sum(r.e.verdict == "crash" for r in on.get(row.id, [])),
        )
        for row, total in zip(steps, totals, strict=True)
    ]


def near(m: Material) -> list[Row]:
    """Discards worth another look: better within the noise, or as good with less memory."""
    rows = m.near[:NEAR_AT_MOST]
    room = NEAR_AT_MOST - len(rows)
    return [*rows, *[row for row in m.discards if _leaner(m, row) and row not in rows][:room]]


def _leaner(m: Material, row: Row) -> bool:
    """Whether it needed much less memory than what it was compared with, and was not clearly worse."""
    other = m.by_id.get(row.e.against)
    high, mine = row.evidence.high, row.e.memory_gb
    theirs = other.e.memory_gb if other else None
    return bool(high is not None and high > 0 and mine and theirs and mine < LESS_MEMORY * theirs)


def failures(m: Material) -> list[Failure]:
    """The crashes by class, the largest first."""
    kinds: dict[str, list[Row]] = {}
    for row in m.crashes:
        kinds.setdefault(_kind(row), []).append(row)
    retries: dict[str, list[Row]] = {}
    for row in m.tried:
        if row.e.retry_of:
            retries.setdefault(row.e.retry_of, []).append(row)
    return [
        _failure(kind, kinds[kind], retries) for kind in sorted(kinds, key=lambda kind: -len(kinds[kind]))
    ]


def _failure(kind: str, rows: Sequence[Row], retries: Mapping[str, Sequence[Row]]) -> Failure:
    run = rows[-1].e.fatal_run
    mended = [f"{row.id} → {again.id} {again.e.verdict}" for row in rows for again in retries.get(row.id, [])]
    return Failure(
        kind=kind,
        ids=tuple(row.id for row in rows),
        cause=CAUSES.get(kind, "it ended without a result"),
        line=said((run.line or run.detail) if run else rows[-1].e.reason, 160),
        where=said(run.where or "", 80) if run else "",
        after="tried again: " + ", ".join(mended[:4]) if mended else "left alone",
    )


def _kind(row: Row) -> str:
    run = row.e.fatal_run
    return said((run.kind or run.outcome if run else None) or "error", 30)


def dropped(m: Material) -> str:
    """Where the discards went, in a sentence."""
    if not m.discards:
        return "Nothing was discarded."
    trials = sum(row.e.trial for row in m.discards)
    better = sum((row.e.gain or 0.0) > 0 for row in m.discards if not row.e.trial)
    rest = len(m.discards) - trials - better
    swept = f"{plural(trials, 'trial')} of a sweep, " if trials else ""
    return (
        f"{plural(len(m.discards), 'discard')}: {swept}{rest} not better than the best at that time, "
        f"{better} better but within the noise or not worth the added code."
    )


def foretold(m: Material) -> str:
    """How well the hypotheses foretold what came, where they named a number; "" where none did."""
    pairs = [
        (hoped, row.evidence.gain)
        for row in m.tried
        if row.evidence.gain is not None and (hoped := expected_gain(row.e.expect, m.sign))
    ]
    if not pairs:
        return ""
    same = [(hoped, came) for hoped, came in pairs if hoped * came > 0]
    half = sum(abs(came) >= abs(hoped) / 2 for hoped, came in same)
    return (
        f"{plural(len(pairs), 'hypothesis')} named a change in numbers: {len(same)} went in that direction, "
        f"{half} by at least half of it."
    )


def expected_gain(words: str, sign: float) -> float | None:
    """The first signed number of an expectation as a gain; None where there is none, or a percentage."""
    found = SIGNED.search(words[:400])
    return None if found is None else sign * float(found[1].replace("−", "-").replace(" ", ""))
