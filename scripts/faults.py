#!/usr/bin/env python3
"""The promises of docs/reliability.md, each with the tests that keep it, and the table of what they measured.

    python scripts/faults.py            run every row; the table goes to stdout
    python scripts/faults.py P2 P7      run some rows
    python scripts/faults.py --write    and keep what came out in docs/reliability.json and .md
    python scripts/faults.py --render   write the table anew from what is kept
    python scripts/faults.py P3 --take LOG --write    the output of an earlier run of a row's tests

A test prints `FIGURE NAME key=value ...`; a row shows the figures of its tests. A row whose tests were all
left out (no root, no strace) says so and is no failure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: scripts/faults.py -->", "<!-- end of table -->"
FIGURE = re.compile(r"FIGURE \w+ (.*)")
POINTS = re.compile(r"(?m)(?:^|[.sF])(\d+) points:")
TEXTS = re.compile(r"(?m)(?:^|[.sF])(\d+) texts$")
ENDED = re.compile(r"(\d+) (passed|failed|skipped|error)")


@dataclass(frozen=True)
class Row:
    """A promise, how it is tested in words, and the tests by file and `-k` expression."""

    promise: str
    how: str
    tests: tuple[tuple[str, str], ...]


ROWS: dict[str, Row] = {
    "P1": Row(
        "killed at any named step of any verb that writes: nothing lost, nothing doubled",
        "SIGKILL at every step of init, baseline, try, wait, resume, confirm, finish and verify, and pairs",
        (
            ("test_crash_points.py", ""),
            ("test_crash_pairs.py", ""),
            ("test_heldout.py", "killed"),
            ("test_verify.py", "killed"),
            ("test_supervisor.py", "anywhere"),
        ),
    ),
    "P2": Row(
        "killed at any fsync, rename or fork of any process of a try: nothing lost",
        "strace injects SIGKILL at the k-th call of each process",
        (("test_killed_calls.py", "any_call"),),
    ),
    "P3": Row(
        "a power cut loses no acknowledged record, and the repository passes fsck and `verify`",
        "images of ext4 and xfs copied while a try works, mounted again, resumed",
        (("test_killed_calls.py", "power_cut"),),
    ),
    "P4": Row(
        "files, index, HEAD, stash and settings of the user stay byte for byte",
        "a Hypothesis machine of an agent and a user in one checkout, with kills",
        (("test_beside_a_user.py", "thousand"),),
    ),
    "P5": Row(
        "every number belongs to a commit that can be exported as it ran; what was tampered with is named",
        "`verify` after every kill of P1 to P3 and P7, and against fifteen forgeries",
        (("test_verify.py", "not killed"),),
    ),
    "P6": Row(
        "at the time limit every descendant dies, and no foreign process is touched",
        "five kinds of descendants and a stranger",
        (("test_kill_tree.py", ""),),
    ),
    "P7": Row(
        "the launching shell may die at any moment: no run is lost or doubled",
        "its process group killed 50 times at random",
        (("test_killed_calls.py", "launching_shell"),),
    ),
    "P8": Row(
        "a hostile log comes out short, clean and quoted",
        "2,000 random logs and every kind of harm alone",
        (("test_hostile_logs.py", ""),),
    ),
    "P10": Row(
        "no malformed metric becomes a number",
        "over sixty spellings, two readings each, and random text",
        (("test_metrics.py", ""),),
    ),
    "P11": Row(
        "a journal cut, flipped or edited anywhere is loaded up to its last whole line, or the line is named",
        "cut at every byte, every bit flipped, every line removed, moved and doubled",
        (("test_chain.py", ""), ("test_journal.py", "")),
    ),
    "P12": Row(
        "a full disk stops with the reason and loses nothing; below the floor nothing starts",
        "a small disk filled up to every write; no right to write; stale locks",
        (
            ("test_hostile_surroundings.py", "disk or written"),
            ("test_supervisor.py", "disk"),
            ("test_locks_left.py", ""),
        ),
    ),
    "P13": Row(
        "of six simultaneous starts one runs; when the holder is killed the next starts at once",
        "six processes, real locks",
        (("test_hostile_surroundings.py", "six_tries or killed_holder"),),
    ),
    "P15": Row(
        "a run through a suspend or a clock step is repeated and never judged",
        "clocks moved against each other, and a frozen run",
        (("test_supervisor.py", "frozen or clock or suspension or sleep"),),
    ),
    "P16": Row(
        "no secret in output, journal, notes, report or commits that the tool makes",
        "canaries of eight kinds through every verb; keys in an edit refused before git has them",
        (("test_secrets.py", ""), ("test_redact.py", "")),
    ),
    "P17": Row(
        "any words are only words",
        "10,000 random texts, and the worst ones through a real command line",
        (("test_hostile_surroundings.py", "words or texts or message"),),
    ),
    "P18": Row(
        "a long campaign stays small and leaves nothing behind",
        "experiments of ten milliseconds, 2,000 unless SOAK_EXPERIMENTS says otherwise",
        (("test_killed_calls.py", "long_campaign"),),
    ),
    "P19": Row(
        "a scanner of skills finds nothing of medium weight or more",
        "Cisco's skill-scanner 2.3.2 with its default rules, on the three skills as they are installed",
        (("test_skill_text.py", "scanner"),),
    ),
    "LINT": Row(
        "an edit that touches seed, budget, evaluation, data or metric is flagged, an honest one is not",
        "54 telling lines, 22 ordinary ones, and every recorded real edit",
        (("test_lint.py", ""),),
    ),
}  # fmt: skip


def run(row: Row) -> tuple[bool, str]:
    """Run the tests of a row; return whether none failed, and the figure."""
    outputs: list[str] = []
    for file, chosen in row.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"tests/{file}", *(["-k", chosen] if chosen else [])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "FAULTS_EVERY_POINT": "yes"},
        )
        if done.returncode not in (0, 1):
            return False, f"{file}: pytest exited {done.returncode}"
        if done.returncode:
            print(done.stdout[-3000:], file=sys.stderr)
        outputs.append(done.stdout)
    return read(outputs)


def read(outputs: list[str]) -> tuple[bool, str]:
    """What the outputs of a row's tests say: whether none failed, and the figure."""
    seen = {"passed": 0, "failed": 0, "skipped": 0, "error": 0}
    points = sum(int(number) for out in outputs for number in POINTS.findall(out))
    words = [f"{points} points of death"] if points else []
    words += [f"{number} texts" for out in outputs for number in TEXTS.findall(out)]
    words += [said(text) for out in outputs for text in FIGURE.findall(out)]
    for out in outputs:
        for count, word in ENDED.findall(out.strip().rpartition("\n")[2]):
            seen[word] += int(count)
    words.append(", ".join(f"{n} tests {word}" for word, n in seen.items() if n))
    return not (seen["failed"] or seen["error"]), "; ".join(filter(None, words))


