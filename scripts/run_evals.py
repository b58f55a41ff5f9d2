#!/usr/bin/env python3
"""Let an agent work on small repositories with traps; grade what it leaves by facts of git and the journal.

python3 scripts/run_evals.py --agent "claude -p --verbose --output-format stream-json" --case noisy
python3 scripts/run_evals.py build noisy /tmp/try1            prints the sentence to give to an agent there
python3 scripts/run_evals.py grade /tmp/try1 --transcript t.jsonl
python3 scripts/run_evals.py known                            measures start and best known of each case
python3 scripts/run_evals.py triggers --agent "claude -p"     asks which skill a sentence calls for

Standard library only. Exit codes: 0 done, whatever the grades · 2 usage · 4 something is in the way.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "evals"))

from kit import build, cases, grade, outcome, triggers  # noqa: E402 - they lie beside the cases
from kit import transcript as transcripts  # noqa: E402

RUNS = ROOT / "evals" / "runs"
HOSTS = ("claude", "copilot", "cursor", "codex")


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    options = parse(arguments)
    try:
        VERBS[options.verb](options)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 4
    return 0


def build_one(options: argparse.Namespace) -> None:
    """Make the repository and print what the user says."""
    case = case_of(options.case)
    said = build.build(case, options.dir, not options.without_skill, options.host, not options.no_bystander)
    print(said)


def grade_one(options: argparse.Namespace) -> None:
    """Grade a folder, append the row to the table, end the bystander."""
    row = grade.grade(
        options.dir, options.transcript, options.agent_name, not options.no_measure, options.clone
    )
    grade.end_bystander(options.dir)
    write(row, options.out)
    print(
        json.dumps(
            {k: row[k] for k in ("case", "with_skill", "passed", "failed", "unknown", "outcome", "costs")}
        )
    )
    for name, found in row["checks"].items():
        mark = {True: "pass", False: "FAIL", None: "   ?"}[found["passed"]]
        print(f"{mark} {name}: {found['evidence']}")
    print(grade.markdown(row))


def write(row: dict[str, Any], out: Path) -> None:
    """Append the whole record to DATE.jsonl and its Markdown row to table.md."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{datetime.date.today().isoformat()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    table = out / "table.md"
    text = table.read_text(encoding="utf-8") if table.exists() else grade.TABLE + "\n"
    table.write_text(f"{text}{grade.markdown(row)}\n", encoding="utf-8")


def run_all(options: argparse.Namespace) -> None:
    """Build, let the agent work, grade: every case asked for, as often as asked for."""
    names = [options.case] if options.case else list(cases.load())
    arms = {"with": (True,), "without": (False,), "both": (True, False)}[options.arm]
    for name in names:
        for number in range(1, options.repeats + 1):
            for with_skill in arms:
                attempt(options, case_of(name), number, with_skill)


def attempt(options: argparse.Namespace, case: cases.Case, number: int, with_skill: bool) -> None:
    """One attempt of the agent at one case."""
    folder = options.work / f"{case.project}-{int(time.time() * 1000):x}"
    said = build.build(case, folder, with_skill, options.host)
    log = folder.with_suffix(".out")
    ended = let_work(options.agent, said, folder, log, options.minutes * 60)
    try:
        transcript: Path | None = log
        transcripts.read(log)
    except ValueError:
        transcript = None  # an agent that prints prose: its calls cannot be counted
    row = {**grade.grade(folder, transcript, options.agent), "attempt": number, "agent_ended": ended}
    grade.end_bystander(folder)
    write(row, options.out)
    print(grade.markdown(row), flush=True)


def let_work(agent: str, said: str, folder: Path, log: Path, seconds: float) -> str:
    """Start the agent in a session of its own with the sentence; end that whole session at the limit."""
    words = shlex.split(agent)
    command = [word.replace("{prompt}", said) for word in words]
    command += [] if any("{prompt}" in word for word in words) else [said]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return f"exit {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return f"ended after {seconds:.0f} s"


