"""The watched folder: what is dropped there is taken in at the next call, each file once.

A file that was changed in the last seconds is left alone. What could not be taken is remembered with its size
and time, so that it is told once and looked at again only when it changed: a copy cut short that is finished
later is taken then. Files are never moved or removed: they are the person's.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.errors import LabError
from lab.redact import one_line

QUIET_SECONDS = 2.0
LOOKED_AT = 200  # entries of the folder
LOGS = (".log", ".txt")


def folder(lab: Lab) -> Path | None:
    """The folder that autoresearch.yaml names."""
    name = lab.settings.inbox
    return lab.root / os.path.expanduser(name) if name else None  # noqa: PTH111 - Path's raises without a home


def take(lab: Lab) -> None:
    """Take in what is new in the watched folder; a fault there is told and stops nothing."""
    place = folder(lab)
    if place is None or not place.is_dir():
        return
    known = before = seen(lab)
    for path in sorted(place.iterdir())[:LOOKED_AT]:
        key = _key(path)
        if key and key not in known:
            known = {**known, key: _taken(lab, path)}
            lab.told.append(f"inbox: {path.name}: {known[key]}")
    if known != before:
        write_atomic(_record(lab), json.dumps(known, indent=1), name="inbox.record")


def _taken(lab: Lab, path: Path) -> str:
    from lab.handing import receiving  # only a file that was dropped pays for it

    try:
        receipt = receiving.receive(lab, path, None, {})
    except (LabError, OSError) as error:
        return f"refused: {one_line(str(error), 300)}"
    words = [
        f"{row['run']} {row['outcome']}" + (f" ({row['text']})" if row["text"] else "")
        for row in receipt.rows
    ]
    return one_line("; ".join(words), 400)


def _key(path: Path) -> str:
    """Name, size and time of something that may be a result and is not being written; "" for the rest."""
    from lab.handing.parcel import ARCHIVES

    usable = path.name.endswith((*ARCHIVES, *LOGS)) if path.is_file() else path.name.startswith("result-")
    if path.name.startswith(".") or path.is_symlink() or not usable:
        return ""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    stats = [file.stat() for file in files]
    newest = max((s.st_mtime for s in stats), default=0.0)
    if not stats or time.time() - newest < QUIET_SECONDS:
        return ""
    return f"{path.name} {sum(s.st_size for s in stats)} {max(s.st_mtime_ns for s in stats)}"


def seen(lab: Lab) -> dict[str, str]:
    """What was looked at, and what became of it."""
    try:
        found = json.loads(_record(lab).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _record(lab: Lab) -> Path:
    return lab.home / "requests" / "inbox.json"
