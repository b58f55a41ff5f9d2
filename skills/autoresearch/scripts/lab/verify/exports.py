"""What ran: every commit exported once more, and the folders and tables the journal must account for."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

from lab import views
from lab.campaign import Lab
from lab.errors import LabError
from lab.launch import check_protected
from lab.model import Run, State
from lab.spec import is_plain_file
from lab.verify.found import Findings

RUN = re.compile(r"(?:e|c|a)\d+\.\d+")


def check_exports(lab: Lab, state: State, lines: dict[str, int], found: Findings) -> None:
    """Export every commit that ran once more, and compare it with what its runs were given."""
    runs: dict[str, list[Run]] = {}
    for place in state.places():
        for run in place.runs:
            runs.setdefault(run.commit, []).append(run)
    with tempfile.TemporaryDirectory(prefix="autoresearch-verify-") as scratch:
        tree = Path(scratch) / "tree"
        for commit, those in runs.items():
            line, who = lines.get(those[0].id), those[0].id
            try:
                check_protected(lab, commit)
                lab.workspace.export(commit, tree)
            except LabError as error:
                found.add(line, who, f"commit {commit[:12]} cannot be exported as it ran: {error.message}")
                continue
            found.exported += 1
            for run in those:
                for path in _other_than(lab, run, tree):
                    found.add(
                        lines.get(run.id),
                        run.id,
                        f"{path} of commit {commit[:12]} is not what this run was given",
                    )


def _other_than(lab: Lab, run: Run, tree: Path) -> list[str]:
    """Files of the export that differ from the hashes the run was started with."""
    try:
        spec = json.loads((lab.run_dir(run) / "spec.json").read_bytes())
    except (OSError, ValueError):
        return []
    given: dict[str, str] = {**spec.get("protected", {}), **spec.get("files", {})}
    return sorted(path for path, digest in given.items() if _sha256(tree / path) != digest)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if is_plain_file(path) else ""


def check_beyond(lab: Lab, state: State, found: Findings) -> None:
    """Witnesses of what the journal does not know: run folders without a record, an edited results.tsv."""
    known = {run.id for place in state.places() for run in place.runs}
    folder = lab.home / "runs"
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(there - known):
        if RUN.fullmatch(name):
            found.add(None, name, f"{folder.name}/{name} is a run that the journal lacks: lines were cut off")
    table = lab.root / "results.tsv"
    if table.exists() and not any(True for _ in state.unsettled()):
        wanted = views.results_tsv(state, lab.settings.metric).encode()
        if table.read_bytes() != wanted and state.counts()["open"] == 0:
            found.add(
                None, "results.tsv", "it is not what the journal gives; the next verdict writes it anew"
            )
