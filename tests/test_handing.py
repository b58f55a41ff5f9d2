"""What a person is asked for and brings back: read without trusting it, compared, refused with the reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lab.agenda import Idea, ordered
from lab.changes import replay
from lab.errors import LabError
from lab.handing import parcel
from lab.handing.choices import kept_share
from lab.handing.machine import here
from lab.handing.packing import pack
from lab.handing.parcel import Returned, opened
from lab.handing.provenance import Asked, Judged, judge
from lab.handing.request import PYTHON, Planned, Request, page, words_sha256
from lab.handing.runscript import script
from lab.model import Experiment, State
from lab.notify.due import Around, silent_since
from lab.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"
COMMIT = "a1b2c3d4e5" * 4
OTHER = "f" * 40
BEGAN = f"[autoresearch r003 run e001.1 seed 42 commit {COMMIT} token {TOKEN}]\n"
LOG = f"{BEGAN}val_bpb: 0.5\n\n[autoresearch end e001.1 exit 0 seconds 7 timed_out no]\n".encode()
ASKED = Asked("r003", TOKEN, "e001.1", COMMIT, 42, "words", "code")


# -- reading what came back ----------------------------------------------------------------------------


def a_tar(path: Path, *entries: tuple[tarfile.TarInfo | str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for entry, data in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def a_link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


HOSTILE = {
    "an absolute path": ("/tmp/e001.1/run.log", b"x"),
    "a path out of it": ("result/../../e001.1/run.log", b"x"),
    "a symbolic link": (a_link("r/e001.1/run.log", tarfile.SYMTYPE), b""),
    "a hard link": (a_link("r/e001.1/run.log", tarfile.LNKTYPE), b""),
    "a device": (a_link("r/e001.1/run.log", tarfile.CHRTYPE), b""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written_outside(what: str, tmp_path: Path) -> None:
    path = a_tar(tmp_path / "result-r003.tar.gz", HOSTILE[what])
    staging = tmp_path / "in" / "staging"
    staging.mkdir(parents=True)
    with pytest.raises(LabError):
        opened(path, staging)
    assert {p.name for p in tmp_path.rglob("*")} == {path.name, "in", "staging"}


@pytest.mark.parametrize("name", ["r/e001.1/run.log", "r/core.bin"])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel, "ALL_BYTES", 300_000)
    path = a_tar(tmp_path / "result.tar.gz", (name, b"\0" * 5_000_000))
    assert path.stat().st_size < 20_000
    with pytest.raises(LabError, match="larger than"):
        opened(path, tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 400_000


def test_a_zip_bomb_and_a_zip_with_a_link_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel, "LOG_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r/e001.1/run.log", b"\0" * 2_000_000)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        info = zipfile.ZipInfo("r/e001.1/run.log")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    for name, words in (("bomb.zip", "larger"), ("link.zip", "link")):
        with pytest.raises(LabError, match=words):
            opened(tmp_path / name, tmp_path)


def test_too_many_files_and_a_file_that_stands_twice_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = a_tar(tmp_path / "twice.tgz", ("r/e001.1/run.log", b"a"), ("s/e001.1/run.log", b"b"))
    with pytest.raises(LabError, match="twice"):
        opened(twice, tmp_path)
    monkeypatch.setattr(parcel, "ENTRIES", 10)
    many = a_tar(tmp_path / "many.tgz", *((f"r/{n}", b"") for n in range(20)))
    with pytest.raises(LabError, match="more than"):
        opened(many, tmp_path)


def test_an_archive_cut_anywhere_is_refused_in_words(tmp_path: Path) -> None:
    body = os.urandom(5000)
    whole = a_tar(tmp_path / "result-r003.tar.gz", ("r/e001.1/run.log", body)).read_bytes()
    for end in range(1, len(whole) - 12, 97):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:end])
        with pytest.raises(LabError) as raised:
            opened(tmp_path / "cut.tar.gz", tmp_path)
        assert raised.value.hint


@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip", "folder"])
def test_every_form_of_a_result_reads_the_same(form: str, tmp_path: Path) -> None:
    names = {"result-r003/e001.1/run.log": LOG, "result-r003/e001.1/provenance.txt": b"seed: 42\n"}
    path = tmp_path / f"result-r003.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in names.items():
                archive.writestr(name, data)
    elif form == "folder":
        path = tmp_path / "result-r003"
        for name, data in names.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    else:
        a_tar(path, *names.items())
        if form == "tar":
            path.write_bytes(gzip.decompress(path.read_bytes()))
    (found,) = opened(path, tmp_path)
    assert (found.name, found.facts["seed"], found.log_bytes) == ("e001.1", "42", len(LOG))
    assert found.log_sha256 == hashlib.sha256(LOG).hexdigest()


def test_a_log_of_our_script_says_itself_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_bytes(LOG)
    (found,) = opened(tmp_path / "run.log", tmp_path)
    assert found.facts == {
        "request": "r003", "run": "e001.1", "seed": "42", "commit": COMMIT, "token": TOKEN, "exit": "0",
        "seconds": "7", "timed_out": "no",
    }  # fmt: skip


# -- does it belong ------------------------------------------------------------------------------------


def came_back(log: bytes = LOG, **changes: str | None) -> Returned:
    facts: dict[str, str | None] = {
        "request": "r003", "token": TOKEN, "run": "e001.1", "commit": COMMIT, "code": "code",
        "words": "words", "seed": "42", "exit": "0",
        "log_bytes": str(len(LOG)), "log_sha256": hashlib.sha256(LOG).hexdigest(),
    }  # fmt: skip
    text = "".join(f"{k}: {v}\n" for k, v in {**facts, **changes}.items() if v is not None)
    digest = hashlib.sha256(log).hexdigest()
    return Returned(
        "e001.1", {"provenance.txt": text.encode()}, Path("log"), len(log), digest, log, log[-1000:]
    )


def a_verdict_on(run: Returned, **said: str) -> Judged:
    return judge(ASKED, run, said)


def test_a_result_that_fits_has_no_fault() -> None:
    found = a_verdict_on(came_back())
    assert (found.fault, found.proof, found.doubts) == ("", "whole", ())


NO_END = LOG.replace(b"[autoresearch end", b"[autoresearch in")
FAULTS = {
    "wrong commit": (came_back(commit=OTHER), "wrong commit: it ran ffffffffffff"),
    "wrong code": (came_back(code="another"), "wrong code"),
    "different seed": (came_back(seed="43"), "different seed: it ran seed 43, e001.1 is seed 42"),
    "another command": (came_back(words="others"), "another command"),
    "another request": (came_back(token="f" * 32), "does not answer r003"),
    "no token": (came_back(token=None), "no token"),
    "another run": (came_back(run="e001.2"), "its provenance e001.2"),
    "a log cut short": (came_back(LOG[:-70]), "log cut short: "),
    "a log changed": (came_back(LOG.replace(b"0.5", b"0.4")), "hash differs"),
    "a log without its end": (
        came_back(NO_END, log_bytes=str(len(NO_END)), log_sha256=hashlib.sha256(NO_END).hexdigest()),
        "does not end with the mark",
    ),
    "no log": (replace(came_back(), log=None), "run.log is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named(fault: str) -> None:
    run, words = FAULTS[fault]
    found = a_verdict_on(run)
    assert words in found.fault and found.hint


def test_a_bare_log_needs_what_the_person_knows_and_stays_in_doubt() -> None:
    bare = Returned("", {}, Path("log"), 10, "digest", b"val_bpb: 0.5\n", b"val_bpb: 0.5\n")
    assert "which commit" in a_verdict_on(bare).fault
    assert "which seed" in a_verdict_on(bare, commit=COMMIT[:7]).fault
    assert "wrong commit" in a_verdict_on(bare, commit="abcdef", seed="42").fault
    found = a_verdict_on(bare, commit=COMMIT[:7], seed="42")
    assert (found.fault, found.proof, len(found.doubts)) == ("", "unverified", 1)


def test_what_a_result_says_of_itself_cannot_move_a_cursor_or_forge_a_line() -> None:
    found = a_verdict_on(came_back(seed="43\x1b[2J\u202e\x07 next: rm"))
    assert found.fault.startswith("different seed: it ran seed 43 next: rm,") and found.fault.isprintable()


def test_what_the_person_says_does_not_overrule_what_the_result_says() -> None:
    assert "different seed" in a_verdict_on(came_back(seed="43"), seed="42").fault


# -- the script ----------------------------------------------------------------------------------------

ODD = """it's "$(touch /tmp/pwned)" `id` \\ * ; & é"""
TRAIN = """import json, os, sys
print("args", json.dumps(sys.argv[1:]))
print("odd", os.environ["ODD"] == sys.argv[2])
open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "metrics.json"), "w").write('{"val_bpb": 0.5}')
sys.exit(int(sys.argv[1]))
"""


