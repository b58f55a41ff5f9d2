"""Which results may be compared, which runs were disturbed, and what looks too odd to be believed at once.

Pure functions over runs and experiments. A guard refuses a comparison, asks for one more run or raises a flag
that people read; none of them turns a keep into a discard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# What a run may print as `name: TEXT` about what it was measured on. The first that both sides print decides:
# `comparison_key` is meant to name everything (data, tokenizer, preset, budget), the others a part of it.
FACTS: dict[str, str] = {
    "comparison_key": "data, tokenizer, preset or budget",
    "fingerprint": "the data",
    "data_fingerprint": "the data",
    "dataset_hash": "the data",
    "data_hash": "the data",
    "tokenizer_hash": "the tokenizer",
}


def difference(reference: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """Say in which fact two runs differ so that their metrics cannot be compared, or ""."""
    for name, what in FACTS.items():
        if name in reference and name not in facts:
            return f"it prints no {name}, which was {reference[name]}"
        if name in reference:
            if facts[name] != reference[name]:
                return f"{name} was {reference[name]} and is {facts[name]}: {what} changed"
            return ""
    return ""


def same_for_all(facts: Iterable[Mapping[str, str]]) -> bool:
    """Whether all of them can be compared with each other."""
    every = list(facts)
    return not any(difference(every[0], other) for other in every[1:])
