"""What a person has to decide, the most urgent first, each with the command that does it."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lab.decide.price import MEMORY_GB
from lab.model import BASELINE
from lab.report.figures import between, plural, said, span
from lab.report.material import Material
from lab.report.shown import BETTER, PAYS

AT_MOST = 5
MEMORY_GROWTH = 1.25  # of the baseline's peak: from here on it is said
CRASHES_IN_A_ROW = 3
DISK_LOW_GB = 2.0
WORTH = {BETTER: 0.9, PAYS: 0.5}  # from which on a near miss is worth a person's while
PAIRS = 10  # of a confirmation, when nobody says otherwise


@dataclass(frozen=True)
class Need:
    """A reason, and a verb with its arguments (`git ...` is typed as it stands)."""

    reason: str
    verb: str

    def typed(self, command: str) -> str:
        """The whole line as it is typed in a shell."""
        return self.verb if self.verb.startswith("git ") else f"{command} {self.verb}"


def needs(m: Material) -> list[Need]:
    """The first of `ASKS` that ask for something."""
    return [need for ask in ASKS for need in [ask(m)] if need][:AT_MOST]


def _no_baseline(m: Material) -> Need | None:
    first = m.by_id.get(BASELINE)
    if first is None:
        return Need("nothing was measured yet", "baseline")
    if first.e.verdict == "crash":
        return Need(f"the baseline crashed: {said(first.e.reason, 120)}", f"show {BASELINE}")
    return None


def _stopped(m: Material) -> Need | None:
    if not m.state.stopped or m.finished:
        return None
    return Need(f"stopped: {said(m.state.stopped, 160)}; go on, or end it with `finish`", "resume")


def _disk(m: Material) -> Need | None:
    free = m.beside.disk_free_gb
    if free is None or free >= DISK_LOW_GB or m.finished:
        return None
    return Need(f"only {free:.1f} GB of disk are free; a full disk stops the runs", "doctor")


def _silent(m: Material) -> Need | None:
    if not m.silent_seconds:
        return None
    return Need(f"no new experiment for {span(m.silent_seconds)}: is the agent still at work?", "status")


def _gave_up(m: Material) -> Need | None:
    return Need(f"drive gave up: {said(m.state.gave_up, 160)}", "status") if m.state.gave_up else None


def _handed(m: Material) -> Need | None:
    """Runs that a person is waited for."""
    waiting = dict.fromkeys(run.request for _, run in m.state.handed())
    if not waiting or m.finished:
        return None
    first = next(iter(waiting))
    asked = between(str(m.state.requests[first]["at"]), m.beside.now)
    runs = plural(len(m.state.waiting), "run")
    reason = f"{runs} to make for {', '.join(list(waiting)[:4])}, the oldest handed out {span(asked)} ago"
    return Need(reason, f"ingest result-{first}.tar.gz")


def _asked(m: Material) -> Need | None:
    """A checkpoint without an answer."""
    open_ = next((asked for asked in m.state.checkpoints[-1:] if not asked["answer"]), None)
    if open_ is None or m.finished:
        return None
    question = said(str(open_["question"]), 160)
    return Need(f"{open_['checkpoint']} asks: {question}", 'checkpoint --answer "..."')


def _crashing(m: Material) -> Need | None:
    last = m.tried[-CRASHES_IN_A_ROW:]
    if m.finished or len(last) < CRASHES_IN_A_ROW or any(row.e.verdict != "crash" for row in last):
        return None
    return Need(f"the last {CRASHES_IN_A_ROW} experiments all crashed", f"show {last[-1].id}")


def _flags(m: Material) -> Need | None:
    row = next((row for row in reversed(m.kept) if row.evidence.flags), None)
    return Need(f"{row.id} is kept, but {row.evidence.flags[0]}", f"show {row.id}") if row else None


def _issue(m: Material) -> Need | None:
    if not m.beside.issues:
        return None
    first, more = m.beside.issues[0], len(m.beside.issues) - 1
    others = f" (and {plural(more, 'other issue')})" if more else ""
    return Need(
        f"found wrong, and not mended: {said(first.text, 160)}{others}",
        f"recall {shlex.quote(first.evidence)}",
    )


def _noise(m: Material) -> Need | None:
    if m.beside.sigma is not None or m.finished or m.baseline is None or m.kept:
        return None
    return Need("the noise between runs is not known, so no gain can be judged", "baseline --repeats 3")


def _memory(m: Material) -> Need | None:
    before = m.baseline.e.memory_gb if m.baseline else None
    after = m.best.e.memory_gb if m.best else None
    if not before or not after or m.best is m.baseline or after < MEMORY_GROWTH * before:
        return None
    if after - before <= MEMORY_GB:  # it cost nothing in the decision either
        return None
    assert m.best
    return Need(f"memory grew from {before:.1f} to {after:.1f} GB: is that all right?", f"show {m.best.id}")


def _spent(m: Material) -> Need | None:
    if not m.beside.budget_spent or m.finished:
        return None
    return Need(f"the budget is spent ({m.beside.budget_spent})", "finish")


def _unconfirmed(m: Material) -> Need | None:
    if m.finished or not m.kept or m.best is None or m.best.id in m.proofs or m.state.confirming:
        return None
    times = [run.seconds for run in m.runs if run.counts and run.seconds]
    cost = f", about {span(2 * PAIRS * statistics.median(times))} of training" if times else ""
    return Need(f"the best, {m.best.id}, was not measured again on fresh seeds{cost}", "confirm")


def _refuted(m: Material) -> Need | None:
    if m.finished or m.proof is None or m.proof.confirmed:
        return None
    return Need(f"{m.proof.experiment} is {m.proof.verdict}: more pairs, or go on from an earlier best?",
                f"confirm {m.proof.experiment} --pairs {2 * max(m.proof.pairs, PAIRS)}")  # fmt: skip


def _near(m: Material) -> Need | None:
    near = [row for row in m.near if (row.evidence.p or 0.0) >= WORTH[row.evidence.p_words]]
    if not near or m.finished:
        return None
    first = near[0]
    which = f"{first.id} and {plural(len(near) - 1, 'other')} were" if len(near) > 1 else f"{first.id} was"
    chance = f"{first.evidence.p_words} {first.evidence.p:.2f}"
    return Need(f"{which} dropped at {chance}: try again on today's best?", f"restore {first.id}")


def _take(m: Material) -> Need | None:
    if not m.finished or not m.kept:
        return None
    reason = f"take the {plural(len(m.kept), 'kept change')} over, on the branch you want them in"
    return Need(reason, f"git merge {shlex.quote(m.state.branch)}")


Ask = Callable[[Material], "Need | None"]
ASKS: tuple[Ask, ...] = (
    _no_baseline, _stopped, _gave_up, _asked, _handed, _disk, _crashing, _issue, _flags, _noise, _refuted,
    _unconfirmed, _take, _spent, _silent, _memory, _near,
)  # fmt: skip
