"""A campaign read from its journal: a replay of the grader's own, which need not believe the graded code."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kit.facts import HOME
from kit.git import lines


@dataclass
class Experiment:
    """What the journal says about one experiment."""

    id: str
    commit: str
    tree: str
    args: str
    retry_of: str
    hypothesis: str
    runs: dict[str, dict[str, object]] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    metric: float | None = None
    where: str = ""

    @property
    def verdict(self) -> str | None:
        """The verdict that holds."""
        return self.verdicts[-1] if self.verdicts else None


@dataclass
class Campaign:
    """One journal with the folder it lies in."""

    folder: Path
    path: Path
    tag: str = ""
    branch: str = ""
    base: str = ""
    finished: bool = False
    starts: int = 0
    reopened: Counter[str] = field(default_factory=Counter)
    experiments: dict[str, Experiment] = field(default_factory=dict)
    confirming: dict[str, dict[str, object]] = field(default_factory=dict)  # runs of no experiment
    broken: list[str] = field(default_factory=list)  # records that fit to nothing before them

    @property
    def tried(self) -> list[Experiment]:
        """Experiments beside the baseline."""
        return [e for e in self.experiments.values() if e.id != "e000"]

    @property
    def keeps(self) -> list[Experiment]:
        """Keeps beside the baseline, in the order of the journal."""
        return [e for e in self.tried if e.verdict == "keep"]

    @property
    def tip(self) -> str:
        """The commit that the journal calls the incumbent."""
        return self.keeps[-1].commit if self.keeps else self.base


def find(folder: Path) -> list[Campaign]:
    """Every campaign of a project and of its worktrees, the past ones first."""
    listed = lines(folder, "worktree", "list", "--porcelain")
    worktrees = [Path(line[9:]) for line in listed if line.startswith("worktree ")]
    found = []
    for place in dict.fromkeys([folder.resolve(), *(path.resolve() for path in worktrees)]):
        home = place / HOME
        journals = (*sorted(home.glob("past/*/journal.jsonl")), home / "journal.jsonl")
        found += [read(place, path) for path in journals if path.exists()]
    return found


def read(folder: Path, path: Path) -> Campaign:
    """Replay one journal; a torn last line never counted."""
    campaign = Campaign(folder, path)
    whole = path.read_bytes().rpartition(b"\n")[0]
    for line in whole.splitlines():
        record = json.loads(line)
        event = str(record["event"])
        try:
            if event in CHANGES:
                CHANGES[event](campaign, record)
        except KeyError as missing:
            campaign.broken.append(f"{event} of an unknown {missing}")
    return campaign


Record = dict[str, object]


def _started(campaign: Campaign, record: Record) -> None:
    campaign.starts += 1
    campaign.tag, campaign.branch, campaign.base = (str(record[k]) for k in ("tag", "branch", "base"))


def _proposed(campaign: Campaign, record: Record) -> None:
    named = ("experiment", "commit", "tree", "args", "retry_of", "hypothesis")
    identity, commit, tree, args, retry_of, hypothesis = (str(record.get(name, "")) for name in named)
    experiment = Experiment(identity, commit, tree, args, retry_of, hypothesis)
    campaign.experiments[experiment.id] = experiment


def _rebased(campaign: Campaign, record: Record) -> None:
    experiment = campaign.experiments[str(record["experiment"])]
    experiment.commit, experiment.tree = str(record["commit"]), str(record["tree"])


def _reopened(campaign: Campaign, record: Record) -> None:
    campaign.reopened[str(record["experiment"])] += 1


def _run_started(campaign: Campaign, record: Record) -> None:
    place = campaign.confirming
    if "confirmation" not in record:
        place = campaign.experiments[str(record["experiment"])].runs
    place[str(record["run"])] = {**record, "outcome": None}


def _run_ended(campaign: Campaign, record: Record) -> None:
    name = str(record["run"])
    if name in campaign.confirming:
        campaign.confirming[name].update(record)
        return
    experiment = campaign.experiments[str(record["experiment"])]
    experiment.runs[name].update(record)
    if record.get("where"):
        experiment.where = f"{record.get('kind')} at {record['where']}"


def _verdict(campaign: Campaign, record: Record) -> None:
    experiment = campaign.experiments[str(record["experiment"])]
    experiment.verdicts.append(str(record["verdict"]))
    metric = record.get("metric")
    experiment.metric = float(metric) if isinstance(metric, (int, float)) and math.isfinite(metric) else None


def _finished(campaign: Campaign, record: Record) -> None:
    campaign.finished = True


CHANGES = {
    "campaign_started": _started,
    "proposed": _proposed,
    "rebased": _rebased,
    "reopened": _reopened,
    "run_started": _run_started,
    "run_ended": _run_ended,
    "verdict": _verdict,
    "finished": _finished,
}
