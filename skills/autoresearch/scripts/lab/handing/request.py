"""A run request in facts and as the page that a person follows."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.redact import one_line

PYTHON = "@python"  # stands for the Python that the person names; the script puts it in


@dataclass(frozen=True)
class Planned:
    """One run of a request: its words are NAME=value settings, `--`, and the command."""

    id: str
    seed: int | None
    words: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """What the script must find when it hashes the words it is about to run."""
        return words_sha256(self.words)


@dataclass(frozen=True)
class Request:
    """What a person is asked to run, whole: nothing else has to be known to follow it."""

    id: str
    token: str
    campaign: str
    experiment: str
    commit: str
    hypothesis: str
    because: str
    expect: str
    metric: str  # with its direction, in words
    runs: tuple[Planned, ...]
    seconds: float  # one run's own budget
    kill_after: float
    inside: str = ""  # from the top of the code to the project's folder: "" or "sub/"
    share: tuple[str, ...] = ()  # git-ignored inputs that a run needs beside the code
    protected: dict[str, str] = field(default_factory=dict)  # path from the top -> sha256
    variables: tuple[str, ...] = ()  # names only: their values are the person's
    files: tuple[str, ...] = ()  # what the candidate changes
    code_sha256: str = ""


def words_sha256(words: Sequence[str]) -> str:
    """Hash of words, one a line: what `printf '%s\\n' WORDS | sha256sum` prints."""
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def minutes(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def shown(words: Sequence[str]) -> str:
    """Words as one would type them."""
    split = words.index("--")
    command = ["python" if word == PYTHON else word for word in words[split + 1 :]]
    return " ".join([*(_setting(word) for word in words[:split]), shlex.join(command)])


def _setting(word: str) -> str:
    name, value = word.split("=", 1)
    return f"{name}={shlex.quote(value)}"


def page(request: Request) -> str:
    """REQUEST.md."""
    count = len(request.runs)
    runs = f"{count} runs" if count > 1 else "1 run"
    lines = [
        f"# Run request {request.id}: {one_line(request.hypothesis, 120)}",
        "",
        f"Experiment {request.experiment} of campaign {request.campaign}, commit `{request.commit}`.",
        *([f"Why: {one_line(request.because, 400)}"] if request.because else []),
        *([f"Expected: {one_line(request.expect, 400)}"] if request.expect else []),
        f"Measured: {request.metric}.",
        "",
        "## What to do",
        "",
        f"1. Bring this folder (or `{request.id}.tar.gz`, unpacked) to the machine that trains.",
        f"2. There, in this folder: `bash run.sh{_flags(request)}`",
        f"3. Send back the one file it makes: `result-{request.id}.tar.gz`.",
        "",
        f"It makes {runs} of about {minutes(request.seconds)} each "
        f"({minutes(count * request.seconds)} together); a run is ended after {minutes(request.kill_after)}.",
        "Every call takes up where the last one ended; a run that is done is not made again.",
        "",
        "## What it needs",
        "",
        "- bash, tar and the project's program; no git, no network of its own.",
        "- The Python with the project's packages: `--python PATH`, else the active one.",
        *_needs(request),
        "",
        "## What it does",
        "",
        "It unpacks `code.tar.gz` (its hash is checked) below this folder, runs the command there, and keeps",
        "output, times, exit code, host, GPU, versions and hashes. It writes nowhere else.",
        "",
        *(f"- run `{run.id}`: `{shown(run.words)}`" for run in request.runs),
        "",
        *(
            [f"Changed by this experiment: {', '.join(request.files)}; see `change.patch`.", ""]
            if request.files
            else []
        ),
        "## If it fails",
        "",
        "Send the result file all the same: a failure is a result. Nothing has to be mended.",
        "Runs of one comparison belong on one kind of machine: another GPU is another measurement.",
        "",
    ]
    return "\n".join(lines)


def _flags(request: Request) -> str:
    return " --project /path/to/the/project" if request.share else ""


def _needs(request: Request) -> list[str]:
    lines = []
    if request.share:
        names = ", ".join(f"`{name}`" for name in request.share)
        lines.append(f"- From a copy of the project on that machine: {names}; `--project DIR` says where.")
    if request.variables:
        lines.append(f"- If the program needs them, set there: {', '.join(request.variables)}.")
    return lines
