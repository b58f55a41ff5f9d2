"""The places where runs of this machine go: its GPUs, or shares of its processor cores.

Which of them a run gets is decided by its supervisor when it begins (`occupancy.py`), so that several
campaigns, users and checkouts can have the same devices in their lists.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import processes
from lab.atomic import write_atomic
from lab.errors import CONFIG, LabError
from lab.gpus import Gpu, gpus, has_tool

Wanted = int | tuple[str, ...] | None  # of `runner: {slots: …}`: a number, devices, or None for auto

THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
VARIABLES = {"cuda": "CUDA_VISIBLE_DEVICES", "hip": "HIP_VISIBLE_DEVICES"}
# Programs that use every GPU they see: with `auto` they get all of them, one run at a time.
LAUNCHERS = {"torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "horovodrun",
             "torch.distributed.run", "torch.distributed.launch"}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """A place for one run, and what makes a program stay in it."""

    name: str
    locks: tuple[str, ...]  # one for each device, held while the run lives
    env: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()  # () leaves it to the system

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """What a run sees here: `own`, which the command sets, but for the devices."""
        devices = {name: value for name, value in self.env.items() if name in VARIABLES.values()}
        return {**self.env, **own, **devices}


def as_json(slots: Sequence[Slot]) -> list[dict[str, object]]:
    """The slots for a spec or a file."""
    return [asdict(slot) for slot in slots]


def from_json(rows: Sequence[Mapping[str, object]]) -> list[Slot]:
    """The slots that `as_json` gave."""
    return [
        Slot(
            str(row["name"]),
            tuple(map(str, row["locks"])),  # type: ignore[call-overload]
            dict(row["env"]),  # type: ignore[call-overload]
            tuple(map(int, row["cores"])),  # type: ignore[call-overload]
        )
        for row in rows
    ]


def slots(wanted: Wanted, environ: Mapping[str, str], argv: Sequence[str] = ()) -> list[Slot]:
    """The slots that a setting means here; [] is the whole machine, one run at a time, without a lock."""
    if isinstance(wanted, tuple):
        return _numbered([_of_devices(item, gpus(environ)) for item in wanted])
    found = gpus(environ)
    if wanted is None:
        return _all(found, argv)
    if not found:
        return _shares(wanted)
    if wanted > len(found):
        raise LabError(
            f"runner.slots is {wanted}, and there are {len(found)} GPUs",
            "write auto, or a list of GPUs; one that stands in it twice takes two runs: slots: [0, 0]",
            CONFIG,
        )
    return [_of_gpus([gpu]) for gpu in found[:wanted]]


def remembered(
    home: Path, wanted: Wanted, environ: Mapping[str, str], argv: Sequence[str] = ()
) -> list[Slot]:
    """`slots`, with what GPU tools said kept in a file for one start of the machine: they take seconds."""
    if not has_tool():
        return slots(wanted, environ, argv)
    path = home / "slots.json"
    shown = {name: environ.get(name) for name in (*VARIABLES.values(), "ROCR_VISIBLE_DEVICES")}
    key = json.dumps([processes.boot_id(), wanted, shown, list(argv)])
    try:
        kept = json.loads(path.read_bytes())
        if kept["key"] == key:
            return from_json(kept["slots"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a view that is missing, cut or another release's
    found = slots(wanted, environ, argv)
    if home.is_dir():
        write_atomic(path, json.dumps({"key": key, "slots": as_json(found)}), durable=False)
    return found


def forget(home: Path) -> None:
    """Look for devices anew at the next question."""
    (home / "slots.json").unlink(missing_ok=True)


def _all(found: list[Gpu], argv: Sequence[str]) -> list[Slot]:
    """Every GPU of the most frequent model: numbers from different models cannot be compared."""
    if not found:
        return []
    if LAUNCHERS & {Path(word).name for word in argv}:
        return [_of_gpus(found)]
    (model, _), *_ = Counter(gpu.name for gpu in found).most_common()
    return [_of_gpus([gpu]) for gpu in found if gpu.name == model]


def _of_gpus(group: Sequence[Gpu]) -> Slot:
    variable = VARIABLES.get(group[0].kind)
    # HIP knows no ids; CUDA's are the same whatever order a program counts in.
    ids = [gpu.id if gpu.id and gpu.kind == "cuda" else gpu.index for gpu in group]
    return Slot(
        ", ".join(gpu.words for gpu in group),
        tuple(gpu.key for gpu in group),
        {variable: ",".join(ids)} if variable else {},
    )


def _of_devices(item: str, found: list[Gpu]) -> Slot:
    """The slot for an item of a list: one device, or several with commas between them."""
    group = []
    for word in item.split(","):
        fits = [gpu for gpu in found if word == gpu.index or gpu.id.startswith(word)]
        if found and not fits:
            known = ", ".join(f"{gpu.index} ({gpu.name}, {gpu.id})" for gpu in found[:8])
            raise LabError(
                f"runner.slots names {word!r}, which is no GPU here", f"there are: {known}", CONFIG
            )
        group.append(fits[0] if fits else Gpu("cuda", word, "", "GPU"))  # nobody tells: as the user says
    return _of_gpus(group)


def _numbered(found: list[Slot]) -> list[Slot]:
    """Give a device that is listed more than once as many locks."""
    seen: Counter[str] = Counter()
    numbered = []
    for slot in found:
        times = seen[slot.name]
        seen[slot.name] += 1
        locks = tuple(f"{lock}.{times}" if times else lock for lock in slot.locks)
        name = f"{slot.name} (run {times + 1})" if times else slot.name
        numbered.append(Slot(name, locks, slot.env, slot.cores))
    return numbered


def _shares(count: int) -> list[Slot]:
    """The cores divided among `count` runs; more runs than cores share them."""
    cores = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    found = []
    for k in range(count):
        own = cores[k * len(cores) // count : (k + 1) * len(cores) // count]
        turn = 0
        if count > len(cores):
            own, turn = [cores[k % len(cores)]], k // len(cores)
        threads = {name: str(len(own)) for name in THREADS}
        pinned = tuple(own) if hasattr(os, "sched_setaffinity") else ()
        found.append(
            Slot(f"CPU share {k + 1} of {count}", tuple(f"cpu{c}.{turn}" for c in own), threads, pinned)
        )
    return found
