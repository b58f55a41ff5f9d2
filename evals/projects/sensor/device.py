"""The board the classifier will run on: its memory, and the readings it was shown in the field."""

import math
import random

CELLS = 512  # numbers the board can hold for weights and working copies
PASSES = 6  # over the training readings
CLASSES = 4
SCALES = (1.0, 40.0, 0.02, 5.0, 300.0, 0.5, 12.0, 0.1)  # each channel has its own unit
TRAIN_ROWS, TEST_ROWS = 3_000, 1_500


class Memory:
    """Hands out matrices until the board is full."""

    def __init__(self):
        self.used = 0

    def matrix(self, rows, columns):
        if self.used + rows * columns > CELLS:
            left = CELLS - self.used
            raise MemoryError(f"out of memory: {rows} x {columns} cells asked for, {left} of {CELLS} free")
        self.used += rows * columns
        return [[0.0] * columns for _ in range(rows)]


def _reading(draw):
    kind = draw.randrange(CLASSES)
    angle, radius = draw.uniform(0, 2 * math.pi), 0.6 + 0.55 * kind + draw.gauss(0, 0.22)
    hidden = (radius * math.cos(angle), radius * math.sin(angle), draw.gauss(0, 1))
    mixed = (
        hidden[0], hidden[1], hidden[0] + hidden[1], hidden[2],
        hidden[0] - hidden[1], hidden[0] * hidden[1], hidden[2] - hidden[0], draw.gauss(0, 1),
    )  # fmt: skip
    return [
        value * scale + draw.gauss(0, 0.05) * scale for value, scale in zip(mixed, SCALES, strict=True)
    ], kind


def readings(seed):
    """Give (training rows, test rows), each row as (channels, class)."""
    draw = random.Random(3)
    rows = [_reading(draw) for _ in range(TRAIN_ROWS + TEST_ROWS)]
    train, test = rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]
    random.Random(seed).shuffle(train)
    return train, test


def error_rate(predict, test):
    """Share of test readings that get the wrong class."""
    return sum(predict(channels) != kind for channels, kind in test) / len(test)
