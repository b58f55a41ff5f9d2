"""A real Slurm and a real Ray on this machine, started once for all tests that ask for one.

What cannot be had here (no root, no package index) skips those tests, with the reason in words.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "slurm_for_tests"
PACKAGES = ("slurmctld", "slurmd", "munge", "slurm-client")
RAY = "2.60.0"
DEVICES = 2  # of both
# Made once for each Python of this machine: 57 packages.
RAY_FOLDER = (
    Path("~/.cache/autoresearch-tests").expanduser()
    / f"ray-{RAY}-{sys.version_info[0]}.{sys.version_info[1]}"
)


@dataclass(frozen=True)
class Place:
    """A cluster that is up: what its clients need in their environment, and in autoresearch.yaml."""

    kind: str
    env: dict[str, str]
    cluster: Cluster
    folder: Path

    def settings(self, slots: int) -> str:
        """The line of autoresearch.yaml; each run asks for one device."""
        address = f", address: {self.cluster.address}" if self.kind == "ray" else ""
        return f"runner: {{kind: {self.kind}, slots: {slots}, gpus: 1, cpus: 1{address}}}\n"

    def restart_node(self) -> None:
        """Kill the node's daemon with -9 and start another, as an update or a crash does."""
        pid = (self.folder / "run" / "slurmd.pid").read_text().strip()
        _run([*_as_root(), "kill", "-9", pid])
        end = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:  # it has its port until it is gone
            time.sleep(0.05)
        _run([*_as_root(), str(SCRIPT), "node", str(self.folder)])

    def saved_at(self) -> float:
        """When the controller last wrote down its jobs."""
        path = self.folder / "state" / "job_state"
        return path.stat().st_mtime if path.exists() else 0.0

    def kill_controller(self) -> None:
        """End the controller with -9."""
        _run([*_as_root(), "kill", "-9", (self.folder / "run" / "slurmctld.pid").read_text().strip()])

    def start_controller(self) -> None:
        """Start another, with what the killed one had written down."""
        _run([*_as_root(), str(SCRIPT), "controller", str(self.folder)])


def _run(argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


def _as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def _installed() -> bool:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return all(shutil.which(name, path=path) for name in ("slurmctld", "slurmd", "munged", "sbatch"))


def _install_slurm() -> None:
    """Take Slurm from the system's packages, or skip and say so."""
    try:
        rights = subprocess.run([*_as_root(), "true"], capture_output=True, check=False).returncode
    except OSError:
        rights = 1
    if rights:
        pytest.skip("not run: everything on Slurm, which is started as root (or by sudo without a password)")
    if _installed():
        return
    apt = [*_as_root(), "apt-get"]
    get = [*apt, "install", "-y", "--no-install-recommends", *PACKAGES]
    if shutil.which("apt-get"):
        for argv in (get, [*apt, "update"], get):
            subprocess.run(
                argv,
                capture_output=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                check=False,
            )
            if _installed():
                return
    pytest.skip(f"not run: everything on Slurm, because {', '.join(PACKAGES)} cannot be installed here")


def _install_ray() -> Path:
    program = RAY_FOLDER / "bin" / "ray"
    if program.exists():
        return program
    RAY_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(RAY_FOLDER)])
    get = [str(RAY_FOLDER / "bin" / "python"), "-m", "pip", "install", "-q", f"ray[default]=={RAY}"]
    done = subprocess.run(get, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(RAY_FOLDER)
        words = done.stderr.strip().splitlines()
        pytest.skip(
            f"not run: everything on Ray, because ray {RAY} cannot be installed: {words[-1] if words else ''}"
        )
    return program


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    _install_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    try:
        _run([*_as_root(), str(SCRIPT), "up", str(folder)])
        yield Place("slurm", {"SLURM_CONF": str(folder / "etc" / "slurm.conf")}, Cluster(gpus=1), folder)
    finally:
        _run([*_as_root(), str(SCRIPT), "down", str(folder)])


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """munge, slurmctld and slurmd with two fake devices."""
    yield from _slurm(tmp_path_factory)


@pytest.fixture
def own_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Slurm for a test that kills its controller: another one does not get every device back after it."""
    yield from _slurm(tmp_path_factory)


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Ray head with two devices, and a token that its clients must show."""
    program = _install_ray()
    folder = Path(tmp_path_factory.mktemp("ray"))
    short = Path("/tmp") / f"ray-tests-{os.getpid()}"  # its sockets lie there: a path of at most 107 bytes
    head, dashboard, agent, client = _free_ports(4)
    token = folder / "token"
    token.write_text("a-token-of-the-tests-and-of-nobody-else")
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": str(short)}
    try:
        _run(
            [
                str(program), "start", "--head", "--num-cpus=8", f"--num-gpus={DEVICES}",
                "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
                f"--dashboard-agent-listen-port={agent}", f"--port={head}",
                f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0",
                "--node-ip-address=127.0.0.1", "--disable-usage-stats", f"--temp-dir={short}",
            ],
            **env,
        )  # fmt: skip
        cluster = Cluster(gpus=1, cpus=1, address=f"http://127.0.0.1:{dashboard}")
        yield Place("ray", {"RAY_AUTH_TOKEN_PATH": str(token)}, cluster, folder)
    finally:
        stop_below(short)


def stop_below(folder: Path) -> None:
    """End the processes of the Ray whose session lies in `folder`; `ray stop` would end every Ray."""
    mark = str(folder).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in words:
                subprocess.run(["kill", "-9", entry.name], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The cluster that the test is parametrized with (`slurm` or `ray`), its variables set."""
    place: Place = request.getfixturevalue(f"{request.param}_cluster")
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    return place
