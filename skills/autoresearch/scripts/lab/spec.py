"""What a run's `spec.json` asks for, and the protected files it names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"  # what a training leaves for a sealed evaluation


@dataclass(frozen=True)
class Spec:
    """What to run and within which bounds, as `spec.json` says it."""

    run: str
    nonce: str
    argv: list[str]
    env_add: dict[str, str]
    tree: Path
    cwd: Path
    kill_after: float  # seconds
    metric: dict[str, str | None]  # name, take, pattern
    protected: dict[str, str]  # path in the tree -> sha256
    incumbent_memory_gb: float | None = None
    grace: float = 8.0  # seconds between TERM and KILL: dead within ten of the limit
    gap_seconds: float = 15.0
    free_disk_floor_mb: float = 500.0
    sandbox: dict[str, object] | None = None  # a sandbox.policy.Policy; None: a run of a test, without one
    evaluation: dict[str, Any] | None = None  # a sealed.Sealed; None: the training's own number counts
    early: dict[str, Any] | None = None  # early.Terms; None: it has its whole budget
    variables: list[str] = field(default_factory=list)  # that the training sees beside the usual ones

    preflight: list[str] | None = None  # arguments for a short start beforehand; None: none

    @property
    def cookie(self) -> str:
        """What every process of this run, and no other, carries in its environment."""
        return f"{self.run}:{self.nonce}"


def read_spec(run_dir: Path) -> Spec:
    """Read `spec.json`; keys of a newer release are left alone."""
    data = json.loads((run_dir / "spec.json").read_bytes())
    names = {entry.name for entry in fields(Spec)}
    known = {name: value for name, value in data.items() if name in names}
    return Spec(**known | {"tree": Path(data["tree"]), "cwd": Path(data["cwd"])})


def changed_files(spec: Spec) -> list[str]:
    """Return the protected files that are missing, no plain files, or have other bytes than they should."""
    return sorted(path for path, digest in spec.protected.items() if _sha256(spec.tree / path) != digest)


def is_plain_file(path: Path) -> bool:
    """Whether `path` is a file of its own and no link to another."""
    return path.is_file() and not path.is_symlink()


def _sha256(path: Path) -> str | None:
    if not is_plain_file(path):
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
