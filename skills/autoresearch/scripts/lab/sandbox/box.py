"""The sandbox of one process: the best means this system has, put up before it becomes another program.

`put_up` tries the means of `MEANS` in order. Each gives a `Box`: words to start the command with, a function
for the child between fork and exec, or both. What was truly in force is known after the start, by `in_force`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.redact import one_line
from lab.sandbox import landlock
from lab.sandbox.policy import Policy, around, devices, real

Facts = dict[str, object]
NONE: Facts = {"kind": "none"}


@dataclass
class Box:
    """One sandbox, made for one process."""

    facts: Facts
    prefix: list[str] = field(default_factory=list)
    enter: Callable[[], None] | None = None  # in the child
    report: tuple[int, int] | None = None  # a pipe on which the child says what it could put up

    def argv(self, command: list[str]) -> list[str]:
        """The command that starts `command` inside."""
        return [*self.prefix, *command]

    def in_force(self) -> Facts:
        """What the process lives in; call once, after it was started."""
        if self.report is not None:
            reading, writing = self.report
            os.close(writing)
            with contextlib.suppress(OSError, ValueError):
                self.facts |= json.loads(os.read(reading, 4096) or b"{}")
            os.close(reading)
            self.report = None
        return self.facts


def put_up(policy: Policy) -> Box:
    """The best sandbox there is for `policy`; one of kind `none` where there is none, or none is wanted."""
    if policy.mode == "off":
        return Box({"kind": "off"})
    for means in MEANS.values():
        box = means(policy)
        if box is not None:
            return box
    return Box(dict(NONE))


def tried(policy: Policy) -> Facts:
    """Put it up around a child that writes outside; the facts, and in `tried` what came of it."""
    box = put_up(policy)
    if box.enter is None and not box.prefix:
        return box.facts
    with tempfile.TemporaryDirectory(prefix="autoresearch-probe-") as folder:
        code = "import sys; open(sys.argv[1], 'w')"
        command = box.argv([sys.executable, "-I", "-S", "-c", code, f"{folder}/probe"])
        said = subprocess.run(command, preexec_fn=box.enter, capture_output=True, check=False).stderr
        written = Path(folder, "probe").exists()
    denied = not written and b"PermissionError" in said
    last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
    went = "a write outside went through" if written else f"it did not start: {one_line(''.join(last), 200)}"
    return box.in_force() | {"tried": "a write outside was denied" if denied else went}


# -- Landlock ------------------------------------------------------------------------------------------


def _landlock(policy: Policy) -> Box | None:
    abi = landlock.version()
    rules = _rules(policy, abi) if abi else None
    if rules is None:
        return None
    report = os.pipe()
    signals = "own only" if abi >= 6 else "open"
    facts: Facts = {"kind": "landlock", "abi": abi, "signals": signals, "hidden": len(real(policy.hidden))}

    def enter() -> None:
        """In the child: the network first, while /proc may be written, then what cannot be taken back."""
        from lab.sandbox import kernel

        network = "open" if policy.network else "none"
        if network == "none" and not policy.alone and kernel.own_network():
            network = "own"
        kernel.drop_capabilities()
        kernel.limit(policy.file_bytes)
        rules.enter()
        if not kernel.filter_calls(network != "none", policy.alone) and network == "none":
            network = "no TCP" if abi >= 4 else "open"
        os.write(report[1], json.dumps({"network": network}).encode())

    return Box(facts, enter=enter, report=report)


def _rules(policy: Policy, abi: int) -> landlock.Ruleset | None:
    hidden = [*real(policy.hidden), "/dev"]
    locked = [*hidden, *real(policy.locked)]
    try:
        rules = landlock.Ruleset(abi, tcp=policy.network or kernel_filters())
    except OSError:
        return None
    rules.allow("/", landlock.READ_DIR)  # names everywhere; what is in the files is another matter
    for path in around("/", hidden):
        rules.allow(path, landlock.READ)
    for root in real(policy.write):
        for path in around(root, [hole for hole in locked if hole != root]):
            rules.allow(path, landlock.READ | landlock.WRITE)
    for path in devices(policy.alone):
        rules.allow(path, landlock.READ | landlock.WRITE)
    return rules


def kernel_filters() -> bool:
    """Whether a seccomp filter can be written for this machine."""
    from lab.sandbox.kernel import MACHINES

    return platform.machine() in MACHINES


MEANS: dict[str, Callable[[Policy], Box | None]] = {"landlock": _landlock}
