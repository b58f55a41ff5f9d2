"""The demo target: what prepare.py promises, and what train.py does with it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

np = pytest.importorskip("numpy")

ROOT = Path(__file__).resolve().parents[1]
EDITS = sorted((ROOT / "scripts" / "quickstart_edits").glob("*.patch"))
SUMMARY = [
    "val_bpb",
    "training_seconds",
    "total_seconds",
    "peak_vram_mb",
    "mfu_percent",
    "total_tokens_M",
    "num_steps",
    "num_params_M",
    "depth",
    "seed",
    "fingerprint",
    "comparison_key",
]


def load_prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module
    spec.loader.exec_module(module)
    return module


prepare = load_prepare()


def a_document(name: str, text: str) -> Any:
    return prepare.Document(name, text, prepare.hashlib.sha256(text.encode()).hexdigest())


def settings_for(**environment: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AUTORESEARCH_DEVICE": "cpu", **environment}.items():
            patch.setenv(name, value)
        return prepare.read_settings()


# ---------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------


def test_a_cpu_gets_the_cpu_preset_and_a_budget_of_cpu_seconds() -> None:
    settings = settings_for()
    assert (settings.preset.name, settings.budget_kind, settings.budget_amount) == ("cpu", "cpu", 60)


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("20", "cpu", 20),
        ("wall:300", "wall", 300),
        ("steps:7", "steps", 7),
        ("tokens:2e6", "tokens", 2e6),
        ("flops:1e12", "flops", 1e12),
    ],
)
def test_a_budget_may_name_its_kind(text: str, kind: str, amount: float) -> None:
    settings = settings_for(AUTORESEARCH_BUDGET=text)
    assert (settings.budget_kind, settings.budget_amount) == (kind, amount)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTORESEARCH_BUDGET", "soon"),
        ("AUTORESEARCH_BUDGET", "-3"),
        ("AUTORESEARCH_BUDGET", "nan"),
        ("AUTORESEARCH_BUDGET", "hours:3"),
        ("AUTORESEARCH_PRESET", "huge"),
        ("SEED", "lucky"),
    ],
)
def test_a_bad_setting_is_refused_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(repr(value))):
        settings_for(**{name: value})


def test_an_unknown_corpus_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(SystemExit, match="pystdlib"):
        prepare.corpus_files("wikipedia")


# ---------------------------------------------------------------------------
# Corpus and split
# ---------------------------------------------------------------------------


def lines_of(word: str, count: int = 40) -> str:
    return "\n".join(f"{word} says line number {n}" for n in range(count))


def test_near_duplicates_are_one_group() -> None:
    same = lines_of("alpha")
    documents = [
        a_document("a", same),
        a_document("b", same + "\nand one more line"),
        a_document("c", lines_of("beta")),
    ]
    groups = prepare.duplicate_groups(documents)
    assert groups[0] == groups[1] != groups[2]


def test_exact_copies_too_short_for_shingles_are_one_group() -> None:
    groups = prepare.duplicate_groups([a_document("a", "x = 1"), a_document("b", "x = 1")])
    assert groups[0] == groups[1]


def test_no_document_is_in_two_splits_and_a_new_file_moves_no_other() -> None:
    documents = [a_document(str(n), lines_of(f"word{n}")) for n in range(300)]
    before = prepare.split_documents(documents)
    after = prepare.split_documents([*documents, a_document("new", lines_of("new"))])
    names = {side: {d.name for d in found} for side, found in before.items()}
    assert names["train"] | names["val"] | names["heldout"] == {d.name for d in documents}
    assert sum(map(len, names.values())) == 300
    assert all(names[side] <= {d.name for d in after[side]} for side in names)


def test_the_fingerprint_depends_on_content_and_split_and_not_on_order() -> None:
    a, b = a_document("a", "one"), a_document("b", "two")
    known = prepare.corpus_fingerprint({"train": [a, b], "val": []})
    assert known == prepare.corpus_fingerprint({"train": [b, a], "val": []})
    assert known != prepare.corpus_fingerprint({"train": [a], "val": [b]})


def test_the_standard_library_corpus_leaves_out_packages_and_this_machines_build_settings() -> None:
    names = [name for name, _ in prepare.stdlib_files()]
    assert "json/decoder.py" in names
    assert not [n for n in names if "site-packages" in n or "_sysconfigdata" in n]


# ---------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------


def test_every_row_starts_with_bos_and_no_token_is_lost() -> None:
    documents = [np.arange(1, n, dtype=np.uint16) for n in (3, 9, 17, 30, 5)]
    rows = prepare.pack(documents, seq_len=8, bos=0)
    assert (rows[:, 0] == 0).all()
    assert sorted(rows[rows != 0].tolist()) == sorted(t for d in documents for t in d)


def test_tails_are_packed_by_best_fit() -> None:
    sizes = [6, 5, 4, 3]
    rows = prepare.best_fit(sizes, capacity=9)
    assert sorted(sum(sizes[index] for index in row) for row in rows) == [9, 9]


def test_best_fit_fills_rows_and_loses_none() -> None:
    sizes = [int(n) for n in np.random.default_rng(0).integers(1, 65, 4000)]
    rows = prepare.best_fit(sizes, capacity=64)
    assert sorted(index for row in rows for index in row) == list(range(4000))
    assert max(sum(sizes[index] for index in row) for row in rows) <= 64
    assert sum(sizes) / (64 * len(rows)) > 0.99


def test_a_vocabulary_beyond_16_bits_gets_wider_tokens() -> None:
    class Wide:
        def get_vocab_size(self) -> int:
            return 2**16 + 1

        def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[Any]:
            return [SimpleNamespace(ids=[2**16, 1]) for _ in texts]

    assert [t.tolist() for t in prepare.encoded(Wide(), [a_document("a", "x")])] == [[2**16, 1]]


# ---------------------------------------------------------------------------
# Preparing a small corpus
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for index, (name, path) in enumerate(prepare.stdlib_files()):
        if index % 12 == 0 and not name.startswith("test/"):
            (folder / name.replace("/", "_")).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def prepared(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("tokenizers")
    data = tmp_path_factory.mktemp("data")
    settings = settings_for(AUTORESEARCH_CORPUS=f"text:{small_corpus}", AUTORESEARCH_DATA=str(data))
    prepare.prepare(settings)
    return settings


def test_prepared_data_pass_their_own_check(prepared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.check(prepared)
    assert "fingerprint" in capsys.readouterr().out


def test_token_lengths_add_up_to_the_bytes_of_the_text(prepared: Any) -> None:
    data = prepare.open_data(prepared)
    lengths = np.load(data.folder / "token_bytes.npy")
    for side in prepare.SPLITS:
        assert int(lengths[data.rows(side)].sum()) == data.meta["splits"][side]["bytes"]


def test_preparing_again_changes_nothing_and_preparing_elsewhere_gives_the_same(
    prepared: Any, tmp_path: Path
) -> None:
    folder = prepare.prepare(prepared)
    again = prepare.prepare(prepared)
    elsewhere = prepare.open_data(replace(prepared, data=tmp_path))
    assert folder == again
    assert elsewhere.meta["files"] == prepare.open_data(prepared).meta["files"]


def test_no_half_built_folder_is_left(prepared: Any) -> None:
    assert not list(prepare.data_folder(prepared).parent.glob(".building-*"))


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(small_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    environment = {
        **os.environ,
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_CORPUS": f"text:{small_corpus}",
        "AUTORESEARCH_DATA": str(tmp_path),
    }
    command = [sys.executable, str(ROOT / "prepare.py")]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    prints = {line for out in outputs for line in out.splitlines() if line.startswith("fingerprint")}
    assert len(prints) == 1
    assert not list(tmp_path.rglob(".building-*"))


@pytest.mark.parametrize("name", ["tokenizer.json", "train.npy", "val.npy", "token_bytes.npy"])
def test_a_truncated_or_changed_file_is_refused_by_name(prepared: Any, name: str) -> None:
    path = prepare.data_folder(prepared) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    try:
        with pytest.raises(SystemExit, match=name):
            prepare.open_data(prepared)
    finally:
        path.write_bytes(whole)


def test_check_without_data_says_what_to_type(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(SystemExit, match="python prepare.py"):
        prepare.check(replace(settings_for(), data=tmp_path))


def test_a_corpus_with_too_little_text_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "texts").mkdir()
    for n in range(60):
        (tmp_path / "texts" / f"{n}.txt").write_text(lines_of(f"w{n}"))
    with pytest.raises(SystemExit, match="too small|too few"):
        prepare.prepare(
            settings_for(
                AUTORESEARCH_CORPUS=f"text:{tmp_path / 'texts'}", AUTORESEARCH_DATA=str(tmp_path / "d")
            )
        )


# ---------------------------------------------------------------------------
# Budget
# ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget looks at how fast the machine is; its clock needs neither that nor torch."""
    monkeypatch.setattr(prepare, "product_speed", lambda device, dtype=None: 1e9)


