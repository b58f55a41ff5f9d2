"""What the tool knows, part by part: the figures of every document, read from the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab import ideas, memory, probing, proof, suggestions, weighed, weights
from lab.agenda import ordered
from lab.campaign import Lab
from lab.model import Experiment, Record, Study
from lab.report.figures import plural, said, span
from lab.report.markdown import plain, table
from lab.report.material import Row
from lab.report.story import Story
from lab.settings import FILE_NAME

ROWS = 60  # of a table: a page that nobody reads to its end helps nobody
NEXT = 3


@dataclass(frozen=True)
class Facts:
    """What the parts are made of; `experiment` only for a journal entry."""

    lab: Lab
    story: Story
    experiment: Experiment | None = None


def _text(text: str, limit: int = 300) -> str:
    return plain(said(text, limit))


def _bullets(rows: Sequence[str], none: str) -> list[str]:
    return [f"- {row}" for row in rows] or [none]


# -- where it stands -----------------------------------------------------------------------------------


def _goal(facts: Facts) -> list[str]:
    settings, state = facts.lab.settings, facts.lab.state
    ends = [f"{settings.max_experiments} experiments"] if settings.max_experiments else []
    ends += [f"{settings.max_hours:g} hours"] if settings.max_hours else []
    return [
        f"- metric: {_text(settings.aim)}",
        f"- command: `{said(settings.command, 200).replace('`', chr(39))}`, {settings.seconds:g} s a run",
        f"- edited: {_text(', '.join(settings.edit))}; protected: "
        f"{_text(', '.join(settings.protect)) or 'nothing'}",
        f"- budget: {' or '.join(ends) or 'no end was set'}; branch `{state.branch}`",
    ]


def _best(facts: Facts) -> list[str]:
    story = facts.story
    lines = [f"**{plain(story.title)}**", "", *(f"- {plain(text)}" for text in story.belief.grounds)]
    for name, row in (("baseline", story.m.baseline), ("best", story.m.best)):
        if row:
            value = story.m.figures.value(row.e.metric)
            lines.append(f"- {name}: {row.id} ({row.e.commit[:7]}), {value}, {_text(row.e.hypothesis, 100)}")
    return lines


def _counts(facts: Facts) -> list[str]:
    m = facts.story.m
    kept, dropped, crashed = len(m.kept), len(m.discards), len(m.crashes)
    taken = sum(row.seconds for row in m.rows)
    return [
        f"{plural(len(m.tried), 'experiment')}: {kept} kept, {dropped} discarded, {crashed} crashed; "
        f"{span(taken)} of training. {plain(facts.story.outlook)}".rstrip()
    ]


def _open(facts: Facts) -> list[str]:
    state = facts.lab.state
    rows = [f"{e.id} ({e.status}): {_text(e.hypothesis, 120)}" for e in state.open()]
    waiting = dict.fromkeys(run.request for _, run in state.handed())
    rows += [f"{name}, handed out {state.requests[name]['at'][:16].replace('T', ' ')}" for name in waiting]
    rows += [_text(proof.line(state, state.confirming))] if state.confirming else []
    rows += [_text(weighed.line(state.studying))] if state.studying else []
    return _bullets(rows, "Nothing is open.")


def _said(facts: Facts) -> list[str]:
    """What the user said in between, and answered at checkpoints, in their words."""
    state = facts.lab.state
    rows = [(r["at"], f"{r['remark']}{', handled' if r['done'] else ''}", r["text"]) for r in state.remarks]
    rows += [(c["answered"], c["checkpoint"], c["answer"]) for c in state.checkpoints if c["answer"]]
    rows = [(str(at)[:16].replace("T", " "), name, _text(str(text), 300)) for at, name, text in sorted(rows)]
    told = [f"{at} {name}: {text}" for at, name, text in rows]
    return _bullets(told, "Nothing yet: `note` takes it down.")


def _age(facts: Facts) -> list[str]:
    state = facts.lab.state
    at = f"journal record {state.seq}, {facts.story.m.beside.now[:16].replace('T', ' ')}"
    return [f"From {at}; best {state.incumbent_id or 'none yet'}."]


# -- what was tried ------------------------------------------------------------------------------------


def _experiments(facts: Facts, rows: Sequence[Row], none: str) -> list[str]:
    story = facts.story
    if not rows:
        return [none]
    shown = [
        (r.id, story.m.figures.value(r.e.metric), story.evidence_words(r), r.e.commit[:7], r.words(160))
        for r in rows[:ROWS]
    ]
    more = [f"and {len(rows) - ROWS} more: `log`"] if len(rows) > ROWS else []
    return [*table(("id", story.m.settings.metric, "gain and evidence", "commit", "change"), shown), *more]


def _worked(facts: Facts) -> list[str]:
    return _experiments(facts, facts.story.worked, "Nothing was kept.")


def _failed(facts: Facts) -> list[str]:
    story = facts.story
    lines = _experiments(facts, story.near, "No discard looked better than the best at that time.")
    rows = [(f.kind, str(len(f.ids)), " ".join(f.ids[:6]), f.cause, f.line) for f in story.failures]
    if rows:
        lines += ["", *table(("crash", "count", "which", "likely cause", "evidence"), rows)]
    return [*lines, "", plain(story.dropped)]


def _confirmation(facts: Facts) -> list[str]:
    return [line for line in proof.section(facts.lab.state) if not line.startswith("## ")]


def _threats(facts: Facts) -> list[str]:
    doubts = [check for check in facts.story.checks if check.ok is not True]
    words = {False: "look", None: "open"}
    return _bullets(
        [f"{words[check.ok]}: **{plain(check.name)}**: {plain(check.text)}" for check in doubts],
        "Every check of the morning page passed.",
    )


def _method(facts: Facts) -> list[str]:
    m, settings = facts.story.m, facts.lab.settings
    sigma = m.beside.sigma
    noise = (
        f"{sigma:.2g} (one sd, {plural(m.beside.sigma_runs, 'run')})" if sigma is not None else "not known"
    )
    seeds = (
        "the same seeds for both sides" if settings.seeded else "no seed can be set: repeats differ by chance"
    )
    return [
        *_goal(facts),
        f"- noise between runs: {noise}; {seeds}",
        "- a change is kept when what is to be believed of its gain is worth its price "
        f"(decision mode {settings.decision_mode})",
    ]


def _baseline(facts: Facts) -> list[str]:
    row = facts.story.m.baseline
    return [f"{row.id}: {plain(said(row.e.reason, 300))}"] if row else ["Not measured yet."]


# -- one experiment ------------------------------------------------------------------------------------


def _entry(facts: Facts) -> list[str]:
    e = facts.experiment
    if e is None:
        return ["No experiment was named."]
    words = {"hypothesis": e.hypothesis, "because": e.because, "expected": e.expect, "arguments": e.args}
    lines = [f"- {name}: {_text(text, 500)}" for name, text in words.items() if text]
    changed = ", ".join(e.files) or "nothing"
    return [*lines, f"- changed: {_text(changed)} (+{e.added} -{e.removed} lines), commit `{e.commit[:12]}`"]


def _result(facts: Facts) -> list[str]:
    e, m = facts.experiment, facts.story.m
    if e is None:
        return ["No experiment was named."]
    lines = [f"**{(e.verdict or e.status).upper()}**: {_text(e.reason, 600) or 'no verdict yet'}"]
    rows = [
        (
            run.id,
            str(run.seed),
            m.figures.value(run.metric),
            f"{run.seconds or 0:.1f}",
            run.outcome or "running",
        )
        for run in e.runs
    ]
    head = ("run", "seed", m.settings.metric, "seconds", "outcome")
    lines += ["", *table(head, rows)] if rows else []
    return lines + [f"- look at: {_text(flag)}" for flag in (*e.flags, *e.touches)]


# -- parts of a result ---------------------------------------------------------------------------------


def _ablations(facts: Facts) -> list[str]:
    done = [study for study in facts.lab.state.studies.values() if study.verdict]
    lines: list[str] = []
    for study in done[-4:]:
        lines += ["", f"{study.id}, {weighed.title(study)}:", "", *_study(study)]
    return lines[1:] or ["No keep was taken out alone yet: `ablate`."]


def _study(study: Study) -> list[str]:
    return table(
        ("keep or switch", "verdict", "figures", "what it is"),
        [(str(row["name"]), str(row["verdict"]), _figures(study, row), said(str(row["words"]), 120))
         for row in study.rows],
    )  # fmt: skip


def _figures(study: Study, row: Record) -> str:
    return weighed.effect_words(study, row) if row["interval"] else said(str(row["trouble"]), 160)


ON, OFF, OPEN = "on", "off", "open"
ADVICE = {weights.CARRIES: ON, weights.SHORTER: ON, weights.HELPS: ON, weights.NOT_NEEDED: OFF,
          weights.HURTS: OFF, weights.NO_EFFECT: OFF}  # fmt: skip


def _advice(facts: Facts, kind: str, none: str) -> list[str]:
    study = suggestions.latest(facts.lab.state, kind)
    if study is None:
        return [none]
    rows = [
        (str(row["of"]), ADVICE.get(str(row["verdict"]), OPEN), str(row["verdict"]), _figures(study, row),
         said(str(row["words"]), 120))
        for row in study.rows
    ]  # fmt: skip
    head = ("what", "have it", "because it", "measured", "which is")
    return [*table(head, rows), "", f"Measured in {study.id} on {weighed.rounds_done(study)} fresh seeds."]


def _keeps_advice(facts: Facts) -> list[str]:
    untested = [row for row in facts.story.m.kept]
    none = "The keeps of the present best were not taken out one by one: `ablate`."
    return _advice(facts, "ablate", none) if untested else ["Nothing was kept yet."]


def _switches_advice(facts: Facts) -> list[str]:
    return _advice(facts, "isolate", "No switch was measured on the present best: `isolate`.")


# -- ideas, memory, measurement ------------------------------------------------------------------------


def _next_ideas(facts: Facts) -> list[str]:
    queue = ordered(ideas.agenda(facts.lab.root), facts.lab.state)[:NEXT]
    return _bullets([f"{i.id} ({i.source}): {_text(i.text, 160)}" for i in queue], "The agenda is empty.")


def _agenda(facts: Facts) -> list[str]:
    known = ideas.agenda(facts.lab.root)
    rows = [
        (i.id, i.text, f"{i.score:.1f}" if i.scored else "not scored", i.state.lower().replace("_", " "),
         ", ".join(i.results[-3:]) or i.reason, i.source)
        for i in known[:ROWS]
    ]  # fmt: skip
    head = ("id", "idea", "score", "state", "what came out, or why not", "from")
    return table(head, rows) if rows else ["The agenda is empty: `ideas add`."]


def _sources(facts: Facts) -> list[str]:
    found = [idea for idea in ideas.agenda(facts.lab.root) if idea.source == "paper"]
    rows = [(i.origin or "-", i.text, i.because, ", ".join(i.results[-2:]) or i.state.lower()) for i in found]
    none = 'No idea has come from a paper yet: `papers "FEW WORDS"`, then `--idea N --text T`.'
    return table(("source", "idea it gave", "because", "what came of it"), rows) if rows else [none]


def _kept_in_memory(kind: str, none: str) -> Callable[[Facts], list[str]]:
    def part(facts: Facts) -> list[str]:
        known = [e for e in memory.entries(facts.lab.root) if e.kind == kind and e.state in (None, "holds")]
        return _bullets(
            [f"{e.date} {_text(e.title)} ({e.source or e.file})".strip() for e in known[-8:]], none
        )

    return part


def _measurement(facts: Facts) -> list[str]:
    found = probing.kept(facts.lab)
    if found is None:
        return ["The ruler was not tested: `verify-metric`."]
    lines = [_text(line.strip()) for line in probing.verify_lines(found)]
    return [f"{lines[0]} ({str(found.get('at', ''))[:16]})", *(f"- {line}" for line in lines[1:])]


def _costs(facts: Facts) -> list[str]:
    m = facts.story.m
    best = m.best or m.baseline
    if best is None:
        return ["Nothing ran yet."]
    runs = [run for run in best.e.good_runs if run.seconds]
    took = f"{sum(run.seconds or 0 for run in runs) / len(runs):.1f} s a run" if runs else "length unknown"
    memory_gb = f"{best.e.memory_gb:.1f} GB" if best.e.memory_gb is not None else "memory unknown"
    values = {name: value for run in runs[-1:] for name, value in run.values.items()}
    shown = [f"- {_text(name, 40)}: {value:.6g}" for name, value in list(values.items())[:20]]
    return [f"{best.id}: {took}, {memory_gb}; the last run printed:", "", *(shown or ["- nothing else"])]


def _config(facts: Facts) -> list[str]:
    try:
        text = (facts.lab.root / FILE_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"There is no {FILE_NAME}."]
    return [f"    {line}" for line in text.splitlines()[:ROWS]]


PARTS: dict[str, Callable[[Facts], list[str]]] = {
    "ablations": _ablations,
    "age": _age,
    "agenda": _agenda,
    "baseline": _baseline,
    "best": _best,
    "config": _config,
    "confirmation": _confirmation,
    "costs": _costs,
    "counts": _counts,
    "decisions": _kept_in_memory("decision", "None was written down: `remember --kind decision`."),
    "entry": _entry,
    "failed": _failed,
    "goal": _goal,
    "issues": _kept_in_memory("issue", "None was written down."),
    "keeps": _keeps_advice,
    "learned": _kept_in_memory("learning", "Nothing was written down yet: `remember`."),
    "measurement": _measurement,
    "method": _method,
    "next-ideas": _next_ideas,
    "open": _open,
    "result": _result,
    "said": _said,
    "sources": _sources,
    "switches": _switches_advice,
    "threats": _threats,
    "worked": _worked,
}
