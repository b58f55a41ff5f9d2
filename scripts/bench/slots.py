"""What several slots bring, how busy a slot is kept, and what the driver itself costs.

    python scripts/bench/slots.py ratio [--seconds 10] [--experiments 24]
    python scripts/bench/slots.py busy  [--seconds 15] [--experiments 10]
    python scripts/bench/slots.py many  [--slots 64] [--journal 10000] [--experiments 128]

`ratio`: experiments an hour with four slots of this machine's cores against one, with a training command
that sleeps. `busy`: the share of the time in which the one slot has a run, when an agent thinks for a random
time before each change: waiting for every verdict, and with the next change queued. `many`: processor seconds
of the loop for one experiment, its git and the agent's calls included, with many slots of a simulated runner
on a virtual clock, at the end of a long campaign; and `status` there. Reference: the same in the other mode,
or 300 s of run, in the same call.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from overhead import ENTRY, SCRIPTS, write_chain

TRAIN = """import os, time
{knobs}
time.sleep(float(os.environ["NAP"]))
print("val_bpb: 1.0")
"""
SETTINGS = """command: {python} train.py
metric: {{name: val_bpb, goal: min}}
budget: {{seconds: 600}}
edit: [train.py]
seed: {{env: SEED}}
sandbox: {{env: [NAP]}}
runner: {{slots: {slots}}}
"""
KNOBS = 400  # changes that do not touch each other, so that no queued one meets a conflict


def text(changed: Mapping[int, int]) -> str:
    return TRAIN.format(knobs="\n".join(f"K{k} = {changed.get(k, 0)}\n" for k in range(KNOBS)))


class Bench:
    """A project in a temporary folder, with a campaign in it."""

    def __init__(self, folder: Path, slots: int, nap: float) -> None:
        folder.mkdir()
        self.folder = folder
        self.env = {**os.environ, "NAP": f"{nap:g}", "AUTORESEARCH_SLOTS": str(folder.parent / "locks")}
        for command in (
            ["init", "-q"],
            ["config", "user.name", "b"],
            ["config", "user.email", "b@localhost"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True)
        (folder / "train.py").write_text(text({}))
        subprocess.run(["git", "add", "train.py"], cwd=folder, check=True)
        subprocess.run(["git", "commit", "-q", "-m", "start"], cwd=folder, check=True)
        (folder / "autoresearch.yaml").write_text(SETTINGS.format(python=sys.executable, slots=slots))
        self.call("init", "--tag", "bench")
        while self.call("baseline", "--repeats", "1", "--wait", "500")["status"] != "done":
            pass

    def call(self, *args: str) -> dict:
        done = subprocess.run(
            [sys.executable, str(ENTRY), "--json", *args], cwd=self.folder, capture_output=True, env=self.env
        )
        if done.returncode not in (0, 124):
            raise SystemExit(f"{args} exited {done.returncode}: {done.stdout!r} {done.stderr!r}")
        return json.loads(done.stdout)

    def attempt(self, number: int, *flags: str) -> dict:
        (self.folder / "train.py").write_text(text({number: number + 1}))
        return self.call("try", f"number {number}", *flags)

    def rest(self) -> None:
        while self.call("status")["running"]:
            self.call("wait", "--max", "60")

    def pace(self, slots: int) -> float:
        """Experiments an hour once every slot has had its first: filling them is the agent's time."""
        lines = (self.folder / ".autoresearch" / "journal.jsonl").read_text().splitlines()
        ends = [
            moment(r) for r in map(json.loads, lines) if r["event"] == "run_ended" and "e000" not in r["run"]
        ]
        return (len(ends) - slots) / (ends[-1] - ends[slots - 1]) * 3600

    def measured(self) -> tuple[int, float, float]:
        """Experiments, seconds from the first start to the last end, and seconds of runs in them."""
        lines = (self.folder / ".autoresearch" / "journal.jsonl").read_text().splitlines()
        records = [r for r in map(json.loads, lines) if str(r.get("run", "e000")).split(".")[0] != "e000"]
        starts = [moment(r) for r in records if r["event"] == "run_started"]
        ends = [moment(r) for r in records if r["event"] == "run_ended"]
        decided = {r["run"].split(".")[0] for r in records if r["event"] == "run_ended"}
        work = sum(r["seconds"] for r in records if r["event"] == "run_ended")
        return len(decided), max(ends) - min(starts), work


def moment(record: dict) -> float:
    return datetime.fromisoformat(record["at"]).timestamp()


def ratio(folder: Path, nap: float, count: int) -> None:
    rates = {}
    for slots in (1, 4):
        bench = Bench(folder / f"slots{slots}", slots, nap)
        for number in range(count):
            bench.attempt(number, "--wait", "0")
        bench.rest()
        done, seconds, _ = bench.measured()
        rates[slots] = bench.pace(slots)
        print(
            f"{slots} slots: {done} experiments of {nap:g} s in {seconds:.1f} s, {rates[slots]:.0f} an hour"
        )
    print(f"4 slots against 1: {rates[4] / rates[1]:.2f} times (asked for: 3.8)")


def busy(folder: Path, nap: float, count: int) -> None:
    shares = {}
    for mode in ("serial", "queue"):
        bench, chance = Bench(folder / mode, 1, nap), random.Random(1)
        for number in range(count):
            time.sleep(chance.uniform(0, 0.8 * nap))
            if mode == "serial":
                bench.attempt(number)
                while bench.call("status")["running"]:
                    bench.call("wait")
                continue
            bench.attempt(number, "--wait", "0")
            while len(bench.call("status")["queued"]) > 1:  # one waits behind the run: that is enough
                bench.call("wait")
        bench.rest()
        done, seconds, work = bench.measured()
        shares[mode] = work / seconds
        print(f"{mode}: {done} runs of {nap:g} s in {seconds:.1f} s, slot busy {100 * work / seconds:.1f} %")
    print(f"think time 0 to {0.8 * nap:g} s; asked for with a queue: 95 %")


