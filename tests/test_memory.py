from __future__ import annotations

import atexit
import functools
import json
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from notebooks import a_lab, an_experiment
from world import TRAIN, Project, a_project

from lab import memory, notes, recall
from lab.campaign import Lab
from lab.errors import LabError
from lab.lessons import Lesson, remember

LEARNINGS = "memories/learnings.md"
TRAINING = ("--command", "python train.py", "--metric", "val_bpb", "--goal", "min")
HOSTILE = [
    '"', "'", "AND", "NEAR(", "a* OR", "title:x", "c++", "lr=3e-4", "-", "^", "{", ")", "\0", "\udcff", "*",
    "NOT", "rate\0rate", "'; DROP TABLE entries; --", "学习率", "\u202e", "", " ", "\n",
]  # fmt: skip
NOTES = st.lists(
    st.sampled_from(
        [b"# Learnings", b"## 2026-11-21 Old", b"## no date", b"State: holds", b"State: replaced.", b"```",
         b"text", b"", b"caf\xe9", "学习率".encode(), b"Evidence: e001. Campaign: t1. State: holds.",
         b"\xef\xbb\xbf", b"~~~"]
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return a_lab(tmp_path / "p")


def text_of(lab: Lab, name: str = LEARNINGS) -> str:
    return (lab.root / name).read_text(encoding="utf-8")


# -- writing -----------------------------------------------------------------------------------------------


def test_an_entry_has_date_evidence_campaign_commit_and_state(lab: Lab) -> None:
    an_experiment(lab, "halve the rate", "keep", 0.9812)
    entry, fresh, _ = remember(lab, Lesson("Half the rate is better. It overshot.", evidence=("1", "e000")))
    assert fresh
    assert (entry.kind, entry.state, entry.campaign) == ("learning", "holds", "nov21")
    assert entry.evidence == ("e001", "e000")
    assert entry.title == "Half the rate is better"
    assert len(entry.date) == 10
    said = text_of(lab)
    assert "Evidence: e001 keep 0.981200, e000 keep 1.000000. Campaign: nov21, commit 0000000." in said
    assert "It overshot." in said


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("learning", "memories/learnings.md"),
        ("issue", "memories/issues.md"),
        ("decision", "memories/decisions.md"),
        ("architecture", "memories/repo/architecture.md"),
        ("campaign", "memories/campaigns/nov21.md"),
    ],
)
def test_each_kind_has_its_file(lab: Lab, kind: str, file: str) -> None:
    entry, _, _ = remember(lab, Lesson("a fact", kind))
    assert (entry.file, entry.kind) == (file, kind)
    assert "a fact" in text_of(lab, file)


def test_every_kind_is_in_the_list_of_that_test() -> None:
    assert set(memory.KINDS) == {"learning", "issue", "decision", "architecture", "campaign"}


def test_evidence_must_exist_and_have_a_verdict_before_anything_is_written(lab: Lab) -> None:
    an_experiment(lab, "still going", verdict=None)
    for name in ("e007", "e001", "nonsense"):
        with pytest.raises(LabError):
            remember(lab, Lesson("a fact", evidence=(name,)))
    with pytest.raises(LabError, match="no entry"):
        remember(lab, Lesson("a fact", replaces="m0000"))
    assert not (lab.root / "memories").exists()


def test_the_same_text_twice_is_one_entry(lab: Lab) -> None:
    first, _, _ = remember(lab, Lesson("Half the rate is better. Really."))
    before = text_of(lab)
    again, fresh, _ = remember(lab, Lesson("Half the rate is better. Really."))
    assert (again.id, fresh) == (first.id, False)
    assert text_of(lab) == before


