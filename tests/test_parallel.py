"""Candidates side by side: stale winners and losers, combinations, conflicts, order, replay, kills."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_judging import SETTINGS as PAPER_SETTINGS
from test_judging import Paper
from world import PREPARE, a_project, wait_until

from lab import caution, judging, mover, parallel, verify
from lab.campaign import Lab
from lab.changes import replay
from lab.decide import decide
from lab.frozen import freeze
from lab.journal import Journal

# The metric is the sum of three numbers far enough apart to be merged; a run ends when its gate is open.
TRAIN = """import os, random, sys, time
LR = 1.00
# the rate of
# learning ends
# here
WD = 1.00
# the decay of
# weights ends
# here
MOMENTUM = 1.00
LR -= 0.1 * sys.argv.count("--fast")
gates = os.environ["GATES"]
name = f"{LR:.2f} {WD:.2f} {MOMENTUM:.2f}"
while not (os.path.exists(f"{gates}/{name}") or os.path.exists(f"{gates}/all")):
    time.sleep(0.02)
def told(name, usual):
    try:
        return float(open(f"{gates}/{name}").read())
    except OSError:
        return usual
luck = random.Random(int(os.environ["SEED"])).gauss(0, 1) * told("noise", 0)
luck += (LR < 1 and WD < 1) * told("clash", 0)
print("num_steps:", int(told("steps", 100)))
print(f"val_bpb: {LR + WD + MOMENTUM + luck:.6f}")
"""
SETTINGS = """command: python3 train.py
metric: {name: val_bpb, goal: min}
edit: [train.py]
protect: [prepare.py]
budget: {seconds: 60}
seed: {env: SEED}
sandbox: off
runner: {kind: local, slots: 3}
"""


class Field:
    """A campaign with three slots whose runs end when the test says so."""

    def __init__(self, folder: Path, noise: str = "0", repeats: int = 3) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        (self.gates / "noise").write_text(noise)
        self.project = a_project(folder / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
        self.project.env |= {"GATES": str(self.gates), "AUTORESEARCH_SLOTS": str(folder / "slots")}
        self.project.write("autoresearch.yaml", SETTINGS)
        self.project.ok("init", "--tag", "t1")
        self.project.run("baseline", "--repeats", str(repeats), "--wait", "0")
        self.together("1.00 1.00 1.00", *(f"e000.{k + 1}" for k in range(repeats)))
        self.project.ok("wait", "e000", "--max", "300")

    def open(self, name: str = "all") -> None:
        (self.gates / name).touch()

    def together(self, name: str, *runs: str) -> None:
        """Open a gate, and let these runs end while nobody looks: no end comes between two starts or ends."""
        lab = Lab.find(self.project.root)
        folders = [lab.home / "runs" / run for run in runs]
        wait_until(lambda: all((folder / "spec.json").exists() for folder in folders))
        with lab.changing("test"):
            self.open(name)
            wait_until(lambda: all((folder / "run.json").exists() for folder in folders))

    def change(self, *edits: tuple[str, str], args: tuple[str, ...] = ()) -> str:
        """Propose a change of constants; it is at work when this returns."""
        for name, value in edits:
            self.project.edit(f"{name} = 1.00", f"{name} = {value}")
        words = " and ".join(f"{name} {value}" for name, value in edits)
        done = self.project.ok("try", words, *args, "--wait", "0")
        assert done["status"] == "running", done
        return str(done["experiment"])

    def verdict(self, name: str) -> dict:
        self.project.run("wait", name, "--max", "300")
        done = self.project.ok("show", name)
        assert done["status"] == "done", done
        return done

    def constants(self, commit: str) -> str:
        text = self.project.git("show", f"{commit}:train.py")
        names = ("LR = ", "WD = ", "MOMENTUM = ")
        return " ".join(line.split(" = ")[1] for line in text.splitlines() if line.startswith(names))

    def events(self, *names: str) -> list[dict]:
        return [record for record in self.project.records() if record["event"] in names]

    def end(self) -> None:
        """Leave nothing at work, and a record that is whole and true."""
        self.open()
        wait_until(lambda: self.project.ok("status")["experiments"]["open"] == 0)
        wait_until(lambda: not mover.alive(self.project.root / ".autoresearch"))
        found = verify.examine(Lab(self.project.root))
        assert not found.misfits, [str(misfit) for misfit in found.misfits]


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    made = Field(tmp_path)
    yield made
    made.end()


@pytest.fixture
def noisy(tmp_path: Path) -> Iterator[Field]:
    """Noise as in published runs, and a baseline on one seed, so that a close candidate is repeated."""
    made = Field(tmp_path, noise="0.01", repeats=1)
    yield made
    made.end()


def test_a_win_over_a_former_incumbent_is_measured_together_with_the_new_one(field: Field) -> None:
    first = field.change(("LR", "0.80"))
    second = field.change(("WD", "0.90"))
    field.open("0.80 1.00 1.00")
    assert field.verdict(first)["verdict"] == "keep"
    field.open("1.00 0.90 1.00")
    stale = field.verdict(second)
    assert (stale["verdict"], stale["continued_as"]) == ("discard", "e003")
    assert "won against e000, but e001 was kept meanwhile; continued as e003 (e001+e002)" in stale["reason"]
    assert stale["gain"] == pytest.approx(0.1)  # against e000, and not against e001
    field.open("0.80 0.90 1.00")
    both = field.verdict("e003")
    assert (both["verdict"], both["combines"]) == ("keep", ["e001", "e002"])
    assert both["hypothesis"] == "e001 + e002: WD 0.90" and both["gain"] == pytest.approx(0.1)
    assert field.constants("autoresearch/t1") == "0.80 0.90 1.00"
    assert field.constants("refs/autoresearch/t1/2") == "1.00 0.90 1.00"
    wait_until(lambda: field.project.read("train.py").count("WD = 0.90"))  # the mover leaves the tree to us
    assert [row[3] for row in field.project.results()] == ["keep", "keep", "discard", "keep"]


@pytest.mark.slow
def test_a_loss_against_a_former_incumbent_is_a_discard_against_that_one(field: Field) -> None:
    first = field.change(("LR", "0.80"))
    second = field.change(("WD", "1.10"))
    field.open("0.80 1.00 1.00")
    assert field.verdict(first)["verdict"] == "keep"
    field.open("1.00 1.10 1.00")
    lost = field.verdict(second)
    assert lost["verdict"] == "discard" and not lost["continued_as"]
    assert "Measured on e000, which e001 has replaced meanwhile." in lost["reason"]
    record = field.events("verdict")[-1]
    assert (record["against"], record["belief_of"]) == ("e000", "e000")
    assert lost["gain"] == pytest.approx(-0.1)  # it beats e001's number neither way, and that is not asked
    assert field.project.ok("status")["experiments"] == {"keep": 2, "discard": 1, "crash": 0, "open": 0}


@pytest.mark.slow
def test_a_conflict_shows_both_sides_and_restore_brings_the_loser_back(field: Field) -> None:
    first = field.change(("LR", "0.80"))
    second = field.change(("LR", "0.90"), ("WD", "0.95"))
    field.open("0.80 1.00 1.00")
    field.verdict(first)
    field.open("0.90 0.95 1.00")
    clash = field.verdict(second)
    assert clash["verdict"] == "discard" and clash["clash"] == [
        "train.py:2: e001 `LR = 0.80`, e002 `LR = 0.90`"
    ]
    assert "its change conflicts with e001" in clash["reason"] and "`restore e002`" in clash["reason"]
    back = field.project.ok("restore", "e002")
    assert back["conflicts"] == ["train.py"]
    assert "<<<<<<<" in field.project.read("train.py") and "WD = 0.95" in field.project.read("train.py")


@pytest.mark.slow
def test_of_three_winners_the_best_is_kept_first_and_the_others_stack_on_it(field: Field) -> None:
    """All three end while nobody looks: the state lock is held until their results lie there."""
    small = field.change(("WD", "0.95"))
    large = field.change(("LR", "0.70"))
    middle = field.change(("MOMENTUM", "0.90"))
    lab = Lab.find(field.project.root)
    with lab.changing("test") as state:
        runs = [state.get(name).runs[0].id for name in (small, large, middle)]
        field.open()
        wait_until(lambda: all((lab.home / "runs" / run / "run.json").exists() for run in runs))
    for name in (small, large, middle):
        field.verdict(name)
    wait_until(lambda: field.project.ok("status")["experiments"]["open"] == 0)
    rows = {r["experiment"]: r for r in field.events("verdict")}
    order = [r["experiment"] for r in field.events("verdict")]
    assert order[1] == large and rows[large]["verdict"] == "keep"
    assert order.index(middle) < order.index(small)
    assert rows[middle]["continued_as"] == "e004" and rows[small]["continued_as"] == "e005"
    assert field.constants("autoresearch/t1") == "0.70 0.95 0.90"
    # Each step of the branch was measured on the step before it.
    chain = field.project.git("rev-list", "--reverse", "main..autoresearch/t1").split()
    kept = [r["experiment"] for r in field.events("verdict") if r["verdict"] == "keep"][1:]
    state = lab.read()
    assert [state.get(name).commit for name in kept] == chain
    assert [state.get(name).parent for name in kept[1:]] == chain[:-1]


@pytest.mark.slow
def test_two_wins_that_merge_cleanly_and_clash_leave_the_branch_where_it_was(field: Field) -> None:
    (field.gates / "clash").write_text("1")
    first, second = field.change(("LR", "0.80")), field.change(("WD", "0.75"))
    field.open("0.80 1.00 1.00")
    tip = field.verdict(first)["commit"]
    field.open()
    assert field.verdict(second)["continued_as"] == "e003"
    assert field.verdict("e003")["verdict"] == "discard"
    assert field.project.git("rev-parse", "autoresearch/t1") == tip
    # Alone it was better than what was kept: now, and only now, it is worth another look.
    state = Lab.find(field.project.root).read()
    assert [e.id for e in state.better_discards("min")] == [second]


@pytest.mark.slow
def test_a_replay_gives_the_same_state_and_the_same_order(field: Field) -> None:
    first, second = field.change(("LR", "0.80")), field.change(("WD", "0.90"))
    field.open("0.80 1.00 1.00")
    field.verdict(first)
    state = Lab.find(field.project.root).read()
    assert state.stale(state.get(second)) and state.reference(state.get(second)).id == "e000"
    assert list(state.left) == ["e000"]
    assert freeze(replay(field.project.records())) == freeze(state)
    field.open()
    field.verdict(second)
    wait_until(lambda: field.project.ok("status")["experiments"]["open"] == 0)
    lab = Lab.find(field.project.root)
    with lab.changing("test") as state:  # and nobody writes meanwhile
        told = freeze(replay(field.project.records()))
        assert told == freeze(state) == freeze(Journal(lab.journal.path).load())


@pytest.mark.slow
def test_the_same_change_twice_side_by_side_is_not_kept_twice(field: Field) -> None:
    first = field.change(("LR", "0.80"))
    field.project.edit("LR = 1.00", "LR = 0.80")
    second = field.project.ok("try", "the same", "--again", "--wait", "0")["experiment"]
    field.together("all", f"{first}.1", f"{second}.1")
    verdicts = [field.verdict(name) for name in (first, second)]
    assert [v["verdict"] for v in verdicts] == ["keep", "discard"]
    assert "e001, which was kept meanwhile, holds the same change" in verdicts[1]["reason"]


@pytest.mark.slow
def test_a_queued_candidate_takes_the_arguments_that_were_kept_meanwhile(field: Field) -> None:
    first = field.project.ok("try", "faster", "--args", "--fast", "--wait", "0")["experiment"]
    for value in ("1.20", "1.30"):
        field.change(("WD", value))
    field.project.edit("MOMENTUM = 1.00", "MOMENTUM = 0.95")
    queued = field.project.ok("try", "fourth", "--wait", "0")
    assert queued["status"] == "queued"
    field.open("0.90 1.00 1.00")
    assert field.verdict(first)["verdict"] == "keep"
    field.open()
    done = field.verdict(queued["experiment"])
    assert done["verdict"] == "keep" and done["metric"] == pytest.approx(2.85), done


def _took_its_place(lab: Lab, place: contextlib.ExitStack) -> bool:
    """End the campaign's mover and be it."""
    pid = mover.alive(lab.home)
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return place.enter_context(mover.only_one(lab.home)) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "combine.objects",
        "combine.committed",
        "journal.proposed.after",
        "combine.proposed",
        "journal.verdict.after",
    ],
)
def test_a_kill_between_a_win_and_its_combination_loses_and_doubles_nothing(field: Field, point: str) -> None:
    first, second = field.change(("LR", "0.80")), field.change(("WD", "0.90"))
    field.open("0.80 1.00 1.00")
    field.verdict(first)
    lab = Lab.find(field.project.root)
    with contextlib.ExitStack() as place:  # with the mover's place taken, the verdict is the dying call's
        with lab.changing("test") as state:
            run = state.get(second).runs[0].id
            wait_until(lambda: _took_its_place(lab, place))
            field.open()
            wait_until(lambda: (lab.home / "runs" / run / "run.json").exists())
        died = field.project.run("wait", second, env={"AUTORESEARCH_DIE_AT": f"{point}#1"})
    assert died.code == -9, died
    assert field.verdict(second)["continued_as"] == "e003"
    assert field.verdict("e003")["verdict"] == "keep"
    assert [r["experiment"] for r in field.events("proposed")] == ["e000", "e001", "e002", "e003"]
    assert [r["experiment"] for r in field.events("verdict")] == ["e000", "e001", "e002", "e003"]
    assert field.constants("autoresearch/t1") == "0.80 0.90 1.00"


