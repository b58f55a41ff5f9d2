from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lab import atomic
from lab.atomic import sync_file, write_all, write_atomic

SCRIPTS = Path(atomic.__file__).parents[1]


def test_the_new_bytes_replace_the_old_ones_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")
    write_atomic(target, b"\x00new")
    assert target.read_bytes() == b"\x00new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_mode_is_the_one_asked_for_within_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "run", "", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), "x")


def test_a_link_is_replaced_and_its_target_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", "ours")
    assert (tmp_path / "target").read_text() == "theirs"
    assert not (tmp_path / "link").is_symlink()


def test_a_failed_write_keeps_the_old_bytes_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            write_atomic(target, b"n" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_kill_between_the_temporary_file_and_the_rename_keeps_the_old_bytes(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")
    code = "import sys, pathlib, lab.atomic as a; a.write_atomic(pathlib.Path(sys.argv[1]), 'new', name='w')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        cwd=SCRIPTS,
        env={**os.environ, "AUTORESEARCH_DIE_AT": "w_tmp#1"},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert [path.suffix for path in tmp_path.iterdir() if path != target] == [atomic.TEMPORARY]


def test_where_the_system_has_a_full_sync_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _descriptor, command: asked.append(command))
    with (tmp_path / "f").open("wb") as file:
        sync_file(file.fileno())
    assert asked == [51]


def test_a_file_system_that_refuses_the_full_sync_still_gets_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def refuse(_descriptor: int, _command: int) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "f").open("wb") as file:
        sync_file(file.fileno())
        assert synced == [file.fileno()]


def test_bytes_larger_than_a_pipe_takes_at_once_all_arrive(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(["wc", "-c"], stdin=reader, stdout=subprocess.PIPE) as counter:
        os.close(reader)
        write_all(writer, b"x" * 300_000)
        os.close(writer)
        assert counter.communicate()[0].strip() == b"300000"
