"""Check that a metric measures what it should: every check is a function and a row in CHECKS.

    python verify.py --goal min [--steps 60] [--model file.py:function]   in a folder with the project's code

These are the checks of a torch model; those of a project that gives answers alone are in answers.py.
The model is trained for a few steps first, so that it knows something that shuffled labels can take away.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import answers
import probe_material as material
from probe_checked import Checked, NotChecked, done, worse

torch = material.torch
CLOSE = 1e-4  # between two evaluations, as a share of the metric


class Ruler:
    """The model, trained a little, and the project's evaluation of it."""

    def __init__(self, found: dict[str, Any], steps: int) -> None:
        self.found, self.model, self.goal = found, found["model"], found["goal"]
        self.trained = self._train(steps)
        self.model.train(False)

    def _train(self, steps: int) -> int:
        if not self.found.get("batches"):
            return 0
        loss, batches = self.found.get("loss") or material.plain_loss, self.found["batches"]
        optimizers = material.optimizers(self.found)
        self.model.train()
        for step in range(steps):
            self.model.zero_grad(set_to_none=True)
            loss(self.model, batches[step % len(batches)]).backward()
            for optimizer in optimizers:
                optimizer.step()
        return steps

    def need(self, *names: str) -> None:
        lacking = [name for name in names if not self.found.get(name)]
        if lacking:
            raise NotChecked(f"needs `{'`, `'.join(lacking)}` from the function named under probe:")

    def score(self, model: Any = None, val: Any = None) -> float:
        self.need("score")
        with torch.no_grad():
            value = self.found["score"](
                self.model if model is None else model, self.found["val"] if val is None else val
            )
        return float(value)

    def worse(self, a: float, b: float) -> bool:
        """Whether `a` is clearly worse than `b` by the goal."""
        return worse(self.goal, a, b)


