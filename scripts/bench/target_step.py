"""What a training step costs a CPU: as shipped, with bfloat16, and compiled, its cache empty and then filled.

Each variant has a process of its own and CPU seconds are counted, those of the compiler's children too.

    python scripts/bench/target_step.py --steps 60
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("float32", "bfloat16", "compiled", "compiled again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=60, help="steps timed, after two that are not (default 60)"
    )
    parser.add_argument("--only", choices=VARIANTS, help="be one variant; used by this script itself")
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only, arguments.steps)
        return
    print(f"{'':16}{'first two, CPU s':>18}{'a step, CPU ms':>16}{'load':>7}")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "AUTORESEARCH_DEVICE": "cpu", "TORCHINDUCTOR_CACHE_DIR": cache}
        environment |= {"AUTORESEARCH_PRESET": "cpu", "PYTHONPATH": str(ROOT)}
        for variant in VARIANTS:
            command = [sys.executable, __file__, "--only", variant, "--steps", str(arguments.steps)]
            subprocess.run(command, env=environment, check=True)


def measure(variant: str, steps: int) -> None:
    train = importlib.import_module("train")
    prepare = importlib.import_module("prepare")
    model = train.build()
    if variant.startswith("compiled"):
        model.features = importlib.import_module("torch").compile(model.features, dynamic=False)
    step = stepper(train, model, variant == "bfloat16")
    start = prepare.cpu_seconds()
    for _ in range(2):
        step()
    first = prepare.cpu_seconds() - start
    start = prepare.cpu_seconds()
    for _ in range(steps):
        step()
    each = (prepare.cpu_seconds() - start) / steps
    print(f"{variant:16}{first:18.2f}{1e3 * each:16.1f}{os.getloadavg()[0]:7.1f}", flush=True)


def stepper(train: Any, model: Any, lower: bool) -> Any:
    """A function that does one step on tokens drawn anew: what they are does not change its cost."""
    torch = train.torch
    optimizers = train.optimizers_for(model)
    shape = (train.STEP_ROWS, train.SETTINGS.preset.seq_len)

    def step() -> None:
        x, y = torch.randint(0, train.SETTINGS.preset.vocab_size, (2, *shape))
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            features = model.features(x)
        train.BlockLoss.apply(features.float().flatten(0, 1), model.head.weight, y.flatten()).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()
