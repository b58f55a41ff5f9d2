"""Runs as Ray jobs, through the REST interface of Ray's dashboard: no ray is needed on this machine.

Ray has no time limit, and forgets every job when its head ends. The supervisor keeps the clock; a forgotten
job is a lost run, which is repeated.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from lab.cluster import Cluster
from lab.redact import one_line
from lab.runners.base import Examined
from lab.runners.engine import LOOK_SECONDS, WORKER, Engine, EngineUnavailable, Job

ANSWER_SECONDS = 20.0
LARGEST = 4_000_000  # bytes of one answer
PHASES: dict[str, Job] = {
    "PENDING": Job("waiting"), "RUNNING": Job("running"), "STOPPED": Job("ended", "stopped"),
    "FAILED": Job("ended"), "SUCCEEDED": Job("ended"),
}  # fmt: skip
UNKNOWN = Job("unknown", words="Ray does not know this job")


class Head:
    """Ray's dashboard; the run's label is the job's id, so handing in twice is impossible."""

    name = "ray"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen: dict[str, tuple[float, Job]] = {}  # label -> seconds since 1970, what was answered

    def send(self, run_dir: Path, label: str, minutes: int) -> str:
        """Hand the run in; the node must see `run_dir` and this very program at the same paths."""
        folder = run_dir.resolve()
        words = [self.cluster.python or sys.executable, "-I", str(WORKER), str(folder)]
        log = shlex.quote(str(folder / "supervisor.log"))  # and not Ray's own, which nobody looks into
        asked = {"entrypoint_num_gpus": self.cluster.gpus, "entrypoint_num_cpus": self.cluster.cpus}
        job = {
            "entrypoint": f"exec {shlex.join(words)} >>{log} 2>&1",
            "submission_id": label,
            **{name: value for name, value in asked.items() if value is not None},
        }
        self.seen.pop(label, None)
        status, answer = self._ask("POST", "/api/jobs/", job)
        if status != 200 and self.find(label) is None:  # Ray answers 500 to an id that it has
            said = one_line(answer.strip().splitlines()[-1] if answer.strip() else f"HTTP {status}", 300)
            if status >= 500:
                raise EngineUnavailable(said)
            raise OSError(said)
        return label

    def find(self, label: str) -> str | None:
        """The job's id, which is the label, when Ray knows it."""
        return None if self._fetch(label).phase == "unknown" else label

    def look(self, identity: str, label: str, since: float) -> Job:
        """Where the job stands."""
        at, job = self.seen.get(label, (0.0, UNKNOWN))
        return job if at > max(since, time.time() - LOOK_SECONDS) else self._fetch(label)

    def _fetch(self, label: str) -> Job:
        moment = time.time()
        status, answer = self._ask("GET", f"/api/jobs/{label}")
        if status == 404:
            job = UNKNOWN
        else:
            said = _object(answer, status)
            state = str(said.get("status"))
            known = PHASES.get(state)
            if known is None:
                raise EngineUnavailable(f"Ray names a state {state!r}")
            message = one_line(str(said.get("message") or ""), 120)
            job = Job(known.phase, known.why, f"{state} ({message})")
        self.seen[label] = moment, job
        return job

    def end(self, identity: str, *, waiting: bool) -> None:
        """Stop the job; Ray cannot be asked to stop it only while it waits, so that is looked up before."""
        if not waiting or self._fetch(identity).phase == "waiting":
            self._ask("POST", f"/api/jobs/{identity}/stop")
        self.seen.pop(identity, None)

    def examine(self) -> Examined:
        """Whether the dashboard answers, and which Ray it is."""
        status, answer = self._ask("GET", "/api/version")
        version = _object(answer, status).get("ray_version")
        self._ask("GET", "/api/jobs/")  # a token that is missing shows here
        return Examined(True, f"Ray {version} at {self.cluster.address}")

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and text of one answer. Raises EngineUnavailable where there is none, or no right."""
        headers = {"Content-Type": "application/json"}
        token = _token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.cluster.address.rstrip("/") + path, data=data, headers=headers, method=method)
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=ANSWER_SECONDS) as answer:
                return int(answer.status), answer.read(LARGEST).decode("utf-8", "replace")
        except HTTPError as error:
            with error:
                if error.code in (401, 403):
                    raise EngineUnavailable("it wants a token: set RAY_AUTH_TOKEN") from None
                return error.code, error.read(LARGEST).decode("utf-8", "replace")
        except (OSError, HTTPException) as error:
            reason = one_line(str(getattr(error, "reason", error)) or type(error).__name__, 120)
            raise EngineUnavailable(f"{self.cluster.address}: {reason}") from None


def _object(text: str, status: int) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if status != 200 or not isinstance(found, dict):
        raise EngineUnavailable(f"HTTP {status}: {one_line(text, 120)}")
    return found


def _token() -> str:
    """Ray's own token, from where Ray's own programs take it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class Ray(Engine):
    """The runner `kind: ray`."""

    def __init__(self, cluster: Cluster | None = None) -> None:
        super().__init__(Head(cluster or Cluster()))
