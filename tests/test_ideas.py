from __future__ import annotations

import multiprocessing
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebooks import a_lab, an_experiment
from world import Project, a_project

from lab import agenda, ideas, marks, notes
from lab.agenda import AGENDA, SOURCES, Idea, ordered, parsed
from lab.campaign import Lab
from lab.errors import LabError
from lab.likeness import ALIKE, alike, arguments, likeness
from lab.marks import Mark
from lab.model import Experiment, State

# Real pairs of wordings, as agents and people write them: the same experiment, or another one.
SAME = [
    ("raise the learning rate to 0.04", "increase lr to 0.04"),
    ("halve the batch size", "use half the batch"),
    ("remove weight decay", "no weight decay"),
    ("add a warm-up of 20 steps", "warmup of 20 steps"),
    ("switch the optimizer to Muon", "use the Muon optimizer"),
    ("double the depth", "use twice the depth"),
    ("tie embeddings", "tie the embedding weights"),
    ("smaller vocabulary", "reduce the vocabulary"),
    ("cosine learning rate schedule", "cosine lr schedule"),
    ("drop the bias terms", "remove bias terms"),
    ("use gradient clipping at 1.0", "grad clip at 1.0"),
    ("replace GELU by SwiGLU", "SwiGLU instead of GELU"),
]
OTHER = [
    ("raise the learning rate to 0.04", "raise the learning rate to 0.02"),
    ("raise the learning rate", "lower the learning rate"),
    ("halve the batch size", "double the batch size"),
    ("add a warm-up of 20 steps", "add dropout of 0.1"),
    ("wider MLP", "wider attention heads"),
    ("remove weight decay", "remove the bias"),
    ("cosine schedule", "linear schedule"),
    ("Muon for hidden layers", "AdamW for embeddings"),
    ("use gradient clipping at 1.0", "use gradient accumulation"),
    ("smaller vocabulary", "smaller batch"),
    ("depth 8 instead of 6", "depth 10 instead of 6"),
    ("tie embeddings", "scale embeddings"),
]
VAULT = (
    b"\xef\xbb\xbf---\r\ntags: [ml]\r\n- no idea\r\n---\r\n# Ideas\r\n\r\nSome prose, see [[Muon]].\r\n\r\n"
    b"- [ ] try [[Muon]] for hidden layers  ^block-1\r\n    - a detail\r\n* plain bullet caf\xe9 \t\r\n"
    b"- [x] done\r\n- [-] given up\r\n1. numbered\r\n> - quoted\r\n```\r\n- code\r\n```\r\n"
    b"<!--\r\n- hidden\r\n-->\r\n"
    b"| - | table |\r\n%% - comment %%\r\n\t- nested\r\n- last without an end"
)
LINES = st.sampled_from(
    [b"- a", b"- [ ] b", b"- [x] c", b"* d  ", b"1. e ^id", b"  - nested", b"```", b"---", b"# head", b"",
     b"text", b"- caf\xe9", "- 学习率".encode(), b"- {i0000 QUEUED}", b"- x {i1234 TESTED t1/e001 keep}",
     b"- y {i1234 QUEUED}", b"<!--", b"-->", b"%%", b"- [ ]", b"\t- tab", b"  - because: z", b"- { ", b"~~~",
     b"\xef\xbb\xbf- bom", b"- \x1b[31m"]
)  # fmt: skip
NOTE = st.tuples(st.lists(LINES, max_size=14), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())


def a_note(parts: tuple[list[bytes], bytes, bool]) -> bytes:
    lines, end, last = parts
    return end.join(lines) + (end if last else b"")


def without_marks(data: bytes) -> bytes:
    """The bytes of a note with every mark of ours taken out, and the boxes of tested ideas opened."""
    lines = []
    for line in notes.lines_of(data):
        body, tail = marks._body(line)
        text, mark = marks._split_mark(body)
        if mark and mark.state == "TESTED":
            text = text.replace(b"[x]", b"[ ]", 1)
        lines.append(text + tail)
    return b"".join(lines)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return a_lab(tmp_path / "p", inbox="inbox.md")


