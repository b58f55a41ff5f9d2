"""kill -9 at the steps of handing out, taking back, noting and asking: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_handing_trips import Pair, a_measured_project, copied

from lab import verify
from lab.campaign import Lab

pytestmark = pytest.mark.slow
OURS = (
    "request.", "ingest.", "note.", "checkpoint.", "machine.", "journal.requested", "journal.remarked",
    "journal.checkpoint", "journal.answered", "journal.withdrawn", "journal.run_ended", "journal.verdict",
)  # fmt: skip
Act = Callable[[Pair, dict[str, str]], None]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_measured_project(tmp_path_factory.mktemp("measured"))


def points(pair: Pair, act: Act) -> list[str]:
    """Every step of ours that `act` passes the first time."""
    steps = pair.there / "steps"
    act(pair, {"AUTORESEARCH_STEPS": str(steps)})
    names = dict.fromkeys(steps.read_text().split())
    return [name for name in names if name.startswith(OURS) and name.endswith("#1")]


def killed_everywhere(
    measured: Path,
    folder: Path,
    ready: Callable[[Pair], None],
    act: Act,
    after: Callable[[Pair], None],
    least: int,
) -> None:
    template = copied(measured, folder / "template")
    ready(template)

    def fresh(name: str) -> Pair:
        place = folder / name
        shutil.copytree(template.there.parent, place, symlinks=True)
        return Pair(type(template.here)(place / "my project", template.here.env), place / "another machine")

    names = points(fresh("enumerate"), act)
    assert len(names) >= least, names
    names = names if os.environ.get("FAULTS_EVERY_POINT") else names[::2]
    for number, name in enumerate(names):
        pair = fresh(str(number))
        act(pair, {"AUTORESEARCH_DIE_AT": name})
        after(pair)
        found = verify.examine(Lab(pair.here.root))
        assert not found.misfits, (name, [str(misfit) for misfit in found.misfits])
        assert not list((pair.here.root / ".autoresearch").rglob("*autoresearch-tmp")), name
        shutil.rmtree(pair.there.parent)
    print(f"{len(names)} points: {', '.join(names)}")


def edit(pair: Pair) -> None:
    pair.here.edit("LR = 1.00", "LR = 0.50")


def test_a_request_killed_at_any_step_is_whole_once(measured: Path, tmp_path: Path) -> None:
    def act(pair: Pair, env: dict[str, str]) -> None:
        pair.here.run("try", "halve the rate", env=env)

    def after(pair: Pair) -> None:
        pair.here.ok("status")  # a fresh session: makes up what is missing
        asked = [r for r in pair.here.records() if r["event"] == "requested"]
        assert len(asked) == 2 and asked[1]["runs"] == [
            {"id": "e001.1", "seed": 42},
            {"id": "e001.2", "seed": 43},
        ]
        place = pair.here.root / ".autoresearch/requests"
        assert (place / "r002.tar.gz").exists() and (place / "r002/run.sh").exists()
        assert pair.handed("r002").exists()  # unpacks to its end

    killed_everywhere(measured, tmp_path, edit, act, after, least=5)


def test_an_ingest_killed_at_any_step_takes_each_result_once(measured: Path, tmp_path: Path) -> None:
    def ready(pair: Pair) -> None:
        edit(pair)
        pair.here.ok("try", "halve the rate")
        pair.run("r002")

    def act(pair: Pair, env: dict[str, str]) -> None:
        pair.here.run("ingest", str(pair.there / "r002/result-r002.tar.gz"), env=env)

    def after(pair: Pair) -> None:
        again = pair.ingest(pair.there / "r002/result-r002.tar.gz")
        assert {row["outcome"] for row in again["runs"]} <= {"taken", "known"}
        ended = [r["run"] for r in pair.here.records() if r["event"] == "run_ended"]
        assert sorted(ended) == ["e000.1", "e000.2", "e001.1", "e001.2"]
        assert [row[3] for row in pair.here.results()] == ["keep", "keep"]
        assert not list((pair.here.root / ".autoresearch/requests").glob(".in-*"))

    killed_everywhere(measured, tmp_path, ready, act, after, least=5)


def test_a_note_and_an_answer_killed_at_any_step_are_taken_down_once(measured: Path, tmp_path: Path) -> None:
    words = ("--answer", "the head; not the batch", "--choose", "A", "--drop", "B")

    def ready(pair: Pair) -> None:
        pair.here.ok("ideas", "add", "a wider head")
        pair.here.ok("ideas", "add", "a smaller batch")

    def act(pair: Pair, env: dict[str, str]) -> None:
        pair.here.run("note", "be quick", env=env)
        pair.here.run("checkpoint", env=env)
        pair.here.run("checkpoint", *words, env=env)

    def after(pair: Pair) -> None:
        pair.here.ok("note", "be quick")
        if not any(r["event"] == "answered" for r in pair.here.records()):
            pair.here.ok("checkpoint")  # asked again, it is the same one
        pair.here.ok("checkpoint", *words)
        events = [r["event"] for r in pair.here.records()]
        assert [events.count(name) for name in ("remarked", "checkpoint", "answered")] == [1, 1, 1]
        assert pair.here.read("memories/said.md").count("be quick") == 1
        assert pair.here.read("memories/ideas.md").count("DEFERRED") == 2  # the heading's and the batch's
        assert pair.here.ok("status")["ideas"]["queued"] == 1

    killed_everywhere(measured, tmp_path, ready, act, after, least=5)
