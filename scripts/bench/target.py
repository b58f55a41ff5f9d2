"""Our train.py against a plain one of the same size: tokens in a CPU second, and val_bpb at the same budget.

The plain one is what karpathy's autoresearch describes, written without thought for a CPU: fp32, eager,
all logits of a step at once, tanh softcap, Muon matrix by matrix and AdamW, no table of token pairs.
Same data, preset, width, depth, rows in a step, threads, seed and budget of CPU seconds; runs take turns, so
that a change of the machine's load meets both.

    python scripts/bench/target.py --cpu-seconds 60 --repeats 1
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cpu-seconds", type=float, default=60, help="budget of each run (default 60)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--plain", action="store_true", help="be the plain run; used by this script itself")
    arguments = parser.parse_args()
    if arguments.plain:
        plain_run()
        return
    ours, plain = [], []
    for seed in range(1, arguments.repeats + 1):
        ours.append(run([str(ROOT / "train.py")], arguments.cpu_seconds, seed))
        plain.append(run([__file__, "--plain"], arguments.cpu_seconds, seed))
    compare(ours, plain)


def run(script: list[str], cpu_seconds: float, seed: int) -> dict[str, float]:
    """The numbers of one run's summary."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_PRESET": "cpu",
        "AUTORESEARCH_BUDGET": f"cpu:{cpu_seconds}",
        "SEED": str(seed),
    }
    done = subprocess.run([sys.executable, *script], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(script)} failed:\n{done.stderr}")
    pairs = re.findall(r"^(\w+): +(\d[\d.]*)$", done.stdout, re.M)
    return {name: float(value) for name, value in pairs}


