"""The GPUs of this machine, as their own tools name them, and the programs that use them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 10.0  # seconds: without a resident driver the first answer takes several
LISTED = re.compile(r"GPU (\d+): (.+?) \(UUID: (GPU-[0-9a-fA-F-]+)\)")
PART = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)")
KFD = Path("/sys/class/kfd/kfd/topology/nodes")
NONE = {"", "-1", "NoDevFiles"}  # values of CUDA_VISIBLE_DEVICES that hide every device
MUCH_MB = 300.0  # of a GPU's memory: less is a desktop or an idle context


@dataclass(frozen=True)
class Gpu:
    """One device that a program can be told to use."""

    kind: str  # cuda, hip, mps
    index: str  # "0"; "0:1" for a part (MIG) of GPU 0
    id: str  # that no other device has; "" where no tool tells
    name: str

    @property
    def key(self) -> str:
        """What its lock is called: the same for every user and every program."""
        return re.sub(r"[^\w.-]", "_", self.id or f"{self.kind}{self.index}")

    @property
    def words(self) -> str:
        """It in a few words."""
        return "the GPU" if self.kind == "mps" else f"GPU {self.index}"


@dataclass(frozen=True)
class Guest:
    """A program that uses a GPU."""

    gpu: str  # the device's id
    pid: int
    name: str
    used_mb: float | None  # None: the driver does not tell

    @property
    def words(self) -> str:
        """It in a few words."""
        used = "" if self.used_mb is None else f" with {self.used_mb / 1024:.1f} GB"
        return f"{re.sub(r'[^ -~]', '', Path(self.name).name)[:40]} (pid {self.pid}){used}"


def gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs there are and the environment lets programs see, [] without any."""
    for look, variables in LOOKS:
        found = list(look())
        if found:
            shown = next((environ[name] for name in variables if name in environ), None)
            return found if shown is None else _visible(found, shown)
    return []


def has_tool() -> bool:
    """Whether looking for GPUs means asking a program, which takes time."""
    return any(shutil.which(name) for name in ("nvidia-smi", "rocm-smi"))


def guests() -> list[Guest]:
    """Programs that hold much of an NVIDIA GPU's memory; [] where nobody tells."""
    asked = "gpu_uuid,pid,process_name,used_memory"
    rows = [
        [cell.strip() for cell in line.split(",")]
        for line in _said(
            "nvidia-smi", f"--query-compute-apps={asked}", "--format=csv,noheader,nounits"
        ).splitlines()
    ]
    found = [
        Guest(row[0], int(row[1]), ", ".join(row[2:-1]), _number(row[-1]))
        for row in rows
        if len(row) >= 4 and row[1].isdigit()
    ]
    return [guest for guest in found if guest.used_mb is None or guest.used_mb >= MUCH_MB]


def _visible(found: list[Gpu], shown: str) -> list[Gpu]:
    """What a list of indices, ids or beginnings of ids shows, up to the first wrong one, as in CUDA."""
    chosen: list[Gpu] = []
    for word in (part.strip() for part in shown.split(",")):
        fits = [g for g in found if word == g.index or (word not in NONE and g.id.startswith(word))]
        if word.isdigit() and not fits:  # a GPU that is split up: its parts
            fits = [g for g in found if g.index.startswith(f"{word}:")]
        if not fits:
            break
        chosen += [g for g in fits if g not in chosen]
    return chosen


def _nvidia() -> Iterator[Gpu]:
    whole: Gpu | None = None
    parts = 0
    for line in _said("nvidia-smi", "-L").splitlines():
        listed, part = LISTED.match(line), PART.match(line)
        if listed:
            if whole and not parts:
                yield whole
            whole, parts = Gpu("cuda", listed[1], listed[3], listed[2]), 0
        elif part and whole:
            parts += 1
            yield Gpu("cuda", f"{whole.index}:{part[2]}", part[3], f"{whole.name} MIG {part[1]}")
    if whole and not parts:
        yield whole


def _rocm() -> Iterator[Gpu]:
    try:
        cards = json.loads(_said("rocm-smi", "--showuniqueid", "--showproductname", "--json"))
    except ValueError:
        cards = {}
    named = {} if not isinstance(cards, dict) else {k: v for k, v in cards.items() if k.startswith("card")}
    for card, facts in sorted(named.items(), key=lambda row: int(row[0][4:]) if row[0][4:].isdigit() else 0):
        name = next(
            (str(facts[key]) for key in ("Card Series", "Card series", "Card Model") if key in facts),
            "AMD GPU",
        )
        yield Gpu("hip", card.removeprefix("card"), str(facts.get("Unique ID", "")).strip(), name)
    if not named:
        yield from _kfd()


def _kfd() -> Iterator[Gpu]:
    """The kernel's own list of AMD devices; a node without SIMD units is a processor."""
    nodes = sorted(KFD.glob("*/properties"), key=lambda path: int(path.parent.name)) if KFD.is_dir() else []
    index = 0
    for path in nodes:
        facts = dict(line.split(maxsplit=1) for line in path.read_text().splitlines() if " " in line)
        if facts.get("simd_count", "0") != "0":
            unique = facts.get("unique_id", "0")
            yield Gpu("hip", str(index), "" if unique == "0" else hex(int(unique)), "AMD GPU")
            index += 1


def _apple() -> Iterator[Gpu]:
    import platform

    if platform.system() == "Darwin" and platform.machine() == "arm64":
        yield Gpu("mps", "0", "mps", "Apple GPU")


LOOKS = (
    (_nvidia, ("CUDA_VISIBLE_DEVICES",)),
    (_rocm, ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")),
    (_apple, ()),
)


def _said(*command: str) -> str:
    """What a tool prints; "" when it is not there, fails or takes too long."""
    if not shutil.which(command[0]):
        return ""
    import subprocess  # `status` asks whether there is a tool, and no more

    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "[N/A]", "[Insufficient Permissions]"