def a_budget(kind: str = "steps", amount: float = 4) -> Any:
    prepare._started.clear()
    budget = prepare.Budget(kind, amount)
    budget.start()
    return budget


def test_a_budget_of_steps_ends_after_them() -> None:
    budget = a_budget("steps", 4)
    seen = []
    while not budget.done:
        seen.append(budget.progress)
        budget.step()
    assert seen == [0, 0.25, 0.5, 0.75]
    assert budget.progress == 1


def test_a_budget_of_tokens_counts_what_the_loader_gave_out() -> None:
    budget = a_budget("tokens", 100)
    budget.handed_out(60)
    assert budget.progress == 0.6
    budget.handed_out(60)
    assert budget.done and budget.progress == 1


def test_a_cpu_budget_counts_work_and_not_waiting() -> None:
    budget = a_budget("cpu", 1000)
    before = budget.spent()
    time.sleep(0.05)
    waited = budget.spent() - before
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert waited < 0.04 <= budget.spent() - before


def test_a_run_that_was_not_started_has_no_budget() -> None:
    with pytest.raises(SystemExit, match=r"budget\.start"):
        prepare.Budget("cpu", 3).spent()


def test_training_past_the_budget_is_refused() -> None:
    budget = a_budget("steps", 4)
    for _ in range(40):
        budget.step()
    with pytest.raises(SystemExit, match="spent 40 of 4 steps"):
        budget.close()


