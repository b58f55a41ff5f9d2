"""A campaign of many experiments with a training command of ten milliseconds, and what it leaves behind.

python tests/soak.py FOLDER [--experiments 2000] [--every 100]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from world import ENTRY, Project, a_project

TRAIN = """import os, time
LR = 1.0
time.sleep(0.01)
if LR < 0:
    raise ValueError("a broken idea")
print(f"val_bpb: {LR:.6f}")
"""


@dataclass
class Seen:
    """The worst that was seen, over the whole campaign."""

    experiments: int = 0
    seconds: float = 0.0
    status_bytes: int = 0
    status_seconds: float = 0.0
    resume_seconds: float = 0.0
    ours_mb: float = 0.0  # of any process of ours with the git processes it waited for
    supervisor_mb: float | None = None  # None when none was met at work
    disk_mb_per_run: float = 0.0
    left: list[str] = field(default_factory=list)  # what should not be there at the end
    verdicts: dict[str, int] = field(default_factory=dict)
    verify_seconds: float = 0.0
    holds: bool = False


def call(world: Project, seen: Seen, *args: str) -> tuple[float, bytes, int]:
    """Run a verb; return seconds, output and exit code, and remember the most memory."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(ENTRY), *args],
        cwd=world.root,
        env={**os.environ, **world.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seen.ours_mb = max(seen.ours_mb, usage.ru_maxrss / 1024)
    return time.perf_counter() - began, out, process.returncode


def value_of(number: int) -> float:
    """What number sets LR to: one in ten is a keep, one in twenty crashes, none comes twice."""
    if number % 20 == 7:
        return -float(number)
    return 1.0 - number / 10_000 if number % 10 == 0 else 2.0 + number / 10_000


def soak(folder: Path, experiments: int, every: int = 100, say: bool = False) -> Seen:
    """Run the campaign in `folder`."""
    world = a_project(folder, {"train.py": TRAIN})
    world.ok("init", "--tag", "soak", "--command", f"{sys.executable} train.py", "--budget", "30s")
    world.ok("baseline", "--repeats", "3")
    seen, began = Seen(experiments), time.perf_counter()
    for number in range(1, experiments + 1):
        world.write("train.py", TRAIN.replace("LR = 1.0", f"LR = {value_of(number)}"))
        _, out, code = call(world, seen, "try", f"number {number}")
        assert code == 0, out
        if number % every == 0 or number == experiments:
            measure(world, seen)
            if say:
                print(f"{number} {time.perf_counter() - began:.0f} s {vars(seen)}", flush=True)
    seen.seconds = time.perf_counter() - began
    supervisor(world, seen)
    end(world, seen)
    return seen


def measure(world: Project, seen: Seen) -> None:
    """Status and resume as a fresh session would call them."""
    seconds, out, code = call(world, seen, "status")
    assert code == 0, out
    seen.status_bytes = max(seen.status_bytes, len(out))
    seen.status_seconds = max(seen.status_seconds, seconds)
    seconds, out, code = call(world, seen, "resume")
    assert code == 0, out
    seen.resume_seconds = max(seen.resume_seconds, seconds)


def supervisor(world: Project, seen: Seen) -> None:
    """The memory of a supervisor, looked at while a run of half a second works."""
    world.write(
        "train.py",
        TRAIN.replace("sleep(0.01)", "sleep(0.5)").replace("LR = 1.0", f"LR = {3.0 + seen.experiments}"),
    )
    call(world, seen, "try", "a longer run", "--wait", "0")
    for _ in range(20):
        for process in ours(world):
            with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
                if process.name() != "git" and "supervisor.py" in " ".join(process.cmdline()):
                    seen.supervisor_mb = max(seen.supervisor_mb or 0.0, process.memory_info().rss / 2**20)
        time.sleep(0.02)
    call(world, seen, "wait")


def ours(world: Project) -> list[psutil.Process]:
    """Every process that names the campaign's folder or works in it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and any(str(world.root / ".autoresearch") in word for word in words):
            found.append(process)
    return found


def end(world: Project, seen: Seen) -> None:
    """What lies about when everything is decided, and whether the record holds."""
    time.sleep(0.5)  # the last supervisor leaves a moment after its result
    home = world.root / ".autoresearch"
    seen.left += [f"process {p.pid}" for p in ours(world)]
    trees = sorted(p.name for p in (home / "worktrees").iterdir())
    seen.left += [f"worktree {name}" for name in trees[1:]]  # the incumbent's may stay
    seen.left += [str(p) for p in (world.root / ".git").rglob("*.lock")]
    seen.left += [str(p) for p in world.root.rglob("*.autoresearch-tmp")]
    seen.left += [str(p) for p in home.glob("*.lock.json")]
    size = sum(p.lstat().st_size for p in (*home.rglob("*"), *(world.root / ".git").rglob("*")))
    seen.disk_mb_per_run = size / 2**20 / (seen.experiments + 4)
    state = world.ok("status")
    seen.verdicts = state["experiments"]
    seen.verify_seconds, out, code = call(world, Seen(), "verify")
    seen.holds = code == 0


def look(folder: Path) -> Seen:
    """What a stopped campaign looks like to a fresh session, and what it leaves."""
    env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@localhost"}
    world, seen = Project(folder, env), Seen()
    call(world, seen, "wait")
    measure(world, seen)
    seen.experiments = len(world.results()) - 1
    supervisor(world, seen)
    end(world, seen)
    return seen


def figure(seen: Seen) -> str:
    """The line that scripts/faults.py reads."""
    known = {name: value for name, value in vars(seen).items() if isinstance(value, int | float) and value}
    return f"FIGURE P18 {' '.join(f'{n}={v:.4g}' for n, v in known.items())} left={len(seen.left)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--end", action="store_true")
    wanted = parser.parse_args()
    seen = look(wanted.folder) if wanted.end else soak(wanted.folder, wanted.experiments, wanted.every, True)
    print(vars(seen))
    print(figure(seen))


if __name__ == "__main__":
    main()
