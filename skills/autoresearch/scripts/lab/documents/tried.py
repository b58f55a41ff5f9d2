"""Where a campaign stands and what was tried, as parts of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab import proof, weighed
from lab.campaign import Lab
from lab.model import Experiment
from lab.report.figures import plural, said, span
from lab.report.markdown import plain, table
from lab.report.material import Row
from lab.report.story import Story

ROWS = 60  # of a table: a page that nobody reads to its end helps nobody


@dataclass(frozen=True)
class Facts:
    """What the parts are made of; `experiment` only for a journal entry."""

    lab: Lab
    story: Story
    experiment: Experiment | None = None


def text_of(text: str, limit: int = 300) -> str:
    return plain(said(text, limit))


def bullets(rows: Sequence[str], none: str) -> list[str]:
    return [f"- {row}" for row in rows] or [none]


# -- where it stands -----------------------------------------------------------------------------------


def goal(facts: Facts) -> list[str]:
    settings, state = facts.lab.settings, facts.lab.state
    ends = [f"{settings.max_experiments} experiments"] if settings.max_experiments else []
    ends += [f"{settings.max_hours:g} hours"] if settings.max_hours else []
    return [
        f"- metric: {text_of(settings.aim)}",
        f"- command: `{said(settings.command, 200).replace('`', chr(39))}`, {settings.seconds:g} s a run",
        f"- edited: {text_of(', '.join(settings.edit))}; protected: "
        f"{text_of(', '.join(settings.protect)) or 'nothing'}",
        f"- budget: {' or '.join(ends) or 'no end was set'}; branch `{state.branch}`",
    ]


def best(facts: Facts) -> list[str]:
    story = facts.story
    lines = [f"**{plain(story.title)}**", "", *(f"- {plain(text)}" for text in story.belief.grounds)]
    for name, row in (("baseline", story.m.baseline), ("best", story.m.best)):
        if row:
            value = story.m.figures.value(row.e.metric)
            lines.append(
                f"- {name}: {row.id} ({row.e.commit[:7]}), {value}, {text_of(row.e.hypothesis, 100)}"
            )
    return lines


def counts(facts: Facts) -> list[str]:
    m = facts.story.m
    kept, dropped, crashed = len(m.kept), len(m.discards), len(m.crashes)
    taken = sum(row.seconds for row in m.rows)
    return [
        f"{plural(len(m.tried), 'experiment')}: {kept} kept, {dropped} discarded, {crashed} crashed; "
        f"{span(taken)} of training. {plain(facts.story.outlook)}".rstrip()
    ]


def underway(facts: Facts) -> list[str]:
    state = facts.lab.state
    rows = [f"{e.id} ({e.status}): {text_of(e.hypothesis, 120)}" for e in state.open()]
    waiting = dict.fromkeys(run.request for _, run in state.handed())
    rows += [f"{name}, handed out {state.requests[name]['at'][:16].replace('T', ' ')}" for name in waiting]
    rows += [text_of(proof.line(state, state.confirming))] if state.confirming else []
    rows += [text_of(weighed.line(state.studying))] if state.studying else []
    return bullets(rows, "Nothing is open.")


def remarks_open(facts: Facts) -> list[str]:
    """What the user said in between, and answered at checkpoints, in their words."""
    state = facts.lab.state
    rows = [(r["at"], f"{r['remark']}{', handled' if r['done'] else ''}", r["text"]) for r in state.remarks]
    rows += [(c["answered"], c["checkpoint"], c["answer"]) for c in state.checkpoints if c["answer"]]
    rows = [
        (str(at)[:16].replace("T", " "), name, text_of(str(text), 300)) for at, name, text in sorted(rows)
    ]
    told = [f"{at} {name}: {text}" for at, name, text in rows]
    return bullets(told, "Nothing yet: `note` takes it down.")


def age(facts: Facts) -> list[str]:
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


def worked(facts: Facts) -> list[str]:
    return _experiments(facts, facts.story.worked, "Nothing was kept.")


def failed(facts: Facts) -> list[str]:
    story = facts.story
    lines = _experiments(facts, story.near, "No discard looked better than the best at that time.")
    rows = [(f.kind, str(len(f.ids)), " ".join(f.ids[:6]), f.cause, f.line) for f in story.failures]
    if rows:
        lines += ["", *table(("crash", "count", "which", "likely cause", "evidence"), rows)]
    return [*lines, "", plain(story.dropped)]


def confirmation(facts: Facts) -> list[str]:
    return [line for line in proof.section(facts.lab.state) if not line.startswith("## ")]


def threats(facts: Facts) -> list[str]:
    doubts = [check for check in facts.story.checks if check.ok is not True]
    words = {False: "look", None: "open"}
    return bullets(
        [f"{words[check.ok]}: **{plain(check.name)}**: {plain(check.text)}" for check in doubts],
        "Every check of the morning page passed.",
    )


def method(facts: Facts) -> list[str]:
    m, settings = facts.story.m, facts.lab.settings
    sigma = m.beside.sigma
    noise = (
        f"{sigma:.2g} (one sd, {plural(m.beside.sigma_runs, 'run')})" if sigma is not None else "not known"
    )
    seeds = (
        "the same seeds for both sides" if settings.seeded else "no seed can be set: repeats differ by chance"
    )
    return [
        *goal(facts),
        f"- noise between runs: {noise}; {seeds}",
        "- a change is kept when what is to be believed of its gain is worth its price "
        f"(decision mode {settings.decision_mode})",
    ]


def baseline(facts: Facts) -> list[str]:
    row = facts.story.m.baseline
    return [f"{row.id}: {plain(said(row.e.reason, 300))}"] if row else ["Not measured yet."]


# -- one experiment ------------------------------------------------------------------------------------


def entry(facts: Facts) -> list[str]:
    e = facts.experiment
    if e is None:
        return ["No experiment was named."]
    words = {"hypothesis": e.hypothesis, "because": e.because, "expected": e.expect, "arguments": e.args}
    lines = [f"- {name}: {text_of(text, 500)}" for name, text in words.items() if text]
    changed = ", ".join(e.files) or "nothing"
    return [
        *lines,
        f"- changed: {text_of(changed)} (+{e.added} -{e.removed} lines), commit `{e.commit[:12]}`",
    ]


def result(facts: Facts) -> list[str]:
    e, m = facts.experiment, facts.story.m
    if e is None:
        return ["No experiment was named."]
    lines = [f"**{(e.verdict or e.status).upper()}**: {text_of(e.reason, 600) or 'no verdict yet'}"]
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
    return lines + [f"- look at: {text_of(flag)}" for flag in (*e.flags, *e.touches)]
