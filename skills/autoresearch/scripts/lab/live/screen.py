"""The present as lines for a terminal, and as one line for a file."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

from lab.live.present import Present, Work
from lab.model import Record
from lab.report.figures import MINUS, clock, plural, span

QUEUE_SHOWN = 3


def lines(p: Present, width: int = 100, height: int = 40) -> list[str]:
    """What fits a terminal, the most important first."""
    made = [p.title, f"{p.campaign} · {p.aim} · {p.state}", ""]
    for work in p.work:
        made += [*_work(work), ""]
    if p.queue:
        names = [f"{name} {words}" for name, words in p.queue[:QUEUE_SHOWN]]
        more = [f"and {len(p.queue) - QUEUE_SHOWN} more"] if len(p.queue) > QUEUE_SHOWN else []
        made += ["waiting", *(f"  {words}" for words in [*names, *more]), ""]
    if p.verdicts:
        made.append(f"verdicts: {counted(p)}")
        made += [f"  {v.experiment} {v.verdict:<7} {v.metric:>9} {v.gain:>9}  {v.words}" for v in p.verdicts]
        made.append("")
    made += [*p.machine, f"{clock(p.at, p.at)} · Ctrl-C leaves; the runs go on"]
    return [fitted(line, width) for line in made[:height]]


def counted(p: Present) -> str:
    """How many of each verdict there are."""
    words = {"keep": "kept", "discard": "discarded", "crash": "crashed", "open": "open"}
    return ", ".join(f"{p.counts[name]} {word}" for name, word in words.items() if p.counts.get(name))


def _work(w: Work) -> list[str]:
    seed = f", seed {w.seed}" if w.seed is not None else ""
    lines = [f"{w.run}{seed}: {w.words}", f"  {progress(w)}"]
    versus = against(w)
    lines += [f"  {versus}"] if versus else []
    if w.silent is not None:
        lines.append(f"  no sign of life for {span(w.silent)}: `status` looks after it")
    return lines


def progress(w: Work) -> str:
    """How far a run is, how fast and how long it will take."""
    r = w.reading
    parts = [
        f"step {r.step:,.0f}" if r.step is not None else "",
        f"{100 * r.share:.0f} %" if r.share is not None else "",
        r.rate or "",
        f"{span(w.elapsed)} so far" if w.elapsed is not None else "starting",
        f"{span(w.left)} left {w.left_by}" if w.left is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def against(w: Work) -> str:
    """The loss beside the parent's at the same step."""
    if w.reading.loss is None:
        return ""
    loss = f"loss {w.reading.loss:.4f}"
    if w.against is None or w.parent_loss is None:
        return loss + (f" · {w.parent} shows none at this step" if w.parent else "")
    sign = MINUS if w.against < 0 else "+"
    word = "lower" if w.against < 0 else "higher"
    return f"{loss} · {w.parent} had {w.parent_loss:.4f} at this step: {sign}{abs(w.against):.4f}, {word}"


def brief(p: Present) -> str:
    """The present in one line, for a file or a pipe."""
    parts = [clock(p.at, p.at), p.state]
    parts += [f"{w.run} {progress(w)}" + (f" · {against(w)}" if against(w) else "") for w in p.work]
    if p.queue:
        parts.append(f"{plural(len(p.queue), 'experiment')} waiting")
    if p.verdicts:
        last = p.verdicts[0]
        parts.append(f"last {last.experiment} {last.verdict} {last.metric} {last.gain}".rstrip())
    return " | ".join([*parts, counted(p)] if counted(p) else parts)


def fitted(line: str, width: int) -> str:
    """At most `width` columns, so that a redrawn line stays one line; some letters take two."""
    room = width
    for i, letter in enumerate(line):
        room -= columns(letter)
        if room < 0:
            kept = line[:i]
            while kept and columns(kept) > width - 1:
                kept = kept[:-1]
            return kept + "…"
    return line


def columns(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def panel(p: Present) -> Record:
    """The present as texts for the page in the browser."""
    work = [[f"{w.run} {w.words}", *filter(None, (progress(w), against(w)))] for w in p.work]
    return {
        "state": f"{p.state}. {counted(p)}.",
        "work": work,
        "queue": [f"waiting: {name} {words}" for name, words in p.queue[:QUEUE_SHOWN]],
        "verdicts": [f"{v.experiment} {v.verdict} {v.metric} {v.gain} {v.words}" for v in p.verdicts],
        "machine": " · ".join(p.machine),
    }
