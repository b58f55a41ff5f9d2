"""How often `diagnose` names the planted cause of a sick training run, and is silent on a healthy one.

    python scripts/bench/diagnose.py                  the recorded runs of both zoos, one line a case
    python scripts/bench/diagnose.py --train          train both zoos and record them (needs torch; 2 minutes)
    python scripts/bench/diagnose.py --live --shift 1  train them with other seeds and record nothing

A case counts as named when the cause that was planted is the first of the list; three are looked at as well.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "skills" / "autoresearch" / "scripts"))

from lab.course import every  # noqa: E402
from lab.diagnose.ranking import ranked, signs  # noqa: E402
from lab.diagnose.seen import Ran, Seen  # noqa: E402

ZOOS = ("first", "second")
RECORDS = ROOT / "tests" / "zoo"
SOURCE = Path(__file__).with_name("diagnose_zoo.py")
Case = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What was planted in a case and what the diagnosis said."""

    zoo: str
    name: str
    truth: str  # "" in a healthy run
    causes: tuple[str, ...]
    symptoms: tuple[str, ...]

    @property
    def place(self) -> int | None:
        """Where the planted cause stands in the list, from 1."""
        return self.causes.index(self.truth) + 1 if self.truth in self.causes else None


def record_path(zoo: str) -> Path:
    return RECORDS / f"{zoo}.jsonl.gz"


def source_hash() -> str:
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def train(zoo: str, shift: int = 0) -> list[Case]:
    """Train every case of a zoo; a header first."""
    import diagnose_zoo
    import torch

    torch.set_num_threads(1)
    header = {
        "zoo": zoo,
        "made_with": source_hash(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
    made: list[Case] = [header]
    for about, setup in diagnose_zoo.cases(zoo, shift):
        made.append({**about, "runs": [vars(diagnose_zoo.train(setup))]})
    for about, setups in diagnose_zoo.campaigns(zoo, shift):
        made.append({**about, "runs": [vars(diagnose_zoo.train(setup)) for setup in setups]})
    return made


def record(zoo: str, made: list[Case]) -> None:
    text = "".join(json.dumps(case) + "\n" for case in made)
    RECORDS.mkdir(exist_ok=True)
    record_path(zoo).write_bytes(gzip.compress(text.encode(), mtime=0))


def recorded(zoo: str) -> list[Case]:
    text = gzip.decompress(record_path(zoo).read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def ran(name: str, run: Case) -> Ran:
    """A run as `diagnose` reads it: nothing but its log and its end."""
    return Ran(name, every(run["log"].encode()), run["metric"], run["outcome"], run["detail"], 42)


def diagnosed(zoo: str, cases: list[Case], compare: bool = True) -> Iterator[Outcome]:
    """The diagnosis of every case, beside its family's healthy reference or (`compare` False) alone."""
    kept = [case for case in cases if "runs" in case]
    references = {case["family"]: case["runs"][0] for case in kept if case["kind"] == "reference"}
    for case in kept:
        if case["kind"] == "reference":
            continue
        runs = [ran(f"e{number:03d}.1", run) for number, run in enumerate(case["runs"], 1)]
        best = ran("e000.1", references[case["family"]])
        seen = Seen(runs[-1], case["metric"], case["goal"], best, tuple(runs[:-1]))
        found = signs(seen if compare else replace(seen, best=None))
        causes = tuple(row.cause for row in ranked(found))
        yield Outcome(zoo, case["name"], case["truth"], causes, tuple(sign.name for sign in found))


def table(outcomes: list[Outcome]) -> list[str]:
    rows = ["| case | planted | first three causes | signs |", "|---|---|---|---|"]
    for one in outcomes:
        mark = "" if not one.truth or one.place == 1 else f" **({one.place or 'not named'})**"
        causes = ", ".join(one.causes[:3]) or "silent"
        truth = one.truth or "healthy"
        rows.append(f"| {one.name} | {truth}{mark} | {causes} | {', '.join(one.symptoms)} |")
    return rows


def summary(outcomes: list[Outcome]) -> str:
    sick = [one for one in outcomes if one.truth]
    healthy = [one for one in outcomes if not one.truth]
    first = sum(one.place == 1 for one in sick)
    three = sum(one.place is not None and one.place <= 3 for one in sick)
    silent = sum(not one.symptoms for one in healthy)
    said = f"{first} of {len(sick)} first ({first / len(sick):.0%}), "
    said += f"{three} within three ({three / len(sick):.0%})"
    return f"{said}; silent on {silent} of {len(healthy)} healthy ({silent / len(healthy):.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train both zoos and record them")
    parser.add_argument("--live", action="store_true", help="train both zoos and record nothing")
    parser.add_argument("--shift", type=int, default=0, help="other seeds, with --live")
    parser.add_argument("--quiet", action="store_true", help="the summaries alone")
    options = parser.parse_args()
    for zoo in ZOOS:
        cases = train(zoo, options.shift) if options.train or options.live else recorded(zoo)
        if options.train:
            record(zoo, cases)
        beside = list(diagnosed(zoo, cases))
        alone = list(diagnosed(zoo, cases, compare=False))
        if not options.quiet:
            print("\n".join(["", f"### {zoo} zoo", "", *table(beside), ""]))
        print(f"{zoo} zoo: {summary(beside)}")
        print(f"{zoo} zoo, with no run to compare: {summary(alone)}", flush=True)


if __name__ == "__main__":
    main()
