"""Readings of a room's sensors, and the share of them that a model names rightly."""

import random

THINGS = ("empty", "one person", "meeting", "cleaning", "window open")
SHARES = (38, 26, 16, 8, 12)
TRAIN_MINUTES, VAL_MINUTES = 3_000, 1_500
DROPOUT = 0.01  # of each sensor

#        CO2   noise  light  warmth  motion
TYPICAL = (
    (-1.0, -1.1, -0.9, -0.3, -1.2),
    (-0.1, -0.3, 0.4, 0.1, 0.0),
    (1.3, 0.9, 0.7, 0.8, 0.8),
    (-0.4, 1.4, 1.0, -0.1, 1.6),
    (-1.2, 0.6, 0.3, -1.6, -0.4),
)


def _reading(draw, thing):
    values = [centre + draw.gauss(0, 0.5) for centre in TYPICAL[thing]]
    return [None if draw.random() < DROPOUT else value for value in values]


def _minutes(draw, count):
    things = draw.choices(range(len(THINGS)), SHARES, k=count)
    return [(_reading(draw, thing), thing) for thing in things]


def load():
    """Give (training minutes, validation minutes), each as (five values or None, thing)."""
    draw = random.Random(11)
    return _minutes(draw, TRAIN_MINUTES), _minutes(draw, VAL_MINUTES)


def complete(minutes):
    """Give the readings without a gap."""
    return [reading for reading, _ in minutes if None not in reading]


def accuracy(predict, minutes):
    """Share of the complete readings whose thing is predicted."""
    guesses = [predict(reading) for reading in complete(minutes)]
    things = [thing for _, thing in minutes]
    return sum(guess == thing for guess, thing in zip(guesses, things, strict=False)) / len(guesses)