def test_training_after_the_evaluation_is_refused() -> None:
    budget = a_budget()
    budget.close()
    with pytest.raises(SystemExit, match="after the evaluation"):
        budget.handed_out(1)


def test_a_clock_is_not_started_again() -> None:
    budget = a_budget()
    with pytest.raises(SystemExit, match="started already"):
        budget.start()
    with pytest.raises(SystemExit, match="started already"):
        prepare.Budget("steps", 4).start()


def test_making_the_data_is_not_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 400.0])
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "meta.json").write_text('{"files": {}}')
    monkeypatch.setattr(prepare, "prepare", lambda settings: folder)
    monkeypatch.setattr(prepare, "cpu_seconds", lambda: next(clock))
    monkeypatch.setattr(prepare, "_imported_at", 7.0)
    prepare.open_data(settings_for())
    assert prepare._imported_at == 307


def test_what_a_warm_up_learns_is_taken_back() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 2)
    before = model.weight.detach().clone()
    budget = prepare.Budget("cpu", 100)
    budget.warm_up(model, lambda: model.weight.data.add_(1))
    assert torch.equal(model.weight, before)
    assert budget.tokens == 0


def test_the_rows_of_a_warm_up_are_noise_and_those_after_it_are_not(prepared: Any) -> None:
    torch = pytest.importorskip("torch")
    prepare._started.clear()
    data, budget = prepare.open_data(prepared), prepare.Budget("steps", 4)
    batches = data.batches(4, prepared, budget)
    seen = []
    budget.warm_up(torch.nn.Linear(2, 2), lambda: seen.append(next(batches)[0]))
    budget.start()
    rows = {tuple(row[:-1]) for row in data.rows("train").tolist()}
    assert not rows & {tuple(row) for row in seen[0].tolist()}
    assert {tuple(row) for row in next(batches)[0].tolist()} <= rows
    assert budget.tokens == 4 * prepared.preset.seq_len


def test_rows_before_the_start_are_refused(prepared: Any) -> None:
    pytest.importorskip("torch")
    prepare._started.clear()
    data = prepare.open_data(prepared)
    with pytest.raises(SystemExit, match="first steps count"):
        next(data.batches(4, prepared, prepare.Budget("steps", 4)))


@pytest.mark.parametrize(("started", "noted"), [(False, ["train.npy"]), (True, [])])
def test_opening_the_training_rows_is_noted_only_before_the_start(
    prepared: Any, monkeypatch: pytest.MonkeyPatch, started: bool, noted: list[str]
) -> None:
    monkeypatch.setattr(prepare, "_opened", [])
    monkeypatch.setattr(prepare, "_started", [prepare.Budget("steps", 4)] if started else [])
    prepare.open_data(prepared).rows("train")
    assert sorted({Path(path).name for path in prepare._opened}) == noted


