"""The numbers of a record: a run's against its result and its log, a verdict's against its runs."""

from __future__ import annotations

import json
import math

from lab.campaign import Lab
from lab.metrics import Scanner, combine, read_metrics_json
from lab.model import Record, Run, State
from lab.spec import is_plain_file
from lab.verify.found import Findings


def check_number(lab: Lab, state: State, line: int, record: Record, found: Findings) -> None:
    """The number of a run against its result and its log, the number of a verdict against its runs."""
    event = record["event"]
    if event == "run_ended":
        name = str(record["run"]).split(".")[0]
        place: object = state.confirmations.get(name) or state.studies.get(name)
        runs = place.runs if place else state.experiments[str(record["experiment"])].runs  # type: ignore[attr-defined]
        _run(lab, next(r for r in runs if r.id == record["run"]), line, found)
    elif event == "verdict":
        experiment = state.experiments[str(record["experiment"])]
        numbers = [r.metric for r in experiment.good_runs[experiment.fresh_from :] if r.metric is not None]
        wanted = sum(numbers) / len(numbers) if numbers and experiment.verdict != "crash" else None
        if not _same(wanted, experiment.metric):
            text = f"its verdict says {experiment.metric}, its runs give {wanted}"
            found.add(line, experiment.id, text)


def _run(lab: Lab, run: Run, line: int, found: Findings) -> None:
    folder = lab.run_dir(run)
    try:
        result = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        found.unread += run.counts  # a run that was lost has none; one with a number had
        return
    if result.get("nonce") != run.nonce:
        found.add(line, run.id, "run.json carries another nonce than the run was started with")
    elif not _same(result.get("metric"), run.metric):
        found.add(line, run.id, f"the journal says {run.metric}, run.json says {result.get('metric')}")
    elif run.counts:
        # A process of its own has scored the run; what the program printed is then only its own word.
        sealed = result.get("level") not in (None, "", "L0")
        _log(lab, run, line, result.get("own_metric") if sealed else run.metric, found)


def _log(lab: Lab, run: Run, line: int, told: object, found: Findings) -> None:
    """Read again what the run printed, and compare it with what was `told` of that."""
    settings, folder = lab.settings, lab.run_dir(run)
    scanner = Scanner(settings.metric, settings.take, settings.pattern)
    try:
        with (folder / "run.log").open("rb") as log:
            while piece := log.read(1 << 20):
                scanner.feed(piece)
    except OSError:
        found.unread += 1
        return
    reading = scanner.close()
    written = folder / "metrics.json"
    beside = read_metrics_json(written, settings.metric) if is_plain_file(written) else None
    seen = combine(reading, beside).value if beside else reading.value
    if seen is None or told is None:
        found.unread += 1  # a file in the export had it, or the middle of a long log was cut
        return
    found.reread += 1
    if not _same(seen, told):
        found.add(line, run.id, f"the journal says {told}, its log says {seen}")


def _same(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-300)
    return one is None and other is None
