"""What each switch does: turned alone with the others as they are, and left as it is with the others turned.

Switches are options (`--use-x`, also with a value) and constants found in the edited files, which a variant
turns by a commit of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from lab import studies
from lab.ablation import variant_commit
from lab.campaign import Lab
from lab.errors import USAGE, LabError
from lab.likeness import arguments
from lab.model import Experiment, Study
from lab.studies import Arm
from lab.switches import CONSTANT, OPTION, Switch, switches, turned

MOST = 8  # switches at once: two arms each
PLAIN, EVERY = "default", "all turned"


@dataclass(frozen=True)
class Found:
    """A switch with the file that has it ("" for an option somebody named)."""

    path: str
    switch: Switch

    @property
    def name(self) -> str:
        return self.switch.name


def found(lab: Lab) -> list[Found]:
    """The switches in the incumbent's `edit:` files."""
    incumbent = lab.state.incumbent
    files = lab.workspace.files(incumbent.commit if incumbent else lab.state.base, lab.settings.edit)
    return [
        Found(path, switch)
        for path, blob in sorted(files.items())
        if path.endswith(".py") and blob.mode != "120000"
        for switch in switches(lab.workspace.content(blob).decode("utf-8", "replace"))
    ]


def propose(lab: Lab, names: Sequence[str], pairs: int | None, runs: int | None) -> Study:
    """The study to wait for: one under way, one that is done, or a new one in the journal."""
    incumbent = studies.require_ready(lab)
    if lab.state.studying:
        going = studies.known(lab, "isolate", [], pairs)
        assert going
        return going
    arms = _arms(lab, incumbent, _asked(lab, names))
    return studies.known(lab, "isolate", arms, pairs) or studies.begin(lab, "isolate", arms, pairs, runs)


def _asked(lab: Lab, names: Sequence[str]) -> list[Found]:
    """The switches that were named, or all there are."""
    there = {one.name: one for one in found(lab)}
    wanted = [there.get(name) or _named(name, list(there)) for name in names] or list(there.values())
    if not wanted:
        raise LabError(
            "no switch was found in the `edit:` files",
            "name an option (`isolate -- --use-x`), or put the change behind `USE_X = False`",
        )
    if len(wanted) > MOST:
        seen = ", ".join(one.name for one in wanted)
        raise LabError(f"{len(wanted)} switches are too many at once: {seen}", f"name at most {MOST}", USAGE)
    return wanted


def _named(name: str, known: list[str]) -> Found:
    """An option that the files do not show, taken as it was typed."""
    if not name.startswith("-"):
        seen = f"there are: {', '.join(known)}" if known else "there is none; options begin with --"
        raise LabError(f"there is no switch {name!r} in the `edit:` files", seen, USAGE)
    return Found("", Switch(name, OPTION, False, turned=name))


def _arms(lab: Lab, incumbent: Experiment, wanted: list[Found]) -> list[Arm]:
    """Default, each turned alone, all turned, and all but each; equal ones share their runs."""
    plans: list[tuple[str, str, str, bool, list[Found]]] = [(PLAIN, "", "", False, [])]
    plans += [(f"only {one.name}", one.name, PLAIN, False, [one]) for one in wanted]
    if len(wanted) > 1:
        plans.append((EVERY, "", "", False, wanted))
        plans += [
            (f"all but {one.name}", one.name, EVERY, True, [o for o in wanted if o != one]) for one in wanted
        ]
    return [_arm(lab, incumbent, *plan) for plan in plans]


def _arm(
    lab: Lab, incumbent: Experiment, name: str, of: str, against: str, without: bool, turn: list[Found]
) -> Arm:
    args = turned_args(incumbent.args, [one.switch for one in turn if one.switch.kind == OPTION])
    contents = {}
    for path in {one.path for one in turn if one.switch.kind == CONSTANT}:
        blob = lab.workspace.blob_of(incumbent.commit, path)
        assert blob
        source = lab.workspace.content(blob).decode()
        here = [one.switch for one in turn if one.path == path and one.switch.kind == CONSTANT]
        contents[path] = turned(source, here).encode()
    tree = lab.workspace.tree_with(incumbent.commit, contents) if contents else incumbent.tree
    words = {one.name: one.switch for one in turn}
    on = ", ".join(f"{n} {'off' if s.default else 'on'}" for n, s in words.items()) or "as it stands"
    return {
        "name": name, "of": of, "commit": variant_commit(lab, incumbent, tree),
        "args": args, "against": against, "without": without, "words": on, "trouble": "",
    }  # fmt: skip


def turned_args(line: str, options: Sequence[Switch]) -> str:
    """The argument line with each option the other way round: put in, or taken out where it stands."""
    words = list(shlex.split(line))
    there = {group[0] for group in arguments(line)}
    for option in options:
        own = shlex.split(option.turned)
        if own[0] in there:
            at = words.index(own[0])
            end = next((n for n in range(at + 1, len(words)) if words[n].startswith("-")), len(words))
            del words[at:end]
        else:
            words += own
    return shlex.join(words)