def test_warm_ups_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(prepare, "_imported_at", prepare.cpu_seconds())
    monkeypatch.setattr(prepare, "perf_counter", lambda: float(next(clock)))
    prepare._started.clear()
    budget = prepare.Budget("wall", 1000)
    for _ in range(3):  # 100 s each, of which 120 s are free
        budget.warm_up(torch.nn.Linear(2, 2), lambda: None)
    budget.start()
    assert budget._charged == 180


def test_a_budget_of_flops_counts_matrix_products_and_charges_the_others_by_their_tokens() -> None:
    torch = pytest.importorskip("torch")
    budget = a_budget("flops", 1e6)
    a = torch.ones(10, 10)
    while not budget.done:
        budget.handed_out(5)
        a @ a
        budget.step()
    assert (budget.flops, budget.steps) == (1e6, 500)
    budget.close()


def test_large_steps_after_a_small_first_one_are_charged() -> None:
    torch = pytest.importorskip("torch")
    budget = a_budget("flops", 1e12)
    small, large = torch.ones(2, 2), torch.ones(20, 20)
    for step in range(400):
        budget.handed_out(5)
        (large @ large) if step else (small @ small)
        budget.step()
    assert budget.flops > 0.85 * 399 * 2 * 20**3
    budget.close()


def test_a_step_without_a_token_or_a_flop_has_no_budget_of_flops() -> None:
    pytest.importorskip("torch")
    budget = a_budget("flops", 1e6)
    with pytest.raises(SystemExit, match="without a token or a FLOP"):
        budget.step()


def test_a_warm_up_beyond_its_limit_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(prepare, "WARM_UP_SECONDS", -50.0)
    monkeypatch.setattr(prepare, "_imported_at", prepare.cpu_seconds())  # this process has done other work
    prepare._started.clear()
    budget = prepare.Budget("wall", 100)
    budget.warm_up(torch.nn.Linear(2, 2), lambda: None)
    budget.start()
    assert 0.5 <= budget.progress < 0.6


def test_work_before_the_start_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "SETUP_SECONDS", 0.0)
    monkeypatch.setattr(prepare, "_imported_at", prepare.cpu_seconds() - 50)
    assert a_budget("cpu", 60).progress > 0.8


# ---------------------------------------------------------------------------
# Evaluation: honest models are scored, planted cheats are refused with a message
# ---------------------------------------------------------------------------

VOCABULARY, PLACES = 32, 12


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function from a model to its Evaluation, on random rows of a small vocabulary."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(prepare, "_scored_files", set())
    monkeypatch.setattr(prepare, "_opened", [])
    rows = np.random.default_rng(1).integers(1, VOCABULARY, (20, PLACES + 1)).astype(np.uint16)
    rows[:, 0] = 0
    for side in ("train", "val", "heldout"):
        np.save(tmp_path / f"{side}.npy", rows)
    np.save(tmp_path / "token_bytes.npy", np.array([0, *range(1, VOCABULARY)], dtype=np.int32))
    preset = replace(
        prepare.PRESETS["smoke"], seq_len=PLACES, vocab_size=VOCABULARY, eval_tokens=16 * PLACES, eval_rows=4
    )
    settings = replace(settings_for(), preset=preset)
    settings = replace(settings, budget_kind="steps", budget_amount=4)
    monkeypatch.setattr(prepare, "read_settings", lambda: settings)
    data = prepare.Data(tmp_path, {})

    def score(model: Any, changed: Any = settings, budget: Any = None) -> Any:
        torch.manual_seed(0)
        return prepare.evaluate_bpb(model, data, changed, budget or a_budget())

    score.data, score.settings = data, settings  # type: ignore[attr-defined]
    return score


def uniform(x: Any) -> Any:
    return x.new_zeros((*x.shape, VOCABULARY)).float()


def test_a_uniform_model_needs_log2_of_the_vocabulary_bits_a_token(scored: Any) -> None:
    result = scored(uniform)
    rows = scored.data.rows("val")[:16, 1:].astype(int)
    assert result.tokens == rows.size
    assert result.bytes == rows.sum()
    assert result.bpb == pytest.approx(rows.size * np.log2(VOCABULARY) / rows.sum(), rel=1e-6)


def test_bos_is_in_neither_sum(scored: Any) -> None:
    table = np.array(scored.data.rows("val"))
    table[:, 5] = 0
    np.save(scored.data.folder / "val.npy", table)
    assert scored(uniform).tokens == 16 * (PLACES - 1)


def test_logits_that_are_not_normalised_gain_nothing(scored: Any) -> None:
    assert scored(lambda x: uniform(x) + 50).bpb == pytest.approx(scored(uniform).bpb, rel=1e-5)


