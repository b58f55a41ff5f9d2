"""Which of several open experiments comes first, and what is said of one whose incumbent was replaced.

Pure functions over the state. A run is evidence against the commit it was made on and no other, so a win over
a former incumbent puts nothing on the branch: its change and the new incumbent's are measured together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab import guards
from lab.decide.statistics import median
from lab.model import Experiment, Run, State
from lab.redact import one_line

CLASHES = 5  # places told of one conflict
SIDE = 90  # characters of each side
LESS, MIDDLE, MORE, BASE = b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||"


def order(state: State) -> list[Experiment]:
    """Open experiments in the order in which they are moved on: begun ones, combinations, new ideas.

    Combinations come before new ideas, the largest effect first: each keep meanwhile costs them their runs.
    """

    def place(e: Experiment) -> tuple[bool, bool, float, int]:
        return (not e.runs, not e.combines, -effect(state, e) if e.combines else 0.0, e.number)

    return sorted(state.open(), key=place)


def effect(state: State, combination: Experiment) -> float:
    """What was to be believed of the change that a combination carries on."""
    return state.experiments[combination.combines[-1]].shrunken or 0.0


def root(state: State, experiment: Experiment) -> Experiment:
    """The experiment whose idea it is: a combination's last part, down to the first."""
    while experiment.combines:
        experiment = state.experiments[experiment.combines[-1]]
    return experiment


def combination_of(state: State, experiment: Experiment) -> Experiment | None:
    """The combination proposed for a stale winner, which a kill may have left without its verdict."""
    newer = (e for e in reversed(state.experiments.values()) if e.number > experiment.number)
    return next((e for e in newer if e.combines[-1:] == [experiment.id]), None)


# -- slots ---------------------------------------------------------------------------------------------


def idle(state: State, slots: int) -> int:
    """How many slots no open experiment will take by itself."""
    return slots - len(state.going) - sum(1 for e in state.open() if not e.open_run) + 1


def awaits(state: State, experiment: Experiment) -> bool:
    """Whether the other half of a pair is still at work: a verdict without it would waste it."""
    reference = state.reference(experiment)
    going = reference.open_run if reference and reference is not experiment else None
    if reference is None or going is None or going.seed is None:
        return False
    known = {run.seed for run in reference.good_runs}
    return going.seed not in known and going.seed in {run.seed for run in experiment.good_runs}


def alike(run: Run, other: Run) -> bool:
    """Whether about as many runs were at work beside both: else their throughput says nothing."""
    return abs(run.load - other.load) <= 0.25 * max(run.load, other.load)


def slowed(state: State, run: Run, margin: float) -> str:
    """Say that a run and those beside it got clearly less done than the incumbent under that load, or "".

    Of one run alone nobody can tell: a larger model does fewer steps. When most of the candidates that were
    at work together are slow, it is the machine.
    """
    others = [other for other in _together(state, run) if _share(state, other) is not None]
    own = _share(state, run)
    incumbent = state.incumbent_commit
    if run.load < 2 or run.role or run.commit == incumbent or own is None or own >= 1 - margin or not others:
        return ""
    slow = [other for other in others if (_share(state, other) or 1.0) < 1 - margin]
    if 2 * len(slow) <= len(others):
        return ""
    names = ", ".join(sorted(other.id for other in slow)[:3])
    less = f"{100 * (1 - own):.0f} % less work than {state.incumbent_id} under the same load"
    return f"{run.id} did {less}, and {names} beside it did less, too: the machine was slow"


def _together(state: State, run: Run) -> Iterator[Run]:
    """Runs of other candidates that ended and were at work while this one was."""
    for e in state.lately():
        for other in e.good_runs if e.id != state.incumbent_id else ():
            if other.commit != run.commit and other.ended > run.began and other.began < run.ended:
                yield other


def _share(state: State, run: Run) -> float | None:
    """The work of a run as a share of the incumbent's under the same load; None where nobody can say."""
    known = state.incumbent.good_runs if state.incumbent else []
    work = guards.work_of([run, *(other for other in known if alike(run, other))])
    return work[0] / median(work[1:]) if work and len(work) > 1 else None


# -- arguments and conflicts ---------------------------------------------------------------------------


def merged_args(base: str, ours: str, theirs: str) -> str | None:
    """Three-way merge of a command's arguments as a whole; None when both sides changed them."""
    if theirs in (base, ours):
        return ours
    return theirs if ours == base else None


@dataclass(frozen=True)
class Clash:
    """One place that both sides changed; `line` is the incumbent's, None where it is the whole file."""

    path: str
    line: int | None
    incumbent: str
    candidate: str


def clashes(path: str, text: bytes | None) -> list[Clash]:
    """The places between conflict markers of a merged file; None means deleted, binary or another mode."""
    if text is None:
        return [Clash(path, None, "changed", "changed, and one of them cannot be merged by lines")]
    found, ours, theirs, side, number, began = [], [b""], [b""], b"", 1, 1
    for line in text.splitlines():
        word = line[:7]
        if word == LESS and not side:
            ours, theirs, side, began = [], [], LESS, number
        elif side and word in (BASE, MIDDLE):
            side = word
        elif side and word == MORE:
            found.append(Clash(path, began, _side(ours), _side(theirs)))
            side = b""
        else:
            if side == LESS:
                ours.append(line)
            elif side == MIDDLE:
                theirs.append(line)
            number += side in (b"", LESS)
    return found


def _side(lines: list[bytes]) -> str:
    text = " | ".join(line.decode("utf-8", "replace").strip() for line in lines)
    return f"`{one_line(text, SIDE)}`" if text else "nothing"


def clash_words(found: Iterable[Clash], incumbent: str, candidate: str) -> list[str]:
    """Both sides of each conflict in one line, the first few."""
    places = list(found)
    told = [
        f"{place.path}{'' if place.line is None else f':{place.line}'}: "
        f"{incumbent} {place.incumbent}, {candidate} {place.candidate}"
        for place in places[:CLASHES]
    ]
    return told + ([f"and {len(places) - CLASHES} more places"] if len(places) > CLASHES else [])


# -- words of verdicts ---------------------------------------------------------------------------------


def lost(state: State, former: str, reason: str) -> str:
    """Why a stale candidate is discarded on its own evidence."""
    return f"{reason} Measured on {former}, which {state.incumbent_id} has replaced meanwhile."


def carried_on(state: State, former: str, won: bool, combination: Experiment, reason: str) -> str:
    """Why a stale winner is no keep, and where its change goes on."""
    mine = combination.combines[-1]
    how = "won against" if won else "not decided against"
    return (
        f"{how} {former}, but {state.incumbent_id} was kept meanwhile; continued as {combination.id} "
        f"({combination.combines[0]}+{mine}): {reason}"
    )


def conflicting(state: State, experiment: Experiment, before: str) -> str:
    """Why a change is not measured on the new incumbent, and how to go on."""
    return (
        f"{before}its change conflicts with {state.incumbent_id}, which was kept meanwhile; "
        f"`restore {experiment.id}` brings it back for merging by hand, then `try`"
    )


def contained(state: State, before: str) -> str:
    """Why a change is not measured on an incumbent that has it already."""
    return f"{before}{state.incumbent_id}, which was kept meanwhile, holds the same change"
