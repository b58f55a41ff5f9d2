"""When a run is worth no more of its budget: diverged, stalled, or hopeless beside the incumbent's runs.

Pure: what the program has shown so far goes in, words come out. A loss is compared at the same progress,
never before a third of the budget, and by Student's t of as many incumbent's runs as there are, so that three
runs end almost nothing. A tenth of the runs, by a lot drawn from the nonce, goes on as a check of the rule.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.decide import student_quantile
from lab.hyperband import Rung
from lab.live.readings import last_reading

MODES = ("off", "divergence", "hopeless")
DIVERGED, HOPELESS, PRUNED = "diverged", "hopeless", "pruned"  # outcomes of a run
FIRST = 1 / 3  # of the budget: before it nothing is hopeless
SURE = 0.99865  # one side of 3 sigma
BEYOND = 4.0  # times its start: a loss above it has diverged, when it stays there ...
STAYS = 0.1  # ... for this share of the budget
NOT_FINITE = 3  # lines in a row, as they are seen, whose loss is no number
LASTS = 0.2  # of the budget: so long a loss lies beyond the incumbent's runs ...
IN_A_ROW = 3  # ... at so many looks at least
STILL = 0.01  # of its start: a loss this near to it has not moved
FINISHES = 0.1  # of the runs go on whatever the rule says
LEAST_CURVES = 3
LOOKS = 200  # in a budget
BAD = re.compile(
    rb"(?<![\w./])(?:train(?:ing)?[_/ ]|smooth_)?loss['\"]?[ \t]{0,8}[:=]?[ \t]{0,8}[-+]?"
    rb"(?:nan|inf|infinity)(?![\w.])",
    re.I,
)

Point = tuple[float, float]  # progress from 0 to 1, loss


@dataclass(frozen=True)
class Terms:
    """What the rule stands on, as `spec.json` says it."""

    mode: str
    seconds: float  # the program's own budget
    finishes: bool = False  # by lot: the rule may speak, and the run goes on
    curves: tuple[tuple[Point, ...], ...] = ()  # of the incumbent's runs
    rungs: tuple[Rung, ...] = ()  # of a sweep's trial, see hyperband


def terms_json(
    mode: str, seconds: float, nonce: str, curves: Sequence[Sequence[Point]], rungs: Sequence[Rung] = ()
) -> dict[str, Any]:
    """The terms for a spec."""
    return {"mode": mode, "seconds": seconds, "finishes": drawn(nonce), "curves": curves, "rungs": rungs}


def terms_of(data: dict[str, Any] | None) -> Terms | None:
    """The terms that a spec says; None when nothing is ended early."""
    rungs = tuple((float(p), float(loss), int(count)) for p, loss, count in (data or {}).get("rungs") or [])
    if not data or (data["mode"] == "off" and not rungs):
        return None
    curves = tuple(tuple((float(p), float(loss)) for p, loss in curve) for curve in data["curves"])
    return Terms(data["mode"], float(data["seconds"]), bool(data["finishes"]), curves, rungs)


def drawn(nonce: str) -> bool:
    """Whether a run is one of the tenth that goes on: nobody chooses it, and everybody can work it out."""
    digest = hashlib.sha256(f"finish {nonce}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < FINISHES * 2**32


@dataclass
class Judge:
    """What a run has shown so far, and whether it is worth going on."""

    terms: Terms
    points: list[Point] = field(default_factory=list)
    bad: int = 0  # lines in a row whose loss is no number
    bad_line: bytes = b""  # the last of them
    beyond: list[float] = field(default_factory=list)  # where, in a row, beyond the incumbent's runs
    above: float | None = None  # since when the loss is a multiple of its start
    shown: tuple[float | None, float] | None = None  # step and loss; what is only shown again is no point
    spoke: str = ""  # what the rule said of a run that goes on by lot
    reached: Point | None = None  # where a trial was pruned, and its loss there

    def look(self, tail: bytes, elapsed: float) -> tuple[str, str]:
        """The outcome and its reason when the run should end now, else two empty words."""
        reading = last_reading(tail)
        line = next((one[:1000] for one in reversed(tail.splitlines()) if b"loss" in one.lower()), b"")
        if BAD.search(line):
            self.bad += line != self.bad_line  # shown once, it may be an overflow that the next step mends
            self.bad_line = line
        elif reading.loss is not None and (reading.step, reading.loss) != self.shown:
            self.bad, self.shown = 0, (reading.step, reading.loss)
            share = reading.share if reading.share is not None else elapsed / self.terms.seconds
            self.add(min(share, 1.0), reading.loss)
        return self.said()

    def add(self, progress: float, loss: float) -> None:
        """Take a point; one that lies before the last is none."""
        if self.points and progress <= self.points[-1][0]:
            return
        self.points.append((progress, loss))
        self._count(progress, loss)

    def _count(self, progress: float, loss: float) -> None:
        start = self.points[0][1]
        high = start > 0 and loss > BEYOND * start
        self.above = (self.above if self.above is not None else progress) if high else None
        limit = limit_at(self.terms.curves, progress) if progress >= FIRST else None
        self.beyond = [*self.beyond, progress] if limit is not None and loss > limit else []

    def said(self) -> tuple[str, str]:
        """The outcome and its reason, or two empty words; a run that goes on by lot is only noted."""
        outcome, reason = self._diverged() or self._pruned() or self._hopeless() or ("", "")
        if outcome == HOPELESS and self.terms.finishes:
            self.spoke = self.spoke or reason
            return "", ""
        return outcome, reason

    def _pruned(self) -> tuple[str, str] | None:
        for place, most, count in self.terms.rungs:
            loss = at(self.points, place)
            if loss is not None and loss > most:
                self.reached = (place, loss)
                return PRUNED, (
                    f"at {place:.0%} of the budget its loss is {loss:.4g}, and the best third of "
                    f"{count + 1} trials there stays below {most:.4g}"
                )
        return None

    def _diverged(self) -> tuple[str, str] | None:
        if self.terms.mode == "off":
            return None
        if self.bad >= NOT_FINITE:
            return DIVERGED, f"its loss is no number any more, {NOT_FINITE} lines in a row"
        if self.above is None or self.points[-1][0] - self.above < STAYS:
            return None
        (_, start), (progress, loss) = self.points[0], self.points[-1]
        return DIVERGED, (
            f"its loss {loss:.4g} is more than {BEYOND:g} times its start {start:.4g}, "
            f"since {self.above:.0%} of the budget (now {progress:.0%})"
        )

    def _hopeless(self) -> tuple[str, str] | None:
        if self.terms.mode != HOPELESS or len(self.beyond) < IN_A_ROW:
            return None
        if self.beyond[-1] - self.beyond[0] < LASTS - 1e-9:
            return None
        (_, start), (progress, loss) = self.points[0], self.points[-1]
        limit, count = limit_at(self.terms.curves, progress), len(self.terms.curves)
        if limit is None:
            return None
        what = "stalled where it began" if abs(loss - start) < STILL * abs(start) else "hopeless"
        return HOPELESS, (
            f"{what}: at {progress:.0%} of the budget its loss is {loss:.4g}, and {count} runs of the "
            f"incumbent stay below {limit:.4g} (3 sigma), as since {self.beyond[0]:.0%}"
        )


def limit_at(curves: Sequence[Sequence[Point]], progress: float) -> float | None:
    """The loss that no run of the incumbent's reaches but by luck; None when too few of them say so."""
    losses = [loss for curve in curves if (loss := at(curve, progress)) is not None]
    if len(losses) < LEAST_CURVES:
        return None
    mean = sum(losses) / len(losses)
    sd = math.sqrt(sum((loss - mean) ** 2 for loss in losses) / (len(losses) - 1))
    return mean + _quantile(len(losses) - 1) * sd * math.sqrt(1 + 1 / len(losses))


def _quantile(df: int) -> float:
    if df not in QUANTILES:
        QUANTILES[df] = student_quantile(SURE, df)
    return QUANTILES[df]


QUANTILES: dict[int, float] = {}  # worked out once: a look must cost nothing


def at(curve: Sequence[Point], progress: float) -> float | None:
    """The curve at a progress, on a straight line between its points; None beyond its ends."""
    before = [point for point in curve if point[0] <= progress]
    after = [point for point in curve if point[0] >= progress]
    if not before or not after:
        return None
    (p, low), (q, high) = before[-1], after[0]
    return low if q == p else low + (high - low) * (progress - p) / (q - p)