def test_what_replaces_an_entry_is_named_in_it_and_the_rest_of_the_file_stays(lab: Lab) -> None:
    path = lab.root / LEARNINGS
    path.parent.mkdir()
    before = (
        "# Mine\r\n\r\n## 2026-01-01 Old rule\r\n\r\nText.\r\nState: **holds**\r\nmore\r\n\r\n## Other\r\nx"
    )
    path.write_bytes(before.encode())
    old = memory.entries(lab.root)[0]
    new, _, _ = remember(lab, Lesson("New rule", replaces=old.id))
    changed = path.read_bytes().decode()
    said = f"State: replaced, see {new.date} New rule."
    assert changed.startswith(before.replace("State: **holds", said))
    assert [e.state for e in memory.entries(lab.root)] == ["replaced", None, "holds"]


def test_a_contradiction_marks_an_entry_that_had_no_state(lab: Lab) -> None:
    path = lab.root / "memories/issues.md"
    path.parent.mkdir()
    path.write_text("# Issues\n\n## 2026-01-01 Batch 64 fits\n\nSeen once.\n\n## Last\n\nx\n")
    old = memory.entries(lab.root)[0]
    remember(lab, Lesson("It does not", contradicts=old.id))
    assert "Seen once.\nState: contradicted, see " in path.read_text()
    found = {e.title: e.state for e in memory.entries(lab.root)}
    assert found["Batch 64 fits"] == "contradicted" and found["Last"] is None


def test_an_alike_entry_is_pointed_at(lab: Lab) -> None:
    first, _, _ = remember(lab, Lesson("a warm-up of 20 steps helps"))
    _, _, told = remember(lab, Lesson("warmup of 20 steps helps"))
    assert told and first.id in told[0] and "--replaces" in told[0]


