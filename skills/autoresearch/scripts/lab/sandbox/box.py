"""The sandbox of one process: the best means this system has, put up before it becomes another program.

`put_up` tries the means of `MEANS` in order. Each gives a `Box`: words to start the command with, a function
for the child between fork and exec, or both; or it says why it cannot. What is started by words is tried once
before it is relied on. What was truly in force is known after the start, by `in_force`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lab.redact import one_line
from lab.sandbox import another, bubblewrap, landlock, seatbelt
from lab.sandbox.policy import Policy, around, devices, is_within, real

Facts = dict[str, object]
TRIAL = ("/bin/sh", "-c", 'echo in; echo x > "$1"', "sh")  # says that it runs, then writes where it may not
TRIAL_SECONDS = 20.0


@dataclass
class Box:
    """One sandbox, made for one process."""

    facts: Facts
    prefix: list[str] = field(default_factory=list)
    enter: Callable[[], None] | None = None  # in the child
    report: tuple[int, int] | None = None  # a pipe on which the child says what it could put up
    variables: dict[str, str] = field(default_factory=dict)  # that the process must see otherwise in it

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
    missing: dict[str, str] = {}
    for name, means in MEANS.items():
        if policy.kind in ("auto", name):
            found = means(policy)
            if isinstance(found, Box):
                return found
            missing[name] = found
    return Box({"kind": "none", "missing": missing})


def tried(policy: Policy) -> Facts:
    """Put it up around a child that writes outside; the facts, and in `tried` what came of it."""
    box = put_up(policy)
    if box.enter is None and not box.prefix:
        return box.facts
    went = trial(policy, box)
    return box.in_force() | {"tried": went or "a write outside was denied"}


def trial(policy: Policy, box: Box) -> str:
    """Start a child that writes outside; "" when it was started and kept from it, else what happened."""
    with tempfile.TemporaryDirectory(prefix="autoresearch-probe-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder, "probe")
        try:
            done = subprocess.run(
                box.argv([*TRIAL, str(place)]),
                preexec_fn=box.enter,
                capture_output=True,
                timeout=TRIAL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"it did not start: {one_line(str(error), 200)}"
        if done.stdout != b"in\n":
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            return f"it did not start: {one_line(''.join(last), 200)}"
        meant = any(is_within(os.path.realpath(folder), root) for root in real(policy.write))
        return "a write outside went through" if place.exists() and not meant else ""


# -- Landlock ------------------------------------------------------------------------------------------


def _landlock(policy: Policy) -> Box | str:
    abi = landlock.version()
    rules = _rules(policy, abi) if abi else None
    if rules is None:
        return "the kernel's rules were not to be had" if abi else "this kernel has no Landlock (Linux 5.13)"
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


# -- a command around the command ----------------------------------------------------------------------


def _bubblewrap(policy: Policy) -> Box | str:
    bwrap = bubblewrap.program()
    if bwrap is None:
        return "bwrap is not installed"
    network = "open" if policy.network else "own"
    facts: Facts = {"kind": "bubblewrap", "network": network, "signals": "own only"}
    box = Box(facts | {"hidden": len(real(policy.hidden))}, prefix=bubblewrap.words(policy, bwrap))
    box.enter = lambda: _narrow(policy)
    failed = trial(policy, box)
    return failed or box


def _narrow(policy: Policy) -> None:
    """In the child: what bubblewrap does not do, by what no later program can take off."""
    from lab.sandbox import kernel

    kernel.limit(policy.file_bytes)
    landlock.no_new_privileges()
    kernel.filter_calls(True, policy.alone)  # the internet's sockets: in a network of its own, or wanted


def _seatbelt(policy: Policy) -> Box | str:
    found = seatbelt.program()
    if found is None:
        return "sandbox-exec is macOS's alone"
    facts: Facts = {
        "kind": "seatbelt",
        "network": "open" if policy.network else "none",
        "signals": "own only",
    }
    box = Box(facts | {"hidden": len(real(policy.hidden))}, prefix=seatbelt.words(policy, found))
    failed = trial(policy, box)
    return failed or box


# -- another user --------------------------------------------------------------------------------------


def _another(policy: Policy) -> Box | str:
    unfit = another.unfit(policy)
    if unfit:
        return unfit
    uid, report = another.pick(policy.own[0] if policy.own else ""), os.pipe()
    bare = another.readable(policy.hidden)
    facts: Facts = {"kind": "uid", "uid": uid, "signals": "own only", "readable": len(bare)}
    if not bare:
        facts["hidden"] = len(real(policy.hidden))
    another.give(policy.own, uid)

    def enter() -> None:
        """In the child: what only root can do first."""
        from lab.sandbox import kernel

        network = "open" if policy.network else "own" if not policy.alone and kernel.own_network() else "none"
        kernel.limit(policy.file_bytes)
        another.become(uid)
        landlock.no_new_privileges()
        if not kernel.filter_calls(network != "none", policy.alone) and network == "none":
            network = "open"
        os.write(report[1], json.dumps({"network": network}).encode())

    # Its home and its compiled kernels are where it may write: they do not outlive the run.
    own = {name: policy.own[-1] for name in OF_A_HOME} if policy.own else {}
    return Box(facts, enter=enter, report=report, variables=own)


OF_A_HOME = ("HOME", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR")
MEANS: dict[str, Callable[[Policy], Box | str]] = {
    "landlock": _landlock,
    "bubblewrap": _bubblewrap,
    "seatbelt": _seatbelt,
    "uid": _another,
}
