"""A study under way: variants of the incumbent side by side on fresh seeds, in rounds, until each is decided.

Every arm runs once a round on the round's seed, forwards and backwards in turns, so that a slow drift of the
machine falls on all. Journal first, effect second; where it stands is read from its runs, so it can be cut at
any point. Its runs are evidence for no decision and change neither branch nor incumbent.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterable

from lab import suggestions, weights
from lab.campaign import Lab
from lab.caution import look_at_new
from lab.comparison import level_of
from lab.confirm import fresh_seed
from lab.errors import REFUSED, USAGE, LabError
from lab.guards import difference
from lab.launch import start_variant
from lab.model import KILLS_ALLOWED, Experiment, Record, Run, Study
from lab.redact import one_line
from lab.steps import step

ROUNDS = 6  # at most, when the caller names no number
LEAST_ROUNDS = 2  # an interval needs them

Arm = dict[str, object]


def require_ready(lab: Lab) -> Experiment:
    """The incumbent to make variants of; LabError when nothing may start."""
    state = lab.state
    if state.finished:
        raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
    if state.incumbent is None:
        raise LabError("the baseline is not measured yet", "`baseline`, then `try`")
    if state.stopped:
        raise LabError(f"the campaign is stopped: {state.stopped}", "`resume` goes on")
    if lab.settings.mode == "collaborative":
        raise LabError(
            "in collaborative mode a person runs the training", "`handoff EXP` asks for single runs"
        )
    spent = lab.hours_spent()
    if spent:
        raise LabError(f"the budget is spent: {spent}", "raise budget.hours in the yaml", REFUSED)
    return state.incumbent


def known(lab: Lab, kind: str, arms: Iterable[Arm], pairs: int | None) -> Study | None:
    """The study that has this answer, or will have it; None when a new one is needed."""
    going = lab.state.studying
    if going:
        if going.kind != kind:
            raise LabError(f"{going.id} ({going.kind}) is under way", "`wait` for it; then this one")
        return going
    wanted = sorted((str(arm["commit"]), str(arm["args"])) for arm in arms)
    for study in reversed(lab.state.studies.values()):
        same = sorted((str(arm["commit"]), str(arm["args"])) for arm in study.arms) == wanted
        if same and study.kind == kind and not study.cut and (pairs or 0) <= study.pairs:
            return study
    return None


def begin(lab: Lab, kind: str, arms: list[Arm], pairs: int | None, runs: int | None) -> Study:
    """Journal the plan of a new study before anything of it runs."""
    _share(arms)
    active = [arm for arm in arms if not arm["trouble"] and not arm.get("runs_as")]
    rounds, least = pairs or ROUNDS, LEAST_ROUNDS * len(active)
    if runs is not None and runs < least:
        raise LabError(
            f"{len(active)} variants need {least} runs for {LEAST_ROUNDS} rounds, --runs allows {runs}",
            f"--runs {least}, or name fewer",
            USAGE,
        )
    identity = f"a{len(lab.state.studies) + 1}"
    _hold(lab, identity, arms)
    step("study.plan.before")
    lab.journal.append(
        "study_started",
        study=identity,
        kind=kind,
        experiment=lab.state.incumbent_id,
        arms=arms,
        pairs=rounds,
        most_runs=runs or rounds * len(active),
    )
    step("study.plan.after")
    return list(lab.state.studies.values())[-1]


def _share(arms: list[Arm]) -> None:
    """Let arms with the same code and arguments have the same runs."""
    first: dict[tuple[object, object], object] = {}
    for arm in arms:
        if not arm["trouble"]:
            name = first.setdefault((arm["commit"], arm["args"]), arm["name"])
            arm["runs_as"] = name if name != arm["name"] else ""


def _hold(lab: Lab, identity: str, arms: Iterable[Arm]) -> None:
    """Keep the commits of the variants from git's gc, before the journal names them."""
    for number, arm in enumerate(arms):
        if arm["commit"] != lab.state.incumbent_commit:
            label = re.sub(r"[^A-Za-z0-9_]+", "-", str(arm["name"])).strip("-")[:60]
            ref = f"refs/autoresearch/{lab.state.tag}/{identity}.{number}-{label}"
            lab.workspace.ensure_ref(ref, str(arm["commit"]))


# -- one step ------------------------------------------------------------------------------------------


def move(lab: Lab, study: Study) -> bool:
    """Start the next run or work the effects out; False when only time (or `resume`) can help."""
    _drop_exports(lab, study)
    if look_at_new(lab, study.runs, study.experiment):
        return True
    at_work = any(run.outcome is None for run in study.runs)
    due = next_run(study)
    if due is None:
        return not at_work and _look(lab, study, "")
    pair, name = due
    if not any(run.pair == pair for run in study.runs):
        cut = lab.hours_spent() or _runs_spent(study)
        if cut:
            why = f"after {pair - 1} of {study.pairs} rounds: {cut}"
            return not at_work and _look(lab, study, why)
    return start_variant(lab, study, name, pair, _seed(lab, study, pair))


