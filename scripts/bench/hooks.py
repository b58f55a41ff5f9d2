"""What a hook costs an agent's session, for each event, in a small and in a large campaign.

    python scripts/bench/hooks.py [--calls 9] [--journal 10000]

Each line gives the fastest and the median wall time and the median processor time of a whole call, start of
Python included, beside a Python that only imports click and yaml. On a busy machine the processor time says
most. It works in a temporary folder and runs no training.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "skills" / "autoresearch" / "scripts"
YAML = "command: python train.py\nmetric: {name: loss, goal: min}\nedit: [train.py]\nprotect: [prepare.py]\n"
EVENTS = {
    "SessionStart": ("SessionStart", {}),
    "PreToolUse, a harmless command": ("PreToolUse", {"tool_input": {"command": "git status && ls"}}),
    "PreToolUse, a refused command": ("PreToolUse", {"tool_input": {"command": "git reset --hard"}}),
    "Stop of a session that works here": ("Stop", {}),
}


def campaign(root: Path, experiments: int) -> Path:
    """A project folder whose journal holds this many verdicts."""
    sys.path.insert(0, str(SCRIPTS))
    from lab.journal import Journal

    (root / ".git").mkdir(parents=True)
    (root / "autoresearch.yaml").write_text(YAML)
    journal = Journal(root / ".autoresearch" / "journal.jsonl")
    journal.append(
        "campaign_started", tag="bench", branch="autoresearch/bench", base="0" * 40, head="main", frozen={}
    )
    lines = []
    for number in range(experiments):
        name, commit = f"e{number:03d}", f"{number:040x}"
        common = {"schema": 1, "at": "2026-11-21T06:00:00+00:00", "experiment": name}
        words = {"commit": commit, "tree": commit, "parent": "0" * 40, "hypothesis": f"idea {number}"}
        run = {"run": f"{name}.1", "seed": 42, "nonce": "n", "commit": commit}
        end = {"run": f"{name}.1", "outcome": "ok", "metric": 1.0, "seconds": 300.0}
        kind = "discard" if number else "keep"
        for event, fields in (
            ("proposed", words), ("run_started", run), ("run_ended", end),
            ("verdict", {"verdict": kind, "reason": "measured", "metric": 1.0}), ("settled", {}),
        ):  # fmt: skip
            lines.append(json.dumps({**common, "seq": len(lines) + 2, "event": event, **fields}))
    with journal.path.open("a") as file:
        file.write("\n".join(lines) + "\n")
    journal.load()
    journal.save_snapshot()  # as any verb that changes something leaves it
    return root


def cost(command: list[str], folder: Path, text: str) -> tuple[float, float, bytes]:
    """Wall seconds, processor seconds and output of one call."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, input=text.encode(), capture_output=True, check=True)
    wall, after = time.perf_counter() - began, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent, done.stdout


def line(name: str, command: list[str], folder: Path, payload: dict[str, object], calls: int) -> None:
    rows = []
    for number in range(calls):
        session = {"session_id": f"s{number}", "cwd": str(folder), **payload}
        if "Stop" in command:  # let the session work first; that call is not counted
            worked = {**session, "tool_input": {"command": "python3 autoresearch.py wait"}}
            cost([*command[:-1], "PreToolUse"], folder, json.dumps(worked))
        rows.append(cost(command, folder, json.dumps(session)))
    wall, spent = (statistics.median(row[at] for row in rows) for at in (0, 1))
    size, fastest = max(len(row[2]) for row in rows), min(row[0] for row in rows)
    times = f"{fastest:.3f} s, median {wall:.3f} s, processor {spent:.3f} s"
    print(f"{name:<36} {times}, {size:,} bytes, {calls} calls")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=9)
    parser.add_argument("--journal", type=int, default=10_000)
    wanted = parser.parse_args()
    hook = [sys.executable, str(SCRIPTS / "autoresearch.py"), "hook"]
    with tempfile.TemporaryDirectory(prefix="hooks-") as name:
        empty = Path(name) / "empty"
        empty.mkdir()
        line(
            "Python with click and yaml",
            [sys.executable, "-c", "import click, yaml"],
            empty,
            {},
            wanted.calls,
        )
        line("no campaign, any event", [*hook, "PreToolUse"], empty, {}, wanted.calls)
        for experiments in (10, wanted.journal):
            root = campaign(Path(name) / str(experiments), experiments)
            print(f"campaign with {experiments:,} experiments")
            for what, (event, payload) in EVENTS.items():
                line(f"  {what}", [*hook, event], root, payload, wanted.calls)


if __name__ == "__main__":
    main()
