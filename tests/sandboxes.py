"""What a harmful training tries, and the run it tries it in; scripts/bench/sandbox.py uses it too."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from runs import Result, a_run, result_of, until

from lab.sandbox.policy import Policy
from lab.supervisor import __file__ as SUPERVISOR

NOBODY = 65534

# Each tries one thing and prints its name when it went through; `world` names what lies outside.
PROBE = """
import json, os, pathlib, signal, socket, sys
world = json.loads(pathlib.Path("world.json").read_text())
def tries(name, action):
    try:
        action()
        print(f"{name}: through", flush=True)
    except (OSError, PermissionError, KeyError, ValueError) as error:
        print(f"{name}: denied {type(error).__name__}", flush=True)
def append(path):
    with open(path, "a") as file:
        file.write("x")
def connect():
    with socket.create_connection(("127.0.0.1", world["tcp"]), 2) as made:
        made.sendall(b"x")
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"through", ("127.0.0.1", world["udp"]))
    if world["no_udp"]:
        raise OSError("sent into a network of its own")
def hard_link():
    os.link(world["held"], "mine")
    open("mine").read()
def environment():
    assert b"PATH" in open(f"/proc/{world['victim']}/environ", "rb").read()
def large():
    with open("large", "wb") as file:
        file.truncate(world["limit"] + 2**20)
        file.seek(world["limit"] + 2**19)
        file.write(b"x")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tries("write the fixed files of the project", lambda: append(world["prepare"]))
