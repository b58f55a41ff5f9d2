"""A zoo of small training runs that are really trained, healthy or with one planted fault each.

`first` was looked at while the checks were written; `second` has other architectures, optimizers, data and
seeds, and was diagnosed when they were done. A fault is a function that spoils a Setup, and a row in FAULTS.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

Batch = tuple[torch.Tensor, torch.Tensor]
LINES = 60  # log lines of a run


@dataclass
class Setup:
    """A training run before it starts; a fault changes it."""

    family: str
    seed: int
    model: nn.Module
    train: Batch
    val: Batch
    classes: int | None  # None: regression
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimizer: str
    rate: float
    steps: int = 300
    batch: int = 32
    decay: float = 0.0
    metric: str = "val_loss"
    goal: str = "min"
    style: str = "bar"
    shows: tuple[str, ...] = ("rate", "grad")
    schedule: Callable[[float], float] = lambda progress: min(1.0, (1 - progress) / 0.4 + 0.02)
    on_batch: Callable[[int, Batch], Batch] | None = None
    waits: Callable[[int], float] | None = None  # before a step, in steps' time
    work: Callable[[int], None] | None = None  # more work in a step
    evaluate: Callable[[Setup], dict[str, float]] | None = None
    params: Callable[[nn.Module], list[nn.Parameter]] = lambda model: list(model.parameters())
    kept: list[torch.Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """What a run left: its log, and how the supervisor would have seen its end."""

    log: str
    metric: float | None
    outcome: str = "ok"
    detail: str = ""
    steps: int = 0


# ---------------------------------------------------------------------------
# Families of the first zoo
# ---------------------------------------------------------------------------


def cross_entropy(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def clusters(n: int, classes: int, dims: int, noise: float, random: torch.Generator, world: int) -> Batch:
    centres = torch.randn(classes, dims, generator=torch.Generator().manual_seed(world))
    y = torch.randint(classes, (n,), generator=random)
    return centres[y] + noise * torch.randn(n, dims, generator=random), y


def mlp(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    data = [clusters(n, 10, 20, 2.0, random, 5) for n in (3000, 600)]
    return Setup("mlp", seed, model, data[0], data[1], 10, cross_entropy, "sgd", 0.05)


def images(n: int, random: torch.Generator) -> Batch:
    shapes = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    y = torch.randint(6, (n,), generator=random)
    moved = torch.stack(
        [shapes[c].roll(int(k), -1) for c, k in zip(y, torch.randint(3, (n,), generator=random), strict=True)]
    )
    return moved + 1.6 * torch.randn(n, 1, 8, 8, generator=random), y


def cnn(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 6)
    )
    setup = Setup(
        "cnn", seed, model, images(2000, random), images(500, random), 6, cross_entropy, "adam", 2e-3
    )
    return replace(setup, metric="val_acc", goal="max", style="pytorch", shows=("rate",))


class Transformer(nn.Module):
    """One block; `causal` can be taken away."""

    def __init__(self, vocab: int = 16, width: int = 32, places: int = 24) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(vocab, width), nn.Embedding(places, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, vocab)
        self.causal = True

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n = tokens.shape[1]
        x = self.embedding(tokens) + self.places.weight[:n]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1) if self.causal else None
        h = self.norms[0](x)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return self.head(self.norms[2](x + self.mlp(self.norms[1](x))))


def chain(rows: int, places: int, vocab: int, sharp: float, random: torch.Generator, world: int) -> Batch:
    """Text of a second-order Markov chain, as (inputs, next tokens)."""
    fixed = torch.Generator().manual_seed(world)
    pairs = torch.randn(vocab, vocab, vocab, generator=fixed)
    odds = (sharp * pairs + 2.5 * torch.randn(vocab, vocab, generator=fixed)).softmax(-1)
    text = torch.randint(vocab, (rows, places + 1), generator=random)
    for i in range(2, places + 1):
        text[:, i] = torch.multinomial(odds[text[:, i - 2], text[:, i - 1]], 1, generator=random)[:, 0]
    return text[:, :-1], text[:, 1:]


def lm(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data = [chain(n, 24, 16, 1.0, random, 4) for n in (3000, 200)]
    setup = Setup(
        "lm", seed, Transformer(), data[0], data[1], 16, cross_entropy, "adamw", 3e-3, batch=16, style="json"
    )
    return replace(setup, shows=("rate", "grad", "memory", "seconds"))


def squared(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(output.squeeze(-1), y)


def regression(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 1))
    direction = torch.randn(8, 2, generator=torch.Generator().manual_seed(6))

    def sample(n: int) -> Batch:
        x = torch.randn(n, 8, generator=random)
        z = x @ direction
        return x, torch.sin(z[:, 0]) + 0.4 * z[:, 1] + 0.3 * torch.randn(n, generator=random)

    setup = Setup("regression", seed, model, sample(2500), sample(500), None, squared, "sgd", 0.05)
    return replace(setup, style="blocks", shows=("rate", "seconds"))


# ---------------------------------------------------------------------------
# Families of the second zoo
# ---------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A GRU that reads tokens and names the class of the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(12, 16), nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embedding(tokens))[0].mean(1))


def gru(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    odds = (0.9 * torch.randn(8, 12, generator=torch.Generator().manual_seed(11))).softmax(-1)

    def sample(n: int) -> Batch:
        y = torch.randint(8, (n,), generator=random)
        return torch.multinomial(odds[y], 14, replacement=True, generator=random), y

    setup = Setup(
        "gru", seed, Recurrent(), sample(2500), sample(500), 8, cross_entropy, "rmsprop", 3e-3, 240, 24
    )
    return replace(setup, style="keys", schedule=lambda p: min(1.0, p / 0.1 + 0.05) * (1 - 0.9 * p))


class Residual(nn.Module):
    """Five residual layers with LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(30, 48)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 48)) for _ in range(4)
        )
        self.head = nn.Linear(48, 25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def residual(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data = [clusters(n, 25, 30, 1.8, random, 12) for n in (4000, 700)]
    setup = Setup("residual", seed, Residual(), data[0], data[1], 25, cross_entropy, "adamw", 1e-3, 360, 48)
    return replace(
        setup, metric="accuracy/val", goal="max", style="bar", shows=("rate", "grad", "memory", "seconds")
    )


class Convolutions(nn.Module):
    """Causal convolutions over characters."""

    def __init__(self, vocab: int = 27) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, 24)
        self.layers = nn.ModuleList(nn.Conv1d(24, 24, 2, dilation=2**i) for i in range(3))
        self.head = nn.Linear(24, vocab)
        self.causal = True

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens).mT
        for i, layer in enumerate(self.layers):
            sides = (2**i, 0) if self.causal else (0, 2**i)
            x = x + torch.relu(layer(F.pad(x, sides)))
        return self.head(x.mT)