def add(lab: Lab, text: str, **fields: object) -> Idea:
    return ideas.add(lab, Idea("", text, **{"source": "own", **fields}))[0]  # type: ignore[arg-type]


# -- the agenda --------------------------------------------------------------------------------------------


def test_an_idea_is_written_with_its_scores_and_read_again(lab: Lab) -> None:
    wish = Idea(
        "", "warm up", source="diagnosis", because="it spikes", category="schedule", impact=4, feasibility=3
    )
    idea, fresh = ideas.add(lab, wish)
    assert fresh and idea == replace(wish, id=idea.id)
    assert ideas.agenda(lab.root) == [idea]
    assert (idea.score, idea.scored) == (4 * 3 / 3, False)
    judged = ideas.judge(lab, idea.id, {"complexity": 2})
    assert (judged.score, judged.scored) == (6.0, True)
    assert ideas.judge(lab, idea.id, {"state": "DEFERRED", "reason": "too slow"}).reason == "too slow"
    back = ideas.judge(lab, idea.id, {"state": "QUEUED", "reason": ""})
    assert back == judged
    assert "reason" not in (lab.root / AGENDA).read_text()


def test_the_same_words_twice_are_one_idea(lab: Lab) -> None:
    first = add(lab, "warm up")
    again, fresh = ideas.add(lab, Idea("", "Warm  up", impact=5))
    assert (again.id, fresh, len(ideas.agenda(lab.root))) == (first.id, False, 1)


def test_lines_people_add_by_hand_are_ideas_and_get_their_mark_at_the_next_change(lab: Lab) -> None:
    path = lab.root / AGENDA
    path.parent.mkdir()
    path.write_text(
        "# My list\n\n- [ ] by hand\n  - score: impact 5, feasibility: 4, complexity=2\n- [x] done\n"
    )
    idea = ideas.agenda(lab.root)[0]
    assert (idea.text, idea.source, idea.score) == ("by hand", "inbox", 10.0)
    add(lab, "another")
    assert f"- [ ] by hand {{{idea.id} QUEUED}}\n" in path.read_text()
    assert "- [x] done\n" in path.read_text()


