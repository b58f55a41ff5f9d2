"""What autoresearch.yaml says about the engine that places runs: where its jobs go and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

KINDS = ("local", "slurm", "ray")
# Which of the keys below belong to which kind; `kind` and `slots` belong to all.
KEYS: dict[str, tuple[str, ...]] = {
    "local": (),
    "slurm": ("partition", "account", "gres", "gpus", "cpus", "python", "extra"),
    "ray": ("address", "gpus", "cpus", "python"),
}


@dataclass(frozen=True)
class Cluster:
    """The keys of `runner:` beside `kind` and `slots`; None leaves it to the engine."""

    partition: str | None = None
    account: str | None = None
    gres: str | None = None  # as Slurm writes it: gpu:a100:1
    gpus: int | None = None  # of one run
    cpus: int | None = None  # of one run
    python: str | None = None  # that starts the supervisor on the node, 3.10 or newer
    extra: tuple[str, ...] = ()  # more words for sbatch; the last one of two counts
    address: str = "http://127.0.0.1:8265"  # of Ray's dashboard

    def as_settings(self) -> dict[str, object]:
        """The keys that differ from their defaults, as the file writes them."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        default = Cluster()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(default, name)
        }


def misplaced(kind: str, named: list[str]) -> tuple[str, str] | None:
    """The first key that this kind of runner does not know, and the way out."""
    wrong = next((name for name in named if name not in KEYS[kind]), None)
    if wrong is None:
        return None
    homes = [other for other, keys in KEYS.items() if wrong in keys]
    return wrong, f"it belongs to kind {' and '.join(homes)}: take it out, or change the kind"
