"""Probes of an experiment's code: parts of the model that do no work, and checks that the metric measures.

A probe runs in an export of the candidate, in the project's own Python and environment. What it found about
the measurement is kept in `.autoresearch/measurement.json`, where `doctor` reads it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lab.atomic import write_atomic
from lab.campaign import FIRST_SEED, Lab
from lab.errors import USAGE, LabError
from lab.jaxcode import Remark, remarks, uses_jax
from lab.launch import policy_of
from lab.model import Experiment, Record, now
from lab.redact import one_line
from lab.runners.environment import project_environment, resolve_argv
from lab.runners.probe import ask
from lab.spec import is_plain_file

SECONDS = 300.0  # of a probe, at most
KEPT = "measurement.json"
SHOWN = 12
WORDS = {"True": "passed", "False": "FAILED", "None": "not checked"}


def health(lab: Lab, experiment: Experiment, model: str | None, steps: int, seconds: float) -> Record:
    """What is unhealthy in the experiment's model, the worst first; JAX code is read instead."""
    with _export(lab, experiment) as folder:
        read = list(_jax_files(lab, folder))
        if read:
            files = [name for name, _ in read]
            found = [{"file": name, **vars(remark)} for name, all_of in read for remark in all_of]
            return {"experiment": experiment.id, "read": files, "remarks": found, "found": []}
        answer = _ask(lab, experiment, folder, "health.py", model, seconds, ["--steps", str(steps)])
    return {"experiment": experiment.id, "read": [], "remarks": [], **answer}


def verify(lab: Lab, experiment: Experiment, model: str | None, steps: int, seconds: float) -> Record:
    """The checks of the measurement, kept for `doctor`."""
    with _export(lab, experiment) as folder:
        more = ["--goal", lab.settings.goal, "--steps", str(steps)]
        answer = _ask(lab, experiment, folder, "verify.py", model, seconds, more)
    result = {"experiment": experiment.id, "commit": experiment.commit, "at": now(), **answer}
    write_atomic(lab.home / KEPT, json.dumps(result), durable=False)
    return result


def kept(lab: Lab) -> Record | None:
    """What `verify-metric` last found; None when it has not run."""
    try:
        found = json.loads((lab.home / KEPT).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("checks"), list) else None


@contextmanager
def _export(lab: Lab, experiment: Experiment) -> Iterator[Path]:
    """The experiment's code with the shared inputs, for as long as the body takes."""
    folder = lab.home / "probes" / f"{experiment.id}.{secrets.token_hex(4)}"
    folder.parent.mkdir(exist_ok=True)
    try:
        lab.workspace.export(experiment.commit, folder)
        inside = folder / lab.workspace.prefix
        for name in lab.settings.share:
            source, link = lab.root / name, inside / name
            if source.exists() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
        yield inside
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _jax_files(lab: Lab, folder: Path) -> Iterator[tuple[str, list[Remark]]]:
    """Files of `edit:` that import JAX, with the remarks on each."""
    for pattern in lab.settings.edit:
        for path in sorted(folder.glob(pattern)) if pattern != "." else sorted(folder.rglob("*.py")):
            if path.suffix == ".py" and path.is_file():
                source = path.read_text(encoding="utf-8", errors="replace")
                if uses_jax(source):
                    yield str(path.relative_to(folder)), remarks(source)


def _ask(
    lab: Lab,
    experiment: Experiment,
    folder: Path,
    script: str,
    model: str | None,
    seconds: float,
    more: list[str],
) -> Record:
    place = model or lab.settings.probe_model or ""
    if place and ":" not in place:
        raise LabError(f"{place!r} names no function", "write file.py:function", USAGE)
    _bring(lab, folder, place.rpartition(":")[0])
    environment = project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))
    extra, argv = lab.settings.argv()
    if lab.settings.seed_env:
        extra[lab.settings.seed_env] = str(FIRST_SEED)
    python = _python(resolve_argv(argv, environment, lab.root), environment, lab.root)
    extra.setdefault("AUTORESEARCH_BUDGET", f"{lab.settings.seconds:g}")
    scratch = folder / "tmp-of-the-probe"
    scratch.mkdir()
    environment |= {**extra, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(scratch)}
    policy = policy_of(lab, environment)
    policy = replace(policy, write=(*policy.write, str(folder)))
    options = [*more, *(["--model", place] if place else [])]
    answer = ask(script, [python, *options], environment, folder, seconds, policy)
    if "problem" in answer:
        raise LabError(
            f"nothing to probe: {one_line(str(answer['problem']), 300)}",
            "write a function that gives the model or its answers (see references/probes.md), and name it: "
            "`--model file.py:function`, or `probe: {model: file.py:function}` in autoresearch.yaml",
        )
    return answer


def _bring(lab: Lab, folder: Path, name: str) -> None:
    """Take a probe that nobody has committed from the working tree: it is no part of the candidate."""
    inside, source = folder / name, lab.root / name
    here = name and not Path(name).is_absolute() and ".." not in Path(name).parts
    if here and not inside.exists() and is_plain_file(source):
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, inside)


def _python(argv: list[str], environment: dict[str, str], root: Path) -> str:
    """The interpreter of the command, else the one that the project's environment has."""
    if argv and Path(argv[0]).name.startswith("python"):
        return argv[0]
    return resolve_argv(["python"], environment, root)[0]


# -- words ---------------------------------------------------------------------------------------------


def health_lines(found: Record) -> list[str]:
    """The unhealthy parts, or that there are none."""
    if found["read"]:
        notes = _list(found["remarks"])
        files = ", ".join(map(str, _all(found["read"])))
        told = [f"{found['experiment']}: {len(notes)} remarks from reading {files}"]
        return told + [
            f"  {n['file']}:{n['line']} {n['what']}: {one_line(str(n['shows']), 200)}; try: {n['attempt']}"
            for n in notes[:SHOWN]
        ]
    parts, bad = _list(found["parts"]), _list(found["found"])
    told = [f"{found['experiment']}: {len(bad)} findings in {len(parts)} parts, after {found['steps']} steps"]
    for one in bad[:SHOWN]:
        shows = one_line(str(one["shows"]), 200)
        told.append(f"  {one_line(str(one['part']), 80)}: {one['what']}, {shows}; try: {one['attempt']}")
    if len(bad) > SHOWN:
        told.append(f"  and {len(bad) - SHOWN} more (--json)")
    return told if bad else [told[0].replace("0 findings", "healthy: no finding")]


def verify_lines(found: Record) -> list[str]:
    """Each check in a line, failures first."""
    checks = sorted(_list(found["checks"]), key=lambda c: (c["ok"] is not False, c["ok"] is None))
    counts = [sum(c["ok"] is state for c in checks) for state in (True, False, None)]
    told = [f"{found['experiment']}: {counts[0]} passed, {counts[1]} failed, {counts[2]} not checked"]
    return told + [f"  {WORDS[str(c['ok'])]}: {c['name']}: {one_line(str(c['shows']), 200)}" for c in checks]


def failed(found: Record) -> list[str]:
    """The names of the checks that failed."""
    return [str(check["name"]) for check in _list(found["checks"]) if check["ok"] is False]


def _all(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _list(value: object) -> list[dict[str, object]]:
    return [one for one in _all(value) if isinstance(one, dict)]
