"""Starting a helper that outlives the caller: a session of its own, its words in a log that stays small."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path

ENTRY = Path(__file__).resolve().parents[1] / "autoresearch.py"
LOG_BYTES = 100_000  # from here on the log begins anew


def start(root: Path, verb: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run `verb` for the project `root`; None for `env` hands the caller's environment on. Raises OSError."""
    import subprocess  # who starts nothing is spared it

    fresh = not log.exists() or log.stat().st_size > LOG_BYTES
    with log.open("wb" if fresh else "ab") as file:
        process = subprocess.Popen(
            [sys.executable, str(ENTRY), "-C", str(root), *verb],
            cwd="/",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    # A caller that lives for hours (`drive`, `watch`) must not collect dead children.
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()
