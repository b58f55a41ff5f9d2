"""What the morning page and `wake` cost with 500 and with 5,000 experiments: seconds, ratio, bytes.

    python scripts/bench/report.py [--experiments 500 5000]

The campaigns are made up, their commits are real git commits. Each time stands beside its ratio to an empty
Python that imports what the command line needs, taken in the same run.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "skills" / "autoresearch" / "scripts" / "autoresearch.py"
TRAIN = "".join(f"CONSTANT_{n} = {n}\n" for n in range(60))
SETTINGS = "command: python train.py\nmetric: {name: val_bpb, goal: min}\nedit: [train.py]\n"
CRASHES = ("oom", "error", "timeout", "not_finite", "no_metric")
SIGMA = 0.0005
TIMES = 5


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, which other processes lengthen, and of the processor."""

    wall: float
    cpu: float

    def beside(self, other: Cost) -> str:
        """Both, with the ratio of the second to another's."""
        return f"{self.wall:.2f} s, {self.cpu:.2f} s of CPU ({self.cpu / other.cpu:.1f} x an empty start)"


def timed(command: list[str], folder: Path) -> tuple[Cost, bytes]:
    """Median wall and CPU seconds of a command, and what it said last."""
    walls, cpus, out = [], [], b""
    for _ in range(TIMES):
        began, used = time.perf_counter(), cpu()
        out = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
        walls.append(time.perf_counter() - began)
        cpus.append(cpu() - used)
    return Cost(statistics.median(walls), statistics.median(cpus)), out


def cpu() -> float:
    """CPU seconds of all ended children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def git(folder: Path, *words: str, stdin: bytes | None = None) -> str:
    """Run git in `folder`."""
    done = subprocess.run(["git", "-C", str(folder), *words], input=stdin, check=True, capture_output=True)
    return done.stdout.decode().strip()


def project(folder: Path) -> str:
    """A repository with one commit; return the commit."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text(TRAIN)
    (folder / "autoresearch.yaml").write_text(SETTINGS)
    git(folder, "add", "train.py", "autoresearch.yaml")
    git(folder, "-c", "user.name=bench", "-c", "user.email=b@localhost", "commit", "-q", "-m", "start")
    return git(folder, "rev-parse", "HEAD")


def commits(folder: Path, base: str, outcomes: list[str]) -> list[str]:
    """One real commit an experiment, on the last keep before it."""
    lines, parent = [], base
    for n, verdict in enumerate(outcomes, 1):
        text = TRAIN.replace(f"CONSTANT_{n % 60} = {n % 60}", f"CONSTANT_{n % 60} = {n}  # was {n % 60}")
        lines.append(
            f"commit refs/heads/made\nmark :{n}\ncommitter bench <b@localhost> {1_790_000_000 + n} +0000\n"
            f"data 1\nx\nfrom {parent}\nM 100644 inline train.py\ndata {len(text)}\n{text}\n"
        )
        parent = f":{n}" if verdict == "keep" else parent
    marks = folder / ".git" / "marks"
    feed = "".join(lines).encode()
    git(folder, "fast-import", "--quiet", "--force", f"--export-marks={marks}", stdin=feed)
    named = dict(line.split() for line in marks.read_text().splitlines())
    return [named[f":{n}"] for n in range(1, len(outcomes) + 1)]