@pytest.mark.slow
def test_both_sides_of_a_pair_start_at_once_in_idle_slots(noisy: Field) -> None:
    noisy.open()
    name = str(noisy.project.ok("try", "faster", "--args", "--fast", "--wait", "0")["experiment"])
    noisy.verdict(name)
    places = [(r["event"], r["run"]) for r in noisy.events("run_started", "run_ended")]
    pair = [("run_started", f"{name}.2"), ("run_started", "e000.2")]
    at = min(map(places.index, pair))
    assert sorted(places[at : at + 2]) == sorted(pair)  # no end in between
    decided = noisy.events("verdict")[-1]["seq"]
    assert all(r["seq"] < decided for r in noisy.events("run_ended") if r["run"] == "e000.2")


@pytest.mark.slow
def test_candidates_that_were_slow_together_run_again_once(field: Field) -> None:
    names = [field.change((name, "1.10")) for name in ("LR", "WD", "MOMENTUM")]
    (field.gates / "steps").write_text("50")
    field.together("all", *(f"{name}.1" for name in names))
    for name in names:
        assert field.verdict(name)["verdict"] == "discard"
    aside = field.events("set_aside")
    assert {r["run"] for r in aside} & {f"{name}.1" for name in names}
    assert "50 % less work than e000 under the same load" in aside[0]["reason"]
    assert len(aside) == len({r["run"] for r in aside}) <= 3


