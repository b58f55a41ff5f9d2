"""A study in words and as JSON: what `ablate`, `isolate`, `status` and the morning page say of it."""

from __future__ import annotations

from lab.model import Record, Run, Study
from lab.redact import one_line

TITLES = {"ablate": "keeps taken out of {} one by one", "isolate": "switches of {}, alone and together"}
UNSURE = "not measured"


def title(study: Study) -> str:
    """What is measured, in a few words."""
    return TITLES[study.kind].format(study.experiment)


def rounds_done(study: Study) -> int:
    """Rounds that are over: all but the last one, while it goes on."""
    begun = {run.pair for run in study.runs if run.pair is not None}
    return len(begun) if study.verdict else max(0, len(begun) - 1)


def line(study: Study) -> str:
    """One line for `status`."""
    if study.verdict:
        words = ", ".join(f"{row['of']} {row['verdict']}" for row in study.rows[:6])
        return f"{study.kind} {study.id}: {words}"
    return f"{study.kind} {study.id} under way: {progress(study)}"


def progress(study: Study) -> str:
    """How far it is."""
    counted = sum(run.counts for run in study.runs)
    return f"{rounds_done(study)} of at most {study.pairs} rounds, {counted} of {study.most_runs} runs"


def lines(study: Study) -> list[str]:
    """Everything the verb says: a row for each keep or switch."""
    if not study.verdict:
        run = study.open_run
        at = f", run {run.id} ({run.side}, seed {run.seed})" if run else ""
        return [f"{study.id} MEASURING  {title(study)}: {progress(study)}{at}"]
    runs = sum(run.counts for run in study.runs)
    head = f"{study.id} DONE  {title(study)}: {runs} runs on {rounds_done(study)} fresh seeds"
    told = [head, *(row_line(study, row) for row in study.rows)]
    told += [f"cut short {study.cut}"] if study.cut else []
    return told


def row_line(study: Study, row: Record) -> str:
    """One keep or switch with its figures, the verdict first."""
    name = str(row["of"] if study.kind == "ablate" else row["name"])
    if row["interval"] is None:
        return f"  {name}: {str(row['verdict']).upper()}: {row['trouble']}"
    words = one_line(str(row["words"]), 60)
    return f"  {name}: {str(row['verdict']).upper()}, {effect_words(study, row)} ({words})"


def effect_words(study: Study, row: Record) -> str:
    """The figures of a row."""
    interval, gain = row["interval"], row.get("gain")
    assert isinstance(interval, list)
    now = f"{row['effect']:+.4g} ({interval[0]:+.4g} to {interval[1]:+.4g}, {row['n']} seeds)"
    if study.kind == "ablate":
        then = f"{gain:+.4g} when kept, " if isinstance(gain, int | float) else ""
        return f"worth {then}{now} now"
    return f"{'among the others' if row['against'] != 'default' else 'alone'} {now}"


def as_json(study: Study) -> Record:
    """The fields of `ablate` and `isolate`."""
    return {
        "study": study.id,
        "kind": study.kind,
        "experiment": study.experiment,
        "status": "done" if study.verdict else "running" if study.open_run else "queued",
        "rows": study.rows,
        "rounds": {"done": rounds_done(study), "planned": study.pairs, "looks": study.looks},
        "most_runs": study.most_runs,
        "cut": study.cut or None,
        "runs": [_run(run) for run in study.runs],
    }


def _run(run: Run) -> Record:
    return {**run.as_json(), "arm": run.side, "round": run.pair}
