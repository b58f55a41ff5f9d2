"""What `ablate` says of keeps whose weight is known: simulated studies with the real looks and verdicts.

    python scripts/bench/ablation.py [--studies 2000] [--arms 4] [--rounds 6]

One unit is the noise of a run. Every study has an incumbent and as many keeps as `--arms`, of weights drawn
from the table's rows; each was kept with a gain of 4. Beside it, on the same runs: each keep alone by the
paired t of its differences after all rounds, which is what one would do by hand.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))

from lab.comparison import level_of
from lab.decide import student_quantile
from lab.weights import CARRIES, NOT_NEEDED, UNDECIDED, Effect, effects, keep_word, next_look

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
GAIN = 4.0
SEED = 11
Differences = dict[str, list[float]]


def a_study(rng: random.Random, truth: Sequence[float], rounds: int) -> tuple[list[str], int, Differences]:
    """The verdicts, the runs they took, and the differences of all rounds."""
    found: Differences = {str(k): [] for k in range(len(truth))}
    whole: Differences = {str(k): [] for k in range(len(truth))}
    words: dict[str, str] = {}
    runs, looks, done = 0, 0, 0
    for done in range(1, rounds + 1):
        reference = rng.gauss(0, 1)
        going = [name for name in found if words.get(name, UNDECIDED) == UNDECIDED]
        runs += len(going) + bool(going)
        for name in found:
            difference = truth[int(name)] + rng.gauss(0, 1) - reference
            whole[name].append(difference)
            if name in going:
                found[name].append(difference)
        if done in (next_look_after(looks, rounds), rounds):
            looks += 1
            judged = weigh(found, level_of(looks))
            words.update({name: judged[name] for name in going})
    return [words[name] for name in found], runs, whole


def next_look_after(looks: int, rounds: int) -> int:
    """The round of the next look, when there were so many."""
    place = 0
    for _ in range(looks + 1):
        place = min(next_look(place), rounds)
    return place


def weigh(found: Mapping[str, Sequence[float]], level: float) -> dict[str, str]:
    return {name: keep_word(e, GAIN, 0.0, False) for name, e in effects(found, level).items()}


def by_hand(differences: Sequence[float]) -> str:
    """One keep alone: the paired t of its own differences."""
    n = len(differences)
    half = student_quantile(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    mean = statistics.fmean(differences)
    return keep_word(Effect(n, mean, mean - half, mean + half), GAIN, 0.0, False)


def table(studies: int, arms: int, rounds: int) -> list[str]:
    rng = random.Random(SEED)
    ours: dict[float, Counter[str]] = {w: Counter() for w in WEIGHTS}
    hand: dict[float, Counter[str]] = {w: Counter() for w in WEIGHTS}
    taken = 0
    for _ in range(studies):
        truth = [rng.choice(WEIGHTS) for _ in range(arms)]
        words, runs, whole = a_study(rng, truth, rounds)
        taken += runs
        for k, (weight, word) in enumerate(zip(truth, words, strict=True)):
            ours[weight][word] += 1
            hand[weight][by_hand(whole[str(k)])] += 1
    lines = ["| weight now | carries weight | no longer needed | undecided | by hand: carries | not needed |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for weight in WEIGHTS:
        shares = [share(ours[weight], word) for word in (CARRIES, NOT_NEEDED, UNDECIDED)]
        shares += [share(hand[weight], word) for word in (CARRIES, NOT_NEEDED)]
        lines.append(f"| {weight:g} | " + " | ".join(shares) + " |")
    most = (arms + 1) * rounds
    lines += ["", f"{taken / studies:.1f} runs a study, {most} by hand ({taken / studies / most:.0%})"]
    return lines


def share(counted: Counter[str], word: str) -> str:
    total = sum(counted.values())
    return f"{100 * counted[word] / total:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--arms", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    print(f"{given.studies} studies, {given.arms} keeps, {given.rounds} rounds at most, kept with {GAIN:g}\n")
    print("\n".join(table(given.studies, given.arms, given.rounds)))


if __name__ == "__main__":
    main()
