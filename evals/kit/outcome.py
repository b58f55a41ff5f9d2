"""How good what the agent left really is: measured on fresh seeds, with a ruler the agent has not seen."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kit import texts, tickets
from kit.build import project_files
from kit.cases import EVALS, Case, replaced

SEEDS = (901, 902, 903, 904, 905)
SAME_SEEDS = (42, 43, 44)
LIMIT_SECONDS = 120
# Held-out data in a file that no script names: one that trains on the validation part gains nothing here.
HIDDEN: dict[str, Callable[[], dict[str, str]]] = {
    "charlm": lambda: {"hidden": texts.corpus(seed=8)},
    "tickets": lambda: {"hidden": tickets.table(seed=21, odd=False)},
}
# Runs the script as a user would, then asks the ruler about what the script made.
PROBE = """import json, runpy, sys
sys.path.insert(0, '.')
g = runpy.run_path(sys.argv[1], run_name='__main__')
import importlib, random
d, r = importlib.import_module(sys.argv[2]), random.Random(99)
print('\\nPROBE ' + json.dumps(%s))
"""


@dataclass(frozen=True)
class Measured:
    """The metric of each seed; empty when a run failed, with the reason."""

    values: tuple[float, ...]
    trouble: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        count = len(self.values)
        return statistics.stdev(self.values) / math.sqrt(count) if count > 1 else 0.0


def fresh_files(case: Case) -> dict[str, str]:
    """The case's own files with other data and an honest ruler."""
    found = project_files(case)
    for name, changes in case.fresh.items():
        found[name] = replaced(found[name], changes, name)
    if "tickets.tsv" in found:
        found["tickets.tsv"] = tickets.table(seed=20, odd=False)
    return {**found, **HIDDEN[case.project]()} if case.project in HIDDEN else found


def measure(case: Case, edited: Mapping[str, str], honest: bool) -> Measured:
    """Run `edited` in the untouched project: on fresh seeds (`honest`), or as the project itself measures."""
    files = {**(fresh_files(case) if honest else project_files(case)), **edited}
    values = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in SEEDS if honest else SAME_SEEDS:
            folder = Path(scratch) / str(seed)
            folder.mkdir()
            for name, text in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
            value, trouble = _run(case, folder, seed, probe=case.probe if honest else "")
            if value is None:
                return Measured((), f"seed {seed}: {trouble}")
            values.append(value)
            shutil.rmtree(folder)
    return Measured(tuple(values))


def _run(case: Case, folder: Path, seed: int, probe: str) -> tuple[float | None, str]:
    command = [sys.executable, case.script]
    if probe:
        command = [sys.executable, "-c", PROBE % probe, case.script, case.ruler]
    env = {**os.environ, "SEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="replace",
                              timeout=LIMIT_SECONDS, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"no end within {LIMIT_SECONDS} s"
    shape = r"^PROBE (.+)$" if probe else rf"^\s*{re.escape(case.metric)}:\s*(\S+)\s*$"
    found = re.findall(shape, done.stdout, re.MULTILINE)
    if done.returncode or not found:
        return None, (done.stderr.strip().splitlines() or [f"exit {done.returncode}, no metric"])[-1][:200]
    value = float(found[-1])
    return (value, "") if math.isfinite(value) else (None, f"{value}")


def best_files(case: Case) -> dict[str, str]:
    """The best known solution of a case."""
    folder = EVALS / "best" / case.project
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


def known(case: Case) -> dict[str, list[float]]:
    """Start and best known on the fresh seeds, as `run_evals.py known` wrote them down."""
    found = json.loads((EVALS / "known.json").read_text(encoding="utf-8"))
    entry = found["cases"][case.id]
    return {name: [float(value) for value in entry[name]] for name in ("start", "start_as_printed", "best")}
