"""Getting the command line to start on a bare `python3`: find its packages, or move to where they are.

Standard library only, and syntax old enough to say something useful on any Python 3. In this order: packages
importable: go on; a private environment made earlier; `uv`; a private environment made now with pip from the
versions in the entry file's header; else one line that names the command to type.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

MODULES = ("click", "yaml", "git", "psutil", "jinja2")
OLDEST = (3, 10)
MARK = "AUTORESEARCH_BOOTSTRAPPED"
# What a helper environment changes and a training run must not see.
RESTORE = ("PATH", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")


def pins(entry: Path) -> list[str]:
    """The pinned packages of the PEP 723 header, the only place where they stand."""
    import re

    header = entry.read_text(encoding="utf-8").split("# ///")[1]
    return re.findall(r'"([A-Za-z0-9_.-]+==[^"]+)"', header)


def start(entry: Path, argv: list[str]) -> None:
    """Return when this Python can run the command line; otherwise replace the process by one that can."""
    hook = argv[:1] == ["hook"] and not any(word.startswith("-") for word in argv)
    if hook and not _campaign_near():
        raise SystemExit(0)  # every tool call of every session comes by here: 0.03 s instead of 0.15 s
    _let_installed_packages_win()
    if sys.version_info >= OLDEST and all(importlib.util.find_spec(name) for name in MODULES):
        return
    import hashlib  # these only on the way to another Python: a start that needs none saves 0.02 s
    import json

    wanted = pins(entry)
    if os.environ.get(MARK):
        raise SystemExit(_one_line("its environment is damaged", wanted))
    os.environ[MARK] = "1"
    os.environ["AUTORESEARCH_CALLER"] = json.dumps(_callers_own())
    private = _cache() / (
        "env-" + hashlib.sha256(repr((wanted, sys.version_info[:2])).encode()).hexdigest()[:16]
    )
    python = _python(private)
    if not ((private / "ready").exists() and python.exists()):
        if hook and sys.version_info >= OLDEST and not _uv_mark(private).exists():
            raise SystemExit(0)  # a session does not wait for an installation; the next verb makes it
        if not _uv(entry, argv, private):
            _make(private, wanted)
    os.execv(python, [str(python), str(entry), *argv])


def _campaign_near() -> bool:
    """Whether a campaign lies in this folder, in the host's project or above."""
    names = ("CLAUDE_PROJECT_DIR", "CURSOR_PROJECT_DIR", "COPILOT_PROJECT_DIR")
    places = [Path.cwd(), *(Path(os.environ[name]) for name in names if os.environ.get(name))]
    return any((up / ".autoresearch/journal.jsonl").exists() for at in places for up in (at, *at.parents))


def _let_installed_packages_win() -> None:
    """Put the folders of PYTHONPATH last: a `git.py` or `click.py` of the project there is not ours."""
    theirs = {Path(path).resolve() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path[1:] = sorted(sys.path[1:], key=lambda path: Path(path).resolve() in theirs)


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _callers_own() -> dict[str, str | None]:
    """The variables of the caller that a training run gets back; None for one that was not set."""
    names = {*RESTORE, *(name for name in os.environ if name.startswith("UV_"))}
    return {name: os.environ.get(name) for name in sorted(names)}


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoresearch"


def _uv_mark(private: Path) -> Path:
    """The file that says that uv has the packages."""
    return private.with_name(private.name + ".uv")


def _uv(entry: Path, argv: list[str], private: Path) -> bool:
    """Become `uv run --script` when uv is there and can get the packages; False otherwise."""
    import shutil
    import subprocess

    uv = shutil.which("uv")
    if not uv:
        return False
    command = [uv, "run", "--quiet", "--no-project", "--script", str(entry)]
    known = _uv_mark(private)
    if not known.exists():
        probe = subprocess.run([*command, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if probe.returncode:
            return False
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()
    return _become(uv, [*command, *argv])


def _become(program: str, argv: list[str]) -> NoReturn:
    os.execv(program, argv)


def _make(private: Path, wanted: list[str]) -> None:
    """Make the private environment beside its place and move it there whole: a crash leaves no half one."""
    import shutil
    import subprocess

    if sys.version_info < OLDEST:
        _hand_over()
    print(f"autoresearch: making its environment in {private}, once", file=sys.stderr)
    building = private.with_name(f"{private.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(building)], check=True, capture_output=True)
        pip = [str(_python(building)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True, capture_output=True)
        (building / "ready").touch()
        _move(building, private)
    except OSError as error:
        raise SystemExit(_one_line(str(error), wanted)) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or b"").decode("utf-8", "replace").strip().splitlines()
        raise SystemExit(_one_line(said[-1][:200] if said else "no message", wanted)) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _hand_over() -> NoReturn:
    """Become a Python that is new enough, or say that none is here."""
    import shutil
    import subprocess

    for minor in range(14, 9, -1):
        newer = shutil.which(f"python3.{minor}")
        # The shims of pyenv are there for every version and fail for those that are not chosen.
        if newer and not subprocess.run([newer, "-c", ""], capture_output=True).returncode:
            os.environ.pop(MARK)
            os.execv(newer, [newer, *sys.argv])
    seen = ".".join(map(str, sys.version_info[:2]))
    raise SystemExit(f"autoresearch needs Python 3.10 or newer, this is {seen}: install one, or install uv")


def _move(building: Path, private: Path) -> None:
    """Put the new environment in its place, unless another process was quicker."""
    import shutil

    for _ in range(2):
        try:
            building.rename(private)
            return
        except OSError:  # something stands there: another process's, to be left alone, or one that is broken
            if (private / "ready").exists() and _python(private).exists():
                return
        shutil.rmtree(private, ignore_errors=True)  # its Python was uninstalled
    building.rename(private)


def _one_line(problem: str, wanted: list[str]) -> str:
    command = f"{sys.executable} -m pip install {' '.join(wanted)}"
    return f"autoresearch cannot start ({problem}); type: {command}"
