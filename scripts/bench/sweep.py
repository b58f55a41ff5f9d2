"""Compare `sweep` with random search at equal compute, on real runs of train.py.

Each run is the smoke preset for 20 steps on one thread: about 4 CPU seconds. A repeat is two searches over
the same knobs with the same number of trials, by the code that `sweep` asks (lab/sampling.py). Both begin
with the same points, drawn by chance; then TPE chooses its own and random search draws on. What each found is
its best trial, measured again on a seed that took no part. Neither is told the values that train.py has now,
which are tuned: 16 trials over such ranges hardly beat them, so that both searches would end with them.

Runs are recorded one JSON object a line with their loss curves (scripts/bench/early.py reads those), and
what is recorded is not run again, so that the command can be stopped and typed again. One process imports
torch and forks for each run. Needs the packages of the dev environment; `--python` names another Python for
train.py.

    python scripts/bench/sweep.py --record
    python scripts/bench/sweep.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "skills" / "autoresearch" / "scripts"))
RECORDED = Path(__file__).resolve().parent / "data" / "sweep_runs.jsonl"

RANGES = {
    "MATRIX_LR": "1e-3..1 log",
    "EMBEDDING_LR": "1e-2..10 log",
    "UNEMBEDDING_LR": "1e-4..1 log",
    "WARM_DOWN": "0.0..1.0",
    "MOMENTUM": "0.5..0.99",
}
REPEATS, TRIALS, COMMON = 5, 16, 5  # COMMON: points by chance that both searches begin with
FRESH = (901,)  # seeds of the last word
BASE_SEEDS = range(801, 813)  # of the two incumbents that early.py compares the others with
# An incumbent that can be beaten, and whose long fall of the learning rate looks good half-way.
WEAK = {"MATRIX_LR": 0.01, "WARM_DOWN": 0.95}
STEPS = 20
ENVIRONMENT = {
    "AUTORESEARCH_PRESET": "smoke", "AUTORESEARCH_DEVICE": "cpu", "AUTORESEARCH_THREADS": "1",
    "AUTORESEARCH_BUDGET": f"steps:{STEPS}",
}  # fmt: skip

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="run what is not recorded yet")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs train.py")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RECORDED, help="file the runs are appended to")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    rows = read(options.out)
    if options.record:
        with Trainer(options.python) as trainer:
            record(rows, options.out, trainer, options.repeats)
    print(table(rows, options.repeats))


# -- the search ----------------------------------------------------------------------------------------


def record(rows: list[Row], out: Path, trainer: Trainer, repeats: int) -> None:
    """Run whatever the table needs and `out` lacks."""

    def measured(part: str, repeat: int, number: int, seed: int, knobs: Row) -> Row:
        found = look_up(rows, part, repeat, number, seed)
        if found is None:
            found = {"part": part, "repeat": repeat, "trial": number, "seed": seed, "knobs": knobs}
            found |= trainer.run(knobs, seed)
            rows.append(found)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{part} {repeat}.{number}: {found['val_bpb']} in {found['cpu_seconds']} s", flush=True)
        return found

    for repeat in range(1, repeats + 1):
        search(repeat, measured)
    for number, seed in enumerate(BASE_SEEDS):
        measured("base", number % repeats + 1, number, seed, {})
        measured("weak", number % repeats + 1, number, seed, WEAK)


def search(repeat: int, measured: Any) -> None:
    """One repeat: both searches, and the last word on what each found."""
    seed = 1000 + repeat
    known = measured("known", repeat, 0, seed, {})
    common: list[Row] = []
    for number in range(1, COMMON + 1):
        values = ask("random", [known, *common], repeat)
        common.append(measured("common", repeat, number, seed, values))
    chance = own(measured, "random", repeat, seed, [known, *common])
    tpe = own(measured, "tpe", repeat, seed, common)
    for part, mine in (("tpe", tpe), ("random", chance)):
        best = min([*common, *mine], key=lambda row: row["val_bpb"] or 99.0)
        for fresh in FRESH:
            measured(f"{part} best", repeat, 0, fresh, best["knobs"])


def own(measured: Any, part: str, repeat: int, seed: int, told: list[Row]) -> list[Row]:
    """The points that a search chooses after those that it was told."""
    found: list[Row] = []
    for number in range(COMMON + 1, TRIALS + 1):
        values = ask(part, [*told, *found], repeat)
        found.append(measured(part, repeat, number, seed, values))
    return found


def ask(sampler: str, told: list[Row], repeat: int) -> Row:
    """The next values, as `sweep` would ask for them and write them."""
    from lab.knobs import knob_of
    from lab.searching import answer, seed_of

    knobs = [knob_of(name, text) for name, text in RANGES.items()]
    task = {
        "knobs": [{**vars(knob), "choices": [], "whole": False} for knob in knobs],
        "sampler": sampler,
        "seed": seed_of(f"bench {repeat} {len(told)}"),
        "goal": "min",
        "told": [as_told(row) for row in told],
        "ask": 1,
    }
    asked = answer(task)["asked"][0]
    return {knob.name: knob.fitted(asked[knob.name], False) for knob in knobs}


def as_told(row: Row) -> Row:
    values = row["knobs"] or start_values()
    if row["val_bpb"] is None:
        return {"values": values, "state": "failed"}
    return {"values": values, "state": "complete", "value": row["val_bpb"]}


def start_values() -> Row:
    """What train.py has now."""
    from lab.knobs import constants

    there = {one.name: one.value for one in constants((ROOT / "train.py").read_text(encoding="utf-8"))}
    return {name: there[name] for name in RANGES}


def look_up(rows: list[Row], part: str, repeat: int, number: int, seed: int) -> Row | None:
    """The recorded run, or None."""
    key = (part, repeat, number, seed)
    return next((r for r in rows if (r["part"], r["repeat"], r["trial"], r["seed"]) == key), None)


def read(path: Path) -> list[Row]:
    """The recorded runs."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- runs ----------------------------------------------------------------------------------------------