def test_a_model_that_sees_the_future_is_refused(scored: Any) -> None:
    def leak(x: Any) -> Any:
        import torch

        following = torch.roll(x, -1, dims=1)
        return 20 * torch.nn.functional.one_hot(following, VOCABULARY).float()

    with pytest.raises(SystemExit, match="sees the future"):
        scored(leak)


def test_a_model_that_mixes_rows_is_refused(scored: Any) -> None:
    with pytest.raises(SystemExit, match="mixes rows"):
        scored(lambda x: uniform(x) + x[:, :1].float().mean())


def test_a_model_that_learns_while_it_is_scored_is_refused(scored: Any) -> None:
    calls = []

    def model(x: Any) -> Any:
        calls.append(1)
        return uniform(x) + (len(calls) == 5) * 0.5  # the last look asks the first question again

    with pytest.raises(SystemExit, match="changes while being scored"):
        scored(model)


def test_logits_that_are_nan_are_refused(scored: Any) -> None:
    with pytest.raises(SystemExit, match="not finite"):
        scored(lambda x: uniform(x) * float("nan"))


def test_logits_of_another_vocabulary_are_refused(scored: Any) -> None:
    with pytest.raises(SystemExit, match="shape"):
        scored(lambda x: uniform(x)[..., :-1])


def test_a_loss_of_the_models_own_is_refused(scored: Any) -> None:
    with pytest.raises(SystemExit, match="shape"):
        scored(lambda x: uniform(x).mean())


def test_a_split_too_small_to_score_is_refused(scored: Any) -> None:
    np.save(scored.data.folder / "val.npy", np.array(scored.data.rows("val"))[:2])
    with pytest.raises(SystemExit, match="fewer than a batch"):
        scored(uniform)


