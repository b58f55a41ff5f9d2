"""The figures at a glance."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lab.driving.spending import Spending, account_of
from lab.report.figures import MINUS, between, plural, span
from lab.report.material import Material, Row

LEAST_SHARE = 0.005  # of the time, below which it is not worth a word


@dataclass(frozen=True)
class Card:
    """One figure with its name, and a line of what belongs to it."""

    label: str
    value: str
    note: str


def cards(m: Material) -> tuple[Card, ...]:
    """The cards that have something to say, in order."""
    return tuple(card for make in CARDS for card in [make(m)] if card)


def took(m: Material) -> float:
    """Seconds from the start to the last that happened."""
    return between(m.state.started, m.hours_end)


def _baseline(m: Material) -> Card:
    return Card("baseline", m.figures.value(m.baseline.e.metric if m.baseline else None), _runs(m.baseline))


def _best(m: Material) -> Card:
    if m.best is None:
        return Card("best", "–", "none yet")
    note = f"{m.best.id} · {m.best.e.commit[:7]} · {_runs(m.best)}"
    return Card("best", m.figures.value(m.best.e.metric), note)


def _fresh(m: Material) -> Card | None:
    proof, f = m.proof, m.figures
    if proof is None or proof.gain is None:
        return None
    label = "on fresh seeds" if m.settings.seeded else "measured again"
    return Card(label, f.change(proof.gain), f"{f.change(proof.low)} to {f.change(proof.high)}")


def _believed(m: Material) -> Card | None:
    if m.believed is None or not m.kept or m.proof:
        return None
    gain, error = m.believed
    return Card("to be believed", m.figures.change(gain), f"± {m.figures.size(error)}, without the luck")


def _experiments(m: Material) -> Card:
    note = f"{len(m.kept)} kept · {len(m.discards)} dropped · {len(m.crashes)} crashed"
    return Card("experiments", str(len(m.tried)), note)


def _memory(m: Material) -> Card:
    after = m.best.e.memory_gb if m.best else None
    before = m.baseline.e.memory_gb if m.baseline else None
    if after is None or not before:
        return Card("peak memory", "–", "not measured")
    value = f"{after:.1f} GB" if after >= 1 else f"{1024 * after:.0f} MB"
    change = 100 * (after / before - 1)
    return Card(
        "peak memory",
        value,
        "as the baseline"
        if abs(change) < 1
        else f"{'+' if change > 0 else MINUS}{abs(change):.0f} % against the baseline",
    )


def _time(m: Material) -> Card:
    times = [run.seconds for run in m.runs if run.seconds]
    share = min(1.0, sum(times) / took(m)) if took(m) > 0 else 0.0
    part = f"{100 * share:.0f} % of the time" if share >= LEAST_SHARE else ""
    each = f"{span(statistics.median(times))} a run" if times else "no run yet"
    return Card("training time", span(sum(times)), " · ".join(words for words in (each, part) if words))


def _noise(m: Material) -> Card:
    sigma = m.beside.sigma
    if sigma is None:
        return Card("noise", "–", "not measured")
    return Card(
        "noise", f"{sigma:.2g}" if sigma else "none", f"sigma, from {plural(m.beside.sigma_runs, 'run')}"
    )


def _agent(m: Material) -> Card | None:
    """What the agent's sessions cost, in the words of its program, and what was got for it."""
    account = account_of(m.state.agents)
    if not account.sessions:
        return None
    spent, sessions = account.spent, plural(account.sessions, "session")
    if not account.said:
        return Card("agent", sessions, "its program does not say what they cost")
    heard = "" if account.said == account.sessions else f"{account.said} of "
    gained = f"for a confirmed {m.figures.change(m.proof.gain)}" if m.proof and m.proof.confirmed else ""
    each = f"{amount(spent, len(m.kept))} a keep" if m.kept else ""
    got = gained or "no confirmed gain yet"
    return Card("agent", amount(spent), " · ".join(w for w in (heard + sessions, got, each) if w))


def amount(spent: Spending, parts: int = 1) -> str:
    """Money, else premium requests, else tokens; of one part where there are several."""
    if spent.cost_usd is not None:
        return f"${spent.cost_usd / parts:.2f}"
    if spent.requests is not None:
        return f"{spent.requests / parts:.3g} requests"
    tokens = (spent.tokens or 0) / parts
    return f"{tokens / 1e6:.1f} M tokens" if tokens >= 1e6 else f"{tokens / 1e3:.0f} k tokens"


def _runs(row: Row | None) -> str:
    return plural(row.evidence.runs, "run") if row else "not measured"


CARDS: tuple[Callable[[Material], Card | None], ...] = (
    _baseline, _best, _fresh, _believed, _experiments, _memory, _time, _agent, _noise,
)  # fmt: skip