def test_an_id_that_stands_twice_is_given_to_the_first_only(lab: Lab) -> None:
    path = lab.root / AGENDA
    path.parent.mkdir()
    path.write_text("- a {i1234 QUEUED}\n- b {i1234 DEFERRED}\n")
    found = ideas.agenda(lab.root)
    assert found[0].id == "i1234" and found[1].id != "i1234" and found[1].state == "DEFERRED"
    ideas.judge(lab, found[1].id, {"state": "QUEUED"})
    assert [(i.id, i.text) for i in ideas.agenda(lab.root)] == [(i.id, i.text) for i in found]


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_whatever_an_idea_says_it_comes_back_under_an_id_of_its_own(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = a_lab(Path(folder))
        wanted: dict[str, str] = {}
        for text in texts:
            plain = agenda.one_line(" ".join(text.split()), 300)
            if plain:
                idea, _ = ideas.add(lab, Idea("", plain, source="own"))
                wanted[idea.id] = wanted.get(idea.id, plain)
        found = {idea.id: idea.text for idea in ideas.agenda(lab.root)}
        assert found == wanted


@given(NOTE)
@settings(max_examples=300, deadline=None)
def test_ids_are_unique_and_other_bytes_stay_in_any_agenda(parts: tuple[list[bytes], bytes, bool]) -> None:
    data = a_note(parts)
    found = parsed(data)
    assert len({idea.id for idea in found}) == len(found)
    adopted = agenda.adopted(data)
    assert [idea.id for idea in parsed(adopted)] == [idea.id for idea in found]
    assert without_marks(adopted) == without_marks(data)
    assert agenda.adopted(adopted) == adopted
    changed = agenda.updated(adopted, lambda idea: replace(idea, state="TESTED", results=("t1/e001 keep",)))
    assert without_marks(changed) == without_marks(adopted)
    assert all(idea.state == "TESTED" for idea in parsed(changed))


# -- notes of people ---------------------------------------------------------------------------------------


def test_a_note_of_a_vault_is_read_and_marked_in_place(lab: Lab, tmp_path: Path) -> None:
    note = tmp_path / "vault" / "My ideas.md"
    note.parent.mkdir()
    note.write_bytes(VAULT)
    taken = ideas.take(lab, note)
    texts = [idea.text for idea in taken.fresh]
    assert texts == ["try [[Muon]] for hidden layers", "plain bullet caf", "numbered", "last without an end"]
    marked = note.read_bytes()
    first = taken.fresh[0]
    assert f"- [ ] try [[Muon]] for hidden layers {{{first.id} QUEUED}}  ^block-1\r\n".encode() in marked
    assert without_marks(marked) == VAULT
    assert ideas.take(lab, note).fresh == ()
    assert note.read_bytes() == marked
    an_experiment(lab, "muon", "discard", idea=first.id)
    assert ideas.follow(lab) == []
    mark = f"{{{first.id} TESTED nov21/e001 discard}}"
    assert f"- [x] try [[Muon]] for hidden layers {mark}  ^block-1\r\n".encode() in note.read_bytes()
    assert without_marks(note.read_bytes()) == VAULT


@given(NOTE)
@settings(max_examples=300, deadline=None)
def test_a_note_round_trips_byte_for_byte_outside_its_marks(parts: tuple[list[bytes], bytes, bool]) -> None:
    data = a_note(parts)
    found = [item for item in marks.items(data) if not item.mark and not item.ticked]
    known = [Idea(f"i{n:04x}", item.text) for n, item in enumerate(found)]
    marked = agenda.marked(data, known)
    assert without_marks(marked) == without_marks(data)
    assert agenda.marked(marked, known) == marked
    assert [item.text for item in marks.items(marked)] == [item.text for item in marks.items(data)]
    assert all(item.mark or item.ticked for item in marks.items(marked))
    tested = [replace(idea, state="TESTED", results=("t1/e001 crash",)) for idea in known]
    assert without_marks(agenda.marked(marked, tested)) == without_marks(data)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_round_trip(data: bytes) -> None:
    known = [Idea(f"i{n:04x}", item.text) for n, item in enumerate(marks.items(data)) if not item.mark]
    marked = agenda.marked(data, known)
    assert b"".join(notes.lines_of(marked)) == marked
    assert without_marks(marked) == without_marks(data)


def test_a_note_without_a_list_gives_its_lines(lab: Lab, tmp_path: Path) -> None:
    note = tmp_path / "plain.md"
    note.write_text("# Head\n\ntry rotary\nwider MLP\n\n> quoted\n")
    assert [idea.text for idea in ideas.take(lab, note).fresh] == ["try rotary", "wider MLP"]


def test_an_idea_taken_from_a_note_is_reworded_there_until_it_is_tested(lab: Lab) -> None:
    note = lab.root / "inbox.md"
    note.write_text("- try a rate of 0.04\n")
    idea = ideas.take_inbox(lab).fresh[0]
    note.write_text(note.read_text().replace("0.04", "0.02"))
    assert ideas.take_inbox(lab).fresh == ()
    assert [(i.id, i.text) for i in ideas.agenda(lab.root)] == [(idea.id, "try a rate of 0.02")]


def test_a_mark_that_a_person_deleted_comes_back_and_makes_no_second_idea(lab: Lab) -> None:
    note = lab.root / "inbox.md"
    note.write_text("- try rotary\n")
    ideas.take_inbox(lab)
    marked = note.read_text()
    note.write_text("- try rotary\n")
    assert ideas.take_inbox(lab).fresh == ()
    assert note.read_text() == marked


def test_a_mark_of_another_project_is_left_alone(lab: Lab) -> None:
    note = lab.root / "inbox.md"
    note.write_text("- theirs {iabcd TESTED other/e004 keep}\n- ours\n")
    taken = ideas.take_inbox(lab)
    assert [idea.text for idea in taken.fresh] == ["ours"]
    assert note.read_text().startswith("- theirs {iabcd TESTED other/e004 keep}\n")


def test_status_counts_what_is_new_in_the_inbox_and_changes_nothing(lab: Lab) -> None:
    note = lab.root / "inbox.md"
    note.write_text("- one\n- [x] done\n- two\n")
    assert ideas.unread(lab, ideas.agenda(lab.root)) == 2
    assert note.read_text() == "- one\n- [x] done\n- two\n" and not (lab.root / AGENDA).exists()
    ideas.take_inbox(lab)
    assert ideas.unread(lab, ideas.agenda(lab.root)) == 0


@pytest.mark.parametrize("what", ["missing", "folder", "utf16", "read-only"])
def test_a_fault_of_the_inbox_is_told_and_stops_nothing(lab: Lab, what: str) -> None:
    note = lab.root / "inbox.md"
    if what == "folder":
        note.mkdir()
    elif what == "utf16":
        note.write_bytes("- one\n".encode("utf-16"))
    elif what == "read-only":
        target = Path("/proc/self/status")  # what nobody can write, root neither
        if not target.exists():
            pytest.skip("needs /proc")
        note.symlink_to(target)
    taken = ideas.take_inbox(lab)
    assert taken.told and "inbox" in taken.told[0] or "not marked" in taken.told[0]


def test_only_notes_are_marked(lab: Lab) -> None:
    script = lab.root / "train.py"
    script.write_text("- 1\n")
    with pytest.raises(LabError, match="is no note"):
        ideas.take(lab, script)
    assert script.read_text() == "- 1\n"


def test_a_link_named_ideas_cannot_lead_out_of_memories(lab: Lab) -> None:
    (lab.root / "memories").mkdir()
    (lab.root / "train.py").write_text("- code\n")
    (lab.root / AGENDA).symlink_to("../train.py")
    with pytest.raises(LabError, match="leads out"):
        add(lab, "one")
    assert (lab.root / "train.py").read_text() == "- code\n"


@pytest.mark.parametrize("sign", [" ", "{", "}", "^", "- ", "[", "a-", "0", "\t"])
def test_a_huge_line_is_read_in_time_that_grows_with_its_length(sign: str) -> None:
    data = b"- x" + sign.encode() * 200_000 + b"\n"  # with its square it would not end
    assert agenda.marked(data, parsed(data)) != data


# -- outcomes ----------------------------------------------------------------------------------------------


def test_an_outcome_is_written_once_and_a_second_experiment_beside_it(lab: Lab) -> None:
    idea = add(lab, "warm up")
    an_experiment(lab, "warm up", "crash", None, idea.id)
    ideas.follow(lab)
    an_experiment(lab, "warm up, mended", "keep", 0.8, idea.id)
    ideas.follow(lab)
    before = (lab.root / AGENDA).read_bytes()
    ideas.follow(lab)
    assert (lab.root / AGENDA).read_bytes() == before
    found = ideas.agenda(lab.root)[0]
    assert (found.state, found.results) == ("TESTED", ("nov21/e001 crash", "nov21/e002 keep"))


def test_an_idea_queued_again_by_a_person_stays_queued(lab: Lab) -> None:
    idea = add(lab, "warm up")
    an_experiment(lab, "warm up", "discard", idea=idea.id)
    ideas.follow(lab)
    path = lab.root / AGENDA
    path.write_text(path.read_text().replace("TESTED", "QUEUED"))
    ideas.follow(lab)
    assert ideas.agenda(lab.root)[0].state == "QUEUED"


def test_a_note_that_is_gone_is_told_and_the_agenda_follows_all_the_same(lab: Lab) -> None:
    note = lab.root / "inbox.md"
    note.write_text("- one\n")
    idea = ideas.take_inbox(lab).fresh[0]
    note.unlink()
    an_experiment(lab, "one", "keep", idea=idea.id)
    assert "inbox.md is gone" in ideas.follow(lab)[0]
    assert ideas.agenda(lab.root)[0].state == "TESTED"


def test_a_person_s_score_between_reading_and_writing_is_kept(lab: Lab) -> None:
    idea = add(lab, "warm up", impact=1)
    path = lab.root / AGENDA
    seen = []

    def make(data: bytes) -> bytes:
        if not seen:
            seen.append(1)
            path.write_bytes(path.read_bytes().replace(b"impact 1", b"impact 5"))
        return agenda.updated(data, lambda i: replace(i, state="DEFERRED"))

    notes.change(path, make)
    found = ideas.agenda(lab.root)[0]
    assert (found.id, found.impact, found.state) == (idea.id, 5, "DEFERRED")


def _add_ten(root: str, who: int) -> None:
    lab = Lab(Path(root))
    lab.read()
    for n in range(10):
        ideas.add(lab, Idea("", f"writer {who} idea {n}", source="own"))


@pytest.mark.slow
def test_two_agents_and_a_person_at_once_lose_no_idea(lab: Lab) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_ten, args=(str(lab.root), who)) for who in range(2)]
    for writer in writers:
        writer.start()
    path, said = lab.root / AGENDA, 0
    while any(writer.is_alive() for writer in writers):
        if path.exists() and said < 10:
            line = f"- by hand {said}\n".encode()
            notes.change(path, lambda data, line=line: data + line)
            said += 1
        for writer in writers:
            writer.join(0.02)
    assert [writer.exitcode for writer in writers] == [0, 0]
    texts = [idea.text for idea in ideas.agenda(lab.root)]
    assert sorted(t for t in texts if t.startswith("writer")) == sorted(
        f"writer {who} idea {n}" for who in range(2) for n in range(10)
    )
    assert [t for t in texts if t.startswith("by hand")] == [f"by hand {n}" for n in range(said)]


