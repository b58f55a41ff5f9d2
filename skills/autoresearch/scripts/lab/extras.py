"""Packages that only some campaigns need, pinned by their caller, in an environment of their own.

They are not among the helper's packages, which they would more than double, and cannot disturb them.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def python_with(modules: Sequence[str], pins: Sequence[str]) -> str | None:
    """The Python that can import `modules`: ours, or that of the environment which `command` makes."""
    if all(importlib.util.find_spec(module) for module in modules):
        return sys.executable
    python = _folder(pins) / "bin" / "python"
    return str(python) if python.exists() else None


def command(pins: Sequence[str]) -> str:
    """The line that makes the packages available."""
    folder, names = shlex.quote(str(_folder(pins))), " ".join(pins)
    if shutil.which("uv"):
        return f"uv venv {folder} && uv pip install --python {folder}/bin/python {names}"
    return f"{shlex.quote(sys.executable)} -m venv {folder} && {folder}/bin/python -m pip install {names}"


def _folder(pins: Sequence[str]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "autoresearch" / pins[0].replace("==", "-")
