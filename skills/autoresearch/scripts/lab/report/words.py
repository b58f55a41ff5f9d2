"""The page's facts as a screenful for `wake`, as Markdown, and as data for programs."""

from __future__ import annotations

from collections.abc import Sequence

from lab import proof
from lab.driving.spending import account_of
from lab.model import Record
from lab.report.figures import said
from lab.report.markdown import plain as _md
from lab.report.markdown import table as _table
from lab.report.material import Row
from lab.report.story import Story
from lab.views import number

WAKE_LINES = 20
LINE = 200  # characters of one line of `wake`
TOP = 3


def wake(s: Story) -> list[str]:
    """Did it work, what to believe, what needs you, what next: at most 20 lines."""
    lines = [
        f"{s.title}",
        f"{s.m.state.tag}: {len(s.m.tried)} experiments, {_took(s)}; {s.present}",
        _believe(s),
    ]
    if s.needs:
        lines += ["needs you:", *(f" {i} {need.reason}:  {need.verb}" for i, need in enumerate(s.needs, 1))]
    else:
        lines.append("needs you: nothing")
    if s.worked:
        lines.append("worked: " + "; ".join(_brief(s, row) for row in s.worked[:TOP]))
    if s.near:
        lines.append("near misses: " + "; ".join(_brief(s, row) for row in s.near[:TOP]))
    lines.append(_failed(s))
    lines += [f"agent: {card.value}, {card.note}" for card in s.cards if card.label == "agent"]
    doubts = [f"{check.name}: {check.text}" for check in s.checks if check.ok is False]
    lines += [f"doubt: {doubt}" for doubt in doubts[:2]]
    lines += [f"learned: {note.text}" for note in s.lessons[:2]]
    lines.append(s.outlook or "Next: nothing")
    lines.append(f"page: {s.m.beside.pages[0]}" if s.m.beside.pages else "page: none yet, `report` makes it")
    return [said(line, LINE) for line in lines[:WAKE_LINES]]


def _took(s: Story) -> str:
    return s.meta[3].split("(", 1)[-1].rstrip(")")


def _believe(s: Story) -> str:
    return " ".join(["believe:", s.belief.head, *s.belief.grounds[:1]])


def _brief(s: Story, row: Row) -> str:
    return f"{row.id} {s.m.figures.change(row.evidence.gain)} {row.words(40)}"


def _failed(s: Story) -> str:
    kinds = ", ".join(f"{failure.kind} {len(failure.ids)}" for failure in s.failures)
    return (
        f"failed: {len(s.m.crashes)} crashed"
        + (f" ({kinds})" if kinds else "")
        + f", {len(s.m.discards)} discarded"
    )


# -- Markdown --------------------------------------------------------------------------------------------


def markdown(s: Story) -> str:
    """The page for a pull request or a mail: the same parts in the same order, without pictures."""
    m = s.m
    lines = [
        f"# {_md(s.title)}",
        "",
        " · ".join(_md(part) for part in s.meta),
        "",
        f"**{_md(s.belief.head)}**",
        "",
    ]
    lines += [f"- {_md(ground)}" for ground in s.belief.grounds]
    lines += ["", *_table(("figure", "value", ""), [(c.label, c.value, c.note) for c in s.cards])]
    lines += ["", "## Needs you", "", *([f"{i}. {_md(n.reason)}: `{n.typed(m.beside.command)}`"
                                          for i, n in enumerate(s.needs, 1)] or ["Nothing."])]  # fmt: skip
    lines += ["", *proof.section(m.state)]
    lines += ["", "## What worked", "", *_rows(s, s.worked), "", "## Near misses", "", *_rows(s, s.near)]
    lines += ["", "## What failed", ""]
    if s.failures:
        lines += [
            *_table(
                ("class", "count", "which", "likely cause", "evidence", "then"),
                [
                    (x.kind, str(len(x.ids)), " ".join(x.ids[:6]), x.cause, f"{x.line} {x.where}", x.after)
                    for x in s.failures
                ],
            ),
            "",
        ]
    lines += [_md(s.dropped), "", "## Can it be trusted?", ""]
    signs = {True: "yes", False: "LOOK", None: "open"}
    lines += _table(("", "check", "what was seen"), [(signs[c.ok], c.name, c.text) for c in s.checks])
    for study in s.shares:
        lines += ["", f"## Which parts carry it? {_md(study.title)}", ""]
        rows = [(p.name, p.verdict, p.figures, p.words) for p in study.parts]
        lines += _table(("part", "verdict", "figures", "which is"), rows)
    lines += ["", "## What was learned", ""]
    lines += [f"- {_md(n.text)}" + (f" ({_md(n.evidence)})" if n.evidence else "") for n in s.lessons] or [
        _md(s.no_lessons)
    ]
    lines += [part for text in (s.foretold, s.ideas) if text for part in ("", _md(text))]
    lines += [
        "",
        "## Next",
        "",
        _md(s.outlook),
        "",
        *(f"- {_md(n.reason)}: `{n.typed(m.beside.command)}`" for n in s.next),
    ]
    lines += ["", "## All experiments", "", *_everything(s)]
    return "\n".join(lines) + "\n"


