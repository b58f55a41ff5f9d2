"""Real runs of train.py: what they leave behind, what they refuse, and what makes two of them the same."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import runpy
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_target import (
    ROOT,
    a_budget,
    edited,
    load_train,
    no_products,
    prepare,
    prepared,
    settings_for,
    small_corpus,
    summary,
    train,
)

__all__ = ["edited", "no_products", "prepared", "small_corpus"]  # fixtures

INTERPRETERS = [f"python3.{minor}" for minor in range(10, 14)]


# ---------------------------------------------------------------------------
# Which Python, and what it must not need
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prepare.py", "train.py"])
def test_the_target_is_written_in_python_3_10(name: str) -> None:
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("name", ["prepare.py", "train.py"])
def test_the_target_compiles_on_every_python_that_is_here(
    name: str, interpreter: str, tmp_path: Path
) -> None:
    if not (shutil.which(interpreter) and not subprocess.call([interpreter, "-c", ""], stderr=-3)):
        pytest.skip(f"no {interpreter} here")
    program = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)"
    subprocess.run([interpreter, "-c", program, str(ROOT / name), str(tmp_path / "out.pyc")], check=True)


def test_data_are_made_without_torch_and_without_a_network(small_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    program = """
import sys
sys.modules["torch"] = None
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
import prepare
prepare.main()
"""
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AUTORESEARCH_CORPUS": f"text:{small_corpus}",
        "AUTORESEARCH_DATA": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fingerprint" in done.stdout


# ---------------------------------------------------------------------------
# What may be compared
# ---------------------------------------------------------------------------


def key_of(changed: dict[str, str] | None = None, fingerprint: str = "f") -> str:
    class Known:
        def __init__(self) -> None:
            self.fingerprint = fingerprint

    return str(prepare.comparison_key(Known(), settings_for(**(changed or {}))))


@pytest.mark.parametrize(
    "changed",
    [
        {"AUTORESEARCH_PRESET": "smoke"},
        {"AUTORESEARCH_BUDGET": "61"},
        {"AUTORESEARCH_BUDGET": "wall:60"},
        {"AUTORESEARCH_THREADS": "2"},
    ],
)
def test_another_preset_budget_or_share_of_the_machine_is_not_compared(changed: dict[str, str]) -> None:
    assert key_of(changed) != key_of()


def test_other_data_are_not_compared() -> None:
    assert key_of(fingerprint="g") != key_of()


def test_seed_output_and_held_out_score_do_not_part_results() -> None:
    same = {"SEED": "7", "AUTORESEARCH_OUT": "x", "AUTORESEARCH_HELDOUT": "1", "AUTORESEARCH_EXPORT": "1"}
    assert key_of(same) == key_of()


@pytest.mark.parametrize(
    ("budget", "same"), [("60", False), ("wall:60", False), ("steps:5", True), ("flops:1e12", True)]
)
def test_another_machine_parts_results_only_where_a_clock_is_the_budget(
    budget: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = key_of({"AUTORESEARCH_BUDGET": budget})
    monkeypatch.setattr(prepare, "machine_name", lambda device: "another one")
    assert (key_of({"AUTORESEARCH_BUDGET": budget}) == here) is same


def test_a_speed_is_read_against_the_fastest_this_machine_has_shown(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = replace(settings_for(), data=tmp_path / "data")
    ratios = [prepare.machine_ratio(speed, settings) for speed in (100.0, 50.0, 200.0, 100.0)]
    assert ratios == [1, 0.5, 1, 0.5]


def test_a_data_folder_that_may_only_be_read_costs_no_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "file").write_text("")
    assert prepare.machine_ratio(1.0, replace(settings_for(), data=tmp_path / "file")) == 1


# ---------------------------------------------------------------------------
# Curve and weights
# ---------------------------------------------------------------------------


def test_a_point_of_the_curve_is_on_disk_at_once(tmp_path: Path) -> None:
    budget = a_budget()
    settings = replace(settings_for(), out=tmp_path / "new")
    for loss in (2.0, 1.0):
        prepare.add_to_curve(settings, budget, loss=loss)
        lines = (tmp_path / "new" / "curve.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["loss"] == loss
    assert len(lines) == 2


def tensors_of_all_kinds() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {
        "matrix": torch.randn(3, 5),
        "turned": torch.randn(3, 5).T,
        "number": torch.tensor(1.5),
        "half": torch.randn(7).bfloat16(),
        "count": torch.arange(4),
        "none": torch.empty(0, 3),
    }


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    written = tensors_of_all_kinds()
    prepare.write_safetensors(tmp_path / "a", written)
    read = prepare.read_safetensors(tmp_path / "a")
    assert list(read) == list(written)
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype and read[name].equal(tensor)


def test_others_read_our_weights(tmp_path: Path) -> None:
    written = tensors_of_all_kinds()
    reader = pytest.importorskip("safetensors.torch")
    prepare.write_safetensors(tmp_path / "a", written)
    read = reader.load_file(tmp_path / "a")
    assert all(read[name].equal(tensor) for name, tensor in written.items())


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    prepare.write_safetensors(tmp_path / "a", tensors_of_all_kinds())
    whole = (tmp_path / "a").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:end])
        with pytest.raises(SystemExit, match="no whole safetensors file"):
            prepare.read_safetensors(tmp_path / "a")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8000]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "O", "shape": [2], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
        "F32",
        None,
    ],
)
def test_a_header_that_does_not_fit_its_data_is_refused(tmp_path: Path, entry: Any) -> None:
    pytest.importorskip("torch")
    head = json.dumps({"a": entry}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    with pytest.raises(SystemExit, match="no whole safetensors file"):
        prepare.read_safetensors(tmp_path / "a")


@pytest.mark.parametrize("raw", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}x"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, raw: bytes) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(SystemExit, match="no whole safetensors file"):
        prepare.read_safetensors(tmp_path / "a")


def score(folder: Path, settings: Any) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "AUTORESEARCH_DATA": str(settings.data), "AUTORESEARCH_HELDOUT": "1"}
    command = [sys.executable, str(ROOT / "prepare.py"), "--score", str(folder)]
    return subprocess.run(command, env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_exported_weights_score_the_same_in_a_process_of_their_own(prepared: Any, tmp_path: Path) -> None:
    settings = {"AUTORESEARCH_EXPORT": "1", "AUTORESEARCH_HELDOUT": "1", "AUTORESEARCH_OUT": str(tmp_path)}
    found = summary(train(prepared, AUTORESEARCH_BUDGET="steps:5", **settings))
    done = score(tmp_path, prepared)
    assert done.returncode == 0, done.stderr
    again = dict(line.split() for line in done.stdout.replace(":", "").splitlines())
    for name in ("val_bpb", "heldout_bpb"):
        assert float(again[name]) == pytest.approx(float(found[name]), abs=1e-6)
    for name in ("fingerprint", "comparison_key"):
        assert again[name] == found[name]
    config = json.loads((tmp_path / "model.json").read_text())["config"]
    assert config["DEPTH"] == 2 and config["BETAS"] == [0.8, 0.95]
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert "model.safetensors is damaged or changed" in score(tmp_path, prepared).stderr


@pytest.mark.slow
def test_weights_are_exported_only_when_asked_for(prepared: Any, tmp_path: Path) -> None:
    summary(train(prepared, AUTORESEARCH_BUDGET="steps:1", AUTORESEARCH_RUN_DIR=str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.jsonl", "metrics.json"]
    assert "AUTORESEARCH_EXPORT=1" in score(tmp_path, prepared).stderr


# ---------------------------------------------------------------------------
# Twice the same, and with less of a machine
# ---------------------------------------------------------------------------


@pytest.mark.slow
def test_deterministic_runs_are_the_same_to_the_last_bit(prepared: Any, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a", "b", "other")]
    for out, seed in zip(outs, ("1", "1", "2"), strict=True):
        variables = {"AUTORESEARCH_OUT": str(out), "AUTORESEARCH_DETERMINISTIC": "1", "SEED": seed}
        summary(train(prepared, AUTORESEARCH_BUDGET="steps:8", AUTORESEARCH_EXPORT="1", **variables))
    a, b, other = ((out / "model.safetensors").read_bytes() for out in outs)
    assert a == b != other
    values = [json.loads((out / "metrics.json").read_text())["val_bpb"] for out in outs]
    assert values[0].hex() == values[1].hex() != values[2].hex()


@pytest.mark.slow
def test_what_does_not_compile_runs_as_it_is(prepared: Any, edited: Any, tmp_path: Path) -> None:
    script = edited('COMPILE = SETTINGS.device == "cuda"', "COMPILE = True")
    broken = {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    plain = summary(train(prepared, AUTORESEARCH_BUDGET="steps:3"))
    found = summary(train(prepared, script, AUTORESEARCH_BUDGET="steps:3", **broken))
    assert found["val_bpb"] == plain["val_bpb"]


@pytest.mark.slow
def test_making_the_data_is_not_the_runs_memory(small_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    settings = settings_for(AUTORESEARCH_CORPUS=f"text:{small_corpus}", AUTORESEARCH_DATA=str(tmp_path))
    first, *later = (train(settings, AUTORESEARCH_BUDGET="steps:1") for _ in range(3))
    assert "preparing" in first.stdout and not any("preparing" in run.stdout for run in later)
    # Made in the same process it would be 1.17 times theirs; from run to run it varies by 8 %.
    peak, *others = (float(summary(run)["peak_vram_mb"]) for run in (first, *later))
    assert peak < 1.13 * max(others)


@pytest.mark.slow
def test_a_reason_not_to_prepare_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = settings_for(AUTORESEARCH_CORPUS=f"text:{tmp_path / 'empty'}", AUTORESEARCH_DATA=str(tmp_path))
    done = train(settings, AUTORESEARCH_BUDGET="steps:1")
    assert done.returncode == 1
    assert done.stderr.startswith("FAIL: corpus text:") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_budget_of_flops_is_kept_by_a_real_run(prepared: Any) -> None:
    found = summary(train(prepared, AUTORESEARCH_BUDGET="flops:3e10"))
    assert float(found["total_gflops"]) == pytest.approx(30, rel=0.08)
    per_token = float(found["total_gflops"]) * 1e3 / float(found["total_tokens_M"])
    assert per_token == pytest.approx(1.2e6, rel=0.1)  # 6 for each weight of a product, attention, Muon


def test_flex_attention_sees_what_the_plain_mask_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_train(monkeypatch)
    torch = module.torch
    assert module.window_mask(128, 128, "cpu") is None
    mask = module.window_mask(48, 128, "cpu")
    assert mask.sum(1).tolist() == [min(place + 1, 48) for place in range(128)]
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    monkeypatch.setattr(
        module, "create_block_mask", lambda *a, device: flex.create_block_mask(*a, device="cpu")
    )
    tiles = module.window_mask(48, 128, "cuda")
    q, k, v = torch.randn(3, 2, 2, 128, 32).unbind()
    with torch.no_grad(), pytest.warns(UserWarning, match="without torch.compile"):
        seen = flex.flex_attention(q, k, v, block_mask=tiles)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(seen, plain)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["laptop", "h100"])
def test_the_large_presets_build_and_take_a_step_on_a_cpu(preset: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = """
import train, torch
model = train.build()
optimizers = train.optimizers_for(model)
x = torch.randint(0, train.SETTINGS.preset.vocab_size, (1, train.SETTINGS.preset.seq_len))
before = model.loss(x, x)
before.backward()
for optimizer in optimizers:
    optimizer.step()
