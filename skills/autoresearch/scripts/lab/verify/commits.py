"""What git bears witness to: commits, refs, the branch, and the notes on every verdict."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from lab.campaign import Lab
from lab.model import Experiment, Record, State
from lab.verify.found import Findings


def check_commits(lab: Lab, records: list[tuple[int, Record]], found: Findings) -> None:
    """Every commit is there with the content its name is the hash of, and is what its record says."""
    proposals = [(n, r) for n, r in records if r.get("event") in ("proposed", "rebased")]
    names = {str(r["commit"]) for _, r in proposals}
    objects = dict(_objects(lab, sorted(names)))
    force: dict[str, str] = {}
    for line, record in records:
        who, commit = str(record.get("experiment")), str(record.get("commit"))
        if "study" in record and "side" in record:
            who = f"{record['study']} {record['side']}"
        if record.get("event") in ("proposed", "rebased"):
            force[who] = commit
            text = objects.get(commit)
            if text is None:
                found.add(
                    line, who, f"commit {commit[:12]} is not in the repository, or its content is not its own"
                )
            elif not text.startswith(f"tree {record['tree']}\n".encode()):
                found.add(line, who, f"commit {commit[:12]} has another tree than the record says")
            elif who != "e000" and f"\nparent {record['parent']}\n".encode() not in text:
                found.add(line, who, f"commit {commit[:12]} has another parent than the record says")
        elif record.get("event") == "study_started":
            force |= _variants(record)
        elif record.get("event") == "run_started" and force.get(who) != commit:
            found.add(
                line, str(record.get("run")), f"it ran {commit[:12]}, its experiment is {force.get(who)}"
            )


def _variants(record: Record) -> dict[str, str]:
    """ "a1 without e003" -> the commit that this arm of a study runs."""
    arms = record["arms"]
    assert isinstance(arms, list)
    return {f"{record['study']} {arm['name']}": str(arm["commit"]) for arm in arms}


def _objects(lab: Lab, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The objects whose content has the name they are stored under, from one git process."""
    out = lab.workspace.run("cat-file", "--batch", stdin="".join(f"{n}\n" for n in names).encode())
    place = 0
    for name in names:
        end = out.index(b"\n", place)
        words = out[place:end].split()
        place = end + 1
        if len(words) != 3:
            continue  # "<name> missing"
        content = out[place : place + int(words[2])]
        place += int(words[2]) + 1
        made = hashlib.sha1 if len(name) == 40 else hashlib.sha256
        if made(words[1] + b" " + words[2] + b"\0" + content).hexdigest() == name:
            yield name, content


def check_refs(lab: Lab, state: State, lines: dict[str, int], found: Findings) -> None:
    """Each candidate's ref, the branch, and the notes git keeps of every verdict."""
    workspace = lab.workspace
    listed = workspace.run(
        "for-each-ref", "--format=%(objectname) %(refname)", f"refs/autoresearch/{state.tag}"
    )
    rows = (row.split() for row in listed.decode().splitlines())
    refs = {name: commit for commit, name in rows}
    for e in state.experiments.values():
        if not e.verdict and e.open_run is None and not e.runs:
            continue  # its ref may be on its way
        if refs.get(lab.ref(e.number), e.commit if e.id == "e000" else "") != e.commit:
            found.add(lines.get(e.id), e.id, f"{lab.ref(e.number)} is not the commit of the record")
    if not any(True for _ in state.unsettled()):
        at = workspace.read_ref(f"refs/heads/{state.branch}")
        if at != state.incumbent_commit:
            found.add(
                None,
                state.branch,
                f"it is at {str(at)[:12]}, the record's last keep is {state.incumbent_commit[:12]}",
            )
    notes = _notes(lab)
    known = {e.commit: e for e in state.experiments.values()}
    for commit, text in notes.items():
        if commit in known:
            _note(known[commit], text, lines, found)
        elif commit in refs.values() and not any(
            r.endswith(".proposed") for r, c in refs.items() if c == commit
        ):
            found.add(None, commit[:12], "git has a verdict on it that the journal lacks: lines were cut off")


def _notes(lab: Lab) -> dict[str, str]:
    """Commit -> our note on it."""
    from lab.workspace import NOTES_REF

    listed = lab.workspace.run("notes", f"--ref={NOTES_REF}", "list", ok=(0, 1)).decode().split()
    blobs = dict(_objects(lab, sorted(set(listed[::2]))))
    return {
        c: blobs[b].decode("utf-8", "replace")
        for b, c in zip(listed[::2], listed[1::2], strict=True)
        if b in blobs
    }


def _note(e: Experiment, text: str, lines: dict[str, int], found: Findings) -> None:
    """What git noted at the verdict against what the record says now; later runs are not in it."""
    said = dict(row.split(": ", 1) for row in text.splitlines() if ": " in row)
    line = lines.get(e.id)
    if said.get("experiment") != e.id:
        return
    if e.verdict is None and e.runs and "verdict" in said and said["verdict"] != "crash":
        found.add(None, e.id, "git notes a verdict on it that the journal lacks: lines were cut off")
    elif e.verdict and said.get("verdict") != e.verdict:
        found.add(line, e.id, f"the journal says {e.verdict}, git's note says {said.get('verdict')}")
    for run in e.runs:
        noted = said.get(f"run {run.id}", "").rpartition(", ")[2]
        if run.metric is not None and re.fullmatch(r"-?\d+\.\d{6}", noted) and noted != f"{run.metric:.6f}":
            text = f"the journal says {run.metric:.6f}, git's note says {noted}"
            found.add(lines.get(f"end {run.id}"), run.id, text)
