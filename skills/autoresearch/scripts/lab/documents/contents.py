"""What the tool knows, part by part: the figures of every document, read from the journal."""

from __future__ import annotations

from collections.abc import Callable

from lab import ideas, memory, probing, suggestions, weighed, weights
from lab.agenda import ordered
from lab.documents import tried
from lab.documents.tried import ROWS, Facts, bullets, text_of
from lab.model import Record, Study
from lab.report.figures import said
from lab.report.markdown import table
from lab.settings import FILE_NAME

NEXT = 3


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
    return bullets([f"{i.id} ({i.source}): {text_of(i.text, 160)}" for i in queue], "The agenda is empty.")


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
        return bullets(
            [f"{e.date} {text_of(e.title)} ({e.source or e.file})".strip() for e in known[-8:]], none
        )

    return part


def _measurement(facts: Facts) -> list[str]:
    found = probing.kept(facts.lab)
    if found is None:
        return ["The ruler was not tested: `verify-metric`."]
    lines = [text_of(line.strip()) for line in probing.verify_lines(found)]
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
    shown = [f"- {text_of(name, 40)}: {value:.6g}" for name, value in list(values.items())[:20]]
    return [f"{best.id}: {took}, {memory_gb}; the last run printed:", "", *(shown or ["- nothing else"])]


def _config(facts: Facts) -> list[str]:
    try:
        text = (facts.lab.root / FILE_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"There is no {FILE_NAME}."]
    return [f"    {line}" for line in text.splitlines()[:ROWS]]


PARTS: dict[str, Callable[[Facts], list[str]]] = {
    "ablations": _ablations,
    "age": tried.age,
    "agenda": _agenda,
    "baseline": tried.baseline,
    "best": tried.best,
    "config": _config,
    "confirmation": tried.confirmation,
    "costs": _costs,
    "counts": tried.counts,
    "decisions": _kept_in_memory("decision", "None was written down: `remember --kind decision`."),
    "entry": tried.entry,
    "failed": tried.failed,
    "goal": tried.goal,
    "issues": _kept_in_memory("issue", "None was written down."),
    "keeps": _keeps_advice,
    "learned": _kept_in_memory("learning", "Nothing was written down yet: `remember`."),
    "measurement": _measurement,
    "method": tried.method,
    "next-ideas": _next_ideas,
    "open": tried.underway,
    "result": tried.result,
    "said": tried.remarks_open,
    "sources": _sources,
    "switches": _switches_advice,
    "threats": tried.threats,
    "worked": tried.worked,
}
