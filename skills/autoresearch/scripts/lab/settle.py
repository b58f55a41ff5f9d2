"""The verdict into the journal, and ref, note, branch, working tree and views after it.

Journal first, effect second, and every effect can be done twice: `catch_up` finishes what a killed process
left.
"""

from __future__ import annotations

import shutil

from lab import guards, ideas, judging, views
from lab.atomic import sweep
from lab.campaign import Lab
from lab.decide import Decision
from lab.errors import LabError
from lab.judging import peak, value_of
from lab.model import BASELINE, Experiment, State
from lab.notify import keeping
from lab.spec import WEIGHTS
from lab.steps import step


def catch_up(lab: Lab) -> None:
    """Finish what a process left undone: refs, branch, notes, working tree, views."""
    state = lab.state
    if not state.tag or state.finished:
        return
    for experiment in list(state.unsettled()):
        _publish(lab, experiment)
    keeping.ensure(lab)
    if state.tree_at != state.incumbent_commit and not lab.aside:
        _bring_tree_back(lab)


def _bring_tree_back(lab: Lab) -> None:
    """Let the `edit:` files show the incumbent, merged with what is being edited."""
    state, workspace = lab.state, lab.workspace
    folder = lab.home / "conflicts" / (state.incumbent_id or "start")
    conflicts = workspace.sync(state.tree_at, state.incumbent_commit, lab.settings.edit, folder)
    step("tree.synced")
    lab.journal.append("tree", commit=state.incumbent_commit, conflicts=conflicts)
    lab.told += [
        f"{path}: the new incumbent {state.incumbent_id} and your edit conflict; markers are in the file, "
        f"all three versions in {folder}"
        for path in conflicts
    ]


def give_verdict(
    lab: Lab,
    experiment: Experiment,
    verdict: str,
    reason: str,
    decision: Decision | None = None,
    **fields: object,
) -> None:
    """Journal the verdict and `fields`; `catch_up` then lets branch, note, tree and views follow."""
    state = lab.state
    against = state.reference(experiment)
    stale = state.stale(experiment)
    if verdict == "keep" and stale:  # the branch only moves on what was measured on its tip
        raise AssertionError(f"{experiment.id} was measured on a former incumbent")
    numbers = [value_of(run) for run in experiment.good_runs[experiment.fresh_from :]]
    metric = sum(numbers) / len(numbers) if numbers and verdict != "crash" else None
    sigma = decision.sigma if decision else None
    extra: dict[str, object] = dict(fields)
    if metric is not None:
        extra["flags"] = guards.flags(lab.state, experiment, metric, lab.settings.goal, sigma)
    if decision:
        interval = list(decision.interval) if decision.interval else None
        extra |= {"gain": decision.difference, "sigma": decision.sigma, "p": decision.p, "interval": interval}
        extra |= {"shrunken": decision.gain, "price": decision.price}
    # What a trial shows is for its sweep; it has no seed in common with the incumbent.
    belief = judging.belief_after(state, lab.settings, experiment, verdict) if not experiment.trial else None
    if belief:
        extra |= {"belief": belief, "belief_of": against.id} if stale and against else {"belief": belief}
    lab.journal.append(
        "verdict",
        experiment=experiment.id,
        verdict=verdict,
        reason=reason,
        metric=metric,
        memory_gb=peak(experiment),
        against=against.id if against else "",
        **extra,
    )
    catch_up(lab)


def _publish(lab: Lab, experiment: Experiment) -> None:
    """Let ref, note, branch, views and disk follow a verdict; each part can be done twice."""
    workspace, state = lab.workspace, lab.state
    workspace.ensure_ref(lab.ref(experiment.number), experiment.commit)
    workspace.note(experiment.commit, views.note(experiment, lab.settings.metric))
    step("publish.noted")
    _advance_branch(lab)
    sweep(lab.root)
    sweep(lab.home)
    views.write_results(lab.root / "results.tsv", state, lab.settings.metric)
    step("publish.results")
    if experiment.idea:
        lab.told += ideas.follow(lab)
    _drop_exports(lab, experiment)
    lab.journal.append("settled", experiment=experiment.id)


def _advance_branch(lab: Lab) -> None:
    """Fast-forward the campaign branch to the incumbent, only from where we left it."""
    state, workspace = lab.state, lab.workspace
    ref, wanted = f"refs/heads/{state.branch}", state.incumbent_commit
    seen = workspace.read_ref(ref)
    if seen == wanted:
        return
    incumbent = state.incumbent
    expected = incumbent.parent if incumbent else state.base
    if seen not in (None, expected):
        raise LabError(
            f"branch {state.branch} is at {seen[:7] if seen else seen}, where the loop did not leave it "
            f"(it was at {expected[:7]}, the new incumbent is {wanted[:7]})",
            f"keep that commit under another name, then git branch -f {state.branch} {expected[:7]}",
        )
    workspace.update_ref(ref, wanted, seen)
    workspace.follow_index(state.branch, expected, wanted)


def _drop_exports(lab: Lab, experiment: Experiment) -> None:
    """Remove exports that nobody needs: all but the incumbent's, which may hold its model."""
    incumbent = lab.state.incumbent
    keep = {run.id for run in incumbent.good_runs[:1]} if incumbent else set()
    folder = lab.home / "worktrees"
    if not folder.exists():
        return
    _drop_models(lab)
    ours = {run.id for run in experiment.runs}
    for place in folder.iterdir():
        if place.name in ours - keep or (place.name not in keep and _decided(lab.state, place.name)):
            shutil.rmtree(place, ignore_errors=True)


def _drop_models(lab: Lab) -> None:
    """Remove the models that `finish` will not score: all but the baseline's and the incumbent's."""
    state, settings = lab.state, lab.settings
    if not (settings.evaluate and settings.confirm_metric) or "AUTORESEARCH_EXPORT" in settings.argv()[0]:
        return  # none was kept for that, or the user wants them all
    pair = [e for e in (state.experiments.get(BASELINE), state.incumbent) if e]
    keep = {run.id for e in pair for run in e.good_runs[:1]}
    for experiment in state.experiments.values():
        for run in experiment.runs if experiment.verdict else ():
            if run.id not in keep:
                (lab.run_dir(run) / WEIGHTS).unlink(missing_ok=True)


def _decided(state: State, run_id: str) -> bool:
    experiment = state.experiments.get(run_id.split(".")[0])
    return experiment is not None and experiment.verdict is not None
