"""The runners by the name `runner: {kind: ...}` gives them; a new one is a file and a row here."""

from __future__ import annotations

from collections.abc import Callable

from lab.cluster import Cluster
from lab.errors import CONFIG, LabError
from lab.runners.base import Runner


def _local(_: Cluster) -> Runner:
    from lab.runners.local import Local

    return Local()


def _slurm(cluster: Cluster) -> Runner:
    from lab.runners.slurm import Slurm

    return Slurm(cluster)


def _ray(cluster: Cluster) -> Runner:
    from lab.runners.ray import Ray

    return Ray(cluster)


# Imported when asked for: nobody on one machine pays for an engine.
RUNNERS: dict[str, Callable[[Cluster], Runner]] = {"local": _local, "slurm": _slurm, "ray": _ray}


def runner(kind: str, cluster: Cluster | None = None) -> Runner:
    """Return the runner called `kind`. Raises LabError naming the valid kinds."""
    if kind not in RUNNERS:
        raise LabError(f"runner kind is {kind!r}", f"use one of: {', '.join(RUNNERS)}", CONFIG)
    return RUNNERS[kind](cluster or Cluster())
