"""Asking a person for runs: the journal's word first, then the folder with everything they need.

What is asked for counts as started, so that the loop waits for it as it does for a run of its own. The
folder is made from the journal and git alone: one that a killed process left unfinished is made again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.atomic import sync_folder, write_atomic
from lab.campaign import Lab
from lab.errors import CONFIG, REFUSED, LabError
from lab.handing.request import PYTHON, Planned, Request, page
from lab.handing.runscript import script
from lab.model import BASELINE, ELSEWHERE, Confirmation, Experiment, Place, Run
from lab.redact import hide_secrets
from lab.spec import is_plain_file
from lab.steps import step

FIRST_SEEDS = 2  # of a candidate: a round trip costs a person more than a run costs the machine
COLLABORATIVE = "collaborative"


def handed_out(lab: Lab) -> bool:
    """Whether this campaign's runs are executed by a person."""
    return lab.settings.mode == COLLABORATIVE


def ask(
    lab: Lab, place: Place, experiment: Experiment, seed: int | None, words: Mapping[str, object]
) -> bool:
    """Ask for the run that the loop would start; False when that was asked before or a result is held."""
    if _waits(lab.state.moved, place, experiment, seed):
        return False
    planned = {name: value for name, value in words.items() if name in ("role", "side", "pair")}
    if isinstance(place, Confirmation) or "study" in words:
        planned.setdefault("side", experiment.id)
    seeds = [seed] if planned or place is not experiment else _seeds(lab, experiment, seed)
    request(lab, place, experiment, seeds, planned)
    return True


def _waits(moved: int, place: Place, experiment: Experiment, seed: int | None) -> bool:
    """Whether a person has the run already, or it came back from a machine nothing was compared on so far."""
    runs = [run for run in place.runs if run.commit == experiment.commit]
    asked = any(run.outcome is None and run.request for run in runs)
    held = any(run.outcome == ELSEWHERE and run.ended > moved and run.seed == seed for run in runs)
    return asked or held


def _seeds(lab: Lab, experiment: Experiment, seed: int | None) -> list[int | None]:
    """The seeds to ask for at once, from `seed` on."""
    have = [run for run in experiment.runs if run.commit == experiment.commit and run.counts]
    if experiment.id == BASELINE:
        wanted = max(1, experiment.repeats - len(have))
    else:
        wanted = 1 if have or experiment.verdict else FIRST_SEEDS
    return more_seeds(lab, experiment, wanted) if wanted > 1 else [seed]


def more_seeds(lab: Lab, experiment: Experiment, count: int) -> list[int | None]:
    """The next seeds of the one list that this experiment has no result for."""
    taken = {run.seed for run in experiment.runs if run.commit == experiment.commit and run.counts}
    found: list[int | None] = []
    index = 0
    while len(found) < count:
        seed = lab.seed(index)
        index += 1
        if seed is None or seed not in taken:
            found.append(seed)
    return found


def request(
    lab: Lab,
    place: Place,
    experiment: Experiment,
    seeds: list[int | None],
    words: Mapping[str, object],
    anchor: bool = False,
) -> str:
    """Journal a request, make its folder, return its id; `anchor`: compare on its machine then."""
    if lab.settings.evaluate:
        raise LabError(
            "`evaluate:` scores a run in a process of the tool, which another machine does not have",
            "run it here (mode: autonomous), or let the program print the metric itself",
            CONFIG,
        )
    command = _words(lab, experiment, None)
    if hide_secrets("\n".join(command)) != "\n".join(command):
        raise LabError(
            "the command holds what looks like a key, and a request is sent around",
            "let the program read it from the environment: the person sets it there",
            REFUSED,
        )
    first = len(place.runs) + 1
    runs = [{"id": f"{place.id}.{first + n}", "seed": seed, **words} for n, seed in enumerate(seeds)]
    identity = f"r{len(lab.state.requests) + 1:03d}"
    lab.journal.append(
        "requested",
        request=identity,
        token=secrets.token_hex(16),
        place=place.id,
        experiment=experiment.id,
        commit=experiment.commit,
        runs=runs,
        anchor=anchor,
    )
    step("request.journalled")
    write(lab, identity)
    return identity


def _words(lab: Lab, experiment: Experiment, run: Run | None) -> tuple[str, ...]:
    """Settings, `--` and command of a run, as the script passes them on."""
    env, argv = lab.settings.argv()
    argv += shlex.split(experiment.args) if experiment.args else []
    if run and run.role == "confirm":
        env |= lab.state.confirmations[run.id.split(".")[0]].env
    if run and run.seed is not None and lab.settings.seed_env:
        env[lab.settings.seed_env] = str(run.seed)
    if run and run.seed is not None and lab.settings.seed_arg:
        argv += [lab.settings.seed_arg, str(run.seed)]
    env.setdefault("AUTORESEARCH_BUDGET", f"{lab.settings.seconds:g}")
    if argv and argv[0] in ("python", "python3"):
        argv[0] = PYTHON
    return (*(f"{name}={value}" for name, value in env.items()), "--", *argv)


