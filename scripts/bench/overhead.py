"""What one experiment costs beyond its run, and how much an agent calls and reads for it.

    python scripts/bench/overhead.py [--experiments 20] [--journal 10000]

Each part prints a figure and its ratio to a reference taken in the same run: the training command started
bare, a bare `git commit`, an empty Python. It works in a temporary folder with real git and real processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "skills" / "autoresearch" / "scripts"
ENTRY = SCRIPTS / "autoresearch.py"
TRAIN = 'LR = {value}\nprint("val_bpb:", LR)\n'


def call(folder: Path, *args: str, env: dict[str, str] | None = None) -> tuple[float, bytes]:
    """Run a verb; return seconds and its output."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ENTRY), *args],
        cwd=folder,
        capture_output=True,
        env={**os.environ, **(env or {})},
    )
    seconds = time.perf_counter() - began
    if done.returncode not in (0, -9):
        raise SystemExit(f"{args} exited {done.returncode}: {done.stdout!r} {done.stderr!r}")
    return seconds, done.stdout


def timed(command: list[str], folder: Path, count: int = 5) -> float:
    """Median seconds of a bare command."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def project(folder: Path) -> Path:
    folder.mkdir()
    for command in (
        ["init", "-q"],
        ["config", "user.name", "bench"],
        ["config", "user.email", "b@localhost"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "train.py").write_text(TRAIN.format(value=1.0))
    subprocess.run(["git", "add", "train.py"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "start"], cwd=folder, check=True)
    return folder


def one_experiment(folder: Path, count: int) -> None:
    call(folder, "init", "--tag", "bench", "--command", f"{sys.executable} train.py")
    call(folder, "baseline", "--repeats", "3")
    bare = timed([sys.executable, "train.py"], folder)
    times, sizes, runs = [], [], []
    for number in range(count):
        (folder / "train.py").write_text(TRAIN.format(value=2.0 + number))
        seconds, out = call(folder, "try", f"number {number}")
        times.append(seconds)
        sizes.append(len(out))
        shown = json.loads(call(folder, "--json", "show", "last")[1])
        runs.append(sum(run["seconds"] for run in shown["runs"]))
    median, own = statistics.median(times), statistics.median(runs)
    print(f"one `try` with an instant command: median {median:.3f} s of {count}, the run itself {own:.3f} s")
    print(
        f"  overhead {median - own:.3f} s beyond the run (target 0.5); {median / bare:.1f} x the bare command"
    )
    print(
        f"  calls an experiment: 1 (verdict inside --wait) or 2 (`try`, `wait`); {max(sizes)} bytes at most"
    )


def resume_after_a_kill(folder: Path) -> None:
    slowest, last = 0.0, ""
    for number, point in enumerate(
        (
            "journal.proposed.after#1",
            "journal.run_started.after#1",
            "run.submit.after#1",
            "journal.verdict.after#1",
        )
    ):
        (folder / "train.py").write_text(TRAIN.format(value=5000.0 + number))
        call(folder, "try", point, env={"AUTORESEARCH_DIE_AT": point})
        seconds, _ = call(folder, "resume")
        slowest, last = max((slowest, last), (seconds, point))
        call(folder, "wait")
    print(f"`resume` after kill -9: slowest {slowest:.3f} s, killed at {last} (target 2)")


def write_chain(path: Path, lines: list[str]) -> None:
    """Write the records with links of their own, as the tool would have."""
    sys.path.insert(0, str(SCRIPTS))
    from lab.chain import Chain, link_of, linked

    end, whole = Chain().end, []
    for text in lines:
        record = json.loads(text)
        record.pop("link", None)
        line = linked(json.dumps(record, separators=(",", ":")).encode(), end)
        end = link_of(line)
        whole.append(line)
    path.write_bytes(b"".join(whole))


def big_journal(folder: Path, experiments: int) -> None:
    """Multiply a real experiment's records, then ask for the status."""
    path = folder / ".autoresearch" / "journal.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    sample = [r for r in records if r.get("experiment") == "e001"]
    lines, seq = [json.dumps(r) for r in records], len(records)
    for number in range(1000, 1000 + experiments):
        for record in sample:
            seq += 1
            text = json.dumps({**record, "seq": seq}).replace("e001", f"e{number}")
            lines.append(text)
    incumbent = json.loads(call(folder, "--json", "status")[1])["incumbent"]["commit"]
    lines.append(json.dumps({"schema": 1, "seq": seq + 1, "event": "tree", "commit": incumbent}))
    write_chain(path, lines)
    empty = timed([sys.executable, "-c", "import click, yaml"], folder)
    first, out = call(folder, "status")
    (folder / "train.py").write_text(TRAIN.format(value=9999.0))
    call(folder, "try", "writes the snapshot")
    seconds = statistics.median(call(folder, "status")[0] for _ in range(5))
    size = path.stat().st_size / 1e6
    print(
        f"`status` with {experiments:,} experiments ({size:.0f} MB of journal): {seconds:.3f} s (target 0.25)"
    )
    print(f"  {seconds / empty:.1f} x a Python that imports click and yaml; without snapshot {first:.3f} s")
    print(f"  {len(out)} bytes, {len(out.splitlines())} lines")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--journal", type=int, default=10_000)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    try:
        here = project(folder / "project")
        one_experiment(here, wanted.experiments)
        resume_after_a_kill(here)
        big_journal(here, wanted.journal)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