# -- many slots on a virtual clock ---------------------------------------------------------------------


class Simulated:
    """A runner whose runs take virtual time."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.ends: dict[Path, float] = {}
        self.chance = random.Random(2)

    def submit(self, run_dir: Path, env: Mapping[str, str]) -> None:
        self.ends.setdefault(run_dir, self.clock + self.chance.uniform(290, 310))

    def poll(self, run_dir: Path) -> str:
        if (run_dir / "run.json").exists():
            return "done"
        if run_dir not in self.ends:
            return "absent"
        if self.ends[run_dir] > self.clock:
            return "running"
        spec = json.loads((run_dir / "spec.json").read_bytes())
        row = {"run": spec["run"], "nonce": spec["nonce"], "outcome": "ok", "metric": 1.0, "seconds": 300.0}
        (run_dir / "run.json").write_text(json.dumps(row))
        return "done"

    def pass_time(self) -> None:
        """On to the end of the next run."""
        self.clock = min(end for end in self.ends.values() if end > self.clock)

    def withdraw(self, run_dir: Path) -> bool:
        return True

    def reap(self, run_dir: Path) -> int:
        return 0

    def heartbeat(self, run_dir: Path) -> dict | None:
        return None


def spent() -> float:
    """Processor seconds of this process and of those it has waited for."""
    rows = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(row.ru_utime + row.ru_stime for row in rows)


def many(folder: Path, slots: int, journal: int, count: int) -> None:
    sys.path.insert(0, str(SCRIPTS))
    from lab import loop, mover, propose
    from lab.campaign import Lab

    bench = Bench(folder / "many", slots, 0)
    bench.attempt(0)
    bench.rest()
    grow(bench, journal)
    runner, root = Simulated(), bench.folder
    mover.ensure = lambda lab: None  # it is what is measured here
    numbers = itertools.count(1)

    def opened(lab: Lab | None = None) -> Lab:
        lab = lab or Lab(root)
        lab.__dict__["runner"] = runner
        return lab

    driver = opened()
    driver.aside = True
    with driver.changing("bench"):
        loop.advance(driver)
    began, virtual, calls, moves, proposing = spent(), None, 0, [], 0.0
    while calls < count or driver.state.going:
        while calls < count and len(driver.state.going) < slots:
            before, agent, number = spent(), opened(), next(numbers)
            (root / "train.py").write_text(text({number % KNOBS: number + 1}))
            with agent.changing("try"):
                loop.advance(agent)
                propose.propose(agent, f"number {number}", {}, False, False)
                loop.advance(agent)
            calls += 1
            proposing += spent() - before
            with driver.changing("bench"):
                pass
        if virtual is None:
            virtual = runner.clock
        runner.pass_time()
        before = spent()
        with driver.changing("move"):
            loop.advance(driver)
        moves.append(spent() - before)
    each = (spent() - began) / count
    share = each * slots / 300
    print(f"{journal:,} experiments in the journal, {slots} slots, {count} runs of 300 s on a virtual clock:")
    print(
        f"  one experiment: {each:.2f} s of processor time, {proposing / count:.2f} s of it the agent's `try`"
    )
    print(f"  with {slots} slots always full: {100 * share:.0f} % of a core (asked for: 20 %)")
    print(f"  the mover for one run that ended: median {statistics.median(moves):.2f} s")
    times = []
    for _ in range(5):
        before, wall = spent(), time.perf_counter()
        bench.call("status")
        times.append((spent() - before, time.perf_counter() - wall))
    cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"  `status`: {cpu:.2f} s of processor time, {wall:.2f} s by the clock (asked for: 0.3 s)")


def grow(bench: Bench, journal: int) -> None:
    """Multiply an experiment's records until there are so many."""
    path = bench.folder / ".autoresearch" / "journal.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    sample = [json.dumps(r) for r in records if r.get("experiment") == "e001"]
    lines, seq = [json.dumps(r) for r in records], len(records)
    for number in range(1000, 1000 + journal):
        for record in sample:
            seq += 1
            lines.append(json.dumps({**json.loads(record), "seq": seq}).replace("e001", f"e{number}"))
    tree = json.dumps({**json.loads(sample[0]), "seq": seq + 1})
    base = next(r["commit"] for r in records if r["event"] == "proposed")
    facts = json.loads(tree)
    lines.append(
        json.dumps(
            {"schema": 1, "seq": seq + 1, "at": facts["at"], "event": "tree", "commit": base, "conflicts": []}
        )
    )
    write_chain(path, lines)


PARTS = {"ratio": (10.0, 24), "busy": (15.0, 10), "many": (0.0, 128)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--experiments", type=int)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--journal", type=int, default=10_000)
    wanted = parser.parse_args()
    seconds, count = PARTS[wanted.part]
    seconds, count = wanted.seconds or seconds, wanted.experiments or count
    folder = Path(tempfile.mkdtemp(prefix="slots-"))
    try:
        if wanted.part == "many":
            many(folder, wanted.slots, wanted.journal, count)
        else:
            {"ratio": ratio, "busy": busy}[wanted.part](folder, seconds, count)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