# --- on paper --------------------------------------------------------------------------------------------


def two_side_by_side() -> Paper:
    """A small gain begun before a large one was kept."""
    paper = Paper()
    paper.propose("e001", 0.97, parent="ce000")
    paper.propose("e002", 0.9785, parent="ce000")
    paper.run("e002", 42)
    for seed in (42, 43, 44):
        paper.run("e001", seed)
    return paper


def test_a_stale_candidates_facts_are_those_it_had_before_the_keep() -> None:
    paper = two_side_by_side()
    second = paper.state.experiments["e002"]
    before = judging.facts_of(paper.state, PAPER_SETTINGS, second)
    paper.verdict(
        "e001", "keep", decide(judging.facts_of(paper.state, PAPER_SETTINGS, paper.state.get("e001")))
    )
    assert paper.state.incumbent_id == "e001" and paper.state.stale(second)
    assert judging.facts_of(paper.state, PAPER_SETTINGS, second) == before
    fresh = judging.facts_of(paper.state, PAPER_SETTINGS, paper.state.get("e001"))
    assert fresh.incumbent != before.incumbent


def test_what_a_stale_verdict_teaches_is_of_the_former_incumbent() -> None:
    paper = two_side_by_side()
    paper.verdict("e001", "keep", None)
    believed, left = paper.state.belief, paper.state.left["e000"]
    second = paper.state.experiments["e002"]
    belief = judging.belief_after(paper.state, PAPER_SETTINGS, second, "discard")
    paper.add("verdict", experiment="e002", verdict="discard", reason="", belief=belief, belief_of="e000")
    assert paper.state.belief == believed and paper.state.left["e000"] == belief != left
    assert freeze(replay(paper.records)) == freeze(paper.state)
    paper.propose("e003", 0.96, parent="ce001")
    paper.run("e003", 42)
    paper.verdict("e003", "keep", None)
    assert not paper.state.left  # nothing is measured against e000 or e001 any more


