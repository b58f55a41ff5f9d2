"""What a sealed evaluation costs on the demo target, and whether the levels agree.

    python scripts/bench/sealed.py [--preset cpu] [--budget cpu:60] [--repeats 1] [--scores 3]

A run at L0 trains and scores in one process. A run at L2 names what is hidden, trains without scoring and
exports; then the evaluation starts two shut-in processes for the model. Each is timed whole, in turns, in CPU
seconds (what a shared machine does not change much) and wall seconds. One export is then scored at L1 and L2
for the numbers and for the time of scoring alone. Give the Python that has torch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFINE = ROOT / "skills" / "autoresearch" / "scripts" / "lab" / "confine.py"
Times = tuple[float, float]  # CPU and wall seconds


def timed(command: list[str], environment: dict[str, str]) -> tuple[str, Times]:
    """What a command prints, and its time with that of all it started."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, (cpu, wall)


def train(out: Path, environment: dict[str, str], sealed: bool) -> Times:
    """One training that leaves its export in `out`."""
    own = {"AUTORESEARCH_OUT": str(out), "AUTORESEARCH_EXPORT": "1", "AUTORESEARCH_SEALED": str(int(sealed))}
    return timed([sys.executable, "train.py"], environment | own)[1]


def score(out: Path, environment: dict[str, str], level: str) -> tuple[float, Times]:
    """The number of an export at a level."""
    wrapper = json.dumps([sys.executable, "-I", str(CONFINE)])
    own = {"AUTORESEARCH_SANDBOX": wrapper, "AUTORESEARCH_SEALED": "1"}
    said, times = timed(
        [sys.executable, "prepare.py", "--score", str(out), "--level", level], environment | own
    )
    found = re.search(r"^val_bpb:\s*(\S+)", said, re.MULTILINE)
    assert found is not None
    return float(found[1]), times


def plus(one: Times, other: Times) -> Times:
    return one[0] + other[0], one[1] + other[1]


def shown(name: str, rows: list[Times]) -> Times:
    """Print and return the medians."""
    cpu, wall = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{name:<44}{cpu:9.2f} CPU s {wall:9.2f} s", flush=True)
    return cpu, wall


def main() -> None:
    """Time whole runs in turns, then scoring alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--budget", default="")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--scores", type=int, default=3)
    wanted = parser.parse_args()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AUTORESEARCH_")}
    environment |= {"AUTORESEARCH_PRESET": wanted.preset, "AUTORESEARCH_BUDGET": wanted.budget, "SEED": "42"}
    runs: dict[str, list[Times]] = {"L0": [], "L2": []}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for _ in range(wanted.repeats):
            before = timed([sys.executable, "prepare.py", "--hidden"], environment)[1]
            trained = plus(before, train(out, environment, True))
            runs["L2"].append(plus(trained, score(out, environment, "L2")[1]))
            runs["L0"].append(train(out, environment, False))
        level_0 = json.loads((out / "metrics.json").read_text())
        print(f"load average {os.getloadavg()[0]:.1f}, preset {wanted.preset}, budget {level_0['budget']}")
        whole = {name: shown(f"a whole run at {name}", rows) for name, rows in runs.items()}
        numbers, alone = {}, {}
        for level in ("L1", "L2"):
            found = [score(out, environment, level) for _ in range(wanted.scores)]
            numbers[level] = found[-1][0]
            alone[level] = shown(f"scoring alone at {level}, with its start", [times for _, times in found])
    print(f"{'scoring alone at L0, in the training':<44}{'':>15} {level_0['eval_seconds']:9.2f} s")
    print(f"L2 / L0, a whole run: {whole['L2'][0] / whole['L0'][0]:.3f} in CPU s", end=", ")
    print(f"{whole['L2'][1] / whole['L0'][1]:.3f} in wall s")
    print(
        f"L2 / L1, scoring in a process of its own: {alone['L2'][0] / alone['L1'][0]:.3f} in CPU s", end=", "
    )
    print(f"{alone['L2'][1] / alone['L1'][1]:.3f} in wall s")
    print(f"L0 {level_0['val_bpb']:.9f}  L1 {numbers['L1']:.9f}  L2 {numbers['L2']:.9f}")


if __name__ == "__main__":
    main()
