"""The keeps of a campaign as branches for a reviewer: one commit with everything, or one for each change.

The branches start at the merge base of what the user has checked out and the campaign, stand under
`autoresearch-review/TAG/`, and are made in the object store alone: no branch of the user, no file and no
index is touched. The same campaign gives the same commits, so that a second call finds them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import proof
from lab.account import word_of
from lab.errors import PRECONDITION, LabError
from lab.model import BASELINE, Experiment, Run, State
from lab.redact import one_line
from lab.settings import Settings
from lab.steps import step
from lab.views import flat, number
from lab.workspace import Workspace

SPACE = "autoresearch-review"
SUBJECT, WORDS = 60, 400


@dataclass(frozen=True)
class Review:
    """One branch made for review."""

    branch: str
    commit: str
    experiments: tuple[str, ...]
    new: bool


def chain(state: State) -> list[Experiment]:
    """The keeps that led to the incumbent, oldest first, without the baseline."""
    by_commit = {e.commit: e for e in state.experiments.values() if e.verdict == "keep" and e.id != BASELINE}
    found: list[Experiment] = []
    at = by_commit.get(state.incumbent_commit)
    while at:
        found.append(at)
        at = by_commit.get(at.parent)
    return found[::-1]


def make(workspace: Workspace, state: State, settings: Settings, how: str, scratch: Path) -> list[Review]:
    """Make the branches; `how` is `one` or `each`. Empty when the user's branch has every keep."""
    kept = chain(state)
    _, head = workspace.head()
    base = workspace.merge_base(head, state.incumbent_commit)
    if not workspace.contains(base, state.base):
        base = (
            state.base
        )  # an older branch is checked out: what lies between is the user's, not the campaign's
    kept = [e for e in kept if not workspace.contains(base, e.commit)]
    if not kept:
        return []
    space = f"{SPACE}/{state.tag}"
    if how == "one":
        return [_one(workspace, state, settings, kept, base, f"{space}/all")]
    return [
        _stack(workspace, state, settings, group, base, f"{space}/{group[0].id}", scratch)
        for group in grouped(workspace, kept, base, scratch)
    ]


def _one(
    workspace: Workspace, state: State, settings: Settings, kept: list[Experiment], base: str, branch: str
) -> Review:
    """Everything in one commit."""
    tree = workspace.tree_of(kept[-1].commit)
    commit = workspace.commit_tree(tree, base, whole_message(state, settings, kept), kept[-1].at)
    return _branch(workspace, branch, commit, kept)


def _stack(
    workspace: Workspace, state: State, settings: Settings, group: list[Experiment], base: str, branch: str,
    scratch: Path,
) -> Review:  # fmt: skip
    """One commit for each keep of the group."""
    at = base
    for e in group:
        tree = workspace.rebase(e.parent, e.commit, at, scratch)
        assert tree, "the group was put together so that this works"
        at = workspace.commit_tree(tree, at, message(state, settings, e), e.at)
    return _branch(workspace, branch, at, group)


def _branch(workspace: Workspace, branch: str, commit: str, group: Sequence[Experiment]) -> Review:
    ref = f"refs/heads/{branch}"
    seen = workspace.read_ref(ref)
    if seen not in (None, commit):
        raise LabError(
            f"branch {branch} exists with something else",
            f"give it another name first: git branch -m {branch} NAME",
            PRECONDITION,
        )
    if seen is None:
        workspace.update_ref(ref, commit, None)
        step("squash.branch")
    return Review(branch, commit, tuple(e.id for e in group), seen is None)


# -- which keeps belong together -----------------------------------------------------------------------------


def grouped(
    workspace: Workspace, kept: Sequence[Experiment], base: str, scratch: Path
) -> list[list[Experiment]]:
    """The keeps in groups that can each be applied to `base` alone, as small as git can merge them.

    A keep that builds on lines of earlier ones joins their group; at worst all are one group, the campaign
    itself. That a group merges says nothing about its metric, which was measured on top of all before it.
    """
    groups: list[Group] = []
    for e in kept:
        joined, rest = next(
            found for way in _ways(groups) if (found := _try(workspace, e, *way, base, scratch))
        )
        groups = [*rest, joined]
    return sorted((g.keeps for g in groups), key=lambda keeps: keeps[0].number)


