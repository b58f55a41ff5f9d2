"""When the incumbent is replaced: queued candidates move to the new one, winners over the old are combined.

A combination is an experiment of its own, proposed before the winner it carries on gets its verdict; a
process killed between the two finds the combination and gives that verdict.
"""

from __future__ import annotations

from lab import caution, judging, parallel
from lab.campaign import Lab
from lab.decide import Decision, decide
from lab.model import Experiment, State
from lab.parallel import clash_words, clashes
from lab.propose import commit_message, write_down
from lab.settle import give_verdict
from lab.steps import step


def judge(lab: Lab, experiment: Experiment) -> bool:
    """Give the verdict on a candidate whose incumbent was replaced while it was measured.

    A loss is a discard. A win, and a result still in doubt, is continued as a combination: another run beside
    the former incumbent would say nothing of the new one.
    """
    former = _parent(lab.state, experiment)
    decision = decide(judging.facts_of(lab.state, lab.settings, experiment))
    if decision.action == "discard":
        reason = parallel.lost(lab.state, former.id, decision.reason)
        give_verdict(lab, experiment, "discard", reason, decision)
    else:
        _carry_on(lab, *_first(lab, experiment, decision))
    return True


def conclude(lab: Lab, experiment: Experiment, decision: Decision) -> bool:
    """Give a verdict on the incumbent; of several waiting winners the largest believed gain is kept first."""
    if decision.action == "keep":
        experiment, decision = _first(lab, experiment, decision)
    give_verdict(lab, experiment, decision.action, decision.reason, decision)
    return True


def _first(lab: Lab, experiment: Experiment, decision: Decision) -> tuple[Experiment, Decision]:
    """The best of those that are decided like `experiment`, be it on the incumbent or on a former one."""
    state, stale = lab.state, lab.state.stale(experiment)
    found = [(experiment, decision)]
    for other in state.open():
        if other is experiment or state.stale(other) != stale or not _ready(state, other):
            continue
        if not stale and other.parent != state.incumbent_commit:
            continue
        said = decide(judging.facts_of(state, lab.settings, other))
        if said.action == "keep" and not caution.second_look(lab, other, said):
            found.append((other, said))
    return max(found, key=lambda one: (one[1].action == "keep", one[1].gain or 0.0, -one[0].number))


def _ready(state: State, experiment: Experiment) -> bool:
    """Whether all that was started for an experiment has ended well."""
    over = bool(experiment.good_runs) and not experiment.open_run and not experiment.fatal_run
    return over and not experiment.trial


def _carry_on(lab: Lab, experiment: Experiment, decision: Decision) -> None:
    """Let a stale winner's change be measured together with the incumbent's, as an experiment of its own."""
    state, won = lab.state, decision.action == "keep"
    former = _parent(state, experiment)
    before = f"{'won' if won else 'not decided'} against {former.id}, but "
    known = parallel.combination_of(state, experiment)
    if known is None:
        tree, args, clash = _merge(lab, experiment)
        if tree is None or args is None:
            reason = parallel.conflicting(state, experiment, before)
            give_verdict(lab, experiment, "discard", reason, decision, clash=clash)
            return
        if _nothing_left(lab, tree, args):
            reason = parallel.contained(state, before)
            give_verdict(lab, experiment, "discard", reason, decision)
            return
        known = _propose(lab, experiment, tree, args)
    step("combine.proposed")
    reason = parallel.carried_on(state, former.id, won, known, decision.reason)
    give_verdict(lab, experiment, "discard", reason, decision, continued_as=known.id)


def _propose(lab: Lab, experiment: Experiment, tree: str, args: str) -> Experiment:
    """Make the combination's commit and put it into the journal."""
    state, origin = lab.state, parallel.root(lab.state, experiment)
    hypothesis = f"{state.incumbent_id} + {origin.id}: {origin.hypothesis}"
    words = {name: getattr(experiment, name) for name in ("because", "expect", "idea")} | {"args": args}
    more = {"sweep": experiment.sweep, "knobs": experiment.knobs} if experiment.sweep else {}
    both = [state.incumbent_id, experiment.id]
    return write_down(lab, "combine", tree, experiment.files, hypothesis, words, combines=both, **more)


def rebase(lab: Lab, experiment: Experiment) -> bool:
    """Put a queued candidate on the incumbent that was kept meanwhile; False when that gave its verdict."""
    state, workspace = lab.state, lab.workspace
    old, parent, before = experiment.commit, state.incumbent_commit, "not measured: "
    tree, args, clash = _merge(lab, experiment)
    if tree is None or args is None:
        reason = parallel.conflicting(state, experiment, before)
        give_verdict(lab, experiment, "discard", reason, clash=clash)
        return False
    if _nothing_left(lab, tree, args):
        give_verdict(lab, experiment, "discard", parallel.contained(state, before))
        return False
    words = {"because": experiment.because, "expect": experiment.expect}
    message = commit_message(experiment.id, experiment.hypothesis, words)
    commit = workspace.commit_tree(tree, parent, message, experiment.at)
    workspace.ensure_ref(f"{lab.ref(experiment.number)}.proposed", old)
    workspace.ensure_ref(lab.ref(experiment.number), commit)
    step("rebase.committed")
    lab.journal.append(
        "rebased", experiment=experiment.id, commit=commit, tree=tree, parent=parent, args=args
    )
    return True


def _merge(lab: Lab, experiment: Experiment) -> tuple[str | None, str | None, list[str]]:
    """Three-way merge of a change onto the incumbent: tree and arguments, or None and where they clash."""
    state, workspace = lab.state, lab.workspace
    parent, incumbent = _parent(state, experiment), state.get(state.incumbent_id)
    folder = lab.home / "conflicts" / experiment.id
    sides = (experiment.parent, experiment.commit, incumbent.commit)
    tree = workspace.rebase(*sides, folder)
    args = parallel.merged_args(parent.args, incumbent.args, experiment.args)
    found = []
    if tree is None:
        for path, text in workspace.clashing(*sides, folder).items():
            found += clashes(path, text)
    if args is None:
        found.append(parallel.Clash("arguments", None, f"`{incumbent.args}`", f"`{experiment.args}`"))
    return tree, args, clash_words(found, incumbent.id, experiment.id)


def _nothing_left(lab: Lab, tree: str, args: str) -> bool:
    incumbent = lab.state.get(lab.state.incumbent_id)
    return (tree, args) == (incumbent.tree, incumbent.args)


def _parent(state: State, experiment: Experiment) -> Experiment:
    """The incumbent, present or former, that a change was made on."""
    kept = (e for e in reversed(state.experiments.values()) if e.verdict == "keep")
    return next((e for e in kept if e.commit == experiment.parent), state.get(state.incumbent_id))
