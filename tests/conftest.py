"""What every test relies on: an empty home, a plain git identity, and no trace of the caller's settings."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from clusters import cluster, own_slurm, ray_cluster, slurm_cluster  # noqa: F401 - fixtures for every test
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# An example that falls into a slow moment of the machine has not failed. They are the same at each check, so
# that a failure comes again; `scripts/check --faults` looks at others.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("FAULTS_EVERY_POINT"),
)
settings.load_profile("patient")
ENTRY = ROOT / "skills" / "autoresearch" / "scripts" / "autoresearch.py"

# A test started from inside a git hook or a campaign would otherwise work on the caller's repository.
INHERITED = ("GIT_", "AUTORESEARCH_", "CLAUDE", "COPILOT", "CURSOR")


def pytest_configure() -> None:
    """Let programs of tests hear Ctrl-C: behind a shell's `&` it is ignored, and they inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def plain_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give git an identity and take away everything a developer's machine would add."""
    for name in list(os.environ):
        if name.startswith(INHERITED):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and give its output without the last newline."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.rstrip("\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make an empty git repository with one commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "README.md").write_text("# project\n")
    git(folder, "add", "README.md")
    git(folder, "commit", "-q", "-m", "start")
    return folder
