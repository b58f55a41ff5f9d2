"""Confirming: an experiment against the baseline on fresh seeds, in pairs whose sides take turns.

What the loop kept is selected, so its numbers there are a little too good. Here both sides run on seeds that
no run of the campaign has had, B F F B B F ..., so that a slow drift of the machine falls on both; where
there are several slots, the two sides of a pair run beside each other. Journal first, effect second, as in
the loop; where it stands is read from its runs, so it can be cut at any point.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil

from lab import comparison, proof
from lab.campaign import Lab
from lab.caution import look_at_new
from lab.comparison import Comparison
from lab.errors import REFUSED, LabError
from lab.grammars import TRAIN_METRIC
from lab.guards import difference
from lab.launch import start_confirming
from lab.model import BASELINE, KILLS_ALLOWED, Confirmation, Experiment, Run, State
from lab.redact import one_line
from lab.steps import step

PAIRS = 10  # at most, when the caller names no number
MISSING_ALLOWED = 3  # pairs lost before the first whole one: then something is broken


def propose_confirmation(lab: Lab, name: str | None, pairs: int | None) -> Confirmation:
    """The confirmation to wait for: the one under way, one that is done, or a new one in the journal."""
    state = lab.state
    if state.finished:
        raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
    going = state.confirming
    experiment = _subject(state, name, going)
    if going and going.experiment != experiment.id:
        raise LabError(
            f"{going.id} confirms {going.experiment} at the moment", "`confirm` waits for it; then this one"
        )
    known = going or _latest(state, experiment)
    if known and not _asks_for_more(known, pairs):
        return known
    _require_ready(lab)
    heldout = {"heldout": lab.settings.confirm_metric or "", "env": dict(lab.settings.confirm_env)}
    lab.journal.append(
        "confirm_started",
        confirmation=known.id if known else f"c{len(state.confirmations) + 1}",
        experiment=experiment.id,
        commit=experiment.commit,
        base=BASELINE,
        base_commit=state.get(BASELINE).commit,
        pairs=max(pairs or 0, known.pairs) if known else pairs or PAIRS,
        **heldout,
    )
    return known or list(state.confirmations.values())[-1]


def _subject(state: State, name: str | None, going: Confirmation | None) -> Experiment:
    if name is None and going:
        return state.get(going.experiment)
    if state.incumbent is None:
        raise LabError("the baseline is not measured yet", "`baseline`, then `try`")
    experiment = state.get(name or state.incumbent_id)
    if experiment.id == BASELINE:
        kept = " and nothing better was kept yet" if name is None else ""
        raise LabError(f"{BASELINE} is the baseline itself{kept}", "`confirm EXP` names another experiment")
    if not experiment.verdict or not experiment.good_runs:
        raise LabError(f"{experiment.id} has no number to confirm", "`log` lists those that have one")
    return experiment


def _latest(state: State, experiment: Experiment) -> Confirmation | None:
    found = [
        c
        for c in state.confirmations.values()
        if (c.experiment, c.commit) == (experiment.id, experiment.commit)
    ]
    return found[-1] if found else None


def _asks_for_more(known: Confirmation, pairs: int | None) -> bool:
    """More pairs than were planned, or the rest of what was cut short."""
    return bool((pairs and pairs > known.pairs) or (known.verdict and known.cut))


def _require_ready(lab: Lab) -> None:
    if lab.state.stopped:
        raise LabError(f"the campaign is stopped: {lab.state.stopped}", "`resume` goes on")
    spent = lab.hours_spent()
    if spent:
        raise LabError(f"the budget is spent: {spent}", "raise budget.hours in the yaml", REFUSED)
    metric = lab.settings.confirm_metric or lab.settings.metric
    if TRAIN_METRIC.search(metric):
        raise LabError(
            f"{metric} comes from the training data, and a gain there confirms nothing",
            "name a held-out number that the program prints: confirm: {metric: NAME}",
        )


# -- one step ------------------------------------------------------------------------------------------


def move(lab: Lab, confirmation: Confirmation) -> bool:
    """Start the next run or work out the interval; False when only time (or `resume`) can help."""
    _drop_exports(lab, confirmation)
    if look_at_new(lab, confirmation.runs):
        return True
    at_work = any(run.outcome is None for run in confirmation.runs)
    due = next_run(confirmation, lab.settings.seeded)
    if due is None:
        return not at_work and _look(lab, confirmation, "")
    pair, name = due
    if not any(run.pair == pair for run in confirmation.runs):
        spent = lab.hours_spent()
        if spent:
            why = f"after {pair - 1} of {confirmation.pairs} pairs: {spent}"
            return not at_work and _look(lab, confirmation, why)
        if lab.state.going and lab.width - len(lab.state.going) < 2:
            return False  # no room for both sides: they would run under another load
    seed = _seed(lab, confirmation, pair)
    return start_confirming(lab, confirmation, lab.state.get(name), pair, seed)


def next_run(confirmation: Confirmation, seeded: bool) -> tuple[int, str] | None:
    """The (pair, experiment) to run now; None when it is time to look, or to wait for what is at work."""
    sides = (confirmation.base, confirmation.experiment)
    looked_at = confirmation.looks[-1] if confirmation.looks else 0
    missing = whole = 0
    for pair in range(1, min(comparison.next_look(looked_at), confirmation.pairs) + 1):
        lost = [name for name in sides if _lost(confirmation, pair, name)]
        missing += bool(lost)
        whole += all(_good(confirmation, pair, name) for name in sides)
        if missing >= MISSING_ALLOWED and not whole:
            return None
        if lost and seeded:
            continue  # half a pair shows nothing
        for name in sides if pair % 2 else sides[::-1]:
            runs = _half(confirmation, pair, name)
            if name not in lost and not any(run.counts or run.outcome is None for run in runs):
                return pair, name
    return None


def _half(confirmation: Confirmation, pair: int, name: str) -> list[Run]:
    return [run for run in confirmation.runs if run.pair == pair and run.side == name]


def _good(confirmation: Confirmation, pair: int, name: str) -> Run | None:
    return next((run for run in _half(confirmation, pair, name) if run.counts), None)


def _lost(confirmation: Confirmation, pair: int, name: str) -> Run | None:
    """The run that leaves this half without a number; the machine's faults are repeated and never count."""
    runs = _half(confirmation, pair, name)
    killed = [run for run in runs if run.outcome == "killed"][KILLS_ALLOWED:]
    return next((run for run in [*runs, *killed] if run.failed or run in killed), None)