def a_request(folder: Path, code: str = "0", **changes: object) -> Request:
    """A request whose folder can be executed; its path has blanks."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    (tree / "train.py").write_text(TRAIN)
    (tree / "prepare.py").write_text("FIXED = 1\n")
    pack(tree, folder / "code.tar.gz", "")
    shutil.rmtree(tree)
    words = ("SEED=42", f"ODD={ODD}", "--", PYTHON, "train.py", code, ODD)
    request = Request(
        "r003", TOKEN, "t1", "e001", COMMIT, "halve", "", "", "val_bpb (lower is better)",
        (Planned("e001.1", 42, words), Planned("e001.2", 43, words)), 5, 60,
        protected={"prepare.py": hashlib.sha256(b"FIXED = 1\n").hexdigest()},
        code_sha256=hashlib.sha256((folder / "code.tar.gz").read_bytes()).hexdigest(),
    )  # fmt: skip
    request = replace(request, **changes)  # type: ignore[arg-type]
    (folder / "run.sh").write_text(script(request))
    return request


def tools_without_git(folder: Path) -> str:
    """A PATH with what the script needs, and nothing else."""
    folder.mkdir()
    tools = (
        "bash sh tar gzip sha256sum cut date mkdir rmdir rm cp mv tr dirname uname wc env sed head sort"
        " getconf ln timeout cat"
    )
    for name in tools.split():
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def go(folder: Path, path: str, *flags: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": path, "HOME": "/nonexistent"}
    command = [shutil.which("bash") or "bash", str(folder / "run.sh"), "--python", sys.executable, *flags]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd="/", check=False, timeout=600)


def test_the_script_runs_without_git_quotes_everything_and_stays_in_its_folder(tmp_path: Path) -> None:
    place = tmp_path / "a folder's name" / "r003"
    request = a_request(place)
    path = tools_without_git(tmp_path / "tools")
    done = go(place, path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"a folder's name", "tools"}
    assert not Path("/tmp/pwned").exists()
    runs = opened(place / "result-r003.tar.gz", tmp_path)
    assert [run.name for run in runs] == ["e001.1", "e001.2"]
    for planned, run in zip(request.runs, runs, strict=True):
        asked = Asked("r003", TOKEN, planned.id, COMMIT, planned.seed, planned.sha256, request.code_sha256)
        found = judge(asked, run, {})
        assert found.fault == "" and found.facts["changed"] == "" and found.facts["machine"] == here()
        assert run.small["metrics.json"] == b'{"val_bpb": 0.5}' and b"odd True" in run.head
    first = (place / "result-r003/e001.1/provenance.txt").read_bytes()
    again = go(place, path)
    assert again.stdout.count("done before") == 2
    assert (place / "result-r003/e001.1/provenance.txt").read_bytes() == first


def test_a_failed_run_ends_the_request_and_is_packed(tmp_path: Path) -> None:
    a_request(tmp_path / "r003", code="3")
    done = go(tmp_path / "r003", os.environ["PATH"])
    assert "exit code 3" in done.stdout and "e001.2" not in done.stdout
    (run,) = opened(tmp_path / "r003/result-r003.tar.gz", tmp_path)
    assert run.facts["exit"] == "3"


def test_a_run_over_its_time_is_ended_and_says_so(tmp_path: Path) -> None:
    words = ("--", PYTHON, "-c", "import time; time.sleep(60)")
    a_request(tmp_path / "r003", runs=(Planned("e001.1", 42, words),), kill_after=1)
    go(tmp_path / "r003", os.environ["PATH"])
    (run,) = opened(tmp_path / "r003/result-r003.tar.gz", tmp_path)
    assert (run.facts["exit"], run.facts["timed_out"]) == ("124", "yes")


def test_the_script_refuses_other_code_and_a_missing_input(tmp_path: Path) -> None:
    place = tmp_path / "r003"
    a_request(place, share=("data", ".venv"))
    missing = go(place, os.environ["PATH"])
    assert missing.returncode == 1 and "needs data" in missing.stderr
    (tmp_path / "project/data").mkdir(parents=True)
    assert go(place, os.environ["PATH"], "--project", str(tmp_path / "project")).returncode == 0
    (place / "code.tar.gz").write_bytes(b"other")
    changed = go(place, os.environ["PATH"])
    assert changed.returncode == 1 and "not the one of this request" in changed.stderr


def test_a_protected_file_that_the_run_changed_is_told(tmp_path: Path) -> None:
    words = ("--", PYTHON, "-c", "open('prepare.py', 'a').write('x')")
    a_request(tmp_path / "r003", runs=(Planned("e001.1", None, words),))
    go(tmp_path / "r003", os.environ["PATH"])
    (run,) = opened(tmp_path / "r003/result-r003.tar.gz", tmp_path)
    assert run.facts["changed"] == "prepare.py;" and run.facts["seed"] == "none"


def test_words_hash_as_the_shell_hashes_them() -> None:
    words = ["SEED=42", "--", "python", ODD]
    done = subprocess.run(
        ["bash", "-c", 'printf "%s\\n" "$@" | sha256sum', "bash", *words], capture_output=True, check=True
    )
    assert done.stdout.split()[0].decode() == words_sha256(words)


def test_the_same_code_packs_to_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "b.py").write_text("b")
        (folder / "a.py").write_text("a")
        os.utime(folder / "a.py", (1, len(made) + 5))
        pack(folder, tmp_path / f"{name}.tar.gz", "r003")
        made.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert made[0] == made[1]


def test_the_page_names_everything_a_person_has_to_know(tmp_path: Path) -> None:
    text = page(
        a_request(tmp_path / "r003", share=("data",), variables=("DATA_DIR",), because="it overshoots")
    )
    parts = ["r003", COMMIT, "bash run.sh --project", "result-r003.tar.gz", "5 s each", "10 s together"]
    parts += ["60 s", "`data`", "DATA_DIR", "it overshoots", "SEED=42", "python train.py"]
    for words in parts:
        assert words in text, words


# -- the record ----------------------------------------------------------------------------------------


def proposed(name: str = "e000") -> dict[str, object]:
    return {"event": "proposed", "at": "2026-11-21T10:00:00+00:00", "experiment": name, "commit": COMMIT,
            "tree": "t", "parent": "p", "hypothesis": "h"}  # fmt: skip


def requested(*ids: str, request: str = "r001", **more: object) -> dict[str, object]:
    runs = [{"id": name, "seed": 42 + n} for n, name in enumerate(ids)]
    return {"event": "requested", "at": "2026-11-21T10:00:00+00:00", "request": request, "token": TOKEN,
            "place": ids[0].split(".")[0], "experiment": ids[0].split(".")[0], "commit": COMMIT, "runs": runs,
            "anchor": False, **more}  # fmt: skip


def ended(run: str, outcome: str = "ok", machine: str = "A", metric: float = 1.0) -> dict[str, object]:
    words = {
        "event": "run_ended",
        "at": "2026-11-21T10:00:00+00:00",
        "experiment": run.split(".")[0],
        "run": run,
    }
    return {**words, "outcome": outcome, "machine": machine, "metric": metric, "proof": "whole"}


def test_a_request_is_work_that_is_not_ours_until_it_is_back_or_withdrawn() -> None:
    state = replay([proposed(), requested("e000.1", "e000.2")])
    assert [run.id for _, run in state.handed()] == ["e000.1", "e000.2"] and not state.at_work()
    assert state.get("e000").status == "running"
    replay([ended("e000.1")], state)
    assert [run.id for run in state.get("e000").handed] == ["e000.2"]
    replay(
        [{"event": "withdrawn", "at": "2026-11-21T11:00:00+00:00", "request": "r001", "reason": "x"}], state
    )
    assert not state.handed() and len(state.get("e000").good_runs) == 1


def test_moving_to_another_machine_turns_what_counts_around() -> None:
    keep = {"event": "verdict", "at": "2026-11-21T10:00:00+00:00", "experiment": "e000", "verdict": "keep",
            "reason": "", "metric": 1.0}  # fmt: skip
    moved = {
        "event": "machine",
        "at": "2026-11-21T10:00:00+00:00",
        "experiment": "e000",
        "machine": "B",
        "belief": {},
    }
    state = replay([
        proposed(), requested("e000.1"), ended("e000.1"), keep, proposed("e001"),
        requested("e001.1", request="r002"), ended("e001.1", "elsewhere", "B", 0.5),
        requested("e000.2", request="r003", anchor=True), ended("e000.2", "elsewhere", "B", 0.8), moved,
    ])  # fmt: skip
    assert [r.id for r in state.get("e000").good_runs] == ["e000.2"] and state.get("e000").metric == 0.8
    assert [r.id for r in state.get("e001").good_runs] == ["e001.1"]


def test_nobody_is_called_silent_while_a_person_has_runs_to_make() -> None:
    settings = Settings(command="python train.py", metric="val_bpb", goal="min")
    state, around = State(active_at="2026-11-20T10:00:00+00:00"), Around(now="2026-11-21T10:00:00+00:00")
    assert silent_since(state, settings, around)
    state.waiting = ["e001.1"]
    assert silent_since(state, settings, around) == ""


# -- the checkpoint ------------------------------------------------------------------------------------


def test_a_source_with_few_tests_has_nearly_the_campaigns_own_rate() -> None:
    def judged(*verdicts: str) -> list[Experiment]:
        return [Experiment(f"e{n}", "", "", "", "", "", verdict=v) for n, v in enumerate(verdicts)]

    assert kept_share([], 0.25) == 0.25
    assert kept_share(judged("keep", "discard"), 0.5) == 0.5
    assert kept_share(judged(*["discard"] * 18), 0.5) == pytest.approx(0.05)


def test_the_users_choice_comes_first_and_what_they_dropped_is_not_offered() -> None:
    agenda = [Idea(f"i{n}", f"idea {n}", source="own", impact=n) for n in range(1, 5)]
    state = State()
    assert [idea.id for idea in ordered(agenda, state)] == ["i4", "i3", "i2", "i1"]
    state.checkpoints = [{"chosen": ["i4"], "dropped": ["i2"]}, {"chosen": ["i1", "i2"], "dropped": ["i3"]}]
    assert [idea.id for idea in ordered(agenda, state)] == ["i1", "i2", "i4"]
