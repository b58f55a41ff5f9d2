"""The present in words and tables: results.tsv, `status`, `log`, `show`, the note, the closing report.

Pure text from a `State`; nothing here decides or changes anything but results.tsv.
"""

from __future__ import annotations

import shlex
from itertools import islice
from pathlib import Path

from lab import proof, weighed
from lab.account import account_lines, word_of
from lab.atomic import write_atomic
from lab.model import Experiment, Record, State
from lab.redact import one_line
from lab.settings import Settings

DESCRIPTION_LIMIT = 300
TOUCHES_SHOWN = 5
RUNNING_SHOWN = 8


LEVELS = {
    "L0": "the training's own number",
    "L1": "scored in another process",
    "L2": "scored with the model shut in",
}


def flat(text: str) -> str:
    """The text with every line end as a space: words of a person, not a terminal's progress."""
    return " ".join(text.splitlines())


def description(text: str) -> str:
    """One line that no TSV or CSV reader can trip over: no tab, newline, control sign or double quote."""
    return one_line(flat(text), DESCRIPTION_LIMIT).replace('"', "'").replace("\\", "/").strip() or "-"


def results_tsv(state: State, metric: str) -> str:
    """The five columns of karpathy's notebook; a crash is 0.000000 and 0.0 there, null in the journal."""
    rows = [f"commit\t{metric}\tmemory_gb\tstatus\tdescription"]
    for e in state.experiments.values():
        if e.verdict:
            value, memory = (e.metric or 0.0, e.memory_gb or 0.0) if e.verdict != "crash" else (0.0, 0.0)
            rows.append(
                f"{e.commit[:7]}\t{value:.6f}\t{memory:.1f}\t{e.verdict}\t{description(e.hypothesis)}"
            )
    return "\n".join(rows) + "\n"


def write_results(path: Path, state: State, metric: str) -> None:
    """Rewrite results.tsv from the state, atomically, when it differs."""
    text = results_tsv(state, metric)
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_atomic(path, text)


def note(experiment: Experiment, metric: str) -> str:
    """The git note of a candidate."""
    lines = [f"experiment: {experiment.id}", f"verdict: {experiment.verdict}"]
    if experiment.metric is not None:
        lines.append(f"{metric}: {experiment.metric:.6f}")
    for run in experiment.runs:
        value = f"{run.metric:.6f}" if run.counts else run.outcome
        lines.append(f"run {run.id}: seed {run.seed}, {value}")
    return "\n".join([*lines, f"reason: {experiment.reason}", ""])


def number(value: float | None) -> str:
    """A metric for people: six decimals, or a dash for what is not known."""
    return "-" if value is None else f"{value:.6f}"


def verdict_lines(state: State, e: Experiment, metric: str) -> list[str]:
    """What `try` and `wait` print: the verdict first."""
    if not e.verdict:
        return [_going(e), f"hypothesis: {one_line(flat(e.hypothesis), 160)}"]
    lines = [f"{e.id} {e.verdict.upper()}  {metric} {number(e.metric)}  {e.reason}"]
    if state.incumbent and state.incumbent is not e:
        best = state.incumbent
        lines.append(f"incumbent: {best.id} {metric} {number(best.metric)} ({best.commit[:7]})")
    lines += [f"measured: {measured}"] if (measured := how_measured(e)) else []
    lines += [f"conflict: {place}" for place in e.clash]
    lines += [f"look twice: {flag}" for flag in (*e.flags, *e.touches[:TOUCHES_SHOWN])]
    if e.left_out:
        lines.append(f"not part of it: {', '.join(e.left_out)} (changed in the working tree, outside edit:)")
    return lines


def how_measured(e: Experiment) -> str:
    """The weakest level among an experiment's runs, and their sandboxes; "" where nobody wrote it down."""
    runs = [run for run in e.good_runs or e.runs[-1:] if run.level]
    if not runs:
        return ""
    level = min(run.level for run in runs)
    away = sorted({run.machine or "a machine nobody named" for run in runs if run.request})
    where = f"; brought back from {', '.join(away)}" if away else ""
    boxes = ", ".join(sorted({run.sandbox or "none" for run in runs}))
    return f"{level} ({LEVELS[level]}), sandbox {boxes}{where}"


