"""What a probe works on: model, batches, loss, optimizer and evaluation, found in the project or given by it.

Runs in the project's own Python, in a folder that holds the project's code; imports nothing of the helper.
A project gives a function (`file.py:name`) that returns what answers.py reads, a module, or a dict with

    model       the module, untrained or not                                    (needed)
    batches     a list of (inputs, targets) to train on                         health, verify-metric
    loss        loss(model, batch) -> scalar                                    cross-entropy or squared error
    optimizer   optimizer(model) -> torch optimizer, or a list of them          Adam, rate 1e-3
    train       all training batches, to look for validation examples          verify-metric
    val         a list of (inputs, targets) as the evaluation reads them        verify-metric
    score       score(model, val) -> the metric as it is printed                verify-metric
    goal        "min" or "max"                                                  the setting's
    constant    the metric of a model that answers the same for everything      verify-metric
    causal      True when places may not see later ones                         integers, a target a place
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# The project's: the helper has none. Without it only `predict` can be checked (answers.py).
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None

TRAIN_BATCHES = 12
MARK = "AUTORESEARCH_PROBE "  # the line that holds the answer


def find(place: str, goal: str) -> dict[str, Any]:
    """The material of `file.py:name`, or of a folder with our kind of train.py and prepare.py."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - a path for import, not for files
    if place:
        file, _, name = place.rpartition(":")
        made = getattr(module_of(Path(file)), name)()
        found = dict(made) if isinstance(made, dict) else {"model": made}
    elif torch is None:
        raise LookupError("the project's Python has no torch: a function that gives `predict` is needed")
    else:
        found = of_target(Path.cwd())
    found.setdefault("goal", goal)
    if "predict" in found:
        return found
    if torch is None:
        raise LookupError("the project's Python has no torch, and the function gives no `predict`")
    found["batches"] = list(found["batches"])[:TRAIN_BATCHES] if found.get("batches") else None
    found["val"] = list(found["val"]) if found.get("val") else None
    return found


def module_of(path: Path) -> ModuleType:
    """Run a file of the project as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def of_target(folder: Path) -> dict[str, Any]:
    """Our own target: `train.py` with build(), `prepare.py` with the data and the evaluation."""
    if not ((folder / "prepare.py").is_file() and (folder / "train.py").is_file()):
        raise LookupError(
            "no function that makes the model is named, and there is no prepare.py with train.py"
        )
    prepare, train = module_of(folder / "prepare.py"), module_of(folder / "train.py")
    missing = [
        name for name in ("open_data", "score_rows", "Budget", "to_device") if not hasattr(prepare, name)
    ]
    missing += [name for name in ("build", "SETTINGS") if not hasattr(train, name)]
    if missing:
        raise LookupError(f"prepare.py and train.py lack {', '.join(missing)}: name a function instead")
    settings, data = train.SETTINGS, prepare.open_data(train.SETTINGS)
    made = {
        "model": train.build(),
        "batches": list(_rows(prepare, data, settings, "train", TRAIN_BATCHES)),
        "loss": _loss_of(train),
        "val": list(_rows(prepare, data, settings, "val", 4)),
        "score": lambda model, val: prepare.score_rows(model, data, settings, "val").bpb,
        "goal": "min",
        "causal": True,
        "evaluates_itself": True,  # its score reads the split on its own
        "classes": settings.preset.vocab_size,
    }
    if hasattr(train, "optimizers_for"):
        made["optimizer"] = train.optimizers_for
    rows = [data.rows(side) for side in ("train", "val")]
    made["examples"] = tuple([row.tobytes() for row in table] for table in rows)
    return made


def _loss_of(train: Any) -> Any:
    return lambda model, batch: model.loss(*batch) if hasattr(model, "loss") else plain_loss(model, batch)


def _rows(prepare: Any, data: Any, settings: Any, side: str, count: int) -> Iterator[Any]:
    """Batches of a split, in the order they lie."""
    table, rows = data.rows(side), min(settings.preset.eval_rows, 8)
    for start in range(0, min(len(table), rows * count) - rows + 1, rows):
        yield prepare.to_device(table[start : start + rows], settings.device)


def plain_loss(model: Any, batch: Any) -> Any:
    """Cross-entropy for integer targets, else the squared error."""
    x, y = batch
    output = model(x)
    if not y.is_floating_point():
        return torch.nn.functional.cross_entropy(output.flatten(0, -2), y.flatten())
    return torch.nn.functional.mse_loss(output.reshape(y.shape), y)


def optimizers(found: dict[str, Any]) -> list[Any]:
    """The project's optimizers, or Adam."""
    make = found.get("optimizer")
    if make is None:
        return [torch.optim.Adam([p for p in found["model"].parameters() if p.requires_grad], 1e-3)]
    made = make(found["model"])
    return list(made) if isinstance(made, list | tuple) else [made]
