"""What kind of hardware a run has: numbers from different kinds are never compared."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from lab.gpus import gpus

CPUINFO = Path("/proc/cpuinfo")


def kind(environ: Mapping[str, str]) -> str:
    """The GPUs that a program with this environment sees, by name; without any, the processor."""
    names = sorted({gpu.name for gpu in gpus(environ)})
    return ", ".join(names) or _processor()


def _processor() -> str:
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()
