"""Research documents filled from the journal, and the set-up of research walked step by step."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from pathlib import Path

import pytest
from world import REPOSITORY, TRAIN, Project, a_project

from lab.campaign import Lab
from lab.documents import kinds, regions
from lab.documents.contents import PARTS
from lab.documents.filling import fill
from lab.documents.kinds import KINDS

ASSETS = REPOSITORY / "skills" / "collaborative-and-templates" / "assets"
HOSTILE = "a | b <!-- end: best --> `x` [y] <script> # z"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A campaign with a keep, a discard and a crash, to be copied."""
    made = a_project(tmp_path_factory.mktemp("template") / "p")
    made.begin()
    for old, new, words in (
        ("LR = 1.00", "LR = 0.50", "half the rate"),
        ("LR = 0.50", "LR = 0.90", HOSTILE),
        ("LR = 0.50", "LR = None", "none at all"),
    ):
        made.edit(old, new)
        made.ok("try", words, "--because", "it looked large")
    return made


@pytest.fixture
def night(template: Project, tmp_path: Path) -> Project:
    return Project(Path(shutil.copytree(template.root, tmp_path / "p", symlinks=True)), dict(template.env))


@pytest.fixture
def world(tmp_path: Path) -> Project:
    return a_project(tmp_path / "p")


def notebook(world: Project, name: str) -> str:
    return world.read(f"memories/notebook/t1/{name}")


# -- templates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_one_template_whose_parts_the_tool_knows(name: str) -> None:
    text = (ASSETS / f"{name}.md").read_text()
    parts = regions.names(text)
    assert parts and set(parts) <= set(PARTS) and len(set(parts)) == len(parts)
    assert regions.places(text), "nothing is left to the agent"
    assert set(re.findall(r"\{\{(\w+)\}\}", text)) <= {"tag", "date", "experiment"}
    assert text.count("<!-- filled:") == text.count("<!-- end:") == len(parts)


def test_no_part_is_known_that_no_template_has_and_no_template_that_is_no_kind() -> None:
    used = {part for path in ASSETS.glob("*.md") for part in regions.names(path.read_text())}
    assert used >= set(PARTS) - {"issues"}
    assert {path.stem for path in ASSETS.iterdir()} == set(KINDS)


def test_a_missing_sibling_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = tmp_path / "autoresearch/scripts/lab/documents/kinds.py"
    monkeypatch.setattr(kinds, "__file__", str(lonely))
    with pytest.raises(kinds.LabError, match="templates are not there") as raised:
        kinds.folder()
    assert "collaborative-and-templates" in raised.value.hint


def test_templates_are_found_where_skills_are_installed_as_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "skills/autoresearch/scripts/lab/documents"
    (tmp_path / "skills/collaborative-and-templates/assets").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(kinds, "__file__", str(place / "kinds.py"))
    assert kinds.folder() == tmp_path / "skills/collaborative-and-templates/assets"


# -- filling -------------------------------------------------------------------------------------------


def test_filling_twice_changes_nothing(night: Project) -> None:
    lab = Lab(night.root)
    lab.read()
    for name, kind in KINDS.items():
        experiment = lab.state.get("e001") if name == "entry" else None
        made = fill(lab, kind, "go on", experiment, None)
        text = made.path.read_text()
        assert "{{" not in text and not made.edited and not made.old, name
        assert set(made.parts) == set(regions.names((ASSETS / f"{name}.md").read_text()))
        assert fill(lab, kind, "go on", experiment, None) == made
        assert made.path.read_text() == text


@pytest.mark.slow
def test_the_report_has_the_figures_of_the_journal_and_no_text_breaks_out(night: Project) -> None:
    night.ok("document", "report")
    text = notebook(night, "report.md")
    shown = night.ok("show", "e001")
    assert shown["commit"][:7] in text and f"{shown['metric']:.2f}"[:4] in text
    assert "half the rate" in text and "none at all" not in text.split("## What worked")[1].split("##")[0]
    assert regions.names(text) == regions.names((ASSETS / "report.md").read_text())
    assert "<script>" not in text and text.count("<!-- end: best") == 1


