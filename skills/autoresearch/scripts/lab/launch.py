"""Starting a run: the journal's word first, then export, spec and supervisor."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import occupancy, paces
from lab.atomic import sweep, write_atomic
from lab.campaign import Lab
from lab.errors import REFUSED, LabError
from lab.handing import handover
from lab.model import HOST_FAILURES_ALLOWED, SCHEMA, Confirmation, Experiment, Place, Run, Study
from lab.redact import one_line
from lab.runners.environment import project_environment, resolve_argv
from lab.sandbox.policy import Policy, caches, keys
from lab.sandbox.variables import named
from lab.slots import as_json
from lab.spec import is_plain_file
from lab.steps import step

HELPER = Path(__file__).resolve().parents[1]  # the helper's own code: no run may change it
START_SECONDS = 5.0  # for a supervisor from its start to its claim, 0.05 s on an idle machine
TEXTS, SOURCE_BYTES = (".py", ".sh", ".toml", ".yaml", ".yml", ".json", ""), 500_000


def start(lab: Lab, experiment: Experiment, seed: int | None, beside: str = "") -> bool:
    """Journal that a run starts, then start it; False when the campaign is stopped or no slot is free.

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


def start_variant(lab: Lab, study: Study, name: str, pair: int, seed: int | None) -> bool:
    """Start a run of an arm of `study`, which belongs to no decision either."""
    words: dict[str, object] = {"role": "study", "study": study.id, "side": name, "pair": pair}
    return _start(lab, study, lab.state.variant(study, name), seed, words)