class Other:
    """A model that answers for another one; everything else is the first one's."""

    def __init__(self, model: Any, answer: Callable[[Any, Any], Any]) -> None:
        self._model, self._answer = model, answer

    def __call__(self, x: Any, *rest: Any) -> Any:
        return self._answer(self._model(x, *rest), x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def shuffled_labels(ruler: Ruler) -> Checked:
    """With labels that do not belong to the inputs the metric must get worse."""
    plain = ruler.score()
    random = torch.Generator().manual_seed(0)
    if ruler.found.get("evaluates_itself"):
        order = torch.randperm(ruler.found["classes"], generator=random)
        spoiled = ruler.score(Other(ruler.model, lambda output, x: output[..., order.to(output.device)]))
    else:
        ruler.need("val")
        labels = torch.cat([y.flatten(0, 0) for _, y in ruler.found["val"]])
        flat = labels.flatten()[torch.randperm(labels.numel(), generator=random)].view(labels.shape)
        sizes = [len(y) for _, y in ruler.found["val"]]
        spoiled = ruler.score(
            val=[(x, y) for (x, _), y in zip(ruler.found["val"], flat.split(sizes), strict=True)]
        )
    shows = f"{plain:.5g} with the labels, {spoiled:.5g} with shuffled ones, after {ruler.trained} steps"
    if ruler.worse(spoiled, plain):
        return Checked("shuffled labels", True, shows)
    if ruler.worse(plain, spoiled):
        return Checked("shuffled labels", False, f"{shows}: they score better, so the direction is inverted")
    return Checked(
        "shuffled labels", False, f"{shows}: the metric does not see the labels, or nothing was learned"
    )


def learning_helps(ruler: Ruler) -> Checked:
    """The weights must matter: other ones score otherwise, and trained ones better than torn ones."""
    plain, other = ruler.score(), copy.deepcopy(ruler.model)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in other.parameters():
            flat = p.flatten()
            p.copy_(flat[torch.randperm(len(flat), generator=random).to(p.device)].view_as(p))
    torn = ruler.score(other)
    shows = f"{plain:.5g}; with the weights mixed up {torn:.5g}"
    if plain == torn:
        return Checked("follows the model", False, f"{shows}: an old or cached score is given back")
    return Checked("follows the model", True, shows)


def constant_answer(ruler: Ruler) -> Checked:
    """A model that answers the same for everything has a score that is known beforehand."""
    classes = ruler.found.get("classes")
    if ruler.found.get("evaluates_itself") and classes:
        even = ruler.score(Other(ruler.model, lambda output, x: torch.zeros_like(output)))
        nats = float(torch.log(torch.tensor(float(classes))))
        ok = math.isfinite(even) and even > 0 and even < 2 * nats / math.log(2)
        ok = ok and ruler.worse(even, ruler.score())
        return Checked("constant answer", ok, f"{even:.5g} for even odds on {classes} tokens")
    if ruler.found.get("constant") is None:
        raise NotChecked("needs `constant`, the score of a model that answers the same for everything")
    wanted = float(ruler.found["constant"])
    got = ruler.score(Other(ruler.model, lambda output, x: torch.zeros_like(output)))
    ok = math.isclose(got, wanted, rel_tol=0.02, abs_tol=1e-6)
    return Checked("constant answer", ok, f"{got:.5g}, expected {wanted:.5g}")


def repeats(ruler: Ruler) -> Checked:
    """Evaluations of one model give the same number."""
    scores = [ruler.score() for _ in range(3)]
    ok = math.isclose(min(scores), max(scores), rel_tol=CLOSE, abs_tol=1e-9)
    return Checked("repeats", ok, " and ".join(f"{score:.8g}" for score in scores))


def leaves_the_model(ruler: Ruler) -> Checked:
    """Evaluating changes no weight, no buffer and no mode."""

    def state() -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(ruler.model.state_dict().items()):
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    ruler.model.train(False)
    before = state()
    ruler.score()
    after, modes = state(), {module.training for module in ruler.model.modules()}
    if before != after:
        return Checked("leaves the model as it is", False, "weights or buffers changed during the evaluation")
    if modes != {False}:
        return Checked("leaves the model as it is", True, "no weight changed; it is left in training mode")
    return Checked("leaves the model as it is", True, "no weight, no buffer, no mode changed")


def causal(ruler: Ruler) -> Checked:
    """Changing later tokens must not move the answers at earlier places."""
    ruler.need("val")
    x, y = ruler.found["val"][0]
    text = ruler.found.get("causal")
    if text is None:
        text = not x.is_floating_point() and x.ndim == 2 and y.shape == x.shape
    if not text:
        raise NotChecked("not a language model (`causal: True` says otherwise)")
    highest = int(ruler.found.get("classes") or int(x.max()) + 1)
    cut = x.shape[1] // 2
    changed = x.clone()
    changed[:, cut:] = (changed[:, cut:] + 1) % highest
    with torch.no_grad():
        moved = (ruler.model(x)[:, :cut] - ruler.model(changed)[:, :cut]).abs().max()
    shows = f"answers before place {cut} move by {float(moved):.2g} when tokens from there on change"
    return Checked("causal", float(moved) < 1e-3, shows)


def target_not_in_input(ruler: Ruler) -> Checked:
    """A target is the token after its place, not the one at it, and of no later distance."""
    ruler.need("val")
    x, y = ruler.found["val"][0]
    if x.is_floating_point() or y.shape != x.shape or x.ndim != 2:
        raise NotChecked("not a language model")
    same = float((x == y).float().mean())
    following = float((x[:, 1:] == y[:, :-1]).float().mean())
    shows = f"{following:.0%} of the targets are the next token, {same:.0%} the token itself"
    return Checked("target is the next token", following > 0.99 and same < 0.9, shows)


def batch_size(ruler: Ruler) -> Checked:
    """Batches of unequal sizes give the number that one batch gives."""
    if ruler.found.get("evaluates_itself"):
        raise NotChecked("the evaluation cuts its own batches")
    ruler.need("val")
    x = torch.cat([x for x, _ in ruler.found["val"]])
    y = torch.cat([y for _, y in ruler.found["val"]])
    few = max(1, len(x) // 7)
    whole = ruler.score(val=[(x, y)])
    parts = ruler.score(val=[(x[:few], y[:few]), (x[few:], y[few:])])
    ok = math.isclose(whole, parts, rel_tol=1e-3, abs_tol=1e-6)
    shows = f"{whole:.6g} in one batch, {parts:.6g} in batches of {few} and {len(x) - few}"
    return Checked(
        "same for every batch size", ok, shows if ok else f"{shows}: means of batches are averaged"
    )


def splits_apart(ruler: Ruler) -> Checked:
    """No example of the validation split is in the training split."""
    examples = ruler.found.get("examples")
    if not examples:
        ruler.need("batches", "val")
        examples = [_rows(ruler.found.get("train") or ruler.found["batches"]), _rows(ruler.found["val"])]
    train, val = ({hashlib.sha256(row).digest() for row in side} for side in examples)
    common = len(train & val)
    shows = f"{common} of {len(val)} validation examples are among {len(train)} training examples"
    return Checked("splits are apart", common == 0, shows)


def _rows(batches: Any) -> list[bytes]:
    """The bytes of every example's inputs."""
    return [row.contiguous().numpy().tobytes() for x, _ in batches for row in x.detach().cpu()]


CHECKS: dict[str, Callable[[Ruler], Checked]] = {
    "repeats": repeats,
    "leaves the model as it is": leaves_the_model,
    "shuffled labels": shuffled_labels,
    "follows the model": learning_helps,
    "constant answer": constant_answer,
    "causal": causal,
    "target is the next token": target_not_in_input,
    "same for every batch size": batch_size,
    "splits are apart": splits_apart,
}


def verify(found: dict[str, Any], steps: int) -> list[Checked]:
    """Every check of a torch model, or of answers where the project gives no model."""
    return answers.verify(found) if "predict" in found else done(CHECKS, Ruler(found, steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    parser.add_argument("--goal", choices=("min", "max"), default="min")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    try:
        found = verify(material.find(options.model, options.goal), options.steps)
    except LookupError as error:
        print(material.MARK + json.dumps({"problem": str(error)}))
        sys.exit(0)
    print(material.MARK + json.dumps({"checks": [asdict(one) for one in found]}))


if __name__ == "__main__":
    main()
