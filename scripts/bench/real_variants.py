"""The variants of train.py whose real runs are recorded: the unchanged code, null edits, gains and harms.

Each is a table of text replacements on the pinned commit, so that the recorded values can be made again.
A null edit does the same arithmetic at the same cost up to rounding, random draws or 0.1 % of a constant: its
true gain is 0 by construction. What the others are worth is measured, not promised by their names.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

COMMIT = "e96f29a"  # train.py and prepare.py of every recorded run
BASE = "base"


@dataclass(frozen=True)
class Variant:
    name: str
    kind: str  # base | null | gain | harm: what it was chosen for
    why: str
    edits: tuple[tuple[str, str], ...] = ()
    parts: tuple[str, ...] = ("main",)  # when it was recorded: main, late or both

    def apply(self, text: str) -> str:
        """The pinned train.py with the edits; raises ValueError when one does not fit exactly once."""
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} is there {text.count(old)} times, not once")
            text = text.replace(old, new)
        return text

    @property
    def lines(self) -> tuple[int, int]:
        """Lines added and removed, as a diff counts them."""
        signs = [
            line[0] for old, new in self.edits for line in difflib.ndiff(old.splitlines(), new.splitlines())
        ]
        return signs.count("+"), signs.count("-")


def constant(name: str, old: str, new: str) -> tuple[tuple[str, str], ...]:
    """One constant at the top of the file, whatever blanks stand before its comment."""
    return ((f"\n{name} = {old} ", f"\n{name} = {new} "),)


def smoke(name: str, old: str, new: str) -> tuple[tuple[str, str], ...]:
    """One constant of the preset in use."""
    return ((f'\n{name} = {{"smoke": {old},', f'\n{name} = {{"smoke": {new},'),)


HEAD_LINE = "        self.head = nn.Linear(WIDTH, vocab_size, bias=False)\n"
EMBEDDING_LINE = "        self.embedding = nn.Embedding(vocab_size, WIDTH)\n"

VARIANTS = (
    Variant(BASE, "base", "the unchanged code", parts=("main", "late")),
    # Nothing changes.
    Variant(
        "null-rename",
        "null",
        "a constant has another name",
        (
            ("\nMATRIX_LR = 0.03 ", "\nMUON_RATE = 0.03 "),
            ("Muon(matrices, MATRIX_LR)", "Muon(matrices, MUON_RATE)"),
        ),
    ),
    Variant("null-log", "null", "half as many progress lines", constant("LINES", "20", "10")),
    Variant(
        "null-order",
        "null",
        "the output matrix is registered first, so every weight starts from other draws",
        ((HEAD_LINE, ""), (EMBEDDING_LINE, HEAD_LINE + EMBEDDING_LINE)),
        ("main", "late"),
    ),
    Variant(
        "null-rounding",
        "null",
        "queries and keys are turned before they are normalised: the same but for rounding",
        (
            (
                "q = norm(rotate(self.query(x).view(shape), cos, sin))",
                "q = rotate(norm(self.query(x).view(shape)), cos, sin)",
            ),
            (
                "k = norm(rotate(self.key(x).view(shape), cos, sin))",
                "k = rotate(norm(self.key(x).view(shape)), cos, sin)",
            ),
        ),
    ),
    Variant("null-tiny", "null", "a learning rate moves by 0.1 %", constant("MATRIX_LR", "0.03", "0.03003")),
    Variant(
        "null-tidy",
        "null",
        "the learning-rate schedule is written as one minimum",
        (
            (
                "    share = 1.0\n    if progress < WARM_UP:\n        share = progress / WARM_UP\n"
                "    elif progress > 1 - WARM_DOWN:\n"
                "        share = FINAL_LR + (1 - FINAL_LR) * (1 - progress) / WARM_DOWN\n",
                "    share = min(1.0, FINAL_LR + (1 - FINAL_LR) * (1 - progress) / WARM_DOWN)\n"
                "    share = share * progress / WARM_UP if progress < WARM_UP else share\n",
            ),
        ),
    ),
    # Chosen as gains, by one or two pilot runs on seeds 1 and 2; from the smallest.
    Variant(
        "unembedding-slow",
        "gain",
        "the output matrix learns slower",
        constant("UNEMBEDDING_LR", "0.008", "0.005"),
    ),
    Variant("embedding-slow", "gain", "the embeddings learn slower", constant("EMBEDDING_LR", "0.3", "0.2")),
    Variant(
        "warm-down-long", "gain", "the learning rate falls for longer", constant("WARM_DOWN", "0.5", "0.7")
    ),
    Variant("mlp-3", "gain", "fewer hidden channels, more steps", constant("MLP_RATIO", "4", "3")),
    Variant("mlp-2", "gain", "half the hidden channels, more steps still", constant("MLP_RATIO", "4", "2")),
    Variant("one-block", "gain", "one block in place of two", smoke("DEPTH", "2", "1")),
    # Chosen as harms, likewise.
    Variant(
        "unembedding-fast",
        "harm",
        "the output matrix learns faster",
        constant("UNEMBEDDING_LR", "0.008", "0.012"),
    ),
    Variant("matrix-slow", "harm", "the matrices learn slower", constant("MATRIX_LR", "0.03", "0.01")),
    Variant(
        "half-the-rows",
        "harm",
        "twice the steps, each from half the rows",
        (*smoke("STEP_ROWS", "8", "4"), *smoke("PASS_ROWS", "8", "4")),
    ),
    Variant("warm-down-short", "harm", "the learning rate falls late", constant("WARM_DOWN", "0.5", "0.1")),
    Variant("wide", "harm", "more channels, fewer steps", smoke("WIDTH", "64", "96")),
    # Added when six seeds of the others had shown three gains only.
    Variant(
        "more-pairs", "gain", "twice the table of token pairs", smoke("PAIRS", "2**15", "2**16"), ("late",)
    ),
    Variant(
        "more-rows",
        "gain",
        "fewer steps, each from half as many rows again",
        (*smoke("STEP_ROWS", "8", "12"), *smoke("PASS_ROWS", "8", "12")),
        ("late",),
    ),
    Variant("mlp-1", "gain", "a quarter of the hidden channels", constant("MLP_RATIO", "4", "1"), ("late",)),
    Variant(
        "one-small-block",
        "gain",
        "one block with half the hidden channels",
        (*smoke("DEPTH", "2", "1"), *constant("MLP_RATIO", "4", "2")),
        ("late",),
    ),
)