@given(NOTES, st.sampled_from([b"\n", b"\r\n"]), st.text(min_size=1, max_size=300), st.booleans())
@settings(max_examples=50, deadline=None)
def test_remembering_keeps_every_byte_that_was_there(
    lines: list[bytes], end: bytes, text: str, last: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = a_lab(Path(folder))
        path = lab.root / LEARNINGS
        path.parent.mkdir()
        before = end.join(lines) + (end if last and lines else b"")
        path.write_bytes(before)
        try:
            entry, fresh, _ = remember(lab, Lesson(text))
        except LabError:
            assert path.read_bytes() == before
            return
        after = path.read_bytes()
        assert after.startswith(before)
        assert fresh
        assert entry in memory.entries(lab.root)
        ids = [e.id for e in memory.entries(lab.root)]
        assert len(ids) == len(set(ids))
        if b"\n" in before:
            assert end == b"\n" or b"\n" not in after[len(before) :].replace(b"\r\n", b"")


def test_a_text_cannot_make_entries_of_its_own_nor_a_state(lab: Lab) -> None:
    remember(lab, Lesson("one\n## 2026-01-01 two\n```\nState: replaced\nEvidence: e999"))
    remember(lab, Lesson("# heading"))
    found = memory.entries(lab.root)
    assert len(found) == 2
    assert all(entry.state == "holds" and entry.evidence == () for entry in found)


def test_a_file_that_is_no_text_is_refused_and_stays(lab: Lab) -> None:
    path = lab.root / LEARNINGS
    path.parent.mkdir()
    path.write_bytes("# Mine\n".encode("utf-16"))
    before = path.read_bytes()
    with pytest.raises(LabError, match="UTF-8"):
        remember(lab, Lesson("a fact"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["memories", "memories/learnings.md", "memories/campaigns"])
def test_a_link_cannot_lead_out_of_the_project(lab: Lab, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("# secret\n\n## 2026-01-01 token\nState: holds.\n")
    place = lab.root / what
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / "secret.md" if what.endswith(".md") else outside)
    kind = "campaign" if what.endswith("campaigns") else "learning"
    with pytest.raises(LabError, match="leads out"):
        remember(lab, Lesson("a fact", kind))
    assert sorted(p.name for p in outside.iterdir()) == ["secret.md"]
    assert "a fact" not in (outside / "secret.md").read_text()
    assert recall.recall(lab.root, None, "token", 5).hits == []


def test_a_tag_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    lab = a_lab(tmp_path / "p", tag="../../../etc")
    with pytest.raises(LabError, match="tag"):
        remember(lab, Lesson("a fact", "campaign"))
    assert not list(tmp_path.rglob("etc*"))


def test_the_mode_of_a_file_stays(lab: Lab) -> None:
    path = lab.root / LEARNINGS
    path.parent.mkdir()
    path.write_text("# Mine\n")
    path.chmod(0o664)
    remember(lab, Lesson("a fact"))
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_save_of_a_person_between_reading_and_writing_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text("one\n")
    saves = iter([b"one\ntwo\n", b"one\ntwo\nthree\n"])

    def make(data: bytes) -> bytes:
        saved = next(saves, None)
        if saved:
            path.write_bytes(saved)  # an editor saves while we compute
        return data + b"ours\n"

    assert notes.change(path, make)
    assert path.read_bytes() == b"one\ntwo\nthree\nours\n"
    assert [p.name for p in tmp_path.iterdir()] == ["note.md"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "note.md"

    def make(data: bytes) -> bytes:
        if not data:
            path.write_bytes(b"theirs\n")
        return data + b"ours\n"

    notes.change(path, make)
    assert path.read_bytes() == b"theirs\nours\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names in one step")
@pytest.mark.parametrize(("stands", "taken"), [(b"before", True), (b"saved at the last moment", False)])
def test_a_save_between_the_last_look_and_the_exchange_is_put_back(
    tmp_path: Path, stands: bytes, taken: bool
) -> None:
    path, staged = tmp_path / "note.md", tmp_path / "staged"
    path.write_bytes(stands)
    staged.write_bytes(b"ours")
    assert notes._swapped_in(staged, path, b"before", b"ours") is taken
    assert path.read_bytes() == (b"ours" if taken else stands)


def _remember_ten(root: str, who: int) -> None:
    lab = Lab(Path(root))
    lab.read()
    for n in range(10):
        remember(lab, Lesson(f"writer {who} saw thing number {n}"))


@pytest.mark.slow
def test_two_agents_and_a_person_at_once_lose_nothing(lab: Lab) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_remember_ten, args=(str(lab.root), who)) for who in range(2)]
    for writer in writers:
        writer.start()
    path = lab.root / LEARNINGS
    said = 0
    while any(writer.is_alive() for writer in writers):
        if path.exists() and said < 10:
            line = f"\na person's line {said}\n".encode()
            notes.change(path, lambda data, line=line: data + line)
            said += 1
        for writer in writers:
            writer.join(0.02)
    assert [writer.exitcode for writer in writers] == [0, 0]
    text = text_of(lab)
    assert all(f"## {e.date} {e.title}" in text for e in memory.entries(lab.root))
    assert len(memory.entries(lab.root)) == 20
    assert all(text.count(f"a person's line {n}\n") == 1 for n in range(said))


# -- reading -----------------------------------------------------------------------------------------------


def test_the_notes_of_this_repository_are_entries() -> None:
    found = memory.entries(ROOT)
    assert {entry.kind for entry in found} >= {"issue", "decision", "architecture"}
    for entry in found:
        if entry.kind in ("learning", "issue", "decision"):
            assert entry.date and entry.state == "holds", entry.title


@given(st.binary(max_size=400) | NOTES.map(b"\n".join))
@settings(max_examples=200, deadline=None)
def test_any_bytes_can_be_read_as_entries(data: bytes) -> None:
    for file in ("memories/learnings.md", "memories/campaigns/x.md", "memories/other.md"):
        for entry in memory.parsed(data, file):
            assert entry.title and entry.line >= 1


def test_ids_are_unique_also_for_the_same_heading_twice(lab: Lab) -> None:
    path = lab.root / LEARNINGS
    path.parent.mkdir()
    path.write_text("## 2026-01-01 Same\nx\n\n## 2026-01-01 Same\ny\n" * 20)
    ids = [entry.id for entry in memory.entries(lab.root)]
    assert len(ids) == len(set(ids)) == 40


# -- searching ---------------------------------------------------------------------------------------------


