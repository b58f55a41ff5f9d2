"""Which agent session works on this campaign, and what its hooks have said already: one small file a session.

A record counts for one session id, until the next start of the machine and for six hours after its last use.
A missing, torn or foreign record means a session that never worked here, and such a session is left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from lab.processes import boot_id
from lab.steps import step

FOLDER = "hooks"
EXPIRY_SECONDS = 6 * 3600
REFRESH_SECONDS = 60
SAME_EVENT_SECONDS = 10.0  # two hosts' settings fire one event within milliseconds of each other
LOCK_TRIES = 50  # with 0.02 s between them; the other holder is a hook and needs a few milliseconds
REMEMBERED = 20


@dataclass
class Session:
    """What is known of one session. Mutable: it lives for the length of `opened`."""

    id: str
    boot: str
    at: float  # seconds since the epoch, of the last hook
    worked: bool = False  # a measuring verb was called since the last time its stop was answered
    campaign: str = ""  # the tag of the campaign whose verdicts `answered` counts
    answered: int | None = None  # the number of verdicts when its stop was last answered
    said: dict[str, float] = field(default_factory=dict)  # event key -> when it was answered

    def first(self, key: str) -> bool:
        """Whether the event `key` is new, and not the same one fired by a second host's settings."""
        seen = self.said.get(key)
        if seen is not None and abs(self.at - seen) < SAME_EVENT_SECONDS:
            return False
        self.said[key] = self.at
        self.said = dict(list(self.said.items())[-REMEMBERED:])
        return True

    def held(self, campaign: str, verdicts: int, active: bool) -> bool:
        """Whether its stop is answered with the next step: only while it works and verdicts come.

        `active` is the host's word that this turn already goes on because of a stop hook.
        """
        known = self.answered if self.campaign == campaign else None
        fresh = verdicts > known if known is not None else not active
        if not (self.worked and fresh):
            return False
        self.worked, self.campaign, self.answered = False, campaign, verdicts
        return True


@contextmanager
def opened(home: Path, session: str) -> Iterator[Session | None]:
    """Hold the record of `session`, written back at the end; None for a session without a name."""
    if not session:
        yield None
        return
    folder = home / FOLDER
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    descriptor = os.open(folder / f"{name}.json", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor)
        found = _read(descriptor, session)
        before = asdict(found)
        found.at = time.time()
        yield found
        changed = asdict(found) != {**before, "at": found.at}
        if changed or found.at - before["at"] > REFRESH_SECONDS:
            _write(descriptor, found)
    finally:
        os.close(descriptor)


def sweep(home: Path) -> None:
    """Remove records that no longer count."""
    for path in (home / FOLDER).glob("*.json"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > EXPIRY_SECONDS:
                path.unlink()


def _lock(descriptor: int) -> None:
    for left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(0.02)


def _read(descriptor: int, session: str) -> Session:
    """The record, or a blank one where it is another session's, another boot's, too old or torn."""
    boot = boot_id()
    blank = Session(session, boot, 0.0)
    try:
        values = json.loads(os.pread(descriptor, 1 << 16, 0))
        found = Session(**{one.name: values[one.name] for one in fields(Session)})
    except (ValueError, KeyError, TypeError):
        return blank
    current = found.id == session and found.boot == boot
    return found if current and abs(time.time() - found.at) < EXPIRY_SECONDS else blank


def _write(descriptor: int, found: Session) -> None:
    """Write in place: a kill in between leaves a torn record, which counts as none."""
    text = json.dumps(asdict(found)).encode()
    step("session.before")
    os.ftruncate(descriptor, 0)
    step("session.cut")
    os.pwrite(descriptor, text, 0)
    step("session.after")
