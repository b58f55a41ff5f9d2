"""The place of an agent session: its folder filled, its keeper started in tmux or alone, its end read."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import processes
from lab.atomic import write_atomic
from lab.driving.session import Spec, read_spec, send
from lab.model import Record
from lab.steps import step

KEEPER = Path(__file__).with_name("keeper.py")
PASSED = ("AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS")  # named crash points, for the keeper only
CLAIM_SECONDS = 20.0  # for a keeper from its start to its claim, 0.1 s on an idle machine
STUBBORN_SECONDS = 60.0  # after it was asked to end, the keeper itself is ended
TMUX_TRIES, TMUX_PAUSE_SECONDS = 3, 0.2
OUTPUT_BYTES = 4_500_000


@dataclass(frozen=True)
class Ending:
    """How a session ended; `exit_code` is None when its keeper died with it."""

    exit_code: int | None
    seconds: float | None
    asked: bool
    error: str
    output: str


class Seat:
    """The folder of one session."""

    def __init__(self, home: Path, session: str) -> None:
        self.folder = home / "agent" / session
        self.session = session

    def stand(self) -> str:
        """Where the session stands: absent, running, done or lost."""
        if (self.folder / "end.json").exists():
            return "done"
        try:
            descriptor = os.open(self.folder / "claim", os.O_RDONLY)
        except OSError:
            return "absent"
        try:
            if not os.fstat(descriptor).st_size:
                return "absent"
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        finally:
            os.close(descriptor)
        # The result is renamed into place before the lock is freed: look once more, then it is certain.
        return "done" if (self.folder / "end.json").exists() else "lost"

    def fill(self, spec: Spec, message: str) -> None:
        """Write what the keeper needs; spec.json last, so that it is whole when it is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / "prompt.txt", message)
        write_atomic(self.folder / "spec.json", json.dumps(asdict(spec)), mode=0o600, name="seat.spec")

    def start(self, environment: Mapping[str, str], pane: str) -> bool:
        """Start a keeper, in the tmux pane `pane` when that is not "" and works; whether it is in tmux."""
        step("seat.start")
        env = {**environment, **{name: os.environ[name] for name in PASSED if name in os.environ}}
        command = [sys.executable, "-I", str(KEEPER), str(self.folder.resolve())]
        attached = bool(pane) and _in_tmux(pane, self.session, [*command, "pane"], env)
        if attached and not self._claimed(CLAIM_SECONDS):
            attached = False
        if not attached:
            with (self.folder / "keeper.log").open("ab") as log:
                subprocess.run(
                    command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, check=False,
                )  # fmt: skip
            self._claimed(CLAIM_SECONDS)
        step("seat.started")
        return attached

    def _claimed(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.stand() == "absent":
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def end(self) -> None:
        """Ask the session to end; a keeper that does not follow for a minute is ended with it."""
        mark = self.folder / "cancel"
        if not mark.exists():
            mark.touch()
        elif time.time() - mark.stat().st_mtime > STUBBORN_SECONDS:
            self.reap()
            keeper = self._keeper()
            if keeper:
                processes.send(keeper, signal.SIGKILL)

    def reap(self) -> None:
        """Kill what a session left whose keeper is gone."""
        with suppress(OSError, ValueError, TypeError):
            cookie, tries = read_spec(self.folder).cookie, 50
            while send(cookie, signal.SIGKILL) and tries:
                time.sleep(0.02)
                tries -= 1

    def _keeper(self) -> processes.Process | None:
        """The process that signed the claim, if it is still the same one."""
        try:
            claim = json.loads((self.folder / "claim").read_bytes())
            found = processes.look(int(claim["pid"]))
            same = claim["boot_id"] == processes.boot_id() and found and found.started == claim["starttime"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if same else None

    def ending(self) -> Ending:
        """How the session ended and the end of what it printed."""
        record: Record = {}
        with suppress(OSError, ValueError):
            record = dict(json.loads((self.folder / "end.json").read_bytes()))
        code, seconds = record.get("exit_code"), record.get("seconds")
        return Ending(
            exit_code=code if isinstance(code, int) else None,
            seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
            asked=bool(record.get("asked")) or (self.folder / "cancel").exists(),
            error=str(record.get("error") or ""),
            output=self._output(),
        )

    def _output(self) -> str:
        try:
            with (self.folder / "output.log").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - OUTPUT_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


def pane_name(tag: str, root: Path) -> str:
    """The name of the campaign's tmux server and session: `tmux -L NAME attach` shows it."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in tag)
    return f"autoresearch-{plain}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:6]}"


def tmux() -> str | None:
    """Where tmux is."""
    return shutil.which("tmux")


def _in_tmux(server: str, session: str, command: list[str], env: Mapping[str, str]) -> bool:
    """Open a detached tmux session on a server of the campaign's own.

    The server takes over our environment, so that no key stands on a command line, and reads no settings: one
    that ends sessions nobody looks at would end the agent.
    """
    program = tmux()
    if program is None:
        return False
    size = ("-x", "200", "-y", "50")
    opened = [program, "-L", server, "-f", os.devnull, "-u", "new-session", "-d", "-s", session, *size]
    for _ in range(TMUX_TRIES):
        try:
            done = subprocess.run(
                [*opened, *command], env={**env, "TERM": env.get("TERM") or "screen"}, timeout=20,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        if not done.returncode:
            return True
        time.sleep(TMUX_PAUSE_SECONDS)  # the server of the session before may be about to leave
    return False