class Trainer:
    """The process that has torch and forks for each run."""

    def __init__(self, python: str) -> None:
        self.python = python

    def __enter__(self) -> Trainer:
        self.folder = tempfile.TemporaryDirectory(prefix="sweep-bench-")
        for name in ("train.py", "prepare.py"):
            text = (ROOT / name).read_text(encoding="utf-8")
            (Path(self.folder.name) / name).write_text(text, encoding="utf-8")
        self.source = (ROOT / "train.py").read_text(encoding="utf-8")
        self.process = subprocess.Popen(
            [self.python, __file__, "--serve"], cwd=self.folder.name, env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()
        self.folder.cleanup()

    def run(self, knobs: Row, seed: int) -> Row:
        """One run with these values: its number, its curve and what it cost."""
        from lab.knobs import written

        text = written(self.source, knobs)
        (Path(self.folder.name) / "train.py").write_text(text, encoding="utf-8")
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{seed}\n")
        self.process.stdin.flush()
        found: Row = json.loads(self.process.stdout.readline())
        return found


def serve() -> None:
    """Run train.py once for each seed on standard input, each in a fork of this process."""
    sys.path.insert(0, str(Path.cwd()))
    importlib.import_module("prepare")  # before torch, as train.py has it
    importlib.import_module("torch")  # 2 CPU seconds, once

    for line in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        child = os.fork()
        if child == 0:
            train(line.strip())
        _, status = os.waitpid(child, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        log = Path("run.log").read_text(encoding="utf-8", errors="replace")
        value = re.search(r"^val_bpb: +(\S+)$", log, re.M) if status == 0 else None
        losses = [float(x) for x in re.findall(r"^step .*\| loss ([\d.naif]+)", log, re.M)]
        row = {
            "val_bpb": float(value[1]) if value else None,
            "curve": losses,
            "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        }
        print(json.dumps(row), flush=True)


def train(seed: str) -> None:
    """In a child: run train.py to its end, with its output in a file."""
    os.environ["SEED"] = seed
    descriptor = os.open("run.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 1
    with contextlib.suppress(BaseException):
        runpy.run_path("train.py", run_name="__main__")
        code = 0
    sys.stdout.flush()
    os._exit(code)


# -- the table -----------------------------------------------------------------------------------------


def table(rows: list[Row], repeats: int) -> str:
    """Each repeat in a line, and in how many the sweep found the better values."""
    lines = ["repeat   train.py     tpe best   again     random best   again     better"]
    won = whole = 0
    for repeat in range(1, repeats + 1):
        mine = [row for row in rows if row["repeat"] == repeat]
        known = next((r["val_bpb"] for r in mine if r["part"] == "known"), None)
        tpe, chance = (last_word(mine, part) for part in ("tpe", "random"))
        if known is None or tpe is None or chance is None:
            continue
        better = "tpe" if tpe[1] < chance[1] else "random" if chance[1] < tpe[1] else "neither"
        won, whole = won + (better == "tpe"), whole + 1
        cells = f"{tpe[0]:.4f}   {tpe[1]:.4f}        {chance[0]:.4f}   {chance[1]:.4f}"
        lines.append(f"{repeat:<8d} {known:.4f}       {cells}    {better}")
    failed = sum(1 for row in rows if row["val_bpb"] is None)
    spent = sum(row["cpu_seconds"] for row in rows)
    lines += [
        f"sweep (TPE) better than random search in {won} of {whole} repeats of {TRIALS} trials each",
        *(own_points(rows, part) for part in ("tpe", "random")),
        f"{len(rows)} runs, {failed} failed, {spent / 60:.1f} CPU minutes",
    ]
    return "\n".join(lines)


def own_points(rows: list[Row], part: str) -> str:
    """What the points were worth that a search chose itself."""
    values = [row["val_bpb"] for row in rows if row["part"] == part]
    good = [value for value in values if value is not None]
    median = f"{statistics.median(good):.4f}" if good else "none"
    failed = len(values) - len(good)
    return f"{part}: {len(values)} points of its own, {failed} failed, median of the others {median}"


def last_word(rows: list[Row], part: str) -> tuple[float, float] | None:
    """The best trial's number and its mean on fresh seeds; None while it is not measured."""
    trials = [r["val_bpb"] for r in rows if r["part"] in ("common", part) and r["val_bpb"] is not None]
    fresh = [row["val_bpb"] for row in rows if row["part"] == f"{part} best"]
    if len(fresh) < len(FRESH) or not trials or None in fresh:
        return None
    return min(trials), statistics.mean(fresh)


if __name__ == "__main__":
    main()
