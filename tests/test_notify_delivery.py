"""Messages to real servers on this machine: every path, whatever hangs, refuses or is killed."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from listeners import Mail, Web, deaf, ended, until
from world import ENTRY, Project, a_project

from lab.campaign import Lab
from lab.launch import policy_of
from lab.notify.channels import Channel, sender_python
from lab.notify.keeping import alive
from lab.notify.messenger import Messenger
from lab.notify.outbox import Letter
from lab.notify.post import Post

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sender_python() is None, reason="apprise is not installed (it is in the dev group)"),
]
CANARY = "canary4711secret"
BROKEN = "LR = 1 / 0  #"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its baseline, without notifications."""
    project = a_project(tmp_path_factory.mktemp("template") / "p")
    project.begin()
    return project.root


@pytest.fixture
def world(template: Path, tmp_path: Path) -> Iterator[Project]:
    project = Project(shutil.copytree(template, tmp_path / "p", symlinks=True))
    project.env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "TOKEN": CANARY}
    for role in ("AUTHOR", "COMMITTER"):
        project.env |= {f"GIT_{role}_NAME": "a user", f"GIT_{role}_EMAIL": "user@localhost"}
    yield project
    until(lambda: ended(project.root / ".autoresearch/notify"), "the messenger is gone")


def tell(world: Project, *places: str) -> None:
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + f"notify: {json.dumps(places)}\n")


def crash(world: Project, count: int = 3) -> None:
    for number in range(count):
        world.edit("LR = 1.00", f"{BROKEN} {number}")
        assert world.run("try", f"broken idea {number}").code == 0


def process_list() -> dict[int, str]:
    """Every process with its whole command line."""
    found = psutil.process_iter(["pid", "cmdline"])
    return {process.info["pid"]: " ".join(process.info["cmdline"] or []) for process in found}


def delivered(world: Project) -> list[tuple[str, str, str]]:
    rows = [r for r in world.records() if r["event"] == "notified"]
    return [(r["key"], r["channel"], r["outcome"]) for r in rows]


def noted(world: Project, kind: str) -> bool:
    """Whether something is to be told, sent or not."""
    return any(r["event"] == "notice" and r["kind"] == kind for r in world.records())


def rested(world: Project) -> bool:
    """Whether nobody sends any more."""
    return not alive(world.root / ".autoresearch/notify")


def test_a_test_message_reaches_web_ntfy_and_mail_and_says_what_did_not(world: Project) -> None:
    with Web() as web, Web(code=401) as strict, Mail() as mail:
        mailto = f"mailto://bob:${{TOKEN}}@127.0.0.1:{mail.port}?mode=insecure&from=a@here.org&to=b@here.org"
        tell(world, web.url(), web.url("night", "ntfy"), mailto)
        answer = world.ok("notify", "test")
        assert [row["outcome"] for row in answer["channels"]] == ["sent"] * 3
        assert "autoresearch t1: a test" in web.got[0].words and "autoresearch t1: a test" in web.got[1].words
        assert mail.got[0]["Subject"] == "autoresearch t1: a test" and mail.logins
        world.write(
            "autoresearch.yaml", world.read("autoresearch.yaml").replace(str(web.port), str(strict.port))
        )
        failed = world.run("--json", "notify", "test")
        assert failed.code == 4
        assert [row["detail"] for row in failed.json["channels"]] == ["the service answered 401"] * 2 + [""]


def test_what_cannot_be_sent_is_named_without_its_address(world: Project, tmp_path: Path) -> None:
    tell(world, "tgram://${MISSING}/1", "json://127.0.0.1:9/${TOKEN}", "nosuchservice://${TOKEN}/x",
         f"file:{tmp_path}/none")  # fmt: skip
    answer = world.run("--json", "notify", "test")
    assert answer.code == 4 and CANARY not in answer.out + answer.err
    rows = {row["name"]: row["detail"] for row in answer.json["channels"]}
    assert rows["tgram 1"] == "MISSING is not set"
    assert rows["json 2"] == "it cannot be reached"
    assert rows["nosuchservice 3"] == "no service of that name, or an incomplete address"
    assert "cannot be read" in rows["file 4"]


def test_a_campaign_tells_each_thing_once_to_each_address_and_its_messenger_ends(world: Project) -> None:
    with Web() as web, Web() as other:
        tell(world, web.url(), other.url("night", "ntfy"))
        crash(world)
        until(lambda: len(web.got) == len(other.got) == 1, "the crashes are told")
        world.edit("LR = 1.00", "LR = 0.50")
        world.ok("try", "a lower rate")
        until(lambda: len(web.got) == len(other.got) == 2, "the best is told")
        world.ok("finish")
        until(lambda: rested(world), "the messenger ends")
        world.ok("finish")
        world.ok("status")
        until(lambda: rested(world), "it ends again")
        for server in (web, other):
            titles = [got.words.splitlines()[0] for got in server.got]
            assert titles == [
                "autoresearch t1: 3 crashes in a row",
                "autoresearch t1: a clear new best",
                "autoresearch t1: finished",
            ]
        assert set(Counter(delivered(world)).values()) == {1} and len(delivered(world)) == 6
        assert "Experiment e004: a lower rate" in web.got[1].words


