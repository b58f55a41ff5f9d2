"""What the keeps of a campaign are worth: how many may be false, and the gain without their luck."""

from __future__ import annotations

from collections.abc import Sequence

from lab.decide import Noise, character, from_json
from lab.model import BASELINE, Experiment, Record, State

CLEAR = 0.95  # P from which on a keep is called clear
KNOWN = 0.7  # weight of one guess from which on its share of the seed is told


def keeps(state: State) -> list[Experiment]:
    """Every keep but the baseline."""
    return [e for e in state.present() if e.verdict == "keep" and e.id != BASELINE]


def word_of(e: Experiment) -> str:
    """A keep in a word: `clear`, or `within noise`; `not judged` in a journal without P."""
    if e.p is None:
        return "not judged"
    return "clear" if e.p >= CLEAR else "within noise"


def account(state: State, noise: Noise, goal: str) -> Record:
    """Facts on what to believe, for JSON; numbers are None where no belief was journaled."""
    belief = from_json(state.belief) if state.belief else None
    kept = keeps(state)
    judged = [e.p for e in kept if e.p is not None]
    best = state.incumbent
    return {
        "gain": belief.gained if belief else None,
        "gain_error": belief.error if belief else None,
        "level": belief and (belief.level if goal == "min" else -belief.level),
        "expected_false_keeps": sum(1 - p for p in judged),
        "clear": [e.id for e in kept if word_of(e) == "clear"],
        "within_noise": [e.id for e in kept if word_of(e) == "within noise"],
        "pairing": belief.pairing if belief else None,
        "seed_share": belief.seed_share if belief else None,
        "seed_share_known": bool(belief and belief.settled >= KNOWN),
        "noise": character(noise, best.metric if best else None),
        "drifts": list(state.drifts),
    }


def account_lines(facts: Record) -> list[str]:
    """The same in a line of `status` and of the report, and what is odd about noise or machine."""
    lines = []
    if facts["gain"] is not None and (facts["clear"] or facts["within_noise"]):
        lines.append(
            f"to be believed: gain {facts['gain']:+.6f} +- {facts['gain_error']:.2g}; "
            f"{facts['expected_false_keeps']:.1f} false keeps expected; "
            f"clear: {_names(facts['clear'])}; within noise: {_names(facts['within_noise'])}"
        )
    if facts["seed_share_known"] and facts["noise"] in ("usual", "mostly noise"):
        lines.append(
            f"of the noise about {facts['seed_share']:.0%} belongs to the seed, the rest to the machine"
        )
    if facts["noise"] == "none":
        lines.append("the metric has no noise: the same code gives the same number, one run decides")
    if facts["noise"] == "mostly noise":
        lines.append("the metric is mostly noise: most gains drown in it; a longer run or evaluation helps")
    if facts["drifts"]:
        lines.append(drift_words(facts["drifts"]))
    return lines


def drift_words(drifts: object) -> str:
    """What to tell when the incumbent no longer gives its own numbers."""
    assert isinstance(drifts, list)
    return (
        f"the machine has changed ({drifts[-1][:16]}): the incumbent measured again is more than 3 sd off, "
        "so the bar starts afresh there; earlier numbers do not compare with later ones"
    )


def _names(ids: object) -> str:
    assert isinstance(ids, Sequence)
    shown = ", ".join(ids[:8])
    return (shown + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")) or "none"