# -- whose turn --------------------------------------------------------------------------------------------


def an_idea(n: int, source: str, impact: int = 3) -> Idea:
    return Idea(f"i{n:04x}", f"idea {n}", source=source, impact=impact)


def an_outcome(state: State, idea: str, verdict: str | None = "discard") -> None:
    identity = f"e{len(state.experiments):03d}"
    state.experiments[identity] = Experiment(identity, "c", "t", "p", "h", "at", idea=idea, verdict=verdict)


@given(st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 5)), max_size=20))
@settings(max_examples=100, deadline=None)
def test_no_source_starves(wishes: list[tuple[str, int]]) -> None:
    waiting = [an_idea(n, source, impact) for n, (source, impact) in enumerate(wishes)]
    known, state, order = list(waiting), State(), []
    an_outcome(state, "")
    while queue := ordered(known, state):
        first = queue[0]
        assert {idea.id for idea in queue} == {idea.id for idea in known if idea.state == "QUEUED"}
        order.append(first)
        an_outcome(state, first.id)
        known = [replace(i, state="TESTED") if i.id == first.id else i for i in known]
    assert len(order) == len(waiting)
    for start in range(len(order)):  # a source with ideas left has its turn within four
        left = {idea.source for idea in order[start:]}
        assert {idea.source for idea in order[start : start + len(SOURCES)]} >= left or len(left) > len(
            SOURCES
        )
    for source in SOURCES:
        scores = [idea.score for idea in order if idea.source == source]
        assert scores == sorted(scores, reverse=True)