@pytest.mark.slow
def test_an_entry_tells_one_experiment(night: Project) -> None:
    made = night.ok("document", "entry", "e003")
    text = Path(made["file"]).read_text()
    assert text.startswith("# e003 of t1") and "it looked large" in text and "**CRASH**" in text
    assert "| e003.1 |" in text
    night.refused(2, "document", "entry")


@pytest.mark.slow
def test_what_people_wrote_stays_and_the_figures_follow(night: Project) -> None:
    night.ok("document", "progress")
    path = night.root / "memories/notebook/t1/progress.md"
    text = path.read_text()
    mine = text.replace(
        text[text.index("<!-- agent: the one") : text.rindex("-->") + 3], "Shall we go on? Ä\n"
    )
    path.write_text(mine.replace("# Progress: t1", "# Progress of my night"))
    night.edit("LR = 0.50", "LR = 0.25")
    night.ok("try", "a quarter")
    assert night.run("document", "progress", "--check").code == 4
    made = night.ok("document", "progress")
    after = path.read_text()
    assert "Shall we go on? Ä" in after and after.startswith("# Progress of my night")
    assert "a quarter" in after and len(made["places"]) == 1
    assert made["places"][0]["line"] == after[: after.index("<!-- agent:")].count("\n") + 1


@pytest.mark.slow
def test_a_part_that_somebody_edited_is_left_alone_and_named(night: Project) -> None:
    night.ok("document", "working")
    path = night.root / "memories/notebook/t1/working.md"
    path.write_text(path.read_text().replace("- metric: val_bpb", "- metric: what I call val_bpb"))
    made = night.ok("document", "working")
    assert made["edited"] == ["goal"] and "what I call" in path.read_text()
    assert "left as it was edited: goal" in night.run("document", "working").out


@pytest.mark.slow
def test_a_file_of_the_users_is_not_written_into(night: Project) -> None:
    assert "no document of ours" in night.refused(9, "document", "report", "--to", "README.md")["message"]
    assert night.read("README.md") == "hello\n"
    night.refused(4, "document", "report", "--to", "../out.md")
    made = night.ok("document", "report", "--to", "docs/night.md")
    assert made["file"].endswith("docs/night.md") and (night.root / "docs/night.md").exists()


@pytest.mark.slow
def test_documents_are_no_entries_of_memory(night: Project) -> None:
    night.ok("document", "report")
    assert night.ok("status")["memory"]["entries"] == 0
    assert night.ok("document")["documents"][0]["file"] is None


@pytest.mark.slow
def test_an_unknown_kind_is_answered_with_those_there_are(night: Project) -> None:
    assert "working, entry" in night.refused(2, "document", "novel")["fix"]


def test_windows_line_endings_stay() -> None:
    text = "# x\r\n<!-- filled: best -->\r\n<!-- end: best -->\r\nmine\r\n"
    once = regions.filled(text, {"best": ["a", "b"]})
    assert once.count("\r\n") == once.count("\n") == 6
    assert regions.filled(once, {"best": ["a", "b"]}) == once and not regions.edited(once)
    assert regions.differing(once, {"best": ["a"]}) == ["best"]


def test_content_cannot_end_its_own_part() -> None:
    once = regions.filled(
        "<!-- filled: best -->\n<!-- end: best -->\n", {"best": ["<!-- end: best -->", "x"]}
    )
    assert regions.names(once) == ["best"] and regions.edited(once) == []
    assert regions.filled(once, {"best": ["y"]}).count("\n") == 3


# -- bootstrap -----------------------------------------------------------------------------------------


def states(done: dict) -> dict[str, str]:
    return {step["name"]: step["state"] for step in done["steps"]}


def test_before_a_campaign_it_names_the_one_thing_to_do(world: Project) -> None:
    done = world.ok("bootstrap")
    assert states(done) == {"memories": "not applicable", "campaign": "to do"}
    assert done["next"] == "`init --tag TAG` (campaign)"


