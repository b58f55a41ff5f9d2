"""What the tool starts by itself: move."""

from __future__ import annotations

from lab.campaign import Lab
from verbs.shared import Context, verb


@verb()
def move(obj: Context) -> None:
    """Start what is queued whenever a run ends, until nothing is left to do (started by itself)"""
    from lab import loop

    lab = Lab.find(obj.folder)
    moved = loop.keep_moving(lab)
    obj.say(["nothing is left to move" if moved else "another process does it"], {"moved": moved})


move.hidden = True
