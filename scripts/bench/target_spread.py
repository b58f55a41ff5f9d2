"""How far val_bpb of one train.py spreads over seeds, on the machine as it is and with other work on it.

Each seed runs twice in turn: alone, and beside processes that keep every core and the memory busy.
The load average stands in each line, so that a machine that was never quiet shows.

    python scripts/bench/target_spread.py --preset smoke --seeds 8
    python scripts/bench/target_spread.py --preset cpu --seeds 5
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[2]
# Products of 8 MB matrices: they take the core, its cache and the way to memory.
BUSY = "import numpy as n; a = n.ones((1024, 1024))\nwhile True: a = a @ a / 1024"
COLUMNS = ("num_steps", "cpu_seconds", "training_seconds", "eval_seconds", "machine_ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="smoke", help="smoke or cpu (default smoke)")
    parser.add_argument("--budget", default="", help="instead of the preset's, e.g. 2 or steps:50")
    parser.add_argument("--seeds", type=int, default=8, help="seeds 1 to N (default 8, at least 2)")
    parser.add_argument(
        "--busy", type=int, default=os.cpu_count() or 1, help="other processes (default: cores)"
    )
    arguments = parser.parse_args()
    print(f"{'':7}{'seed':>5}{'val_bpb':>10}" + "".join(f"{name:>17}" for name in COLUMNS) + f"{'load':>7}")
    values: dict[str, list[float]] = {"alone": [], "beside": []}
    for seed in range(1, max(2, arguments.seeds) + 1):
        for which, others in (("alone", 0), ("beside", arguments.busy)):
            with busy(others):
                values[which].append(run(which, arguments.preset, arguments.budget, seed))
    conclude(values)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes at work; ended by us, each by its own handle."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    others = [subprocess.Popen([sys.executable, "-c", BUSY], env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def run(which: str, preset: str, budget: str, seed: int) -> float:
    environment = {
        **os.environ,
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_PRESET": preset,
        "AUTORESEARCH_BUDGET": budget,
        "SEED": str(seed),
    }
    command = [sys.executable, str(ROOT / "train.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        load, text = watch(process)
    if process.returncode:
        sys.exit(f"train.py failed with seed {seed}; its reason stands above")
    found = {name: float(value) for name, value in re.findall(r"^(\w+): +(\d[\d.]*)$", text, re.M)}
    rest = "".join(f"{found[name]:17.2f}" for name in COLUMNS)
    print(f"{which:7}{seed:5}{found['val_bpb']:10.4f}{rest}{load:7.1f}", flush=True)
    return found["val_bpb"]


def watch(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Mean of the one-minute load average during the run, and what the run printed."""
    loads, lines = [os.getloadavg()[0]], []
    assert process.stdout is not None
    last = time.monotonic()
    for line in process.stdout:
        lines.append(line)
        if time.monotonic() > last + 1:
            last = time.monotonic()
            loads.append(os.getloadavg()[0])
    return mean(loads), "".join(lines)


def conclude(values: dict[str, list[float]]) -> None:
    for which, found in values.items():
        print(
            f"{which + ':':<9}n {len(found)}  mean {mean(found):.4f}  standard deviation {stdev(found):.4f}"
        )
    apart = [beside - alone for alone, beside in zip(values["alone"], values["beside"], strict=True)]
    spread = stdev(values["beside"]) / stdev(values["alone"])
    print(f"spread_ratio:   {spread:.2f}")
    print(f"load_costs:     {mean(apart):+.4f} on the same seed, standard deviation {stdev(apart):.4f}")


if __name__ == "__main__":
    main()
