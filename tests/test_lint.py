from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from world import Project, a_project

from lab.lint import About, Fact, lint, module_of, shadowing

ROOT = Path(__file__).resolve().parents[1]
TRAIN = (ROOT / "train.py").read_text()
ABOUT = About("val_bpb", "SEED", frozenset({"prepare"}))
TOP = "SETTINGS = prepare.read_settings()\n"  # a place at the top level of train.py
STEP = "        budget.step()\n"  # and one in its loop


def facts(new: str, old: str = TRAIN) -> list[Fact]:
    return lint({"train.py": old}, {"train.py": new}, ABOUT)


def with_line(line: str, after: str = TOP) -> str:
    assert TRAIN.count(after) == 1
    return TRAIN.replace(after, f"{after}{line}\n")


# What each line is, put into train.py: the kinds it must be flagged as.
TELLING = {
    "torch.manual_seed(3)": "seed",
    "SEED = 7": "seed",
    "os.environ['SEED'] = '7'": "seed",
    "budget = prepare.Budget('cpu', 1e9, 'cpu')": "time budget",
    "TIME_BUDGET = 3000": "time budget",
    "prepare.Budget.done = property(lambda self: False)": "monkeypatching",
    "prepare.evaluate_bpb = lambda *a: 0.5": "monkeypatching",
    "time.perf_counter = lambda: 0.0": "monkeypatching",
    "math.log = lambda x: 0.0": "monkeypatching",
    "torch.nn.functional.cross_entropy = None": "monkeypatching",
    "setattr(prepare, 'evaluate_bpb', None)": "reach",
    "import sys; sys.modules['prepare'] = None": "monkeypatching",
    "prepare = None": "shadowed name",
    "def evaluate_bpb(*a): return 0.5": "evaluation",
    "prepare.evaluate_bpb(None, None, SETTINGS, None)": "evaluation",
    "print('val_bpb: 0.5')": "printed metric",
    "print(f'val_bpb: {0.5:.6f}')": "printed metric",
    "open('metrics.json', 'w').write('{}')": "printed metric",
    "rows = np.load('data/val.npy')": "data path",
    "text = Path('~/.cache/autoresearch/data/heldout.bin').read_bytes()": "data path",
    "os._exit(0)": "exit",
    "import atexit": "import",
    "atexit.register(print)": "exit",
    "import ctypes": "import",
    "from ctypes import CDLL": "import",
    "import pickle": "import",
    "import subprocess": "import",
    "import some_new_package": "import",
    "import numpy.ctypeslib": "import",
    "raise SystemExit": "exit",
    "getattr(torch, 'load')('model.pt')": "loaded file",
    "torch.jit.load('model.pt')": "loaded file",
    "torch.serialization.load('model.pt')": "loaded file",
    "for prepare in []: pass": "shadowed name",
    "(prepare := None)": "shadowed name",
    "def print(*words): pass": "shadowed name",
    "float = int": "shadowed name",
    "evaluate_bpb = lambda *a: 0.5": "evaluation",
    "prepare.evaluate_bpb, x = None, 2": "monkeypatching",
    "prepare.__dict__['evaluate_bpb'] = None": "monkeypatching",
    "object.__setattr__(prepare, 'evaluate_bpb', None)": "reach",
    "__builtins__.print = None": "monkeypatching",
    "os.environ.update(PYTHONHASHSEED='7')": "monkeypatching",
    "os.write(1, b'val_bpb: 0.5')": "printed metric",
    "class Budget: pass": "time budget",
    "gc.get_objects()": "reach",
    "eval('1')": "reach",
    "weights = torch.load('model.pt')": "loaded file",
    "model = GPT.from_pretrained('x')": "loaded file",
    f"TABLE = {list(range(100))}": "built-in data",
    f"BLOB = {'x' * 2000!r}": "built-in data",
    f"TABLE = {[[-0.5] * 10] * 10}": "built-in data",
    f"BLOB = {' + '.join([repr('x' * 400)] * 5)}": "built-in data",
    f"BLOB = {['x' * 400] * 5}": "built-in data",
}
# Ordinary edits of somebody who tries an idea.
HONEST = (
    "MATRIX_LR = 0.05",
    "DEPTH = 6",
    "WINDOWS = [256, 512, 1024, 256]",
    "betas = (0.9, 0.99)",
    "validation_free = 1",
    "import dataclasses",
    "from torch.optim import AdamW",
    "torch.backends.cudnn.benchmark = True",
    "torch.set_float32_matmul_precision('high')",
    "torch._dynamo.config.suppress_errors = False",
    "model = torch.compile(model, mode='max-autotune')",
    "generator = torch.Generator()",
    "x = torch.zeros(3).clamp_(0, 1)",
    "loss = getattr(model, 'loss', None)",
    "shapes = [(1, 2), (3, 4), (5, 6)]",
    "score = x @ x.T",
    "warm = time.perf_counter()",
    "os.environ.get('HOME')",
    "print(f'grad norm {1.0:.3f}', flush=True)",
    "assert DEPTH > 0, 'depth must be positive'",
    "def schedule2(progress: float) -> float:\n    return min(1.0, progress * 10)",
    "class Gate(nn.Module):\n    def forward(self, x):\n        return x * torch.sigmoid(self.w(x))",
)