def filled(lab: Lab) -> Lab:
    for text in (
        "A warm-up of 20 steps beats none at this budget",
        "Batch 128 runs out of memory on 24 GB",
        "学习率 0.04 比 0.02 好",
        "Weight decay on embeddings hurts",
    ):
        remember(lab, Lesson(text))
    return lab


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("warmup", "A warm-up"), ("warm-up steps", "A warm-up"), ("embedding", "Weight"), ("HURT", "Weight"),
        ("学习", "学习率"), ("OOM memory 24", "Batch"), ("budgets", "A warm-up"),
        ("learnings about decay", "Weight"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["fts5", "scan"])
def test_words_are_found_whatever_their_ending(
    lab: Lab, query: str, wanted: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(lab)
    if by == "scan":
        monkeypatch.setitem(sys.modules, "sqlite3", None)
    found = recall.recall(lab.root, lab.home / "recall.sqlite", query, 5)
    assert found.by == by
    assert found.hits[0].title.startswith(wanted)


@pytest.mark.parametrize("query", [*HOSTILE, "x" * 10_000_000, '"' * 100_000, "a " * 1_000_000])
def test_a_hostile_query_is_data(lab: Lab, query: str) -> None:
    filled(lab)
    found = recall.recall(lab.root, lab.home / "recall.sqlite", query, 3)
    assert found.known == 4 and len(found.hits) <= 3


@functools.cache
def _once() -> Path:
    """One campaign for all examples, which a fixture of each test cannot give; gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="recall-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    filled(a_lab(folder / "p"))
    return folder / "p"


@given(st.text(max_size=80) | st.lists(st.sampled_from(HOSTILE), max_size=6).map(" ".join))
@settings(max_examples=150, deadline=None)
def test_recall_never_raises(query: str) -> None:
    root = _once()
    found = recall.recall(root, root / ".autoresearch/recall.sqlite", query, 3)
    assert (found.known, found.by) == (4, "fts5")


def test_the_index_follows_every_change_of_a_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "SETTLED_SECONDS", 3600.0)  # however long this machine takes for two lines
    filled(lab)
    index = lab.home / "recall.sqlite"
    assert recall.recall(lab.root, index, "embeddings", 5).matching == 1
    path = lab.root / LEARNINGS
    seen = path.stat()
    path.write_text(path.read_text().replace("embeddings", "heads12345"))  # the same size
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # and the same time
    assert recall.recall(lab.root, index, "embeddings", 5).matching == 0
    assert recall.recall(lab.root, index, "heads12345", 5).matching == 1
    path.unlink()
    assert recall.recall(lab.root, index, "heads12345", 5).known == 0


def test_an_index_is_not_made_again_while_the_files_are_old_and_the_same(lab: Lab) -> None:
    filled(lab)
    index = lab.home / "recall.sqlite"
    old = (lab.root / LEARNINGS).stat().st_mtime - 3600
    os.utime(lab.root / LEARNINGS, (old, old))
    recall.recall(lab.root, index, "x", 5)
    made = index.stat().st_ino
    assert recall.recall(lab.root, index, "embeddings", 5).matching == 1
    assert index.stat().st_ino == made
    os.utime(lab.root / LEARNINGS, (old - 60, old - 60))  # touched, with the same content
    recall.recall(lab.root, index, "x", 5)
    assert index.stat().st_ino == made


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_index_is_made_anew(lab: Lab, content: bytes) -> None:
    filled(lab)
    index = lab.home / "recall.sqlite"
    index.write_bytes(content)
    found = recall.recall(lab.root, index, "embeddings", 5)
    assert (found.matching, found.by) == (1, "fts5")


def test_an_index_that_another_table_layout_wrote_is_made_anew(lab: Lab) -> None:
    filled(lab)
    index = lab.home / "recall.sqlite"
    with sqlite3.connect(index) as base:
        base.execute("CREATE TABLE facts (name TEXT, value TEXT)")
    base.close()
    assert recall.recall(lab.root, index, "embeddings", 5).matching == 1


def test_ten_thousand_entries_are_cut_to_what_was_asked(lab: Lab) -> None:
    path = lab.root / LEARNINGS
    path.parent.mkdir()
    path.write_text("".join(f"## 2026-01-01 rate {n}\n\nState: holds.\n\n" for n in range(2_000)))
    found = recall.recall(lab.root, lab.home / "recall.sqlite", "rate", 7)
    assert len(found.hits) == 7 and found.matching == found.known == 2_000


# -- the verbs ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_reaches_the_second_campaign_and_stands_in_nobody_s_way(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p")
    world.begin()
    world.edit("LR = 1.00", "LR = 0.50")
    world.ok("try", "halve the rate")
    said = world.ok("remember", "Half the rate is better; above 1 it diverges", "--from", "e001")
    assert said["fresh"] and said["entry"]["evidence"] == ["e001"]
    assert world.refused(4, "remember", "x", "--from", "e044")["message"].startswith("there is no experiment")
    status = world.run("status").out
    assert "memory: 1 entry, 1 hold" in status and "Half the rate is better" in status
    assert len(status.splitlines()) <= 30
    finished = world.run("finish").out.splitlines()
    assert finished[-1].startswith("next: `remember")
    world.git("add", "memories")
    world.git("commit", "-q", "-m", "notes")
    with (world.root / LEARNINGS).open("a") as file:
        file.write("\n## 2026-11-21 By hand\n\nState: holds.\n")  # a dirty tree, but for a note only
    world.ok("init", "--tag", "t2")
    found = world.ok("recall", "diverging rate")
    assert found["entries"][0]["campaign"] == "t1"
    world.ok("baseline", "--repeats", "1")
    assert "nothing to try" in world.refused(4, "try", "only a note changed")["message"]
    world.edit("LR = 1.00", "LR = 0.70")
    assert world.ok("try", "another amount")["verdict"] == "keep"
    assert world.git("show", "--name-only", "--format=", "autoresearch/t2") == "train.py"
    assert "By hand" in world.read(LEARNINGS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["note.staged", "note.written", "remember.appended", "note.staged#2", "note.written#2"]
)
def test_a_kill_within_remember_is_made_up_for_by_the_same_call(tmp_path: Path, point: str) -> None:
    world = a_project(tmp_path / "p")
    world.ok("init", "--tag", "t1")
    old = world.ok("remember", "the old rule")["entry"]["id"]
    call = ("remember", "quite another rule", "--replaces", old)
    at = point if "#" in point else f"{point}#1"
    assert world.run(*call, env={"AUTORESEARCH_DIE_AT": at}).code == -9
    world.ok(*call)
    assert [(e.title, e.state) for e in memory.entries(world.root)] == [
        ("the old rule", "replaced"),
        ("quite another rule", "holds"),
    ]
    assert not list(world.root.rglob("*autoresearch-tmp"))


@pytest.mark.slow
def test_notes_are_no_part_of_a_candidate_even_when_everything_may_change(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p", {"train.py": TRAIN})
    world.ok("init", "--tag", "t1", "--edit", ".", *TRAINING)
    world.ok("baseline", "--repeats", "1")
    world.ok("remember", "a fact")
    world.edit("LR = 1.00", "LR = 0.50")
    world.ok("try", "halve")
    files = world.git("show", "--name-only", "--format=", "autoresearch/t1").splitlines()
    assert "train.py" in files and not [name for name in files if name.startswith("memories")]
    assert "a fact" in world.read(LEARNINGS)


def test_recall_works_in_a_fresh_clone_without_a_campaign(tmp_path: Path) -> None:
    world = Project(tmp_path)
    world.write("memories/learnings.md", "## 2026-01-01 Warm-up helps\n\nState: holds.\n")
    assert world.ok("recall", "warmup")["matching"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["memories"]
    long = world.run("recall", "warmup " * 4_000)
    assert long.code == 0 and len(long.out) < 8_000


def test_an_entry_is_json_with_all_its_fields(lab: Lab) -> None:
    entry, _, _ = remember(lab, Lesson("a fact"))
    assert recall._thawed(json.dumps(vars(entry))) == replace(entry)