def _rows(s: Story, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["None."]
    f = s.m.figures
    return _table(
        ("id", s.m.settings.metric, "gain", "evidence", "commit", "hypothesis"),
        [
            (
                row.id,
                f.value(row.e.metric),
                f.change(row.evidence.gain),
                s.evidence_words(row),
                row.e.commit[:7],
                row.words(200),
            )
            for row in rows
        ],
    )


def _everything(s: Story) -> list[str]:
    """Every experiment with its reason; whole six decimals, as results.tsv has them."""
    return _table(("id", "verdict", s.m.settings.metric, "gain", "commit", "hypothesis", "reason"), [
        (row.id, row.e.verdict or row.e.status, number(row.e.metric),
         "" if row.evidence.gain is None else f"{row.evidence.gain:+.6f}", row.e.commit[:7],
         row.words(300), said(row.e.reason, 300))
        for row in s.m.rows
    ])  # fmt: skip


# -- data --------------------------------------------------------------------------------------------------


def brief(s: Story) -> Record:
    """The answer as data: what `wake --json` gives."""
    m = s.m
    return {
        "title": s.title,
        "campaign": m.state.tag,
        "branch": m.state.branch,
        "metric": m.settings.metric,
        "goal": m.settings.goal,
        "present": s.present,
        "seconds": round(s.took, 1),
        "baseline": _place(m.baseline),
        "best": _place(m.best),
        "gain": m.gain,
        "believe": {"sign": s.belief.sign, "head": s.belief.head, "grounds": list(s.belief.grounds)},
        "experiments": {
            "tried": len(m.tried),
            "kept": len(m.kept),
            "discarded": len(m.discards),
            "crashed": len(m.crashes),
            "since_keep": m.since_keep,
        },
        "noise": {"sigma": m.beside.sigma, "n": m.beside.sigma_runs},
        "needs": [{"reason": need.reason, "command": need.verb} for need in s.needs],
        "worked": [_row(row) for row in s.worked[:TOP]],
        "near": [_row(row) for row in s.near[:TOP]],
        "failures": [
            {"kind": x.kind, "count": len(x.ids), "cause": x.cause, "line": x.line, "then": x.after}
            for x in s.failures
        ],
        "agent": _agent(s),
        "next": m.beside.next,
        "pages": list(m.beside.pages),
    }


def data(s: Story) -> Record:
    """Everything the page shows, for programs: report.json."""
    return {
        "schema": 1,
        "made_at": s.m.beside.now,
        **brief(s),
        "cards": [vars(card) for card in s.cards],
        "worked": [_row(row) for row in s.worked],
        "near": [_row(row) for row in s.near],
        "path": [{"experiment": x.row.id, "better": x.total, "tried_on_it": x.tried} for x in s.path],
        "checks": [vars(check) for check in s.checks],
        "shares": [
            {"title": study.title, "parts": [vars(part) for part in study.parts]} for study in s.shares
        ],
        "lessons": [vars(note) for note in s.lessons],
        "ideas": s.ideas,
        "runs": [_row(row) for row in s.m.rows],
    }


def _agent(s: Story) -> Record | None:
    """What the driven sessions cost, as far as the agent's program says."""
    account = account_of(s.m.state.agents)
    known = {"sessions": account.sessions, "said": account.said, "seconds": round(account.seconds, 1)}
    return {**known, **vars(account.spent)} if account.sessions else None


def _place(row: Row | None) -> Record | None:
    return {"experiment": row.id, "commit": row.e.commit, "metric": row.e.metric} if row else None


def _row(row: Row) -> Record:
    e, v = row.e, row.evidence
    return {
        "experiment": e.id, "verdict": e.verdict, "metric": e.metric, "gain": v.gain,
        "interval": None if v.low is None else [v.low, v.high], "p": v.p, "evidence": v.word,
        "flags": list(v.flags), "runs": [[run.seed, run.metric if run.counts else None] for run in e.runs],
        "seconds": round(row.seconds, 1), "memory_gb": e.memory_gb, "added": e.added, "removed": e.removed,
        "commit": e.commit, "against": e.against, "hypothesis": row.words(300),
        "expect": said(e.expect, 200), "reason": said(e.reason, 300),
    }  # fmt: skip
