"""A small network on the readings of a room, trained one minute at a time."""

import math
import os
import random
import time

import measure

SEED = int(os.environ.get("SEED", "1"))
WIDTH = 12
LR = 0.03
PASSES = 6
DECAY = 0.0

start = time.time()
draw = random.Random(SEED)
train, val = measure.load()
minutes = [(reading, thing) for reading, thing in train if None not in reading]
SENSORS, THINGS = len(train[0][0]), len(measure.THINGS)
first = [[draw.gauss(0, 0.4) for _ in range(SENSORS + 1)] for _ in range(WIDTH)]
second = [[draw.gauss(0, 0.2) for _ in range(WIDTH + 1)] for _ in range(THINGS)]


def forward(reading):
    inputs = [*reading, 1.0]
    hidden = [math.tanh(sum(w * x for w, x in zip(row, inputs, strict=True))) for row in first] + [1.0]
    scores = [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in second]
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return inputs, hidden, [power / sum(powers) for power in powers]


def predict(reading):
    shares = forward(reading)[2]
    return shares.index(max(shares))


for number in range(PASSES):
    draw.shuffle(minutes)
    loss = right = 0.0
    for reading, thing in minutes:
        inputs, hidden, shares = forward(reading)
        loss -= math.log(max(shares[thing], 1e-12))
        right += shares.index(max(shares)) == thing
        errors = [share - (k == thing) for k, share in enumerate(shares)]
        back = [sum(e * second[k][j] for k, e in enumerate(errors)) for j in range(WIDTH)]
        for k, e in enumerate(errors):
            for j, h in enumerate(hidden):
                second[k][j] -= LR * (e * h + DECAY * second[k][j])
        for j, b in enumerate(back):
            slope = b * (1 - hidden[j] ** 2)
            for i, x in enumerate(inputs):
                first[j][i] -= LR * (slope * x + DECAY * first[j][i])
    print(
        f"pass {number + 1} train_loss {loss / len(minutes):.4f} train_accuracy {right / len(minutes):.4f}",
        flush=True,
    )

print("---")
print(f"val_accuracy: {measure.accuracy(predict, val):.6f}")
print(f"seconds: {time.time() - start:.1f}")
