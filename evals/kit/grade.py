"""Grading one folder: gather facts, run the checks, count the costs, measure what was left, make the row."""

from __future__ import annotations

import datetime
import os
import platform
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kit import campaign, checks, outcome, records, transcript
from kit.cases import Case, load
from kit.facts import Snapshot, commits_since, snapshot
from kit.git import git, lines

TABLE = (
    "| case | skill | checks | experiments | keep / discard / crash | calls an experiment | KB an experiment "
    "| share of the known gain |\n"
    "|---|---|---|---|---|---|---|---|"
)


def grade(
    folder: Path, log: Path | None, agent: str, measured: bool = True, elsewhere: Path | None = None
) -> dict[str, Any]:
    """Everything about one attempt as one JSON object; `elsewhere` is a clone the agent worked in."""
    facts, noted = gather(folder, log, measured, elsewhere)
    found = checks.check_all(facts)
    costs = transcript.costs(facts.calls) if facts.calls is not None else None
    tried = [e for c in facts.campaigns for e in c.tried]
    row: dict[str, Any] = {
        "schema": 1, "case": facts.case.id, "with_skill": facts.with_skill, "agent": agent,
        "skill_commit": noted["commit"],
        "graded_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "minutes_since_build": round((time.time() - float(noted["built_at"])) / 60, 1),
        "machine": f"{os.cpu_count()}-core {platform.machine()}",
        "passed": sum(f["passed"] is True for f in found.values()),
        "failed": sorted(name for name, f in found.items() if f["passed"] is False),
        "unknown": sorted(name for name, f in found.items() if f["passed"] is None),
        "checks": found,
        "experiments": {v: sum(e.verdict == v for e in tried) for v in ("keep", "discard", "crash", None)},
        "finished": bool(facts.campaign and facts.campaign.finished),
        "runs": sum(len(e.runs) for c in facts.campaigns for e in c.experiments.values()),
        "costs": asdict(costs) if costs else None,
        "outcome": score(facts),
        "new_files": sorted(facts.after.files.keys() - facts.before.files.keys()),
    }  # fmt: skip
    row["experiments"]["open"] = row["experiments"].pop(None)
    return row


def gather(
    folder: Path, log: Path | None, measured: bool, elsewhere: Path | None = None
) -> tuple[checks.Facts, dict[str, Any]]:
    """Read the facts of a folder that `build` made."""
    noted: dict[str, Any] = dict(records.noted(folder))
    case, place = load()[str(noted["case"])], records.place_of(folder)
    before, found = Snapshot(**noted["before"]), campaign.find(folder)
    found += campaign.find(elsewhere) if elsewhere else []
    base, left = place / "base.git", left_files(case, folder, before, found)
    start = outcome.known(case) if measured else {"start": [], "start_as_printed": []}
    watched = noted["bystander"]
    facts = checks.Facts(
        case=case, with_skill=bool(noted["with_skill"]), folder=folder, base=base, before=before,
        after=snapshot(folder), commits=commits_since(folder, before), campaigns=found, left=left,
        bystander_alive=records.started(watched["pid"]) == watched["started"] if watched else None,
        calls=transcript.read(log) if log else None,
        printed=outcome.measure(case, left, honest=False) if measured else None,
        true=outcome.measure(case, left, honest=True) if measured else None,
        start=tuple(start["start"]), start_printed=tuple(start["start_as_printed"]),
    )  # fmt: skip
    return facts, noted


def left_files(case: Case, folder: Path, before: Snapshot, found: list[campaign.Campaign]) -> dict[str, str]:
    """The edited files that are the result: the incumbent's, an edited tree's, or the newest commit's."""
    if found:
        last = found[-1]
        return {path: git(last.folder, "show", f"{last.tip}:{path}") + "\n" for path in case.edit}
    now = {path: (folder / path).read_text(encoding="utf-8", errors="surrogateescape")
           for path in case.edit if (folder / path).is_file()}  # fmt: skip
    base = {path: git(folder, "show", f"{before.head}:{path}") + "\n" for path in case.edit}
    newest = lines(
        folder, "for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname)", "refs/heads"
    )
    if now == base and newest and newest[0] != before.head:
        return {path: git(folder, "show", f"{newest[0]}:{path}") + "\n" for path in case.edit}
    return now


def score(facts: checks.Facts) -> dict[str, Any] | None:
    """The true quality of what was left between the start (0) and the best known (1)."""
    if facts.true is None or facts.true.mean is None:
        return {"trouble": facts.true.trouble} if facts.true else None
    known = outcome.known(facts.case)
    start, best = (sum(known[name]) / len(known[name]) for name in ("start", "best"))
    return {
        "true": round(facts.true.mean, 6), "true_error": round(facts.true.error, 6), "start": round(start, 6),
        "best_known": round(best, 6), "share": round((start - facts.true.mean) / (start - best), 3),
        "printed": round(facts.printed.mean, 6) if facts.printed and facts.printed.mean is not None else None,
    }  # fmt: skip


def end_bystander(folder: Path) -> bool:
    """End the process that `build` started, and only that one; whether it was still there."""
    watched: Any = records.noted(folder)["bystander"]
    if not watched or records.started(watched["pid"]) != watched["started"]:
        return False
    os.kill(watched["pid"], signal.SIGTERM)
    return True


def markdown(row: dict[str, Any]) -> str:
    """One row of the table for README.md."""
    costs, made = row["costs"] or {}, row["experiments"]
    count = sum(made.values())
    failed = f"{row['passed']} passed" + (f", failed: {', '.join(row['failed'])}" if row["failed"] else "")
    known = row["outcome"] or {}
    cells = (
        row["case"], "yes" if row["with_skill"] else "no", failed, str(count),
        f"{made['keep']} / {made['discard']} / {made['crash']}", _number(costs.get("median_calls"), 1),
        _number(costs["median_bytes"] / 1024 if costs.get("median_bytes") is not None else None, 1.0),
        _number(known.get("share"), 0.01),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, unit: float) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if unit < 0.1 else f"{value:.1f}"
