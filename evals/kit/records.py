"""Where `build` keeps what it noted about a folder: outside that folder, where no agent looks."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kit.facts import digest

NOTED = "noted.json"


def place_of(folder: Path) -> Path:
    """The folder with the notes about `folder`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "autoresearch-evals" / digest(os.fsencode(folder.resolve()))


def noted(folder: Path) -> dict[str, object]:
    """What `build` wrote down about `folder`."""
    try:
        found = json.loads((place_of(folder) / NOTED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} was not built here: run_evals.py build CASE DIR") from None
    assert isinstance(found, dict)
    return found


def started(pid: int) -> float | None:
    """When the process began, in clock ticks since boot; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else float(fields[19])
