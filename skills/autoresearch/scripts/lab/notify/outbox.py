"""What still has to be delivered where, from the journal's state and the clock alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.model import State
from lab.report.figures import between

WAITS = (60.0, 600.0)  # seconds before the second try and the third, which is the last
UNKNOWN = "unknown"  # the sender was killed; nobody knows whether the message arrived
REPEAT = "(may be a repeat) "


@dataclass(frozen=True)
class Letter:
    """A notice for one channel, at its try number `attempt` (from 1)."""

    key: str
    channel: str
    text: str
    attempt: int


def letters(state: State, names: Sequence[str], now: str) -> list[Letter]:
    """Everything to be sent now."""
    return [letter for letter, wait in _open(state, names, now) if wait <= 0]


def waiting(state: State, names: Sequence[str], now: str) -> bool:
    """Whether anything will still be sent, now or later."""
    return any(True for _ in _open(state, names, now))


def _open(state: State, names: Sequence[str], now: str) -> Iterable[tuple[Letter, float]]:
    """Letters that are neither delivered nor given up, and the seconds until the next try."""
    for key, notice in state.notices.items():
        for name in (name for name in notice["to"] if name in names):
            known = notice["channels"].get(name)
            if known is None:
                yield Letter(key, name, notice["text"], 1), 0.0
            elif known["outcome"] != "sent" and known["tries"] <= len(WAITS):
                lost = known["outcome"] == UNKNOWN
                wait = 0.0 if lost else WAITS[known["tries"] - 1] - between(known["at"], now)
                yield Letter(key, name, (REPEAT if lost else "") + notice["text"], known["tries"] + 1), wait


def problems(state: State) -> list[str]:
    """What a person should hear about deliveries that failed for good or are failing."""
    last: dict[str, dict[str, object]] = {}
    for notice in state.notices.values():
        last.update(notice["channels"])
    told = [
        f"messages to {name} fail ({known['detail']}): `notify test` tries it"
        for name, known in last.items()
        if known["outcome"] == "failed"
    ]
    pushed = state.pushed
    if pushed and pushed["outcome"] != "pushed":
        told.append(f"{state.branch} was not pushed to {pushed['remote'] or 'a remote'}: {pushed['detail']}")
    return told