def said(figure: str) -> str:
    """`a_b=3 c=4` as `a b 3, c 4`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in (p.split("=", 1) for p in figure.split())
    )


def table(kept: dict[str, dict[str, str]]) -> str:
    lines = ["| | promise | how it is tested | what came out | when |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        known = kept.get(name, {"figure": "not run yet", "date": "", "commit": ""})
        when = f"{known['date']}, {known['commit']}" if known["date"] else ""
        lines.append(f"| {name} | {row.promise} | {row.how} | {known['figure']} | {when} |")
    return "\n".join(lines)


def write(kept: dict[str, dict[str, str]]) -> None:
    """Keep the figures, and put the table into the page."""
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument(
        "--take", metavar="LOG", type=Path, nargs="*", help="read these outputs instead of running"
    )
    parser.add_argument("--commit", help="what --take was measured at")
    wanted = parser.parse_args()
    kept: dict[str, dict[str, str]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    failed = []
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    for name in [] if wanted.render else wanted.rows or ROWS:
        good, figure = read([p.read_text() for p in wanted.take]) if wanted.take else run(ROWS[name])
        failed += [] if good else [name]
        date = os.environ.get("FAULTS_DATE") or datetime.date.today().isoformat()
        kept[name] = {
            "figure": figure if good else f"FAILED: {figure}",
            "date": date,
            "commit": wanted.commit or commit.stdout.strip(),
        }
        print(f"{name}  {kept[name]['figure']}", flush=True)
        if wanted.write:
            write(kept)
    if wanted.render:
        write(kept)
    print(f"failed: {', '.join(failed)}" if failed else table({n: kept[n] for n in ROWS if n in kept}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
