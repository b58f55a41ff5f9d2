"""Why an experiment went as it did: its curves read, the checks asked, the causes in words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from lab.atomic import write_atomic
from lab.campaign import Lab, measured_noise
from lab.course import READ, Series, every, from_rows
from lab.diagnose.causes import CAUSES
from lab.diagnose.ranking import Ranked, ranked, signs
from lab.diagnose.seen import Ran, Seen, Sign
from lab.errors import LabError
from lab.model import BASELINE, Experiment, Record, Run, State
from lab.redact import one_line

KEPT = "course.json"  # the curves of a run, thinned: what a diagnosis of its neighbours reads
KEPT_SERIES, KEPT_POINTS = 24, 240
CURVE = "curve.jsonl"
OTHERS = 40  # newest experiments that a check across the campaign looks at
CAUSES_SHOWN = 4


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, what is odd about it, and why it may be so."""

    experiment: Experiment
    seen: Seen
    signs: tuple[Sign, ...]
    causes: tuple[Ranked, ...]


def look(lab: Lab, name: str | None) -> Diagnosis:
    """Diagnose an experiment, the newest one with a run when none is named."""
    state = lab.state
    experiment = state.get(name) if name else _newest(state)
    run = _shown_run(experiment)
    if run is None:
        raise LabError(f"{experiment.id} has no run yet", "`wait` for it, or name another experiment")
    best = _compared(state, experiment)
    against = _shown_run(best, run.seed) if best else None
    others = [e for e in state.experiments.values() if e is not experiment and e.verdict][-OTHERS:]
    seen = Seen(
        _ran(lab, experiment, run, best),
        lab.settings.metric,
        lab.settings.goal,
        _ran(lab, best, against, best) if best and against else None,
        tuple(_ran(lab, e, r, best) for e in others if (r := _shown_run(e, run.seed))),
        measured_noise(state).sigma,
    )
    found = tuple(signs(seen))
    return Diagnosis(experiment, seen, found, tuple(ranked(list(found))))


def _newest(state: State) -> Experiment:
    tried = [e for e in state.experiments.values() if e.runs]
    if not tried:
        raise LabError("nothing has run yet", "`baseline` first")
    return tried[-1]


def _shown_run(experiment: Experiment, seed: int | None = None) -> Run | None:
    """The run that crashed the experiment, else its first good one (of the same seed, if it has one)."""
    if experiment.fatal_run:
        return experiment.fatal_run
    good = experiment.good_runs or [run for run in experiment.runs if run.outcome]
    same = [run for run in good if run.seed == seed]
    return next(iter(same or good or experiment.runs), None)


def _compared(state: State, experiment: Experiment) -> Experiment | None:
    """What it was judged against: the incumbent of that time, else the present one, else the baseline."""
    names = (experiment.against, state.incumbent_id, BASELINE)
    found = (state.experiments.get(name) for name in names if name and name != experiment.id)
    return next((e for e in found if e and e.good_runs), None)


def _ran(lab: Lab, experiment: Experiment, run: Run, best: Experiment | None) -> Ran:
    outcome = "ok" if run.counts else (run.kind or run.outcome or "running")
    return Ran(
        run.id,
        curves(lab.run_dir(run), keep=run.outcome is not None),
        run.metric if run.counts else None,
        outcome,
        one_line(run.line or run.detail, 160),
        run.seed,
        best is not None and (experiment.tree, experiment.args) == (best.tree, best.args),
    )


# -- the curves of a run -------------------------------------------------------------------------------


def curves(folder: Path, keep: bool = False) -> dict[str, Series]:
    """All series of a run: of its log, and of its curve file, which is believed before the log."""
    kept = _kept(folder / KEPT)
    if kept is not None:
        return kept
    found = {**every(_ends_of(folder / "run.log")), **from_rows(_rows(folder / CURVE))}
    if keep and found:
        rows = {name: _row(series) for name, series in list(found.items())[:KEPT_SERIES]}
        write_atomic(folder / KEPT, json.dumps(rows, separators=(",", ":")), durable=False)
    return found


def _row(series: Series) -> list[list[float | str]]:
    thin = series.thin(KEPT_POINTS)
    return [[float(f"{v:.6g}") if math.isfinite(v) else str(v) for v in side] for side in (thin.x, thin.y)]


def _kept(path: Path) -> dict[str, Series] | None:
    try:
        rows = json.loads(path.read_bytes())
        return {
            str(name): Series(tuple(map(float, xs)), tuple(map(float, ys))) for name, (xs, ys) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _ends_of(path: Path) -> bytes:
    """A log, or the two ends of a long one."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= READ:
                return file.read()
            first = file.read(READ // 2)
            file.seek(size - READ // 2)
            return first + b"\n" + file.read(READ // 2)
    except OSError:
        return b""


def _rows(path: Path) -> list[object]:
    try:
        if path.is_symlink() or path.stat().st_size > READ:
            return []
        return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError):
        return []


# -- words ---------------------------------------------------------------------------------------------


def lines(found: Diagnosis) -> list[str]:
    """The symptoms with their figures, then the causes with the cheapest test of each."""
    best = found.seen.best
    beside = f", compared with {best.id}" if best else ", with nothing to compare it with"
    head = f"{found.seen.run.id}{beside}: "
    if not found.signs:
        return [head + "nothing odd in its curves, its end or its place among the others"]
    told = [head + ", ".join(sign.name for sign in found.signs)]
    told += [f"  {sign.name}: {one_line(sign.text, 400)}" for sign in found.signs]
    told.append("causes, likeliest first:")
    for place, cause in enumerate(found.causes[:CAUSES_SHOWN], 1):
        known = CAUSES[cause.cause]
        told.append(f"  {place}. {cause.cause} ({cause.weight:.2f}): {known.means}")
        told.append(f"     test: {known.test}; `{_command(cause.cause, found)}`")
    return told


def _command(cause: str, found: Diagnosis) -> str:
    known = CAUSES[cause]
    return known.command.format(exp=found.experiment.id, test=known.test.split(";")[0])


def as_json(found: Diagnosis) -> Record:
    """The same as fields."""
    return {
        "experiment": found.experiment.id,
        "run": found.seen.run.id,
        "compared_with": found.seen.best.id if found.seen.best else None,
        "symptoms": [{"name": sign.name, "evidence": one_line(sign.text, 400)} for sign in found.signs],
        "causes": [
            {
                "cause": cause.cause,
                "weight": cause.weight,
                "means": CAUSES[cause.cause].means,
                "test": CAUSES[cause.cause].test,
                "command": _command(cause.cause, found),
                "symptoms": list(cause.signs),
            }
            for cause in found.causes[: 2 * CAUSES_SHOWN]
        ],
        "series": sorted(found.seen.run.course)[:KEPT_SERIES],
    }
