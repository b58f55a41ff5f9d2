"""A text for the character model, made from a few words and a fixed seed: nobody's, the same everywhere."""

from __future__ import annotations

import random

NOUNS = [
    "harbour", "lantern", "kettle", "orchard", "ladder", "river", "meadow", "window", "captain",
    "garden", "barrel", "compass", "anchor", "thistle", "copper", "blanket", "market", "bridge",
    "cellar", "shepherd",
]  # fmt: skip
VERBS = [
    "carried", "opened", "painted", "followed", "mended", "counted", "watched", "borrowed",
    "lifted", "buried", "sold", "answered",
]  # fmt: skip
ADJECTIVES = [
    "quiet", "narrow", "silver", "broken", "early", "patient", "wooden", "distant", "heavy",
    "green",
]  # fmt: skip
TAILS = (
    "before the rain came",
    "and nobody asked why",
    "while the tide was out",
    "as it had done every spring",
    "until the bells were heard",
    "because the road was closed",
)


def corpus(seed: int = 7, sentences: int = 1500) -> str:
    """Plain sentences with enough structure for a model of a few characters to learn."""
    draw = random.Random(seed)
    lines = []
    for _ in range(sentences):
        one, two = draw.sample(NOUNS, 2)
        parts = ["the", *([draw.choice(ADJECTIVES)] if draw.random() < 0.5 else []), one, draw.choice(VERBS)]
        parts += ["the", *([draw.choice(ADJECTIVES)] if draw.random() < 0.3 else []), two]
        if draw.random() < 0.6:
            parts.append(draw.choice(TAILS))
        lines.append(" ".join(parts) + draw.choice([".", ".", "!", "?"]))
    return "\n".join(lines) + "\n"
