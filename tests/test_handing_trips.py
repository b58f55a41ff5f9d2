"""The collaborative round trip by the command line, between folders that share only what is handed over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_handing import tools_without_git
from world import PREPARE, TRAIN, Project, a_project

pytestmark = pytest.mark.slow

SETTINGS = """command: python3 train.py
metric: {name: val_bpb, goal: min}
edit: [train.py]
protect: [prepare.py]
budget: {seconds: 60}
seed: {env: SEED}
mode: collaborative
inbox: dropped here
"""


@dataclass
class Pair:
    """The project with the agent, and another machine's folder."""

    here: Project
    there: Path
    path: str = os.environ["PATH"]

    def handed(self, request: str) -> Path:
        """Carry a request's archive over and unpack it there."""
        place = self.there / request
        if not place.exists():
            archive = self.here.root / f".autoresearch/requests/{request}.tar.gz"
            shutil.copy(archive, self.there)
            with tarfile.open(self.there / archive.name) as packed:
                packed.extractall(self.there, filter="data")
        return place

    def run(self, request: str) -> Path:
        """Do what REQUEST.md says; return the result file."""
        place = self.handed(request)
        command = [shutil.which("bash") or "bash", "run.sh", "--python", sys.executable]
        env = {"PATH": self.path, "HOME": str(self.there)}
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
        result = place / f"result-{request}.tar.gz"
        assert result.exists(), done.stdout + done.stderr
        return result

    def ingest(self, path: Path, *flags: str) -> dict:
        return self.here.ok("ingest", str(path), *flags)

    def refuse(self, path: Path, words: str, *flags: str) -> None:
        before = self.here.records()
        error = self.here.refused(9, "ingest", str(path), *flags)
        assert words in error["message"], error
        assert self.here.records() == before

    def gpu(self, name: str) -> None:
        """Let the other machine have a GPU."""
        folder = self.there / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{name}'\n")
        (folder / "nvidia-smi").chmod(0o755)
        self.path = f"{folder}:{os.environ['PATH']}"


