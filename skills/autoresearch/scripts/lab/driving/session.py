"""One agent session from its start to its end, as its keeper sees it.

A lock on FOLDER/claim makes sure that a session is never started twice; `end.json` is its result. The
agent's runs are not its children: their supervisors do not carry the session's name, and whatever happens
here leaves them alone.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lab import processes
from lab.atomic import write_atomic
from lab.model import Record
from lab.runlog import RunLog
from lab.steps import step
from lab.supervisor import claim

COOKIE = "AUTORESEARCH_AGENT"  # in the environment of every process of a session: `s1:NONCE`
GRACE_SECONDS = 10.0  # between asking the agent to end and making it
LEFT_SECONDS = 2.0  # the same for what it leaves running
TURN_SECONDS = 0.1
READ_BYTES = 65_536
HEAD_BYTES, TAIL_BYTES = 2_000_000, 2_000_000


@dataclass(frozen=True)
class Spec:
    """What to run, as the driver wrote it into spec.json."""

    session: str
    nonce: str
    argv: list[str]
    cwd: str
    stdin: bool  # the message comes by stdin, from the file prompt.txt

    @property
    def cookie(self) -> str:
        """What every process of the session carries in its environment."""
        return f"{self.session}:{self.nonce}"


def read_spec(folder: Path) -> Spec:
    """The session's spec.json."""
    return Spec(**json.loads((folder / "spec.json").read_bytes()))


def keep(folder: Path, pane: bool) -> None:
    """Run the session in `folder` unless another keeper has it."""
    step("keeper.start")
    lock = claim(folder)
    if lock is None:
        return
    step("keeper.claimed")
    spec = read_spec(folder)
    keeper = Keeper(folder, spec, pane)
    ending = keeper.run()
    record: Record = {"session": spec.session, "nonce": spec.nonce, **ending}
    write_atomic(folder / "end.json", json.dumps(record), name="keeper.end")
    step("keeper.ended")
    os.close(lock)


def of_session(cookie: str, ancestor: int | None = None) -> list[processes.Process]:
    """The living processes of a session: what carries its name, the descendants of that and of `ancestor`."""
    table = processes.table()
    roots = processes.with_cookie(table, cookie, COOKIE)
    found = {process.pid: process for process in roots}
    for pid in [*found, *([ancestor] if ancestor else [])]:
        found.update((process.pid, process) for process in processes.descendants(table, pid))
    if ancestor in table:
        found[ancestor] = table[ancestor]
    found.pop(os.getpid(), None)
    return [process for process in found.values() if not process.zombie]


def send(cookie: str, number: int, ancestor: int | None = None) -> int:
    """Signal a session's processes; how many there were."""
    return sum(processes.send(process, number) for process in of_session(cookie, ancestor))


class Keeper:
    """An agent being watched; `run` returns when it has ended."""

    def __init__(self, folder: Path, spec: Spec, pane: bool) -> None:
        self.folder, self.spec, self.pane = folder, spec, pane
        self.log = RunLog(folder / "output.log", HEAD_BYTES, TAIL_BYTES)
        self.asked_at: float | None = None

    def run(self) -> Record:
        """Start the agent, see it to its end, and say how that was."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        if self.pane:
            self._show(
                f"agent session {self.spec.session}: Ctrl-b d leaves it alone, Ctrl-C ends it\n".encode()
            )
        began = time.monotonic()
        try:
            self._start()
        except OSError as error:
            self.log.close()
            why = f"{self.spec.argv[0]}: {error.strerror}"
            return {"exit_code": 127, "seconds": 0.0, "asked": False, "error": why}
        step("keeper.spawned")
        while self.child.poll() is None:
            self._turn()
        seconds = time.monotonic() - began
        step("keeper.child_ended")
        self._pump()
        self._end_the_rest()
        self.log.close()
        asked = self.asked_at is not None
        return {"exit_code": self.child.returncode, "seconds": round(seconds, 3), "asked": asked, "error": ""}

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        """A pane that is closed does not end the session; Ctrl-C in it does."""
        if number != signal.SIGHUP:
            (self.folder / "cancel").touch()

    def _start(self) -> None:
        with Path(self.folder / "prompt.txt" if self.spec.stdin else os.devnull).open("rb") as stdin:
            env = {**os.environ, COOKIE: self.spec.cookie}
            self.child = subprocess.Popen(
                self.spec.argv, cwd=self.spec.cwd, env=env,
                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        assert self.child.stdout is not None
        self.output = self.child.stdout.fileno()
        os.set_blocking(self.output, False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.output, selectors.EVENT_READ)

    def _turn(self) -> None:
        """Wait a moment for output, and see whether the agent has to end."""
        if self.selector.get_map():
            self.selector.select(TURN_SECONDS)
        else:
            time.sleep(TURN_SECONDS)
        self._pump()
        if self.asked_at is None and (self.folder / "cancel").exists():
            self.asked_at = time.monotonic()
            send(self.spec.cookie, signal.SIGTERM, self.child.pid)
        elif self.asked_at is not None and time.monotonic() - self.asked_at > GRACE_SECONDS:
            send(self.spec.cookie, signal.SIGKILL, self.child.pid)

    def _pump(self) -> None:
        """Copy what has come into the log and the pane."""
        while self.selector.get_map():
            try:
                data = os.read(self.output, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.selector.unregister(self.output)
                return
            self.log.write(data)
            if self.pane:
                self._show(data)

    @staticmethod
    def _show(data: bytes) -> None:
        with suppress(OSError):  # the pane was closed
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def _end_the_rest(self) -> None:
        """End what the agent left running: its own servers, a shell that waits."""
        began, number = time.monotonic(), signal.SIGTERM
        while send(self.spec.cookie, number) and time.monotonic() - began < GRACE_SECONDS:
            time.sleep(TURN_SECONDS)
            number = signal.SIGKILL if time.monotonic() - began > LEFT_SECONDS else signal.SIGTERM
