"""The answer: a headline, and how much of it to believe and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.account import CLEAR as CLEAR_P
from lab.proof import last_look
from lab.report.figures import percent, plural, said
from lab.report.material import Material, Row
from lab.report.shown import UNKNOWN
from lab.report.trust import FEW_RUNS

MOSTLY = 0.5  # share of the summed gain: with so much of it clear one may say "most of it"
FALSE_KEEPS = 0.05  # from so many expected false keeps on they are mentioned


@dataclass(frozen=True)
class Belief:
    """What to believe: a sign for the eye, the sentence, and its grounds."""

    sign: str  # good, partly, doubt, none
    head: str
    grounds: tuple[str, ...]


def title(m: Material) -> str:
    """The answer as a headline."""
    if m.baseline is None or m.best is None or m.gain is None:
        crashed = m.state.baseline is not None and m.state.baseline.verdict == "crash"
        return f"{m.state.tag}: " + ("the baseline crashed" if crashed else "nothing measured yet")
    start = f"{m.settings.metric} {m.figures.value(m.best.e.metric)}: "
    if not m.tried:
        return start + "the baseline; nothing tried yet"
    if not m.kept:
        return start + f"none of {plural(len(m.tried), 'experiment')} beat the baseline"
    if m.gain <= 0:
        how = f"{m.figures.size(m.gain)} worse than" if m.gain < 0 else "the same as"
        return start + f"{how} the baseline, with other gains ({plural(len(m.kept), 'keep')})"
    proof = m.proof
    if proof and proof.confirmed and proof.gain is not None:  # the loop's figure is a selected one
        start = f"{proof.metric}: "
        return start + _better(m, proof.gain) + f" {_again(m, proof.pairs)}, confirmed"
    return start + _better(m, m.gain) + (f" in the loop, {proof.verdict}" if proof else "")


def _again(m: Material, pairs: int) -> str:
    """Where it was measured again; a program that takes no seed shows only that the number repeats."""
    return (
        f"on {plural(pairs, 'fresh pair')} of seeds" if m.settings.seeded else f"in {plural(pairs, 'repeat')}"
    )


def _better(m: Material, gain: float) -> str:
    share = percent(gain, (m.baseline.e.metric if m.baseline else None) or 0.0)
    return f"{m.figures.size(gain)} better than the baseline" + (f" ({share})" if share else "")


def belief(m: Material) -> Belief:
    """What to believe, and why."""
    if m.baseline is None:
        return Belief("none", "There is nothing to believe yet.", ("No baseline has been measured.",))
    if not m.kept:
        grounds = [_noise(m)] if m.tried else []
        return Belief("none", "There is no gain to believe.", (*grounds, *_near(m)))
    sign, head = _proven(m) or _by_the_loop(m)
    seen = (*_fresh(m), *last_look(m.state))
    return Belief(sign, head, (*seen, *_clear(m), *_false(m), _noise(m), *_flattery(m)))


def _proven(m: Material) -> tuple[str, str] | None:
    """What fresh seeds say, the strongest word there is."""
    if m.proof is None:
        return None
    if m.proof.confirmed:
        if not m.settings.seeded:
            return "good", "Believe that it repeats: the program takes no seed, so nothing else was varied."
        return "good", "Believe it: it was measured again on fresh seeds."
    if m.proof.verdict.startswith("not"):
        return "doubt", "Do not believe it: it did not show on fresh seeds."
    return "doubt", "Not shown yet: fresh seeds left it open."


def _by_the_loop(m: Material) -> tuple[str, str]:
    """What the loop's own figures allow to say."""
    clear, rest = _split(m)
    whole = sum(abs(row.evidence.gain or 0.0) for row in m.kept)
    if not clear:
        unknown = all(row.evidence.word == UNKNOWN for row in m.kept)
        return "doubt", "It cannot be told yet." if unknown else "Do not count on it yet."
    if not rest:
        return "good", "Believe that it is better; how much is a little flattered."
    if _summed(clear) >= MOSTLY * whole:
        return "partly", "Believe most of it."
    return "doubt", "Believe the smaller part of it."


def _split(m: Material) -> tuple[list[Row], list[Row]]:
    return [row for row in m.kept if row.evidence.clear], [row for row in m.kept if not row.evidence.clear]


def _summed(rows: Sequence[Row]) -> float:
    return sum(row.evidence.gain or 0.0 for row in rows)


# -- grounds, each a sentence or none --------------------------------------------------------------------


def _fresh(m: Material) -> tuple[str, ...]:
    proof, f = m.proof, m.figures
    if proof is None:
        return ()
    if proof.gain is None:
        return (f"{proof.id}: {said(proof.reason, 200)}",)
    chance = "" if proof.p is None else ", p < 0.0001" if proof.p < 1e-4 else f", p {proof.p:.2g}"
    return (
        f"{_again(m, proof.pairs).capitalize()} {proof.experiment} is {f.change(proof.gain)} "
        f"against the baseline in {proof.metric} ({f.change(proof.low)} to {f.change(proof.high)}{chance}).",
    )


def _clear(m: Material) -> tuple[str, ...]:
    clear, rest = _split(m)
    count = len(m.kept)
    if not rest:
        which = "The one kept change is" if count == 1 else f"All {count} kept changes are"
        return (f"{which} clear of the noise, with P of {CLEAR_P:g} or more.",)
    adds = m.figures.change(_summed(rest))
    if count == 1:
        return (f"The one kept change adds {adds} and is not clear of the noise by itself.",)
    if not clear:
        none = f"None of the {count} kept changes clears the noise alone."
        return (none, f"They add up to {adds}: not proven one by one.")
    what = "The other one adds" if len(rest) == 1 else f"The other {len(rest)} add up to"
    return (
        f"{len(clear)} of {plural(count, 'kept change')} clear the noise one by one.",
        f"{what} {adds}: not proven one by one.",
    )


def _false(m: Material) -> tuple[str, ...]:
    """How many keeps do nothing, by the probabilities they were kept with."""
    chances = [row.evidence.p for row in m.kept if row.evidence.p is not None]
    expected = sum(1 - p for p in chances)
    if len(chances) < len(m.kept) or expected < FALSE_KEEPS:
        return ()
    return (f"By the probabilities they were kept with, about {expected:.1f} of them do nothing.",)


def _noise(m: Material) -> str:
    sigma = m.beside.sigma
    if sigma is None:
        return "The noise between runs was not measured."
    if sigma == 0:
        return "Repeated runs gave the same number: there is no noise to hide in."
    usual = m.figures.size(sigma * 2**0.5)
    few = m.beside.sigma_runs < FEW_RUNS
    doubt = f"; so say {plural(m.beside.sigma_runs, 'run')}, it may be several times more" if few else ""
    return f"Two runs of the same code differ by about {usual} (sigma {sigma:.2g}){doubt}."


def _near(m: Material) -> tuple[str, ...]:
    return (f"{plural(len(m.near), 'discard')} looked better, within the noise.",) if m.near else ()


def _flattery(m: Material) -> tuple[str, ...]:
    """The best of many looks better than it is: by how much, or that nobody has measured it."""
    if m.proof or m.best is None:
        return ()
    if m.believed:
        gain, error = m.believed
        about = f"{m.figures.change(gain)} ± {m.figures.size(error)}"
        return (f"Free of the luck that chose them, the keeps are worth {about} together.",)
    runs = m.best.evidence.runs
    times = f"ran {plural(runs, 'time')}" if runs > 1 else "ran only once"
    return (
        f"The figure is the best of {len(m.tried)} and chosen for it; {m.best.id} {times}, "
        "and it was not measured again on fresh seeds.",
    )
