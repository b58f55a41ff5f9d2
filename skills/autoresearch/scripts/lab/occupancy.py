"""Who has which device: one kernel lock for each, held by the supervisor of a run for as long as that lives.

The lock files lie in one folder for the whole machine, so that campaigns, checkouts and users that know
nothing of each other take turns. A supervisor that dies, however it dies, frees what it had.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.atomic import write_atomic
from lab.gpus import guests
from lab.redact import one_line
from lab.slots import Slot, from_json
from lab.steps import step

SHARED = Path("/tmp/autoresearch-slots")  # not TMPDIR: everybody has to mean the same folder
VARIABLE = "AUTORESEARCH_SLOTS"  # another folder: one that containers share
TURN_SECONDS, BEAT_SECONDS, GUEST_SECONDS = 0.2, 2.0, 10.0
HOLDER_BYTES = 500


def folder(environ: Mapping[str, str]) -> Path:
    """The folder of the locks: the machine's, or one of our own where that cannot be used."""
    named = environ.get(VARIABLE)
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)
    with contextlib.suppress(OSError):
        SHARED.mkdir(mode=0o700)
        SHARED.chmod(0o1777)  # like /tmp itself: everybody makes files, nobody removes another's
    if _is_shared(SHARED):
        return SHARED
    own = SHARED.with_name(f"{SHARED.name}-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    facts = own.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise OSError(f"{own} belongs to somebody else, and locks of devices cannot be kept there")
    return own


def _is_shared(place: Path) -> bool:
    """Whether it is a folder (no link) where everybody may make files and nobody remove another's."""
    try:
        facts = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_mode & 0o1777 == 0o1777


def take(slot: Slot, place: Path, who: str) -> list[int] | str:
    """Hold every lock of the slot: the open descriptors, or who has one of them."""
    held: list[int] = []
    for name in sorted(slot.locks):
        path = place / f"{name}.lock"
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(descriptor)
            for number in (*held, descriptor):
                os.close(number)
            return holder
        held.append(descriptor)
    for descriptor in held:
        _sign(descriptor, who)
    return held


def _open(path: Path) -> int:
    """The lock file, made if need be; a link in its place is followed by nobody."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        os.fchmod(descriptor, 0o644)  # others lock it too, and need only read it for that
        return descriptor
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # another user's


def _sign(descriptor: int, who: str) -> None:
    with contextlib.suppress(OSError):  # another user's file, or a full disk: the lock itself is held
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, who.encode()[:HOLDER_BYTES], 0)


def _holder(descriptor: int) -> str:
    """Who wrote into the lock file that has it: words of another program, bounded and cleaned."""
    with contextlib.suppress(OSError):
        return (
            one_line(os.pread(descriptor, HOLDER_BYTES, 0).decode("utf-8", "replace"), 120) or "another run"
        )
    return "another run"


def occupy(run_dir: Path) -> tuple[Slot | None, list[int]]:
    """Wait for one of the slots of the run's spec and hold it; none when it needs none or is cancelled."""
    spec = json.loads((run_dir / "spec.json").read_bytes())
    wanted = from_json(spec.get("slots") or [])
    if not wanted:
        return None, []
    place, who = Path(str(spec["locks"])), f"{spec['run']} of {spec.get('campaign') or run_dir}"
    looked, guest = -BEAT_SECONDS, {}
    while not (run_dir / "cancel").exists():
        due = time.monotonic() - looked >= BEAT_SECONDS
        if due and spec.get("when_busy") == "wait":
            guest = {found.gpu: found.words for found in guests()}
        slot, held, why = _free(wanted, place, who, guest)
        if slot:
            step("supervisor.slot")
            if slot.cores:
                with contextlib.suppress(OSError):  # cores that were taken away from us since
                    os.sched_setaffinity(0, slot.cores)
            return slot, held
        if due:
            looked = time.monotonic()
            _tell(run_dir, why)
        time.sleep(TURN_SECONDS * random.uniform(0.5, 1.5))  # two that wait do not meet for ever
    return None, []


def _free(
    wanted: Sequence[Slot], place: Path, who: str, guest: Mapping[str, str]
) -> tuple[Slot | None, list[int], str]:
    """The first slot that nobody has, held; else in words why there is none."""
    why = []
    for slot in wanted:
        stranger = next((words for gpu, words in guest.items() if gpu in slot.locks), "")
        held = stranger or take(slot, place, who)
        if not isinstance(held, str):
            return slot, held, ""
        why.append(f"{slot.name} ({held})")
    return None, [], ", ".join(why[:3]) + (f" and {len(why) - 3} more" if len(why) > 3 else "")


def _tell(run_dir: Path, why: str) -> None:
    """A sign of life of a run that has not begun."""
    beat = {"at": time.time(), "elapsed": 0.0, "waits_for": why, "last_line": "", "log_bytes": 0, "tree": []}
    with contextlib.suppress(OSError):
        write_atomic(run_dir / "heartbeat.json", json.dumps(beat), durable=False)
