"""What an export holds, whatever the format: runs with numbers, words and curve, and the campaign's course.

Only experiments with a verdict and confirmations with a result: what is exported does not change any more.
Words are cleaned as everywhere (control characters, secrets), numbers are the journal's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lab.campaign import Lab
from lab.live.readings import Curve, read_curve
from lab.model import Confirmation, Experiment, Run
from lab.report.figures import moment, said

WORDS = 1000  # characters of one text


@dataclass(frozen=True)
class RunRow:
    """One run: its facts in words, its final numbers, its loss over its steps."""

    id: str  # e012.1
    experiment: str
    started: float  # seconds since 1970
    words: dict[str, str]
    numbers: dict[str, float]
    curve: Curve

    @property
    def points(self) -> list[tuple[int, float]]:
        """The curve over whole steps; its points are counted from 1 where its axis has fractions."""
        whole = all(x == int(x) for x, _ in self.curve)
        return [(int(x) if whole else i, y) for i, (x, y) in enumerate(self.curve, 1)]


@dataclass(frozen=True)
class Bundle:
    """A campaign as it is exported."""

    campaign: str
    metric: str
    goal: str
    experiments: tuple[dict[str, str | float | int | None], ...]
    runs: tuple[RunRow, ...]
    left_out: int  # experiments that have no verdict yet

    @property
    def best(self) -> list[tuple[int, float]]:
        """The best metric so far after each experiment that was kept."""
        kept = [row for row in self.experiments if row["verdict"] == "keep" and row["metric"] is not None]
        return [(int(str(row["experiment"])[1:]), float(str(row["metric"]))) for row in kept]

    @property
    def values(self) -> list[tuple[int, float]]:
        """The metric of each experiment that has one."""
        rows = [row for row in self.experiments if row["metric"] is not None and row["verdict"] != "crash"]
        return [(int(str(row["experiment"])[1:]), float(str(row["metric"]))) for row in rows]


def bundle(lab: Lab) -> Bundle:
    """Everything of a campaign that has been decided."""
    state, metric = lab.state, lab.settings.metric
    done = [e for e in state.experiments.values() if e.verdict]
    ended = [c for c in state.confirmations.values() if c.verdict]
    places: list[Experiment | Confirmation] = [*done, *ended]
    runs = [row for place in places for row in _runs(lab, place, metric)]
    left = len(state.experiments) - len(done)
    return Bundle(state.tag, metric, lab.settings.goal, tuple(_row(e) for e in done), tuple(runs), left)


def _runs(lab: Lab, place: Experiment | Confirmation, metric: str) -> Iterator[RunRow]:
    for run in place.runs:
        if run.outcome is not None:
            owner = lab.state.experiments[run.side] if isinstance(place, Confirmation) else place
            yield RunRow(
                id=run.id,
                experiment=owner.id,
                started=_seconds(place.at),
                words=_words(owner, run),
                numbers=_numbers(run, metric),
                curve=read_curve(lab.run_dir(run)),
            )


def _words(e: Experiment, run: Run) -> dict[str, str]:
    texts = {
        "experiment": e.id, "run": run.id, "seed": "" if run.seed is None else str(run.seed),
        "outcome": run.outcome or "", "role": run.role, "verdict": e.verdict or "", "commit": run.commit,
        "parent": e.parent, "against": e.against, "hypothesis": e.hypothesis, "because": e.because,
        "expected": e.expect, "arguments": e.args, "reason": e.reason, "crash": run.kind or "",
        "line": run.line,
    }  # fmt: skip
    return {name: said(text, WORDS) for name, text in texts.items() if text}


def _numbers(run: Run, metric: str) -> dict[str, float]:
    found = {**run.values, "seconds": run.seconds, "memory_gb": run.memory_gb}
    found[metric] = run.metric if run.counts else None
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _row(e: Experiment) -> dict[str, str | float | int | None]:
    low, high = e.interval if e.interval and len(e.interval) == 2 else (None, None)
    return {
        "experiment": e.id, "verdict": e.verdict or "", "metric": e.metric if e.verdict != "crash" else None,
        "gain": e.gain, "believed": e.shrunken, "low": low, "high": high, "p": e.p, "runs": len(e.runs),
        "seconds": sum(run.seconds or 0.0 for run in e.runs), "memory_gb": e.memory_gb, "added": e.added,
        "removed": e.removed, "commit": e.commit, "parent": e.parent, "against": e.against, "at": e.at,
        "hypothesis": said(e.hypothesis, WORDS), "because": said(e.because, WORDS),
        "expected": said(e.expect, WORDS), "arguments": said(e.args, WORDS), "reason": said(e.reason, WORDS),
        "flags": said("; ".join(e.flags), WORDS),
    }  # fmt: skip


def _seconds(iso: str) -> float:
    found = moment(iso)
    return found.timestamp() if found else 0.0
