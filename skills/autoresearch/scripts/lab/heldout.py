"""A last look at the held-out split: `finish` scores what the baseline and the incumbent once exported.

Where `confirm` has done so for this incumbent, or nothing scores exports, it does nothing. One model of each,
from the loop's first runs of both, so there is no interval: a check that the gain is there at all on what no
decision has seen. Nothing is trained. The look is in the journal, and counted, before it is taken.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from lab.atomic import sweep
from lab.campaign import Lab
from lab.execution import OURS
from lab.launch import start_unclaimed, starting
from lab.model import BASELINE, Experiment, Record, Run, State
from lab.redact import one_line
from lab.sealed import differs
from lab.steps import step

NO_MODEL = OURS | {"metrics.json", "curve.jsonl", "evaluate.log"}
SECONDS = 600.0  # for both sides together
POLL_SECONDS = 0.05


def look(lab: Lab, seconds: float = SECONDS) -> list[str]:
    """Take the look, or go on with one that was cut; what is to be told. The caller holds the agent lock."""
    with lab.changing("finish") as state:
        why = "" if state.heldout else _begin(lab)
        if why or not state.heldout:
            return [why] if why else []
    if "after" not in lab.state.heldout:
        found = _take(lab, time.monotonic() + seconds)
        with lab.changing("finish"):
            lab.journal.append("heldout_scored", **found)
        step("heldout.scored")
        for row in _rows(lab.state):
            sweep(lab.home / "runs" / row["run"])
    return []


def _begin(lab: Lab) -> str:
    """Journal the look that is due; why it cannot be taken, or "" also where none is due."""
    state, settings = lab.state, lab.settings
    incumbent, baseline = state.incumbent, state.experiments.get(BASELINE)
    metric = settings.confirm_metric
    if not (settings.evaluate and metric and incumbent and baseline) or state.at_work() or state.finished:
        return ""
    if incumbent is baseline or _confirmed(state, incumbent):
        return ""
    rows = []
    for number, experiment in enumerate((baseline, incumbent), 1):
        run = exported(lab, experiment)
        if run is None:
            return (
                f"{metric} not scored: {experiment.id} left no model (`confirm` trains again and scores it)"
            )
        row = {"run": f"f1.{number}", "of": run.id, "experiment": experiment.id}
        rows.append(row | {"nonce": secrets.token_hex(8)})
    step("heldout.look.before")
    lab.journal.append("heldout_look", metric=metric, experiment=incumbent.id, base=BASELINE, rows=rows)
    return ""


def _confirmed(state: State, incumbent: Experiment) -> bool:
    """Whether `confirm` has told this commit's number on the held-out split."""
    found = [c for c in state.confirmations.values() if c.commit == incumbent.commit]
    return any(c.heldout and c.told for c in found)


def _rows(state: State) -> list[dict[str, str]]:
    rows = state.heldout["rows"]
    assert isinstance(rows, list)
    return rows


def exported(lab: Lab, experiment: Experiment) -> Run | None:
    """The run whose model is kept: the first good one, if anything but what we write lies beside its log."""
    run = next(iter(experiment.good_runs), None)
    folder = lab.home / "runs" / (run.id if run else "")
    left = run and folder.is_dir() and {entry.name for entry in folder.iterdir()} - NO_MODEL
    return run if left else None


# -- the two runs --------------------------------------------------------------------------------------


def _take(lab: Lab, end: float) -> Record:
    """Score both sides; what is missing stands in `trouble`."""
    values: list[float | None] = []
    trouble = ""
    for row in _rows(lab.state):
        value, why = (None, trouble) if trouble else _score(lab, row, end)
        values.append(value)
        trouble = trouble or (why and f"{row['experiment']}: {why}")
    before, after = values
    gain = None
    if before is not None and after is not None:
        gain = after - before if lab.settings.goal == "max" else before - after
    return {"before": before, "after": after, "gain": gain, "trouble": trouble}


def _score(lab: Lab, row: dict[str, str], end: float) -> tuple[float | None, str]:
    """The held-out number of one side, or why there is none."""
    experiment = lab.state.experiments[row["experiment"]]
    before = next(run for run in experiment.runs if run.id == row["of"])
    run = Run(row["run"], before.seed, row["nonce"], before.commit, role="finish", side=before.id)
    folder = lab.run_dir(run)
    if not _followed(lab, experiment, run, folder, end):
        lab.runner.cancel(folder)
        return None, "its supervisor was killed" if lab.runner.poll(
            folder
        ) == "lost" else "not scored in time"
    result = json.loads((folder / "run.json").read_bytes())
    if result["outcome"] != "ok":
        return None, one_line(str(result.get("detail") or result["outcome"]), 200)
    if differs(result.get("metric"), before.metric):
        return None, f"what {before.id} exported scores {result['metric']:g}, and it was {before.metric:g}"
    value = (result.get("values") or {}).get(str(lab.state.heldout["metric"]))
    return (float(value), "") if isinstance(value, (int, float)) else (None, "the evaluation printed none")


def _followed(lab: Lab, experiment: Experiment, run: Run, folder: Path, end: float) -> bool:
    """Start the run when it is not, and see it to its end; whether it has a result."""
    while (seen := lab.runner.poll(folder)) != "done":
        if seen == "lost":
            lab.runner.reap(folder)
            return False
        if seen == "absent" and not starting(lab, run):
            start_unclaimed(lab, experiment, run)
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True