def test_an_experiment_without_an_idea_was_the_agent_s_turn_and_an_open_one_is_not_offered_again() -> None:
    state = State()
    an_outcome(state, "")  # the baseline
    known = [an_idea(1, "inbox"), an_idea(2, "own"), an_idea(3, "paper")]
    an_outcome(state, "i0001")
    assert [idea.source for idea in ordered(known, state)][:2] == ["own", "paper"]
    an_outcome(state, "")
    assert [idea.source for idea in ordered(known, state)] == ["paper", "inbox", "own"]
    an_outcome(state, "i0003", verdict=None)
    assert "i0003" not in [idea.id for idea in ordered(known, state)]


# -- repeats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_experiment_in_other_words_is_alike(one: str, other: str) -> None:
    assert alike(one, other) and alike(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_experiment_is_not_alike(one: str, other: str) -> None:
    assert not alike(one, other) and not alike(other, one)


def test_the_threshold_lies_between_the_two_lists() -> None:
    assert max(likeness(*pair) for pair in OTHER) < ALIKE <= min(likeness(*pair) for pair in SAME)


@given(st.text(max_size=80), st.text(max_size=80))
@settings(deadline=None)
def test_likeness_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert 0 <= likeness(one, other) == likeness(other, one) <= 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("--lr 3e-4 --wd 0.1", "--wd 0.1 --lr 3e-4", True), ("--lr=3e-4", "--lr 3e-4", True),
        ("--wd -0.1 --x", "--x --wd -0.1", True), ("--lr 3e-4", "--lr 3e-5", False), ("", "--x", False),
        ("a b", "b a", False), ("--x 1 --x 2", "--x 2 --x 1", False), ("a --x", "--x a", False),
        ("--name 'a b'", "--name a b", False),
    ],
)  # fmt: skip
def test_arguments_are_the_same_in_any_order_where_order_cannot_matter(
    one: str, other: str, same: bool
) -> None:
    assert (arguments(one) == arguments(other)) is same