def next_run(study: Study) -> tuple[int, str] | None:
    """The (round, arm) to run now; None when it is time to look, or to wait for what is at work."""
    looked_at = study.looks[-1] if study.looks else 0
    names = active(study)
    for pair in range(1, min(weights.next_look(looked_at), study.pairs) + 1):
        for name in names if pair % 2 else names[::-1]:
            runs = (run for run in study.runs if run.pair == pair and run.side == runs_as(study, name))
            if not any(run.counts or run.outcome is None for run in runs):
                return pair, name
    return None


def active(study: Study) -> list[str]:
    """The arms that still run: the undecided ones and what they are compared with, in the plan's order."""
    open_arms = [
        arm
        for arm in study.arms
        if arm["against"] and not trouble(study, arm) and arm["name"] not in study.settled
    ]
    needed = {runs_as(study, str(arm[key])) for arm in open_arms for key in ("name", "against")}
    return [arm["name"] for arm in study.arms if arm["name"] in needed]


def runs_as(study: Study, name: str) -> str:
    """The arm whose runs are this one's: another one with the very same code and arguments, or itself."""
    return str(study.arm(name).get("runs_as") or name)


def trouble(study: Study, arm: Arm) -> str:
    """Why an arm cannot be compared, or ""."""
    if arm["trouble"]:
        return str(arm["trouble"])
    for name in (str(arm["name"]), str(arm["against"])):
        lost = broken(study, name)
        if lost:
            why = one_line(lost.line or lost.detail or lost.kind or str(lost.outcome), 160)
            return f"{name} crashes ({lost.id}, {lost.kind or lost.outcome}): {why}"
    return ""


def good(study: Study, pair: int, name: str) -> Run | None:
    """The run of an arm in a round whose number counts."""
    side = runs_as(study, name)
    return next((r for r in study.runs if r.pair == pair and r.side == side and r.counts), None)


def broken(study: Study, name: str) -> Run | None:
    """The run that ends an arm; the machine's faults are repeated and never count."""
    runs = [run for run in study.runs if run.side == runs_as(study, name)]
    killed = [run for run in runs if run.outcome == "killed"][KILLS_ALLOWED:]
    return next((run for run in runs if run.failed or run in killed), None)


def _runs_spent(study: Study) -> str:
    taken = sum(run.counts or run.failed or run.outcome is None for run in study.runs)
    over = taken + len(active(study)) > study.most_runs
    return f"{taken} of at most {study.most_runs} runs" if over else ""


def _seed(lab: Lab, study: Study, pair: int) -> int | None:
    """The seed of a round: of its first run, else the next that no run of the campaign has had."""
    if not lab.settings.seeded:
        return None
    first = next((run.seed for run in study.runs if run.pair == pair), None)
    if first is not None:
        return first
    used = lab.state.seeds_used()
    return next(seed for k in itertools.count() if (seed := fresh_seed(lab.state.tag, k)) not in used)


def _drop_exports(lab: Lab, study: Study) -> None:
    for run in study.runs:
        if run.outcome is not None:
            shutil.rmtree(lab.tree_dir(run), ignore_errors=True)


# -- the effects ---------------------------------------------------------------------------------------


def _look(lab: Lab, study: Study, cut: str) -> bool:
    """Work the effects out; go on with what is undecided while further rounds are planned."""
    done = max((run.pair or 0 for run in study.runs), default=0)
    rows = weigh(lab, study)
    undecided = [row["name"] for row in rows if row["verdict"] == weights.UNDECIDED]
    if not cut and undecided and done < study.pairs:
        step("study.look")
        settled = [row["name"] for row in rows if row["name"] not in undecided]
        lab.journal.append("study_look", study=study.id, pairs=done, settled=settled)
        return True
    step("study.result")
    lab.journal.append("studied", study=study.id, pairs=done, rows=rows, cut=cut)
    step("study.known")
    lab.told += suggestions.follow(lab)
    return True


def weigh(lab: Lab, study: Study) -> list[Record]:
    """A row for each arm that is compared with another."""
    level = level_of(len(study.looks) + 1)
    compared = [arm for arm in study.arms if arm["against"]]
    found = {arm["name"]: _differences(lab, study, arm) for arm in compared if not trouble(study, arm)}
    effects = weights.effects(found, level)
    return [weights.row(study.kind, arm, effects.get(arm["name"]), trouble(study, arm)) for arm in compared]


def _differences(lab: Lab, study: Study, arm: Arm) -> list[float]:
    """How much what the arm is about helped, on each seed that both sides have."""
    better = 1.0 if lab.settings.goal == "max" else -1.0
    sign = -better if arm["without"] else better
    found = []
    for pair in sorted({run.pair for run in study.runs if run.pair is not None}):
        mine, other = (good(study, pair, str(arm[key])) for key in ("name", "against"))
        if mine and other and not difference(other.facts, mine.facts):
            assert mine.metric is not None and other.metric is not None
            found.append(sign * (mine.metric - other.metric))
    return found
