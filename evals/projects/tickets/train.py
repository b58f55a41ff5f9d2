"""A linear classifier of support tickets on hashed words."""

import math
import os
import random
import time
import zlib

import tickets

SEED = int(os.environ.get("SEED", "1"))
BUCKETS = 512
LR = 0.02
PASSES = 3
L2 = 0.0

start = time.time()
draw = random.Random(SEED)
train, val = tickets.load()
weights = [[0.0] * BUCKETS for _ in tickets.QUEUES]


def features(text):
    words = text.split()
    return sorted({zlib.crc32(word.encode()) % BUCKETS for word in words})


def probabilities(found):
    logits = [sum(row[i] for i in found) for row in weights]
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def predict(text):
    chances = probabilities(features(text))
    return tickets.QUEUES[chances.index(max(chances))]


for number in range(PASSES):
    draw.shuffle(train)
    for text, queue in train:
        found = features(text)
        for index, chance in enumerate(probabilities(found)):
            error = chance - (tickets.QUEUES[index] == queue)
            for i in found:
                weights[index][i] -= LR * (error + L2 * weights[index][i])
    print(f"pass {number + 1} done after {time.time() - start:.1f} s", flush=True)

tickets.show_misread(predict, val)
print("---")
print(f"val_accuracy: {tickets.accuracy(predict, val):.6f}")
print(f"seconds: {time.time() - start:.1f}")
