"""Turns until the campaign is over, or until a heartbeat has done its part; one driver at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.campaign import Lab
from lab.driving.planning import Plan
from lab.driving.seat import Seat
from lab.driving.silence import seconds_at
from lab.driving.turns import Order, Say, collect, turn
from lab.errors import LabError
from lab.locks import hold
from lab.model import Record, now

TURN_SECONDS = 5.0
LOOK_SECONDS = 0.2  # between two looks whether the session has ended
TROUBLE_SECONDS, LONGEST_TROUBLE_SECONDS, TROUBLE_ALLOWED_SECONDS = 1.0, 300.0, 3600.0
GAP_SECONDS = 2 * LONGEST_TROUBLE_SECONDS
END_SECONDS = 60.0  # for the session, when the driver itself is to end


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Be the only driver of this campaign, or leave with exit code 8 and the other one's name."""
    with ExitStack() as held:
        try:
            held.enter_context(hold(home / "drive.lock", "drive"))
        except LabError as error:
            hint = "one driver is enough: `status` shows the present, `stop` ends new work"
            raise LabError(error.message, hint, error.code) from None
        yield


def drive(root: Path, order: Order, say: Say) -> Plan:
    """Take turns until there is nothing more to do; return why."""
    lab, say = Lab(root), _each_once(say)
    with alone(lab.home):
        _forget_failure(lab)
        patience, awake, said = Patience(say), Awake(), ""
        try:
            while True:
                with patience:
                    done = turn(root, order, say, awake.since())
                    if done.do == "leave":
                        _leave(root, done.words, done.failed)
                        return done
                    if done.do == "rest" and done.until != said:
                        said = done.until
                        say(f"waits until {done.until[:19]}: {done.words}")
                    _wait(Lab(root), done, order)
        except KeyboardInterrupt:
            _end_session(root, order, say)
            _leave(root, "interrupted")
            raise


def _each_once(say: Say) -> Say:
    """The same line twice in a row is said once: a turn comes every few seconds."""
    last = ""

    def tell(line: str) -> None:
        nonlocal last
        if line != last:
            say(line)
        last = line

    return tell


class Awake:
    """Since when the machine runs without a gap: an agent on a laptop that slept was not silent."""

    def __init__(self) -> None:
        self.wall, self.began = time.time(), now()

    def since(self) -> str:
        """Call it at every turn; a turn is never long but for the machine's own sleep."""
        wall, self.wall = self.wall, time.time()
        if self.wall - wall > GAP_SECONDS:
            self.began = now()
        return self.began


class Patience:
    """Trouble that may pass (a full disk, a lock, a setting being edited) ends a night only after an hour."""

    def __init__(self, say: Say) -> None:
        self.say, self.since, self.pause = say, 0.0, TROUBLE_SECONDS

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, LabError):
            self.since, self.pause = (0.0, TROUBLE_SECONDS) if error is None else (self.since, self.pause)
            return False
        self.since = self.since or time.monotonic()
        if time.monotonic() - self.since > TROUBLE_ALLOWED_SECONDS:
            return False
        self.say(f"note: {error.message} ({error.hint}); tried again in {self.pause:g} s")
        time.sleep(self.pause)
        self.pause = min(LONGEST_TROUBLE_SECONDS, 2 * self.pause)
        return True


def once(root: Path, order: Order, say: Say) -> Plan:
    """What one heartbeat does: turns until the agent works, waits or has nothing to do."""
    lab = Lab(root)
    with alone(lab.home):
        end = time.monotonic() + END_SECONDS
        while True:
            done = turn(root, order, say)
            if done.do == "leave":
                _leave(root, done.words, done.failed)
            late = time.monotonic() > end
            if done.do in ("work", "idle", "rest", "leave") or (done.do in ("silent", "end") and late):
                return done
            _wait(lab, done, order)


def _wait(lab: Lab, done: Plan, order: Order) -> None:
    """Wait for the next turn, or for the end of the session."""
    if done.do not in ("work", "idle", "rest", "silent", "end"):
        return
    seat = None if done.do in ("idle", "rest") else Seat(lab.home, done.words.split()[0].rstrip(":"))
    seconds = min(TURN_SECONDS, (order.silent_after or 4 * TURN_SECONDS) / 4)
    if done.do == "rest":
        seconds = min(seconds, max(0.0, seconds_at(done.until) - seconds_at(now())))
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (seat and seat.stand() in ("done", "lost")):
        time.sleep(min(LOOK_SECONDS, left))


# -- beginning and end -----------------------------------------------------------------------------------


def _forget_failure(lab: Lab) -> None:
    """A person calls again: what made the last drive give up counts no more."""
    lab.read()
    if lab.state.gave_up:
        with lab.changing("drive"):
            lab.journal.append("drive_ended", reason="called again", gave_up="")


def _leave(root: Path, words: str, failed: bool = False) -> None:
    """Write down that no further session will be started, once."""
    lab = Lab(root)
    lab.read()
    gave_up = words if failed else ""
    closed = not lab.state.agents or lab.state.agents[-1].get("last")
    if not (closed and lab.state.gave_up == gave_up):
        with lab.changing("drive"):
            lab.journal.append("drive_ended", reason=words, gave_up=gave_up)


def _end_session(root: Path, order: Order, say: Say) -> None:
    """The driver was interrupted by a person: the session ends with it, runs go on by themselves."""
    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end:
        lab = Lab(root)
        lab.read()
        last: Record | None = lab.state.agents[-1] if lab.state.agents else None
        if last is None or "ended" in last:
            return
        seat = Seat(lab.home, str(last["session"]))
        if seat.stand() == "absent":
            return
        if seat.stand() == "running":
            seat.end()
            time.sleep(LOOK_SECONDS)
        else:
            collect(lab, order, Plan("collect", seat.session), say)