def _going(e: Experiment) -> str:
    if e.handed:
        names = ", ".join(dict.fromkeys(run.request for run in e.handed))
        return f"{e.id} HANDED OUT  {names}: {', '.join(run.id for run in e.handed)} to come back"
    if e.open_run:
        done = len(e.good_runs)
        return f"{e.id} RUNNING  run {e.open_run.id}, seed {e.open_run.seed}" + (
            f", {done} done" if done else ""
        )
    return f"{e.id} QUEUED"


def experiment_json(state: State, e: Experiment) -> Record:
    """The fields the contract promises for `try`, `wait` and `show`."""
    incumbent = state.incumbent
    crash = e.fatal_run if e.verdict == "crash" else None
    return {
        "experiment": e.id,
        "status": e.status,
        "verdict": e.verdict,
        "reason": e.reason,
        "metric": e.metric,
        "incumbent": incumbent
        and {"experiment": incumbent.id, "commit": incumbent.commit, "metric": incumbent.metric},
        "commit": e.commit,
        "parent": e.parent,
        "memory_gb": e.memory_gb,
        "runs": [run.as_json() for run in e.runs],
        "hypothesis": e.hypothesis,
        "added": e.added,
        "removed": e.removed,
        "gain": e.gain,
        "shrunken": e.shrunken,
        "interval": e.interval,
        "p": e.p,
        "price": e.price,
        "sigma": e.sigma,
        "flags": [*e.flags, *e.touches],
        "combines": e.combines,
        "continued_as": e.continued_as or None,
        "clash": e.clash,
        "level": min((run.level for run in e.good_runs if run.level), default=None),
        "crash": crash and {"kind": crash.kind, "line": crash.line, "where": crash.where},
    }


def status_lines(state: State, settings: Settings, facts: Record) -> list[str]:
    """`status`: what a fresh session must know, in at most 30 lines."""
    counts = state.counts()
    lines = [
        f"campaign {state.tag}  branch {state.branch}  {settings.aim}"
        + ("  FINISHED" if state.finished else "  STOPPED" if state.stopped else ""),
        f"edit {', '.join(settings.edit)}; protected {', '.join(settings.protect) or 'nothing'}; "
        f"{settings.seconds:g} s a run",
    ]
    if state.incumbent:
        lines.append(f"incumbent {_place(state.incumbent)}")
    if state.baseline and state.baseline is not state.incumbent:
        lines.append(f"baseline  {_place(state.baseline)}")
    lines.append(
        f"{counts['keep']} keep (with the baseline), {counts['discard']} discard, {counts['crash']} crash, "
        f"{counts['open']} open{_of_budget(state, settings)}"
    )
    lines.append(_noise_line(facts))
    belief = facts.get("belief")
    lines += account_lines(belief) if isinstance(belief, dict) else []
    lines += [proof.line(state, c) for c in list(state.confirmations.values())[-2:]]
    lines += [weighed.line(study) for study in list(state.studies.values())[-1:]]
    if state.stopped:
        lines.append(f"stopped: {state.stopped}")
    lines += [_running_line(run) for run in _rows(facts, "running")[:RUNNING_SHOWN]]
    lines += _slots_lines(facts)
    if facts["queued"]:
        lines.append(f"queued: {', '.join(list(facts['queued'])[:10])}")  # type: ignore[call-overload]
    recent = reversed([*islice((e for e in state.lately() if e.verdict), 6)])
    lines += [
        f"  {e.id} {e.verdict:<8} {number(e.metric):>10}  {one_line(flat(e.hypothesis), 80)}" for e in recent
    ]
    for name in ("requests", "remarks", "memory", "ideas"):
        lines += [str(line) for line in _rows(facts, name, "text")]
    lines += [f"note: {notice}" for notice in list(facts["notices"])[:5]]  # type: ignore[call-overload]
    return [*lines[:28], f"next: {facts['next']}"]


def _of_budget(state: State, settings: Settings) -> str:
    if not settings.max_experiments:
        return ""
    return f"; {max(0, len(state.experiments) - 1)} of {settings.max_experiments} experiments used"


def _place(e: Experiment) -> str:
    return f"{e.id} {number(e.metric)} ({e.commit[:7]}) {one_line(flat(e.hypothesis), 70)}"


def _rows(facts: Record, *names: str) -> list[Record]:
    rows: object = facts
    for name in names:
        assert isinstance(rows, dict)
        rows = rows[name]
    assert isinstance(rows, list)
    return rows


