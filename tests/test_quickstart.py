from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, git

SCRIPT = ROOT / "scripts" / "quickstart"
SHIPPED = "a = 1\n\nb = 2\n\nc = 3\n"
PATCH = """Hypothesis: A larger a: it helps.
Because: it was small
Expect: less

diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,2 +1,2 @@
-a = 1
+a = 9
 \n"""


loader = importlib.machinery.SourceFileLoader("quickstart", str(SCRIPT))
spec = importlib.util.spec_from_loader("quickstart", loader)
assert spec
quickstart = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
loader.exec_module(quickstart)
sys.dont_write_bytecode = kept


@pytest.fixture
def scratch(project: Path) -> Path:
    (project / "train.py").write_text(SHIPPED)
    git(project, "add", "train.py")
    git(project, "commit", "-q", "-m", "shipped")
    return project


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    path = tmp_path / "01-larger.patch"
    path.write_text(PATCH)
    return path


def test_the_words_of_an_edit_are_read(patch: Path) -> None:
    assert quickstart.read_edit(patch) == {
        "hypothesis": "A larger a: it helps.",
        "because": "it was small",
        "expect": "less",
    }


def test_an_edit_is_merged_into_a_moved_incumbent(scratch: Path, patch: Path) -> None:
    (scratch / "train.py").write_text(SHIPPED.replace("c = 3", "c = 7"))
    assert quickstart.apply_edit(patch, scratch)
    assert (scratch / "train.py").read_text() == SHIPPED.replace("a = 1", "a = 9").replace("c = 3", "c = 7")


def test_an_edit_in_conflict_with_the_incumbent_is_left_out(scratch: Path, patch: Path) -> None:
    moved = SHIPPED.replace("a = 1", "a = 5")
    (scratch / "train.py").write_text(moved)
    assert not quickstart.apply_edit(patch, scratch)
    assert (scratch / "train.py").read_text() == moved


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SystemExit, match="not empty"):
        quickstart.make_repository(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_its_repository_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    quickstart.make_repository(folder)
    first = git(folder, "rev-parse", "HEAD")
    quickstart.make_repository(folder)
    assert git(folder, "rev-parse", "HEAD") == first
    assert git(folder, "status", "--porcelain") == ""


def state_of_checkout() -> str:
    if not (ROOT / ".git").exists():
        return ""
    return git(ROOT, "for-each-ref", "--format=%(refname)") + git(ROOT, "config", "--list", "--local")


@pytest.mark.slow
def test_a_first_campaign_on_real_training(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    before = state_of_checkout()
    command = [
        sys.executable,
        str(SCRIPT),
        "--fast",
        "--python",
        sys.executable,
        "--in",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "AUTORESEARCH_DATA": str(tmp_path / "data")}
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    rows = [line.split("\t") for line in (tmp_path / "run" / "results.tsv").read_text().splitlines()]
    assert rows[0] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(rows) >= 8
    assert "crash" in {row[3] for row in rows}
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.returncode == 0
    assert again.stdout.startswith("going on with the campaign")
    assert len((tmp_path / "run" / "results.tsv").read_text().splitlines()) == len(rows)
    assert state_of_checkout() == before
