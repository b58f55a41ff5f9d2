from __future__ import annotations

import importlib
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from world import Project, a_project

from lab.jaxcode import remarks, uses_jax
from lab.sandbox.box import put_up
from lab.sandbox.policy import Policy

sys.path.insert(0, str(ROOT / "scripts" / "bench"))

# -- JAX code is read ----------------------------------------------------------------------------------

JAX = "import jax\nimport argparse\nfrom functools import partial\n"
FAULTS = {
    "not static: a branch": (
        JAX + "@jax.jit\ndef step(x, deep):\n    if deep:\n        x = x + 1\n    return x\n",
        "not static",
        "`deep`",
    ),
    "not static: a loop": (
        JAX + "def step(x, layers):\n    for i in range(layers):\n        x = x * 2\n    return x\n"
        "fast = jax.jit(step)\n",
        "not static",
        "`layers`",
    ),
    "init unlike apply: a switch": (
        JAX + "p = model.init(key, x, use_gate=True)\ny = model.apply(p, x)\n",
        "init unlike apply",
        "`use_gate`",
    ),
    "init unlike apply: inputs": (
        JAX + "p = model.init(key, x)\ny = model.apply(p, x, mask)\n",
        "init unlike apply",
        "2 arguments",
    ),
    "a switch read inside jit": (
        JAX + "args = argparse.ArgumentParser().parse_args()\n"
        "@jax.jit\ndef step(x):\n    return x * args.scale\n",
        "switch in jit",
        "args.scale",
    ),
    "a switch nobody reads": (
        JAX + "p = argparse.ArgumentParser()\np.add_argument('--use-gate')\nargs = p.parse_args()\n",
        "unread switch",
        "--use-gate",
    ),
    "a key spent twice": (
        JAX + "def init(key):\n    a = jax.random.normal(key, (2,))\n"
        "    b = jax.random.uniform(key, (2,))\n    return a, b\n",
        "key used twice",
        "`key`",
    ),
}
HONEST = {
    "static by name": "@partial(jax.jit, static_argnames=('deep',))\ndef step(x, deep):\n"
    "    if deep:\n        x = x + 1\n    return x\n",
    "static by number": "def step(x, n):\n    for i in range(n):\n        x = x + 1\n    return x\n"
    "fast = jax.jit(step, static_argnums=1)\n",
    "shapes and None are known": "@jax.jit\ndef step(x, mask=None):\n"
    "    if mask is not None and x.ndim == 2:\n        x = x * mask\n    return x\n",
    "split before each use": "def init(key):\n    key, a = jax.random.split(key)\n"
    "    x = jax.random.normal(a, (2,))\n    key, a = jax.random.split(key)\n"
    "    return x, jax.random.normal(a, (2,))\n",
    "equal switches": "p = model.init(key, x, gate=True)\ny = model.apply(p, x, gate=True, rngs=r)\n",
    "a switch passed on": "p = argparse.ArgumentParser()\np.add_argument('--use-gate')\n"
    "args = p.parse_args()\nrun(args.use_gate)\n",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_jax_code_is_found_by_reading(name: str) -> None:
    source, what, words = FAULTS[name]
    (found,) = remarks(source)
    assert found.what == what and words in found.shows


@pytest.mark.parametrize("name", HONEST)
def test_honest_jax_code_has_no_remark(name: str) -> None:
    assert remarks(JAX + HONEST[name]) == []


def test_code_that_does_not_parse_and_code_without_jax_have_none() -> None:
    assert remarks("def (") == [] and not uses_jax("def (")
    assert not uses_jax("import torch\n") and uses_jax("from flax import linen\n")


# -- the verbs, without torch --------------------------------------------------------------------------

TRAIN = 'value = 1.0\nprint(f"val_bpb: {value:.6f}")\n'


def measured(folder: Path, files: dict[str, str]) -> Project:
    project = a_project(folder, {"train.py": TRAIN, "prepare.py": "x = 1\n", **files})
    project.begin()
    return project


def test_health_of_jax_code_names_file_and_line(tmp_path: Path) -> None:
    code = "if 0:\n" + textwrap.indent(FAULTS["not static: a branch"][0], "    ")  # no JAX is installed
    project = measured(tmp_path / "p", {"train.py": code + TRAIN})
    project.write("train.py", TRAIN)  # what lies in the working tree is not the experiment
    found = project.ok("health", "e000")
    assert found["read"] == ["train.py"]
    assert [(r["file"], r["line"], r["what"]) for r in found["remarks"]] == [("train.py", 7, "not static")]
    assert "train.py:7 not static: `deep`" in project.run("health", "e000").out
    assert not list((project.root / ".autoresearch" / "probes").iterdir())


FAKE_TORCH = """class Tensor: ...
def is_tensor(x): return False
class _F: relu = scaled_dot_product_attention = None
class nn: functional = _F
"""


def test_a_project_that_gives_no_model_is_told_how_to(tmp_path: Path) -> None:
    project = measured(tmp_path / "p", {})
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    answer = project.run("--json", "verify-metric", env={"PYTHONPATH": str(tmp_path)})
    error = json.loads(answer.out)
    assert answer.code == 4 and "prepare.py and train.py lack" in error["message"]
    assert "probe: {model: file.py:function}" in error["fix"]


def test_a_probe_that_breaks_says_its_last_line(tmp_path: Path) -> None:
    project = measured(tmp_path / "p", {"probe.py": "def make():\n    raise ValueError('no data here')\n"})
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    answer = project.run(
        "--json", "health", "e000", "--model", "probe.py:make", env={"PYTHONPATH": str(tmp_path)}
    )
    assert answer.code == 4 and "no data here" in json.loads(answer.out)["message"]


def test_the_code_that_is_probed_may_not_write_into_the_project(tmp_path: Path) -> None:
    if put_up(Policy(write=())).facts["kind"] == "none":
        pytest.skip("this system has no sandbox")
    code = "from pathlib import Path\ndef make():\n    (Path(__file__).parents[3] / 'leak').write_text('x')\n"
    project = measured(tmp_path / "p", {"probe.py": code})
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    answer = project.run(
        "--json", "health", "e000", "--model", "probe.py:make", env={"PYTHONPATH": str(tmp_path)}
    )
    assert answer.code == 4 and "PermissionError" in json.loads(answer.out)["message"]
    assert not (project.root / "leak").exists()


ANSWERS = """
import random

draw = random.Random(3)
THINGS = [draw.choice((0, 0, 0, 1, 2, 3)) for _ in range(400)]
ROWS = [([thing + draw.random(), None if draw.random() < 0.05 else 1.0], thing) for thing in THINGS]
SEEN = []


def predict(x):
    SEEN.append(x)
    return FORGETS and len(SEEN) // 40 or min(3, int(x[0] + 0.1))


def score(predict, rows):
    guesses = [predict(x) for x, _ in rows if None not in x]
    labels = [y for x, y in rows if ALL or None not in x]
    right = sum(guess == label for guess, label in zip(guesses, labels)) / len(guesses)
    return 1 - right if ERROR else right


def make():
    train = ROWS[300:] if APART else ROWS
    return {"predict": predict, "val": ROWS[:300], "train": train, "score": score}
"""


@pytest.mark.parametrize(
    ("planted", "fail"),
    [
        ("", set()),
        ("ALL", {"right answers", "same for every order"}),
        ("ERROR", {"right answers", "shuffled labels", "constant answer"}),
        ("FORGETS", {"repeats", "leaves the model as it is"}),
        ("APART", {"splits are apart"}),
    ],
)
def test_a_score_of_plain_answers_is_checked_without_torch(
    planted: str, fail: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "skills" / "autoresearch" / "scripts" / "probes")
    switches = dict.fromkeys(("ALL", "ERROR", "FORGETS"), False) | {"APART": True}
    if planted:
        switches[planted] = not switches[planted]
    names: dict[str, Any] = dict(switches)
    exec(compile(ANSWERS, "probe.py", "exec"), names)
    answers = importlib.import_module("answers")
    found = {one.name: one for one in answers.verify({**names["make"](), "goal": "max"})}
    assert {name for name, one in found.items() if one.ok is False} >= fail
    if not planted:
        assert {one.ok for one in found.values()} == {True}


def test_a_probe_in_the_working_tree_checks_the_answers_of_a_project_without_torch(tmp_path: Path) -> None:
    project = measured(tmp_path / "p", {})
    head = "ALL, ERROR, FORGETS, APART = True, False, False, True\n"
    project.write("looks/probe.py", head + ANSWERS)
    answer = project.run("--json", "verify-metric", "--model", "looks/probe.py:make")
    assert answer.code == 4 and "right answers" in json.loads(answer.out)["failed"]
    assert "measurement: " in project.run("doctor").out
    project.write("looks/probe.py", "def make():\n    return {'predict': len}\n")
    error = json.loads(project.run("--json", "verify-metric", "--model", "looks/probe.py:make").out)
    assert "gives no `val`, `score`" in error["message"]


def test_a_model_that_is_no_function_of_a_file_is_a_usage_error(tmp_path: Path) -> None:
    measured(tmp_path / "p", {}).refused(2, "health", "e000", "--model", "probe.py")


def test_the_doctor_tells_what_verify_metric_last_found(tmp_path: Path) -> None:
    project = measured(tmp_path / "p", {})

    def said() -> dict[str, object]:
        checks = json.loads(project.run("--json", "doctor").out)["checks"]
        return next(check for check in checks if check["name"] == "measurement")

    assert said()["ok"] is None
    kept = project.root / ".autoresearch" / "measurement.json"
    checks = [{"name": "causal", "ok": True, "shows": ""}, {"name": "repeats", "ok": None, "shows": ""}]
    kept.write_text(json.dumps({"at": "2026-11-21", "checks": checks}))
    assert said()["ok"] is True
    checks[0]["ok"] = False
    kept.write_text(json.dumps({"at": "2026-11-21", "checks": checks}))
    assert said()["ok"] is False and "causal" in str(said()["text"])


# -- the probes themselves, with torch -----------------------------------------------------------------


@pytest.mark.slow
def test_every_unhealthy_part_is_found_and_healthy_models_are_left_alone() -> None:
    pytest.importorskip("torch")
    import diagnose_probes as bench

    rows = bench.parts()
    assert len(rows) >= 12
    assert [name for name, _, good, _ in rows if not good] == []
    assert [row for row in bench.healthy_parts() if row[1]] == []


@pytest.mark.slow
def test_every_fault_of_a_measurement_is_found_and_honest_ones_pass() -> None:
    pytest.importorskip("torch")
    import diagnose_probes as bench

    rows = bench.rulers()
    assert len(rows) >= 7
    assert [name for name, _, good, _ in rows if not good] == []
    assert [row for row in bench.honest_rulers() if row[1]] == []


@pytest.mark.slow
def test_runs_trained_now_are_diagnosed_as_the_recorded_ones() -> None:
    """A part of the zoo, live: faults that need no clock."""
    pytest.importorskip("torch")
    import diagnose as bench
    import diagnose_zoo as zoo
    import torch

    torch.set_num_threads(1)
    wanted = {"reference", "frozen weights", "rate x 300", "stale score", "shuffled labels", "another seed"}
    made = [
        {**about, "runs": [vars(zoo.train(setup))]}
        for about, setup in zoo.cases("first", shift=5)
        if about["family"] == "mlp" and about["name"].split(": ")[1] in wanted
    ]
    assert len(made) == len(wanted)
    outcomes = list(bench.diagnosed("first", made))
    assert [one.name for one in outcomes if one.truth and one.place != 1] == []
    assert [one.name for one in outcomes if not one.truth and one.symptoms] == []


@pytest.mark.slow
def test_verify_metric_and_health_work_on_a_project_through_its_own_function(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bench = ROOT / "scripts" / "bench"
    files = {name: (bench / name).read_text() for name in ("diagnose_zoo.py", "diagnose_rulers.py")}
    files["probe.py"] = "from diagnose_rulers import language, not_causal\n"
    project = measured(tmp_path / "p", files)
    project.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    project.ok("health", "--model", "probe.py:language")
    done = project.ok("verify-metric", "--model", "probe.py:language")
    assert done["failed"] == [] and len([c for c in done["checks"] if c["ok"]]) >= 8
    answer = project.run("--json", "verify-metric", "--model", "probe.py:not_causal")
    assert answer.code == 4 and json.loads(answer.out)["failed"] == ["causal"]
    assert "causal" in project.run("doctor").out