def at(number: int) -> str:
    """Five minutes an experiment, from a fixed morning on."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(1_790_000_000 + 300 * number))


def records(base: str, made: list[str], outcomes: list[str], rng: random.Random) -> Iterator[dict]:
    """The journal of such a campaign."""
    yield {"event": "campaign_started", "at": at(0), "tag": "bench", "branch": "autoresearch/bench",
           "base": base, "head": "main", "frozen": {}}  # fmt: skip
    best, holder, parent = 1.0, "e000", base
    yield from experiment(
        "e000", base, base, "baseline", at(0), [1.0 + rng.gauss(0, SIGMA) for _ in range(3)]
    )
    yield {"event": "verdict", "at": at(0), "experiment": "e000", "verdict": "keep", "reason": "the start",
           "metric": 1.0, "memory_gb": 10.0, "against": ""}  # fmt: skip
    for n, (commit, verdict) in enumerate(zip(made, outcomes, strict=True), 1):
        name = f"e{n:03d}"
        gain = abs(rng.gauss(0, 2 * SIGMA)) if verdict == "keep" else -abs(rng.gauss(0, 20 * SIGMA))
        value = None if verdict == "crash" else best - gain
        last = "better" if n % 3 else "worse"
        words = f"Set constant {n % 60} to {n}, because number {n - 1} was {last} than hoped"
        yield from experiment(name, commit, parent, words, at(n), [value], rng.choice(CRASHES))
        judged = {
            "event": "verdict",
            "at": at(n),
            "experiment": name,
            "verdict": verdict,
            "metric": value,
            "reason": f"{best:.6f} -> {value or 0:.6f} (noise 0.0005, P(better) 0.9, 1 run), +1 lines",
            "memory_gb": 10.0,
            "against": holder,
        }
        if value is not None:
            judged |= {
                "gain": gain,
                "sigma": SIGMA,
                "p": 0.99 if gain > 0 else 0.1,
                "interval": [gain - 2 * SIGMA, gain + 2 * SIGMA],
            }
        yield judged
        if verdict == "keep" and value is not None:
            best, holder, parent = value, name, commit


def experiment(
    name: str, commit: str, parent: str, words: str, when: str, values: list, kind: str = ""
) -> Iterator[dict]:
    """Proposal and runs of one experiment."""
    yield {
        "event": "proposed",
        "at": when,
        "experiment": name,
        "commit": commit,
        "tree": commit,
        "parent": parent,
        "hypothesis": words,
        "because": "the last one suggests it",
        "expect": "-0.001",
        "files": ["train.py"],
        "added": 1,
        "removed": 1,
    }
    for index, value in enumerate(values, 1):
        run = {"experiment": name, "run": f"{name}.{index}"}
        yield {"event": "run_started", "at": when, **run, "seed": 41 + index, "nonce": "n", "commit": commit}
        ok = {"outcome": "ok", "metric": value, "seconds": 300.0, "memory_gb": 10.0}
        bad = {
            "outcome": "error",
            "kind": kind,
            "seconds": 20.0,
            "line": f"{kind}: it broke",
            "where": "train.py:12",
        }
        yield {"event": "run_ended", "at": when, **run, **(bad if value is None else ok)}


def campaign(folder: Path, count: int) -> None:
    """A campaign of `count` experiments, with its snapshot as the loop would have left it."""
    rng = random.Random(7)
    base = project(folder)
    outcomes = rng.choices(["keep", "discard", "crash"], [4, 88, 8], k=count)
    made = commits(folder, base, outcomes)
    git(folder, "branch", "autoresearch/bench", base)
    home = folder / ".autoresearch"
    home.mkdir()
    written = enumerate(records(base, made, outcomes, rng), 1)
    lines = [json.dumps({"schema": 1, "seq": seq, **record}) for seq, record in written]
    settled = [
        json.dumps(
            {
                "schema": 1,
                "seq": len(lines) + n + 1,
                "at": at(n),
                "event": "settled",
                "experiment": f"e{n:03d}",
            }
        )
        for n in range(count + 1)
    ]
    best = next((c for c, v in zip(reversed(made), reversed(outcomes), strict=True) if v == "keep"), base)
    tree = json.dumps({"schema": 1, "seq": 0, "at": at(count), "event": "tree", "commit": best})
    stopped = json.dumps(
        {"schema": 1, "seq": 0, "at": at(count), "event": "stopped", "reason": "the bench's", "by": "user"}
    )
    (home / "journal.jsonl").write_text("\n".join([*lines, *settled, tree, stopped]) + "\n")
    subprocess.run(
        [sys.executable, str(ENTRY), "resume"], cwd=folder, capture_output=True
    )  # saves the snapshot


def measure(folder: Path, count: int, empty: Cost) -> None:
    """Print what `report` and `wake` cost."""
    campaign(folder, count)
    report, out = timed([sys.executable, str(ENTRY), "--json", "report"], folder)
    said = json.loads(out)
    size = Path(said["page"]).stat().st_size
    wake, text = timed([sys.executable, str(ENTRY), "wake"], folder)
    limit = "300 KB" if count <= 500 else "3 s, 2 MB"
    print(f"{count:,} experiments: page {size / 1000:.0f} KB (promised: {limit})")
    print(f"  `report` {report.beside(empty)}")
    print(
        f"  `wake`   {wake.beside(empty)}, {len(text.splitlines())} lines, {len(text)} bytes; promised 0.5 s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, nargs="+", default=[500, 5000])
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="report-"))
    try:
        empty, _ = timed([sys.executable, "-c", "import click, yaml"], folder)
        load = os.getloadavg()[0]
        print(
            f"an empty Python with click, yaml: {empty.wall:.3f} s, {empty.cpu:.3f} s of CPU; load {load:.1f}"
        )
        for count in wanted.experiments:
            measure(folder / str(count), count, empty)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
