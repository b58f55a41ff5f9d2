"""A classifier of sensor readings with one hidden layer, trained and run inside the board's memory."""

import math
import os
import random
import time

import device

SEED = int(os.environ.get("SEED", "1"))
HIDDEN = 24
LR = 0.1
DECAY = 0.4  # of the learning rate, in each pass

start = time.time()
draw = random.Random(SEED)
memory = device.Memory()
train, test = device.readings(SEED)
INPUTS = len(train[0][0]) + 1  # the last input is always 1

w1 = memory.matrix(HIDDEN, INPUTS)
w2 = memory.matrix(device.CLASSES, HIDDEN + 1)
for matrix in (w1, w2):
    for row in matrix:
        row[:] = [draw.gauss(0, 0.3) for _ in row]


def prepare(channels):
    return [channel / scale for channel, scale in zip(channels, device.SCALES, strict=True)] + [1.0]


def forward(inputs):
    hidden = [math.tanh(sum(w * x for w, x in zip(row, inputs, strict=True))) for row in w1] + [1.0]
    logits = [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in w2]
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = sum(powers)
    return hidden, [power / total for power in powers]


def predict(channels):
    probabilities = forward(prepare(channels))[1]
    return probabilities.index(max(probabilities))


def update(weights, errors, inputs, lr):
    for row, error in zip(weights, errors, strict=True):
        for i, value in enumerate(inputs):
            row[i] -= lr * error * value


for number in range(device.PASSES):
    lr, loss = LR * (1 - DECAY) ** number, 0.0
    for channels, kind in train:
        inputs = prepare(channels)
        hidden, probabilities = forward(inputs)
        loss -= math.log(max(probabilities[kind], 1e-12))
        errors = [p - (index == kind) for index, p in enumerate(probabilities)]
        back = [
            sum(errors[k] * w2[k][j] for k in range(device.CLASSES)) * (1 - hidden[j] ** 2)
            for j in range(HIDDEN)
        ]
        update(w2, errors, hidden, lr)
        update(w1, back, inputs, lr)
    print(f"pass {number + 1} train_loss {loss / len(train):.4f}", flush=True)

print("---")
print(f"test_error: {device.error_rate(predict, test):.6f}")
print(f"memory_cells: {memory.used}")
print(f"seconds: {time.time() - start:.1f}")
