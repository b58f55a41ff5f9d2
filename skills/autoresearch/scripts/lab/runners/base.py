"""What every runner can do with a run's directory, and the states a run can be in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

# absent: nobody has taken it up (submit it, again if need be); starting: taken up, not yet executing;
# lost: its supervisor died without a result (reap, then repeat it as a new run);
# unavailable: what places the run does not answer, so nothing is known: ask again later.
State = Literal["absent", "starting", "running", "done", "lost", "unavailable"]
STATES: tuple[State, ...] = ("absent", "starting", "unavailable", "running", "done", "lost")


class Examined(NamedTuple):
    """Whether runs can be placed now: `ok` is None for a fact that is neither good nor bad."""

    ok: bool | None
    text: str
    fix: str = ""


class Runner(Protocol):
    """Executes runs; a run is its directory with `spec.json`, and its result is `run.json` in there."""

    def submit(self, run_dir: Path, env: Mapping[str, str]) -> None:
        """Have the run executed with the environment `env`; a second call for the same run does nothing."""

    def poll(self, run_dir: Path) -> State:
        """Say where the run stands, without waiting."""

    def withdraw(self, run_dir: Path) -> bool:
        """Make sure that a run nobody has taken up never will be; False when somebody has."""

    def cancel(self, run_dir: Path) -> None:
        """Ask for the run's end; it still gets a result, with the outcome `cancelled`."""

    def reap(self, run_dir: Path) -> int:
        """End what a lost run has left running, and return how many processes that were."""

    def heartbeat(self, run_dir: Path) -> dict[str, object] | None:
        """Return the run's last sign of life, or None before the first."""

    def place(self, run_dir: Path) -> str:
        """Say in words where an engine has the run (job, state, reason); "" for a run of this machine."""

    def examine(self) -> Examined:
        """Say whether runs can be placed at all."""