def charlm(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data = [chain(n, 30, 27, 1.0, random, 14) for n in (3000, 150)]
    setup = Setup("charlm", seed, Convolutions(), data[0], data[1], 27, cross_entropy, "adam", 4e-3, 320, 16)
    return replace(setup, style="pytorch", shows=("rate", "grad", "seconds"))


def huber(seed: int) -> Setup:
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 40), nn.SiLU(), nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, 1))
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(15)) / 12

    def sample(n: int) -> Batch:
        x = torch.randn(n, 12, generator=random)
        y = (x @ matrix * x).sum(1) + x[:, 0]
        return x, (y + 0.3 * torch.randn(n, generator=random)) / 1.6

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.huber_loss(output.squeeze(-1), y)

    setup = Setup("huber", seed, model, sample(3000), sample(600), None, loss, "adagrad", 0.03, 300, 40)
    return replace(setup, style="blocks", shows=("grad", "memory"))


FAMILIES: dict[str, dict[str, Callable[[int], Setup]]] = {
    "first": {"mlp": mlp, "cnn": cnn, "lm": lm, "regression": regression},
    "second": {"gru": gru, "residual": residual, "charlm": charlm, "huber": huber},
}


# ---------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------


def optimizer_for(setup: Setup) -> torch.optim.Optimizer:
    params, rate, decay = setup.params(setup.model), setup.rate, setup.decay
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(params, rate, momentum=0.9, weight_decay=decay),
        "adam": lambda: torch.optim.Adam(params, rate, weight_decay=decay),
        "adamw": lambda: torch.optim.AdamW(params, rate, weight_decay=decay),
        "rmsprop": lambda: torch.optim.RMSprop(params, rate, weight_decay=decay),
        "adagrad": lambda: torch.optim.Adagrad(params, rate, weight_decay=decay),
    }
    return makers[setup.optimizer]()


