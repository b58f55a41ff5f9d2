"""bubblewrap: the words that start a program in a view of the machine's files made for it alone.

Where the kernel has no Landlock, its mount and process namespaces do the same by other means: what may not be
written is mounted read-only, what is hidden is covered, and no other process can be seen.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab.sandbox.policy import Policy, devices, real

# What root keeps, as in kernel.py, but for the right to open files by their number, past every mount.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_NICE", "SYS_RESOURCE", "SETFCAP",
)  # fmt: skip
SYS_ADMIN = 1 << 21


def program() -> str | None:
    """Where bubblewrap is, if it is installed."""
    return shutil.which("bwrap", path=os.environ.get("PATH") or os.defpath)


def words(policy: Policy, bwrap: str) -> list[str]:
    """What the command starts with; a deeper path's rule holds over that of a folder around it."""
    said = [bwrap, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    said += [] if policy.network else ["--unshare-net"]
    said += _capabilities() if not os.geteuid() else []
    said += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    for path in devices(policy.alone):
        said += ["--dev-bind-try", path, path]
    said += [] if "/dev" in real(policy.write) else ["--remount-ro", "/dev"]
    covered = [path for path in real(policy.hidden) if not path.startswith("/dev/")]
    rules = {path: ["--ro-bind", path, path] for path in real(policy.locked)}
    rules |= {path: _cover(path) for path in covered}
    rules |= {path: ["--bind", path, path] for path in real(policy.write)}
    for path in sorted(rules, key=lambda path: path.count("/") if path != "/" else 0):
        said += rules[path]
    for path in covered:  # last, because what may be written can lie in a hidden folder
        said += ["--remount-ro", path] if Path(path).is_dir() else []
    return [*said, "--"]


def _cover(path: str) -> list[str]:
    # A device on a mount that allows none cannot be opened, whoever asks: that is how a file is covered.
    return ["--tmpfs", path] if Path(path).is_dir() else ["--ro-bind", "/dev/null", path]


def _capabilities() -> list[str]:
    """Root's words; without the right to mount, as in a container, it needs a user namespace like others."""
    if not _effective() & SYS_ADMIN:
        return ["--unshare-user"]
    return ["--cap-drop", "ALL", *(word for name in CAPABILITIES for word in ("--cap-add", f"CAP_{name}"))]


def _effective() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