def compare(ours: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    columns = ("tokens/CPU s", "val_bpb", "steps", "CPU s", "wall s", "eval s", "MB")
    print(f"{'':8}" + "".join(f"{column:>13}" for column in columns))
    for which, runs in (("ours", ours), ("plain", plain)):
        for row in runs:
            names = ("num_steps", "cpu_seconds", "training_seconds", "eval_seconds", "peak_vram_mb")
            rest = "".join(f"{row[name]:13.1f}" for name in names)
            print(f"{which:8}{speed(row):13,.0f}{row['val_bpb']:13.4f}{rest}")
    ratio = mean(map(speed, ours)) / mean(map(speed, plain))
    lower = mean(row["val_bpb"] for row in plain) - mean(row["val_bpb"] for row in ours)
    overhead = mean(row["eval_seconds"] / row["training_seconds"] for row in ours)
    print(f"tokens_ratio:     {ratio:.2f}")
    print(f"val_bpb_lower_by: {lower:.4f}")
    print(f"eval_overhead:    {100 * overhead:.1f} %")


def speed(row: dict[str, float]) -> float:
    return row["total_tokens_M"] * 1e6 / row["cpu_seconds"]


# ---------------------------------------------------------------------------
# The plain run. torch is imported here, so that the comparing process does without it.
# ---------------------------------------------------------------------------


def plain_run() -> None:
    sys.path.insert(0, str(ROOT))
    prepare = importlib.import_module("prepare")
    ours = importlib.import_module("train")
    torch = importlib.import_module("torch")
    settings = prepare.read_settings()
    torch.manual_seed(settings.seed)
    # torch's own choice of spinning threads did 1,100 tokens in a CPU second on a busy machine: no match.
    torch.set_num_threads(settings.preset.threads or torch.get_num_threads())
    data = prepare.open_data(settings)
    model = plain_gpt(settings.preset, ours)
    budget = prepare.Budget(settings.budget_kind, settings.budget_amount)
    batches = data.batches(ours.STEP_ROWS, settings, budget)
    step = plain_optimizer(model, ours)
    budget.start()
    while not budget.done:
        x, y = next(batches)
        torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        step(budget.progress, budget.steps)
        budget.step()
    result = prepare.evaluate_bpb(model, data, settings, budget)
    params = sum(p.numel() for p in model.parameters())
    prepare.report(result, data, settings, budget, ours.started, 0.0, torch.float32, params, ours.DEPTH)


def plain_gpt(preset: Any, ours: Any) -> Any:
    """RoPE, RMSNorm, QK norm, squared ReLU, gated value embeddings, x0 skips, tanh softcap."""
    import torch
    from torch import nn
    from torch.nn import functional

    width, depth, head = ours.WIDTH, ours.DEPTH, ours.HEAD_WIDTH

    def norm(x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (x.shape[-1],))

    angle = torch.outer(
        torch.arange(preset.seq_len), 10_000 ** -(torch.arange(0, head, 2, dtype=torch.float32) / head)
    )[:, None]
    cos, sin = angle.cos(), angle.sin()

    def rotate(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)

    class Layer(nn.Module):
        def __init__(self, with_value: bool) -> None:
            super().__init__()
            self.query, self.key, self.value, self.out = (
                nn.Linear(width, width, bias=False) for _ in range(4)
            )
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)
            self.table = nn.Embedding(preset.vocab_size, width) if with_value else None
            self.gate = nn.Linear(32, width // head, bias=False) if with_value else None
            self.keep = nn.Parameter(torch.ones(()))
            self.again = nn.Parameter(torch.full((), 0.1))

        def forward(self, x: torch.Tensor, first: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            x = self.keep * x + self.again * first
            z = norm(x)
            shape = (*x.shape[:2], width // head, head)
            q, k = (norm(rotate(p(z).view(shape))).transpose(1, 2) for p in (self.query, self.key))
            v = self.value(z).view(shape)
            if self.table is not None and self.gate is not None:
                gate = 2 * torch.sigmoid(self.gate(z[..., :32]))
                v = v + gate[..., None] * self.table(tokens).view(shape)
            y = functional.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
            x = x + self.out(y.transpose(1, 2).flatten(2))
            return x + self.down(functional.relu(self.up(norm(x))).square())

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(preset.vocab_size, width)
            self.layers = nn.ModuleList(Layer((depth - 1 - i) % 2 == 0) for i in range(depth))
            self.head = nn.Linear(width, preset.vocab_size, bias=False)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = first = norm(self.embedding(tokens))
            for layer in self.layers:
                x = layer(x, first, tokens)
            return 15 * torch.tanh(self.head(norm(x)) / 15)

    model = Plain()
    bound = (3 / width) ** 0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("out.weight", "down.weight", "gate.weight")):
                weight.zero_()
            elif name.startswith("embedding"):
                weight.normal_()
            elif name.startswith("head"):
                weight.normal_(0, 0.001)
            elif weight.ndim == 2:
                weight.uniform_(-bound, bound)
    return model


def plain_optimizer(model: Any, ours: Any) -> Callable[[float, int], None]:
    """Muon for the matrices, one after another, AdamW for the rest; our learning rates and schedule."""
    import torch

    matrices = [p for n, p in model.layers.named_parameters() if p.ndim == 2 and "table" not in n]
    tables = [p for n, p in model.named_parameters() if "table" in n or n.startswith("embedding")]
    scalars = [p for p in model.parameters() if p.ndim == 0]
    scale = (ours.WIDTH / 768) ** -0.5
    rates = [ours.EMBEDDING_LR * scale, ours.UNEMBEDDING_LR * scale, ours.SCALAR_LR]
    adam = torch.optim.AdamW(
        [{"params": g} for g in (tables, [model.head.weight], scalars)],
        betas=ours.BETAS,
        eps=1e-10,
        weight_decay=0.0,
    )
    averages = [torch.zeros_like(p) for p in matrices]

    @torch.no_grad()
    def step(progress: float, count: int) -> None:
        share = 1.0
        if progress > 1 - ours.WARM_DOWN:
            share = ours.FINAL_LR + (1 - ours.FINAL_LR) * (1 - progress) / ours.WARM_DOWN
        momentum = ours.MOMENTUM_START
        momentum += (ours.MOMENTUM - ours.MOMENTUM_START) * min(1.0, count / ours.MOMENTUM_STEPS)
        for weight, average in zip(matrices, averages, strict=True):
            average.lerp_(weight.grad, 1 - momentum)
            update = ours.orthogonal(weight.grad.lerp(average, momentum)[None], 5)[0]
            rate = ours.MATRIX_LR * share * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
            weight.sub_(rate * update)
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * share
        adam.step()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()