def score(setup: Setup, split: Batch) -> dict[str, float]:
    """The loss, and the accuracy where there are classes."""
    x, y = split
    setup.model.eval()
    with torch.no_grad():
        output = setup.model(x)
        found = {"val_loss": float(setup.loss(output, y))}
        if setup.classes:
            name = setup.metric if setup.goal == "max" else "val_acc"
            found[name] = float((output.argmax(-1) == y).float().mean())
    setup.model.train()
    return found


def batches(setup: Setup) -> Iterator[tuple[int, Batch]]:
    """(epoch, batch) without end, each epoch in a new order."""
    random = torch.Generator().manual_seed(setup.seed + 1)
    x, y = setup.train
    size = min(setup.batch, len(x))
    for epoch in itertools.count():
        order = torch.randperm(len(x), generator=random)
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield epoch, (x[rows], y[rows])


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def train(setup: Setup) -> Ended:
    """Train; an error of the code ends the run as it would end a program."""
    lines: list[str] = []
    step = [0]
    try:
        last = _train(setup, lines, step)
    except (RuntimeError, IndexError, ValueError) as error:
        lines.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return Ended("\n".join(lines) + "\n", None, "error", lines[-1], step[0])
    finally:
        setup.kept.clear()
    value = last.get(setup.metric, math.nan)
    lines += ["---", *(f"{name}: {number:.6f}" for name, number in last.items())]
    ok = math.isfinite(value)
    return Ended("\n".join(lines) + "\n", value if ok else None, "ok" if ok else "not_finite", steps=step[0])


def _train(setup: Setup, lines: list[str], at: list[int]) -> dict[str, float]:
    torch.manual_seed(setup.seed + 2)
    optimizer, stream = optimizer_for(setup), batches(setup)
    evaluate = setup.evaluate or (lambda s: score(s, s.val))
    every, slept, usual, began = max(1, setup.steps // LINES), 0.0, 0.0, time.process_time()
    if setup.classes:
        lines.append(
            f"classes: {setup.classes}  parameters: {sum(p.numel() for p in setup.model.parameters())}"
        )
    losses: list[float] = []
    last: dict[str, float] = {}
    for step in range(setup.steps):
        at[0] = step
        share = setup.schedule(step / setup.steps)
        for group in optimizer.param_groups:
            group["lr"] = setup.rate * share
        epoch, batch = next(stream)
        if step == 20:
            usual = (time.process_time() - began) / 20
        if setup.waits and step >= 20:
            slept += usual * setup.waits(step)  # counted, not slept: a busy machine stays out of the log
        x, y = setup.on_batch(step, batch) if setup.on_batch else batch
        loss = setup.loss(setup.model(x), y)
        optimizer.zero_grad()
        loss.backward()
        norm = _norm(setup.model)
        optimizer.step()
        if setup.work:
            setup.work(step)
        losses.append(float(loss.detach()))
        if step % every == 0 or step == setup.steps - 1:
            row = {"loss": sum(losses) / len(losses)}
            losses.clear()
            seconds = time.process_time() - began + slept
            shown = {
                "rate": ("lr", setup.rate * share), "grad": ("grad_norm", norm),
                "memory": ("mem_mb", memory_mb() if "memory" in setup.shows else 0.0),
                "seconds": ("seconds", seconds),
            }  # fmt: skip
            row |= dict(shown[name] for name in setup.shows)
            if step % (every * 6) == 0 or step == setup.steps - 1:
                last = evaluate(setup)
                row |= last
            lines.append(STYLES[setup.style](step, epoch, setup, row))
    return last


def _norm(model: nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))


