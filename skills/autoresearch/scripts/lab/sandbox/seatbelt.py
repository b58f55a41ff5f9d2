"""macOS: the profile by which `sandbox-exec` shuts a program in.

Never yet run on a Mac by the people who wrote it: only its text is tested, and `put_up` takes it where its
own trial, a write that has to fail, comes out right.
"""

from __future__ import annotations

import shutil
import sys

from lab.sandbox.policy import Policy, real

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/stdout", "/dev/stderr")


def program() -> str | None:
    """Where `sandbox-exec` is: on macOS alone."""
    return shutil.which("sandbox-exec") if sys.platform == "darwin" else None


def words(policy: Policy, sandbox_exec: str) -> list[str]:
    """What the command starts with."""
    return [sandbox_exec, "-p", profile(policy)]


def profile(policy: Policy) -> str:
    """The rules as text; of two that fit, the later one holds, so that deeper paths come last."""
    rules = {path: "(deny file-write* {})" for path in real(policy.locked)}
    rules |= {path: "(deny file-read* file-write* {})" for path in real(policy.hidden)}
    rules |= {path: "(allow file-read* file-write* {})" for path in real(policy.write)}
    ordered = sorted(rules, key=lambda path: path.count("/"))
    lines = ["(version 1)", "(allow default)", "(deny file-write*)"]
    lines += [f"(allow file-write* (literal {quoted(path)}))" for path in DEVICES]
    lines += [rules[path].format(f"(subpath {quoted(path)})") for path in ordered]
    lines += ["(deny signal)", "(allow signal (target same-sandbox))"]
    lines += ["(deny process-info*)", "(allow process-info* (target same-sandbox))"]
    if not policy.network:
        lines += ["(deny network*)"]
        lines += [f"(allow network* (subpath {quoted(path)}))" for path in real(policy.write)]
    return "\n".join(lines) + "\n"


def quoted(path: str) -> str:
    """A path as a string of the profile's language."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
