"""Which of the stacked keeps still carries weight: each taken out of the incumbent alone, beside it.

A variant is the incumbent with one keep's change taken back by a three-way merge. What conflicts with later
keeps cannot be taken out alone and is told so.
"""

from __future__ import annotations

import shlex
import shutil

from lab import studies
from lab.campaign import Lab
from lab.errors import LabError
from lab.likeness import arguments
from lab.model import BASELINE, Experiment, State, Study
from lab.redact import one_line
from lab.studies import Arm
from lab.takeout import taken_out

WHOLE = "all keeps"
CONFLICT = "cannot be taken out alone: what was kept after it stands on its lines"


def propose(lab: Lab, names: tuple[str, ...], pairs: int | None, runs: int | None) -> Study:
    """The study to wait for: one under way, one that is done, or a new one in the journal."""
    incumbent = studies.require_ready(lab)
    if lab.state.studying:
        going = studies.known(lab, "ablate", [], pairs)
        assert going
        return going
    arms = [_arm(WHOLE, incumbent), *(_without(lab, incumbent, keep) for keep in _asked(lab.state, names))]
    return studies.known(lab, "ablate", arms, pairs) or studies.begin(lab, "ablate", arms, pairs, runs)


def keeps(state: State) -> list[Experiment]:
    """The kept changes that the incumbent stands on, in order."""
    return [e for e in state.experiments.values() if e.verdict == "keep" and e.id != BASELINE]


def _asked(state: State, names: tuple[str, ...]) -> list[Experiment]:
    known = keeps(state)
    if not known:
        raise LabError("nothing was kept yet, so nothing can be taken out", "`try` goes on")
    wanted = list(dict.fromkeys(state.get(name).id for name in names)) or [e.id for e in known]
    strange = [name for name in wanted if name not in {e.id for e in known}]
    if strange:
        kept = ", ".join(e.id for e in known)
        raise LabError(f"{', '.join(strange)} was not kept", f"kept: {kept}")
    return [e for e in known if e.id in wanted]


def _arm(name: str, incumbent: Experiment) -> Arm:
    """The incumbent as it is: what the others are compared with."""
    return {
        "name": name, "of": incumbent.id, "commit": incumbent.commit, "args": incumbent.args,
        "against": "", "without": False, "words": "as it stands", "trouble": "",
    }  # fmt: skip


def _without(lab: Lab, incumbent: Experiment, keep: Experiment) -> Arm:
    """The incumbent without one keep."""
    arm = {
        **_arm(f"without {keep.id}", incumbent),
        "of": keep.id,
        "against": WHOLE,
        "without": True,
        "words": one_line(keep.hypothesis, 200),
        "gain": keep.shrunken if keep.shrunken is not None else keep.gain,
        "price": keep.price,
        "shorter": keep.removed > keep.added,
    }
    args = args_without(incumbent.args, _args_before(lab.state, keep), keep.args)
    tree = _tree_without(lab, incumbent, keep)
    if args is None or tree is None:
        return {**arm, "trouble": CONFLICT}
    if tree == incumbent.tree and arguments(args) == arguments(incumbent.args):
        return {**arm, "trouble": "nothing of it is left in the incumbent"}
    return {**arm, "args": args, "commit": variant_commit(lab, incumbent, tree)}


def _tree_without(lab: Lab, incumbent: Experiment, keep: Experiment) -> str | None:
    """The incumbent's tree with the keep's change taken back; None when later keeps touch its lines."""
    workspace = lab.workspace
    scratch = lab.home / "conflicts" / "taken-out"
    merged = workspace.rebase(keep.commit, keep.parent, incumbent.commit, scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    if merged is not None:
        return merged
    contents = {}
    for path in keep.files:
        texts = [_text(lab, commit, path) for commit in (incumbent.commit, keep.parent, keep.commit)]
        if None in texts:
            return None
        now, before, after = ((text or "").splitlines(keepends=True) for text in texts)
        lines = taken_out(now, before, after)
        if lines is None:
            return None
        contents[path] = "".join(lines).encode("utf-8", "surrogateescape")
    return workspace.tree_with(incumbent.commit, contents) if contents else None


def _text(lab: Lab, commit: str, path: str) -> str | None:
    """A file of a commit as text; None when it is not there or no text."""
    blob = lab.workspace.blob_of(commit, path)
    data = lab.workspace.content(blob) if blob else None
    return None if data is None or b"\0" in data else data.decode("utf-8", "surrogateescape")


def variant_commit(lab: Lab, incumbent: Experiment, tree: str) -> str:
    """A commit of a variant; the same code always has the same one."""
    if tree == incumbent.tree:
        return incumbent.commit
    message = f"A variant of {incumbent.id}, measured beside the loop\n"
    return lab.workspace.commit_tree(tree, incumbent.commit, message, incumbent.verdict_at)


def _args_before(state: State, keep: Experiment) -> str:
    """The arguments of what the keep was made on."""
    before = next((e for e in state.experiments.values() if e.commit == keep.parent), None)
    return before.args if before else ""


def args_without(now: str, before: str, after: str) -> str | None:
    """The arguments `now` with the change before→after taken back; None where it was changed again since."""
    found, old, new = (_named(line) for line in (now, before, after))
    if found is None or old is None or new is None:
        return now if before == after else before if now == after else None
    for name in {*old, *new}:
        if old.get(name) == new.get(name):
            continue
        if found.get(name) != new.get(name):
            return None
        found.pop(name, None)
        if name in old:
            found[name] = old[name]
    return _joined(found)


def _named(line: str) -> dict[str, tuple[str, ...]] | None:
    """Option -> its values; None where order may matter."""
    groups = arguments(line)
    if any(not group or not group[0].startswith("-") for group in groups):
        return None
    named = {group[0]: group[1:] for group in groups}
    return named if len(named) == len(groups) else None


def _joined(named: dict[str, tuple[str, ...]]) -> str:
    return shlex.join([word for name, values in named.items() for word in (name, *values)])