tries("write the journal", lambda: append(world["journal"]))
tries("write .git/config", lambda: append(world["git"]))
tries("write into the home folder", lambda: append(world["home"] + "/.profile"))
tries("write its own run.json", lambda: append(world["run"] + "/run.json"))
tries("read a key", lambda: open(world["home"] + "/.ssh/id").read())
tries("read the scored data", lambda: open(world["held"]).read())
tries("read it by another name", hard_link)
tries("connect to a program of this machine", connect)
tries("send it a datagram", datagram)
tries("read the environment of another program", environment)
tries("end it", lambda: os.kill(world["victim"], signal.SIGTERM))
tries("see a token", lambda: os.environ["MY_API_TOKEN"])
tries("write a file over the limit", large)
print("--")
tries("write in its folder", lambda: append("here.txt"))
tries("leave a file for us", lambda: append(os.environ["AUTORESEARCH_RUN_DIR"] + "/kept.txt"))
tries("write a temporary file", lambda: append(os.environ["TMPDIR"] + "/t"))
tries("fill a cache", lambda: append(world["home"] + "/.cache/lib/c"))
tries("share memory", lambda: append("/dev/shm/autoresearch-probe"))
tries("use the loopback", lambda: socket.create_server(("127.0.0.1", 0)).close())
tries("read the data it trains on", lambda: open(world["data"]).read())
tries("see the project's own variable", lambda: os.environ["DATA_NAME"])
print("val_bpb: 1.0")
"""
HARMFUL, HONEST = 14, 8


@dataclass(frozen=True)
class World:
    """What lies around a run: a project, a home folder, and a program of somebody else."""

    root: Path
    victim: subprocess.Popen[bytes]
    received: Callable[[], bool]  # whether anything arrived from the run over the network
    run_dir: Path
    policy: Policy


@contextmanager
def a_world(user: int | None = None, kind: str = "landlock") -> Iterator[World]:
    """A run of PROBE before it starts, all around it owned by `user`, so that only a sandbox denies."""
    root = Path(os.path.realpath(tempfile.mkdtemp(prefix="sandboxes-")))
    root.chmod(0o755)  # another user has to come as far as its own folders
    home, project = root / "home", root / "project"
    for folder in (
        home / ".ssh",
        home / ".cache" / "lib",
        project / ".git",
        project / ".autoresearch",
        root / "runs",
    ):
        folder.mkdir(parents=True)
    files = {
        "prepare": project / "prepare.py",
        "journal": project / ".autoresearch" / "journal.jsonl",
        "git": project / ".git" / "config",
        "held": project / "data" / "val.bin",
        "data": project / "data" / "train.bin",
    }
    (project / "data").mkdir()
    for path in (*files.values(), home / ".ssh" / "id", home / ".profile"):
        path.write_text("as it was")
    (home / ".ssh").chmod(0o700)  # as ssh asks for
    python = python_of(NOBODY if kind == "uid" else user)
    sleeper = [python_of(user), "-c", "import time; time.sleep(300)"]
    victim = subprocess.Popen(sleeper, user=user, group=user)
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    limit = 2**20
    policy = Policy(
        write=(str(home / ".cache"),),
        hidden=(str(home / ".ssh"), str(files["held"])),
        locked=(str(project),),
        mode="required",
        kind=kind,
        needs=(python,),
        file_bytes=limit,
    )
    argv = [python, "train.py"]
    more: dict[str, object] = {"sandbox": policy.as_json(), "variables": ["DATA_NAME"], "argv": argv}
    run_dir = a_run(root / "runs", PROBE, **more)
    tree = root / "runs" / f"tree-{run_dir.name}"
    facts: dict[str, object] = {name: str(path) for name, path in files.items()}
    facts |= {"home": str(home), "run": str(run_dir), "victim": victim.pid, "limit": limit, "no_udp": True}
    facts |= {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
    (tree / "world.json").write_text(json.dumps(facts))
    if user is not None:
        for path in (root, *root.rglob("*")):
            os.chown(path, user, user)

    def received() -> bool:
        found = False
        for endpoint in (tcp, udp):
            endpoint.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if endpoint is tcp:
                    endpoint.accept()[0].close()
                else:
                    endpoint.recv(10)
                found = True
        return found

    try:
        yield World(root, victim, received, run_dir, policy)
    finally:
        victim.kill()
        victim.wait()
        tcp.close()
        udp.close()
        Path("/dev/shm/autoresearch-probe").unlink(missing_ok=True)
        shutil.rmtree(root)


def supervised(world: World, user: int | None = None) -> Result:
    """Execute the run of a world as `user` and return its result."""
    home = world.root / "home"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "MY_API_TOKEN": "hf_x", "DATA_NAME": "a"}
    command = [python_of(user), "-I", "-B", SUPERVISOR, str(world.run_dir)]
    subprocess.run(command, env=environment, user=user, group=user, check=True, stdout=subprocess.DEVNULL)
    until(lambda: whole(world.run_dir / "run.json"))
    return result_of(world.run_dir)


def whole(path: Path) -> bool:
    """Whether a result is there that nobody forged half of."""
    try:
        return "nonce" in json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False


def python_of(user: int | None) -> str:
    """A Python that `user` may start: ours may lie in a home folder."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if not subprocess.call(
                [path, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"], user=user
            ):
                return path
        except OSError:
            continue
    raise LookupError(f"user {user} can start no Python 3.10 here")


def answers(world: World) -> tuple[dict[str, str], dict[str, str]]:
    """What the probe said: of the harmful actions, and of the honest ones."""
    text = (world.run_dir / "run.log").read_text()
    harmful, _, honest = text.partition("--\n")
    rows = [
        dict(line.split(": ", 1) for line in part.splitlines() if ": " in line) for part in (harmful, honest)
    ]
    rows[1].pop("val_bpb", None)
    return rows[0], rows[1]


def without_sandbox(world: World) -> None:
    """Let the same run have no sandbox, to see what it does then."""
    path = world.run_dir / "spec.json"
    spec = json.loads(path.read_text())
    spec["sandbox"] = replace(world.policy, mode="off").as_json()
    path.write_text(json.dumps(spec))
    place = world.run_dir.with_name(f"tree-{world.run_dir.name}") / "world.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"no_udp": False}))
