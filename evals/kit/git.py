"""Git as the evaluations use it: quiet, with a plain identity, without anybody's settings or hooks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

WHO = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
       for key, value in (("NAME", "user"), ("EMAIL", "user@localhost"))}  # fmt: skip
PLAIN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", **WHO}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's variables without those that would point git elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "AUTORESEARCH_"))}
    return {**kept, **PLAIN, **(extra or {})}


def git(folder: Path, *args: str, ok: tuple[int, ...] = (0,), env: Mapping[str, str] | None = None) -> str:
    """Run git in `folder` and give its output; "" for an exit code of `ok` that is not 0."""
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "core.quotePath=false", "-c", "core.hooksPath=/dev/null", *args],
        capture_output=True, env=environment(env), check=False,
    )  # fmt: skip
    if done.returncode not in ok:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
        raise RuntimeError(f"git {' '.join(args)} in {folder}: exit {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n") if done.returncode == 0 else ""


def lines(folder: Path, *args: str, ok: tuple[int, ...] = (0,)) -> list[str]:
    """The lines of git's output."""
    return git(folder, *args, ok=ok).splitlines()