Style = Callable[[int, int, Setup, dict[str, float]], str]


def _said(row: dict[str, float], between: str, join: str) -> str:
    return join.join(f"{name}{between}{value:.5g}" for name, value in row.items())


def _block(step: int, epoch: int, row: dict[str, float]) -> str:
    text = f"iter: {step}\nepoch: {epoch}\n" + _said(row, ": ", "\n")
    return text.replace("\nloss:", "\nloss_total:")


STYLES: dict[str, Style] = {
    "bar": lambda step, epoch, s, row: f"step {step:05d} | epoch {epoch} | {_said(row, ' ', ' | ')}",
    "pytorch": lambda step, epoch, s, row: (
        f"Epoch [{epoch + 1}/9], Step [{step}/{s.steps}], {_said(row, ': ', ', ')}"
    ),
    "json": lambda step, epoch, s, row: json.dumps(
        {"step": step, "epoch": epoch, **{k: float(f"{v:.5g}") for k, v in row.items()}}
    ),
    "blocks": lambda step, epoch, s, row: _block(step, epoch, row),
    "keys": lambda step, epoch, s, row: (
        f"[10:00:{step % 60:02d}] step={step} epoch={epoch} {_said(row, '=', ' ')}"
    ),
}


# ---------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------


def rate_times(factor: float) -> Callable[[Setup], None]:
    def spoil(s: Setup) -> None:
        s.rate *= factor

    return spoil


def zero_spread(s: Setup) -> None:
    """Inputs divided by their spread, which is 0 in one batch."""
    where = s.steps * 6 // 10

    def normalised(step: int, batch: Batch) -> Batch:
        x, y = batch
        return (x * (x.std() * 0 / (x.std() * 0)), y) if step == where else (x, y)

    s.on_batch = normalised


def overflow(s: Setup) -> None:
    """A term of the loss in half precision, past 65504 once a batch is large."""
    plain, where = s.loss, s.steps // 2
    count = itertools.count()

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scale = 300.0 if next(count) > where else 1.0
        extra = (output.detach().half() * scale * 0 + 300 * scale / 300).square().float()
        return plain(output, y) + (output * 0 * extra).sum()

    s.loss = loss


def bad_batches(s: Setup) -> None:
    """A few batches of garbage, as of a damaged shard."""
    random = torch.Generator().manual_seed(s.seed)

    def damaged(step: int, batch: Batch) -> Batch:
        x, y = batch
        if step > s.steps // 5 and step % (s.steps // 5) == 7:
            noise = torch.randn(x.shape, generator=random)
            return x + 12 * noise, y[torch.randperm(len(y), generator=random)]
        return x, y

    s.on_batch = damaged


def frozen(s: Setup) -> None:
    """The optimizer got a copy of the weights."""
    s.params = lambda model: [nn.Parameter(p.detach().clone()) for p in model.parameters()]


def shuffled_labels(s: Setup) -> None:
    x, y = s.train
    s.train = (x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(s.seed))])


def shifted_labels(s: Setup) -> None:
    """Each example has the label of the one before it."""
    x, y = s.train
    s.train = (x, y.roll(1, 0))