def edited(result: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a result in which something was changed."""
    folder = result.parent / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(result.parent / result.name.removesuffix(".tar.gz"), folder / "result")
    change(folder / "result")
    return folder / "result"


def line(name: str, value: str) -> Callable[[Path], None]:
    """Change a line of every provenance."""

    def change(folder: Path) -> None:
        for path in folder.rglob("provenance.txt"):
            rows = path.read_text().splitlines()
            path.write_text(
                "".join(f"{name}: {value}\n" if r.startswith(f"{name}:") else f"{r}\n" for r in rows)
            )

    return change


def shortened(folder: Path) -> None:
    for path in folder.rglob("run.log"):
        path.write_bytes(path.read_bytes()[:-40])


def a_measured_project(folder: Path) -> Path:
    """A project whose baseline a person has measured."""
    project = a_project(folder / "my project", {"train.py": TRAIN, "prepare.py": PREPARE})
    project.write("autoresearch.yaml", SETTINGS)
    pair = Pair(project, folder)
    project.ok("init", "--tag", "t1")
    asked = project.ok("baseline", "--repeats", "2")
    assert asked["status"] == "running" and [r["seed"] for r in asked["runs"]] == [42, 43]
    pair.ingest(pair.run("r001"))
    return project.root


def copied(project: Path, folder: Path) -> Pair:
    """A copy of a measured project, and an empty folder on another machine beside it."""
    root, there = folder / "my project", folder / "another machine"
    shutil.copytree(project, root, symlinks=True)
    there.mkdir()
    env = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for key in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{key}_NAME": "a user", f"GIT_{key}_EMAIL": "user@localhost"}
    return Pair(Project(root, env), there)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_measured_project(tmp_path_factory.mktemp("measured"))


@pytest.fixture
def pair(measured: Path, tmp_path: Path) -> Pair:
    return copied(measured, tmp_path)


def test_two_requests_come_back_in_any_order_from_a_machine_without_git(pair: Pair) -> None:
    pair.path = tools_without_git(pair.there / "tools")
    here = pair.here
    here.edit("LR = 1.00", "LR = 0.50")
    better = here.run("try", "halve the rate")
    assert better.code == 0 and "hand over:" in better.out and "r002.tar.gz" in better.out
    here.edit("LR = 1.00", "LR = 1.50")
    assert here.ok("try", "raise the rate")["status"] == "running"
    status = here.ok("status")
    assert [(r["id"], r["experiment"]) for r in status["requests"]["open"]] == [
        ("r002", "e001"),
        ("r003", "e002"),
    ]
    assert "r003 e002 handed out 0 min ago" in here.run("status").out

    worse = pair.ingest(pair.run("r003"))
    assert worse["experiments"][0]["verdict"] == "discard"
    kept = pair.ingest(pair.run("r002"))
    assert (kept["experiments"][0]["verdict"], kept["experiments"][0]["metric"]) == ("keep", 0.5)
    assert here.git("show", "autoresearch/t1:train.py").count("LR = 0.50") == 1
    assert [row[3] for row in here.results()] == ["keep", "keep", "discard"]
    assert here.run("verify").code == 0
    shown = here.run("show", "e001").out
    assert "brought back from" in shown


def test_each_fault_is_answered_clearly_and_the_true_result_is_taken_after_it(pair: Pair) -> None:
    here = pair.here
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("try", "halve the rate")
    result = pair.run("r002")
    pair.refuse(edited(result, line("commit", "f" * 40)), "wrong commit: it ran ffffffffffff, r002 asks for")
    pair.refuse(edited(result, line("seed", "7")), "different seed: it ran seed 7, e001.1 is seed 42")
    pair.refuse(edited(result, shortened), "log cut short")
    pair.refuse(edited(result, line("token", "0" * 32)), "does not answer r002")
    pair.refuse(edited(result, line("words", "0" * 64)), "another command")
    cut = pair.there / "cut.tar.gz"
    cut.write_bytes(result.read_bytes()[:-30])
    pair.refuse(cut, "cannot be read to its end")

    assert pair.ingest(result)["experiments"][0]["verdict"] == "keep"
    before = here.records()
    again = pair.ingest(result)
    assert [row["outcome"] for row in again["runs"]] == ["known", "known"]
    assert here.records() == before

    first = result.read_bytes()
    shutil.rmtree(pair.there / "r002/result-r002")
    second = pair.run("r002")  # ran once more: a true result, of runs that are decided
    with (pair.there / "r002/result-r002/e001.1/provenance.txt").open() as file:
        assert "exit: 0" in file.read()
    if second.read_bytes() != first:
        answer = here.run("ingest", str(second))
        assert answer.code in (0, 9) and here.records() == before


def test_a_crash_there_is_a_crash_here_with_its_line(pair: Pair) -> None:
    pair.here.edit("value = LR", "raise ValueError('shape mismatch')\nvalue = LR")
    pair.here.ok("try", "a broken idea")
    back = pair.ingest(pair.run("r002"))
    crash = back["experiments"][0]
    assert crash["verdict"] == "crash" and "shape mismatch" in crash["reason"]
    assert [run["outcome"] for run in crash["runs"]] == [
        "error",
        "cancelled",
    ]  # the second seed is not waited for
    assert crash["crash"]["where"].startswith("train.py:")


def test_a_result_of_another_kind_of_machine_waits_for_the_incumbent_there(pair: Pair) -> None:
    here = pair.here
    pair.gpu("NVIDIA A100-SXM4-80GB")
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("try", "halve the rate")
    back = pair.ingest(pair.run("r002"))
    assert [r["outcome"] for r in back["experiments"][0]["runs"]] == ["elsewhere", "elsewhere"]
    assert back["experiments"][0]["verdict"] is None
    status = here.run("status").out
    assert "kept aside: it ran on NVIDIA A100-SXM4-80GB" in status and "`handoff best`" in status
    asked = here.ok("handoff", "best")
    moved = pair.ingest(pair.run(asked["request"]["id"]))
    assert "compared on NVIDIA A100-SXM4-80GB" in " ".join(moved["notices"])
    tried = here.ok("show", "e001")
    assert (tried["verdict"], tried["metric"]) == ("keep", 0.5)
    assert here.run("verify").code == 0


def test_a_bare_log_is_taken_with_what_the_person_says_and_flagged(pair: Pair) -> None:
    here = pair.here
    here.edit("LR = 1.00", "LR = 0.50")
    commit = here.ok("try", "halve the rate")["commit"]
    log = pair.there / "train.log"
    log.write_text("step 1 loss 3.2\n")
    known = ("--request", "r002", "--commit", commit[:8], "--seed")
    pair.refuse(log, "log cut short: it has no val_bpb", *known, "42")
    log.write_text("val_bpb: 0.500000\n")
    pair.refuse(log, "wrong commit", "--request", "r002", "--commit", "abcdef12", "--seed", "42")
    pair.refuse(log, "which commit", "--request", "r002", "--seed", "42")
    pair.refuse(log, "different seed: r002 asks for 42, 43, not 99", *known, "99")
    pair.ingest(log, *known, "42")
    assert pair.ingest(log, *known, "43")["runs"][0]["outcome"] == "known"  # the same bytes twice
    log.write_text("epoch 1\nval_bpb: 0.500000\n")
    done = pair.ingest(log, *known, "43")["experiments"][0]
    assert done["verdict"] == "keep" and any("bare log" in flag for flag in done["flags"])
    whole = pair.run("r002") and pair.there / "r002/result-r002/e001.1/run.log"
    pair.refuse(whole, "has a result already")


def test_the_watched_folder_is_taken_in_once_and_a_growing_file_is_left_alone(pair: Pair) -> None:
    here = pair.here
    inbox = here.root / "dropped here"
    inbox.mkdir()
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("try", "halve the rate")
    result = pair.run("r002")
    place = inbox / result.name
    place.write_bytes(result.read_bytes()[:-20])
    far = 4_000_000_000  # still being written, as far as anybody can tell
    os.utime(place, (far, far))
    assert here.ok("status")["notices"] == []
    os.utime(place, (1000, 1000))
    assert "cannot be read to its end" in " ".join(here.ok("status")["notices"])
    assert here.ok("status")["notices"] == []  # told once
    place.write_bytes(result.read_bytes())
    os.utime(place, (2000, 2000))
    told = here.ok("status")
    assert told["incumbent"]["experiment"] == "e001" and "e001.1 taken" in " ".join(told["notices"])
    before = here.records()
    assert here.ok("status")["notices"] == [] and here.records() == before and place.exists()


def test_what_the_user_says_is_before_the_agent_once_and_in_status_until_handled(pair: Pair) -> None:
    here = pair.here
    assert here.ok("note", "leave the tokenizer alone")["note"] == "n1"
    assert here.ok("note", "leave the tokenizer alone")["note"] == "n1"
    here.edit("LR = 1.00", "LR = 0.50")
    first = here.run("try", "halve the rate").out.splitlines()[0]
    assert first.startswith("the user says (n1,") and '"leave the tokenizer alone"' in first
    assert "user_says" not in here.ok("log")
    assert "leave the tokenizer alone" in here.run("status").out
    assert "- [ ] " in here.read("memories/said.md") and "{t1/n1}" in here.read("memories/said.md")
    here.ok("note", "--done", "n1")
    assert "leave the tokenizer alone" not in here.run("status").out
    assert "- [x] " in here.read("memories/said.md")
    here.refused(4, "note", "--done", "n7")
    events = [r["event"] for r in here.records()]
    assert [e for e in events if e.startswith("remark")] == ["remarked", "remark_seen", "remark_done"]


def test_a_checkpoint_offers_what_the_agenda_has_and_the_answer_steers_it(pair: Pair) -> None:
    here = pair.here
    for name in ("a wider head", "a longer warm-up", "a smaller batch"):
        here.ok("ideas", "add", name)
    asked = here.ok("checkpoint", "--question", "which first?")
    assert asked["checkpoint"] == "k1" and Path(asked["page"]).read_text().count("P(keep)") == 3
    letters = {option["text"]: option["letter"] for option in asked["options"]}
    assert here.ok("checkpoint", "--question", "which first?")["checkpoint"] == "k1"
    assert "k1 waits for the user's answer" in here.run("status").out
    here.refused(4, "checkpoint", "--answer", "Z", "--choose", "Z")
    words = ("--choose", letters["a smaller batch"], "--drop", letters["a wider head"])
    answered = here.ok("checkpoint", "--answer", "the batch; no wider head, memory is short", *words)
    assert "a smaller batch" in answered["next"]
    assert "memory is short" in here.read("memories/ideas.md")
    listed = here.ok("status")["ideas"]
    assert (listed["queued"], listed["next"]) == (2, answered["chosen"][0])


def test_an_experiment_of_an_autonomous_campaign_is_handed_off_and_the_loop_goes_on(pair: Pair) -> None:
    here = pair.here
    here.write("autoresearch.yaml", SETTINGS.replace("collaborative", "autonomous"))
    here.edit("LR = 1.00", "LR = 0.50")
    asked = here.ok("handoff", "--try", "halve the rate", "--seeds", "1", "--to", str(pair.there))
    assert Path(asked["copy"]).exists() and asked["request"]["open"] == ["e001.1"]
    here.edit("LR = 1.00", "LR = 1.50")
    assert here.ok("try", "raise the rate")["verdict"] == "discard"  # ran here meanwhile
    assert here.ok("handoff", "e001")["request"]["id"] == asked["request"]["id"]
    back = pair.ingest(pair.run("r002"))["experiments"][0]
    assert [(r["id"], r["outcome"], r["metric"]) for r in back["runs"]][0] == ("e001.1", "ok", 0.5)
    assert here.ok("wait", "e001")["verdict"] == "keep"  # what it asked for besides ran here


def test_a_withdrawn_request_ends_its_experiment_and_its_result_comes_too_late(pair: Pair) -> None:
    here = pair.here
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("try", "halve the rate")
    here.ok("handoff", "--withdraw", "r002")
    assert here.ok("show", "e001")["verdict"] == "discard"
    pair.refuse(pair.run("r002"), "has a result already (cancelled)")
    here.refused(4, "handoff", "--withdraw", "r009")


def test_init_takes_the_mode_and_finish_names_what_is_still_out(tmp_path: Path) -> None:
    here = a_project(tmp_path / "p")
    here.ok("init", "--tag", "t1", "--mode", "collaborative")
    assert here.ok("baseline")["status"] == "running"
    assert "mode: collaborative" in here.read("autoresearch.yaml")
    assert "r001 is still with a person" in here.run("finish").out


def test_what_cannot_be_handed_out_says_why_and_no_key_goes_out(pair: Pair) -> None:
    here = pair.here
    here.refused(2, "handoff")
    here.refused(4, "handoff", "e077")
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("handoff", "--try", "a key", "--args", "--api_key=sk-abcdefgh12345678abcdefgh")
    assert "sk-abcdefgh" not in (pair.handed("r002") / "run.sh").read_text()


def test_a_confirmation_is_two_requests_and_one_answer(pair: Pair) -> None:
    here = pair.here
    here.edit("LR = 1.00", "LR = 0.50")
    here.ok("try", "halve the rate")
    assert "2 runs to make for r002" in here.run("wake").out
    pair.ingest(pair.run("r002"))
    asked = here.run("confirm")
    assert asked.code == 0 and asked.out.count("hand over:") == 2
    pair.ingest(pair.run("r003"))
    assert here.ok("status")["requests"]["open"][0]["id"] == "r004"
    back = here.run("ingest", str(pair.run("r004")))
    assert back.code == 0 and "CONFIRMED" in back.out.upper(), back.out
    done = here.ok("confirm")
    assert (done["verdict"], done["gain"], len(done["runs"])) == ("confirmed", 0.5, 10)
    assert len({run["seed"] for run in done["runs"]}) == 5
    assert here.run("verify").code == 0


def test_ideas_travel_with_the_baseline_and_are_judged_once_that_is_back(tmp_path: Path) -> None:
    project = a_project(tmp_path / "my project", {"train.py": TRAIN, "prepare.py": PREPARE})
    project.write("autoresearch.yaml", SETTINGS)
    pair = Pair(project, tmp_path)
    project.ok("init", "--tag", "t1")
    project.ok("baseline", "--repeats", "2")
    project.edit("LR = 1.00", "LR = 0.50")
    project.ok("try", "half")
    project.edit("LR = 1.00", "LR = 1.50")
    project.ok("try", "more")
    for name in ("r003", "r002"):
        pair.ingest(pair.run(name))
        assert not any(r["event"] == "verdict" for r in project.records())
    pair.ingest(pair.run("r001"))
    verdicts = {r["experiment"]: r["verdict"] for r in project.records() if r["event"] == "verdict"}
    assert verdicts["e000"] == "keep" and verdicts["e001"] == "keep" and verdicts.get("e002") != "keep"
    assert project.ok("verify")["holds"]


def test_the_trials_of_a_sweep_travel_together_and_its_best_is_judged(pair: Pair) -> None:
    here = pair.here
    settings = here.read("autoresearch.yaml")
    here.write("autoresearch.yaml", settings + "sweep: {knobs: {LR: 0.2..1.8}}\n")
    error = here.refused(2, "sweep", "--sampler", "random", "--prune", "hyperband")
    assert "a person's machine" in error["message"]
    begun = here.run("sweep", "--trials", "6", "--sampler", "random", "--wait", "1")
    assert begun.code == 124 and "hand r002, r003, r004, r005 over" in begun.out
    trials = [r for r in here.records() if r["event"] == "proposed" and r.get("trial")]
    asked = [r for r in here.records() if r["event"] == "requested"][1:]
    assert len(trials) == len(asked) == 4
    seeds = {tuple(run["seed"] for run in request["runs"]) for request in asked}
    assert len(seeds) == 1 and len(seeds.pop()) == 1, "each runs once, on the sweep's own seed"
    for name in ("r004", "r002", "r003", "r005"):
        pair.ingest(pair.run(name))
    done = [row for row in here.results() if row[3] != "status"]
    assert [row[3] for row in done] == ["keep", *["discard"] * 4]
    number = 6
    while here.ok("status")["requests"]["open"]:
        pair.ingest(pair.run(f"r{number:03d}"))
        number += 1
    ended = here.records()[-1]
    metrics = {r["experiment"]: r["metric"] for r in here.records() if r["event"] == "verdict"}
    rows = {r["experiment"]: r for r in here.records() if r["event"] == "proposed"}
    trials = [name for name, row in rows.items() if row.get("trial")]
    assert len(trials) == 6 and ended["event"] == "sweep_ended"
    best = min(trials, key=lambda name: metrics[name])
    assert rows[ended["kept"]]["knobs"] == rows[best]["knobs"] and metrics[best] < 1
    assert here.run("verify").code == 0