def test_combinations_come_before_new_ideas_and_the_largest_effect_first() -> None:
    paper = two_side_by_side()
    paper.verdict("e001", "keep", None)
    for name, shrunken in (("e003", 0.001), ("e004", 0.003)):
        paper.propose(name, 0.97)
        paper.run(name, 42)
        paper.add("verdict", experiment=name, verdict="discard", reason="", shrunken=shrunken)
    paper.propose("e005", 0.97, parent="ce001")
    paper.propose("e006", 0.97, parent="ce001", combines=["e001", "e003"])
    paper.propose("e007", 0.97, parent="ce001", combines=["e001", "e004"])
    assert [e.id for e in parallel.order(paper.state)] == ["e002", "e007", "e006", "e005"]
    assert parallel.root(paper.state, paper.state.get("e007")).id == "e004"


def test_a_continued_discard_is_no_near_miss_until_its_combination_lost() -> None:
    paper = two_side_by_side()
    paper.verdict("e001", "keep", None)
    paper.propose("e003", 0.97, parent="ce001", combines=["e001", "e002"])
    fields = {"verdict": "discard", "reason": "", "metric": 0.5}
    paper.add("verdict", experiment="e002", continued_as="e003", **fields)
    assert paper.state.better_discards("min") == []
    paper.run("e003", 42)
    paper.add("verdict", experiment="e003", verdict="discard", reason="", metric=0.98)
    assert [e.id for e in paper.state.better_discards("min")] == ["e002"]


