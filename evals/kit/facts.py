"""What a repository looks like: read once after building and once after the agent, and compared."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from kit.git import git, lines

CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
HOME = ".autoresearch"


@dataclass(frozen=True)
class Snapshot:
    """A repository at one moment; contents as hashes."""

    head_name: str | None
    head: str
    refs: dict[str, str]
    index: list[str]
    config: str
    hooks: dict[str, str]
    files: dict[str, str]  # of the working tree, without git's and the tool's own folder
    journal: str  # hash of the journal's bytes, "" when there is none
    journal_bytes: int


def digest(data: bytes) -> str:
    """A short hash of some bytes."""
    return hashlib.sha256(data).hexdigest()[:24]


def snapshot(folder: Path) -> Snapshot:
    """Read `folder` without changing it."""
    dot_git = folder / git(folder, "rev-parse", "--git-common-dir")
    journal = folder / HOME / "journal.jsonl"
    kept = journal.read_bytes() if journal.exists() else b""
    return Snapshot(
        head_name=git(folder, "symbolic-ref", "-q", "HEAD", ok=(0, 1)) or None,
        head=git(folder, "rev-parse", "HEAD"),
        refs=refs(folder),
        index=lines(folder, "ls-files", "-s"),
        config=digest((dot_git / "config").read_bytes()),
        hooks={path.name: digest(path.read_bytes()) for path in sorted((dot_git / "hooks").glob("*"))},
        files=files(folder),
        journal=digest(kept) if kept else "",
        journal_bytes=len(kept),
    )


def refs(folder: Path) -> dict[str, str]:
    """Every ref with the object it names."""
    pairs = (line.split(" ") for line in lines(folder, "for-each-ref", "--format=%(refname) %(objectname)"))
    return {name: commit for name, commit in pairs}


def files(folder: Path) -> dict[str, str]:
    """Every file of the working tree with a hash of its content and its executable bit."""
    found = {}
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in {".git", HOME, *CACHES})
        for name in names:
            path = Path(here) / name
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            mark = "x" if not path.is_symlink() and path.stat().st_mode & 0o100 else "-"
            found[path.relative_to(folder).as_posix()] = f"{mark}{digest(content)}"
    return dict(sorted(found.items()))


def commits_since(folder: Path, before: Snapshot) -> list[str]:
    """Every commit that any ref or reflog of `folder` reaches and that was not there before."""
    known = [f"^{commit}" for name, commit in before.refs.items() if not name.startswith("refs/notes/")]
    now = lines(folder, "rev-list", "--all", "--reflog", f"^{before.head}", *known)
    named = [name for name in refs(folder) if name.startswith("refs/notes/")]
    notes = set(lines(folder, "rev-list", *named, "--")) if named else set()
    return [commit for commit in now if commit not in notes]


def blob(folder: Path, commit: str, path: str) -> str:
    """The object id of a file in a commit, or "" when it is not there."""
    return git(folder, "rev-parse", "-q", "--verify", f"{commit}:{path}", ok=(0, 1, 128))