@pytest.mark.parametrize("line", TELLING)
def test_what_decides_the_meaning_of_a_number_is_flagged_with_its_line(line: str) -> None:
    new = with_line(line)
    found = facts(new)
    assert TELLING[line] in {fact.kind for fact in found}, found
    wanted = new[: new.index(line)].count("\n") + 1
    assert all(fact.path == "train.py" and fact.line == wanted for fact in found), (wanted, found)


@pytest.mark.parametrize("line", HONEST)
def test_an_ordinary_edit_raises_no_flag(line: str) -> None:
    assert facts(with_line(line)) == []


GONE = {
    "        budget.step()\n": ("", "time budget"),
    "    while not budget.done:\n": ("    while True:\n", "time budget"),
    "result = prepare.evaluate_bpb(model, data, SETTINGS, budget)\n": ("result = None\n", "evaluation"),
    "torch.manual_seed(SETTINGS.seed)": ("pass", "seed"),
}


@pytest.mark.parametrize("gone", GONE)
def test_what_is_no_longer_there_is_flagged(gone: str) -> None:
    put, kind = GONE[gone]
    assert TRAIN.count(gone) == 1
    found = [fact for fact in facts(TRAIN.replace(gone, put)) if fact.kind == kind]
    assert found, gone


def test_no_recorded_honest_edit_raises_a_flag() -> None:
    """The 21 changed variants of the recorded runs, on the code they were recorded with."""
    sys.path.insert(0, str(ROOT / "scripts" / "bench"))
    import real_variants

    show = ["git", "-C", str(ROOT), "show", f"{real_variants.COMMIT}:train.py"]
    text = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    changed = [v for v in real_variants.VARIANTS if v.edits]
    flagged = {v.name: found for v in changed if (found := facts(v.apply(text), text))}
    assert len(changed) >= 20 and flagged == {}
    print(f"FIGURE LINT recorded={len(changed)} flagged={len(flagged)}")


def test_no_edit_of_the_quickstart_raises_a_flag(tmp_path: Path) -> None:
    patches = sorted((ROOT / "scripts" / "quickstart_edits").glob("*.patch"))
    assert len(patches) >= 9
    for patch in patches:
        (tmp_path / "train.py").write_text(TRAIN)
        subprocess.run(["patch", "-p1", "-s", "-i", str(patch)], cwd=tmp_path, check=True)
        new = (tmp_path / "train.py").read_text()
        assert new != TRAIN and facts(new) == [], patch.name


def test_files_that_would_be_imported_in_place_of_a_protected_one() -> None:
    stand_ins = [
        "prepare.pyc",
        "prepare/__init__.py",
        "prepare.so",
        "prepare.cpython-311-x86_64-linux-gnu.so",
    ]
    assert (
        shadowing([*stand_ins, "train.py", "prepare.py", "prepare.txt", "preparer.py"], ["prepare.py"])
        == stand_ins
    )
    assert shadowing(["src/prepare.py", "src/prepare/__init__.py"], ["prepare.py"]) == []
    assert shadowing(["src/prepare.so"], ["src/prepare.py"]) == ["src/prepare.so"]
    assert module_of("a/b/__init__.py") == "b" and module_of("a/c.py") == "c" and module_of("x.txt") == ""


def test_a_new_file_that_stands_in_for_a_module_is_flagged() -> None:
    after = {
        "train.py": "import torch\n",
        "torch.py": "",
        "sitecustomize.py": "",
        "random.py": "",
        "model.py": "",
    }
    found = lint({"train.py": "import torch\n"}, after, ABOUT)
    assert sorted(fact.path for fact in found) == ["random.py", "sitecustomize.py", "torch.py"]


def test_text_that_is_no_python_raises_nothing() -> None:
    assert facts("def (", "x = 1\n") == []
    assert facts("x = 1\n", "def (") == []
    assert lint({"a.yaml": "x: 1"}, {"a.yaml": "val_bpb: 2"}, ABOUT) == []


def test_a_move_of_lines_raises_nothing() -> None:
    assert facts(f'"""New words."""\n\n\n{TRAIN}') == []


@pytest.fixture
def world(tmp_path: Path) -> Project:
    world = a_project(tmp_path / "p")
    metric = ("--metric", "val_bpb", "--goal", "min", "--command", "python3 train.py")
    world.begin("--edit", "**/[_t]*.py", "--protect", "prepare.py", *metric)
    return world


def test_flags_are_in_the_verdict_and_on_the_trust_list(world: Project) -> None:
    world.edit("LR = 1.00", "random.seed(3)\nLR = 0.50")
    done = world.ok("try", "better, with a seed")
    assert done["verdict"] == "keep"
    assert done["flags"] == ["train.py:2 seed: random.seed(3)"]
    assert "look twice: train.py:2 seed" in world.run("show", "e001").out
    world.ok("finish")
    assert "e001: train.py:2 seed: random.seed(3)" in world.read(".autoresearch/report/report.md")


def test_a_stand_in_for_a_protected_file_is_refused(world: Project) -> None:
    world.edit("LR = 1.00", "LR = 0.50")
    world.write("prepare/__init__.py", "TIME_BUDGET = 500\n")
    before = world.git("count-objects")
    error = world.refused(9, "try", "better")
    assert "prepare/__init__.py would be imported in place of a protected file" in error["message"]
    assert world.git("count-objects") == before and "LR = 0.50" in world.read("train.py")
