"""The messages under way: one sender process for each, found again after whoever started it was killed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab.notify import sender
from lab.notify.channels import Channel, install_command, sender_python
from lab.notify.outbox import UNKNOWN, Letter
from lab.steps import step

LIMIT_SECONDS = 10.0  # for one delivery
AT_ONCE = 4
SENDER = Path(sender.__file__)
Outcome = tuple[str, str]  # sent, failed or unknown, and why


class Post:
    """The senders at work. `folder` holds one outcome file for each message under way."""

    def __init__(self, folder: Path, environ: Mapping[str, str], limit: float = LIMIT_SECONDS) -> None:
        self.folder = folder
        self.limit = limit
        self._environ = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
        self._at_work: dict[Path, tuple[subprocess.Popen[bytes], float]] = {}

    def send(self, letter: Letter, channel: Channel) -> Outcome | None:
        """Let the letter go out, or say what became of it; None while it is under way."""
        path = self.folder / f"{_digest(letter)}.json"
        if path in self._at_work:
            return self._look_after(path)
        if path.exists():
            return _left_behind(path)
        if channel.problem:
            return "failed", channel.problem
        python = sender_python()
        if python is None:
            return "failed", f"apprise is not installed: {install_command()}"
        if len(self._at_work) < AT_ONCE:
            self._start(python, path, letter, channel)
        return None

    def _start(self, python: str, path: Path, letter: Letter, channel: Channel) -> None:
        title, _, body = letter.text.partition("\n")
        job = {"url": channel.url, "title": title, "body": body or title, "limit": self.limit}
        step("notify.send.before")
        # Locked from here to the sender's end: a messenger that comes after us never takes it for killed.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            process = self._sender(python, path, descriptor)
        except OSError:
            path.unlink()  # nobody was asked to send it
            raise
        finally:
            os.close(descriptor)
        assert process.stdin
        try:
            process.stdin.write(json.dumps(job).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died; its outcome file tells the rest
        self._at_work[path] = process, time.monotonic() + self.limit + sender.GRACE_SECONDS
        step("notify.send.after")

    def _sender(self, python: str, path: Path, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [python, str(SENDER), str(path), str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environ,
            cwd="/",
            start_new_session=True,
        )

    def _look_after(self, path: Path) -> Outcome | None:
        process, end = self._at_work[path]
        if process.poll() is None:
            if time.monotonic() < end:
                return None
            process.kill()
            process.wait()
        del self._at_work[path]
        found = _left_behind(path) if path.exists() else ("failed", "the sender could not start")
        if found and found[0] == UNKNOWN and process.returncode > 0:
            found = "failed", f"the sender failed with exit code {process.returncode}"
        return ("failed", f"no answer in {self.limit:g} s") if found is None or _late(found, end) else found

    def sweep(self, open_letters: Iterable[Letter]) -> None:
        """Remove what a killed messenger left behind a delivery that the journal knows of."""
        known = {f"{_digest(letter)}.json" for letter in open_letters}
        for path in self.folder.glob("*.json"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    def forget(self, letter: Letter) -> None:
        """Remove the outcome file once the journal has what it says."""
        (self.folder / f"{_digest(letter)}.json").unlink(missing_ok=True)

    @property
    def news(self) -> bool:
        """Whether a sender of ours has ended, or should have."""
        present = time.monotonic()
        return any(process.poll() is not None or present > end for process, end in self._at_work.values())

    @property
    def busy(self) -> bool:
        """Whether a sender of ours is at work."""
        return bool(self._at_work)


def _late(found: Outcome, end: float) -> bool:
    """Whether a sender without an outcome was ended by us for being too slow."""
    return found[0] == UNKNOWN and time.monotonic() >= end


def _left_behind(path: Path) -> Outcome | None:
    """What an outcome file says; None while a sender holds it."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return None
        try:
            known = json.loads(file.read())
            return str(known["outcome"]), str(known["detail"])
        except (ValueError, KeyError, TypeError):
            return UNKNOWN, "the sender was killed, the message may have arrived"


def _digest(letter: Letter) -> str:
    """A name for the try: the same whoever looks for it."""
    words = "\0".join((letter.key, letter.channel, str(letter.attempt)))
    return hashlib.blake2b(words.encode(), digest_size=12).hexdigest()