def _noise_line(facts: Record) -> str:
    known = facts["noise"]
    assert isinstance(known, dict)
    if known["sigma"] is None:
        return "noise between runs: not measured"
    return f"noise between runs: {known['sigma']:.3g} (one sd, {known['n']} runs)"


def _slots_lines(facts: Record) -> list[str]:
    """How many slots are free; nothing where there is one and nothing is queued."""
    found = facts["slots"]
    assert isinstance(found, dict)
    moved = f"; process {found['mover']} starts what is queued" if found["mover"] else ""
    return [f"slots: {found['free']} of {found['total']} free{moved}"] if found["total"] > 1 or moved else []


def _running_line(run: Record) -> str:
    beat = run.get("heartbeat")
    if run.get("waits_for"):
        return f"queued {run['id']} (seed {run['seed']}): waits for {one_line(str(run['waits_for']), 160)}"
    if not isinstance(beat, dict):
        return f"running {run['id']} (seed {run['seed']})"
    return (
        f"running {run['id']} (seed {run['seed']}) {beat.get('elapsed', 0):.0f} s  "
        f"| {one_line(str(beat.get('last_line', '')), 100)}"
    )


def table(state: State, metric: str, count: int) -> list[str]:
    """The last `count` experiments, one line each, oldest first."""
    rows = list(state.experiments.values())
    lines = [f"{'id':<5} {metric:>12} {'gain':>10} {'GB':>5} {'verdict':<8} hypothesis"]
    for e in rows[-count:]:
        memory = "-" if e.memory_gb is None else f"{e.memory_gb:.1f}"
        gain = "-" if e.gain is None else f"{e.gain:+.6f}"
        facts = f"{e.id:<5} {number(e.metric):>12} {gain:>10} {memory:>5} {e.verdict or e.status:<8}"
        lines.append(f"{facts} {one_line(flat(e.hypothesis), 70)}")
    if len(rows) > count:
        lines.insert(1, f"... {len(rows) - count} earlier ones: log -n {len(rows)}, or results.tsv")
    return lines


def details(state: State, e: Experiment, metric: str, run_folder: Path) -> list[str]:
    """Everything about one experiment that fits a screen."""
    lines = verdict_lines(state, e, metric)
    lines += [
        f"hypothesis: {one_line(flat(e.hypothesis), 300)}",
        *(f"{name}: {one_line(flat(text), 300)}" for name, text in _words(e) if text),
        f"commit {e.commit[:12]} on {e.parent[:12]}, {e.added} lines added, {e.removed} removed"
        + (f" in {', '.join(e.files[:5])}" if e.files else ""),
    ]
    if e.shrunken is not None and e.interval and e.p is not None:
        lines.append(
            f"gain {number(e.gain)} measured, {e.shrunken:+.6f} to be believed "
            f"({e.interval[0]:+.6f} to {e.interval[1]:+.6f}), P {e.p:.3f}"
            + (f": {word_of(e)}" if e.verdict == "keep" else "")
        )
    for run in e.runs:
        seconds = "-" if run.seconds is None else f"{run.seconds:.1f} s"
        lines.append(
            f"run {run.id}  seed {run.seed}  {number(run.metric)}  {seconds}  {run.outcome or 'running'}"
        )
    if e.runs:
        lines.append(f"log: {run_folder / e.runs[-1].id / 'run.log'}")
    return lines


def _words(e: Experiment) -> list[tuple[str, str]]:
    return [
        ("because", e.because),
        ("expected", e.expect),
        ("args", e.args),
        ("idea", e.idea),
        ("retry of", e.retry_of),
    ]


def near_misses(state: State, goal: str) -> str:
    """One line on the discards that look better than the incumbent, or ""."""
    rows = [f"{e.id} {number(e.metric)} ({len(e.good_runs)} runs)" for e in state.better_discards(goal)]
    if not rows:
        return ""
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    return f"better numbers not shown beyond the noise: {', '.join(rows[:4])}{more}"


def merge_hint(state: State) -> list[str]:
    """How a person takes the keeps over; nothing where there is none."""
    if state.incumbent_commit == state.base:
        return []
    return [
        f"look:  git log --oneline {state.base[:12]}..{state.branch}",
        f"take:  git merge {shlex.quote(state.branch)}   (on the branch you want it in)",
    ]