def test_it_does_what_is_mechanical_and_names_the_rest(world: Project) -> None:
    world.write("inbox.md", "- try a warm-up\n- drop the norm\n")
    world.ok("init", "--tag", "t1")
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "ideas: {inbox: inbox.md}\n")
    first = world.ok("bootstrap")
    assert states(first) == {
        "memories": "not applicable", "measurement": "not applicable", "baseline": "done", "audit": "to do",
        "literature": "to do", "inbox": "done", "agenda": "to do", "working": "done",
    }  # fmt: skip
    assert world.ok("show", "e000")["verdict"] == "keep"
    assert len(world.ok("ideas", "list")["ideas"]) == 2
    assert first["next"] == "`document audit` (audit)"
    # Called again it measures nothing anew.
    runs = len(world.ok("show", "e000")["runs"])
    assert states(world.ok("bootstrap")) == states(first)
    assert len(world.ok("show", "e000")["runs"]) == runs
    # A step that is done by the agent is seen as done, and one that is not wanted is put aside.
    path = world.root / "memories/notebook/t1/audit.md"
    path.write_text(re.sub(r"<!-- agent: .*?-->", "Nothing.", path.read_text()))
    world.ok("ideas", "add", "a third")
    assert "no step" in world.refused(2, "bootstrap", "--skip", "nap", "--because", "x")["message"]
    world.refused(2, "bootstrap", "--skip", "literature")
    last = world.ok("bootstrap", "--skip", "literature", "--because", "no network here")
    assert last["to_do"] == [] and last["next"].startswith("edit train.py")
    assert "no network here" in world.run("bootstrap", "--look").out


def test_looking_does_nothing(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    done = world.ok("bootstrap", "--look")
    assert states(done)["baseline"] == "to do" and states(done)["audit"] == "to do"
    assert not (world.root / "memories").exists()
    assert [r["event"] for r in world.records()] == ["campaign_started"]


@pytest.mark.slow
def test_a_torn_note_of_its_own_is_none(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    world.write(".autoresearch/bootstrap.json", '{"skipped": {"audit"')
    assert states(world.ok("bootstrap", "--look"))["audit"] == "to do"


@pytest.mark.slow
def test_a_baseline_of_yesterday_is_measured_once_more(world: Project) -> None:
    world.begin(repeats=2)
    aged(world, hours=23)
    assert states(world.ok("bootstrap"))["baseline"] == "done"
    assert len(world.ok("show", "e000")["runs"]) == 2
    aged(world, hours=2)
    assert "h old" in world.run("bootstrap", "--look").out
    assert states(world.ok("bootstrap"))["baseline"] == "done"
    assert len(world.ok("show", "e000")["runs"]) == 3


def aged(world: Project, hours: float) -> None:
    """Let every record be so many hours older; an older release wrote no links."""
    path = world.root / ".autoresearch/journal.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        at = datetime.datetime.fromisoformat(record["at"]) - datetime.timedelta(hours=hours)
        record["at"] = at.isoformat(timespec="milliseconds")
        record.pop("link", None)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))


@pytest.mark.slow
def test_a_baseline_that_outlasts_the_wait_is_waited_for_later(world: Project) -> None:
    gate = world.root.parent / "gate"
    held = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    world.write("train.py", held + TRAIN)
    world.commit("slow")
    world.ok("init", "--tag", "t1")
    answer = world.run("--json", "bootstrap", "--wait", "0.05")
    assert answer.code == 124
    assert {s["name"]: s["command"] for s in answer.json["steps"]}["baseline"] == "wait"
    gate.touch()
    world.ok("wait", "--max", "300")
    assert states(world.ok("bootstrap"))["baseline"] == "done"


@pytest.mark.slow
def test_in_collaborative_mode_a_person_runs_the_baseline(world: Project) -> None:
    world.ok("init", "--tag", "t1")
    world.write(
        "autoresearch.yaml",
        world.read("autoresearch.yaml").replace("mode: autonomous", "mode: collaborative"),
    )
    done = world.ok("bootstrap")
    command = next(s["command"] for s in done["steps"] if s["name"] == "baseline")
    assert command == "handoff baseline" and "e000" not in world.read(".autoresearch/journal.jsonl")