def loaded(work: dict[str, int], runs_beside: bool = True) -> Paper:
    """An incumbent that did 100 steps in company, and candidates that did `work`, side by side."""
    paper = Paper()
    names = ["e000", *work]
    for name in work:
        paper.propose(name, 0.98)
    for group in ([names[:1] * 3] if runs_beside else []) + [list(work)]:
        runs = []
        for name in group:
            experiment = paper.state.experiments[name]
            runs.append((name, f"{name}.{len(experiment.runs) + 1}"))
            words = {"seed": 50 + len(experiment.runs), "nonce": "n", "commit": experiment.commit}
            paper.add("run_started", experiment=name, run=runs[-1][1], **words)
        for name, run in runs:
            values = {"num_steps": float(work.get(name, 100))}
            paper.add("run_ended", experiment=name, run=run, outcome="ok", metric=0.98, values=values)
    return paper


@pytest.mark.parametrize(
    ("work", "slow"),
    [
        ({"e001": 50, "e002": 50, "e003": 50}, True),
        ({"e001": 100, "e002": 100, "e003": 50}, False),  # larger, perhaps: nobody beside it was slow
        ({"e001": 50, "e002": 50, "e003": 97}, False),
    ],
)
def test_a_slow_machine_is_told_from_a_slow_candidate(work: dict[str, int], slow: bool) -> None:
    paper = loaded(work)
    words = parallel.slowed(paper.state, paper.state.get("e003").runs[0], 0.1)
    assert bool(words) == slow
    if slow:
        assert "50 % less work than e000 under the same load, and e001.1, e002.1 beside it" in words


def test_work_under_another_load_says_nothing() -> None:
    paper = loaded({"e001": 50, "e002": 50, "e003": 50}, runs_beside=False)
    assert not parallel.slowed(paper.state, paper.state.get("e003").runs[0], 0.1)


def test_with_several_slots_the_incumbent_runs_once_in_every_wave() -> None:
    paper = Paper()
    paper.state.unchecked = 8
    assert [judging.sentinel_due(paper.state, slots) for slots in (1, 2, 3, 8, 16)] == [False] * 2 + [
        True
    ] * 2 + [False]
    paper.state.unchecked = 16
    assert judging.sentinel_due(paper.state, 16) and not judging.sentinel_due(paper.state, 64)


def test_a_run_on_other_hardware_than_the_incumbents_is_told() -> None:
    paper = Paper()
    lab = SimpleNamespace(state=paper.state)
    run = paper.state.get("e000").runs[0]
    assert not caution.elsewhere(lab, run, "NVIDIA H200")  # an older journal does not say
    run.hardware = "NVIDIA H100"
    assert "it ran on NVIDIA H200" in caution.elsewhere(lab, run, "NVIDIA H200")
    assert not caution.elsewhere(lab, run, "NVIDIA H100") and not caution.elsewhere(lab, run, "")


# --- pure ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("", "-a", "", "-a"),
        ("", "", "-b", "-b"),
        ("", "-a", "-a", "-a"),
        ("", "-a", "-b", None),
        ("-a", "", "-a", ""),
    ],
)
def test_arguments_are_merged_as_a_whole(base: str, ours: str, theirs: str, merged: str | None) -> None:
    assert parallel.merged_args(base, ours, theirs) == merged


def test_a_conflict_is_read_with_and_without_the_base_between_the_sides() -> None:
    text = b"a\n<<<<<<< x\nours 1\nours 2\n||||||| base\nold\n=======\n>>>>>>> y\nb\n"
    text += b"<<<<<<< x\n=======\nnew\n>>>>>>> y\n"
    found = parallel.clashes("f.py", text)
    assert [(c.line, c.incumbent, c.candidate) for c in found] == [
        (2, "`ours 1 | ours 2`", "nothing"),
        (5, "nothing", "`new`"),
    ]
    assert parallel.clash_words(found * 4, "e1", "e2")[-1] == "and 3 more places"
