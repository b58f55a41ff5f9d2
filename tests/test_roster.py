from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_journal import as_text

from lab.changes import replay
from lab.frozen import freeze, thaw
from lab.journal import Journal
from lab.model import LATELY, State

COUNT = 900


@pytest.fixture
def long(tmp_path: Path) -> Journal:
    """A campaign with everything in it: keeps, discards, crashes, repeats, an open and an unsettled one."""
    journal, chance = Journal(tmp_path / "journal.jsonl"), random.Random(7)
    journal.load()
    journal.append("campaign_started", tag="t", branch="b", base="b" * 40, head="main", frozen={})
    for number in range(COUNT):
        name, commit = f"e{number:03d}", f"{number:040d}"
        fields = {
            "commit": commit,
            "tree": commit,
            "parent": "b" * 40,
            "hypothesis": f"idea {number} \u2028 é",
        }
        journal.append("proposed", experiment=name, **fields)
        for repeat in range(chance.choice((1, 1, 1, 2))):
            run = {"experiment": name, "run": f"{name}.{repeat + 1}"}
            journal.append("run_started", **run, seed=42 + repeat, nonce="n", commit=commit)
            journal.append("run_ended", **run, outcome="ok", metric=number / 7)
        if number == COUNT - 1:
            break
        verdict = "keep" if number % 50 == 0 else chance.choice(("discard", "discard", "crash"))
        journal.append("verdict", experiment=name, verdict=verdict, reason="so", metric=number / 7)
        if number != COUNT - 2:
            journal.append("settled", experiment=name)
    journal.save_snapshot()
    assert journal.snapshot_path.exists()
    return journal


def asleep(state: State) -> int:
    return sum(state.experiments.tally.values())


def test_what_status_asks_for_wakes_a_few(long: Journal) -> None:
    state, fresh = Journal(long.path).load(), replay([])
    assert fresh.counts() == {"keep": 0, "discard": 0, "crash": 0, "open": 0}
    sleeping = asleep(state)
    assert sleeping > COUNT / 2
    assert state.counts() == long.state.counts() and sum(state.counts().values()) == COUNT
    assert [e.id for e in state.open()] == [f"e{COUNT - 1}"]
    assert [e.id for e in state.unsettled()] == [f"e{COUNT - 2}"]
    assert state.next_number() == COUNT
    assert {e.id for e in state.present()} == {e.id for e in long.state.experiments.values() if not e.past}
    assert asleep(state) == sleeping
    assert [e.id for e in state.lately()] == [f"e{n:03d}" for n in range(COUNT - 1, COUNT - 1 - LATELY, -1)]
    assert sleeping - LATELY <= asleep(state) < sleeping
    assert state.counts() == long.state.counts()


def test_every_experiment_is_what_it_was(long: Journal) -> None:
    state = Journal(long.path).load()
    assert list(reversed(state.experiments)) == list(state.experiments)[::-1]
    middle = state.experiments["e451"]
    assert middle.hypothesis == "idea 451 \u2028 é" and middle.runs[0].metric == 451 / 7
    assert state.experiments["e451"] is middle and "e451" in state.experiments
    assert "e9999" not in state.experiments and state.experiments.get("e9999") is None
    with pytest.raises(KeyError):
        state.experiments["e9999"]
    assert as_text(state) == as_text(long.state)
    assert asleep(state) == 0 and state == long.state


def test_a_record_changes_an_experiment_that_slept(long: Journal) -> None:
    short = Journal(long.path)
    name = next(e.id for e in long.state.experiments.values() if e.past and e.number > 300)
    before = short.load().counts()
    short.append("verdict", experiment=name, verdict="keep", reason="after all", metric=0.0)
    after = short.state.counts()
    assert after["keep"] == before["keep"] + 1 and sum(after.values()) == sum(before.values())
    assert [e.id for e in short.state.unsettled()][0] == name
    assert short.state.incumbent is short.state.experiments[name]
    long.snapshot_path.unlink()
    assert as_text(short.state) == as_text(Journal(long.path).load())


def test_freezing_again_gives_the_same_bytes_whoever_was_awake(long: Journal) -> None:
    first = freeze(long.state)
    again = thaw(first)
    assert freeze(again) == first
    again.experiments["e010"], list(again.lately())
    assert freeze(again) == first
    del again.experiments["e010"]
    again.experiments.wake_all()
    assert len(again.experiments) == COUNT - 1 and sum(again.counts().values()) == COUNT - 1


def test_a_snapshot_with_a_changed_row_is_not_believed(long: Journal) -> None:
    whole = long.snapshot_path.read_bytes()
    assert whole.count(b'"idea 333 ') == 1
    long.snapshot_path.write_bytes(whole.replace(b'"idea 333 ', b'"idea 334 '))
    changed = Journal(long.path)
    assert changed.load().get("e333").hypothesis.startswith("idea 333")
    assert changed._snapshot_at == 0
    long.snapshot_path.write_bytes(
        b'{"bytes": 17, "hash": "x", "broken": null, "state": {}}'
    )  # an older release
    assert as_text(Journal(long.path).load()) == as_text(long.state)
