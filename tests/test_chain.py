from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_journal import a_campaign

from lab.chain import Chain, link_of
from lab.errors import LabError
from lab.journal import Journal

RELEASED = Path(__file__).with_name("journals") / "0.1.0.jsonl"


def walked(data: bytes) -> Chain:
    chain = Chain()
    for line in data.split(b"\n")[:-1]:
        chain.take(line)
    return chain


def is_noticed(path: Path, data: bytes, snapshot: bool = False) -> bool:
    """Whether loading these bytes says that something is wrong."""
    path.write_bytes(data)
    journal = Journal(path)
    try:
        journal.load()
    except LabError as error:
        return f"{path}:" in error.message or "does not know" in error.message
    return bool(journal.notices)


def test_every_record_is_linked_to_the_one_before_it(tmp_path: Path) -> None:
    data = a_campaign(tmp_path).path.read_bytes()
    lines = data.split(b"\n")[:-1]
    assert len({link_of(line) for line in lines} - {""}) == len(lines) == 16
    assert all(json.loads(line)["link"] == link_of(line) for line in lines)
    chain = walked(data)
    assert (chain.begins, chain.broken, chain.end) == (1, None, link_of(lines[-1]))


@pytest.mark.parametrize("bits", [0x01, pytest.param(None, marks=pytest.mark.slow)])
def test_a_flipped_byte_is_noticed_wherever_it_is(tmp_path: Path, bits: int | None) -> None:
    whole = a_campaign(tmp_path, experiments=2).path.read_bytes()
    flipped = 0
    for place in range(len(whole)):
        for mask in [bits] if bits else [1 << bit for bit in range(8)]:
            data = bytearray(whole)
            data[place] ^= mask
            assert is_noticed(tmp_path / "flipped.jsonl", bytes(data)), (place, mask)
            flipped += 1
    print(f"FIGURE P11 flips={flipped} noticed={flipped}")


def test_a_line_taken_out_put_in_changed_or_moved_is_named(tmp_path: Path) -> None:
    lines = a_campaign(tmp_path).path.read_bytes().splitlines(keepends=True)
    for place in range(len(lines) - 1):
        assert walked(b"".join(lines[:place] + lines[place + 1 :])).broken == place + 1
        swapped = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        assert walked(b"".join(swapped)).broken == place + 1
    for place in range(1, len(lines)):
        assert walked(b"".join(lines[:place] + [b'{"event":"tree"}\n'] + lines[place:])).broken == place + 1
        assert walked(b"".join([*lines[:place], lines[place - 1], *lines[place:]])).broken == place + 1
    better = [line.replace(b'"metric":0.9', b'"metric":0.1') for line in lines]
    assert better != lines and walked(b"".join(better)).broken == 9


def test_after_a_break_the_chain_goes_on_and_stays_named(tmp_path: Path) -> None:
    path = a_campaign(tmp_path).path
    path.write_bytes(path.read_bytes().replace(b"idea 1", b"idea X"))
    journal = Journal(path)
    journal.load()
    assert journal.broken == 7 and "journal.jsonl:7 does not follow" in journal.notices[0]
    journal.append("tree", commit="c" * 40)
    chain = walked(path.read_bytes())
    assert (chain.broken, chain.line) == (7, 17)
    assert link_of(path.read_bytes().splitlines()[-1]) == chain.end


def test_a_journal_of_an_older_release_is_covered_from_its_first_linked_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(RELEASED.read_bytes())
    old = path.read_bytes().count(b"\n")
    journal = Journal(path)
    journal.load()
    assert not journal.notices
    journal.append("tree", commit="c" * 40)
    journal.append("tree", commit="d" * 40)
    data = path.read_bytes()
    assert (walked(data).begins, walked(data).broken) == (old + 1, None)
    changed = data.replace(b'"verdict":"discard"', b'"verdict":"keep"', 1)
    assert changed != data and walked(changed).broken == old + 1
    again = Journal(path)
    again.load()
    assert not again.notices and again.broken is None


def test_a_break_stays_known_when_a_snapshot_covers_it(tmp_path: Path) -> None:
    path = a_campaign(tmp_path, experiments=3).path
    path.write_bytes(path.read_bytes().replace(b"idea 1", b"idea X"))
    journal = Journal(path)
    journal.load()
    journal._snapshot_at = -(1 << 20)  # as if enough had come
    journal.save_snapshot()
    again = Journal(path)
    again.load()
    assert again._snapshot_at > 0 and again.broken == 7 and again.notices
