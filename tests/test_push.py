"""The campaign branch pushed after each keep: forward only, one finding a commit, and never in the way."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from listeners import deaf, ended, until
from world import Project, a_project

from lab.campaign import Lab
from lab.model import State
from lab.notify.keeping import alive
from lab.notify.messenger import Messenger
from lab.push import is_time, wanted
from lab.settings import Settings
from lab.workspace import Workspace, _push_error

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = a_project(tmp_path_factory.mktemp("template") / "p")
    project.begin()
    return project.root


@pytest.fixture
def world(template: Path, tmp_path: Path) -> Iterator[Project]:
    project = Project(shutil.copytree(template, tmp_path / "p", symlinks=True))
    project.env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        project.env |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@localhost"}
    yield project
    until(lambda: ended(project.root / ".autoresearch/notify"), "the messenger is gone")


def a_remote(world: Project, name: str = "origin") -> Path:
    path = world.root.parent / f"{name}.git"
    subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    world.git("remote", "add", name, str(path))
    return path


def push_on(world: Project, value: str = "true") -> None:
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + f"push: {value}\n")


def keep(world: Project, old: str = "1.00", new: str = "0.50") -> str:
    world.edit(f"LR = {old}", f"LR = {new}")
    assert world.ok("try", f"rate {new}")["verdict"] == "keep"
    return world.git("rev-parse", "autoresearch/t1")


def at(remote: Path, branch: str = "autoresearch/t1") -> str:
    command = ["git", "-C", str(remote), "rev-parse", "--verify", "-q", f"refs/heads/{branch}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def pushes(world: Project) -> list[tuple[str, str, str]]:
    rows = [r for r in world.records() if r["event"] == "pushed"]
    return [(r["outcome"], r["remote"], r["detail"]) for r in rows]


@slow
def test_each_keep_reaches_the_remote_and_nothing_else_does(world: Project) -> None:
    remote = a_remote(world)
    world.git("tag", "-a", "-m", "a tag", "v1")
    world.git("config", "push.followTags", "true")
    hook = world.root / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    push_on(world)
    first = keep(world)
    until(lambda: at(remote) == first, "the first keep is there")
    second = keep(world, "0.50", "0.25")
    until(lambda: at(remote) == second, "the second keep is there")
    refs = subprocess.run(["git", "-C", str(remote), "for-each-ref", "--format=%(refname)"], check=True,
                          capture_output=True, text=True).stdout.split()  # fmt: skip
    assert refs == ["refs/heads/autoresearch/t1"]
    assert world.git("log", "--format=%s", "main..autoresearch/t1").count("\n") == 1
    world.ok("finish")
    until(lambda: not alive(world.root / ".autoresearch/notify"), "the messenger ends")
    assert pushes(world) == [("pushed", "origin", "")] * 2


@slow
def test_a_remote_that_went_elsewhere_is_never_forced(world: Project) -> None:
    remote = a_remote(world)
    other = world.git("commit-tree", world.git("rev-parse", "main^{tree}"), "-m", "somebody else's")
    world.git("push", "-q", "origin", f"{other}:refs/heads/autoresearch/t1")
    world.git("config", "remote.origin.push", "+refs/heads/*:refs/heads/*")
    push_on(world)
    keep(world)
    until(lambda: pushes(world), "the push was tried")
    assert pushes(world)[0][0] == "rejected" and at(remote) == other
    assert any("was not pushed to origin" in note for note in world.ok("status")["notices"])
    world.ok("finish")
    until(lambda: not alive(world.root / ".autoresearch/notify"), "it is not tried for ever")


@slow
def test_a_remote_that_does_not_answer_costs_a_line_and_no_verdict(world: Project) -> None:
    socket, port = deaf()
    with socket:
        world.git("remote", "add", "origin", f"git://127.0.0.1:{port}/x")
        push_on(world)
        keep(world)
        assert world.ok("finish")["ok"]
        until(lambda: alive(world.root / ".autoresearch/notify"), "the messenger is at it")
        space = Workspace(world.root, world.root / ".autoresearch")
        assert space.push("origin", "autoresearch/t1", "HEAD", 0.3) == ("failed", "no answer in 0.3 s")


@slow
def test_a_push_in_this_process_is_journalled_and_tried_again(world: Project) -> None:
    keep(world)
    push_on(world)
    present = [world.records()[-1]["at"]]
    teller = Messenger(world.root, {"PATH": os.environ["PATH"]}, clock=lambda: present[0])
    until(lambda: (teller.turn(), pushes(world))[1], "the push was tried")
    assert pushes(world) == [("failed", "", "there is no remote")]
    remote = a_remote(world)
    assert teller.turn() is False and not at(remote)
    hours_later = datetime.datetime.now().astimezone() + datetime.timedelta(hours=2)
    present[0] = hours_later.isoformat(timespec="milliseconds")
    until(lambda: (teller.turn(), at(remote))[1], "it was tried again later")
    lab = Lab(world.root)
    until(lambda: (teller.turn(), lab.read().pushed["outcome"] == "pushed")[1], "and the journal knows")


@slow
def test_two_remotes_and_no_default_need_a_name(world: Project) -> None:
    fork = a_remote(world, "fork")
    a_remote(world, "mine")
    push_on(world)
    commit = keep(world)
    until(lambda: pushes(world), "the push was tried")
    assert pushes(world)[0] == ("failed", "", "there are several remotes: write push: NAME")
    text = world.read("autoresearch.yaml")
    world.write("autoresearch.yaml", text.replace("push: true", "push: fork"))
    second = keep(world, "0.50", "0.25")
    until(lambda: at(fork) == second, "it goes to the one named")
    assert commit != second


def test_without_the_setting_or_without_a_keep_nothing_is_pushed() -> None:
    on = Settings("x", "m", "min", push="")
    assert wanted(State(), on) == ""
    assert wanted(State(), Settings("x", "m", "min")) == ""


def test_a_rejected_commit_waits_for_the_next_keep_and_a_failed_one_for_the_clock() -> None:
    state = State(base="c1")
    failed = {"commit": "c1", "remote": "o", "outcome": "failed", "detail": "", "tries": 1}
    state.pushed = {**failed, "at": "2026-11-21T08:00:00+00:00"}
    assert not is_time(state, "2026-11-21T08:00:59+00:00")
    assert is_time(state, "2026-11-21T08:01:00+00:00")
    state.pushed["tries"] = 4
    assert not is_time(state, "2026-11-22T08:00:00+00:00")


def test_the_reason_of_a_failed_push_holds_no_address() -> None:
    for said, words in (
        (
            "fatal: unable to access 'https://me:pw@host/x.git/': Could not resolve host: host",
            "Could not resolve",
        ),
        ("fatal: Authentication failed for 'https://tok@host/x'", "Authentication failed"),
        (
            "git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            "Could not read",
        ),
    ):
        outcome, detail = _push_error(said)
        assert outcome == "failed" and words in detail and "pw" not in detail and "tok" not in detail
    rejected = "To /tmp/x\n!\tHEAD:refs/heads/a\t[rejected] (non-fast-forward)\nDone\nerror: failed to push"
    assert _push_error(rejected)[0] == "rejected"
