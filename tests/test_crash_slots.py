"""kill -9 at named steps while several runs are at work: of the caller, the mover and the supervisors."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_crash_points import EDITS, Trial, counts, prepared, run_points
from world import carrying, wait_until

from lab import mover

pytestmark = pytest.mark.slow
__all__ = ["counts", "prepared"]  # fixtures


def test_a_try_in_one_of_several_slots_killed_at_any_step(prepared: dict[str, Path], tmp_path: Path) -> None:
    """Two changes side by side, the second one better; whoever passes the step first dies there."""

    def go(trial: Trial, env: dict[str, str]) -> None:
        world = trial.world
        if "slots" not in world.read("autoresearch.yaml"):
            world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "runner: {slots: 3}\n")
        world.env["AUTORESEARCH_SLOTS"] = str(world.root.parent / "locks")
        world.edit(*EDITS["discard"])
        world.run("try", "a discard", env=env)
        ended = world.root / ".autoresearch/runs/e001.1/run.json"
        wait_until(lambda: ended.exists() or not carrying(world.root, *env))
        finish(trial, "try", env)

    def finish(trial: Trial, verb: str, env: dict[str, str]) -> None:
        world = trial.world
        if sum(r["event"] == "proposed" for r in world.records()) < 2:
            if EDITS["discard"][1] not in world.read("train.py"):
                world.edit(*EDITS["discard"])
            world.run("try", "a discard")
        world.run("status")  # brings the files back to the incumbent, when the first call could not
        if sum(r["event"] == "proposed" for r in world.records()) < 3:
            if EDITS["keep"][1] not in world.read("train.py"):
                world.edit(*EDITS["keep"])
            world.run("try", "a keep", env=env)

    def after(trial: Trial) -> None:
        world = trial.world
        world.ok("resume")
        finish(trial, "try", {})
        home = world.root / ".autoresearch"
        for _ in range(8):
            present = world.ok("status")
            if not present["running"] and not present["queued"]:
                break
            world.run("wait")
        wait_until(lambda: not mover.alive(home))
        world.ok("status")
        trial.check(["keep", "discard", "keep"])

    run_points(prepared["ready"], tmp_path, go, after, at_least=30)
