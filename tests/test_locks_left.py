from __future__ import annotations

import json
from pathlib import Path

from world import a_project


def test_locks_that_killed_processes_left_stop_nobody(tmp_path: Path) -> None:
    """Git's locks on refs of ours, our index's, and the files of a holder that is dead."""
    world = a_project(tmp_path / "p")
    world.begin()
    common, home = world.root / ".git", world.root / ".autoresearch"
    left = [
        common / "refs/autoresearch/t1/1.lock",
        common / "refs/heads/autoresearch/t1.lock",
        common / "refs/notes/autoresearch.lock",
        home / "index.lock",
        home / "worktrees/e001.1.index.lock",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("agent", "state"):
        (home / f"{name}.lock").touch()
        holder = {"pid": 2**22 + 1, "verb": "try", "since": "2026-01-01T00:00:00+00:00"}
        (home / f"{name}.json").write_text(json.dumps(holder))
    world.edit("LR = 1.00", "LR = 0.50")
    assert world.ok("try", "better")["verdict"] == "keep"
    assert world.git("rev-parse", "autoresearch/t1") == world.ok("show", "e001")["commit"]
    assert not [path for path in left if path.exists()]
    print(f"FIGURE P12 stale_locks={len(left) + 4} in_the_way=0")