def _start(
    lab: Lab,
    place: Place,
    experiment: Experiment,
    seed: int | None,
    words: dict[str, object],
) -> bool:
    if lab.state.stopped:
        return False
    # Runs that one fault of the machine may end together.
    beside = lab.width if place is not experiment else min(lab.width, experiment.repeats)
    if place.host_failures >= HOST_FAILURES_ALLOWED * beside:
        why = f"host trouble {HOST_FAILURES_ALLOWED} times in a row: {place.runs[-1].detail}"
        lab.journal.append("stopped", reason=one_line(why, 300), by="host")
        return False
    if handover.handed_out(lab):
        return handover.ask(lab, place, experiment, seed, words)
    if len(lab.state.going) >= lab.width or (experiment.verdict and experiment.open_run):
        return False  # no slot is free; of the incumbent one run at a time, so that each is learned from
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
    _take_scored(lab, tree)
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
    if run.role == "finish":  # nothing is trained: what the run `side` exported is scored
        argv, env = ["true"], env | dict(settings.confirm_env)
    env.setdefault("AUTORESEARCH_BUDGET", f"{settings.seconds:g}")
    incumbent = lab.state.incumbent
    spec: dict[str, object] = {
        "schema": SCHEMA,
        "run": run.id,
        "nonce": run.nonce,
        "argv": resolve_argv(argv, _environment(lab), lab.root),
        "env_add": env,
        "tree": str(tree),
        "cwd": str(tree / workspace.prefix),
        "kill_after": settings.kill_after,
        "metric": {"name": settings.metric, "take": settings.take, "pattern": settings.pattern},
        "protected": {path: _sha256(tree / path) for path in protected if (tree / path).exists()},
        "incumbent_memory_gb": incumbent.memory_gb if incumbent else None,
    }
    if lab.slots:
        place = str(occupancy.folder(os.environ))
        spec |= {"slots": as_json(lab.slots), "locks": place, "campaign": str(lab.root)}
        spec["when_busy"] = settings.when_busy
    terms = paces.terms(lab, experiment, run)
    spec |= {"early": terms} if terms else {}
    if settings.preflight is not None and not run.role and not experiment.good_runs:
        spec["preflight"] = shlex.split(settings.preflight)
    environment = _environment(lab)
    if settings.evaluate:
        spec["evaluation"] = _evaluation(lab, run, tree, environment)
    spec |= {
        "sandbox": policy_of(lab, environment).as_json(),
        "variables": [*settings.sandbox_env, *named(_sources(lab, tree), environment)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "spec.json", json.dumps(spec, indent=1))
    step("run.spec.after")


def policy_of(lab: Lab, environment: Mapping[str, str]) -> Policy:
    """What a run of this campaign may do; its own folders come to it when it starts."""
    settings = lab.settings
    shown = {os.path.realpath(lab.root / Path(path).expanduser()) for path in settings.sandbox_read}
    secret = [*keys(environment, lab.root), *_absolute(lab, settings.secret_files)]
    hidden = [path for path in secret if os.path.realpath(path) not in shown]
    opened = _absolute(lab, settings.sandbox_write)
    disk = int(settings.sandbox_disk_gb * 2**30)
    return Policy(
        write=(*caches(environment), *opened),
        hidden=tuple(hidden),
        locked=(str(lab.root), str(lab.workspace.common), str(HELPER)),
        needs=_needs(lab, environment),
        network=settings.network,
        mode=settings.sandbox,
        kind=settings.sandbox_kind,
        file_bytes=disk,
        disk_bytes=disk,
    )


def _needs(lab: Lab, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The program of a run, and what is shared with it."""
    _, argv = lab.settings.argv()
    program = shutil.which(resolve_argv(argv, environment, lab.root)[0], path=environment.get("PATH"))
    return (*([program] if program else []), *_absolute(lab, lab.settings.share))


def _absolute(lab: Lab, paths: Iterable[str]) -> list[str]:
    return [str(lab.root / Path(path).expanduser()) for path in paths]


def _evaluation(lab: Lab, run: Run, tree: Path, environment: dict[str, str]) -> dict[str, object]:
    """Export the baseline for the evaluation, and say how to run it there."""
    settings, workspace = lab.settings, lab.workspace
    pristine = tree.with_name(f"{tree.name}.sealed")
    workspace.export(lab.state.base, pristine)
    step("run.sealed_export.after")
    export = str(lab.home / "runs" / run.side if run.role == "finish" else lab.run_dir(run) / "out")

    def argv(command: str) -> list[str]:
        words = [word.replace("{export}", export) for word in shlex.split(command)]
        return resolve_argv(words, environment, lab.root)

    return {
        "argv": argv(settings.evaluate or ""),
        "tree": str(pristine),
        "cwd": str(pristine / workspace.prefix),
        "level": settings.evaluate_level,
        "hidden_argv": argv(settings.evaluate_hidden) if settings.evaluate_hidden else None,
        "hide": [str(path) for name in settings.evaluate_hide for path in lab.root.glob(name)],
        "keep": bool(settings.confirm_metric) and not run.role,
        "names": [name for name in (settings.metric, settings.confirm_metric) if name],
    }


def _sources(lab: Lab, tree: Path) -> list[str]:
    """The texts that the campaign edits and protects: what they name of the environment is the project's."""
    settings = lab.settings
    texts = [settings.command]
    for name in (*settings.edit, *settings.protect):
        place = tree / lab.workspace.prefix / name
        if place.suffix in TEXTS and is_plain_file(place):
            texts.append(place.read_bytes()[:SOURCE_BYTES].decode("utf-8", "replace"))
    return texts


def check_protected(lab: Lab, commit: str | None = None) -> list[str]:
    """Return the protected files, after making sure that `commit` has the baseline's version of each."""
    state, settings, workspace = lab.state, lab.settings, lab.workspace
    wanted = workspace.files(state.base, settings.protect)
    if commit and commit != state.base and workspace.files(commit, settings.protect) != wanted:
        raise LabError(f"commit {commit[:7]} changes a protected file", "this cannot be measured", REFUSED)
    return [path for path, blob in wanted.items() if blob.mode != "120000"]


def _take_scored(lab: Lab, tree: Path) -> None:
    """Take the committed files that a training may not read out of its export."""
    for name in lab.settings.evaluate_hide if lab.settings.evaluate else ():
        for place in (tree / lab.workspace.prefix).glob(name):
            if not place.is_dir():
                place.unlink()


def _link_shared(lab: Lab, tree: Path) -> None:
    """Link the git-ignored inputs of `share:` into the export."""
    for name in lab.settings.share:
        source, link = lab.root / name, tree / lab.workspace.prefix / name
        if source.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)


def starting(lab: Lab, run: Run) -> bool:
    """Whether a supervisor that this process started may still be on its way to its claim."""
    times = lab.submitted.get(run.id, [])
    return bool(times) and time.monotonic() - times[-1] < START_SECONDS


def start_unclaimed(lab: Lab, experiment: Experiment, run: Run) -> None:
    """Submit a run that nobody has taken up; its spec is written first where it is not there."""
    folder = lab.run_dir(run)
    if not (folder / "spec.json").exists():
        if folder.is_dir():
            sweep(folder)  # of the process that was killed while it wrote the spec
        prepare(lab, experiment, run)
    submit(lab, run)


def submit(lab: Lab, run: Run) -> None:
    step("run.submit.before")
    times = lab.submitted.setdefault(run.id, [])
    times.append(time.monotonic())
    # What makes a program score the held-out split must not come in from the caller's shell: a confirmation's
    # run has it from its spec, and no other run may have it.
    # Nor does a run see what `notify:` takes keys from: what it prints is kept.
    hidden = {*dict(lab.settings.confirm_env), *lab.settings.secret_names}
    environment = {name: value for name, value in _environment(lab).items() if name not in hidden}
    lab.runner.submit(lab.run_dir(run), environment)
    times[-1] = time.monotonic()  # a slow interpreter has had its time in there
    step("run.submit.after")


def _environment(lab: Lab) -> dict[str, str]:
    return project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
