"""Small models with one unhealthy part each, for `health`: what was planted, and the name of the part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

Material = dict[str, Any]


def _batches(dims: int = 16, classes: int = 5, scale: float = 1.0) -> list[Any]:
    random = torch.Generator().manual_seed(1)
    centres = torch.randn(classes, dims, generator=random)
    labels = [torch.randint(classes, (32,), generator=random) for _ in range(8)]
    return [(scale * (centres[y] + torch.randn(32, dims, generator=random)), y) for y in labels]


def _tokens(vocab: int = 12, places: int = 10) -> list[Any]:
    random = torch.Generator().manual_seed(2)
    text = [torch.randint(vocab, (8, places + 1), generator=random) for _ in range(8)]
    return [(t[:, :-1], t[:, 1:]) for t in text]


def plain(layers: int = 3, unit: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(3)
    parts: list[nn.Module] = [nn.Linear(16, 32), unit()]
    for _ in range(layers - 2):
        parts += [nn.Linear(32, 32), unit()]
    return nn.Sequential(*parts, nn.Linear(32, 5))


class Reader(nn.Module):
    """Embedding, one attention, a head; `sharpness` scales the queries."""

    def __init__(self, sharpness: float = 1.0, vocab: int = 12) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embedding = nn.Embedding(vocab, 16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, vocab)
        self.sharpness = sharpness

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        q, k, v = (f(x)[:, None] for f in (self.query, self.key, self.value))
        x = x + F.scaled_dot_product_attention(q * self.sharpness, k, v, is_causal=True)[:, 0]
        return self.head(x + self.down(F.relu(self.up(x))))


class Branch(nn.Module):
    """A model with a second branch that is spoiled in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.main, self.side, self.head, self.way = plain(3)[:4], nn.Linear(16, 32), nn.Linear(32, 5), way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.main(x)
        if self.way == "detached":
            h = h + self.side(x).detach()
        elif self.way == "times zero":
            h = h + 0.0 * self.side(x)
        return self.head(h)


def _with(model: nn.Module, batches: list[Any], **more: Any) -> Material:
    return {"model": model, "batches": batches, **more}


def _fill(parameter: torch.Tensor, value: float) -> None:
    with torch.no_grad():
        parameter.fill_(value)


def _times(parameter: torch.Tensor, factor: float) -> None:
    with torch.no_grad():
        parameter.mul_(factor)


def dead_units() -> Material:
    model = plain()
    _fill(model[0].bias, -100.0)
    return _with(model, _batches())


def dead_functional() -> Material:
    model = Reader()
    _fill(model.up.bias, -50.0)
    return _with(model, _tokens())


def mostly_dead() -> Material:
    model = plain(4)
    with torch.no_grad():
        model[2].bias[:24] = -40.0
    return _with(model, _batches())


def no_grad_wanted() -> Material:
    model = plain()
    model[2].weight.requires_grad_(False)
    return _with(model, _batches())


def not_in_optimizer() -> Material:
    model = plain()
    return _with(model, _batches(), optimizer=lambda m: torch.optim.Adam(m[4].parameters(), 1e-3))


def unused_branch() -> Material:
    return _with(Branch("unused"), _batches())


def detached_branch() -> Material:
    return _with(Branch("detached"), _batches())


def zero_branch() -> Material:
    return _with(Branch("times zero"), _batches())


def exploding_layer() -> Material:
    model = plain(5)
    _times(model[4].weight, 3000.0)
    return _with(model, _batches(), optimizer=lambda m: torch.optim.SGD(m.parameters(), 1e-6))


def exploding_row() -> Material:
    model = Reader()
    _times(model.embedding.weight[3], 500.0)
    return _with(model, _tokens())


def saturated_tanh() -> Material:
    model = plain(3, nn.Tanh)
    _times(model[0].weight, 200.0)
    return _with(model, _batches())


def saturated_sigmoid() -> Material:
    model = plain(3, nn.Sigmoid)
    _times(model[2].weight, 400.0)
    return _with(model, _batches())


def sharp_attention() -> Material:
    return _with(Reader(sharpness=3000.0, vocab=2000), _tokens(vocab=2000))


def vanishing_stack() -> Material:
    return _with(plain(14, nn.Sigmoid), _batches())


def not_a_number() -> Material:
    model = plain()
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    return _with(model, _batches())


def constant_layer() -> Material:
    model = plain()
    _fill(model[2].weight, 0.0)
    return _with(model, _batches(), optimizer=lambda m: torch.optim.SGD(m[4].parameters(), 1e-3))


# Name -> what makes it, what must be found, and in which part (the beginning of its name).
SICK: dict[str, tuple[Callable[[], Material], str, str]] = {
    "dead units (module)": (dead_units, "dead", "1"),
    "dead units (function)": (dead_functional, "dead", "model"),
    "three quarters dead": (mostly_dead, "dead", "3"),
    "requires_grad off": (no_grad_wanted, "frozen", "2.weight"),
    "not in the optimizer": (not_in_optimizer, "frozen", "0.weight"),
    "unused module": (unused_branch, "unused", "side"),
    "detached branch": (detached_branch, "unused", "side"),
    "branch times zero": (zero_branch, "no gradient", "side"),
    "exploding layer": (exploding_layer, "exploding", "4"),
    "exploding embedding row": (exploding_row, "exploding", "embedding"),
    "saturated tanh": (saturated_tanh, "saturated", "1"),
    "saturated sigmoid": (saturated_sigmoid, "saturated", "3"),
    "collapsed attention": (sharp_attention, "collapsed", "model"),
    "vanishing gradient": (vanishing_stack, "vanishing", "0"),
    "nan weight": (not_a_number, "not finite", "2"),
    "constant layer": (constant_layer, "constant", "2"),
}
HEALTHY: dict[str, Callable[[], Material]] = {
    "relu": lambda: _with(plain(), _batches()),
    "tanh": lambda: _with(plain(3, nn.Tanh), _batches()),
    "gelu, five layers": lambda: _with(plain(5, nn.GELU), _batches()),
    "attention": lambda: _with(Reader(), _tokens()),
    "sgd": lambda: _with(plain(), _batches(), optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.05)),
    "large inputs": lambda: _with(plain(), _batches(scale=3.0)),
    "sigmoid": lambda: _with(plain(3, nn.Sigmoid), _batches()),
}
