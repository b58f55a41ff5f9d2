"""Small projects with one fault of measurement each, for `verify-metric`, and honest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from diagnose_zoo import Transformer, chain, clusters

Material = dict[str, Any]


def _cut(split: Any, size: int) -> list[Any]:
    return list(zip(split[0].split(size), split[1].split(size), strict=True))


def mean_loss(model: Any, val: list[Any]) -> float:
    """The loss of all examples together."""
    total = sum(float(F.cross_entropy(model(x).flatten(0, -2), y.flatten(), reduction="sum")) for x, y in val)
    return total / sum(y.numel() for _, y in val)


def accuracy(model: Any, val: list[Any]) -> float:
    right = sum(float((model(x).argmax(-1) == y).sum()) for x, y in val)
    return right / sum(y.numel() for _, y in val)


def classes() -> Material:
    """A classifier, scored by its accuracy."""
    random = torch.Generator().manual_seed(8)
    torch.manual_seed(8)
    train, val = (clusters(n, 6, 16, 1.0, random, 9) for n in (800, 230))
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 6))
    return {
        "model": model,
        "batches": _cut(train, 64),
        "val": _cut(val, 100),
        "score": accuracy,
        "goal": "max",
    }


def language() -> Material:
    """A small language model, scored by its loss."""
    random = torch.Generator().manual_seed(9)
    torch.manual_seed(9)
    train, val = (chain(n, 24, 16, 1.0, random, 4) for n in (192, 50))
    known = float(torch.log(torch.tensor(16.0)))
    return {
        "model": Transformer(), "batches": _cut(train, 16), "val": _cut(val, 16), "score": mean_loss,
        "goal": "min", "constant": known,
        "optimizer": lambda m: torch.optim.Adam(m.parameters(), 3e-3),
    }  # fmt: skip


def inverted() -> Material:
    return {**classes(), "score": lambda model, val: 1 - accuracy(model, val)}


def leaking() -> Material:
    found = classes()
    (x, y), (vx, vy) = found["batches"][0], found["val"][0]
    found["batches"][0] = (torch.cat([x[:-9], vx[:9]]), torch.cat([y[:-9], vy[:9]]))
    return found


def not_causal() -> Material:
    found = language()
    found["model"].causal = False
    return found


def on_training_split() -> Material:
    found = classes()
    return {**found, "val": found["batches"][:4]}


def averaged_per_batch() -> Material:
    def score(model: Any, val: list[Any]) -> float:
        return sum(float(F.cross_entropy(model(x).flatten(0, -2), y.flatten())) for x, y in val) / len(val)

    return {**language(), "score": score}


def cached() -> Material:
    known: list[float] = []

    def score(model: Any, val: list[Any]) -> float:
        known.append(mean_loss(model, val))
        return known[0]

    return {**language(), "score": score}


def off_by_one() -> Material:
    found = language()
    for name in ("batches", "val"):
        found[name] = [(x, x) for x, _ in found[name]]
    return found


def changes_the_model() -> Material:
    found = classes()
    found["model"] = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 6))

    def score(model: Any, val: list[Any]) -> float:
        if hasattr(model, "train"):
            model.train()  # the running means move with every evaluation
        return accuracy(model, val)

    return {**found, "score": score}


def differs_each_time() -> Material:
    def score(model: Any, val: list[Any]) -> float:
        rows = torch.randint(len(val), (1,))
        return mean_loss(model, [val[int(rows)]])

    return {**language(), "score": score}


# Name -> what makes it, and the check that must fail.
FAULTS: dict[str, tuple[Callable[[], Material], str]] = {
    "inverted polarity": (inverted, "shuffled labels"),
    "validation leaks into training": (leaking, "splits are apart"),
    "non-causal attention": (not_causal, "causal"),
    "metric computed on the training split": (on_training_split, "splits are apart"),
    "averaged per batch of unequal sizes": (averaged_per_batch, "same for every batch size"),
    "cached stale value": (cached, "follows the model"),
    "off-by-one labels": (off_by_one, "target is the next token"),
    "evaluation changes the model": (changes_the_model, "leaves the model as it is"),
    "another part each time": (differs_each_time, "repeats"),
}
HONEST: dict[str, Callable[[], Material]] = {"classes": classes, "language": language}
