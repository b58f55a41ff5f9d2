"""What a run may read, write and reach: from the settings of a campaign to lists of real paths."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# Keys and tokens under the home folder; a training has no use for them.
SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".netrc", ".git-credentials", ".pypirc", ".npmrc",
    ".pgpass", ".docker/config.json", ".config/gh", ".config/gcloud", ".config/git/credentials",
    ".local/share/keyrings", ".claude", ".claude.json", ".codex", ".cursor", ".copilot",
    ".bash_history", ".zsh_history",
)  # fmt: skip
# Where libraries keep what the next run would otherwise compile or download again.
CACHES = (
    ".cache", ".triton", ".nv", ".keras", ".torch", ".config/matplotlib", ".matplotlib", ".jax_cache",
    ".numba_cache", ".ipython", ".local/share/uv", ".local/share/jupyter", "Library/Caches",
    "nltk_data", "scikit_learn_data",
)  # fmt: skip
CACHE_VARIABLES = (
    "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE",
    "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR",
    "CUDA_CACHE_PATH", "MPLCONFIGDIR", "PIP_CACHE_DIR", "UV_CACHE_DIR", "NUMBA_CACHE_DIR",
    "JAX_COMPILATION_CACHE_DIR", "KERAS_HOME", "TFHUB_CACHE_DIR", "NLTK_DATA", "WANDB_DIR",
    "WANDB_CACHE_DIR", "XLA_FLAGS_CACHE",
)  # fmt: skip
# Devices a training uses; disks, terminals and the machine's memory are none of them.
DEVICES = (
    "null", "zero", "full", "random", "urandom", "shm", "dri", "kfd", "dxg", "infiniband", "vfio",
    "hugepages",
)  # fmt: skip
DEVICE_NAMES = ("nvidia", "accel", "neuron", "davinci", "mali", "apex_")
FILE_BYTES = 64 * 2**30  # of one file: a checkpoint of the largest model that one GPU holds
DISK_BYTES = 200 * 2**30  # of one run's own folders
ENTRIES = 20_000  # in a folder with something hidden: each of the others takes a rule, 10 us
PROCESSES = 4096  # of one run at once; a loader has dozens, a fork bomb all


LISTS = ("write", "hidden", "locked", "own", "needs")


@dataclass(frozen=True)
class Policy:
    """What one process may do; every path is absolute."""

    write: tuple[str, ...]  # may be written, with all beneath them
    hidden: tuple[str, ...] = ()  # may be neither read nor written
    locked: tuple[str, ...] = ()  # may not be written, also where a writable folder holds them
    own: tuple[str, ...] = ()  # those of `write` that are this run's alone; the last is for temporary files
    needs: tuple[str, ...] = ()  # what it must read whatever it becomes: its program, its data
    network: bool = False
    alone: bool = False  # no memory shared with other processes, no socket but its own
    mode: str = "auto"  # auto: the best there is; required: a run that has none does not start; off
    kind: str = "auto"  # or the one of box.MEANS that is to be used, and no other
    file_bytes: int = FILE_BYTES
    disk_bytes: int = DISK_BYTES
    processes: int = PROCESSES

    def as_json(self) -> dict[str, object]:
        """The policy as `spec.json` holds it."""
        return asdict(self)


def from_json(data: object) -> Policy | None:
    """The policy of a `spec.json`; None where it has none."""
    if not isinstance(data, dict):
        return None
    values = {name: data[name] for name in Policy.__dataclass_fields__ if name in data}
    lists = {name: tuple(map(str, values[name])) for name in LISTS if name in values}
    return Policy(**values | lists)


def keys(environment: Mapping[str, str], root: Path) -> list[str]:
    """Files with keys: in the home folder, and the project's `.env` files."""
    home = _home(environment)
    found = [str(home / name) for name in SECRETS] if home else []
    return [*found, *(str(path) for path in root.glob(".env*") if not path.is_dir())]


def caches(environment: Mapping[str, str]) -> list[str]:
    """Folders that libraries write to; those that hold the home folder itself are no caches."""
    home = _home(environment)
    found = [home / name for name in CACHES] if home else []
    found += [Path(environment[name]) for name in CACHE_VARIABLES if environment.get(name)]
    found.append(Path(tempfile.gettempdir()) / f"torchinductor_{_user(environment)}")
    above = {home, *home.parents} if home else {Path("/")}
    return [str(path) for path in found if path.is_absolute() and path not in above]


def devices(alone: bool = False) -> Iterator[str]:
    """The devices a training may use."""
    try:
        names = os.listdir("/dev")  # noqa: PTH208 - names alone
    except OSError:
        return
    for name in names:
        if alone and name == "shm":
            continue
        if name in DEVICES or name.startswith(DEVICE_NAMES):
            yield f"/dev/{name}"


def around(root: str, holes: Iterable[str]) -> Iterator[str]:
    """Paths that together hold all that is in `root` now, but for the holes.

    Links are left out: what they lead to has its own place here, or is a hole. Raises OSError where too much
    lies beside a hole.
    """
    inside = [hole for hole in holes if is_within(hole, root)]
    if root in inside:
        return
    if not inside:
        yield root
        return
    try:
        entries = [entry.path for entry in os.scandir(root) if not entry.is_symlink()]
    except OSError:
        return
    if len(entries) > ENTRIES:
        raise OSError(
            f"{inside[0]} cannot be hidden among {len(entries)} files of {root}: give it a folder of its own"
        )
    for path in entries:
        yield from around(path, [hole for hole in inside if is_within(hole, path)])


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def real(paths: Iterable[str]) -> list[str]:
    """The paths as the kernel knows them, without what does not exist."""
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path)))  # noqa: PTH110


def temporary(cookie: str) -> Path:
    """The run's own folder for temporary files: a short path, because a socket's name holds 107 bytes."""
    import hashlib

    return Path(tempfile.gettempdir()) / f"autoresearch-{hashlib.sha256(cookie.encode()).hexdigest()[:12]}"


def _home(environment: Mapping[str, str]) -> Path | None:
    home = environment.get("HOME")
    return Path(home) if home and home.startswith("/") and home != "/" else None


def _user(environment: Mapping[str, str]) -> str:
    return environment.get("LOGNAME") or environment.get("USER") or ("root" if not os.geteuid() else "user")
