"""What an engine's job executes on its node: `python -I worker.py RUNDIR`, in the foreground.

It takes the run up at most once, whatever the engine starts twice, and hands it to the supervisor, which
keeps the clock, ends the process tree and writes `run.json`. Only that may say how a run went.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

TAKEN, ENVIRONMENT = "taken", "environment.json"
# What the engine has set for this job, and nobody else can know.
OF_THE_ENGINE = (
    "CUDA_VISIBLE_",
    "ROCR_VISIBLE_",
    "HIP_VISIBLE_",
    "GPU_DEVICE_",
    "ZE_AFFINITY_",
    "SLURM_",
    "RAY_",
)
FACTS = {"job": "SLURM_JOB_ID", "devices": "CUDA_VISIBLE_DEVICES"}
ALREADY = 75  # the exit status of a job that was started a second time


def take(run_dir: Path, *, withdrawn: bool = False) -> bool:
    """Take the run up; False when somebody has. Exclusive creation holds on network file systems too."""
    try:
        descriptor = os.open(run_dir / TAKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    record: dict[str, object] = {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time()}
    if withdrawn:
        record["withdrawn"] = True
    else:
        record |= {name: os.environ.get(variable) for name, variable in FACTS.items()}
    try:
        os.write(descriptor, json.dumps(record).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def environment(run_dir: Path) -> None:
    """Put on the environment the run was submitted with, but for what the engine has set here."""
    path = run_dir / ENVIRONMENT
    given = json.loads(path.read_bytes())
    path.unlink()  # before the training can read it
    own = {name: value for name, value in os.environ.items() if name.startswith(OF_THE_ENGINE)}
    kept = {name: value for name, value in given.items() if not name.startswith(OF_THE_ENGINE)}
    os.environ.clear()
    os.environ.update({**kept, **own})


def main(run_dir: Path) -> int:
    """Take up the run in `run_dir` and see it to its end."""
    if not take(run_dir):
        print(f"{run_dir.name} was taken up before, or withdrawn: nothing is done", flush=True)
        return ALREADY
    environment(run_dir)  # before anything of ours is imported: it holds the tests' crash points
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from lab.supervisor import main as supervise

    os.chdir("/")
    supervise(run_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
