"""The one process of a campaign that tells people and pushes the branch, beside the loop, never in its way.

It is started by the first verb that finds none alive, lives on after that verb, and ends with the campaign. A
lock held for life makes sure that there is never a second one; what a killed one was at, the next
finds in the journal and in the outcome files of its senders.
"""

from __future__ import annotations

import datetime
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from lab import push
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import State, now
from lab.notify.channels import Channel, channels
from lab.notify.due import Around, due
from lab.notify.outbox import letters, waiting
from lab.notify.post import LIMIT_SECONDS, Post
from lab.report.figures import between
from lab.steps import step

NEWS_SECONDS = 0.1  # between two looks at whether a delivery has ended
LOOK_SECONDS = 0.5  # between two looks at whether the journal has grown
TURN_SECONDS = 15.0  # and at the clock, the disk and the agent
FORSAKEN_SECONDS = (
    48 * 3600.0
)  # without a sign of anybody: a campaign left as it is; any verb starts it again


class Messenger:
    """One turn after the other; `clock` gives the present as the journal writes it."""

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        clock: Callable[[], str] = now,
        limit: float = LIMIT_SECONDS,
        push_limit: float = push.LIMIT_SECONDS,
    ) -> None:
        self.root = root
        self.environ = environ
        self.clock = clock
        self.push_limit = push_limit
        self._folder = Lab(root).home / "notify"
        with suppress(FileNotFoundError):  # the campaign has just been removed: the first turn sees that
            self._folder.mkdir(exist_ok=True)
        self._post = Post(self._folder, environ, limit)
        self._swept = False
        self._read_at = time.monotonic()
        self._pushing: threading.Thread | None = None
        self._pushed: dict[str, str] = {}

    def run(self, still: Callable[[], bool]) -> None:
        """Go on until there is nothing more to tell, or `still` says that the campaign's folder is gone."""
        while still():
            present, began = self._signs(), time.monotonic()
            if self.turn():
                return
            while time.monotonic() - began < TURN_SECONDS and not self._news():
                time.sleep(NEWS_SECONDS if self._busy else LOOK_SECONDS)
                if self._signs() != present:
                    break

    def _news(self) -> bool:
        """Whether a sender or a push of ours has ended."""
        return self._post.news or (self._pushing is not None and not self._pushing.is_alive())

    def turn(self) -> bool:
        """Note what is due, send what is open, take in what was sent; True when the work is over."""
        lab = Lab(self.root)
        if not lab.journal.path.exists():
            return True
        try:
            lab.read()
            settings = lab.settings
        except (LabError, OSError):  # settings being edited, a journal to be mended or gone: read again
            return time.monotonic() - self._read_at > FORSAKEN_SECONDS
        self._read_at = time.monotonic()
        found = channels(settings.notify, self.environ, self.root)
        if not found and settings.push is None:
            return not self._busy
        try:
            self._note(lab, found)
            self._deliver(lab, found)
            self._push(lab)
        except (LabError, OSError):
            return False  # the lock is held for long, the disk is full, no process can be started: later
        return not self._busy and self._over(lab.state, lab, found)

    # -- messages ------------------------------------------------------------------------------------

    def _note(self, lab: Lab, found: list[Channel]) -> None:
        """Write down what is due, worked out again under the lock, before any of it is sent."""
        if not found or not due(lab.state, lab.settings, around(lab, self.clock())):
            return
        with lab.changing("notify") as state:
            for notice in due(state, lab.settings, around(lab, self.clock())):
                names = [channel.name for channel in found]
                lab.journal.append("notice", key=notice.key, kind=notice.kind, text=notice.text, to=names)

    def _deliver(self, lab: Lab, found: list[Channel]) -> None:
        by_name = {channel.name: channel for channel in found}
        ready = letters(lab.state, list(by_name), self.clock())
        if not self._swept:
            self._post.sweep(ready)
            self._swept = True
        for letter in ready:
            outcome = self._post.send(letter, by_name[letter.channel])
            if outcome is None:
                continue
            step("notify.outcome")
            with lab.changing("notify"):
                told, detail = outcome
                words = {"key": letter.key, "channel": letter.channel, "outcome": told, "detail": detail}
                lab.journal.append("notified", **words)
            self._post.forget(letter)

    # -- the branch ----------------------------------------------------------------------------------

    def _push(self, lab: Lab) -> None:
        """Push in a thread, so that a remote that hangs keeps no message waiting."""
        if self._pushing and not self._pushing.is_alive():
            self._pushing = None
            with lab.changing("push"):
                lab.journal.append("pushed", **self._pushed)
        commit = push.wanted(lab.state, lab.settings)
        if self._pushing or not commit or not push.is_time(lab.state, self.clock()):
            return
        step("push.before")
        self._pushing = threading.Thread(target=self._push_now, args=(lab, commit))
        self._pushing.start()

    def _push_now(self, lab: Lab, commit: str) -> None:
        self._pushed = {
            "commit": commit,
            "remote": "",
            "outcome": "failed",
            "detail": "git could not be started",
        }
        try:
            self._pushed = push.push(lab.workspace, lab.settings, lab.state.branch, commit, self.push_limit)
        except LabError as error:
            self._pushed["detail"] = error.message
        step("push.after")

    # -- coming and going ----------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return self._post.busy or self._pushing is not None

    def _over(self, state: State, lab: Lab, found: list[Channel]) -> bool:
        """Whether the campaign has ended, or was left by everybody, and all is told that can be."""
        if (
            state.active_at
            and between(state.active_at, self.clock()) > FORSAKEN_SECONDS
            and not state.at_work()
        ):
            return True
        present = self.clock()
        open_letters = waiting(state, [channel.name for channel in found], present)
        return bool(state.finished) and not open_letters and not push.wanted(state, lab.settings)

    def _signs(self) -> tuple[float, ...]:
        """What changes when the journal or the settings do."""
        lab = Lab(self.root)
        found: list[float] = []
        for path in (lab.journal.path, self.root / "autoresearch.yaml"):
            try:
                facts = path.stat()
                found += [facts.st_mtime, facts.st_size]
            except OSError:
                found.append(-1.0)
        return tuple(found)


def around(lab: Lab, present: str) -> Around:
    """What is to be known beside the journal."""
    running, ended = False, ""
    for _, run in lab.state.at_work():
        folder = lab.run_dir(run)
        if lab.runner.poll(folder) == "running":
            running = True
        elif (folder / "run.json").exists():
            moment = datetime.datetime.fromtimestamp((folder / "run.json").stat().st_mtime).astimezone()
            ended = moment.isoformat(timespec="milliseconds")
    free = shutil.disk_usage(lab.root).free / 1e9
    return Around(present, free, running, ended, lab.budget_spent())
