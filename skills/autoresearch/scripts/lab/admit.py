"""What a candidate must not contain, and what its diff touches: asked before and after its commit is made."""

from __future__ import annotations

from lab import keys
from lab.campaign import Lab
from lab.errors import REFUSED, LabError
from lab.lint import About, lint, module_of, shadowing
from lab.redact import one_line


def refuse_unfit(lab: Lab, parent: str, files: list[str]) -> None:
    """Before anything is stored: what would stand in for a protected file, and what git must never hold."""
    inside = [path.removeprefix(lab.workspace.prefix) for path in files]
    stand_ins = shadowing(inside, lab.settings.protect)
    if stand_ins:
        raise LabError(
            f"{', '.join(stand_ins)} would be imported in place of a protected file",
            "give it another name",
            REFUSED,
        )
    before = _contents(lab, parent, files)
    for path in files:
        place = lab.workspace.top / path
        data = place.read_bytes() if place.is_file() and not place.is_symlink() else b""
        trouble = keys.unfit(path, data, before.get(path))
        if trouble:
            raise LabError(
                f"{trouble}; git would keep it for good",
                "take it out: read a secret from the environment, keep large files outside `edit:`",
                REFUSED,
            )


def touched(lab: Lab, parent: str, commit: str, files: list[str]) -> list[str]:
    """What the diff touches that decides what its number means, each with file and line."""
    settings = lab.settings
    guarded = frozenset(filter(None, (module_of(path) for path in settings.protect)))
    about = About(settings.metric, settings.seed_env, guarded)
    before, after = (
        {path: data.decode("utf-8", "replace") for path, data in _contents(lab, at, files).items()}
        for at in (parent, commit)
    )
    return [one_line(str(fact), 200) for fact in lint(before, after, about)]


def _contents(lab: Lab, commit: str, files: list[str]) -> dict[str, bytes]:
    """The files that a commit has, from one git process; a name with a line end in it cannot be asked for."""
    names = [path for path in files if "\n" not in path]
    asked = "".join(f"{commit}:{path}\n" for path in names).encode("utf-8", "surrogateescape")
    out = lab.workspace.run("cat-file", "--batch", stdin=asked) if names else b""
    found, place = {}, 0
    for path in names:
        end = out.index(b"\n", place)
        words = out[place:end].split()
        place = end + 1
        if words[-1] != b"missing" and words[-2] == b"blob":
            found[path] = out[place : place + int(words[-1])]
            place += int(words[-1]) + 1
        elif words[-1] != b"missing":
            place += int(words[-1]) + 1  # a submodule or a folder
    return found
