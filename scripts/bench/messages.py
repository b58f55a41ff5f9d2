"""What telling people costs: the loop with no address, with one that works and with one that hangs.

    python scripts/bench/messages.py [--tries 8]

Prints the seconds of a `try` (median), and what the messenger uses while it has nothing to do. Needs apprise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "skills/autoresearch/scripts")]

from listeners import Web, until  # noqa: E402 - after the path
from world import Project, a_project  # noqa: E402

from lab.notify.keeping import alive  # noqa: E402

IDLE_SECONDS = 30


def main() -> None:
    """Measure the three cases in turns, so that a busy moment hits all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=8)
    tries = parser.parse_args().tries
    with tempfile.TemporaryDirectory() as folder, Web() as web, Web(hang=True) as hang:
        cases = {"no address": [], "one that works": [web.url()], "one that hangs": [hang.url()]}
        worlds = {
            name: a_campaign(Path(folder) / str(n), places) for n, (name, places) in enumerate(cases.items())
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(tries):
            for name, world in worlds.items():
                seconds[name].append(one(world, number))
        for name, found in seconds.items():
            print(f"{name}: median {statistics.median(found):.2f} s a try, {len(found)} tries")
        print(idle(worlds["one that works"]))
        for world in worlds.values():
            world.ok("finish")
        until(lambda: not alive(worlds["one that works"].root / ".autoresearch/notify"), "the end", 120)


def a_campaign(folder: Path, places: list[str]) -> Project:
    """A campaign that tells after each verdict, so that every try has something to send."""
    world = a_project(folder)
    world.begin()
    told = f"notify: {{to: {json.dumps(places)}, experiments: 1}}\n" if places else ""
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + told)
    return world


def one(world: Project, number: int) -> float:
    """The seconds of one crashed try: the shortest way through the loop."""
    world.edit("LR = 1.00", f"LR = 1 / 0  # {number}")
    began = time.perf_counter()
    world.run("try", f"idea {number}")
    return time.perf_counter() - began


def idle(world: Project) -> str:
    """What the messenger uses when nothing happens."""
    import psutil

    process = psutil.Process(alive(world.root / ".autoresearch/notify"))
    time.sleep(15)  # what the last try left to send
    before = process.cpu_times()
    time.sleep(IDLE_SECONDS)
    after = process.cpu_times()
    used = (after.user + after.system) - (before.user + before.system)
    memory = process.memory_info().rss / 2**20
    return f"idle messenger: {used / IDLE_SECONDS:.2%} of one core, {memory:.0f} MB"


if __name__ == "__main__":
    main()
