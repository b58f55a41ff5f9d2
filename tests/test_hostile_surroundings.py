"""Repositories, disks, rights, callers and words as they come: a clear answer each, and nothing lost."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import ENTRY, PREPARE, TRAIN, Answer, Project, a_project, wait_until

from lab import propose, views
from lab.journal import Journal
from lab.model import Experiment, State
from lab.roster import Roster
from lab.workspace import Workspace

BETTER, WORSE = "LR = 0.50", "LR = 1.50"


@pytest.fixture
def world(tmp_path: Path) -> Project:
    return a_project(tmp_path / "project")


def goes_through(
    world: Project, *flags: str, name: str = "train.py", env: dict[str, str] | None = None
) -> None:
    """init, baseline, a better, a worse and a crashing try, finish."""
    world.env |= env or {}
    world.begin(*flags)
    world.edit("LR = 1.00", BETTER, name)
    better = world.ok("try", "better")
    assert better["verdict"] == "keep", better
    assert BETTER in world.read(name)
    world.edit(BETTER, WORSE, name)
    assert world.ok("try", "worse")["verdict"] == "discard"
    world.edit("value = ", "raise ValueError('broken')\nvalue = ", name)
    assert world.ok("try", "crashing")["verdict"] == "crash"
    assert BETTER in world.read(name) and "broken" not in world.read(name)
    assert world.git("rev-parse", "autoresearch/t1") == better["commit"]
    assert [row[3] for row in world.results()] == ["keep", "keep", "discard", "crash"]
    assert "checks" not in world.ok("status")
    assert world.ok("finish")["incumbent"]["experiment"] == "e001"
    assert "LR = 1.00" in world.read(name)


# -- six at once -------------------------------------------------------------------------------------


def held_up(world: Project) -> Path:
    """Edit train.py so that the run waits for the file that is returned."""
    go = world.root.parent / "go"
    waiting = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    world.edit("LR = 1.00", f"{waiting}LR = 0.50")
    return go


@pytest.mark.slow
def test_of_six_tries_at_once_one_proceeds_and_five_say_who_holds_the_campaign(world: Project) -> None:
    world.begin()
    go = held_up(world)
    processes = [world.start("--json", "try", f"idea {n}", "--wait", "600") for n in range(6)]
    try:
        wait_until(lambda: sum(p.poll() is not None for p in processes) == 5)
        winner = next(p for p in processes if p.poll() is None)
        for process in processes:
            if process is not winner:
                error = json.loads(process.communicate()[0])
                assert (process.returncode, error["code"]) == (8, 8)
                assert f"`try` (pid {winner.pid}, since 20" in error["message"]
                assert error["fix"]
        wait_until((world.root / ".autoresearch/runs/e001.1/spec.json").exists)  # it has come that far
        assert world.ok("status")["running"][0]["id"] == "e001.1"  # looking is free meanwhile
        go.touch()
        out, _ = winner.communicate(timeout=600)
        assert winner.returncode == 0 and json.loads(out)["verdict"] == "keep"
    finally:
        go.touch()
        for process in processes:
            process.kill()
            process.communicate()
    assert len(world.results()) == 2
    events = [r["event"] for r in world.records()]
    assert events.count("proposed") == 2 and events.count("run_started") == events.count("run_ended")
    assert world.git("for-each-ref", "refs/autoresearch").count("\n") == 1


@pytest.mark.slow
def test_a_killed_holder_makes_room_at_once(world: Project) -> None:
    world.begin()
    go = held_up(world)
    holder = world.start("--json", "try", "the first", "--wait", "60")
    try:
        wait_until(lambda: (world.root / ".autoresearch/runs/e001.1/heartbeat.json").exists())
        world.edit("LR = 1.00", "LR = 0.75")
        assert str(holder.pid) in world.refused(8, "try", "too early")["message"]
        holder.kill()
        holder.wait()
        queued = world.run("--json", "try", "the second", "--wait", "0")
        assert queued.code == 0 and queued.json["status"] == "queued"
    finally:
        go.touch()
        holder.kill()
        holder.communicate()
    assert world.ok("wait", "e001")["verdict"] == "keep"
    world.ok("wait", "e002")
    assert [row[4] for row in world.results()] == ["baseline", "the first", "the second"]


# -- no right to write -----------------------------------------------------------------------------------

CAN_MOUNT = (
    shutil.which("unshare")
    and subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    ).returncode
    == 0
)
mounting = pytest.mark.skipif(not CAN_MOUNT, reason="mounting in a namespace of its own is not permitted")


def with_read_only(world: Project, place: str, *args: str) -> Answer:
    """Run a verb where the folder `place` of the project is read-only, for that process alone."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        str(world.root / place),
        sys.executable,
        str(ENTRY),
        "--json",
    ]
    done = subprocess.run(
        [*command, *args], cwd=world.root, env={**os.environ, **world.env}, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


@mounting
@pytest.mark.slow
@pytest.mark.parametrize("place", [".git", ".git/objects", ".git/refs", "."])
def test_a_folder_that_may_not_be_written_is_said_and_nothing_is_lost(world: Project, place: str) -> None:
    world.begin()
    world.edit("LR = 1.00", BETTER)
    before = world.records()
    doctor = with_read_only(world, place, "doctor")
    assert doctor.code == 4
    bad = [check for check in doctor.json["checks"] if check["ok"] is False]
    assert bad and all(check["fix"] for check in bad)
    tried = with_read_only(world, place, "try", "better")
    assert tried.code == 4, tried.out + tried.err
    assert tried.json["fix"] and "Read-only" in tried.json["message"] + tried.json["fix"]
    assert world.records() == before and BETTER in world.read("train.py")
    world.ok("try", "better")
    world.ok("resume")
    assert world.ok("wait", "e001")["verdict"] == "keep"
    assert world.git("rev-parse", "autoresearch/t1") == world.ok("show", "e001")["commit"]
    assert world.ok("doctor")["ok"] is True


@mounting
@pytest.mark.slow
def test_init_where_git_may_not_be_written_leaves_no_half_campaign(world: Project) -> None:
    refused = with_read_only(world, ".git", "init", "--tag", "t1")
    assert refused.code == 4 and refused.json["fix"]
    world.begin()


# -- no room on the disk -----------------------------------------------------------------------------------


class SmallDisk(Project):
    """A project on a small disk of its own, which only processes in its mount namespace see."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir()
        mount = f"mount -t tmpfs -o size={megabytes}m none {folder} && echo ready && exec sleep 7200"
        self.keeper = subprocess.Popen(["unshare", "-m", "sh", "-c", mount], stdout=subprocess.PIPE)
        assert self.keeper.stdout and self.keeper.stdout.readline() == b"ready\n"
        plain = a_project(folder.parent / "plain")
        self.inside = folder / "project"
        outside = Path(f"/proc/{self.keeper.pid}/root{self.inside}")
        shutil.copytree(plain.root, outside)
        super().__init__(outside, plain.env)

    def git(self, *args: str) -> str:
        command = [*self.enter(), "git", "-C", str(self.inside), *args]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **self.env}, check=True)
        return done.stdout.decode().strip()

    def enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.keeper.pid), "-m"]

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        return subprocess.Popen(
            [*self.enter(), sys.executable, str(ENTRY), "-C", str(self.inside), *args],
            env={**os.environ, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def fill(self, leave: int) -> None:
        """Take all of the disk but `leave` bytes."""
        with (self.root.parent / "filler").open("wb") as file:
            free = os.statvfs(self.root).f_bavail * 4096
            os.posix_fallocate(file.fileno(), 0, max(free - leave, 1))

    def free(self) -> None:
        (self.root.parent / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        self.keeper.kill()
        self.keeper.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", 560)
    yield disk
    disk.close()


@mounting
@pytest.mark.slow
def test_a_full_disk_is_said_and_everything_goes_on_when_there_is_room(small_disk: SmallDisk) -> None:
    world = small_disk
    world.begin()
    rate, reached = 1.0, set()
    for pages in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32, 64, 1000):
        old, rate = f"LR = {rate:.2f}", round(rate - 0.05, 2)
        world.edit(old, f"LR = {rate:.2f}")
        records = len(world.records())
        world.fill(4096 * pages)
        answer = world.run("--json", "try", f"with {pages} pages")
        world.free()
        assert answer.code == 4, answer.out + answer.err
        said = answer.json["message"] + answer.json["fix"]
        assert "disk" in said or "space" in said, said
        assert answer.json["fix"]
        whole = world.records()  # every line is JSON
        reached.add(whole[-1]["event"] if len(whole) > records else "nothing")
        world.ok("resume")
        if not any(r.get("hypothesis") == f"with {pages} pages" for r in world.records()):
            assert f"LR = {rate:.2f}" in world.read("train.py")
            world.ok("try", f"with {pages} pages")
        else:
            world.ok("wait")
        shown = world.ok("show", "last")
        assert (shown["verdict"], shown["metric"]) == ("keep", rate), shown
        assert world.git("rev-parse", "autoresearch/t1") == shown["commit"]
        assert not list(world.root.rglob("*.autoresearch-tmp"))
    assert len(world.results()) == 18
    assert len(reached) >= 3, reached  # the failure came in different writes


@mounting
@pytest.mark.slow
def test_a_disk_that_fills_while_a_run_works_loses_no_result(small_disk: SmallDisk, tmp_path: Path) -> None:
    world = small_disk
    world.begin()
    go = tmp_path / "go"
    waiting = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    world.edit("LR = 1.00", f"{waiting}LR = 0.50")
    world.ok("try", "better", "--wait", "0")
    wait_until(lambda: (world.root / ".autoresearch/runs/e001.1/heartbeat.json").exists())
    world.fill(0)
    go.touch()
    answer = world.run("--json", "wait", "--max", "20")
    world.free()
    assert answer.code in (4, 124), answer.out
    world.ok("resume")
    done = world.ok("wait")
    assert (done["verdict"], done["metric"]) == ("keep", 0.5)
    assert sum(run["outcome"] == "ok" for run in done["runs"]) == len(done["runs"]) - sum(
        run["outcome"] in ("infra", "interrupted") for run in done["runs"]
    )


# -- repositories of every shape -------------------------------------------------------------------------


def detached(world: Project) -> Project:
    world.git("checkout", "-q", "--detach")
    return world


def packed(world: Project) -> Project:
    world.git("pack-refs", "--all")
    world.git("gc", "-q")
    return world


def linked_worktree(world: Project) -> Project:
    place = world.root.parent / "linked"
    world.git("worktree", "add", "-q", "-b", "side", str(place))
    return Project(place, world.env)


def with_a_submodule(world: Project) -> Project:
    other = a_project(world.root.parent / "other")
    world.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "vendor/other"
    )
    world.commit("a submodule")
    return world


def with_an_absent_submodule(world: Project) -> Project:
    with_a_submodule(world)
    world.git("submodule", "--quiet", "deinit", "-f", "vendor/other")
    return world


def in_an_odd_folder(world: Project) -> Project:
    place = world.root.parent / "my 'own' \"project\" $HOME `id` ünï\u202ecode\n*"
    world.root.rename(place)
    return Project(place, world.env)


def shallow(world: Project) -> Project:
    world.write("README.md", "second\n")
    world.commit()
    place = world.root.parent / "shallow"
    world.git("clone", "-q", "--depth=1", f"file://{world.root}", str(place))
    return Project(place, world.env)


def with_a_separate_git_folder(world: Project) -> Project:
    world.git("init", "-q", "--separate-git-dir", str(world.root.parent / "elsewhere.git"))
    return world


def with_core_worktree(world: Project) -> Project:
    world.git("config", "core.worktree", str(world.root))
    return world


def reached_by_a_link(world: Project) -> Project:
    link = world.root.parent / "link"
    link.symlink_to(world.root)
    return Project(link, world.env)


def with_odd_settings(world: Project) -> Project:
    settings = {
        "diff.noprefix": "true", "diff.external": "false", "core.pager": "false", "color.ui": "always",
        "core.abbrev": "4", "status.short": "true", "diff.renames": "copies", "core.quotePath": "true",
        "merge.conflictStyle": "zdiff3", "diff.algorithm": "histogram", "index.version": "4",
        "core.splitIndex": "true", "core.untrackedCache": "true", "feature.manyFiles": "true",
        "commit.template": "/nonexistent", "core.attributesFile": "/nonexistent", "notes.rewriteRef": "*",
        "core.logAllRefUpdates": "always", "push.default": "nothing", "i18n.commitEncoding": "latin1",
        "diff.orderFile": "/nonexistent", "core.looseCompression": "0",
    }  # fmt: skip
    for name, value in settings.items():
        world.git("config", name, value)
    return world


def without_reflogs(world: Project) -> Project:
    world.git("config", "core.logAllRefUpdates", "false")
    shutil.rmtree(world.root / ".git/logs")
    return world


def with_sparse_checkout(world: Project) -> Project:
    world.write("other/file.txt", "x\n")
    world.commit()
    world.git("sparse-checkout", "set", "--no-cone", "/*", "!/other/")
    return world


SHAPES = (
    detached, packed, linked_worktree, with_a_submodule, with_an_absent_submodule, in_an_odd_folder, shallow,
    with_a_separate_git_folder, with_core_worktree, reached_by_a_link, with_odd_settings, without_reflogs,
    with_sparse_checkout,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_the_loop_goes_through_in_a_repository(world: Project, shape: Callable[[Project], Project]) -> None:
    shaped = shape(world)
    head = shaped.git("rev-parse", "HEAD")
    config = (shaped.git("config", "--list", "--local"), shaped.git("ls-files", "-s"))
    goes_through(shaped)
    assert shaped.git("rev-parse", "HEAD") == head
    assert (shaped.git("config", "--list", "--local"), shaped.git("ls-files", "-s")) == config
    assert shaped.git("status", "--porcelain") == "?? autoresearch.yaml"
    assert "error" not in shaped.git("fsck", "--no-progress")


@pytest.mark.slow
def test_the_loop_goes_through_in_a_sha256_repository(tmp_path: Path) -> None:
    place = tmp_path / "sha256"
    place.mkdir()
    if subprocess.run(
        ["git", "init", "-q", "--object-format=sha256", str(place)], capture_output=True
    ).returncode:
        pytest.skip("this git knows no sha256 repositories")
    world = a_project(place)
    assert len(world.git("rev-parse", "HEAD")) == 64
    goes_through(world)
    world.ok("init", "--tag", "t2")
    world.ok("baseline", "--repeats", "1")
    world.write("extra.py", "1\n")
    world.edit("LR = 1.00", "import time; time.sleep(0.6)\nLR = 0.50")
    world.ok("try", "slowly", "--wait", "0")
    world.edit('print("---")', 'print("-----")\nprint("---")')
    world.ok("try", "beside", "--wait", "0")
    assert world.ok("wait", "e001")["verdict"] == "keep"
    assert world.ok("wait", "e002")["commit"] != ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "my train.py",
        "tràin.py",
        "t'r\"a$in`.py",
        "-train.py",
        "src/deep/train.py",
        "#t.py",
    ],
)
def test_an_edit_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    world = a_project(
        tmp_path / "p",
        {
            name: TRAIN,
            "prepare.py": PREPARE,
            "run.sh": 'exec python3 "$(cat which)"\n',
            "which": f"./{name}\n",
        },
    )
    goes_through(
        world, "--command", "sh run.sh", "--metric", "val_bpb", "--goal", "min", f"--edit={name}", name=name
    )


@pytest.mark.slow
def test_files_with_crlf_stay_so(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p")
    world.git("config", "core.autocrlf", "true")
    for name in ("train.py", "prepare.py"):
        (world.root / name).unlink()
    world.git("checkout", "-q", "--", ".")
    assert b"\r\n" in (world.root / "train.py").read_bytes()
    start = (world.root / "train.py").read_bytes()
    assert world.git("status", "--porcelain") == ""
    world.begin()
    bytes_now = start.replace(b"LR = 1.00", b"LR = 0.50")
    (world.root / "train.py").write_bytes(bytes_now)
    assert world.ok("try", "better")["verdict"] == "keep"
    assert (world.root / "train.py").read_bytes() == bytes_now
    (world.root / "train.py").write_bytes(start.replace(b"LR = 1.00", b"LR = 1.50"))
    assert world.ok("try", "worse")["verdict"] == "discard"
    assert (world.root / "train.py").read_bytes() == bytes_now
    assert (
        b"\r"
        not in subprocess.run(
            ["git", "-C", str(world.root), "cat-file", "blob", "autoresearch/t1:train.py"],
            capture_output=True,
            check=True,
        ).stdout
    )
    world.ok("finish")
    assert (world.root / "train.py").read_bytes() == start


@pytest.mark.slow
def test_modes_and_links_among_the_edit_files_are_part_of_a_candidate(tmp_path: Path) -> None:
    files = {
        "src/train.py": "#!/usr/bin/env python3\n" + TRAIN,
        "src/small.txt": "1\n",
        "src/large.txt": "2\n",
    }
    world = a_project(tmp_path / "p", files)
    program, link = world.root / "src/train.py", world.root / "src/which"
    program.chmod(0o755)
    link.symlink_to("small.txt")
    world.commit("a program and a link")
    world.begin("--command", "./src/train.py", "--metric", "val_bpb", "--goal", "min", "--edit", "src")
    link.unlink()
    link.symlink_to("large.txt")
    world.edit("LR = 1.00", BETTER, "src/train.py")
    assert world.ok("try", "another link")["verdict"] == "keep"
    assert link.is_symlink() and os.readlink(link) == "large.txt"  # noqa: PTH115 - the text of the link
    program.chmod(0o644)
    assert world.ok("try", "not executable")["verdict"] == "crash"
    assert os.access(program, os.X_OK)
    link.unlink()
    link.write_text("a file now\n")
    world.edit(BETTER, WORSE, "src/train.py")
    assert world.ok("try", "a file for the link")["verdict"] == "discard"
    assert link.is_symlink()
    world.ok("finish")
    assert os.readlink(link) == "small.txt"  # noqa: PTH115
    assert world.git("status", "--porcelain") == "?? autoresearch.yaml"


@pytest.mark.slow
def test_a_link_out_of_the_tree_is_not_followed(world: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("the user's\n")
    (world.root / "train.py").rename(world.root / "real.py")
    (world.root / "train.py").symlink_to("real.py")
    world.commit("a link")
    world.begin("--command", "python3 train.py", "--metric", "val_bpb", "--goal", "min", "--edit", "train.py")
    (world.root / "train.py").unlink()
    (world.root / "train.py").symlink_to(outside)
    assert world.ok("try", "point elsewhere")["verdict"] == "crash"
    assert outside.read_text() == "the user's\n"
    assert os.readlink(world.root / "train.py") == "real.py"  # noqa: PTH115


@pytest.mark.slow
def test_large_ignored_data_beside_the_code_is_not_read(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p", {"train.py": TRAIN, "prepare.py": PREPARE, ".gitignore": "data/\n"})
    (world.root / "data").mkdir()
    pieces = [world.root / "data" / f"{n}.bin" for n in range(4)]
    for piece in pieces:
        with piece.open("wb") as file:
            file.truncate(50 << 20)
    control = tmp_path / "control"
    control.write_text("x")
    for path in (*pieces, control):
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    before = [piece.stat().st_atime for piece in pieces]
    aged = control.stat().st_atime
    control.read_bytes()
    if control.stat().st_atime == aged:
        pytest.skip("this disk does not tell when a file was read")
    goes_through(world)
    assert [piece.stat().st_atime for piece in pieces] == before


def test_a_branch_named_autoresearch_is_in_the_way_and_said_so(world: Project) -> None:
    world.git("branch", "autoresearch")
    assert world.refused(4, "init", "--tag", "t1")["fix"]
    assert not (world.root / ".autoresearch/journal.jsonl").exists()
    world.git("branch", "-m", "autoresearch", "mine")
    world.ok("init", "--tag", "t1")


def test_a_repository_without_a_commit_is_said(tmp_path: Path) -> None:
    world = Project(tmp_path / "unborn", {})
    world.root.mkdir()
    world.git("init", "-q")
    world.write("train.py", TRAIN)
    assert "commit" in world.refused(4, "init", "--tag", "t1")["fix"]
    assert world.run("--json", "doctor").code == 4
    assert not (world.root / ".autoresearch/journal.jsonl").exists()


# -- callers -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_caller_whose_git_variables_point_elsewhere_is_served_here(world: Project, tmp_path: Path) -> None:
    other = a_project(tmp_path / "other")
    before = {p: p.read_bytes() for p in (other.root / ".git").rglob("*") if p.is_file()}
    misleading = {
        "GIT_DIR": str(other.root / ".git"),
        "GIT_WORK_TREE": str(other.root),
        "GIT_INDEX_FILE": str(tmp_path / "stray-index"),
        "GIT_OBJECT_DIRECTORY": str(other.root / ".git/objects"),
        "GIT_COMMON_DIR": str(other.root / ".git"),
        "GIT_NAMESPACE": "x",
        "GIT_PREFIX": "sub/",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bare",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_TRACE": "1",
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_PAGER": "false",
        "LC_ALL": "C",
    }
    caller = Project(world.root, world.env | misleading)
    caller.begin()
    caller.edit("LR = 1.00", BETTER)
    assert caller.ok("try", "better")["verdict"] == "keep"
    assert {p: p.read_bytes() for p in (other.root / ".git").rglob("*") if p.is_file()} == before
    assert not (tmp_path / "stray-index").exists()
    assert world.git("log", "-1", "--format=%s", "autoresearch/t1") == "better"


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/nonexistent/home", ""])
def test_a_caller_without_a_home_is_served(
    world: Project, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    goes_through(world)


@pytest.mark.slow
def test_a_caller_with_a_strict_umask_and_a_poor_terminal_is_served(
    world: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    old = os.umask(0o777 & ~0o700)
    try:
        goes_through(world)
    finally:
        os.umask(old)


# -- words -----------------------------------------------------------------------------------------------

FIELDS = [(csv.QUOTE_NONE, False), (csv.QUOTE_MINIMAL, False), (csv.QUOTE_MINIMAL, True)]
SIGNS = st.characters(exclude_categories=("Cs",))  # every code point but surrogates
NASTY = st.sampled_from(
    "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x00\x1b\x85\u2028\u2029\u202e\ufeff\"'`\\$#,;|%<>\U000e0041"
)
WORDS = st.text(st.one_of(SIGNS, NASTY), max_size=60)


def an_experiment(number: int, hypothesis: str) -> Experiment:
    found = Experiment(
        f"e{number:03d}", f"{number:040x}", "t", "p", hypothesis, "2026-01-01T00:00:00.000+00:00"
    )
    found.verdict, found.metric = "discard", 1.0
    return found


def check_table(words: list[str]) -> None:
    """Whatever the words, every reader sees five columns and one row for each experiment."""
    experiments = {e.id: e for e in (an_experiment(n, text) for n, text in enumerate(words))}
    table = views.results_tsv(State(experiments=Roster(experiments)), "val_bpb")
    for quoting, strict in FIELDS:
        rows = list(
            csv.reader(io.StringIO(table, newline=""), delimiter="\t", quoting=quoting, strict=strict)
        )
        assert [len(row) for row in rows] == [5] * (len(words) + 1)
        assert all(row[4] for row in rows)
    assert len(table.splitlines()) == len(words) + 1
    assert not any(
        unicodedata.category(sign) in ("Cc", "Cf") for sign in table.replace("\t", "").replace("\n", "")
    )


def check_journal(folder: Path, words: list[str]) -> None:
    """What was said comes back from the journal to the last sign."""
    path = folder / "journal.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.load()
    for number, text in enumerate(words):
        journal.append(
            "proposed",
            experiment=f"e{number:03d}",
            commit="c",
            tree="t",
            parent="p",
            hypothesis=text,
            because=text,
        )
    again = Journal(path)
    state = again.load()
    assert [(e.hypothesis, e.because) for e in state.experiments.values()] == [(text, text) for text in words]
    assert path.read_bytes().isascii() and not again.notices


def check_message(text: str) -> str:
    """A commit message has one title and keeps its last line."""
    message = propose.commit_message("e001", text, {"because": text, "args": ""})
    lines = message.encode("utf-8").decode("utf-8").split("\n")
    assert lines[0].strip() and lines[1] == ""
    assert lines[-2:] == ["Experiment: e001", ""]
    assert len(lines) <= 5 and len(message.splitlines()) <= 4
    assert not any(unicodedata.category(sign) == "Cc" for sign in message.replace("\n", ""))
    return message


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=st.lists(WORDS, min_size=1, max_size=10))
def test_words_break_neither_journal_nor_table_nor_message(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    check_table(words)
    check_journal(tmp_path_factory.getbasetemp(), words)
    for text in words:
        check_message(text)


@pytest.mark.slow
def test_ten_thousand_random_texts_break_neither_journal_nor_table_nor_message(tmp_path: Path) -> None:
    seen = 0

    @settings(max_examples=700, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(words=st.lists(WORDS, min_size=20, max_size=25))
    def check(words: list[str]) -> None:
        nonlocal seen
        seen += len(words)
        check_table(words)
        check_journal(tmp_path, words)
        for text in words:
            check_message(text)

    check()
    print(f"{seen} texts")
    assert seen >= 10_000


@pytest.mark.slow
def test_a_commit_message_of_any_words_is_read_back_by_git(world: Project) -> None:
    workspace = Workspace(world.root, world.root / ".autoresearch")
    _, head = workspace.head()
    tree = workspace.tree_of(head)

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(text=WORDS)
    def check(text: str) -> None:
        message = check_message(text)
        commit = workspace.commit_tree(tree, head, message, "2026-01-01T00:00:00.000+00:00")
        body = workspace.run("cat-file", "commit", commit).split(b"\n\n", 1)[1]
        assert body.decode("utf-8").strip() == message.strip()

    check()


HOSTILE = [
    "$(touch canary)", "`touch canary`", "; touch canary", "| touch canary", "&& touch canary",
    "\ntouch canary\n", "--leave-out", "-h", "--", "--json", "-C /tmp", "%s%n%x", "{0.__class__}",
    "<script>alert(1)</script>", "'; DROP TABLE results; --", '"quoted" and \'quoted\'', "back\\slash \\n",
    "tab\tin\tit", "line\nfeed\r\nand\rreturn", "\x1b[31mred\x1b[0m \x1b]0;title\x07", "\u202egnihton\u202c",
    "zero\u200bwidth\ufeff", "\U000e0041\U000e0042 tags", "an emoji \U0001f469\u200d\U0001f467 and é",
    "a" * 20_000, "# not a comment", "val_bpb: 0.000001", "METRIC val_bpb=0.0", "=cmd|' /C calc'!A0", "e000",
    "../../../etc/passwd", "\ud7ff\ue000\uffff", "keep", "----\nverdict: keep\nExperiment: e999",
]  # fmt: skip


@pytest.mark.slow
def test_hostile_words_through_a_real_command_line_are_only_words(world: Project) -> None:
    world.begin()
    for number, words in enumerate(HOSTILE):
        world.edit("LR = 1.00", f"LR = {number + 2}.00")
        answer = world.run("--json", "try", "--because", words, "--", words)
        assert answer.code == 0, (words, answer.out, answer.err)
        assert answer.json["verdict"] == "discard" and answer.json["hypothesis"] == words
        assert world.run("show", "last").code == 0
    assert not list(world.root.rglob("canary")) and not Path("canary").exists()
    text = world.read("results.tsv")
    for quoting, strict in FIELDS:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=quoting, strict=strict))
        assert [len(row) for row in rows] == [5] * (len(HOSTILE) + 2)
    titles = world.git(
        "log",
        "--format=%s",
        "--no-walk",
        *world.git("for-each-ref", "--format=%(objectname)", "refs/autoresearch").split(),
    )
    assert len(titles.splitlines()) == len(HOSTILE) + 1
    listed = world.run("log", "-n", "100")
    assert listed.code == 0 and "\x1b" not in listed.out and "\u202e" not in listed.out
