"""Another user id, for root on a machine that has nothing better: the plain rights of files keep a run in.

Weaker than the rest, and said so: what everybody may read it reads, sealed data too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

from lab.sandbox.policy import Policy, real

FIRST, LAST = 61184, 65519  # what systemd lends to programs without a user of their own


def unfit(policy: Policy) -> str:
    """Why a run cannot be another user here, or "": it must reach what it needs."""
    if sys.platform != "linux":
        return "only on Linux"
    if os.geteuid():
        return "only root becomes another user"
    wanted = [*(str(Path(path).parent) for path in real(policy.own)), *real(policy.needs)]
    out_of_reach = next((path for path in wanted if not reachable(path)), "")
    return out_of_reach and f"another user cannot reach {out_of_reach}"


def reachable(path: str) -> bool:
    """Whether everybody may read `path`, through all folders above it."""
    place = Path(path)
    try:
        modes = [parent.stat().st_mode for parent in place.parents]
        return all(mode & stat.S_IXOTH for mode in modes) and bool(place.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def pick(name: str) -> int:
    """An id that nobody has and no process runs under, the same for the same name where it is free."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            taken.add(entry.stat().st_uid)
    count = LAST - FIRST + 1
    start = zlib.crc32(name.encode())
    return next(uid for n in range(count) if (uid := FIRST + (start + n) % count) not in taken)


def readable(paths: Iterable[str]) -> list[str]:
    """Those of the paths that everybody may read, or look into."""
    return [path for path in real(paths) if reachable(path)]


def give(paths: Iterable[str], uid: int) -> None:
    """Make the run's own folders its own, and all beneath them; links are not followed."""
    for top in paths:
        os.chown(top, uid, uid, follow_symlinks=False)
        for folder, names, files in os.walk(top):
            for name in (*names, *files):
                os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)  # noqa: PTH118


def become(uid: int) -> None:
    """In the child: be that user and no other again."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
