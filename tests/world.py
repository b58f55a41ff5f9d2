"""Small projects with real git for the tests, and the command line run as a user's shell would."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRY = REPOSITORY / "skills" / "autoresearch" / "scripts" / "autoresearch.py"

# A training script that prints at once: the metric is a constant, noise comes from the seed when asked for.
TRAIN = """import os, random
LR = 1.00
NOISE = 0.0
seed = int(os.environ.get("SEED", "0"))
print("step 1 loss 3.2", flush=True)
value = LR + random.Random(seed).gauss(0, 1) * NOISE
print("---")
print(f"val_bpb:          {value:.6f}")
print("peak_vram_mb:     1024.0")
"""
PREPARE = '"""The fixed half."""\nTIME_BUDGET = 5\n'


@dataclass
class Answer:
    """What a call of the command line gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@dataclass
class Project:
    """A git repository with a training script, as a user has it."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def git(self, *args: str) -> str:
        command = ["git", "-C", str(self.root), *args]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **self.env}, check=True)
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def commit(self, message: str = "work") -> str:
        self.git("add", ".")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def edit(self, old: str, new: str, name: str = "train.py") -> None:
        text = self.read(name)
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(ENTRY), *args],
            cwd=self.root,
            env={**os.environ, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *args: str, env: dict[str, str] | None = None, timeout: float = 600) -> Answer:
        with self.start(*args, env=env) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Answer(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def ok(self, *args: str, env: dict[str, str] | None = None) -> dict:
        """Run a verb with --json, expect exit code 0, return the object."""
        answer = self.run("--json", *args, env=env)
        assert answer.code == 0, f"{args}: {answer.code}\n{answer.out}\n{answer.err}"
        return answer.json

    def refused(self, code: int, *args: str) -> dict:
        """Run a verb with --json, expect the exit code, return the error object."""
        answer = self.run("--json", *args)
        assert answer.code == code, f"{args}: {answer.code}\n{answer.out}\n{answer.err}"
        error = answer.json
        assert error["ok"] is False and error["code"] == code and error["message"] and error["fix"]
        return error

    def records(self) -> list[dict]:
        whole = self.read(".autoresearch/journal.jsonl").rpartition("\n")[0]  # a line may just be written
        return [json.loads(line) for line in whole.splitlines()]

    def results(self) -> list[list[str]]:
        return [line.split("\t") for line in self.read("results.tsv").splitlines()[1:]]

    def begin(self, *flags: str, repeats: int = 1) -> None:
        """`init` and `baseline`, so that a test starts at its first candidate."""
        self.ok("init", "--tag", "t1", *flags)
        self.ok("baseline", "--repeats", str(repeats))


def a_project(folder: Path, files: dict[str, str] | None = None) -> Project:
    """A repository with train.py and prepare.py (or `files`), committed on main."""
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder, {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull})
    for key in ("AUTHOR", "COMMITTER"):
        project.env[f"GIT_{key}_NAME"] = "a user"
        project.env[f"GIT_{key}_EMAIL"] = "user@localhost"
    project.git("init", "-q", "-b", "main")
    for name, text in (files or {"train.py": TRAIN, "prepare.py": PREPARE, "README.md": "hello\n"}).items():
        project.write(name, text)
    project.commit("start")
    return project


def wait_until(true: Callable[[], object], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def carrying(folder: Path, variable: str = "AUTORESEARCH_DIE_AT") -> list[int]:
    """Processes at work in `folder` with this variable, as a mover has it that is about to begin or to leave.

    After a `resume`, one that is to die would hand that wish on to all it starts.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = any(str(folder) in word for word in process.cmdline())
            if here and variable in process.environ():
                found.append(process.pid)
    return found
