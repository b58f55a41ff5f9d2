"""Some rows measured again: the same commit, arguments and seed, beside every decision.

The plan is a file, written before the first run starts, so that a call that was cut or that waited long
enough is taken up by the next one. These runs (`v1.1`, ...) are no evidence; the journal gets one record.
"""

from __future__ import annotations

import json
import math
import random
import secrets
import shutil
import time
from collections.abc import Iterable

from lab.atomic import sweep, write_atomic
from lab.campaign import Lab, measured_noise
from lab.errors import LabError
from lab.launch import start_unclaimed, starting
from lab.model import Experiment, Record, Run, State
from lab.redact import one_line
from lab.steps import step

PLAN = "verify.json"
WITHIN = 3.0  # standard deviations of a difference of two runs
POLL_SECONDS = 0.05


def measure_again(lab: Lab, count: int, seconds: float) -> Record | None:
    """Measure `count` random rows again, or go on with those begun; None when the time ended first.

    The caller holds the agent lock. Raises `LabError` when an experiment is at work or nothing has run yet.
    """
    plan = _plan(lab) or _begin(lab, count)
    end = time.monotonic() + seconds
    rows = []
    for row in _rows(plan):
        done = _follow(lab, row, end)
        if done is None:
            return None
        rows.append(done)
    return _close(lab, plan, rows)


def _plan(lab: Lab) -> Record | None:
    try:
        plan = json.loads((lab.home / PLAN).read_bytes())
    except (OSError, ValueError):
        return None
    return plan if isinstance(plan, dict) else None


def _begin(lab: Lab, count: int) -> Record:
    state = lab.read()
    if state.at_work() or any(True for _ in state.open()):
        raise LabError("an experiment is at work", "`wait` for it, then verify")
    rows = [e for e in state.experiments.values() if e.verdict and e.good_runs]
    if not rows:
        raise LabError("no row has a number yet", "`baseline` measures the first")
    number = next(n for n in range(1, 1 << 30) if not (lab.home / "runs" / f"v{n}.1").exists())
    chosen = random.SystemRandom().sample(rows, min(count, len(rows)))
    plan: Record = {
        "verification": f"v{number}",
        "rows": [
            {
                "run": f"v{number}.{place}",
                "of": e.good_runs[0].id,
                "experiment": e.id,
                "nonce": secrets.token_hex(8),
            }
            for place, e in enumerate(sorted(chosen, key=lambda e: e.number), 1)
        ],
    }
    step("verify.plan.before")
    write_atomic(lab.home / PLAN, json.dumps(plan))
    step("verify.plan.after")
    return plan


def _rows(plan: Record) -> Iterable[dict[str, str]]:
    rows = plan["rows"]
    assert isinstance(rows, list)
    return rows


def _follow(lab: Lab, row: dict[str, str], end: float) -> Record | None:
    """The outcome of one row's run, started when it is not; None when the time ended first."""
    state = lab.state if lab.state.tag else lab.read()
    experiment = state.experiments[row["experiment"]]
    before = next(r for r in experiment.runs if r.id == row["of"])
    run = Run(id=row["run"], seed=before.seed, nonce=row["nonce"], commit=before.commit)
    folder = lab.run_dir(run)
    while (seen := lab.runner.poll(folder)) != "done":
        if seen == "lost":
            lab.runner.reap(folder)
            return _row(state, experiment, before, None, "its supervisor was killed")
        if seen == "absent" and not starting(lab, run):
            start_unclaimed(lab, experiment, run)
        if time.monotonic() >= end:
            return None
        time.sleep(POLL_SECONDS)
    result = json.loads((folder / "run.json").read_bytes())
    good = result["outcome"] == "ok" and not result.get("problem")
    metric = result.get("metric") if good else None
    said = str(result.get("detail") or result["outcome"])
    return _row(state, experiment, before, metric, "" if metric is not None else one_line(said, 200))


def _row(state: State, e: Experiment, before: Run, metric: float | None, trouble: str) -> Record:
    """One row for people and for JSON: what was, what is, and whether the noise explains the difference."""
    sigma = measured_noise(state, e.metric).sigma or 0.0
    reach = WITHIN * math.sqrt(2) * sigma
    assert before.metric is not None
    apart = None if metric is None else metric - before.metric
    # Without any noise two runs are equal; one last digit may differ where the number was printed.
    within = apart is not None and abs(apart) <= max(reach, 1e-9 * abs(before.metric))
    return {
        "experiment": e.id,
        "run": before.id,
        "seed": before.seed,
        "was": before.metric,
        "is": metric,
        "reach": reach,
        "within": within,
        "trouble": trouble,
    }


def _close(lab: Lab, plan: Record, rows: list[Record]) -> Record:
    """Journal what came out, once, then clear away what it took."""
    with lab.changing("verify") as state:
        if state.verified.get("verification") != plan["verification"]:
            lab.journal.append("verified", verification=plan["verification"], rows=rows)
        step("verify.known")
    for row in _rows(plan):
        shutil.rmtree(lab.home / "worktrees" / row["run"], ignore_errors=True)
        sweep(lab.home / "runs" / row["run"])
    (lab.home / PLAN).unlink(missing_ok=True)
    return {"verification": plan["verification"], "rows": rows}