@dataclass(frozen=True)
class Group:
    """Keeps on top of each other, and the commit that has them all."""

    keeps: list[Experiment]
    tip: str


Way = tuple[list[Group], list[Group]]  # the groups that a keep goes on top of, and those left as they are


def _ways(groups: list[Group]) -> Iterator[Way]:
    """Alone, behind each group, then behind the last two, four, eight, ... and all of them."""
    yield [], groups
    for group in reversed(groups):
        yield [group], [g for g in groups if g is not group]
    size = 2
    while size < len(groups):
        yield groups[-size:], groups[:-size]
        size *= 2
    yield groups, []


def _try(
    workspace: Workspace, e: Experiment, under: list[Group], rest: list[Group], base: str, scratch: Path
) -> tuple[Group, list[Group]] | None:
    """The keep on top of these groups, or None where git cannot merge them."""
    if len(under) > 1:
        keeps = sorted((k for g in under for k in g.keeps), key=lambda k: k.number)
        at = _applied(workspace, keeps, base, scratch)
    else:
        keeps, at = (under[0].keeps, under[0].tip) if under else ([], base)
    tip = at and _applied(workspace, [e], at, scratch)
    return (Group([*keeps, e], tip), rest) if tip else None


def _applied(workspace: Workspace, keeps: Sequence[Experiment], at: str, scratch: Path) -> str:
    """The commit with the keeps on top of `at`, or "" where one does not merge."""
    for e in keeps:
        tree = workspace.rebase(e.parent, e.commit, at, scratch)
        if tree is None:
            return ""
        at = workspace.commit_tree(tree, at, e.id, e.at)
    return at


# -- what the commits say ------------------------------------------------------------------------------------


def message(state: State, settings: Settings, e: Experiment) -> str:
    """Subject, what was tried and why, metric from and to, and the evidence."""
    rows = [_subject(e), "", *_evidence(state, settings, e)]
    rows += ["", f"Measured on top of the keeps before it in autoresearch/{state.tag}, not alone."]
    return "\n".join(rows) + "\n"


def whole_message(state: State, settings: Settings, kept: Sequence[Experiment]) -> str:
    """What the campaign gained, and each keep with its evidence."""
    first, last = state.baseline, kept[-1]
    change = f"{settings.metric} {number(first.metric if first else None)} -> {number(last.metric)}"
    rows = [one_line(f"autoresearch {state.tag}: {change}", SUBJECT + 12), ""]
    rows += [proof.lines(state, c)[0] for c in state.confirmations.values() if c.verdict] or [
        "Not confirmed."
    ]
    for e in kept:
        rows += ["", *_evidence(state, settings, e)]
    return "\n".join(rows) + "\n"


def _subject(e: Experiment) -> str:
    return one_line(flat(e.hypothesis), SUBJECT) or e.id


def _evidence(state: State, settings: Settings, e: Experiment) -> list[str]:
    against = state.experiments.get(e.against)
    before = against.metric if against else None
    rows = [f"Experiment {e.id}: {one_line(flat(e.hypothesis), WORDS)}"]
    rows += [f"{name}: {one_line(flat(text), WORDS)}" for name, text in _words(e) if text]
    gap = "" if before is None or e.metric is None else f" ({e.metric - before:+.6f})"
    rows.append(f"{settings.metric}: {number(before)} -> {number(e.metric)}{gap}, keep ({word_of(e)})")
    if e.shrunken is not None and e.interval and e.p is not None:
        rows.append(f"to be believed: {e.shrunken:+.6g} ({e.interval[0]:+.6g} to {e.interval[1]:+.6g}), "
                    f"P(better) {e.p:.3f}")  # fmt: skip
    runs = ", ".join(f"{run.id}{_seed(run)} {number(run.metric)}" for run in e.good_runs)
    return [*rows, *([f"runs: {runs}"] if runs else []), f"candidate: {e.commit}"]


def _seed(run: Run) -> str:
    return "" if run.seed is None else f" (seed {run.seed})"


def _words(e: Experiment) -> list[tuple[str, str]]:
    return [("because", e.because), ("expected", e.expect), ("args", e.args)]
