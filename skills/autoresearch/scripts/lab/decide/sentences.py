"""The sentence of a verdict: every figure it stands on, then why."""

from __future__ import annotations

from lab.decide.price import memory
from lab.decide.weighing import Evidence


def numbers(e: Evidence) -> str:
    """From, to, difference, noise, runs, what is to be believed, and what the change costs."""
    runs = len(e.facts.candidate)
    noise = f"noise {short(e.noise.sigma)}" if e.noise.sigma else "no noise"
    if not e.noise.measured:
        noise += " (assumed)"
    on = " on the same seeds" if e.paired and runs < len(e.facts.incumbent) else ""
    text = f"{e.before:.6f} -> {e.after:.6f}{on}, {_change(e)} ({noise}, {runs} run{'s' * (runs != 1)})"
    if e.noise.sigma:
        text += f", of which {signed(e.gain)} +- {short(e.sd)} is to be believed"
    text += f", P({_asked(e)}) {e.p:.3f}, {e.facts.net:+d} lines"
    if memory(e.facts):
        text += f", memory {e.facts.incumbent_memory_gb:.1f} -> {e.facts.memory_gb:.1f} GB"
    return text


def _change(e: Evidence) -> str:
    if e.difference == 0:
        return "the same"
    in_noise = f" = {short(abs(e.difference) / e.noise.sigma)} sigma" if e.noise.sigma else ""
    return f"{'better' if e.difference > 0 else 'worse'} by {short(abs(e.difference))}{in_noise}"


def _asked(e: Evidence) -> str:
    if e.price > 0:
        return f"better by {short(e.price)}"
    return "better" if e.price == 0 else f"not worse than {short(-e.price)}"


def paid(e: Evidence) -> str:
    """Why a keep is one."""
    if e.shortens:
        return "not worse beyond the noise, and the code gets shorter"
    if e.noise.none:
        return "better, and it pays for the change"
    return f"a gain as sure as it has to be ({_wanted(e):.2f})"


def shortfall(e: Evidence) -> str:
    """Why a discard is one."""
    if e.noise.none:
        return "no gain" if e.difference == 0 else _plain_shortfall(e)
    if e.difference <= 0 and not e.shortens:
        return "worse" if e.difference < 0 else "no gain"
    if e.shortens:
        return "shorter, but worse than that allows"
    if e.gain <= 0:
        return "luck accounts for the difference"
    if e.price > 0 and e.gain < e.price:
        return f"what is to be believed is under the {short(e.price)} that {_cost(e)} asks"
    left = "" if e.last else ", and a run on a new idea is worth more than a repeat"
    return f"not sure enough: {e.bar(e.mode.last):.2f} is needed{left}"


def _plain_shortfall(e: Evidence) -> str:
    if e.difference < 0:
        return "worse"
    return f"under the {short(e.price)} that {_cost(e)} asks"


def _wanted(e: Evidence) -> float:
    keep = e.bar(e.mode.keep)
    return keep if e.p >= keep else e.bar(e.mode.last)


def _cost(e: Evidence) -> str:
    return "its memory" if memory(e.facts) else "its lines"


def short(number: float) -> str:
    return f"{number:.3g}"


def signed(number: float) -> str:
    """A gain as a reader expects it: never -0."""
    return f"{number:+.3g}" if number else "0"