def too_large(s: Setup) -> None:
    """Much more capacity, no decay of the rate, a quarter of the data: learned by heart."""
    x, y = s.train
    s.train = (x[: len(x) // 4], y[: len(x) // 4])
    s.model = _wider(s)
    s.schedule = lambda progress: 1.0


def _wider(s: Setup) -> nn.Module:
    torch.manual_seed(s.seed)
    if s.family == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 48, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3072, 64),
            nn.ReLU(),
            nn.Linear(64, 6),
        )
    if s.family == "gru":
        return s.model
    inputs = s.train[0].shape[1]
    return nn.Sequential(
        nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, s.classes or 1)
    )


def tiny_data(s: Setup) -> None:
    """A twenty-fifth of the data, so that each example comes very often."""
    x, y = s.train
    s.train = (x[: len(x) // 25], y[: len(x) // 25])


def bottleneck(s: Setup) -> None:
    """One hidden unit."""
    torch.manual_seed(s.seed)
    if s.family in ("lm", "charlm"):
        s.model = nn.Sequential(nn.Embedding(s.classes or 1, 1), nn.Linear(1, s.classes or 1))
    elif s.family == "gru":
        s.model = Recurrent()
        s.model.gru, s.model.head = nn.GRU(16, 1, batch_first=True), nn.Linear(1, 8)  # type: ignore[assignment]
    else:
        inputs = s.train[0].flatten(1).shape[1]
        s.model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 1), nn.Tanh(), nn.Linear(1, s.classes or 1))


def heavy_decay(s: Setup) -> None:
    s.decay = 1.0 if s.optimizer == "sgd" else 0.2
    if s.optimizer == "adamw":
        s.decay = 60.0


def large_weights(s: Setup) -> None:
    """All weights eight times too large at the start."""
    with torch.no_grad():
        for p in s.model.parameters():
            if p.ndim > 1:
                p.mul_(8)


def slowed(s: Setup) -> None:
    """Another program takes more than half of the machine from a moment on."""
    s.waits = lambda step: 1.2 if step > s.steps * 0.45 else 0.0
    s.shows = ("rate", "seconds")


