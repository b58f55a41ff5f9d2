"""What one experiment has shown: its gain, how sure that is, and in which word that is said.

The one place that reads the decision's facts of an experiment, so that the rest of the page does not
depend on which of them a release of the decision writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.account import CLEAR as CLEAR_P
from lab.model import Confirmation, Experiment, State
from lab.report.figures import said

BETTER, PAYS = "P(better)", "P(pays)"
NEAR = {BETTER: 0.7, PAYS: 0.35}  # from which on a discard is a near miss
CLEAR, WITHIN, UNKNOWN = "clear", "within noise", "not measured"


@dataclass(frozen=True)
class Evidence:
    """Gains are positive when better. `low` and `high` bound the gain; `p_words` says what `p` is of."""

    gain: float | None
    low: float | None
    high: float | None
    p: float | None
    p_words: str  # what the probability is of
    runs: int
    word: str  # clear, within noise, not measured
    flags: tuple[str, ...] = ()
    measured: float | None = None  # the plain difference, where the gain is what shrinking left of it

    @property
    def likely(self) -> bool:
        """Whether a discard with it is a near miss."""
        return (self.gain or 0.0) > 0 and (self.p is None or self.p >= NEAR[self.p_words])

    @property
    def clear(self) -> bool:
        """Whether the gain stands beyond the noise by itself."""
        return self.word == CLEAR


def weigh(e: Experiment) -> Evidence:
    """Read an experiment's evidence; what its release did not write is not measured."""
    low, high = _pair(e.interval)
    return Evidence(
        gain=e.gain if e.shrunken is None else e.shrunken,
        low=low,
        high=high,
        p=e.p,
        p_words=BETTER if e.shrunken is None else PAYS,
        runs=len(e.good_runs),
        word=UNKNOWN if e.p is None else CLEAR if e.p >= CLEAR_P else WITHIN,
        flags=flags_of(e),
        measured=None if e.shrunken is None else e.gain,
    )


@dataclass(frozen=True)
class Proof:
    """What a confirmation on fresh seeds gave; the gain is positive when better."""

    id: str
    experiment: str
    verdict: str  # confirmed, not confirmed, inconclusive at this scale
    reason: str
    metric: str
    gain: float | None
    low: float | None
    high: float | None
    pairs: int
    p: float | None
    sd: float | None  # between its fresh runs, of the noisier side

    @property
    def confirmed(self) -> bool:
        return self.verdict == "confirmed"


def proofs(state: State) -> list[Proof]:
    """The confirmations that have a result, in order."""
    return [_proof(c) for c in state.confirmations.values() if c.verdict]


def _proof(c: Confirmation) -> Proof:
    found = c.result
    gain, p, n, bounds = found.get("gain"), found.get("p_t"), found.get("n"), found.get("interval")
    low, high = _pair(bounds if isinstance(bounds, list) else None)
    return Proof(
        id=c.id,
        experiment=c.experiment,
        verdict=c.verdict,
        reason=c.reason,
        metric=str(found.get("metric", "")),
        gain=float(gain) if isinstance(gain, (int, float)) else None,
        low=low,
        high=high,
        pairs=n if isinstance(n, int) else 0,
        p=float(p) if isinstance(p, (int, float)) else None,
        sd=max((sd for side in ("before", "after") if (sd := _sd(found.get(side)))), default=None),
    )


def _sd(side: object) -> float | None:
    sd = side.get("sd") if isinstance(side, dict) else None
    return float(sd) if isinstance(sd, (int, float)) else None


def flags_of(e: Experiment) -> tuple[str, ...]:
    """What the guards doubt about an experiment."""
    return tuple(said(flag, 200) for flag in e.flags)


def _pair(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (interval[0], interval[1]) if interval is not None and len(interval) == 2 else (None, None)
