"""What is to be done next about the agent, from the journal's facts and the clock: a pure decision.

Everything it stands on is in the journal, so that a driver that was killed goes on where it was, and a
heartbeat that looks in every ten minutes decides the same as a driver that stays.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from lab.driving.silence import seconds_at, silent_seconds
from lab.model import Record

LONGEST_PAUSE = 1800.0  # between two fruitless sessions
LIMIT_PAUSE, LONGEST_LIMIT_PAUSE = 300.0, 3600.0  # where a limit does not say until when
LIMITS_ALLOWED = 48  # in a row without a step in between: two days of waiting an hour each
CLOSING_SESSIONS = 2  # to confirm and finish once the budget is spent
LAST_WORDS_SECONDS = 120.0  # for a session after the campaign has ended


@dataclass(frozen=True)
class Rules:
    """What the caller may choose."""

    silent_after: float
    pause: float = 30.0  # after the first fruitless session, doubled with each further one
    fruitless: int = 5  # sessions in a row without a new experiment


@dataclass(frozen=True)
class Present:
    """The facts of this moment."""

    now: str
    agents: Sequence[Record]  # sessions as the journal has them
    seat: str  # where the last one stands while it is not ended: absent, running, done or lost
    moved: str  # when the campaign last moved
    busy: bool = False  # a run is at work
    over: str = ""  # why there is nothing more to do: finished, stopped
    broken: bool = False  # it was the machine or a guard that stopped it, and no person
    awake: str = ""  # since when the machine runs without a gap, as far as the driver has seen
    spent: str = ""  # the budget that is spent
    enough: str = ""  # the target that is reached
    gave_up: str = ""


@dataclass(frozen=True)
class Plan:
    """What to do: seat, collect, silent, end, work (let it), idle, rest (until), start or leave."""

    do: str
    words: str = ""
    until: str = ""  # of a rest
    seconds: float = 0.0  # of a silence
    failed: bool = False  # of leaving: a person is needed


def plan(present: Present, rules: Rules) -> Plan:
    """Decide on the next thing."""
    last = present.agents[-1] if present.agents else None
    if last is not None and "ended" not in last:
        return _of_open(present, rules, last)
    return _of_none(present, rules)


def _of_open(present: Present, rules: Rules, last: Record) -> Plan:
    """A session that the journal knows and that has not been collected."""
    name = str(last["session"])
    if present.seat in ("done", "lost"):
        return Plan("collect", name)
    if present.seat == "absent":
        return Plan("collect", name) if present.over else Plan("seat", name)
    if "silent" in last:
        return Plan("end", f"{name} was silent")
    if present.over:
        late = seconds_at(present.now) - seconds_at(present.moved) > LAST_WORDS_SECONDS
        return Plan("end" if late else "work", f"{name}: {present.over}")
    if present.enough and not last.get("closing") and not present.busy:
        return Plan("end", f"{name}: {present.enough}")
    began = max(str(last["started"]), present.awake, key=lambda t: seconds_at(t) if t else 0.0)
    silent = silent_seconds(present.moved, present.now, rules.silent_after, busy=present.busy, began=began)
    return Plan("silent", name, seconds=silent) if silent else Plan("work", name)


def _of_none(present: Present, rules: Rules) -> Plan:
    """No session: start one, now or later, or leave."""
    if present.over:
        return Plan("leave", present.over, failed=present.broken)
    if present.busy and _awaits(present.agents):
        return Plan("idle", "a run is at work, and the last session had nothing to add")
    closing = present.enough or present.spent
    if closing and closing_sessions(present.agents) >= CLOSING_SESSIONS:
        return Plan("leave", f"{closing}; nobody has finished the campaign", failed=True)
    if present.gave_up:
        return Plan("leave", present.gave_up, failed=True)
    count = fruitless(present.agents)
    if count >= rules.fruitless:
        detail = str(present.agents[-1].get("detail") or "it said nothing")
        return Plan(
            "leave", f"{count} sessions in a row brought no experiment, the last: {detail}", failed=True
        )
    limits = limits_in_a_row(present.agents)
    if limits >= LIMITS_ALLOWED:
        return Plan("leave", f"the agent was at its limit {limits} times in a row", failed=True)
    until, words = _rest(present.agents, rules, count, limits)
    if until and seconds_at(until) > seconds_at(present.now):
        return Plan("rest", words, until=until)
    return Plan("start", closing)


def _awaits(agents: Sequence[Record]) -> bool:
    """Whether another session now would only wait: the last one did, or it was to close the campaign."""
    last = agents[-1] if agents else {"last": True}
    return not last.get("last") and (not last.get("steps") or bool(last.get("closing")))


def _rest(agents: Sequence[Record], rules: Rules, count: int, limits: int) -> tuple[str, str]:
    """Until when to wait after the last session, and why; ("", "") for not at all."""
    if not agents or agents[-1].get("last"):
        return "", ""
    last = agents[-1]
    ended = str(last["ended"])
    if limits:
        told = str(last.get("until") or "")
        # A program that names a moment and is at its limit again right then must not be asked in a circle.
        pause = (
            0.0 if told and limits == 1 else min(LONGEST_LIMIT_PAUSE, LIMIT_PAUSE * 2 ** min(limits - 1, 9))
        )
        until = max(told, _later(ended, pause), key=lambda t: seconds_at(t) if t else 0.0)
        return until, f"the agent is at its limit: {last.get('detail')}"
    if not count:
        return "", ""
    pause = min(LONGEST_PAUSE, rules.pause * 2 ** min(count - 1, 20))
    return _later(
        ended, pause
    ), f"{count} fruitless in a row, the last {last['outcome']}: {last.get('detail')}"


def _later(time: str, seconds: float) -> str:
    return (datetime.datetime.fromisoformat(time) + datetime.timedelta(seconds=seconds)).isoformat()


def _of_this_drive(agents: Sequence[Record]) -> list[Record]:
    """The ended sessions since the last drive ended, the newest first."""
    rows: list[Record] = []
    for agent in reversed(agents):
        if agent.get("last"):
            break
        if "ended" in agent:
            rows.append(agent)
    return rows


def fruitless(agents: Sequence[Record]) -> int:
    """Sessions in a row, up to the last, that brought nothing, but for those at a limit or beside a run."""
    count = 0
    for agent in _of_this_drive(agents):
        if agent.get("steps"):
            break
        count += agent["outcome"] != "limited" and not agent.get("busy")
    return count


def limits_in_a_row(agents: Sequence[Record]) -> int:
    """Sessions in a row, up to the last, that ended at a limit; one that did something is the first."""
    count = 0
    for agent in _of_this_drive(agents):
        if agent["outcome"] != "limited":
            break
        count += 1
        if agent.get("steps"):
            break
    return count


def closing_sessions(agents: Sequence[Record]) -> int:
    """Sessions in a row, up to the last, that were started to close the campaign and were free to."""
    count = 0
    for agent in _of_this_drive(agents):
        if not agent.get("closing"):
            break
        count += agent["outcome"] != "limited"
    return count