def stalls(s: Setup) -> None:
    """The loader has nothing ready now and then."""
    s.waits = lambda step: 28.0 if step % (s.steps // 9) == 3 else 0.0
    s.shows = ("rate", "seconds")


def costly(s: Setup) -> None:
    """The change makes each step two and a half times as long."""
    s.waits = lambda step: 1.5
    s.shows = ("rate", "seconds")


def leaky_memory(s: Setup) -> None:
    """Every step keeps a tensor that nobody needs."""
    s.work = lambda step: s.kept.append(torch.full((400_000,), float(step)))
    s.shows = ("rate", "memory")


def wrong_shape(s: Setup) -> None:
    s.on_batch = lambda step, batch: (batch[0], batch[1][:-1])


def rare_label(s: Setup) -> None:
    """One example has a label that does not exist."""

    def rare(step: int, batch: Batch) -> Batch:
        x, y = batch
        return (x, torch.full_like(y, s.classes or 0)) if step == int(s.steps * 0.8) else (x, y)

    s.on_batch = rare


def label_in_inputs(s: Setup) -> None:
    for name in ("train", "val"):
        x, y = getattr(s, name)
        x = x.clone()
        classes = s.classes or 0
        x[:, : min(classes, x.shape[1])] += 6 * F.one_hot(y, classes)[:, : x.shape[1]]
        setattr(s, name, (x, y))


def sees_future(s: Setup) -> None:
    s.model.causal = False  # type: ignore[assignment]


def unshifted(s: Setup) -> None:
    """The target is the token itself: off by one."""
    s.train, s.val = (s.train[0], s.train[0]), (s.val[0], s.val[0])


def scored_on_train(s: Setup) -> None:
    """The evaluation reads the training split, whose small size is learned by heart."""
    tiny_data(s)
    s.val = s.train


def inverted(s: Setup) -> None:
    """The metric has the other sign."""
    name = s.metric

    def evaluate(s: Setup) -> dict[str, float]:
        found = score(s, s.val)
        return {**found, name: -found["val_loss"]}

    s.evaluate = evaluate


def error_as_accuracy(s: Setup) -> None:
    """What is printed as accuracy is the share of errors."""
    name = s.metric

    def evaluate(s: Setup) -> dict[str, float]:
        found = score(s, s.val)
        return {**found, name: 1 - found[name]}

    s.evaluate = evaluate


def stale(s: Setup) -> None:
    """The score of the first evaluation is kept and given back."""
    cache: dict[str, float] = {}

    def evaluate(s: Setup) -> dict[str, float]:
        if not cache:
            cache.update(score(s, s.val))
        return dict(cache)

    s.evaluate = evaluate


def early_end(s: Setup) -> None:
    """The schedule was made for a tenth of the steps."""
    s.schedule = lambda progress: max(1e-4, 1 - 12 * progress)


FAULTS: dict[str, tuple[str, Callable[[Setup], None]]] = {
    "rate x 40": ("rate_high", rate_times(40)),
    "rate x 300": ("rate_high", rate_times(300)),
    "rate / 200": ("rate_low", rate_times(1 / 200)),
    "rate / 60": ("rate_low", rate_times(1 / 60)),
    "division by zero": ("bad_number", zero_spread),
    "overflow in half precision": ("bad_number", overflow),
    "damaged batches": ("bad_batch", bad_batches),
    "frozen weights": ("frozen", frozen),
    "shuffled labels": ("labels_wrong", shuffled_labels),
    "labels shifted by a row": ("labels_wrong", shifted_labels),
    "learned by heart": ("overfit", too_large),
    "data repeated": ("data_repeated", tiny_data),
    "one hidden unit": ("underfit", bottleneck),
    "heavy weight decay": ("underfit", heavy_decay),
    "large initial weights": ("init_scale", large_weights),
    "slowed from a moment on": ("contention", slowed),
    "loader stalls": ("data_stall", stalls),
    "costly change": ("costlier", costly),
    "memory grows": ("memory_leak", leaky_memory),
    "wrong shape": ("crash_code", wrong_shape),
    "rare label": ("crash_data", rare_label),
    "label among the inputs": ("leak", label_in_inputs),
    "future visible": ("leak", sees_future),
    "target is the input": ("leak", unshifted),
    "scored on the training split": ("val_is_train", scored_on_train),
    "inverted sign": ("polarity", inverted),
    "error printed as accuracy": ("polarity", error_as_accuracy),
    "stale score": ("stale_metric", stale),
    "schedule ends early": ("schedule_short", early_end),
}

# Which family has which fault.
PLANTED: dict[str, dict[str, tuple[str, ...]]] = {
    "first": {
        "mlp": (
            "rate x 300", "rate / 200", "frozen weights", "shuffled labels", "learned by heart",
            "one hidden unit", "large initial weights", "label among the inputs", "stale score",
            "schedule ends early",
        ),
        "cnn": (
            "rate x 300", "damaged batches", "labels shifted by a row", "data repeated", "loader stalls",
            "scored on the training split", "error printed as accuracy", "wrong shape", "rare label",
        ),
        "lm": (
            "rate x 300", "frozen weights", "rate / 60", "one hidden unit", "future visible",
            "target is the input", "memory grows", "schedule ends early", "large initial weights",
        ),
        "regression": (
            "rate x 40", "division by zero", "overflow in half precision", "heavy weight decay",
            "slowed from a moment on", "costly change", "inverted sign", "data repeated",
        ),
    },
    "second": {
        "gru": (
            "rate x 300", "frozen weights", "rate / 60", "shuffled labels", "one hidden unit",
            "data repeated", "stale score", "wrong shape", "schedule ends early",
        ),
        "residual": (
            "rate x 300", "rate / 200", "labels shifted by a row", "learned by heart",
            "label among the inputs", "error printed as accuracy", "memory grows",
            "damaged batches", "rare label",
        ),
        "charlm": (
            "rate x 300", "frozen weights", "future visible", "target is the input", "one hidden unit",
            "loader stalls", "schedule ends early", "large initial weights", "costly change",
        ),
        "huber": (
            "rate x 300", "division by zero", "overflow in half precision", "rate / 200",
            "slowed from a moment on", "inverted sign", "scored on the training split",
            "data repeated", "learned by heart",
        ),
    },
}  # fmt: skip

Vary = Callable[[Setup], None]


def _rate(factor: float) -> Vary:
    return rate_times(factor)


def _batch(factor: float) -> Vary:
    def vary(s: Setup) -> None:
        s.batch = int(s.batch * factor)

    return vary


def _constant(s: Setup) -> None:
    s.schedule = lambda progress: 1.0


def _cosine(s: Setup) -> None:
    s.schedule = lambda progress: min(1.0, progress / 0.05 + 0.1) * (0.5 + 0.5 * math.cos(math.pi * progress))


def _decay(s: Setup) -> None:
    s.decay = 1e-4


HEALTHY: dict[str, tuple[int, Vary]] = {
    "another seed": (1, lambda s: None),
    "rate x 0.6": (2, _rate(0.6)),
    "rate x 1.5": (3, _rate(1.5)),
    "cosine schedule": (4, _cosine),
    "constant rate": (5, _constant),
    "half the batch": (6, _batch(0.5)),
    "small weight decay": (7, _decay),
}


About = dict[str, Any]


def cases(zoo: str, shift: int = 0) -> Iterator[tuple[About, Setup]]:
    """(what is known of a case, its setup), each family's reference first; `shift` moves the seeds."""
    base = (100 if zoo == "first" else 900) + 1000 * shift
    for number, (family, make) in enumerate(FAMILIES[zoo].items()):
        seed = base + 10 * number
        first = make(seed)
        about = {"family": family, "metric": first.metric, "goal": first.goal, "truth": ""}
        yield {**about, "name": f"{family}: reference", "kind": "reference"}, first
        for name, (offset, vary) in HEALTHY.items():
            setup = make(seed + offset)
            vary(setup)
            yield {**about, "name": f"{family}: {name}", "kind": "healthy"}, setup
        for name in PLANTED[zoo][family]:
            truth, spoil = FAULTS[name]
            setup = make(seed + 8)
            spoil(setup)
            yield {**about, "name": f"{family}: {name}", "kind": "sick", "truth": truth}, setup


def unreached(make: Callable[[int], Setup], seed: int) -> list[Setup]:
    """Four ideas that all sit behind a switch which nothing reads: the same training four times."""
    return [make(seed) for _ in range(4)]


def shrinking(make: Callable[[int], Setup], seed: int) -> list[Setup]:
    """Six ideas, each chosen because the training loss fell: each sees half the data of the one before."""
    setups = []
    for halvings in range(6):
        setup = make(seed)
        x, y = setup.train
        n = len(x) >> halvings
        setup.train = (x[:n], y[:n])
        setups.append(setup)
    return setups


# Family, truth, and the runs of a campaign in which only all of them together show what is wrong.
CAMPAIGNS: dict[str, list[tuple[str, str, str, Callable[[Callable[[int], Setup], int], list[Setup]]]]] = {
    "first": [
        ("mlp", "switch that nothing reads", "change_unreached", unreached),
        ("cnn", "chosen by training loss", "overfit", shrinking),
    ],
    "second": [
        ("gru", "chosen by training loss", "overfit", shrinking),
        ("huber", "switch that nothing reads", "change_unreached", unreached),
    ],
}


def campaigns(zoo: str, shift: int = 0) -> Iterator[tuple[About, list[Setup]]]:
    """(what is known of a case, the setups of its runs, oldest first)."""
    for family, name, truth, make in CAMPAIGNS[zoo]:
        setups = make(FAMILIES[zoo][family], 77 + 1000 * shift)
        about = {"family": family, "metric": setups[0].metric, "goal": setups[0].goal, "truth": truth}
        yield {**about, "name": f"{family}: {name}", "kind": "sick"}, setups
