"""Runs to an MLflow server through its REST interface; the mlflow package is not needed here.

Each run carries a tag with its own name, so that a second export finds it and doubles nothing. The last call
for a run marks it as whole: what a killed export left half is deleted and made anew.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lab.errors import LabError
from lab.export.bundle import Bundle, RunRow
from lab.model import Record
from lab.steps import step

API = "/api/2.0/mlflow/"
OURS, WHOLE = "autoresearch.run", "autoresearch.whole"
PATIENCE = 30.0  # seconds for one answer
METRICS_AT_ONCE = 1000  # the interface's limit for one call
STATUS = {"ok": "FINISHED", "cancelled": "KILLED", "killed": "KILLED"}
KEY = re.compile(r"[^\w\-. /]")
DEFAULT = "http://127.0.0.1:5000"


def send(bundle: Bundle, to: str | None) -> list[str]:
    """Bring every run to the server; return what was done in words."""
    server = _Server(to or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT)
    experiment = _experiment(server, f"autoresearch/{bundle.campaign}")
    there = {run[0]: run[1:] for run in _runs_there(server, experiment)}
    fresh = known = 0
    for row in bundle.runs:
        name = f"{bundle.campaign}/{row.id}"
        identity, whole = there.get(name, ("", False))
        if identity and not whole:
            server.ask("runs/delete", run_id=identity)
        if identity and whole:
            server.ask("runs/log-batch", run_id=identity, tags=_tags(row))  # a verdict may be reopened
            known += 1
        else:
            _make(server, experiment, name, row)
            fresh += 1
    where = f"{server.shown}/#/experiments/{experiment}"
    return [f"{fresh} runs sent, {known} were there: {where}"]


def _make(server: _Server, experiment: str, name: str, row: RunRow) -> None:
    began = int(1000 * row.started)
    tags = [{"key": OURS, "value": name}, *_tags(row)]
    made = server.ask("runs/create", experiment_id=experiment, run_name=row.id, start_time=began, tags=tags)
    identity = str(_part(_part(made, "run"), "info")["run_id"])
    step("export.mlflow.created")
    params = [{"key": k, "value": v[:500]} for k, v in row.words.items() if k in PARAMS]
    server.ask("runs/log-batch", run_id=identity, params=params)
    metrics = [_metric("loss_curve", y, began, x) for x, y in row.points]
    metrics += [_metric(k, v, began, 0) for k, v in row.numbers.items()]
    for i in range(0, len(metrics), METRICS_AT_ONCE):
        server.ask("runs/log-batch", run_id=identity, metrics=metrics[i : i + METRICS_AT_ONCE])
    end = began + int(1000 * row.numbers.get("seconds", 0.0))
    server.ask(
        "runs/update", run_id=identity, status=STATUS.get(row.words["outcome"], "FAILED"), end_time=end
    )
    step("export.mlflow.filled")
    server.ask("runs/set-tag", run_id=identity, key=WHOLE, value="yes")


PARAMS = ("experiment", "seed", "commit", "parent", "arguments", "role")  # what a run was given


def _tags(row: RunRow) -> list[Record]:
    """What became of a run, and the words beside it; the hypothesis as the description MLflow shows."""
    tags = {f"autoresearch.{k}": v for k, v in row.words.items() if k not in ("run", *PARAMS)}
    # MLflow shows a description as Markdown, images from elsewhere included: a code block stays text.
    tags["mlflow.note.content"] = f"    {row.words.get('hypothesis', '')}"
    return [{"key": key, "value": value} for key, value in tags.items()]


def _metric(key: str, value: float, at: int, x: int) -> Record:
    return {"key": KEY.sub("_", key)[:250], "value": value, "timestamp": at, "step": x}


def _experiment(server: _Server, name: str) -> str:
    try:
        found = server.ask(f"experiments/get-by-name?experiment_name={quote(name, safe='')}")
        return str(_part(found, "experiment")["experiment_id"])
    except _Missing:
        return str(server.ask("experiments/create", name=name)["experiment_id"])


def _runs_there(server: _Server, experiment: str) -> Iterator[tuple[str, str, bool]]:
    """(our name, the server's id, whether it is whole) of every run exported before."""
    token: object = ""
    while token is not None:
        page = server.ask(
            "runs/search", experiment_ids=[experiment], max_results=1000, page_token=token or None
        )
        runs = page.get("runs") or []
        assert isinstance(runs, list)
        for run in runs:
            tags = {tag["key"]: tag["value"] for tag in _part(run, "data").get("tags") or []}  # type: ignore[attr-defined]
            if OURS in tags:
                yield tags[OURS], str(_part(run, "info")["run_id"]), tags.get(WHOLE) == "yes"
        token = page.get("next_page_token")


def _part(found: Record, name: str) -> Record:
    part = found.get(name)
    if not isinstance(part, dict):
        raise LabError(f"the server's answer has no {name!r}", "is it an MLflow server?")
    return part


class _Missing(Exception):
    """What was asked for is not there."""


class _Nowhere(HTTPRedirectHandler):
    """Follows no redirect: the token is meant for the address that was named."""

    def redirect_request(self, *_: object) -> None:
        """Refuse, so that the answer counts as an error."""


class _Server:
    """An MLflow server at an address."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LabError(
                f"no http address: {address!r}",
                "start one with `mlflow server` and name it: export mlflow --to http://127.0.0.1:5000",
            )
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.shown = f"{parts.scheme}://{host}{parts.path}".rstrip("/")  # and no name or password
        self._headers = {"Content-Type": "application/json", **_login(parts.username, parts.password)}
        self._opener = build_opener(_Nowhere)

    def ask(self, call: str, **values: object) -> Record:
        """One call; GET without values."""
        body = json.dumps(values).encode() if values else None
        request = Request(self.shown + API + call, data=body, headers=self._headers)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                found = json.loads(answer.read() or b"{}")
        except HTTPError as error:
            said = error.read(300).decode("utf-8", "replace")
            if error.code == 404 and "RESOURCE_DOES_NOT_EXIST" in said:
                raise _Missing from error
            raise LabError(
                f"{self.shown} answers {error.code} to {call.split('?')[0]}: {said}", HELP
            ) from error
        except (OSError, ValueError) as error:
            raise LabError(f"{self.shown} does not answer as an MLflow server: {error}", HELP) from error
        return found if isinstance(found, dict) else {}


HELP = (
    "start one with `mlflow server`, or name another: export mlflow --to URL; a second export doubles nothing"
)


def _login(name: str | None, password: str | None) -> dict[str, str]:
    """Who we are, from the address or from MLflow's own variables."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    name = name or os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name:
        pair = f"{name}:{password or os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
