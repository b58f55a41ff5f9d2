"""How busy the machine is: its GPUs by nvidia-smi or rocm-smi where one is, else its cores."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

PATIENCE = 3.0  # seconds; a driver in trouble answers never
ASKED = "index,name,utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True)
class Device:
    """One GPU; what its driver does not tell is None."""

    name: str
    busy: float | None  # percent
    used_gb: float | None
    total_gb: float | None

    @property
    def words(self) -> str:
        """It in a few words."""
        busy = "use unknown" if self.busy is None else f"{self.busy:.0f} % busy"
        if self.used_gb is None:
            return f"{self.name}: {busy}"
        of = f" of {self.total_gb:.1f}" if self.total_gb is not None else ""
        return f"{self.name}: {busy}, {self.used_gb:.1f}{of} GB"


def devices() -> list[Device]:
    """The GPUs there are, [] where no tool tells of any."""
    return next((found for look in LOOKS if (found := look())), [])


def cores() -> str:
    """The load of the processor cores, in words."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count() or 1} cores"


def _nvidia() -> list[Device]:
    text = _said("nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader,nounits")
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [Device(f"GPU {r[0]} {_plain(r[1])}", _float(r[2]), _gb(r[3]), _gb(r[4]))
            for r in rows if len(r) == 5]  # fmt: skip


def _rocm() -> list[Device]:
    text = _said("rocm-smi", "--showuse", "--showmeminfo", "vram", "--json")
    try:
        found = json.loads(text)
    except ValueError:
        return []
    cards = found.items() if isinstance(found, dict) else ()
    return [_card(str(name), facts) for name, facts in cards if isinstance(facts, dict)]


def _card(name: str, facts: dict[str, object]) -> Device:
    used, total = (_float(facts.get(f"VRAM Total {word}Memory (B)")) for word in ("Used ", ""))
    busy = _float(facts.get("GPU use (%)"))
    return Device(
        _plain(f"GPU {name.removeprefix('card')}"), busy, used and used / 2**30, total and total / 2**30
    )


def _said(*command: str) -> str:
    """What a tool prints; "" when it is not there, fails or takes too long."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _plain(name: str) -> str:
    return re.sub(r"[^\w ()./-]", "", name)[:60]


def _float(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None  # "[N/A]", "[Not Supported]"


def _gb(mib: str) -> float | None:
    found = _float(mib)
    return None if found is None else found / 1024


LOOKS = (_nvidia, _rocm)
