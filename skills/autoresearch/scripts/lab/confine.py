"""Shuts one more process in, for an evaluation: `python -I confine.py --hide PATH... -- COMMAND...`.

An evaluation that runs a candidate's code in a process of its own starts it through this: no network,
nothing to write, no memory shared with others, and none of the hidden files. By Landlock alone, which can be
put up inside any other sandbox. Exit status 97: there is none here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NO_SANDBOX = 97


def main(words: list[str]) -> None:
    """Become the command, shut in."""
    from lab.sandbox.box import put_up
    from lab.sandbox.policy import Policy

    cut = words.index("--")
    hidden = [path for word, path in zip(words[:cut], words[1:cut], strict=False) if word == "--hide"]
    box = put_up(Policy(write=(), hidden=tuple(hidden), alone=True, kind="landlock"))
    if box.enter is None:
        print(f"no sandbox for the model's process: {box.facts['kind']}", file=sys.stderr)
        raise SystemExit(NO_SANDBOX)
    box.enter()
    os.execvp(words[cut + 1], words[cut + 1 :])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
