from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import BUSY, LabError
from lab.frozen import freeze, thaw
from lab.journal import Journal
from lab.model import State


def a_campaign(folder: Path, experiments: int = 3) -> Journal:
    """A journal with a baseline and some candidates, each measured once and settled."""
    journal = Journal(folder / "journal.jsonl")
    journal.load()
    journal.append(
        "campaign_started", tag="t", branch="autoresearch/t", base="b" * 40, head="main", frozen={}
    )
    for number in range(experiments):
        name = f"e{number:03d}"
        commit = f"{number:040d}"
        journal.append(
            "proposed",
            experiment=name,
            commit=commit,
            tree=commit,
            parent="b" * 40,
            hypothesis=f"idea {number}",
        )
        journal.append("run_started", experiment=name, run=f"{name}.1", seed=42, nonce="n", commit=commit)
        journal.append("run_ended", experiment=name, run=f"{name}.1", outcome="ok", metric=1.0 - number / 10)
        journal.append("verdict", experiment=name, verdict="keep", reason="better", metric=1.0 - number / 10)
        journal.append("settled", experiment=name)
    return journal


def as_text(state: State) -> str:
    return json.dumps({**vars(state), "experiments": dict(state.experiments.items())}, default=vars)


def test_replay_gives_the_state_that_appending_gave(tmp_path: Path) -> None:
    journal = a_campaign(tmp_path)
    assert as_text(Journal(journal.path).load()) == as_text(journal.state)


def test_a_journal_cut_at_any_byte_loads_its_whole_lines_and_can_be_appended_to(tmp_path: Path) -> None:
    whole = a_campaign(tmp_path, experiments=1).path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        lines = sum(end <= cut for end in ends)
        assert journal.load().seq == lines
        assert bool(journal.notices) == (cut not in (0, *ends))
        if lines:
            journal.append("tree", commit="c" * 40)
            again = Journal(path)
            assert again.load().tree_at == "c" * 40
            assert not again.notices
            assert len(path.read_bytes().splitlines()) == lines + 1


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = a_campaign(tmp_path).path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b'{"event": "verdict", "exp\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(LabError, match="journal.jsonl:5:"):
        Journal(path).load()


@pytest.mark.parametrize(
    "bad", [b"17\n", b"[]\n", b'{"event":"tree"}\n', b"\xff\xfe\n", b'{"event":"settled"}\n']
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, bad: bytes) -> None:
    path = a_campaign(tmp_path).path
    path.write_bytes(path.read_bytes() + bad + b'{"event":"tree","commit":"x","seq":99}\n')
    with pytest.raises(LabError, match="journal.jsonl:17"):
        Journal(path).load()


def test_an_event_of_a_newer_release_is_refused_not_skipped(tmp_path: Path) -> None:
    path = a_campaign(tmp_path).path
    path.write_bytes(path.read_bytes() + b'{"seq":17,"event":"teleported"}\n')
    with pytest.raises(LabError, match="teleported"):
        Journal(path).load()


def test_an_append_over_another_writers_line_is_refused(tmp_path: Path) -> None:
    journal = a_campaign(tmp_path)
    other = Journal(journal.path)
    other.load()
    other.append("tree", commit="c" * 40)
    with pytest.raises(LabError) as caught:
        journal.append("tree", commit="d" * 40)
    assert caught.value.code == BUSY
    assert Journal(journal.path).load().tree_at == "c" * 40


def test_a_snapshot_gives_the_same_state_and_is_not_believed_when_the_journal_differs(tmp_path: Path) -> None:
    journal = a_campaign(tmp_path, experiments=900)  # past the size where a snapshot is written
    journal.save_snapshot()
    assert journal.snapshot_path.exists()
    with_snapshot = Journal(journal.path)
    assert as_text(with_snapshot.load()) == as_text(journal.state)
    assert with_snapshot._snapshot_at > 0
    text = journal.path.read_bytes()
    journal.path.write_bytes(text.replace(b'idea 7"', b'idea X"', 1))
    changed = Journal(journal.path)
    assert changed.load().get("e007").hypothesis == "idea X"
    journal.snapshot_path.write_bytes(journal.snapshot_path.read_bytes()[:-40])
    assert as_text(Journal(journal.path).load()) == as_text(changed.state)


def test_a_state_survives_freezing_and_thawing(tmp_path: Path) -> None:
    state = a_campaign(tmp_path).state
    assert thaw(freeze(state)) == state


def test_every_released_journal_still_replays() -> None:
    released = sorted(Path(__file__).with_name("journals").glob("*.jsonl"))
    assert released
    for path in released:
        expected = json.loads(path.with_suffix(".json").read_text())
        state = Journal(path).load()
        assert {e.id: e.verdict for e in state.experiments.values()} == expected["verdicts"], path
        assert state.incumbent_id == expected["incumbent"], path
        assert sum(len(e.runs) for e in state.experiments.values()) == expected["runs"], path
