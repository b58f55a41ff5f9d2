"""kill -9 twice: one process dies at a step drawn by lot, and the one that mends it dies at another."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_crash_points import EDITS, Trial, counts, prepared  # noqa: F401 - fixtures
from world import carrying, wait_until

pytestmark = pytest.mark.faults

PAIRS = int(os.environ.get("CRASH_PAIRS", "120"))
# The verb that dies first, the one that dies after it, and how many of ten pairs are of this kind.
KINDS = {
    ("try", "resume"): 4, ("try", "wait"): 2, ("try", "verify"): 1, ("verify", "verify"): 1,
    ("confirm", "resume"): 1, ("finish", "finish"): 1,
}  # fmt: skip
WORDS = {
    "try": ("try", "a keep"),
    "verify": ("verify", "--rerun", "1"),
    "confirm": ("confirm", "--pairs", "5"),
}
DEEPEST = {"try": 40, "verify": 11, "confirm": 60, "finish": 8, "resume": 8, "wait": 8}  # steps drawn from


@dataclass
class Seen:
    """What came of all pairs."""

    pairs: Counter[str]
    failures: list[str]
    slowest_resume: float = 0.0  # seconds of the clock
    slowest_resume_cpu: float = 0.0


def draws(rng: random.Random) -> Iterator[tuple[str, str, str, str]]:
    """First verb and its point, second verb and its point, without an end."""
    kinds = [kind for kind, weight in KINDS.items() for _ in range(weight)]
    while True:
        first, second = rng.choice(kinds)
        yield (
            first,
            f"*#{rng.randint(1, DEEPEST[first])}",
            second,
            f"*#{rng.randint(1, DEEPEST[second])}",
        )


def died(trial: Trial, verb: str, point: str) -> bool:
    """Run a verb that dies at `point`, if it comes so far; a supervisor may die there too."""
    answer = trial.world.run(*WORDS.get(verb, (verb,)), env={"AUTORESEARCH_DIE_AT": point})
    return answer.code == -signal.SIGKILL


def mended(trial: Trial, seen: Seen) -> None:
    """What a fresh session does, timed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    trial.world.ok("resume")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seen.slowest_resume = max(seen.slowest_resume, time.perf_counter() - began)
    seen.slowest_resume_cpu = max(seen.slowest_resume_cpu, cpu)
    trial.settle()


def check(trial: Trial, first: str, second: str, seen: Seen) -> None:
    """Go on as a fresh session would, to the same end as without any kill."""
    world = trial.world
    if first == "finish":
        world.ok("finish")
        assert [r["event"] for r in world.records()].count("finished") == 1
        assert world.git("status", "--porcelain", "--untracked-files=no") == ""
        assert world.ok("verify")["holds"] is True
        return
    mended(trial, seen)
    if first == "confirm":
        assert world.ok("confirm", "--pairs", "5")["verdict"] == "confirmed"
    if len([r for r in world.records() if r["event"] == "proposed"]) < 2:
        assert EDITS["keep"][1] in world.read("train.py"), "the edit is lost"
        world.ok("try", "a keep")
        trial.settle()
    if "verify" in (first, second):
        assert world.ok("verify", "--rerun", "1")["holds"] is True
        told = [r["verification"] for r in world.records() if r["event"] == "verified"]
        assert len(told) == len(set(told))
    if first == "verify":
        assert not list(world.root.rglob("*.autoresearch-tmp")), "a temporary file is left"
        assert not list(world.root.glob(".autoresearch/worktrees/v*")), "a worktree is left"
        return
    trial.check(["keep", "keep"])


def one(template: Path, place: Path, draw: tuple[str, str, str, str], seen: Seen) -> None:
    """One pair; it counts when both processes died."""
    first, first_point, second, second_point = draw
    trial = Trial(template, place)
    trial.world.edit(*EDITS["keep"])
    if first != "try":
        trial.world.ok("try", "a keep")
    both = died(trial, first, first_point) and died(trial, second, second_point)
    wait_until(lambda: not carrying(place))
    try:
        check(trial, first, second, seen)
    except Exception as error:
        seen.failures.append(f"{first} {first_point}, {second} {second_point}: {str(error)[:400]}")
    else:
        seen.pairs[f"{first}, {second}"] += both
        shutil.rmtree(place, ignore_errors=True)


def test_two_kills_in_a_row_lose_nothing_and_double_nothing(
    prepared: dict[str, Path],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    seen = Seen(Counter(), [])
    for number, draw in enumerate(draws(random.Random(19))):
        place = tmp_path / str(number)
        place.mkdir()
        one(prepared["ready"], place, draw, seen)
        if seen.pairs.total() >= PAIRS or number >= 6 * PAIRS or len(seen.failures) > 5:
            break
        if number % 10 == 9:
            print(number + 1, dict(seen.pairs), seen.failures, flush=True)
    print(
        f"FIGURE P1 pairs={seen.pairs.total()} damaged={len(seen.failures)}"
        f" slowest_resume_s={seen.slowest_resume:.2f} slowest_resume_cpu_s={seen.slowest_resume_cpu:.2f}"
    )
    assert not seen.failures, "\n".join(seen.failures)
    assert seen.pairs.total() >= PAIRS and len(+seen.pairs) == len(KINDS)