def test_an_idea_tested_in_an_earlier_campaign_is_named(lab: Lab) -> None:
    known = [Idea("i0001", "halve the batch size", "TESTED", ("oct03/e014 discard",))]
    said = agenda.relatives("use half the batch", known, lab.state)
    assert said and "i0001" in said[0] and "oct03/e014 discard" in said[0]


# -- the verbs ---------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Project:
    world = a_project(tmp_path / "p")
    world.begin()
    return world


def test_a_try_with_an_idea_writes_the_outcome_into_agenda_and_inbox(world: Project) -> None:
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "ideas: {inbox: notes/inbox.md}\n")
    world.write("notes/inbox.md", "# For the agent\n\n- [ ] halve the rate\n")
    assert "1 new in the inbox" in world.run("status").out
    told = world.ok("ideas", "next")
    idea = told["ideas"][0]
    assert idea["text"] == "halve the rate" and told["taken"] == [idea["id"]]
    assert world.refused(4, "try", "x", "--idea", "i9999")["fix"]
    world.edit("LR = 1.00", "LR = 0.50")
    done = world.ok("try", "halve the rate", "--idea", idea["id"])
    assert done["verdict"] == "keep"
    mark = f"{{{idea['id']} TESTED t1/e001 keep}}"
    assert f"- [x] halve the rate {mark}\n" in world.read("notes/inbox.md")
    assert mark in world.read(AGENDA)
    assert world.ok("status")["ideas"]["tested"] == 1


def test_a_try_in_the_words_of_a_queued_idea_is_its_test(world: Project) -> None:
    idea = world.ok("ideas", "add", "halve the rate")["idea"]
    assert world.ok("ideas", "next")["next"].count(f"--idea {idea['id']}") == 1
    world.edit("LR = 1.00", "LR = 0.50")
    tried = world.ok("try", "Halve  the rate")
    assert tried["verdict"] == "keep" and f"tied to idea {idea['id']}" in " ".join(tried["notices"])
    assert world.ok("status")["ideas"]["tested"] == 1