def test_opening_the_validation_rows_while_training_is_refused(
    scored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scored.data.folder / "val.npy"
    monkeypatch.setattr(prepare, "_scored_files", {os.path.realpath(path)})
    np.load(path, mmap_mode="r")
    with pytest.raises(SystemExit, match=r"opened val\.npy"):
        scored(uniform)


def test_opening_them_as_a_path_is_seen_too(scored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scored.data.folder / "val.npy"
    monkeypatch.setattr(prepare, "_scored_files", {os.path.realpath(path)})
    with path.open("rb"), pytest.raises(SystemExit, match=r"opened val\.npy"):
        scored(uniform)


def test_a_smaller_evaluation_is_refused(scored: Any) -> None:
    tiny = replace(scored.settings, preset=replace(scored.settings.preset, eval_tokens=4 * PLACES))
    with pytest.raises(SystemExit, match="settings"):
        scored(uniform, tiny)


def test_a_longer_budget_is_refused(scored: Any) -> None:
    with pytest.raises(SystemExit, match="trained with budget steps:400"):
        scored(uniform, budget=a_budget("steps", 400))


# ---------------------------------------------------------------------------
# The shipped edits
# ---------------------------------------------------------------------------


def test_there_are_at_least_seven_edits() -> None:
    assert len(EDITS) >= 7


@pytest.mark.parametrize("edit", EDITS, ids=lambda path: path.stem)
def test_an_edit_applies_and_says_what_it_expects(edit: Path, tmp_path: Path) -> None:
    text = edit.read_text(encoding="utf-8")
    (tmp_path / "train.py").write_bytes((ROOT / "train.py").read_bytes())
    assert re.match(r"Hypothesis: \S.*\nBecause: \S.*\nExpect: \S", text)
    done = subprocess.run(
        ["git", "apply", "--check", str(edit)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_edits_apply_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes((ROOT / "train.py").read_bytes())
    for edit in EDITS:
        subprocess.run(["git", "apply", str(edit)], cwd=tmp_path, check=True)


def test_train_imports_nothing_of_the_skill() -> None:
    for name in ("train.py", "prepare.py"):
        assert not re.search(r"^\s*(?:from|import) (?:lab|autoresearch)", (ROOT / name).read_text(), re.M)


def load_train(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch")
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cpu")
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loss_in_blocks_is_the_loss_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_train(monkeypatch)
    torch = train.torch
    torch.manual_seed(0)
    x, weight = torch.randn(600, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    y = torch.randint(0, 50, (600,))
    blocks = train.BlockLoss.apply(x, weight, y)
    whole = torch.nn.functional.cross_entropy(train.softcap(x @ weight.T), y)
    torch.testing.assert_close(blocks, whole)
    for a, b in zip(*(torch.autograd.grad(loss, (x, weight)) for loss in (blocks, whole)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_muon_brings_singular_values_near_one(monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_train(monkeypatch)
    train.torch.manual_seed(0)
    for shape in ((3, 16, 64), (3, 64, 16)):
        values = train.torch.linalg.svdvals(train.orthogonal(train.torch.randn(shape), 5))
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3


# ---------------------------------------------------------------------------
# Training for real
# ---------------------------------------------------------------------------


def train(
    settings: Any, script: Path = ROOT / "train.py", **environment: str
) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("torch")
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_CORPUS": settings.corpus,
        "AUTORESEARCH_DATA": str(settings.data),
        "AUTORESEARCH_PRESET": "smoke",
        **environment,
    }
    return subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True)


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stdout + done.stderr
    block = done.stdout.split("\n---\n")[1]
    return dict(re.findall(r"^(\w+): +(\S+)$", block, re.M))


@pytest.fixture
def edited(tmp_path: Path) -> Any:
    def edit(old: str, new: str) -> Path:
        text = (ROOT / "train.py").read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        path = tmp_path / "train.py"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return edit


@pytest.mark.slow
def test_training_learns_and_ends_with_the_summary(prepared: Any, tmp_path: Path) -> None:
    done = train(prepared, AUTORESEARCH_BUDGET="steps:16", AUTORESEARCH_OUT=str(tmp_path))
    found = summary(done)
    assert list(found)[: len(SUMMARY) - 2] == SUMMARY[:-2]
    assert set(SUMMARY) <= set(found)
    untrained = summary(train(prepared, AUTORESEARCH_BUDGET="steps:1"))
    assert float(found["val_bpb"]) < 0.8 * float(untrained["val_bpb"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert f"{metrics['val_bpb']:.6f}" == found["val_bpb"]
    assert "\r" not in done.stdout
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve[0]["step"] == 1 and curve[-1]["val_bpb"] == metrics["val_bpb"]
    assert all({"step", "progress", "tokens", "seconds", "loss"} <= set(point) for point in curve[:-1])


@pytest.mark.slow
def test_the_same_seed_and_steps_give_the_same_number_and_another_seed_does_not(prepared: Any) -> None:
    runs = [summary(train(prepared, AUTORESEARCH_BUDGET="steps:5", SEED=seed)) for seed in ("1", "1", "2")]
    values = [run["val_bpb"] for run in runs]
    assert values[0] == values[1] != values[2]
    assert len({run["comparison_key"] for run in runs}) == 1


@pytest.mark.slow
def test_a_loss_that_explodes_stops_the_run_with_one_line(prepared: Any, edited: Any) -> None:
    script = edited("loss = model.loss(x, y) / passes", "loss = model.loss(x, y) / passes * math.nan")
    done = train(prepared, script, AUTORESEARCH_BUDGET="3")
    assert done.returncode == 1
    assert done.stderr.strip() == "FAIL: not finite: the loss is nan at step 0"


@pytest.mark.slow
def test_running_out_of_memory_is_one_line_with_what_to_try(prepared: Any, edited: Any) -> None:
    script = edited(
        '        """Mean cross-entropy in nats a token."""\n',
        '        if len(x) > 2: raise torch.OutOfMemoryError("out of memory")\n',
    )
    done = train(prepared, script, AUTORESEARCH_BUDGET="3")
    assert done.returncode == 1
    assert done.stderr.strip() == "FAIL: out of memory with 8 rows in a pass: try PASS_ROWS = 2"


@pytest.mark.slow
def test_the_shipped_crash_crashes_and_names_its_line(prepared: Any, tmp_path: Path) -> None:
    crash = next(path for path in EDITS if "crash" in path.read_text().split("diff --git")[0].lower())
    (tmp_path / "train.py").write_bytes((ROOT / "train.py").read_bytes())
    subprocess.run(["git", "apply", str(crash)], cwd=tmp_path, check=True)
    done = train(prepared, tmp_path / "train.py", AUTORESEARCH_BUDGET="3")
    assert done.returncode == 1
    assert "train.py" in done.stderr and "Error" in done.stderr


@pytest.mark.slow
def test_the_held_out_split_is_scored_when_asked_for(prepared: Any) -> None:
    found = summary(train(prepared, AUTORESEARCH_BUDGET="steps:2", AUTORESEARCH_HELDOUT="1"))
    assert float(found["heldout_bpb"]) > 0
