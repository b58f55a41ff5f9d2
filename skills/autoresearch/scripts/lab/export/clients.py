"""Runs through the clients of Weights & Biases (offline) and Trackio, where these packages are installed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.export.bundle import Bundle, RunRow
from lab.steps import step

DONE = "autoresearch-whole"  # the file that marks a run's folder as exported to its end


def needed(package: str) -> Any:
    """Import an optional package, or say with which command it is installed for this Python."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        pip = importlib.util.find_spec("pip") is not None
        how = f"{sys.executable} -m pip install" if pip else f"uv pip install --python {sys.executable}"
        raise LabError(f"{package} is not installed for {sys.executable}", f"{how} {package}") from error


def wandb_offline(bundle: Bundle, to: Path) -> list[str]:
    """Write each run as an offline run; `wandb sync` brings them to a server, which we never do."""
    wandb = needed("wandb")
    to.mkdir(parents=True, exist_ok=True)
    os.environ.update(WANDB_SILENT="true", WANDB_MODE="offline", WANDB_DIR=str(to))
    fresh = 0
    for row in bundle.runs:
        identity = _plain(f"{bundle.campaign}-{row.id}")
        made = list(to.glob(f"wandb/offline-run-*-{identity}"))
        if any((folder / DONE).exists() for folder in made):
            continue
        for folder in made:  # what a killed export left half: a server would take it for the run
            shutil.rmtree(folder)
        settings = wandb.Settings(console="off", save_code=False, disable_git=True, silent=True,
                                  x_disable_stats=True, x_disable_meta=True)  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is our answer's
            run = wandb.init(project=_plain(f"autoresearch-{bundle.campaign}"), id=identity, name=row.id,
                             dir=str(to), mode="offline", group=row.experiment, tags=[row.words["verdict"]],
                             config=row.words, notes=row.words.get("hypothesis"),
                             settings=settings)  # fmt: skip
            folder = Path(run.dir).parent
            for x, y in _rising(row):
                run.log({"loss": y}, step=x)
            run.summary.update(row.numbers)
            step("export.wandb.filled")
            run.finish()
        (folder / DONE).write_text("yes\n")
        step("export.wandb.run")
        fresh += 1
    return [f"{fresh} runs written, {len(bundle.runs) - fresh} were there: {to / 'wandb'}",
            f"to a server: wandb sync {to / 'wandb'}/offline-run-*"]  # fmt: skip


def trackio(bundle: Bundle, to: Path) -> list[str]:
    """Write each run into a Trackio folder; nothing leaves the machine."""
    to.mkdir(parents=True, exist_ok=True)
    os.environ.update(TRACKIO_DIR=str(to), HF_HUB_OFFLINE="1", GRADIO_ANALYTICS_ENABLED="False")
    client = needed("trackio")
    project, fresh = _plain(f"autoresearch-{bundle.campaign}"), 0
    for row in bundle.runs:
        mark = to / f"{_plain(row.id)}.{DONE}"
        if mark.exists():
            continue
        with contextlib.redirect_stdout(io.StringIO()):  # it greets every run
            _forget(client, project, row.id)
            client.init(project=project, name=row.id, group=row.experiment, config=row.words, embed=False,
                        auto_log_gpu=False, auto_log_cpu=False)  # fmt: skip
            for x, y in _rising(row):
                client.log({"loss": y}, step=x)
            client.log({f"result/{name}": value for name, value in row.numbers.items()})
            step("export.trackio.filled")
            client.finish()
        mark.write_text("yes\n")
        step("export.trackio.run")
        fresh += 1
    look = f"TRACKIO_DIR={to} trackio show --project {project}"
    return [f"{fresh} runs written, {len(bundle.runs) - fresh} were there: {to}", f"look: {look}"]


def _forget(client: Any, project: str, name: str) -> None:
    """Delete what a killed export left of a run: the new one would stand beside it under the same name."""
    with contextlib.suppress(ValueError):  # there is no such project yet
        for run in list(client.Api().runs(project)):
            if run.name == name:
                run.delete()


def _rising(row: RunRow) -> list[tuple[int, float]]:
    """The points from step 0 on: these clients take no negative step."""
    return [(x, y) for x, y in row.points if x >= 0]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)
