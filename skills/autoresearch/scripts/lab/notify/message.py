"""The text of each notice: the news first, then experiment, metric from and to, verdict.

At most 600 characters, cut at the end: the first line is whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.account import keeps, word_of
from lab.model import BASELINE, VERDICTS, Confirmation, Experiment, State
from lab.redact import one_line
from lab.report.figures import plural, span
from lab.settings import Settings
from lab.views import flat, number

LIMIT = 600
WORDS, REASON = 160, 140


def finished(state: State, settings: Settings) -> str:
    """The campaign ended: what came of it."""
    best = state.incumbent
    rows = _result(state, best, settings) if best else ["nothing was measured"]
    follow = f"take it over: git merge {state.branch}" if keeps(state) else ""
    return _text(state, "finished", _counts(list(state.experiments.values())), *rows, follow)


def stopped(state: State, settings: Settings) -> str:
    """The loop stopped by itself; only a person can say how it goes on."""
    return _text(state, "stopped, a decision is needed", said(state.stopped, 3 * REASON),
                 "`resume` goes on when that is mended, `finish` ends the campaign")  # fmt: skip


def no_baseline(state: State, first: Experiment, settings: Settings) -> str:
    """The unchanged code does not run."""
    return _text(state, "the baseline crashed, a decision is needed", said(first.reason, 2 * REASON))


def gave_up(state: State) -> str:
    """`drive` starts the agent no more."""
    return _text(state, "no agent at work, a decision is needed", said(state.gave_up, 3 * REASON),
                 "`drive` starts it again when that is mended")  # fmt: skip


def crashes(state: State, row: Sequence[Experiment], settings: Settings) -> str:
    """Several experiments in a row gave no number."""
    last = row[-1]
    return _text(state, f"{len(row)} crashes in a row", _named(last), f"{settings.metric}: none, crash",
                 said(last.reason, 2 * REASON))  # fmt: skip


def disk(state: State, free_gb: float) -> str:
    """The disk fills up."""
    return _text(
        state, f"only {free_gb:.1f} GB of disk are free", "a full disk stops the runs; nothing is lost"
    )


def silent(state: State, settings: Settings, seconds: float, spent: str) -> str:
    """Nobody has moved the campaign on for too long."""
    best = state.incumbent
    follow = (
        f"the budget is spent ({spent}): `finish`"
        if spent
        else "start the agent again; it goes on by `status`"
    )
    rows = _result(state, best, settings) if best else []
    return _text(state, f"no sign of the agent for {span(seconds)}", *rows, follow)


def best(state: State, e: Experiment, settings: Settings) -> str:
    """A keep that the noise does not explain."""
    against = state.experiments.get(e.against)
    before = against.metric if against else None
    told = [_named(e), f"{change(settings, before, e.metric)}, {e.verdict} ({word_of(e)})"]
    if e.shrunken is not None:
        told.append(f"to be believed: better by {e.shrunken:.6g}")
    return _text(
        state, "a clear new best", *told, _whole(state, e, settings) if e.against != BASELINE else ""
    )


def confirmed(state: State, c: Confirmation, settings: Settings) -> str:
    """The gain held on fresh seeds."""
    e = state.get(c.experiment)
    before = state.baseline.metric if state.baseline else None
    rows = [_named(e), f"{change(settings, before, e.metric)}, {e.verdict}, confirmed"]
    return _text(state, "confirmed on fresh seeds", *rows, said(c.reason, 2 * REASON))


def digest(state: State, news: Sequence[Experiment], settings: Settings) -> str:
    """What happened since the last one."""
    best_now = state.incumbent
    rows = _result(state, best_now, settings) if best_now else []
    return _text(state, f"{plural(len(news), 'experiment')} since the last digest", _counts(news), *rows)


def trial(name: str) -> str:
    """What `notify test` sends."""
    return f"autoresearch {name}: a test\nExperiment e000: messages arrive here"


# -- parts -------------------------------------------------------------------------------------------------


def said(text: str, limit: int) -> str:
    """Words from outside on one clean line without anything shaped like a secret."""
    return one_line(flat(text), limit)


def change(settings: Settings, before: float | None, after: float | None) -> str:
    """The metric from and to, with the difference."""
    if before is None or after is None:
        return f"{settings.metric} {number(after)}"
    return f"{settings.metric} {number(before)} -> {number(after)} ({after - before:+.6f})"


def _named(e: Experiment) -> str:
    return f"Experiment {e.id}: {said(e.hypothesis, WORDS)}"


def _result(state: State, e: Experiment, settings: Settings) -> list[str]:
    """An experiment against the start."""
    before = state.baseline.metric if state.baseline and state.baseline is not e else None
    proofs = [c.verdict for c in state.confirmations.values() if c.experiment == e.id and c.verdict]
    return [_named(e), ", ".join([change(settings, before, e.metric), str(e.verdict), *proofs[-1:]])]


def _whole(state: State, e: Experiment, settings: Settings) -> str:
    start = state.baseline.metric if state.baseline else None
    return f"since the start: {change(settings, start, e.metric)}"


def _counts(rows: Sequence[Experiment]) -> str:
    verdicts = [e.verdict for e in rows if e.id != BASELINE]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in VERDICTS)


def _text(state: State, news: str, *rows: str) -> str:
    """The lines in at most `LIMIT` characters; the first, which says the news, is whole."""
    whole = "\n".join([f"autoresearch {state.tag}: {news}", *(row for row in rows if row)])
    return whole if len(whole) <= LIMIT else whole[: LIMIT - 1] + "…"
