"""Start a probe in the project's own Python and read the one line it answers with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.errors import LabError
from lab.redact import one_line
from lab.sandbox.box import put_up
from lab.sandbox.policy import Policy

MARK = b"AUTORESEARCH_PROBE "
SCRIPTS = Path(__file__).resolve().parents[2] / "probes"
ANSWER_BYTES = 4_000_000


def ask(
    script: str, argv: list[str], env: Mapping[str, str], folder: Path, seconds: float, policy: Policy
) -> dict[str, object]:
    """Run probes/`script` by `argv` (an interpreter and its options) in `folder`; its answer.

    What it trains is the candidate's code, which gets no more rights than in a run.
    """
    command, box = [*argv[:1], str(SCRIPTS / script), *argv[1:]], put_up(policy)
    if policy.mode == "required" and box.facts["kind"] == "none":
        raise LabError("this system has no sandbox, and one is required", "`sandbox: auto` goes without")
    try:
        process = subprocess.Popen(
            box.argv(command), cwd=folder, env=dict(env) | box.variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=box.enter,
        )  # fmt: skip
        box.in_force()
    except OSError as error:
        raise LabError(
            f"cannot start {argv[0]}: {error}", "mend `command:` or install Python there"
        ) from error
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise LabError(f"the probe did not end within {seconds:g} s", "`--seconds` gives it more") from None
    line = next((line for line in reversed(out.splitlines()) if line.startswith(MARK)), b"")
    try:
        answer = json.loads(line[len(MARK) : ANSWER_BYTES])
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise LabError(f"the probe failed: {_last_line(err)}", _hint(err))
    return answer


def _last_line(err: bytes) -> str:
    lines = [one_line(line, 200) for line in err.splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _hint(err: bytes) -> str:
    if b"No module named 'torch'" in err:
        return "the project's Python has no torch, and parts of other models cannot be looked into"
    return "mend that in the project's code, or name another function: `probe: {model: file.py:function}`"
