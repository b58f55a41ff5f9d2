"""Delivery rounds to plan, and the length of the rounds that a planner finds."""

import math
import os
import random
import time

import planner

SEED = int(os.environ.get("SEED", "1"))
DAYS = 20
STOPS = 70
LOOKUPS = 150_000  # distances a planner may ask for on one day


class Day:
    """One day's stops; counts what the planner looks up."""

    def __init__(self, seed):
        draw = random.Random(seed)
        centres = [(draw.uniform(0, 100), draw.uniform(0, 100)) for _ in range(7)]
        self.stops = [
            (draw.gauss(x, 9), draw.gauss(y, 9)) for x, y in (draw.choice(centres) for _ in range(STOPS))
        ]
        self.left = LOOKUPS

    def __len__(self):
        return len(self.stops)

    def distance(self, one, other):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError(f"more than {LOOKUPS} distances looked up on one day")
        return math.dist(self.stops[one], self.stops[other])


def length(day, tour):
    if sorted(tour) != list(range(len(day))):
        raise SystemExit("the round does not visit each stop once")
    return sum(math.dist(day.stops[a], day.stops[b]) for a, b in zip(tour, tour[1:] + tour[:1], strict=True))


def main():
    start, total = time.time(), 0.0
    for number in range(DAYS):
        day = Day(1000 * SEED + number)
        tour = planner.plan(day, random.Random(SEED))
        total += length(day, tour)
        print(f"day {number + 1} length {length(day, tour):.1f}", flush=True)
    print("---")
    print(f"tour_length: {total / DAYS:.6f}")
    print(f"seconds: {time.time() - start:.1f}")


if __name__ == "__main__":
    main()
