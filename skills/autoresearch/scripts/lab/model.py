"""The facts of a campaign: runs, experiments, confirmations, studies, and the state they make together.

The classes are mutable because `State` is rebuilt by replay on every start: ten thousand frozen
copies would cost more than the rest of a `status` call. Only `changes` changes them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from lab.errors import LabError
from lab.roster import Roster

SCHEMA = 1
HOME = ".autoresearch"  # the folder in the user's project
MEMORIES = "memories"  # beside it: what people and the tool write down, never part of a candidate
BASELINE = "e000"
VERDICTS = ("keep", "discard", "crash")
HOST_TROUBLE = ("infra", "interrupted")  # the machine's fault: repeated, never evidence
# A run that measured something else, by the fingerprints it printed; never evidence.
INCOMPARABLE = "incomparable"
# A result that a person brought back from a machine of another kind than the incumbent ran on.
ELSEWHERE = "elsewhere"
NOT_EVIDENCE = (*HOST_TROUBLE, "killed", "cancelled", INCOMPARABLE, "contended", ELSEWHERE)
# A kill from outside may be anybody's doing: repeated once, and at the second time it is the candidate's.
KILLS_ALLOWED = 1
# Three host failures in a row mean a broken machine: a fourth attempt would only burn the night.
HOST_FAILURES_ALLOWED = 3
LATELY = 200  # experiments that are looked through for what is going on
Record = dict[str, object]


def now() -> str:
    """The present as ISO text with zone, to the millisecond."""
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


@dataclass
class Run:
    """One execution of a candidate with one seed; `outcome` is None while it has not ended."""

    id: str
    seed: int | None
    nonce: str
    commit: str
    outcome: str | None = None
    metric: float | None = None
    seconds: float | None = None
    memory_gb: float | None = None
    kind: str | None = None  # class of crash: oom, error, timeout, not_finite, no_metric, ...
    detail: str = ""
    line: str = ""
    where: str | None = None
    exit_code: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # fingerprints the run printed, see guards.FACTS
    level: str = ""  # of the evaluation: L0, L1 or L2; "" in a journal of an older release
    sandbox: str = ""  # what the training lived in: landlock, ..., none, off
    own: float | None = None  # what the training itself printed, where another process gave the metric
    role: str = ""  # "confirm", "study": seen by no decision; "probe": beside a run that differs
    side: str = ""  # of a confirmation's run: the experiment; of a study's: the arm; of a probe: the run
    pair: int | None = None  # of a confirmation's or a study's run: the pair or round, from 1
    began: int = 0  # numbers of the journal's records that it started and ended with
    ended: int = 0
    load: int = 1  # runs at work with it, itself included: the more of its start and its end
    hardware: str = ""  # the GPUs it saw, else the processor; "" in a journal of an older release
    slot: str = ""  # the device or share it had; "" for a machine of its own
    request: str = ""  # r003: a person executes it, on a machine of theirs
    machine: str = ""  # of a handed run: the kind of machine it ran on
    proof: str = ""  # of a handed run: "whole", or "unverified" when only a log came back
    log_sha256: str = ""  # of a handed run: of the log as it came back
    reached: list[float] | None = None  # of a pruned trial: the share of its budget, and its loss there

    @property
    def counts(self) -> bool:
        """Whether the number is evidence: a clean end with exactly one finite metric."""
        return self.outcome == "ok" and self.metric is not None

    @property
    def failed(self) -> bool:
        """Whether the end speaks against the candidate (and not against the machine)."""
        return self.outcome is not None and not self.counts and self.outcome not in NOT_EVIDENCE

    def as_json(self) -> Record:
        """Return the fields the contract promises for `runs`."""
        return {
            "id": self.id,
            "seed": self.seed,
            "metric": self.metric if self.counts else None,
            "seconds": self.seconds,
            "outcome": self.outcome or "running",
            "level": self.level or None,
            "sandbox": self.sandbox or None,
        }


@dataclass
class Experiment:
    """One hypothesis: a candidate commit, its runs and, once known, its verdict."""

    id: str
    commit: str
    tree: str
    parent: str
    hypothesis: str
    at: str
    because: str = ""
    expect: str = ""
    idea: str = ""
    args: str = ""
    retry_of: str = ""
    combines: list[str] = field(default_factory=list)  # the incumbent and the winner it puts together
    continued_as: str = ""  # the experiment in which its change is measured on a newer incumbent
    clash: list[str] = field(default_factory=list)  # where its change and the new incumbent's conflict
    files: list[str] = field(default_factory=list)
    added: int = 0
    removed: int = 0
    left_out: list[str] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)  # what its diff touches besides, see lint
    repeats: int = 1  # runs asked for beforehand: the baseline's
    sweep: str = ""  # s1: the sweep that proposed it
    trial: bool = False  # of a sweep: measured once to steer the search, never kept
    knobs: dict[str, Any] = field(default_factory=dict)  # of a sweep: the values it was given
    host_failures: int = 0  # in a row, since the last clean run or `resume`
    runs: list[Run] = field(default_factory=list)
    verdict: str | None = None
    verdict_at: str = ""
    reason: str = ""
    metric: float | None = None
    memory_gb: float | None = None
    gain: float | None = None
    sigma: float | None = None
    p: float | None = None
    interval: list[float] | None = None  # of `shrunken`; of `gain` in a journal without it
    shrunken: float | None = None  # what is to be believed of the gain
    price: float | None = None  # the gain it had to show
    constants: int = 0  # new ones in its diff
    fresh_from: int = 0  # its good runs before this one were on another machine, so to say
    against: str = ""  # the incumbent's id at the verdict
    flags: list[str] = field(default_factory=list)  # what to look at before the number is believed
    settled: bool = False  # branch, note, working tree and results.tsv follow the verdict

    @property
    def number(self) -> int:
        """The n of e012."""
        return int(self.id[1:])

    @property
    def good_runs(self) -> list[Run]:
        """Runs of the present commit whose number is evidence, in the order they ended."""
        good = [run for run in self.runs if run.counts and run.commit == self.commit]
        return good if len(good) < 2 else sorted(good, key=lambda run: run.ended)

    @property
    def begun(self) -> bool:
        """Whether the present commit is being measured or has been."""
        return any(run.commit == self.commit and (run.outcome is None or run.counts) for run in self.runs)

    @property
    def fatal_run(self) -> Run | None:
        """The run that makes this candidate a crash, if there is one."""
        runs = [run for run in self.runs if run.commit == self.commit]
        killed = [run for run in runs if run.outcome == "killed"]
        failed = [run for run in runs if run.failed] + killed[KILLS_ALLOWED:]
        if self.verdict == "crash":
            failed += [run for run in runs if run.outcome == INCOMPARABLE]
        return failed[0] if failed else None

    @property
    def open_run(self) -> Run | None:
        """The run that was started and has not ended."""
        return next((run for run in reversed(self.runs) if run.outcome is None), None)

    @property
    def handed(self) -> list[Run]:
        """Runs that a person was asked to execute and whose results are not back."""
        return [run for run in self.runs if run.outcome is None and run.request]

    @property
    def past(self) -> bool:
        """Whether nothing asks for it unnamed: it is done with, not on the branch, and tells no noise."""
        return self.settled and self.verdict not in (None, "keep") and len(self.runs) < 2

    @property
    def status(self) -> str:
        """`queued`, `running` or `done`."""
        if self.verdict:
            return "done"
        return "running" if self.open_run else "queued"


@dataclass
class Confirmation:
    """An experiment against the baseline on fresh seeds; its runs belong to it and to no experiment."""

    id: str  # c1
    experiment: str
    commit: str
    base: str  # the baseline's id
    base_commit: str
    pairs: int  # at most
    at: str
    heldout: str = ""  # the metric on the split that the loop never scores
    env: dict[str, str] = field(default_factory=dict)  # what its runs see besides: scores that split
    runs: list[Run] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)  # pairs there were each time the interval was worked out
    told: int = 0  # results given so far: each was a look at the held-out split
    host_failures: int = 0
    verdict: str = ""
    reason: str = ""
    cut: str = ""  # why it ended before its time
    result: dict[str, object] = field(default_factory=dict)
    ended: str = ""

    @property
    def open_run(self) -> Run | None:
        """The run that was started and has not ended."""
        return next((run for run in reversed(self.runs) if run.outcome is None), None)


@dataclass
class Study:
    """Variants of one experiment side by side on fresh seeds; its runs belong to it and to no experiment."""

    id: str  # a1
    kind: str  # ablate: the keeps taken out one by one; isolate: switches turned one by one
    experiment: str  # what the variants are made of: the incumbent then
    arms: list[dict[str, Any]]  # name, commit, args, against (an arm's name or ""), words, trouble, ...
    pairs: int  # rounds at most, each arm once a round
    most_runs: int
    at: str
    runs: list[Run] = field(default_factory=list)
    looks: list[int] = field(
        default_factory=list
    )  # rounds there were each time the intervals were worked out
    settled: list[str] = field(default_factory=list)  # arms that need no further run
    host_failures: int = 0
    verdict: str = ""  # "done" once the rows stand
    rows: list[dict[str, Any]] = field(default_factory=list)  # one for each arm that is compared
    cut: str = ""  # why it ended before its time
    ended: str = ""

    @property
    def open_run(self) -> Run | None:
        """The run that was started and has not ended."""
        return next((run for run in reversed(self.runs) if run.outcome is None), None)

    def arm(self, name: str) -> dict[str, Any]:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm["name"] == name)


Place = Experiment | Confirmation | Study  # what has runs


@dataclass
class State:
    """The present of a campaign: what replay of its journal gives."""

    tag: str = ""
    branch: str = ""
    base: str = ""  # the commit the campaign started from
    head: str = ""  # what HEAD was then, for the words of `finish`
    started: str = ""
    frozen: dict[str, object] = field(default_factory=dict)  # settings every comparison rests on
    experiments: Roster[Experiment] = field(default_factory=Roster)
    confirmations: dict[str, Confirmation] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)  # s1 -> its knobs, trials, how it ended
    incumbent_id: str = ""
    belief: dict[str, object] = field(default_factory=dict)  # of the incumbent, after the last verdict
    left: dict[str, Record] = field(default_factory=dict)  # beliefs of former incumbents
    unchecked: int = 0  # verdicts since the incumbent last ran
    drifts: list[str] = field(default_factory=list)  # when the machine was seen to have changed
    heldout: dict[str, object] = field(default_factory=dict)  # the look that `finish` took, see lab.heldout
    verified: dict[str, object] = field(default_factory=dict)  # the rows that were last measured again
    going: list[str] = field(default_factory=list)  # runs started and not ended
    tree_at: str = ""  # the commit whose `edit:` files the working tree stands on
    accepted: dict[str, str] = field(default_factory=dict)  # path -> hash of edits left out on purpose
    stopped: str = ""  # the reason no new run starts, or ""
    stopped_at: str = ""
    stopped_by: str = ""  # user, host or guard
    finished: str = ""
    active_at: str = ""  # when somebody or a run last moved the campaign on
    notices: dict[str, dict[str, Any]] = field(default_factory=dict)  # key -> kind, text, to, at, channels
    pushed: dict[str, Any] = field(default_factory=dict)  # the last push: commit, outcome, detail, at, tries
    agents: list[Record] = field(default_factory=list)  # sessions that `drive` started, in order
    gave_up: str = ""  # why `drive` starts no further session; over when the campaign moves
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)  # r003 -> what a person was asked for
    moved: int = 0  # number of the record that moved the comparison to another kind of machine
    waiting: list[str] = field(default_factory=list)  # runs that a person has and that are not back
    remarks: list[dict[str, Any]] = field(default_factory=list)  # what the person said: text, seen, done
    checkpoints: list[dict[str, Any]] = field(default_factory=list)  # what the person was asked, and answered
    seq: int = 0

    @property
    def incumbent(self) -> Experiment | None:
        """The experiment to beat; None before the baseline is measured."""
        return self.experiments.get(self.incumbent_id)

    @property
    def incumbent_commit(self) -> str:
        """The commit to beat; the start while there is no baseline yet."""
        return self.incumbent.commit if self.incumbent else self.base

    def stale(self, experiment: Experiment) -> bool:
        """Whether an experiment is being measured on an incumbent that is none any more."""
        return experiment.verdict is None and experiment.parent != self.incumbent_commit and experiment.begun

    def reference(self, experiment: Experiment) -> Experiment | None:
        """What an experiment's runs are evidence against: the incumbent, or the former one it was made on."""
        if not self.stale(experiment):
            return self.incumbent
        kept = (e for e in reversed(self.experiments.values()) if e.verdict == "keep")
        return next((e for e in kept if e.commit == experiment.parent), self.incumbent)

    @property
    def baseline(self) -> Experiment | None:
        """The unchanged start."""
        return self.experiments.get(BASELINE)

    def present(self) -> list[Experiment]:
        """Every experiment that is not past, oldest first; of those that are, some."""
        return self.experiments.awake()

    def lately(self) -> Iterator[Experiment]:
        """The last experiments, the newest first."""
        return islice(reversed(self.experiments.values()), LATELY)

    def open(self) -> Iterator[Experiment]:
        """Experiments without a verdict, oldest first."""
        return (e for e in self.present() if e.verdict is None)

    def at_work(self) -> list[tuple[Experiment, Run]]:
        """Runs started and not ended, in the order they started, each with the experiment it is a run of."""
        return [self._going(name) for name in self.going]

    def handed(self) -> list[tuple[Experiment, Run]]:
        """Runs that a person was asked for and whose results are not back."""
        return [self._going(name) for name in self.waiting]

    def _going(self, name: str) -> tuple[Experiment, Run]:
        owner = name.split(".")[0]
        place = self.confirmations.get(owner) or self.studies.get(owner) or self.experiments[owner]
        run = next(run for run in reversed(place.runs) if run.id == name)
        if isinstance(place, Study):
            return self.variant(place, run.side), run
        return (place if isinstance(place, Experiment) else self.experiments[run.side]), run

    @property
    def confirming(self) -> Confirmation | None:
        """The confirmation that has no result yet."""
        return next((c for c in self.confirmations.values() if not c.verdict), None)

    @property
    def studying(self) -> Study | None:
        """The study that has no result yet."""
        return next((s for s in self.studies.values() if not s.verdict), None)

    @property
    def sweeping(self) -> dict[str, Any] | None:
        """The sweep that has no result yet."""
        return next((s for s in self.sweeps.values() if not s["ended"]), None)

    def variant(self, study: Study, name: str) -> Experiment:
        """The experiment as an arm of a study changes it, without runs."""
        arm = study.arm(name)
        of = self.experiments[study.experiment]
        return replace(of, commit=str(arm["commit"]), args=str(arm["args"]), runs=[])

    def seeds_used(self) -> set[int]:
        """Every seed that any run of the campaign had."""
        return {run.seed for place in self.places() for run in place.runs if run.seed is not None}

    def places(self) -> Iterator[Place]:
        """Everything that has runs."""
        yield from self.experiments.values()
        yield from self.confirmations.values()
        yield from self.studies.values()

    def better_discards(self, goal: str) -> list[Experiment]:
        """Discards whose metric is better than the incumbent's, the best first: not shown, not disproved."""
        best = self.incumbent
        if best is None or best.metric is None:
            return []
        sign = 1 if goal == "min" else -1
        rows = [e for e in self.experiments.values() if e.verdict == "discard" and e.metric is not None]
        better = [e for e in rows if e.metric is not None and sign * e.metric < sign * best.metric]
        better = [e for e in better if not e.trial and not self.lives_on(e)]
        return sorted(better, key=lambda e: sign * (e.metric or 0.0))

    def lives_on(self, experiment: Experiment) -> bool:
        """Whether a discarded change is under test on a newer incumbent, or was kept there."""
        while experiment.continued_as in self.experiments:
            experiment = self.experiments[experiment.continued_as]
        return experiment.verdict in (None, "keep")

    def unsettled(self) -> Iterator[Experiment]:
        """Experiments whose verdict has not reached branch, note, tree and views."""
        return (e for e in self.present() if e.verdict and not e.settled)

    def counts(self) -> dict[str, int]:
        """How many experiments have each verdict, and how many have none yet (`open`)."""
        counts = dict.fromkeys((*VERDICTS, "open"), 0)
        counts |= self.experiments.tally
        for experiment in self.present():
            counts[experiment.verdict or "open"] += 1
        return counts

    def get(self, name: str) -> Experiment:
        """Return the experiment called `name` (`e012`, `12`, `best`, `last`), or say which exist."""
        if name in ("best", "incumbent") and self.incumbent:
            return self.incumbent
        known = list(self.experiments)
        if name == "last" and known:
            return self.experiments[known[-1]]
        wanted = f"e{int(name):03d}" if name.isascii() and name.isdigit() else name.split(".")[0]
        if wanted not in self.experiments:
            seen = f"{known[0]} to {known[-1]}" if known else "none yet"
            raise LabError(f"there is no experiment {name!r}", f"known: {seen}; `log` lists them")
        return self.experiments[wanted]

    def next_number(self) -> int:
        """The number of the next candidate; 0 is the baseline's."""
        return max((int(name[1:]) for name in self.experiments), default=0) + 1
