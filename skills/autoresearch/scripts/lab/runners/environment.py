"""The environment a run gets: the project's own, with every trace of ours taken out again."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

OURS = (
    "AUTORESEARCH_CALLER",
    "AUTORESEARCH_BOOTSTRAPPED",
    "AUTORESEARCH_DIE_AT",
    "AUTORESEARCH_STEPS",
    "AUTORESEARCH_RUN",
    "AUTORESEARCH_RUN_DIR",
    "AUTORESEARCH_AGENT",  # names the agent's session: what carries it ends with that, a run does not
    "__PYVENV_LAUNCHER__",  # macOS: would make the project's Python believe that it is ours
)
# A run works in an export, which is no repository: these would point its git at the user's.
GIT = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
UV_CACHE = re.compile(r"^environments-v\d+$")
VENV_FOLDERS = (".venv", "venv")


def project_environment(
    environ: Mapping[str, str], root: Path, caller: str | None, prefix: str = sys.prefix
) -> dict[str, str]:
    """Return the environment for the project's commands.

    `caller` is what the entry file noted before it started itself again in an environment of its own:
    JSON of the variables that this changes, null for one that was not set. `root` is the project;
    its own virtual environment is used unless another one is active.
    """
    environment = {name: value for name, value in environ.items() if name not in OURS + GIT}
    original = _parse(caller)
    if original is not None:
        environment = _restored(environment, original)
    elif "UV_RUN_RECURSION_DEPTH" in environ and any(UV_CACHE.match(part) for part in Path(prefix).parts):
        environment = _without_uv(environment, prefix)
    return _with_project_venv(environment, root)


def resolve_argv(argv: list[str], env: Mapping[str, str], root: Path) -> list[str]:
    """Return `argv` with its program made findable.

    `python` becomes `python3` where only that exists; `.venv/bin/python`, which an export of the
    commit does not have, becomes the project's.
    """
    if not argv:
        return argv
    program, path = argv[0], env.get("PATH")
    if program == "python" and not shutil.which("python", path=path) and shutil.which("python3", path=path):
        return ["python3", *argv[1:]]
    parts = Path(program).parts
    if len(parts) > 1 and parts[0] in VENV_FOLDERS and (root / program).exists():
        return [str(root / program), *argv[1:]]
    return argv


def _parse(caller: str | None) -> dict[str, str | None] | None:
    if not caller:
        return None
    try:
        data = json.loads(caller)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    return {str(name): value for name, value in data.items() if value is None or isinstance(value, str)}


def _restored(environment: dict[str, str], original: dict[str, str | None]) -> dict[str, str]:
    """Take out what starting our own environment may have set, then put back what was there."""
    ours = re.compile(r"^(VIRTUAL_ENV|UV|UV_.*)$")
    kept = {name: value for name, value in environment.items() if not ours.match(name)}
    for name, value in original.items():
        if name in OURS + GIT:
            continue
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value
    return kept


def _without_uv(environment: dict[str, str], prefix: str) -> dict[str, str]:
    """Undo what `uv run --script` sets; the user's own settings of uv (an index, a cache) stay."""
    theirs = {
        name: value
        for name, value in environment.items()
        if name not in ("UV", "UV_RUN_RECURSION_DEPTH", "VIRTUAL_ENV") and not name.startswith("UV_INTERNAL_")
    }
    own_bin = str(Path(prefix) / "bin")
    folders = environment.get("PATH", "").split(":")
    theirs["PATH"] = ":".join(folder for folder in folders if folder.rstrip("/") != own_bin)
    return theirs


def _with_project_venv(environment: dict[str, str], root: Path) -> dict[str, str]:
    """Activate the project's virtual environment as its `activate` script would."""
    active = environment.get("VIRTUAL_ENV")
    if active and (Path(active) / "bin" / "python").exists():
        return environment
    for name in VENV_FOLDERS:
        folder = root / name
        if (folder / "bin" / "python").exists():
            environment.pop("PYTHONHOME", None)
            path = environment.get("PATH", "")
            return environment | {
                "VIRTUAL_ENV": str(folder),
                "PATH": f"{folder / 'bin'}:{path}" if path else str(folder / "bin"),
                # `uv run` inside an export would otherwise make a new environment there for every run.
                "UV_PROJECT_ENVIRONMENT": environment.get("UV_PROJECT_ENVIRONMENT", str(folder)),
            }
    return environment
