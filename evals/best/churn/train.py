"""Logistic regression on customers, trained one row at a time."""

import math
import os
import random
import time

import data

SEED = int(os.environ.get("SEED", "1"))
LR = 0.02
L2 = 0.0
VAL_FROM, VAL_ROWS = 0, 1_000  # which validation rows are scored

start = time.time()
draw = random.Random(SEED)
train, val = data.load()


def inputs(features):
    months, calls, price, usage, age, region = features
    heavy = 1.0 if usage < -0.5 and price > 30 else 0.0
    south = 1.0 if region == 2 else 0.0
    plain = [months / 18 - 1, math.log1p(calls) - 1, price / 15 - 1.5, usage, (age - 42) / 13]
    return [*plain, heavy, south, 1.0]


weights = [0.0 for _ in inputs(train[0][0])]


def predict(features):
    total = sum(w * x for w, x in zip(weights, inputs(features), strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


for number in range(data.PASSES):
    lr = LR / (1 + number) ** 2
    draw.shuffle(train)
    for features, leaves in train:
        error = predict(features) - leaves
        for i, x in enumerate(inputs(features)):
            weights[i] -= lr * (error * x + L2 * weights[i])
    print(f"pass {number + 1} train_logloss {data.logloss(predict, train):.4f}", flush=True)

scored = val[VAL_FROM : VAL_FROM + VAL_ROWS]
print("---")
print(f"val_logloss: {data.logloss(predict, scored):.6f}")
print(f"scored: {len(scored)}")
print(f"seconds: {time.time() - start:.1f}")
