"""A character model: the logits of the next character are summed over short contexts of the last ones."""

import math
import os
import random
import time

import data

SEED = int(os.environ.get("SEED", "1"))
ORDER = 4  # longest context in characters
BUCKETS = 4096  # rows of the table of each context length
LR = 0.3
WARMUP = 100  # steps
INIT = 0.01  # standard deviation of the first weights
WEIGHT_DECAY = 1e-6
CLIP = 2.0  # largest step of one logit
SMOOTHING = 0.0  # of the targets

WIDTH = len(data.SYMBOLS)
start = time.time()
draw = random.Random(SEED)
tables = [{} for _ in range(ORDER + 1)]


def rows(context):
    """Give the row of each table that belongs to this context."""
    found = []
    for length, table in enumerate(tables):
        key = hash(tuple(context[len(context) - length :])) % BUCKETS
        if key not in table:
            table[key] = [draw.gauss(0, INIT) for _ in range(WIDTH)]
        found.append(table[key])
    return found


def softmax(found):
    logits = [sum(column) for column in zip(*found, strict=True)]
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def predict(context):
    return softmax(rows(context))


loss = 0.0
for step, (context, target) in enumerate(data.training_pass(SEED), start=1):
    lr = LR * min(1.0, step / WARMUP)
    found = rows(context)
    probabilities = softmax(found)
    loss -= math.log2(max(probabilities[target], 1e-9))
    goal = SMOOTHING / WIDTH
    for row in found:
        for symbol, probability in enumerate(probabilities):
            wanted = goal + (1.0 - SMOOTHING if symbol == target else 0.0)
            change = lr * (wanted - probability)
            row[symbol] += max(-CLIP, min(CLIP, change)) - lr * WEIGHT_DECAY * row[symbol]
    if step % 4000 == 0:
        print(f"step {step} train_bpc {loss / 4000:.4f}", flush=True)
        loss = 0.0

print("---")
print(f"val_bpc: {data.evaluate(predict, SEED):.6f}")
print(f"contexts: {sum(len(table) for table in tables)}")
print(f"seconds: {time.time() - start:.1f}")