def _seed(lab: Lab, confirmation: Confirmation, pair: int) -> int | None:
    """The seed of a pair: of its first run, else the next that no run of the campaign has had."""
    if not lab.settings.seeded:
        return None
    known = next((run.seed for run in confirmation.runs if run.pair == pair), None)
    if known is not None:
        return known
    used = lab.state.seeds_used()
    return next(seed for k in itertools.count() if (seed := fresh_seed(lab.state.tag, k)) not in used)


def fresh_seed(tag: str, k: int) -> int:
    """Number k of the seeds kept for confirming: nobody knows them from the loop's 42, 43, 44, ..."""
    digest = hashlib.sha256(f"{tag} confirm {k}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # 31 bits: every generator takes them


def _drop_exports(lab: Lab, confirmation: Confirmation) -> None:
    for run in confirmation.runs:
        if run.outcome is not None:
            shutil.rmtree(lab.tree_dir(run), ignore_errors=True)


# -- the interval --------------------------------------------------------------------------------------


def _look(lab: Lab, confirmation: Confirmation, cut: str) -> bool:
    """Work the interval out; go on when nothing is decided and more pairs may run."""
    asked = max((run.pair or 0 for run in confirmation.runs), default=0)
    verdict, reason, result = weigh(lab, confirmation)
    broken = not cut and asked < min(comparison.FIRST_LOOK, confirmation.pairs)
    if not cut and not broken and asked < confirmation.pairs and verdict.startswith("inconclusive"):
        step("confirm.look")
        lab.journal.append("confirm_look", confirmation=confirmation.id, pairs=asked, result=result)
        return True
    if broken:
        cut = f"the first {asked} pairs are all missing"
    step("confirm.result")
    lab.journal.append(
        "confirmed",
        confirmation=confirmation.id,
        pairs=asked,
        verdict=verdict,
        reason=reason,
        cut=cut,
        result=result,
    )
    return True


def weigh(lab: Lab, confirmation: Confirmation) -> tuple[str, str, dict[str, object]]:
    """Verdict, its reason, and every figure."""
    state, metric = lab.state, lab.settings.metric
    level = comparison.level_of(len(confirmation.looks) + 1)
    selection, missing = _compare(lab, confirmation, metric, level)
    heldout = None
    if confirmation.heldout:
        heldout, missing = _compare(lab, confirmation, confirmation.heldout, level)
    claimed = _claimed(state, lab.settings.goal, confirmation)
    primary, name = (heldout, confirmation.heldout) if heldout else (selection, metric)
    result: dict[str, object] = {
        **(proof.comparison_json(name, primary) or {"metric": name, "gain": None, "interval": None, "n": 0}),
        "in_loop_gain": claimed,
        "selection": proof.comparison_json(metric, selection),
        "heldout": proof.comparison_json(confirmation.heldout, heldout),
        "missing": missing,
        "pairs_needed": None,
    }
    if primary is None:
        return "inconclusive at this scale", "fewer than two whole pairs, so there is no interval", result
    if heldout and selection:
        result["also"] = proof.sentence(metric, selection, claimed)
    verdict = comparison.judge(primary, selection, claimed)
    reason = proof.sentence(name, primary, None if heldout else claimed)
    if verdict.startswith("inconclusive"):
        needed = comparison.pairs_needed(primary, level)
        result["pairs_needed"] = needed
        reason += f"; showing a gain of this size would take about {needed} pairs" if needed else ""
    return verdict, reason, result


def _compare(
    lab: Lab, confirmation: Confirmation, metric: str, level: float
) -> tuple[Comparison | None, list[str]]:
    """The comparison by `metric`, and what is missing from it in words."""
    before, missing = _values(lab, confirmation, confirmation.base, metric)
    after, more = _values(lab, confirmation, confirmation.experiment, metric)
    goal = lab.settings.goal
    missing += more
    if not lab.settings.seeded:
        return comparison.compare_groups(list(before.values()), list(after.values()), goal, level), missing
    pairs = []
    for pair in sorted(before.keys() & after.keys()):
        one, other = (
            _good(confirmation, pair, name) for name in (confirmation.base, confirmation.experiment)
        )
        assert one and other
        apart = difference(one.facts, other.facts)
        if apart:
            missing.append(f"pair {pair}: {other.id} cannot be compared with {one.id}, {apart}")
        else:
            pairs.append((before[pair], after[pair]))
    return comparison.compare_pairs(pairs, goal, level), missing


def _values(
    lab: Lab, confirmation: Confirmation, name: str, metric: str
) -> tuple[dict[int, float], list[str]]:
    """Pair -> value of one side; a run without one is named."""
    values: dict[int, float] = {}
    missing = []
    for pair in sorted({run.pair for run in confirmation.runs if run.pair is not None}):
        good, lost = _good(confirmation, pair, name), _lost(confirmation, pair, name)
        if good:
            value = good.metric if metric == lab.settings.metric else good.values.get(metric)
            if value is None:
                missing.append(f"pair {pair}: run {good.id} of {name} prints no {metric}")
            else:
                values[pair] = value
        elif lost:
            why = one_line(lost.line or lost.detail or lost.kind or str(lost.outcome), 160)
            missing.append(f"pair {pair}: run {lost.id} of {name} gave no number ({lost.outcome}: {why})")
    return values, missing


def _claimed(state: State, goal: str, confirmation: Confirmation) -> float | None:
    """What the loop's own runs say, selected as they are."""
    before, after = (state.get(name).metric for name in (confirmation.base, confirmation.experiment))
    if before is None or after is None:
        return None
    return after - before if goal == "max" else before - after