def test_servers_that_hang_refuse_or_are_gone_change_nothing_in_the_loop(world: Project) -> None:
    socket, port = deaf()
    with socket, Web(hang=True) as hang, Web() as web:
        tell(world, hang.url(), f"json://127.0.0.1:{port}/x", "json://127.0.0.1:9/x", web.url())
        crash(world)
        until(lambda: noted(world, "crashes"), "the crashes are noted")
        world.edit("LR = 1.00", "LR = 0.50")
        assert world.ok("try", "a lower rate")["verdict"] == "keep"
        until(lambda: noted(world, "best"), "the best is noted")  # the end would take its place
        assert world.ok("finish")["ok"]
        until(lambda: len(web.got) == 3, "the address that works gets everything")
        until(
            lambda: any(c == "json 1" and o == "failed" for _, c, o in delivered(world)), "a failure is known"
        )
        assert any("messages to json" in note for note in world.ok("status")["notices"])


def test_no_secret_is_left_anywhere(world: Project, tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    with Web() as web, Web(code=403) as strict, Mail() as mail:
        file.write_text(f"json://127.0.0.1:{web.port}/{CANARY}file\n")
        file.chmod(0o600)
        places = (
            f"json://127.0.0.1:{strict.port}/${{TOKEN}}",
            f"mailto://bob:${{TOKEN}}@127.0.0.1:{mail.port}?mode=insecure&from=a@here.org&to=b@here.org",
            f"file:{file}",
        )
        tell(world, *places)
        assert str(file) in policy_of(Lab(world.root), os.environ).hidden
        world.edit("import os, random", "import os, random\nprint('seen', os.environ.get('TOKEN'))")
        world.ok("try", f"with api_key={CANARY} in its words")
        crash(world)
        until(lambda: web.got and mail.got and strict.got, "each server is spoken to")
        assert CANARY not in "".join(process_list().values())
        answers = "".join(
            world.run(*verb).out for verb in (("status",), ("notify", "test"), ("--json", "doctor"))
        )
        assert CANARY not in answers
        world.ok("finish")
        until(lambda: web.got[-1].words.startswith("autoresearch t1: finished"), "the end is told")
        until(lambda: sum(k == "finished" for k, *_ in delivered(world)) == 3, "and all of it written down")
        assert CANARY in web.got[0].path and all(CANARY not in got.body for got in web.got + strict.got)
    hits = [p for p in world.root.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]
    # The hypothesis is the user's own text; it stays in the journal and the commit, and is hidden where told.
    assert {p.name for p in hits if ".git" not in p.parts} <= {"journal.jsonl", "snapshot.json"}
    told = [r for r in world.records() if r["event"] in ("notice", "notified", "run_ended")]
    assert told and CANARY not in json.dumps(told)


# -- killed -------------------------------------------------------------------------------------------------


@contextmanager
def messenger(world: Project, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, str(ENTRY), "-C", str(world.root), "notify", "run"],
        env={**os.environ, **world.env, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def finished(world: Project) -> Project:
    """A campaign with three crashes and its end to tell, which no messenger has seen yet."""
    crash(world)
    world.ok("finish")
    return world


def test_whatever_step_the_messenger_is_killed_at_each_notice_arrives_once(
    finished: Project, tmp_path: Path
) -> None:
    with Web() as web:
        steps = tmp_path / "steps"
        first = Project(shutil.copytree(finished.root, tmp_path / "first", symlinks=True), finished.env)
        tell(first, web.url())
        with messenger(first, AUTORESEARCH_STEPS=str(steps)) as process:
            process.wait(300)
        points = list(dict.fromkeys(steps.read_text().split()))
        assert len(points) >= 7 and "notify.send.after#1" in points, points
        for number, point in enumerate(points):
            web.got.clear()
            copy = tmp_path / str(number)
            world = Project(shutil.copytree(finished.root, copy, symlinks=True), finished.env)
            tell(world, web.url())
            with messenger(world, AUTORESEARCH_DIE_AT=point) as process:
                assert process.wait(300) == -signal.SIGKILL, point
            with messenger(world) as process:
                assert process.wait(300) == 0
            assert [got.words.splitlines()[0] for got in web.got] == ["autoresearch t1: finished"], point
            assert delivered(world) == [("finished", "json 1", "sent")], point
            assert not list((copy / ".autoresearch/notify").glob("*.json")), point


def test_a_sender_that_is_killed_leaves_a_repeat_that_says_so(finished: Project) -> None:
    with Web(hang=True) as hang:
        tell(finished, hang.url() + "?rto=300")

        def senders() -> list[int]:
            seen = process_list().items()
            return [pid for pid, row in seen if "sender.py" in row and str(finished.root) in row]

        with messenger(finished):
            until(senders, "a sender")
            (pid,) = senders()
            until(lambda: hang.got, "the message is under way")
            os.kill(pid, signal.SIGKILL)
            until(lambda: len(hang.got) == 2, "it is sent again")
        assert hang.got[1].words.startswith("(may be a repeat) autoresearch t1: finished")
        assert delivered(finished)[0] == ("finished", "json 1", "unknown")


def test_of_two_messengers_the_second_leaves_with_8(world: Project) -> None:
    with Web() as web:
        tell(world, web.url())
        world.ok("status")
        until(lambda: not rested(world), "status has started one")
        second = world.run("--json", "notify", "run")
        assert second.code == 8 and "already tells people" in second.json["message"]


def test_a_messenger_whose_campaign_was_removed_leaves(world: Project) -> None:
    with Web() as web:
        tell(world, web.url())
        with messenger(world) as process:
            until(lambda: not rested(world), "it lives")
            (world.root / ".autoresearch").rename(world.root / "elsewhere")
            assert process.wait(300) == 0


def test_the_messenger_starts_again_with_the_next_verb_after_a_kill(world: Project) -> None:
    with Web() as web:
        tell(world, web.url())
        world.ok("status")
        until(lambda: alive(world.root / ".autoresearch/notify") > 1, "it lives")  # and has said who it is
        pid = alive(world.root / ".autoresearch/notify")
        until(lambda: ended(world.root / ".autoresearch/notify"), "it is dead")
        crash(world)
        until(lambda: web.got, "the crashes are told")
        assert alive(world.root / ".autoresearch/notify") not in (0, pid)


def test_a_campaign_that_nobody_has_touched_for_an_hour_is_told_of_by_the_messenger_alone(
    world: Project,
) -> None:
    hour = datetime.timedelta(hours=1)
    rows = world.records()
    for row in rows:
        row["at"] = (datetime.datetime.fromisoformat(row["at"]) - hour).isoformat(timespec="milliseconds")
    with Web() as web:
        tell(world, web.url())
        world.write(".autoresearch/journal.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
        with messenger(world):
            until(lambda: delivered(world), "the silence is told")
        title, best, change = web.got[0].words.splitlines()[:3]
        assert title.startswith("autoresearch t1: no sign of the agent for 1 h")
        assert (best, change) == ("Experiment e000: baseline", "val_bpb 1.000000, keep")


# -- in this process, with a clock of our own ---------------------------------------------------------------


def test_a_silent_agent_is_told_by_a_process_that_lives(world: Project) -> None:
    with Web() as web:
        tell(world, web.url())
        present = [world.records()[-1]["at"]]
        teller = Messenger(world.root, {"PATH": os.environ["PATH"]}, clock=lambda: present[0])
        assert teller.turn() is False and not web.got
        later = datetime.datetime.fromisoformat(present[0]) + datetime.timedelta(days=365)
        present[0] = later.isoformat(timespec="milliseconds")
        lab = Lab(world.root)
        until(lambda: (teller.turn(), web.got)[1], "the silence is told")
        assert web.got[0].words.startswith("autoresearch t1: no sign of the agent for")
        until(lambda: teller.turn(), "a campaign that everybody left is left by its messenger too")
        assert [n["kind"] for n in lab.read().notices.values()].count("silent") == 1


def test_a_sender_ends_itself_at_its_limit_and_its_messenger_ends_one_that_does_not(tmp_path: Path) -> None:
    def outcome(post: Post) -> tuple[str, str]:
        told = None
        while told is None:
            told = post.send(letter, channel)
            time.sleep(0.02)
        return told

    with Web(hang=True) as hang:
        letter, channel = Letter("k", "json 1", "a\nb", 1), Channel("json 1", hang.url() + "?rto=30")
        assert outcome(Post(tmp_path, os.environ, limit=1.5)) == ("failed", "no answer in 1.5 s")
    frozen = Post(tmp_path, os.environ, limit=0.2)
    letter = Letter("frozen", "json 1", "a\nb", 1)
    frozen.send(letter, channel)
    ((process, end),) = frozen._at_work.values()
    process.send_signal(signal.SIGSTOP)
    frozen._at_work = {path: (process, time.monotonic()) for path in frozen._at_work}
    assert outcome(frozen)[0] == "failed"
    assert process.returncode is not None and end
