"""Logistic regression on customers, trained one row at a time."""

import math
import os
import random
import time

import data

SEED = int(os.environ.get("SEED", "1"))
LR = 0.002
L2 = 0.0
VAL_FROM, VAL_ROWS = 0, 1_000  # which validation rows are scored

start = time.time()
draw = random.Random(SEED)
train, val = data.load()


def inputs(features):
    months, calls, price, usage, age, region = features
    return [months / 10, calls, price / 10, usage, age / 10, region, 1.0]


weights = [draw.gauss(0, 0.1) for _ in inputs(train[0][0])]


def predict(features):
    total = sum(w * x for w, x in zip(weights, inputs(features), strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


for number in range(data.PASSES):
    draw.shuffle(train)
    for features, leaves in train:
        error = predict(features) - leaves
        for i, x in enumerate(inputs(features)):
            weights[i] -= LR * (error * x + L2 * weights[i])
    print(f"pass {number + 1} train_logloss {data.logloss(predict, train):.4f}", flush=True)

scored = val[VAL_FROM : VAL_FROM + VAL_ROWS]
print("---")
print(f"val_logloss: {data.logloss(predict, scored):.6f}")
print(f"scored: {len(scored)}")
print(f"seconds: {time.time() - start:.1f}")
