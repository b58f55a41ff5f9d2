"""Starts one agent session and outlives the driver: `python -I keeper.py FOLDER [pane]`.

With `pane` it is what runs in a pane of tmux; without, it becomes nobody's child.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    PANE = "pane" in sys.argv[2:]
    if not PANE and os.fork():  # before anything of ours is imported: the driver waits for this
        os._exit(0)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from lab.driving.session import keep

    keep(Path(sys.argv[1]), PANE)
