"""The folder of a run request: code, page, script and facts, and the one archive to hand over.

It is made from the journal and git alone, so one that a killed process left unfinished is made again, with
the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.atomic import sync_folder, write_atomic
from lab.campaign import Lab
from lab.errors import LabError
from lab.handing.request import PYTHON, Planned, Request, page
from lab.handing.runscript import script
from lab.model import Experiment, Run
from lab.spec import is_plain_file
from lab.steps import step


def runs_of(lab: Lab, identity: str) -> list[Run]:
    """The runs of a request, whether their results are back or not."""
    return [run for place in lab.state.places() for run in place.runs if run.request == identity]


def planned(lab: Lab, identity: str) -> tuple[Planned, ...]:
    """The runs of a request with their words."""
    experiment = lab.state.get(lab.state.requests[identity]["experiment"])
    return tuple(Planned(run.id, run.seed, words_of(lab, experiment, run)) for run in runs_of(lab, identity))


def words_of(lab: Lab, experiment: Experiment, run: Run | None) -> tuple[str, ...]:
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


def folder(lab: Lab, identity: str) -> Path:
    """Where a request lies; its archive is the file beside it."""
    return lab.home / "requests" / identity


def complete(lab: Lab) -> None:
    """Make the folders that a killed process left out."""
    for identity in dict.fromkeys(run.request for _, run in lab.state.handed()):
        if not lab.archive(identity).exists():
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
    pack(tree, draft / "code.tar.gz", "")
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
    pack(place, whole.with_name(f"{identity}.tar.gz.draft"), identity)
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


def pack(source: Path, target: Path, name: str) -> None:
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
    place = target / lab.archive(identity).name
    write_atomic(place, lab.archive(identity).read_bytes())
    return place
