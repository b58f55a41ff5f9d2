"""What people are to be told, worked out from the journal's state and the clock alone.

Every notice has a key that stays the same for as long as its reason does; a key that the journal knows is
never due again. So it does not matter who asks, how often, or what was killed in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.account import CLEAR
from lab.driving.silence import silent_after
from lab.model import BASELINE, Experiment, State
from lab.notify import message
from lab.report.figures import between
from lab.report.needs import CRASHES_IN_A_ROW, DISK_LOW_GB
from lab.settings import Settings

HOUR = 3600.0
BEST_EVERY_SECONDS = HOUR
TOO_LATE_SECONDS = 24 * HOUR  # a campaign that ended longer ago is no news


@dataclass(frozen=True)
class Around:
    """What is not in the journal: the clock, the disk, and the run that nobody has taken in yet."""

    now: str
    disk_free_gb: float | None = None
    running: bool = False  # a supervisor is at work
    run_ended_at: str = ""  # when the run at work ended, while its result waits for somebody
    budget_spent: str = ""


@dataclass(frozen=True)
class Notice:
    """One thing to tell, once."""

    key: str
    kind: str
    text: str


def due(state: State, settings: Settings, around: Around) -> list[Notice]:
    """Everything that is to be told now and has not been, the most urgent first."""
    if not state.tag:
        return []
    found = (ask(state, settings, around) for ask in ASKS)
    return [notice for notice in found if notice and notice.key not in state.notices]


def _finished(state: State, settings: Settings, around: Around) -> Notice | None:
    if not state.finished or between(state.finished, around.now) > TOO_LATE_SECONDS:
        return None
    return Notice("finished", "finished", message.finished(state, settings))


def _decision(state: State, settings: Settings, around: Around) -> Notice | None:
    """The loop stopped by itself, or cannot begin, or its agent brings nothing."""
    if state.finished:
        return None
    if state.stopped and state.stopped_by != "user":
        return Notice(f"stopped {state.stopped_at}", "decision", message.stopped(state, settings))
    if state.gave_up:
        return Notice(f"drive gave up {len(state.agents)}", "decision", message.gave_up(state))
    first = state.baseline
    if first and first.verdict == "crash":
        return Notice(f"baseline {first.verdict_at}", "decision", message.no_baseline(state, first, settings))
    return None


def _crashes(state: State, settings: Settings, around: Around) -> Notice | None:
    """One notice for a row of crashes, however long it grows."""
    row: list[Experiment] = []
    for e in reversed(tried(state)):
        if e.verdict != "crash":
            break
        row.append(e)
    if state.finished or len(row) < CRASHES_IN_A_ROW:
        return None
    return Notice(f"crashes from {row[-1].id}", "crashes", message.crashes(state, row[::-1], settings))


def _disk(state: State, settings: Settings, around: Around) -> Notice | None:
    free = around.disk_free_gb
    if state.finished or free is None or free >= DISK_LOW_GB:
        return None
    return Notice(f"disk {around.now[:10]}", "disk", message.disk(state, free))


def _silent(state: State, settings: Settings, around: Around) -> Notice | None:
    since = silent_since(state, settings, around)
    if not since:
        return None
    seconds = between(since, around.now)
    text = message.silent(state, settings, seconds, around.budget_spent)
    return Notice(f"silent since {since}", "silent", text)


def silent_since(state: State, settings: Settings, around: Around) -> str:
    """When the agent was last seen, once that is two budgets ago and nothing but it is waited for; or ""."""
    if state.finished or state.stopped or around.running or state.waiting:  # a person's runs take their time
        return ""
    since = state.active_at
    if between(since, around.run_ended_at) > 0:  # compared as times: the zone may change in the night
        since = around.run_ended_at
    patience = silent_after(settings.seconds)
    return since if since and between(since, around.now) > patience else ""


def _best(state: State, settings: Settings, around: Around) -> Notice | None:
    """The newest confirmation, or the newest keep that is clear of the noise; at most one an hour."""
    last = next((str(n["at"]) for n in reversed(state.notices.values()) if n["kind"] == "best"), "")
    if state.finished or (last and between(last, around.now) < BEST_EVERY_SECONDS):
        return None
    confirmed = [c for c in state.confirmations.values() if c.verdict == "confirmed"]
    if confirmed:
        newest = confirmed[-1]
        notice = Notice(f"best {newest.id}.{newest.told}", "best", message.confirmed(state, newest, settings))
        if notice.key not in state.notices:
            return notice
    best = state.incumbent
    proven = {c.experiment for c in confirmed}
    if best is None or best.id == BASELINE or best.id in proven or (best.p or 0.0) < CLEAR:
        return None
    return Notice(f"best {best.id}", "best", message.best(state, best, settings))


def _digest(state: State, settings: Settings, around: Around) -> Notice | None:
    """After so many verdicts or hours since the last one, when anything happened in them."""
    told = [(str(n["at"]), int(key.split()[1])) for key, n in state.notices.items() if n["kind"] == "digest"]
    at, before = told[-1] if told else (state.started, 0)
    done = len(tried(state))
    enough = bool(settings.digest_experiments) and done - before >= (settings.digest_experiments or 0)
    late = bool(settings.digest_hours) and between(at, around.now) >= HOUR * (settings.digest_hours or 0.0)
    if state.finished or done == before or not (enough or late):
        return None
    return Notice(f"digest {done}", "digest", message.digest(state, tried(state)[before:], settings))


def tried(state: State) -> list[Experiment]:
    """Every experiment with a verdict but the baseline, oldest first: one runs at a time."""
    return [e for e in state.experiments.values() if e.verdict and e.id != BASELINE]


Ask = Callable[[State, Settings, Around], "Notice | None"]
ASKS: tuple[Ask, ...] = (_finished, _decision, _silent, _disk, _crashes, _best, _digest)
