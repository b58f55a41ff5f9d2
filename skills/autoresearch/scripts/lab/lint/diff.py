"""Two versions of the edited files in, the facts that are new or gone out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from lab.lint import shapes
from lab.lint.touches import About, touches

MOST_FACTS = 12
WHAT_CHARACTERS = 120
# Kinds where it also matters that something is gone.
KEPT = frozenset({"seed", "time budget", "evaluation", "printed metric"})
MODULE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".so", ".pyx", ""})


@dataclass(frozen=True)
class Fact:
    """One thing the diff touches: where, what kind, what stands there."""

    path: str
    line: int
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.kind}: {self.what}"


def lint(before: Mapping[str, str], after: Mapping[str, str], about: About) -> list[Fact]:
    """What the new version of the files touches that the old one did not, or no longer does.

    Files map a path to its text; a file that is absent on one side was added or deleted.
    """
    facts = [*_new_files(set(after) - set(before), after, about)]
    for path in sorted({*before, *after}):
        if PurePosixPath(path).suffix == ".py":
            facts += _compare(path, before.get(path, ""), after.get(path, ""), about)
    return facts[:MOST_FACTS]


def _compare(path: str, old: str, new: str, about: About) -> list[Fact]:
    was, now = touches(old, about), touches(new, about)
    if not now and new.strip() and was:
        return []  # no Python any more: the run will say so
    known, seen = Counter((k, w) for k, w, _ in was), Counter((k, w) for k, w, _ in now)
    fresh, gone = seen - known, known - seen
    facts = []
    for kind, what, line in now:
        if fresh[kind, what] > 0:
            fresh[kind, what] -= 1
            facts.append(Fact(path, line, kind, _short(what)))
    changed = {fact.kind for fact in facts}
    for kind, what, line in was:
        if gone[kind, what] > 0 and kind in KEPT and kind not in changed:
            gone[kind, what] -= 1
            facts.append(Fact(path, line, kind, f"no longer there: {_short(what)}"))
    return facts


def _short(what: str) -> str:
    return what if len(what) <= WHAT_CHARACTERS else f"{what[: WHAT_CHARACTERS - 1]}…"


def _new_files(paths: Iterable[str], after: Mapping[str, str], about: About) -> list[Fact]:
    """New files that Python would import in place of another module."""
    imported = {name for text in after.values() for name in _modules(text)}
    facts = []
    for path in sorted(paths):
        name = module_of(path)
        if name in shapes.STARTUP or (
            name in (imported | set(sys.stdlib_module_names)) and name != "__init__"
        ):
            facts.append(Fact(path, 1, "shadowed module", f"it can stand in for the module {name}"))
    return facts


def _modules(text: str) -> set[str]:
    """Top-level modules that a text imports, by a look at its lines."""
    rows = (line.split() for line in text.splitlines() if line.lstrip().startswith(("import ", "from ")))
    return {row[1].split(".")[0].rstrip(",") for row in rows if len(row) > 1}


def module_of(path: str) -> str:
    """The module that Python would find at a path: `prepare` for prepare.py and prepare/__init__.py."""
    parts = PurePosixPath(path)
    if parts.suffix not in MODULE_SUFFIXES:
        return ""
    name = parts.name.split(".")[0]
    return parts.parent.name if name == "__init__" else name


def shadowing(paths: Iterable[str], protect: Iterable[str]) -> list[str]:
    """The files among `paths` that Python would import in place of a protected one beside them."""
    guarded = {_place(path): path for path in protect if PurePosixPath(path).suffix == ".py"}
    return [p for p in paths if module_of(p) and guarded.get(_place(p), p) != p]


def _place(path: str) -> tuple[PurePosixPath, str]:
    """The folder in which Python finds the module of a path, and the module."""
    parts = PurePosixPath(path)
    return (parts.parent.parent if parts.name.startswith("__init__.") else parts.parent), module_of(path)
