"""Record real runs of train.py: variants of one pinned commit, the same seeds for all, turn by turn.

Each run is the smoke preset: 10 CPU seconds on one thread. One JSON object a line; what is recorded is
skipped, so that the command can be stopped and typed again. Needs the packages that train.py needs; a core
of its own (`taskset -c 1`) makes it quicker, not better. Variants take turns within a seed, in another order
for each seed, so that a change of the machine meets all. A late part follows with the unchanged code again.

    python scripts/bench/real_runs.py --record
    python scripts/bench/real_runs.py --record --variants base,depth-1 --seeds 1,2 --out pilot.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

from real_variants import BASE, COMMIT, VARIANTS

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).resolve().parent / "data" / "real_runs.jsonl"
SEEDS = tuple(range(42, 54))  # every variant
MORE_SEEDS = tuple(range(54, 74))  # the unchanged code only, spread over the whole time
TIMEOUT = 300  # seconds; a run takes about 13 on a free core
ENVIRONMENT = {"AUTORESEARCH_PRESET": "smoke", "AUTORESEARCH_DEVICE": "cpu"}


@dataclass(frozen=True)
class Run:
    """One line of the file. `val_bpb` is None when the run failed; `error` then says how."""

    variant: str
    seed: int
    part: str  # main or late: two recordings one after the other
    val_bpb: float | None
    steps: int | None
    seconds: float  # wall clock of the whole process
    training_seconds: float | None
    cpu_seconds: float | None
    gflops: float | None  # a plain matrix product on this core, right after the evaluation
    load: float  # processes that wanted a core, mean of the minute before the start
    load_after: float  # the same at the end
    started_at: str
    fingerprint: str | None  # of the data; train.py prints it
    comparison_key: str | None
    commit: str
    code: str  # hash of the train.py that ran
    error: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="run what is not recorded yet")
    parser.add_argument("--variants", help="names, comma between; default: the whole plan")
    parser.add_argument("--seeds", help="numbers, comma between; with --variants")
    parser.add_argument("--out", type=Path, default=RECORDED, help="file the runs are appended to")
    options = parser.parse_args()
    todo = list(chosen(options.variants, options.seeds) if options.variants else plan())
    if not options.record:
        print(f"{len(todo)} runs planned, {len(todo) - len(missing(todo, options.out))} of them recorded")
        return
    record(missing(todo, options.out), options.out)


Planned = tuple[str, int, str]  # variant, seed, part


def plan() -> Iterator[Planned]:
    """The order of the runs: part and seed outside, variants inside, each seed with an order of its own."""
    more = list(MORE_SEEDS)
    for part in ("main", "late"):
        for turn, seed in enumerate(SEEDS):
            todo = [(variant.name, seed, part) for variant in VARIANTS if part in variant.parts]
            if part == "main":
                share = more[turn * len(more) // len(SEEDS) : (turn + 1) * len(more) // len(SEEDS)]
                todo += [(BASE, extra, part) for extra in share]
            random.Random(seed).shuffle(todo)
            yield from todo


def chosen(variants: str, seeds: str | None) -> Iterator[Planned]:
    numbers = [int(seed) for seed in seeds.split(",")] if seeds else SEEDS
    return ((name, seed, "main") for seed in numbers for name in variants.split(","))


def read(path: Path) -> list[Run]:
    """The recorded runs; raises FileNotFoundError, TypeError for an unknown or missing key."""
    return [Run(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def missing(todo: Iterable[Planned], path: Path) -> list[Planned]:
    done = {(run.variant, run.seed, run.part) for run in read(path)} if path.exists() else set()
    return [one for one in todo if one not in done]


def record(todo: list[Planned], path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="real-runs-") as scratch:
        sources = export(Path(scratch))
        for number, (name, seed, part) in enumerate(todo, 1):
            run = one_run(Path(scratch), sources[name], name, seed, part)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            print(
                f"{number}/{len(todo)} {name} {seed} {part}: {run.val_bpb} in {run.steps} steps, "
                f"{run.seconds:.1f} s, load {run.load:.1f}",
                flush=True,
            )


def export(folder: Path) -> dict[str, str]:
    """Put the pinned files into the folder; give the text of train.py for each variant."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "train.py", "prepare.py"], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name in ("train.py", "prepare.py"):
            member = tar.extractfile(name)
            assert member is not None, name
            (folder / name).write_bytes(member.read())
    text = (folder / "train.py").read_text(encoding="utf-8")
    return {variant.name: variant.apply(text) for variant in VARIANTS}


def one_run(folder: Path, source: str, name: str, seed: int, part: str) -> Run:
    (folder / "train.py").write_text(source, encoding="utf-8")
    environment = {**os.environ, **ENVIRONMENT, "SEED": str(seed)}
    started_at, load, start = datetime.now(timezone.utc), os.getloadavg()[0], perf_counter()
    error = None
    try:
        done = subprocess.run(
            [sys.executable, "train.py"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        log = done.stdout
        if done.returncode:
            error = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    except subprocess.TimeoutExpired:
        log, error = "", f"not done in {TIMEOUT} s"
    values = dict(re.findall(r"^(\w+): +(\S+)$", log, re.M)) if error is None else {}
    val_bpb = number(values.get("val_bpb"))
    if error is None and (val_bpb is None or not math.isfinite(val_bpb)):
        val_bpb, error = None, f"val_bpb is {values.get('val_bpb')}"
    steps = number(values.get("num_steps"))
    return Run(
        variant=name,
        seed=seed,
        part=part,
        val_bpb=val_bpb,
        steps=None if steps is None else int(steps),
        seconds=round(perf_counter() - start, 2),
        training_seconds=number(values.get("training_seconds")),
        cpu_seconds=number(values.get("cpu_seconds")),
        gflops=number(values.get("machine_gflops")),
        load=round(load, 2),
        load_after=round(os.getloadavg()[0], 2),
        started_at=started_at.isoformat(timespec="seconds"),
        fingerprint=values.get("fingerprint"),
        comparison_key=values.get("comparison_key"),
        commit=COMMIT,
        code=hashlib.sha256(source.encode()).hexdigest()[:12],
        error=error,
    )


def number(text: str | None) -> float | None:
    return None if text is None else float(text)


if __name__ == "__main__":
    main()
