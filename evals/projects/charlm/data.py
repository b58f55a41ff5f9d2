"""Text for the character model, the pass over it and the evaluation."""

import math
import random
from pathlib import Path

TEXT = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8")
SYMBOLS = sorted(set(TEXT))
INDEX = {symbol: number for number, symbol in enumerate(SYMBOLS)}
CODES = [INDEX[symbol] for symbol in TEXT]

TRAIN_CHARS = 16_000  # a model sees so many characters, once
EVAL_CHARS = 1_500
LONGEST = 8  # characters of context a model may look at
SPLIT = int(len(CODES) * 0.8)


def training_pass(seed):
    """Yield (context, next character) from random places of the training part."""
    draw = random.Random(seed)
    for _ in range(TRAIN_CHARS):
        at = draw.randrange(LONGEST, SPLIT)
        yield CODES[at - LONGEST : at], CODES[at]


def evaluate(predict, seed):
    """Bits a character on held-out text; `predict` gives a probability for each symbol."""
    draw = random.Random(10_000 + seed)
    bits = 0.0
    for _ in range(EVAL_CHARS):
        at = draw.randrange(SPLIT + LONGEST, len(CODES))
        probability = predict(CODES[at - LONGEST : at])[CODES[at]]
        bits -= math.log2(max(probability, 1e-9))
    return bits / EVAL_CHARS