print(float(before), float(model.loss(x, x)), sum(b.attention.mask is not None for b in model.blocks))
"""
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_PRESET": preset,
    }
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after, windows = map(float, done.stdout.split())
    assert after < before < 10
    assert windows == {"laptop": 0, "h100": 6}[preset]


# ---------------------------------------------------------------------------
# Planted in train.py
# ---------------------------------------------------------------------------


def test_a_loss_far_above_that_of_guessing_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_train(monkeypatch)
    module.stop_if_lost(7.6, 3)
    with pytest.raises(SystemExit, match=r"diverged: the loss is 12\.00, above 11\.44, at step 3"):
        module.stop_if_lost(12.0, 3)


PLANTED = {
    "steps before the start": (
        "    budget.start()\n",
        "    for _ in range(10): backward(model, batches)\n    budget.start()\n",
        r"rows were asked for before budget.start\(\)",
    ),
    "a start of one's own": (
        "    budget.start()\n",
        "    budget.start()\n    backward(model, batches)\n    budget.start()\n",
        "a budget was started already",
    ),
    "steps that are not told": (
        "        budget.step()\n",
        "        budget.step()\n        for _ in range(3): budget.step()\n",
        "training spent 4 of 3 steps",
    ),
    "validation rows": (
        "    budget.start()\n",
        '    budget.start()\n    data.rows("val")\n',
        r"train.py opened val.npy, which only evaluate_bpb may read",
    ),
    "training rows before the start": (
        "    budget.start()\n",
        '    data.rows("train").sum()\n    budget.start()\n',
        r"train.py opened train.npy, before budget.start\(\)",
    ),
    "the future": (
        "is_causal=self.mask is None)",
        "is_causal=False)",
        "the model sees the future",
    ),
    "a loss of its own": (
        "        return softcap(self.head(self.features(tokens)).float())\n",
        "        return softcap(self.head(self.features(tokens)).float()).mean()\n",
        "the model gave logits of shape",
    ),
    "another vocabulary": (
        "self.head = nn.Linear(WIDTH, vocab_size, bias=False)",
        "self.head = nn.Linear(WIDTH, vocab_size + 8, bias=False)",
        r"the model gave logits of shape .*2056",
    ),
    "a smaller evaluation": (
        "prepare.evaluate_bpb(model, data, SETTINGS, budget)\n",
        "prepare.evaluate_bpb(model, data, __import__('dataclasses').replace(SETTINGS, preset="
        "__import__('dataclasses').replace(SETTINGS.preset, eval_tokens=1024)), budget)\n",
        "the settings are not the ones that read_settings",
    ),
    "a longer budget": (
        "prepare.Budget(SETTINGS.budget_kind, SETTINGS.budget_amount, ",
        "prepare.Budget(SETTINGS.budget_kind, 2 * SETTINGS.budget_amount, ",
        "trained with budget steps:6",
    ),
    "training after the evaluation": (
        "    if result is None:",
        "    train_more = next(data.batches(PASS_ROWS, SETTINGS, budget))\n    if result is None:",
        "training went on after the evaluation",
    ),
    "nan": (
        "loss = model.loss(x, y) / passes",
        "loss = model.loss(x, y) / passes * math.nan",
        "not finite: the loss is nan at step 0",
    ),
    "nan in the logits only": (
        "        model.eval()\n",
        "        model.eval()\n        model.head.weight.data[3] = math.nan\n",
        "not finite: the model's logits",
    ),
    "rows that do not divide": (
        'PASS_ROWS = {"smoke": 8',
        'PASS_ROWS = {"smoke": 3',
        "STEP_ROWS = 8 is no multiple of PASS_ROWS = 3",
    ),
}


def run_here(script: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a train.py in this process, which spares importing torch once more; gives its names."""
    for name, value in {"PRESET": "smoke", "BUDGET": "steps:3", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"AUTORESEARCH_{name}", value)
    monkeypatch.setenv("AUTORESEARCH_CORPUS", settings.corpus)
    monkeypatch.setenv("AUTORESEARCH_DATA", str(settings.data))
    monkeypatch.setattr(prepare, "_opened", [])
    monkeypatch.setattr(prepare, "_started", [])
    monkeypatch.setattr("gc.freeze", lambda: None)
    # Three steps leak little: where the lot shows too few tokens of it, nothing would be refused.
    monkeypatch.setattr(prepare, "SystemRandom", lambda: random.Random(1))
    return runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_refused_in_one_line(
    name: str, prepared: Any, edited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    old, new, message = PLANTED[name]
    with pytest.raises(SystemExit) as ended:
        run_here(edited(old, new), prepared, monkeypatch)
    said = str(ended.value)
    assert said.startswith("FAIL: ") and "\n" not in said
    assert re.search(message, said), said


@pytest.mark.slow
def test_the_same_without_a_plant_ends_well(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    assert run_here(ROOT / "train.py", prepared, monkeypatch)["PRESET"] == "smoke"


@pytest.mark.slow
def test_an_output_that_is_not_normalised_gains_nothing(prepared: Any, edited: Any) -> None:
    script = edited(
        "        return softcap(self.head(self.features(tokens)).float())\n",
        "        return softcap(self.head(self.features(tokens)).float()) + 40\n",
    )
    plain, lifted = (
        summary(train(prepared, path, AUTORESEARCH_BUDGET="steps:3")) for path in (ROOT / "train.py", script)
    )
    assert float(lifted["val_bpb"]) == pytest.approx(float(plain["val_bpb"]), abs=1e-5)
