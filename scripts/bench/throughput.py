"""How much work runs of one commit get done on a busy machine, and what the guard does about it.

    python scripts/bench/throughput.py [scripts/bench/data/real_runs.jsonl]

Reads recorded runs of the demo target (smoke preset, a budget of CPU seconds) and prints, over the groups
with the same code: the spread of the steps, how the metric moves with them, and for several margins how many
runs `lab.guards.disturbed` would repeat and what that does to the noise of the metric.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))

from lab.guards import disturbed, usual_margin
from lab.model import Experiment, Run

RECORDED = Path(__file__).resolve().parent / "data" / "real_runs.jsonl"
LEAST = 4  # runs of one code


def groups(path: Path) -> list[list[dict[str, float]]]:
    """Rows of the same code, in the order they ran."""
    found = defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if not row["error"]:
            found[row["code"]].append(row)
    return [rows for rows in found.values() if len(rows) >= LEAST]


def as_run(row: dict[str, float], number: int) -> Run:
    steps = {"num_steps": float(row["steps"])}
    return Run(f"e000.{number}", int(row["seed"]), "", "", "ok", row["val_bpb"], values=steps)


def accepted(rows: list[dict[str, float]], margin: float) -> list[bool]:
    """Which runs stay, each held against the ones that stayed before it."""
    kept: list[Run] = []
    stays = []
    for number, row in enumerate(rows, 1):
        run = as_run(row, number)
        stays.append(not disturbed([*kept, run], margin))
        kept += [run] if stays[-1] else []
    return stays


def noise(sets: list[list[float]]) -> float:
    """Pooled standard deviation within the sets."""
    sets = [values for values in sets if len(values) > 1]
    squares = sum(sum((x - statistics.fmean(values)) ** 2 for x in values) for values in sets)
    return math.sqrt(squares / sum(len(values) - 1 for values in sets))


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    sets = groups(path)
    rows = [row for group in sets for row in group]
    load = [row["load"] for row in rows]
    print(f"{len(rows)} runs of {len(sets)} codes, load {min(load):.1f} to {max(load):.1f}")
    steps = [
        [row["steps"] / statistics.fmean(r["steps"] for r in group) - 1 for row in group] for group in sets
    ]
    metric = [
        [row["val_bpb"] - statistics.fmean(r["val_bpb"] for r in group) for row in group] for group in sets
    ]
    x, y = ([v for part in parts for v in part] for parts in (steps, metric))
    slope = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
    r = slope * math.sqrt(sum(a * a for a in x) / sum(b * b for b in y))
    print(f"steps: sd {100 * noise(steps):.1f} % within a code; val_bpb: sd {noise(metric):.4f}")
    print(f"1 % fewer steps come with {-slope / 100:+.4f} val_bpb, correlation {r:+.2f}")
    whole = [Experiment(f"e{i}", "", "", "", "", "", runs=[as_run(row, n) for n, row in enumerate(group, 1)])
             for i, group in enumerate(sets)]  # fmt: skip
    auto = usual_margin(whole)
    print("\n| margin | run again % | sd of val_bpb of what stays |\n|---|---|---|")
    for name, margin in (("off", 9.0), ("2 %", 0.02), ("5 %", 0.05), ("10 %", 0.10), ("20 %", 0.20),
                         (f"auto: {100 * auto:.0f} %", auto)):  # fmt: skip
        stays = [accepted(group, margin) for group in sets]
        again = 1 - sum(map(sum, stays)) / len(rows)
        left = [[row["val_bpb"] for row, stay in zip(group, kept, strict=True) if stay]
                for group, kept in zip(sets, stays, strict=True)]  # fmt: skip
        print(f"| {name} | {100 * again:.0f} | {noise(left):.4f} |")


if __name__ == "__main__":
    main()
