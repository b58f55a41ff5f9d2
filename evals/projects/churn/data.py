"""Customers of a subscription, and how well a model tells who will leave."""

import math
import random

ROWS, TRAIN_ROWS = 16_000, 12_000
PASSES = 6


def _customer(draw):
    months, calls = draw.expovariate(1 / 18), draw.expovariate(1 / 2)
    price, usage = draw.choice((9.0, 19.0, 39.0)), draw.gauss(0, 1)
    age, region = draw.gauss(42, 13), draw.randrange(5)
    pull = 0.9 * math.log1p(calls) - 0.05 * months + 0.03 * price - 0.8 * usage
    pull += 0.9 * (usage < -0.5 and price > 30) - 0.5 * (region == 2) - 1.0
    leaves = int(draw.random() < 1 / (1 + math.exp(-1.4 * pull)))
    return [months, calls, price, usage, age, float(region)], leaves


def load():
    """Give (training rows, validation rows), each row as (features, 0 or 1)."""
    draw = random.Random(5)
    rows = [_customer(draw) for _ in range(ROWS)]
    return rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]


def logloss(predict, rows):
    """Mean loss of the predicted probabilities of leaving, in nats."""
    loss = 0.0
    for features, leaves in rows:
        p = min(max(predict(features), 1e-6), 1 - 1e-6)
        loss -= math.log(p if leaves else 1 - p)
    return loss / len(rows)
