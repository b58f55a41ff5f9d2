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
    for path in files:
        place = lab.workspace.top / path
        data = place.read_bytes() if place.is_file() and not place.is_symlink() else b""
        # What the user committed before is no news; git is asked about it only where something was found.
        trouble = keys.unfit(path, data, None)
        if trouble and (trouble := keys.unfit(path, data, _contents(lab, [(parent, path)])[0])):
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
    found = _contents(lab, [(at, path) for at in (parent, commit) for path in files])
    texts = [None if data is None else data.decode("utf-8", "replace") for data in found]
    before, after = (
        {path: text for path, text in zip(files, half, strict=True) if text is not None}
        for half in (texts[: len(files)], texts[len(files) :])
    )
    return [one_line(str(fact), 200) for fact in lint(before, after, about)]


def _contents(lab: Lab, asked: list[tuple[str, str]]) -> list[bytes | None]:
    """The file of each (commit, path), None where there is none, from one git process."""
    names = [f"{commit}:{path}\n" for commit, path in asked]
    # A name with a line end in it cannot be asked for.
    names = [name if name.count("\n") == 1 else "missing\n" for name in names]
    out = lab.workspace.run("cat-file", "--batch", stdin="".join(names).encode("utf-8", "surrogateescape"))
    found: list[bytes | None] = []
    place = 0
    for _ in names:
        end = out.index(b"\n", place)
        words = out[place:end].split()
        place = end + 1
        if words[-1] == b"missing":
            found.append(None)
            continue
        size = int(words[-1])
        found.append(out[place : place + size] if words[-2] == b"blob" else None)
        place += size + 1
    return found
