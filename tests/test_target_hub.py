"""Corpora of the hub, from a hub of our own that cuts connections, forgets ranges and sends wrong bytes."""

from __future__ import annotations

import builtins
import errno
import hashlib
import random
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_target import prepare, settings_for

CONTENT = random.Random(0).randbytes(300_000)
NAME = "some/set"


class Hub(BaseHTTPRequestHandler):
    """An address under /datasets/ leads to one under /cdn/, as on the real hub; each trick is done once."""

    files: dict[str, bytes] = {}
    tricks: list[str] = []
    asked: list[str] = []
    named: dict[str, str] = {}

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        place = self.path.rpartition("/")[2]
        content = self.files.get(place)
        if content is None:
            self.answer(404)
        elif self.path.startswith("/datasets/"):
            sha256 = self.named.get(place, hashlib.sha256(content).hexdigest())
            self.answer(302, Location=f"/cdn/{self.path[1:]}", X_Linked_Etag=f'"{sha256}"')
        else:
            self.asked.append(f"{self.path} {self.headers.get('Range') or ''}".strip())
            self.send_bytes(content, self.tricks.pop(0) if self.tricks else "")

    def send_bytes(self, content: bytes, trick: str) -> None:
        kind, _, amount = trick.partition(" ")
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if kind == "status":
            code, _, wait = amount.partition(" ")
            return self.answer(int(code), **({"Retry_After": wait} if wait else {}))
        if kind == "wrong":
            content = bytes(len(content))
        if start >= len(content):
            return self.answer(416, Content_Range=f"bytes */{len(content)}")
        if kind == "whole" or not start:
            self.answer(200, content, cut=amount if kind == "cut" else "")
        else:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], cut=amount if kind == "cut" else "", Content_Range=span)
        return None

    def answer(self, code: int, body: bytes = b"", cut: str = "", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(cut)] if cut else body)
        self.close_connection = True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files, Hub.tricks, Hub.asked, Hub.named = {"a.txt": CONTENT}, [], [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(prepare, "sleep", lambda seconds: None)
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def a_file(sha256: str | None = hashlib.sha256(CONTENT).hexdigest(), path: str = "a.txt") -> Any:
    return prepare.HubFile(NAME, "c0ffee" * 6 + "c0de", path, sha256)


def half_of(data: Path, content: bytes) -> Path:
    path = data / "hub" / "some--set" / "c0ffeec0ffee" / "a.txt.part"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------------
# Fetching
# ---------------------------------------------------------------------------


def test_a_file_is_fetched_once_at_its_revision(hub: type[Hub], tmp_path: Path) -> None:
    for _ in range(2):
        assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT
    assert hub.asked == [f"/cdn/datasets/{NAME}/resolve/{'c0ffee' * 6}c0de/a.txt"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_cut_connection_is_gone_on_with_where_it_broke(hub: type[Hub], tmp_path: Path) -> None:
    hub.tricks = ["cut 1000", "cut 50000", "cut 7"]
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT
    ranges = [line.partition(" ")[2] for line in hub.asked]
    assert ranges == ["", "bytes=1000-", "bytes=51000-", "bytes=51007-"]


def test_the_half_of_a_process_that_was_killed_is_gone_on_with(hub: type[Hub], tmp_path: Path) -> None:
    half_of(tmp_path, CONTENT[:123_456])
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT
    assert hub.asked[0].endswith(" bytes=123456-")


def test_a_server_that_knows_no_ranges_is_read_from_the_beginning(hub: type[Hub], tmp_path: Path) -> None:
    hub.tricks = ["cut 1000", "whole"]
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [0, 10])
def test_a_half_that_is_too_long_is_thrown_away(hub: type[Hub], tmp_path: Path, extra: int) -> None:
    half_of(tmp_path, bytes(len(CONTENT) + extra))
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", ["status 500", "status 503", "status 429", "status 408", "cut 1"])
def test_passing_trouble_is_waited_out(hub: type[Hub], tmp_path: Path, trouble: str) -> None:
    hub.tricks = [trouble] * (prepare.HUB_TRIES - 1)
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT


def test_waits_grow_and_are_never_shorter_than_the_server_asks(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(prepare, "sleep", waits.append)
    hub.tricks = ["status 500", "status 500", "status 500", "status 429 17", "status 429 9999"]
    prepare.fetch(a_file(), tmp_path)
    assert waits == [1, 2, 4, 17, 60]


def test_trouble_that_lasts_ends_with_the_way_out(hub: type[Hub], tmp_path: Path) -> None:
    hub.tricks = ["cut 1000"] + ["status 500"] * 20
    with pytest.raises(SystemExit, match=r"500 .*kept.*CORPUS=pystdlib.*HF_ENDPOINT.*put the file at"):
        prepare.fetch(a_file(), tmp_path)
    assert len(hub.asked) == 1 + prepare.HUB_TRIES
    hub.tricks = []
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT
    assert hub.asked[-1].endswith(" bytes=1000-")


def test_no_network_is_one_line_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(prepare, "sleep", lambda seconds: None)
        with pytest.raises(SystemExit) as ended:
            prepare.fetch(a_file(), tmp_path)
    assert re.search(r"refused.*AUTORESEARCH_CORPUS=pystdlib.*HF_ENDPOINT", str(ended.value))
    assert "\n" not in str(ended.value)


def test_a_full_disk_is_no_trouble_of_the_network(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "receive", full)
    with pytest.raises(SystemExit, match=r"no room for .*AUTORESEARCH_DATA"):
        prepare.fetch(a_file(), tmp_path)
    assert len(hub.asked) == 1


def test_a_file_that_is_not_there_is_not_asked_for_again(hub: type[Hub], tmp_path: Path) -> None:
    hub.files = {}
    with pytest.raises(SystemExit, match="404"):
        prepare.fetch(a_file(), tmp_path)
    assert len(hub.asked) == 0


def test_wrong_bytes_are_fetched_once_more_from_the_beginning(hub: type[Hub], tmp_path: Path) -> None:
    hub.tricks = ["wrong"]
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT
    assert [line.partition(" ")[2] for line in hub.asked] == ["", ""]


def test_a_half_of_other_bytes_is_mended(hub: type[Hub], tmp_path: Path) -> None:
    half_of(tmp_path, b"x" * 1000)
    assert prepare.fetch(a_file(), tmp_path).read_bytes() == CONTENT


def test_bytes_that_stay_wrong_are_refused_and_not_kept(hub: type[Hub], tmp_path: Path) -> None:
    hub.tricks = ["wrong"] * 9
    with pytest.raises(SystemExit, match="has sha256 .*, not "):
        prepare.fetch(a_file(), tmp_path)
    assert len(hub.asked) == 2
    assert not [path for path in tmp_path.rglob("a.txt*") if path.stat().st_size]


def test_a_file_that_was_changed_on_disk_is_fetched_again(hub: type[Hub], tmp_path: Path) -> None:
    for sha256 in (a_file().sha256, None):
        path = prepare.fetch(a_file(sha256), tmp_path)
        path.write_bytes(b"x" + CONTENT[1:])
        assert prepare.fetch(a_file(sha256), tmp_path).read_bytes() == CONTENT


def test_what_the_hub_says_is_written_down_at_the_first_download(hub: type[Hub], tmp_path: Path) -> None:
    path = prepare.fetch(a_file(None), tmp_path)
    note = path.with_name("a.txt.sha256").read_text().strip()
    assert note == hashlib.sha256(CONTENT).hexdigest()
    path.unlink()
    hub.files = {"a.txt": CONTENT[::-1]}  # another file under the same name, rightly named by the hub
    with pytest.raises(SystemExit, match=f"not {note[:12]}"):
        prepare.fetch(a_file(None), tmp_path)


def test_bytes_are_compared_with_what_the_hub_says_of_them(hub: type[Hub], tmp_path: Path) -> None:
    hub.named = {"a.txt": "0" * 64}
    with pytest.raises(SystemExit, match="not 000000000000"):
        prepare.fetch(a_file(None), tmp_path)


def test_a_file_put_there_by_hand_is_taken(hub: type[Hub], tmp_path: Path) -> None:
    path = half_of(tmp_path, b"").with_name("a.txt")
    path.write_bytes(CONTENT)
    assert prepare.fetch(a_file(), tmp_path) == path
    assert hub.asked == []


@pytest.mark.parametrize("sha256", [a_file().sha256, None])
def test_one_that_looked_before_it_was_there_does_not_take_it_away(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sha256: str | None
) -> None:
    pytest.importorskip("fcntl")
    looks, first, exists = [], threading.Event(), Path.exists

    def late(path: Path) -> bool:
        seen = exists(path)
        if path.name == "a.txt" and not looks:
            looks.append(seen)  # the other one begins and ends between this look and what follows from it
            first.set()
            other.join()
        return seen

    monkeypatch.setattr(Path, "exists", late)
    other = threading.Thread(target=lambda: first.wait() and prepare.fetch(a_file(sha256), tmp_path))
    other.start()
    assert prepare.fetch(a_file(sha256), tmp_path).read_bytes() == CONTENT
    assert looks == [False] and len(hub.asked) == 1


@pytest.mark.parametrize("sha256", [a_file().sha256, None])
def test_of_several_at_once_one_fetches(hub: type[Hub], tmp_path: Path, sha256: str | None) -> None:
    pytest.importorskip("fcntl")
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(prepare.fetch(a_file(sha256), tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [CONTENT] * 4
    assert len(hub.asked) == 1


# ---------------------------------------------------------------------------
# The two corpora
# ---------------------------------------------------------------------------


def stories_of(seed: int, count: int = 150) -> list[str]:
    dice = random.Random(seed)
    words = ["fox", "hen", "lake", "moon", "naïve", "red", "ran", "saw", "slept", "→", "the", "under"]
    return [
        "\n".join(" ".join(dice.choices(words, k=9)) + f" {dice.random()}." for _ in range(6))
        for _ in range(count)
    ]


def a_preset(hub_bytes: float) -> Any:
    small = {"vocab_size": 400, "seq_len": 32, "eval_tokens": 256, "hub_bytes": hub_bytes}
    return replace(prepare.PRESETS["smoke"], **small)


def settings_of(corpus: str, data: Path, hub_bytes: float) -> Any:
    found = settings_for(AUTORESEARCH_CORPUS=corpus, AUTORESEARCH_DATA=str(data))
    return replace(found, preset=a_preset(hub_bytes))


def test_every_pin_is_a_commit_and_every_known_checksum_a_sha256() -> None:
    files = []
    for corpus in prepare.HUB_CORPORA:
        for preset in prepare.PRESETS.values():
            train, held = prepare.hub_files(corpus, preset.hub_bytes)
            files += [*train, *([held] if held else [])]
            assert held not in train
    assert all(re.fullmatch("[0-9a-f]{40}", file.revision) for file in files)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files if file.sha256)
    assert {file.path for file in files if not file.sha256} == {
        f"shard_{n:05d}.parquet" for n in range(4, 10)
    }


def test_tinystories_on_a_cpu_is_one_plain_text_file_split_by_hash(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tokenizers")
    content = "\n<|endoftext|>\n".join(stories_of(1)).encode()
    hub.files = {"TinyStories-valid.txt": content}
    name = "TinyStories-valid.txt"
    monkeypatch.setitem(prepare.STORY_FILES, name, hashlib.sha256(content).hexdigest())
    settings = settings_of("tinystories", tmp_path, prepare.PRESETS["cpu"].hub_bytes)
    data = prepare.open_data(settings)
    assert sum(side["documents"] for side in data.meta["splits"].values()) == 150
    assert data.meta["sources"] == {name: hashlib.sha256(content).hexdigest()}
    prepare.check(settings)
    assert "1 file fetched" in capsys.readouterr().out


def test_a_larger_corpus_is_split_by_file_and_copies_of_held_out_text_are_left_out(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tokenizers")
    held = stories_of(2)
    files = {
        "TinyStories-train.txt": "<|endoftext|>".join([*stories_of(3), *held[:40]]).encode(),
        "TinyStories-valid.txt": "<|endoftext|>".join(held).encode(),
    }
    hub.files = files
    for name, content in files.items():
        monkeypatch.setitem(prepare.STORY_FILES, name, hashlib.sha256(content).hexdigest())
    splits = prepare.open_data(settings_of("tinystories", tmp_path, 400e6)).meta["splits"]
    assert splits["train"]["documents"] == 150
    assert splits["val"]["documents"] + splits["heldout"]["documents"] == 150
    assert min(splits["val"]["documents"], splits["heldout"]["documents"]) > 30


def test_no_more_text_is_taken_than_the_preset_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("<|endoftext|>".join(stories_of(4)))
    size = sum(len(document.text) for document in prepare.hub_documents([path], 20_000))
    assert 20_000 < size < 21_000


def test_climbmix_is_read_from_parquet(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tokenizers")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number in (0, 1, prepare.CLIMBMIX_HELD):
        path = tmp_path / f"shard_{number:05d}.parquet"
        parquet.write_table(pyarrow.table({"text": stories_of(number)}), path, row_group_size=64)
        hub.files[path.name] = path.read_bytes()
        monkeypatch.setitem(prepare.CLIMBMIX_SHARDS, number, hashlib.sha256(path.read_bytes()).hexdigest())
    data = prepare.open_data(settings_of("climbmix", tmp_path / "data", 2 * prepare.SHARD_BYTES))
    assert data.meta["splits"]["train"]["documents"] == 300
    assert len(data.meta["sources"]) == 3


def test_without_pyarrow_climbmix_says_what_to_install_before_it_fetches(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SystemExit, match="pip install pyarrow.*tinystories.*pystdlib"):
        prepare.hub_split(settings_of("climbmix", tmp_path, 30e6), {})
    assert hub.asked == []
