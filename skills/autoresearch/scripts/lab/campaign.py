"""One project folder with a campaign: its files, locks, settings, journal and git side, opened together."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lab.decide import Noise, pooled_noise
from lab.errors import CONFIG, LabError
from lab.journal import Journal
from lab.locks import hold
from lab.model import HOME, Run, State, now
from lab.settings import FILE_NAME, Settings, load
from lab.slots import Slot, remembered

if TYPE_CHECKING:  # their imports cost what `status` should not
    from lab.runners.base import Runner
    from lab.workspace import Workspace

NO_ROOM = "free some disk space, then run `resume`; nothing was lost"
NO_RIGHT = "let this user write there (a sandbox may forbid it), then run `doctor`"
TROUBLE = {
    errno.ENOSPC: NO_ROOM, errno.EDQUOT: NO_ROOM, errno.EROFS: NO_RIGHT, errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT, errno.EIO: "look at the disk: the system cannot read or write it",
}  # fmt: skip
FIRST_SEED = 42  # the seeds of every candidate are 42, 43, 44, ...: the same list, so that runs pair


class Lab:
    """The folder `root`. Reading needs no lock; `changing` gives the right to write."""

    latest: ClassVar[Lab | None] = None  # the one this process opened last: what every answer may speak of

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / HOME
        self.journal = Journal(self.home / "journal.jsonl")
        self.submitted: dict[str, list[float]] = {}  # run -> when this process has submitted it
        self.aside = False  # nobody has called: the working tree, which may be in use, is left alone
        Lab.latest = self
        self.told: list[str] = []  # what happened on the way and the caller should hear of

    @classmethod
    def find(cls, start: Path) -> Lab:
        """Open the campaign of `start` or of the nearest folder above it."""
        start = Path(os.path.realpath(start))
        for folder in (start, *start.parents):
            if (folder / HOME / "journal.jsonl").exists():
                return cls(folder)
        raise LabError(f"no campaign in {start} or above", "run `init --tag TAG` in the project's folder")

    @property
    def state(self) -> State:
        """The state as last loaded."""
        return self.journal.state

    @cached_property
    def settings(self) -> Settings:
        """autoresearch.yaml, refused when it no longer measures what the campaign began with."""
        settings = load(self.root / FILE_NAME)
        frozen = self.state.frozen if self.state.baseline else {}  # nothing was measured before it
        for name, value in frozen.items():
            if settings.frozen.get(name, value) != value:
                raise LabError(
                    f"{FILE_NAME}: {name} is {settings.frozen[name]!r}, the campaign began with {value!r}",
                    "results before and after cannot be compared: put it back, then `finish` and `init` anew",
                    CONFIG,
                )
        return settings

    @cached_property
    def workspace(self) -> Workspace:
        """The git side."""
        from lab.workspace import Workspace

        return Workspace(self.root, self.home)

    @cached_property
    def runner(self) -> Runner:
        """What executes runs."""
        from lab.runners.catalog import runner

        return runner(self.settings.runner, self.settings.cluster)

    @cached_property
    def slots(self) -> list[Slot]:
        """The places on this machine where runs go; [] for the whole of it or an engine's own."""
        if self.settings.runner != "local":
            return []
        env, argv = self.settings.argv()
        return remembered(self.home, self.settings.slots, {**os.environ, **env}, argv)

    @property
    def width(self) -> int:
        """How many runs may be at work at once."""
        wanted = self.settings.slots
        return len(self.slots) or (wanted if isinstance(wanted, int) else 1)

    @property
    def notices(self) -> list[str]:
        """What loading mended and what happened on the way, each once."""
        return list(dict.fromkeys([*self.journal.notices, *self.told]))

    def look_again(self) -> None:
        """Take the settings as they stand now: a process that lives long would miss a change."""
        for name in ("settings", "slots", "runner"):
            self.__dict__.pop(name, None)

    def read(self) -> State:
        """Load the present without a lock."""
        return self.journal.load()

    @contextmanager
    def changing(self, verb: str, wait_seconds: float = 20) -> Iterator[State]:
        """Hold the state lock with the journal freshly loaded."""
        with _trouble_said(), hold(self.home / "state.lock", verb, wait_seconds):
            if "workspace" in self.__dict__:
                self.workspace.forget()
            yield self.journal.load()
            self.journal.save_snapshot()

    @contextmanager
    def alone(self, verb: str) -> Iterator[None]:
        """Be the only agent at work in this checkout, or leave with exit code 8."""
        with _trouble_said(), hold(self.home / "agent.lock", verb):
            yield

    @contextmanager
    def noting(self, verb: str) -> Iterator[None]:
        """Be the only one of our processes that changes notes; nobody inside asks for another lock."""
        with _trouble_said(), hold(self.home / "notes.lock", verb, 20):
            yield

    def budget_spent(self) -> str:
        """Say which limit of the campaign is reached, or ""."""
        state, settings = self.state, self.settings
        tried = len(state.experiments) - 1
        if settings.max_experiments and tried >= settings.max_experiments:
            return f"{tried} of {settings.max_experiments} experiments"
        return self.hours_spent()

    def hours_spent(self) -> str:
        """Say that the campaign's hours are over, or ""."""
        state, settings = self.state, self.settings
        if not (settings.max_hours and state.started):
            return ""
        began, present = map(datetime.datetime.fromisoformat, (state.started, now()))
        hours = (present - began).total_seconds() / 3600
        return f"{hours:.1f} of {settings.max_hours:g} hours" if hours >= settings.max_hours else ""

    def run_dir(self, run: Run) -> Path:
        """Where a run's log and result lie."""
        return self.home / "runs" / run.id

    def tree_dir(self, run: Run) -> Path:
        """Where the run's export of the commit lies."""
        return self.home / "worktrees" / run.id

    def archive(self, request: str) -> Path:
        """The one file of a request that a person is given."""
        return self.home / "requests" / f"{request}.tar.gz"

    def ref(self, number: int) -> str:
        """The ref that keeps candidate `number` alive."""
        return f"refs/autoresearch/{self.state.tag}/{number}"

    def seed(self, index: int) -> int | None:
        """The seed of the run number `index` (from 0) of any candidate."""
        return FIRST_SEED + index if self.settings.seeded else None


@contextmanager
def _trouble_said() -> Iterator[None]:
    """A full disk or a missing right is the caller's to mend, and no bug."""
    try:
        yield
    except OSError as error:
        if error.errno not in TROUBLE:
            raise
        where = f" {error.filename}" if error.filename else ""
        raise LabError(f"cannot write{where}: {error.strerror}", TROUBLE[error.errno]) from error


def measured_noise(state: State, level: float | None = None, leave: int = 0) -> Noise:
    """Run-to-run noise at a level (the incumbent's), pooled over every commit that ran more than once.

    `leave` leaves out so many of the incumbent's last runs.
    """
    if level is None:
        level = state.incumbent.metric if state.incumbent else None
    groups = []
    for e in state.present():
        if len(e.runs) > 1:
            runs = [r.metric for r in e.good_runs if r.metric is not None]
            if e is state.incumbent:
                runs = runs[: len(runs) - leave]
            groups += [runs[: e.fresh_from], runs[e.fresh_from :]]  # before and after the machine changed
    return pooled_noise(groups, near=level)
