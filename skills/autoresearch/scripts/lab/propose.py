"""From the working tree's change, or the unchanged start, to an experiment in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab import admit, ideas, views
from lab.agenda import find, plain, relatives
from lab.campaign import Lab
from lab.decide import new_constants
from lab.errors import REFUSED, LabError
from lab.handing import handover
from lab.launch import check_protected
from lab.likeness import arguments
from lab.marks import QUEUED
from lab.model import BASELINE, HOME, Experiment, State, now
from lab.redact import hide_secrets, one_line
from lab.settle import catch_up
from lab.steps import step

# Suffixes whose change can alter what a run does; a README the user edits beside the loop cannot.
CODE = {
    ".py", ".pyx", ".pyi", ".ipynb", ".sh", ".c", ".cc", ".cpp", ".h", ".hpp", ".cu", ".cuh", ".rs", ".jl",
    ".js", ".ts", ".go", ".java", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".lock", ".mk", "",
}  # fmt: skip
BASELINE_REPEATS = 3
SHORT_RUN_SECONDS = 600  # below this a baseline is repeated without being asked


def propose_baseline(lab: Lab, repeats: int | None) -> Experiment:
    """Make e000 of the unchanged start, or ask for more runs of it; nothing is started here."""
    state = lab.state
    _require_open(state)
    default = BASELINE_REPEATS if lab.settings.seconds < SHORT_RUN_SECONDS else 1
    if state.baseline is None:
        check_protected(lab)
        if lab.settings.frozen != state.frozen:
            lab.journal.append("settings", frozen=lab.settings.frozen)
        lab.journal.append(
            "proposed",
            experiment=BASELINE,
            commit=state.base,
            tree=lab.workspace.tree_of(state.base),
            parent=state.base,
            hypothesis="baseline",
            repeats=repeats or default,
        )
    elif state.baseline.verdict == "crash" or (
        state.baseline.verdict and (repeats or 0) > len(state.baseline.good_runs)
    ):
        if state.incumbent_id not in ("", BASELINE):
            raise LabError(
                f"{state.incumbent_id} was kept since, so the baseline is closed",
                "`confirm` measures both on fresh seeds",
            )
        wanted = repeats or state.baseline.repeats
        lab.journal.append("reopened", experiment=BASELINE, repeats=wanted)
    return state.get(BASELINE)


def propose(lab: Lab, hypothesis: str, words: Mapping[str, str], leave_out: bool, again: bool) -> Experiment:
    """Turn the working tree's change into a candidate commit and put the incumbent back.

    `words` holds because, expect, idea, args and retry_of. Raises `LabError` before anything is written
    when there is no campaign to work in (4), the budget is spent or the change is out of scope (9), or
    there is nothing new to measure (4).
    """
    state, workspace = lab.state, lab.workspace
    hypothesis, words = hide_secrets(hypothesis), {name: hide_secrets(text) for name, text in words.items()}
    _require_ready(lab)
    incumbent = state.incumbent or state.get(BASELINE)
    known = ideas.agenda(lab.root)
    same = next((i for i in known if i.state == QUEUED and plain(i.text) == plain(hypothesis)), None)
    if same and not words.get("idea"):
        words = {**words, "idea": same.id}
        lab.told.append(f"tied to idea {same.id}, which says the same")
    if words.get("idea") and (results := find(known, words["idea"]).results):
        lab.told.append(f"idea {words['idea']} was tested before: {', '.join(results[-3:])}")
    if words.get("retry_of"):
        words = {**words, "retry_of": state.get(words["retry_of"]).id}
    if "args" not in words:  # what the incumbent is run with belongs to it, like its code
        words = {**words, "args": incumbent.args}
    files, left_out = _change_in_scope(lab, leave_out)
    marked = workspace.conflicted(files)
    if marked:
        raise LabError(
            f"{', '.join(marked)} still has conflict markers from the last keep",
            f"edit them away; the three versions lie in {HOME}/conflicts",
        )
    parent = state.incumbent_commit
    admit.refuse_unfit(lab, parent, files)
    tree = workspace.write_tree(parent, files)
    _refuse_repeat(state, tree, words["args"], again)
    made = write_down(lab, "try", tree, files, hypothesis, words, left_out=left_out)
    lab.told += relatives(hypothesis, known, state, leave=(made.id, words.get("retry_of", "")))
    catch_up(lab)
    return state.get(made.id)


def write_down(
    lab: Lab, verb: str, tree: str, files: list[str], hypothesis: str, words: Mapping[str, str],
    **more: object,
) -> Experiment:  # fmt: skip
    """Make `tree` a candidate commit on the incumbent and put it into the journal; `verb` names its steps."""
    state, workspace = lab.state, lab.workspace
    number, parent = state.next_number(), state.incumbent_commit
    identity, at = f"e{number:03d}", now()
    step(f"{verb}.objects")
    commit = workspace.commit_tree(tree, parent, commit_message(identity, hypothesis, words), at)
    step(f"{verb}.committed")
    # Before the journal names it: a `git gc --prune=now` of the user's must not find it without a ref.
    workspace.ensure_ref(lab.ref(number), commit)
    added, removed = workspace.numstat(parent, commit)
    lab.journal.append(
        "proposed",
        experiment=identity,
        commit=commit,
        tree=tree,
        parent=parent,
        hypothesis=hypothesis,
        files=files,
        added=added,
        removed=removed,
        constants=new_constants(workspace.diff(parent, commit)),
        touches=admit.touched(lab, parent, commit, files),
        **more,
        **words,
    )
    return state.get(identity)


def _require_open(state: State) -> None:
    if state.finished:
        raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
    if state.stopped:
        raise LabError(f"the campaign is stopped: {state.stopped}", "`resume` goes on")


def _require_ready(lab: Lab) -> None:
    state = lab.state
    _require_open(state)
    if state.incumbent is None and not handover.asked_for(lab):
        doing = "is not measured yet: `wait` for it" if state.baseline else "has not been run: `baseline`"
        if state.baseline and state.baseline.verdict == "crash":
            doing = "crashed: mend what `show e000` names, then `baseline`"
        raise LabError(f"the baseline {doing}", "nothing can be compared before it")
    spent = lab.budget_spent()
    if spent:
        raise LabError(
            f"the budget is spent: {spent}", "`finish` the campaign, or raise it in the yaml", REFUSED
        )


def _change_in_scope(lab: Lab, leave_out: bool) -> tuple[list[str], list[str]]:
    """Return the changed files of `edit:`, and those left out; refuse what a candidate must not contain."""
    state, settings, workspace = lab.state, lab.settings, lab.workspace
    changes = workspace.changes(state.incumbent_commit, settings.edit, settings.protect, settings.ideas_inbox)
    outside = {path: workspace.fingerprint(path) for path in (*changes.protected, *changes.outside)}
    telling = [p for p in outside if p in changes.protected or Path(p).suffix in CODE]
    risky = {path: outside[path] for path in telling if state.accepted.get(path) != outside[path]}
    if risky and leave_out:
        lab.journal.append("accepted", files=risky)
    elif risky:
        what = "protected" if set(risky) <= set(changes.protected) else "outside `edit:`"
        raise LabError(
            f"{', '.join(sorted(risky))} changed, which is {what} ({', '.join(settings.edit)} may change)",
            "take the change back if you made it; if it is the user's own work, repeat with --leave-out: "
            "the run then uses the incumbent's version and the file stays as it is",
            REFUSED,
        )
    elif not changes.inside and changes.outside:
        raise LabError(
            f"only {', '.join(changes.outside)} changed, which is outside `edit:`",
            f"a candidate changes {', '.join(settings.edit)}",
            REFUSED,
        )
    return list(changes.inside), sorted(telling)


def _refuse_repeat(state: State, tree: str, args: str, again: bool) -> None:
    if again:
        return
    incumbent = state.incumbent or state.get(BASELINE)
    wanted = (tree, arguments(args))
    if wanted == (incumbent.tree, arguments(incumbent.args)):
        raise LabError(
            f"nothing to try: the working tree is the incumbent ({incumbent.id})",
            "edit a file of `edit:` first, or pass --args",
        )
    for old in state.experiments.values():
        if old.tree == tree and wanted == (old.tree, arguments(old.args)):
            outcome = f"{old.verdict}: {old.reason}" if old.verdict else "no verdict yet"
            raise LabError(
                f"{old.id} tried exactly this ({outcome})", "change something, or --again to measure it anew"
            )


def commit_message(identity: str, hypothesis: str, words: Mapping[str, str]) -> str:
    title = one_line(views.flat(hypothesis), 200) or identity
    parts = [
        f"{name.capitalize()}: {one_line(views.flat(text), 500)}" for name, text in words.items() if text
    ]
    return "\n".join([title, "", *parts, f"Experiment: {identity}", ""])