def back(lab: Lab) -> tuple[Experiment, Run] | None:
    """A run whose result has been brought back and is not in the journal yet."""
    found = ((e, run) for e, run in lab.state.handed() if (lab.run_dir(run) / "run.json").exists())
    return next(found, None)


def give_up(lab: Lab) -> bool:
    """Wait no longer for the rest of a request of which a run failed; whether there was one."""
    for identity in dict.fromkeys(run.request for _, run in lab.state.handed()):
        failed = next((run for run in runs_of(lab, identity) if run.failed), None)
        if failed:
            lab.journal.append("withdrawn", request=identity, reason=f"{failed.id} failed")
            step("request.withdrawn")
            return True
    return False


def runs_of(lab: Lab, identity: str) -> list[Run]:
    """The runs of a request, whether their results are back or not."""
    return [run for place in lab.state.places() for run in place.runs if run.request == identity]


def planned(lab: Lab, identity: str) -> tuple[Planned, ...]:
    """The runs of a request with their words."""
    experiment = lab.state.get(lab.state.requests[identity]["experiment"])
    return tuple(Planned(run.id, run.seed, _words(lab, experiment, run)) for run in runs_of(lab, identity))


# -- the folder -----------------------------------------------------------------------------------------


def folder(lab: Lab, identity: str) -> Path:
    """Where a request lies; its archive is the file beside it."""
    return lab.home / "requests" / identity


def archive(lab: Lab, identity: str) -> Path:
    """The one file to hand over."""
    return lab.home / "requests" / f"{identity}.tar.gz"


def complete(lab: Lab) -> None:
    """Make the folders that a killed process left out."""
    for identity in dict.fromkeys(run.request for _, run in lab.state.handed()):
        if not archive(lab, identity).exists():
            write(lab, identity)


def write(lab: Lab, identity: str) -> None:
    """Make the folder of a request, and last its archive, which says that all of it is there."""
    place = folder(lab, identity)
    draft = place.with_name(f"{identity}.draft")
    for old in (draft, place):
        shutil.rmtree(old, ignore_errors=True)
    draft.mkdir(parents=True)
    made = lab.state.requests[identity]
    experiment = lab.state.get(made["experiment"])
    tree = draft / "tree"
    lab.workspace.export(made["commit"], tree)
    step("request.exported")
    _pack(tree, draft / "code.tar.gz", "")
    told = _told(lab, identity, made, experiment, tree, _sha256(draft / "code.tar.gz"))
    shutil.rmtree(tree)
    (draft / "REQUEST.md").write_text(page(told), encoding="utf-8")
    (draft / "run.sh").write_text(script(told), encoding="utf-8")
    (draft / "run.sh").chmod(0o755)
    (draft / "request.json").write_text(json.dumps(asdict(told), indent=1), encoding="utf-8")
    if experiment.parent != made["commit"]:
        patch = lab.workspace.diff(experiment.parent, made["commit"])
        (draft / "change.patch").write_text(patch, encoding="utf-8", errors="surrogateescape")
    draft.replace(place)
    sync_folder(place.parent)
    step("request.folder")
    whole = place.with_name(f"{identity}.tar.gz")
    _pack(place, whole.with_name(f"{identity}.tar.gz.draft"), identity)
    whole.with_name(f"{identity}.tar.gz.draft").replace(whole)
    step("request.archived")


def _told(
    lab: Lab, identity: str, made: Mapping[str, Any], experiment: Experiment, tree: Path, code: str
) -> Request:
    settings, workspace = lab.settings, lab.workspace
    protected = workspace.files(lab.state.base, settings.protect)
    return Request(
        id=identity,
        token=str(made["token"]),
        campaign=lab.state.tag,
        experiment=experiment.id,
        commit=str(made["commit"]),
        hypothesis=experiment.hypothesis,
        because=experiment.because,
        expect=experiment.expect,
        metric=settings.aim,
        runs=planned(lab, identity),
        seconds=settings.seconds,
        kill_after=settings.kill_after,
        inside=workspace.prefix,
        share=tuple(name for name in settings.share if (lab.root / name).exists()),
        protected={path: _sha256(tree / path) for path in protected if is_plain_file(tree / path)},
        variables=settings.sandbox_env,
        files=tuple(experiment.files),
        code_sha256=code,
    )


def _pack(source: Path, target: Path, name: str) -> None:
    """Write the files of a folder as a tar.gz whose bytes depend on them alone."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with target.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(source.iterdir()):
                archive.add(path, f"{name}/{path.name}" if name else path.name, filter=plain)
        packed.flush()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def known_code(lab: Lab, identity: str) -> str | None:
    """The hash of the code that was handed over; None when the folder is gone."""
    try:
        found = json.loads((folder(lab, identity) / "request.json").read_bytes())["code_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def copy_to(lab: Lab, identity: str, target: Path) -> Path:
    """Put the archive of a request into a folder of the person's."""
    if not target.is_dir():
        raise LabError(f"{target} is no folder", "name one that exists")
    place = target / archive(lab, identity).name
    write_atomic(place, archive(lab, identity).read_bytes())
    return place