def measure_known(options: argparse.Namespace) -> None:
    """Write the true quality of the start and of the best known solution of each case."""
    path = ROOT / "evals" / "known.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cases": {}}
    names = [options.case] if options.case else list(cases.load())
    for name in names:
        case = case_of(name)
        start = {path: build.project_files(case)[path] for path in case.edit}
        measured = {
            "start": outcome.measure(case, start, honest=True),
            "start_as_printed": outcome.measure(case, start, honest=False),
            "best": outcome.measure(case, outcome.best_files(case), honest=True),
        }
        trouble = [f"{kind}: {m.trouble}" for kind, m in measured.items() if m.trouble]
        if trouble:
            raise ValueError(f"{name}: {'; '.join(trouble)}")
        found["cases"][name] = {kind: list(m.values) for kind, m in measured.items()}
        print(name, *(f"{kind} {m.mean:.4f} (se {m.error:.4f})" for kind, m in measured.items()), flush=True)
    found |= {
        "command": "scripts/run_evals.py known",
        "seeds": outcome.SEEDS,
        "date": options.date,
        "machine": options.machine,
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def ask_triggers(options: argparse.Namespace) -> None:
    """Ask the agent which skill each sentence calls for, and count."""
    for line in triggers.ask(options.agent, options.repeats, options.only):
        print(line, flush=True)


def case_of(name: str) -> cases.Case:
    """The case called `name`, or an error that names them all."""
    known = cases.load()
    if name not in known:
        raise ValueError(f"there is no case {name!r}; known: {', '.join(known)}")
    return known[name]


VERBS = {
    "run": run_all,
    "build": build_one,
    "grade": grade_one,
    "known": measure_known,
    "triggers": ask_triggers,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; without a verb it is `run`."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="build, run an agent command, grade (the default)")
    run.add_argument(
        "--agent", required=True, help="command; the sentence is its last argument, or replaces {prompt}"
    )
    run.add_argument("--case", help="one case; default: all")
    run.add_argument("--repeats", type=int, default=3)
    arms = run.add_mutually_exclusive_group()
    arms.add_argument("--with-skill", dest="arm", action="store_const", const="with", default="both")
    arms.add_argument("--without-skill", dest="arm", action="store_const", const="without")
    run.add_argument("--minutes", type=float, default=30, help="limit of one attempt")
    run.add_argument("--work", type=Path, default=Path("evals-work"), help="where repositories are made")
    one = verbs.add_parser("build", help="make a case's repository and print the user's sentence")
    one.add_argument("case")
    one.add_argument("dir", type=Path)
    one.add_argument("--without-skill", action="store_true")
    one.add_argument("--no-bystander", action="store_true", help="start no other process of the user's")
    for sub in (run, one):
        sub.add_argument("--host", choices=HOSTS, default="claude", help="whose folder gets the skill")
    graded = verbs.add_parser("grade", help="grade a folder that `build` made, once")
    graded.add_argument("dir", type=Path)
    graded.add_argument(
        "--transcript", type=Path, help="stream-json of claude, or {tool, input, output} a line"
    )
    graded.add_argument("--agent-name", default="unnamed")
    graded.add_argument("--clone", type=Path, help="a clone in which the agent worked instead")
    graded.add_argument("--no-measure", action="store_true", help="leave the runs on fresh seeds out")
    for sub in (run, graded):
        sub.add_argument("--out", type=Path, default=RUNS, help="where records and table go")
    known = verbs.add_parser("known", help="measure the start and the best known of each case")
    known.add_argument("--case")
    known.add_argument("--date", default=datetime.date.today().isoformat())
    known.add_argument("--machine", default="2-core x86-64 VM")
    asked = verbs.add_parser("triggers", help="ask which skill a sentence calls for")
    asked.add_argument("--agent", required=True)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--only", help="one skill")
    first = arguments[0] if arguments else "--help"
    return parser.parse_args(arguments if first in (*VERBS, "-h", "--help") else ["run", *arguments])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