@pytest.mark.slow
def test_a_try_in_the_same_words_or_for_a_tested_idea_is_told_and_measured(world: Project) -> None:
    idea = world.ok("ideas", "add", "halve the rate")["idea"]
    world.edit("LR = 1.00", "LR = 0.50")
    world.ok("try", "halve the rate", "--idea", idea["id"])
    world.edit("LR = 0.50", "LR = 0.40")
    again = world.run("try", "use half the rate")
    assert "note: e001 was worded alike" in again.out and again.code == 0
    world.edit("LR = 0.40", "LR = 0.30")
    again = world.run("try", "once more", "--idea", idea["id"])
    assert "was tested before: t1/e001 keep" in again.out


def test_the_agenda_is_kept_by_its_five_verbs(world: Project) -> None:
    first = world.ok("ideas", "add", "wider MLP", "--impact", "4", "--feasibility", "2", "--complexity", "2")
    idea = first["idea"]
    assert (idea["score"], idea["source"], first["fresh"]) == (4.0, "own", True)
    assert not world.ok("ideas", "add", "Wider  MLP")["fresh"]
    assert world.refused(2, "ideas", "score", idea["id"], "--state", "DEFERRED")["fix"]
    said = world.ok("ideas", "score", idea["id"], "--state", "OUT_OF_SCOPE", "--reason", "needs a package")
    assert said["idea"]["reason"] == "needs a package"
    world.write("paper.md", "- rotary {x}\n- muon\n")
    assert len(world.ok("ideas", "import", "paper.md", "--source", "paper")["taken"]) == 2
    listed = world.ok("ideas")["ideas"]
    assert [i["state"] for i in listed] == ["QUEUED", "QUEUED", "OUT_OF_SCOPE"]
    assert [i["source"] for i in world.ok("ideas", "next")["ideas"]] == ["paper", "paper"]
    assert world.refused(4, "ideas", "import", "nothing.md")["fix"]


def test_the_same_change_with_its_arguments_in_another_order_is_a_repeat(world: Project) -> None:
    world.ok("try", "two options", "--args", "--a 1 --b 2")
    refused = world.refused(4, "try", "again", "--args", "--b 2 --a=1")
    assert "e001 tried exactly this" in refused["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "journal.verdict.after",
        "publish.results",
        "note.staged",
        "note.written",
        "note.staged#2",
        "note.written#2",
    ],
)
def test_a_kill_between_verdict_and_agenda_loses_no_outcome(world: Project, point: str) -> None:
    world.write("inbox.md", "- halve the rate\n")
    idea = world.ok("ideas", "import", "inbox.md")["taken"][0]["id"]
    world.edit("LR = 1.00", "LR = 0.50")
    at = point if "#" in point else f"{point}#1"
    killed = world.run("try", "halve the rate", "--idea", idea, env={"AUTORESEARCH_DIE_AT": at})
    assert killed.code == -9
    world.ok("resume")
    mark = f"{{{idea} TESTED t1/e001 keep}}"
    assert world.read(AGENDA).count(mark) == 1 and world.read("inbox.md") == f"- halve the rate {mark}\n"
    assert not list(world.root.rglob("*autoresearch-tmp"))


def test_an_idea_on_a_read_only_file_system_is_an_error_that_names_it(world: Project) -> None:
    if os.geteuid() == 0:
        (world.root / "memories").write_text("a file in the way")
    else:
        (world.root / "memories").mkdir(mode=0o500)
    said = world.refused(4, "ideas", "add", "one")
    assert "memories" in said["message"]


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = Mark("i3f7a", "TESTED", ("nov21/e012 discard", "nov21/e013 keep"))
    assert marks.items(f"- x {mark}\n".encode())[0].mark == mark
