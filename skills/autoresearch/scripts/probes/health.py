"""Train a model for a few steps and say which of its parts are dead, frozen, unused, exploding or saturated.

python health.py --steps 8 [--model file.py:function]     in a folder with the project's code
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import probe_material as material
from probe_parts import Part, examine

torch: Any = importlib.import_module("torch")
F = torch.nn.functional


class Watch:
    """Hooks on every module, and on the functions that modules call without one of their own."""

    def __init__(self, model: Any) -> None:
        self.parts: dict[str, Part] = {}
        self.kinds = {name or "model": type(module).__name__ for name, module in model.named_modules()}
        self.active: dict[str, Any] = {}
        self.inside: list[str] = []
        self.handles: list[Any] = []
        self.plain = {name: getattr(F, name) for name in ("relu", "scaled_dot_product_attention")}
        self.torch_relu = torch.relu
        for name, module in model.named_modules():
            label = name or "model"
            self.handles.append(module.register_forward_pre_hook(self._enter(label)))
            leaf = not any(True for _ in module.children())
            self.handles.append(module.register_forward_hook(self._leave(label, leaf)))
        F.relu = torch.relu = self._relu
        F.scaled_dot_product_attention = self._attention

    def close(self) -> None:
        """Put everything back."""
        for name, function in self.plain.items():
            setattr(F, name, function)
        torch.relu = self.torch_relu
        for handle in self.handles:
            handle.remove()

    def part(self, name: str, kind: str) -> Part:
        return self.parts.setdefault(name, Part(name, kind))

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda module, inputs: self.inside.append(name)

    def _leave(self, name: str, leaf: bool) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            self.inside.pop()
            if leaf and torch.is_tensor(output) and output.is_floating_point():
                self._measure(name, type(module).__name__, output.detach(), inputs)

        return hook

    def _measure(self, name: str, kind: str, out: Any, inputs: Any) -> None:
        part = self.part(name, kind)
        part.finite = part.finite and bool(out.isfinite().all())
        part.mean, part.spread = float(out.float().mean()), _spread(out)
        if inputs and torch.is_tensor(inputs[0]) and inputs[0].is_floating_point() and _spread(inputs[0]):
            part.gain = part.spread / _spread(inputs[0])
        examples = out.flatten(1) if out.ndim == 4 else out.flatten(0, -2)
        if len(examples) > 1:
            part.varies = float(examples.float().std(0, unbiased=False).max())
        if kind in ("Tanh", "Sigmoid", "Hardtanh", "Softsign"):
            low = 0.0 if kind == "Sigmoid" else -1.0
            near = 0.01 * (1.0 - low)
            part.saturated = float(((out < low + near) | (out > 1 - near)).float().mean())
        if kind in ("ReLU", "ReLU6"):
            self._dead(part, out)

    def _dead(self, part: Part, out: Any) -> None:
        """Share of units (channels of an image, last places elsewhere) that no example made active."""
        units = out.movedim(1, -1) if out.ndim == 4 else out
        seen = (units > 0).flatten(0, -2).any(0)
        before = self.active.get(part.name)
        self.active[part.name] = seen if before is None or before.shape != seen.shape else before | seen
        part.dead = 1 - float(self.active[part.name].float().mean())

    def _relu(self, x: Any, *rest: Any, **named: Any) -> Any:
        out = self.plain["relu"](x, *rest, **named) if rest or named else self.torch_relu(x)
        inside = self.inside[-1] if self.inside else "model"
        if self.kinds.get(inside) not in ("ReLU", "ReLU6"):  # nn.ReLU comes here as well
            self._dead(self.part(f"{inside} (relu)", "relu"), out.detach())
        return out

    def _attention(self, q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> Any:
        with torch.no_grad():
            part = self.part(f"{self.inside[-1] if self.inside else 'model'} (attention)", "attention")
            part.entropy = _entropy(q.detach()[:2].float(), k.detach()[:2].float(), rest, named)
        return self.plain["scaled_dot_product_attention"](q, k, v, *rest, **named)


def _spread(x: Any) -> float:
    return float(x.detach().float().std(unbiased=False))


def _entropy(q: Any, k: Any, rest: tuple[Any, ...], named: dict[str, Any]) -> float | None:
    """Mean entropy of the weights over that of even weights, places with one choice left out."""
    mask: Any = named.get("attn_mask", rest[0] if rest else None)
    causal = named.get("is_causal", rest[2] if len(rest) > 2 else False)
    scores = q @ k.mT * (named.get("scale") or 1 / math.sqrt(q.shape[-1]))
    rows, columns = scores.shape[-2:]
    allowed = torch.ones(rows, columns, dtype=torch.bool, device=scores.device)
    if causal:
        allowed = allowed.tril()
    elif torch.is_tensor(mask) and mask.ndim == 2:
        allowed = mask if mask.dtype == torch.bool else mask > -1e4
    weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
    entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1)
    choices = allowed.sum(-1)
    useful = choices > 1
    if not bool(useful.any()):
        return None
    return float((entropy[..., useful] / choices[useful].float().log()).mean())


def measure(found: dict[str, Any], steps: int) -> dict[str, Part]:
    """Train for some steps and measure every part."""
    model, loss = found["model"], found.get("loss") or material.plain_loss
    if not found.get("batches"):
        raise LookupError("there are no batches to train on: give `batches` in the function's dict")
    model.train()
    optimizers, watch = material.optimizers(found), Watch(model)
    parts = {
        name: Part(name, "parameter", p.numel(), matrix=p.ndim > 1) for name, p in model.named_parameters()
    }
    params = dict(model.named_parameters())
    try:
        for step in range(steps):
            before = {name: p.detach().clone() for name, p in params.items()}
            model.zero_grad(set_to_none=True)
            loss(model, found["batches"][step % len(found["batches"])]).backward()
            for name, p in params.items():
                if p.grad is not None:
                    parts[name].gradients.append(float(p.grad.norm()))
                    parts[name].finite &= bool(p.grad.isfinite().all())
            for optimizer in optimizers:
                optimizer.step()
            for name, p in params.items():
                size = float(before[name].norm()) or float(p.detach().norm()) or 1.0
                parts[name].updates.append(float((p.detach() - before[name]).norm()) / size)
    finally:
        watch.close()
    for name, p in params.items():
        part = parts[name]
        part.trained = p.requires_grad
        part.gradient = statistics.median(part.gradients) if part.gradients else None
        part.update = statistics.median(part.updates)
        part.finite &= bool(p.isfinite().all())
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            rows = module.weight.detach().float().norm(dim=1)
            used = rows[rows > 0]  # rows that start at 0 wait for their first token
            parts[f"{name}.weight"].longest_row = float(rows.max() / used.median().clamp_min(1e-12))
    return {**parts, **watch.parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    try:
        parts = measure(material.find(options.model, "min"), options.steps)
    except LookupError as error:
        print(material.MARK + json.dumps({"problem": str(error)}))
        sys.exit(0)
    shown = [
        {k: v for k, v in asdict(part).items() if k not in ("gradients", "updates")}
        for part in parts.values()
    ]
    answer = {"steps": options.steps, "parts": shown, "found": [asdict(one) for one in examine(parts)]}
    print(material.MARK + json.dumps(answer))


if __name__ == "__main__":
    main()
