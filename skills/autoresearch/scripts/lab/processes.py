"""The processes of one run: find them all, measure them, signal them, and never anybody else's.

A process is named by pid and start time, because a pid alone may belong to a stranger a moment later.
Linux is read from /proc (a whole table in 5 ms, no import); elsewhere psutil does the same.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

LINUX = sys.platform == "linux"
COOKIE = "AUTORESEARCH_RUN"  # in the environment of every process of a run: `e012.1:NONCE`
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

Table = dict[int, "Process"]


@dataclass(frozen=True)
class Process:
    """One entry of the process table."""

    pid: int
    parent: int
    started: str  # in the system's own unit, exact: compared, never calculated with
    rss_mb: float
    zombie: bool

    @property
    def key(self) -> tuple[int, str]:
        """What tells this process from every other since the machine started."""
        return self.pid, self.started


def table() -> Table:
    """Return every process that can be seen now."""
    if not LINUX:
        return _psutil_table()
    rows = (_read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - speed
    return {row.pid: row for row in rows if row}


def look(pid: int) -> Process | None:
    """Return the process `pid`, or None when there is none."""
    return _read_stat(pid) if LINUX else _psutil_table([pid]).get(pid)


def boot_id() -> str:
    """Name the present start of the machine: pids and start times mean nothing after the next one."""
    if LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{_psutil().boot_time():.0f}"


def descendants(processes: Table, ancestor: int) -> list[Process]:
    """Return the children of `ancestor`, their children and so on, as they stand in the table."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [ancestor]
    while queue:
        mine = children.pop(queue.pop(), [])
        found += mine
        queue += [process.pid for process in mine]
    return found


def with_cookie(processes: Table, cookie: str, name: str = COOKIE) -> list[Process]:
    """Return our own user's processes that carry `cookie` in the environment they were started with."""
    wanted = f"{name}={cookie}".encode()
    return [p for p in processes.values() if not p.zombie and wanted in _environment(p.pid)]


def of_run(ancestor: int | None, known: Iterable[tuple[int, str]], cookie: str = "") -> list[Process]:
    """Return every living process of a run: below `ancestor`, `known` from before, or with the cookie.

    What these have started belongs to the run too; the calling process never does.
    """
    processes = table()
    roots = with_cookie(processes, cookie) if cookie else []
    same = set(known)
    roots += [process for process in processes.values() if process.key in same]
    found = {process.pid: process for process in roots}
    for root in [process.pid for process in roots] + ([ancestor] if ancestor else []):
        found.update((process.pid, process) for process in descendants(processes, root))
    found.pop(os.getpid(), None)
    return [process for process in found.values() if not process.zombie]


def send(process: Process, number: int) -> bool:
    """Signal `process` if it is still the one that was seen; whether it was."""
    try:
        descriptor = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1
    except OSError:
        return False
    try:
        now = look(process.pid)
        if now is None or now.started != process.started:
            return False
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
        return True
    except OSError:
        return False  # gone meanwhile, or no longer our user's
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def kill_children() -> None:
    """Kill our children, adopted ones too, fast enough for one that forks and goes on as its own child.

    A child's pid stays its own until it is waited for, so no start time is needed. Linux only.
    """
    try:
        pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies (Linux)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """End this process when `parent`, which forked it, dies (Linux); call between fork and exec."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if LINUX and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def oom_kills() -> int:
    """Return how many processes the kernel has ended for want of memory, 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _prctl(option: int, value: int) -> None:
    if LINUX:
        import ctypes  # 3 ms: only a supervisor needs it

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


_PROC = "/proc"


def _read_stat(pid: int) -> Process | None:
    try:
        descriptor = os.open("/".join((_PROC, str(pid), "stat")), os.O_RDONLY)  # a Path costs twice the read
    except OSError:
        return None
    try:
        line = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    fields = line.rpartition(b")")[2].split()  # the name before may hold spaces and brackets
    if len(fields) < 22:
        return None
    rss_mb = int(fields[21]) * _PAGE_BYTES / 2**20
    return Process(pid, int(fields[1]), fields[19].decode(), rss_mb, fields[0] in (b"Z", b"X"))


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _environment(pid: int) -> list[bytes]:
    try:
        if not LINUX:
            return [f"{k}={v}".encode() for k, v in _psutil().Process(pid).environ().items()]
        folder = Path("/proc", str(pid))
        if folder.stat().st_uid != os.geteuid():
            return []
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
    except _PSUTIL_ERRORS:
        return []


def _psutil() -> ModuleType:
    try:
        import psutil  # 14 ms, and only where there is no /proc
    except ImportError:  # an isolated interpreter leaves out the user's own packages
        import site

        site.addsitedir(site.getusersitepackages())
        import psutil
    return psutil


_PSUTIL_ERRORS: tuple[type[Exception], ...] = () if LINUX else (_psutil().Error,)


def _psutil_table(pids: Iterable[int] | None = None) -> Table:
    psutil = _psutil()
    found: Table = {}
    for pid in psutil.pids() if pids is None else pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                zombie = process.status() == psutil.STATUS_ZOMBIE
                rss = 0 if zombie or process.uids().effective != os.geteuid() else process.memory_info().rss
                found[pid] = Process(pid, process.ppid(), repr(process.create_time()), rss / 2**20, zombie)
        except psutil.Error:
            continue
    return found
