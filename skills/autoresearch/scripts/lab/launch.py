"""Starting a run: the journal's word first, then export, spec and supervisor."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import time
from pathlib import Path

from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.errors import REFUSED, LabError
from lab.model import HOST_FAILURES_ALLOWED, SCHEMA, Confirmation, Experiment, Run
from lab.redact import one_line
from lab.runners.environment import project_environment, resolve_argv
from lab.steps import step


def start(lab: Lab, experiment: Experiment, seed: int | None, beside: str = "") -> bool:
    """Journal that a run starts, then start it; False when the campaign is stopped.

    `beside` names the run that measured something else: this one finds out whose doing that is.
    """
    words: dict[str, object] = {"role": "probe", "side": beside} if beside else {}
    return _start(lab, experiment, experiment, seed, words)


def start_confirming(
    lab: Lab, confirmation: Confirmation, experiment: Experiment, pair: int, seed: int | None
) -> bool:
    """Start a run of `experiment` that belongs to `confirmation`, and to no decision."""
    words = {"role": "confirm", "confirmation": confirmation.id, "pair": pair}
    return _start(lab, confirmation, experiment, seed, words)


def _start(
    lab: Lab,
    place: Experiment | Confirmation,
    experiment: Experiment,
    seed: int | None,
    words: dict[str, object],
) -> bool:
    if lab.state.stopped:
        return False
    if place.host_failures >= HOST_FAILURES_ALLOWED:
        why = f"host trouble {HOST_FAILURES_ALLOWED} times in a row: {place.runs[-1].detail}"
        lab.journal.append("stopped", reason=one_line(why, 300), by="host")
        return False
    lab.journal.append(
        "run_started",
        experiment=experiment.id,
        run=f"{place.id}.{len(place.runs) + 1}",
        seed=seed,
        nonce=secrets.token_hex(8),
        commit=experiment.commit,
        **words,
    )
    run = place.runs[-1]
    prepare(lab, experiment, run)
    submit(lab, run)
    return True


def prepare(lab: Lab, experiment: Experiment, run: Run) -> None:
    """Export the commit and write the run's spec, last and whole: a spec means the export is complete."""
    settings, workspace = lab.settings, lab.workspace
    tree, folder = lab.tree_dir(run), lab.run_dir(run)
    protected = check_protected(lab, experiment.commit)
    step("run.export.before")
    workspace.export(experiment.commit, tree)
    step("run.export.after")
    _link_shared(lab, tree)
    env, argv = settings.argv()
    if experiment.args:
        argv += shlex.split(experiment.args)
    if run.role == "confirm":
        env |= lab.state.confirmations[run.id.split(".")[0]].env
    if run.seed is not None and settings.seed_env:
        env[settings.seed_env] = str(run.seed)
    if run.seed is not None and settings.seed_arg:
        argv += [settings.seed_arg, str(run.seed)]
    env.setdefault("AUTORESEARCH_BUDGET", f"{settings.seconds:g}")
    incumbent = lab.state.incumbent
    spec = {
        "schema": SCHEMA,
        "run": run.id,
        "nonce": run.nonce,
        "argv": resolve_argv(argv, _environment(lab), lab.root),
        "env_add": env,
        "tree": str(tree),
        "cwd": str(tree / workspace.prefix),
        "kill_after": settings.kill_after,
        "metric": {"name": settings.metric, "take": settings.take, "pattern": settings.pattern},
        "protected": {path: _sha256(tree / path) for path in protected},
        "incumbent_memory_gb": incumbent.memory_gb if incumbent else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "spec.json", json.dumps(spec, indent=1))
    step("run.spec.after")


def check_protected(lab: Lab, commit: str | None = None) -> list[str]:
    """Return the protected files, after making sure that `commit` has the baseline's version of each."""
    state, settings, workspace = lab.state, lab.settings, lab.workspace
    wanted = workspace.files(state.base, settings.protect)
    if commit and commit != state.base and workspace.files(commit, settings.protect) != wanted:
        raise LabError(f"commit {commit[:7]} changes a protected file", "this cannot be measured", REFUSED)
    return [path for path, blob in wanted.items() if blob.mode != "120000"]


def _link_shared(lab: Lab, tree: Path) -> None:
    """Link the git-ignored inputs of `share:` into the export."""
    for name in lab.settings.share:
        source, link = lab.root / name, tree / lab.workspace.prefix / name
        if source.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)


def submit(lab: Lab, run: Run) -> None:
    step("run.submit.before")
    lab.submitted.setdefault(run.id, []).append(time.monotonic())
    # What makes a program score the held-out split must not come in from the caller's shell: a confirmation's
    # run has it from its spec, and no other run may have it.
    hidden = dict(lab.settings.confirm_env)
    environment = {name: value for name, value in _environment(lab).items() if name not in hidden}
    lab.runner.submit(lab.run_dir(run), environment)
    step("run.submit.after")


def _environment(lab: Lab) -> dict[str, str]:
    return project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
