"""Which keeps still carry weight and what switches do: planned, measured beside the loop, told."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from world import PREPARE, Project, a_project, wait_until

from lab import weights
from lab.ablation import args_without
from lab.changes import replay
from lab.frozen import freeze, thaw
from lab.isolating import turned_args
from lab.model import Run, Study
from lab.studies import active, next_run
from lab.switches import OPTION, Switch, switches, turned
from lab.takeout import taken_out
from lab.weights import CARRIES, HELPS, HURTS, NO_EFFECT, NOT_NEEDED, SHORTER, UNDECIDED, Effect, effects

# A gains until B, which does the same and more, is kept: then A is planted as useless, B and C as useful.
TRAIN = """import argparse, os, random, time
A = 0.0
B = 0.0
C = 0.0
USE_X = False
USE_Y = False
parser = argparse.ArgumentParser()
parser.add_argument("--extra", action="store_true")
parser.add_argument("--break-it", action="store_true")
args = parser.parse_args()
if args.break_it:
    raise ValueError("broken by an option")
seed = int(os.environ.get("SEED", "0"))
mine = f"{seed} {A} {B} {C} {USE_X} {USE_Y} {args.extra}"
noise = random.Random(seed).gauss(0, 1) * 0.02 + random.Random(mine).gauss(0, 1) * 0.01
while os.path.exists(os.environ.get("HOLD", "")):
    time.sleep(0.02)
gain = 0.4 * max(A, B) + 0.3 * C + 0.2 * USE_X - 0.2 * USE_Y + 0.1 * args.extra
print(f"val_bpb: {2 - gain + noise:.6f}")
"""


def with_keeps(folder: Path, *edits: tuple[str, str]) -> Project:
    """A campaign in which each of the edits was kept."""
    made = a_project(folder, {"train.py": TRAIN, "prepare.py": PREPARE})
    made.begin(repeats=3)
    for old, new in edits:
        made.edit(old, new)
        assert made.ok("try", f"{new} instead of {old}")["verdict"] == "keep"
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    edits = (("A = 0.0", "A = 0.5"), ("C = 0.0", "C = 1.0"), ("B = 0.0", "B = 1.0"))
    return with_keeps(tmp_path_factory.mktemp("template") / "p", *edits)


@pytest.fixture
def night(template: Project, tmp_path: Path) -> Project:
    root = Path(shutil.copytree(template.root, tmp_path / "p", symlinks=True))
    return Project(root, {**template.env, "HOLD": str(tmp_path / "hold")})


@pytest.fixture
def hold(night: Project) -> Path:
    """While it is there, every run waits."""
    path = Path(night.env["HOLD"])
    path.touch()
    return path


@pytest.fixture
def first(tmp_path: Path) -> Project:
    """A campaign with nothing but its baseline."""
    made = a_project(tmp_path / "p", {"train.py": TRAIN, "prepare.py": PREPARE})
    made.begin()
    return made


def verdicts(done: dict) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in done["rows"]}


def studied(world: Project) -> list[dict]:
    return [r for r in world.records() if r["event"] == "run_started" and r.get("role") == "study"]


# -- the main job --------------------------------------------------------------------------------------


def test_a_keep_that_a_later_one_made_useless_is_named_and_useful_ones_carry_weight(night: Project) -> None:
    before = {run["seed"] for e in ("e000", "e001", "e002", "e003") for run in night.ok("show", e)["runs"]}
    branch, status = night.git("rev-parse", "autoresearch/t1"), night.ok("status")
    done = night.ok("ablate")
    assert verdicts(done) == {
        "without e001": NOT_NEEDED, "without e002": CARRIES, "without e003": CARRIES,
    }  # fmt: skip
    assert done["rows"][1]["effect"] == pytest.approx(0.3, abs=0.04)
    assert done["rows"][2]["effect"] == pytest.approx(0.2, abs=0.04)
    seeds = [run["seed"] for run in done["runs"]]
    assert not before & set(seeds) and len(seeds) == 4 * len(set(seeds))
    # The branch, the decisions' noise and the table are as they were.
    after = night.ok("status")
    assert night.git("rev-parse", "autoresearch/t1") == branch
    assert [after[k] for k in ("incumbent", "noise", "experiments")] == [
        status[k] for k in ("incumbent", "noise", "experiments")
    ]
    assert night.git("status", "--porcelain", "--untracked-files=no") in ("", "M train.py")
    assert night.run("verify").out.startswith("RECORD HOLDS")
    # What follows: an idea, the page of suggestions, the morning page; and nothing of it twice.
    agenda = night.ok("ideas", "list")["ideas"]
    assert [i["text"].split(",")[0] for i in agenda] == ["take e001 out"]
    assert night.ok("ablate")["runs"] == done["runs"]
    assert len(night.ok("ideas", "list")["ideas"]) == 1
    page = night.read("memories/notebook/t1/configuration_suggestions.md")
    assert "| e001 | off | no longer needed |" in page and "| e003 | on | carries weight |" in page
    night.ok("report")
    assert "no longer needed" in night.read(".autoresearch/report/index.html")
    assert "Which parts carry it?" in night.read(".autoresearch/report/report.md")


@pytest.mark.slow
def test_with_several_slots_the_arms_of_a_round_run_beside_each_other(
    night: Project, hold: Path, tmp_path: Path
) -> None:
    text = night.read("autoresearch.yaml")
    night.write("autoresearch.yaml", text.replace("slots: auto", "slots: 3"))
    night.env["AUTORESEARCH_SLOTS"] = str(tmp_path / "locks")
    night.run("ablate", "--wait", "0")
    wait_until(lambda: len(studied(night)) >= 3)
    hold.unlink()
    done = night.ok("ablate", "--wait", "300")
    assert verdicts(done)["without e001"] == NOT_NEEDED and verdicts(done)["without e002"] == CARRIES
    most, going = 0, set()
    for record in night.records():
        if str(record.get("run", "")).startswith("a1."):
            (going.add if record["event"] == "run_started" else going.discard)(record["run"])
            most = max(most, len(going))
    assert most == 3 and not going
    rounds = {(r["pair"], r["seed"]) for r in studied(night)}
    assert len(rounds) == len({pair for pair, _ in rounds}) == len(studied(night)) / 4


@pytest.mark.slow
def test_switches_of_the_edited_file_are_turned_alone_and_together(night: Project) -> None:
    found = {s["name"]: s["default"] for s in night.ok("isolate", "--list")["switches"]}
    assert found == {"USE_X": False, "USE_Y": False, "--extra": False, "--break-it": False}
    done = night.ok("isolate", "USE_X", "USE_Y", "--wait", "300", "--", "--extra")
    got = verdicts(done)
    assert (got["only USE_X"], got["only USE_Y"], got["only --extra"]) == (HELPS, HURTS, HELPS)
    assert (got["all but USE_X"], got["all but USE_Y"], got["all but --extra"]) == (HELPS, HURTS, HELPS)
    extra = next(row for row in done["rows"] if row["name"] == "only --extra")
    assert extra["effect"] == pytest.approx(0.1, abs=0.04)
    texts = [i["text"] for i in night.ok("ideas", "list")["ideas"]]
    assert any("USE_X on" in text for text in texts) and not any("USE_Y on" in text for text in texts)


@pytest.mark.slow
def test_arguments_alone_make_an_experiment(first: Project) -> None:
    done = first.ok("try", "the extra option", "--args", "--extra")
    assert done["verdict"] == "keep"
    assert done["commit"] and first.git("diff", "--stat", "main", "autoresearch/t1") == ""
    # What was kept by arguments is taken out by arguments.
    study = first.ok("ablate", "--pairs", "3")
    assert verdicts(study) == {"without e001": CARRIES}
    plan = next(r for r in first.records() if r["event"] == "study_started")
    assert [arm["args"] for arm in plan["arms"]] == ["--extra", ""]


# -- the plan and its bounds ---------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_is_there_to_take_out_before_the_first_keep(first: Project) -> None:
    assert "nothing was kept" in first.refused(4, "ablate")["message"]
    assert "no switch 'NOPE'" in first.refused(2, "isolate", "NOPE")["message"]
    assert not studied(first)


def test_more_runs_than_allowed_are_refused_before_anything_starts(night: Project) -> None:
    assert "8 runs" in night.refused(2, "ablate", "--runs", "5")["message"]
    assert not studied(night)


@pytest.mark.slow
def test_runs_are_bounded_and_the_cut_is_told(night: Project) -> None:
    night.edit("0.01", "0.5")  # so noisy that nothing is decided
    night.ok("try", "noise", "--again")
    done = night.ok("ablate", "e001", "--runs", "5", "--pairs", "6")
    assert len([r for r in done["runs"] if r["outcome"] == "ok"]) <= 5
    if done["cut"]:
        assert "of at most 5 runs" in done["cut"]


@pytest.mark.slow
def test_a_wait_that_ends_first_says_so_and_wait_goes_on(night: Project, hold: Path) -> None:
    answer = night.run("--json", "ablate", "e003", "--pairs", "2", "--wait", "0.05")
    assert answer.code == 124 and answer.json["status"] == "running"
    assert "is under way" in night.refused(4, "isolate")["message"]
    status = night.ok("status")
    assert status["next"].startswith("`wait` for a1")
    assert status["running"][0]["experiment"] == "e003"
    hold.unlink()
    assert night.ok("wait", "a1", "--max", "300")["rows"][0]["verdict"] == CARRIES
    assert len(studied(night)) == 4


@pytest.mark.slow
def test_stop_ends_it_and_resume_takes_it_up(night: Project, hold: Path) -> None:
    night.run("ablate", "e003", "--pairs", "2", "--wait", "0.05")
    night.ok("stop", "--now")
    hold.unlink()
    assert "resume" in night.refused(4, "ablate")["fix"]
    night.ok("resume")
    assert night.ok("ablate")["rows"][0]["verdict"] == CARRIES


@pytest.mark.slow
def test_a_keep_that_others_stand_on_cannot_be_taken_out_alone(tmp_path: Path) -> None:
    world = with_keeps(tmp_path / "p", ("A = 0.0", "A = 0.5"), ("A = 0.5", "A = 1.0"))
    done = world.ok("ablate", "--pairs", "3")
    assert verdicts(done) == {"without e001": "not measured", "without e002": CARRIES}
    assert "cannot be taken out alone" in done["rows"][0]["trouble"]
    assert "NOT MEASURED" in world.run("ablate", "--pairs", "3").out


@pytest.mark.slow
def test_a_variant_that_crashes_is_told_and_the_others_go_on(night: Project) -> None:
    done = night.ok("isolate", "USE_X", "--wait", "300", "--", "--break-it")
    rows = {row["name"]: row for row in done["rows"]}
    assert rows["only USE_X"]["verdict"] == HELPS
    assert rows["only --break-it"]["verdict"] == "not measured"
    assert "broken by an option" in rows["only --break-it"]["trouble"]
    assert all(run["outcome"] in ("ok", "error") for run in done["runs"])
    # All but one of two is the other one alone: nothing runs twice.
    assert not any(run["arm"].startswith("all but") for run in done["runs"])


@pytest.mark.slow
def test_every_prefix_of_its_records_is_a_state_that_can_be_kept(night: Project) -> None:
    night.ok("ablate", "e003", "--pairs", "2")
    records = night.records()
    for cut in range(len(records)):
        state = replay(records[:cut])
        assert thaw(freeze(state)) == state
    assert state.studies["a1"].runs


@pytest.mark.slow
def test_a_variant_is_held_by_a_ref_and_is_in_no_branch(night: Project) -> None:
    night.run("ablate", "e001", "--pairs", "2", "--wait", "0")
    ref = night.git("rev-parse", "refs/autoresearch/t1/a1.1-without-e001")
    assert "A = 0.0" in night.git("show", f"{ref}:train.py") and "B = 1.0" in night.git(
        "show", f"{ref}:train.py"
    )
    assert night.git("branch", "--contains", ref) == ""
    night.ok("stop", "--now")


# -- figures -------------------------------------------------------------------------------------------


def drawn(rng: random.Random, truth: list[float], rounds: int) -> dict[str, list[float]]:
    """Differences of arms that share one noisy reference; the noise of a run is 1."""
    found: dict[str, list[float]] = {str(k): [] for k in range(len(truth))}
    for _ in range(rounds):
        reference = rng.gauss(0, 1)
        for k, effect in enumerate(truth):
            found[str(k)].append(effect + reference - rng.gauss(0, 1))
    return found


@pytest.mark.parametrize("rounds", [3, 6])
@pytest.mark.parametrize("arms", [1, 3, 8])
def test_intervals_miss_the_truth_as_often_as_they_say(arms: int, rounds: int) -> None:
    rng = random.Random(arms * 100 + rounds)
    missed = total = 0
    for _ in range(1200 // arms):
        truth = [rng.choice([0.0, 1.0, 4.0]) for _ in range(arms)]
        made = effects(drawn(rng, truth, rounds), 0.05)
        missed += sum(not made[str(k)].low <= x <= made[str(k)].high for k, x in enumerate(truth))
        total += arms
    assert missed / total < 0.075  # 0.05 and three standard errors of 1200 draws


def test_without_noise_the_effect_is_its_own_interval() -> None:
    made = effects({"a": [0.1] * 3, "b": [0.0] * 3}, 0.05)
    assert (made["a"].low, made["a"].high) == (made["a"].mean, made["a"].mean)
    assert weights.keep_word(made["a"], 0.1, None, False) == CARRIES
    assert weights.keep_word(made["b"], 0.1, None, False) == NOT_NEEDED
    assert weights.switch_word(made["b"]) == NO_EFFECT


def test_one_round_says_nothing() -> None:
    assert effects({"a": [0.1]}, 0.05) == {}
    assert weights.row("ablate", {"name": "x"}, None, "")["verdict"] == "not measured"


@pytest.mark.parametrize(
    ("interval", "gain", "price", "shorter", "verdict"),
    [
        ((0.01, 0.3), 0.2, 0.0, False, CARRIES),
        ((-0.1, 0.05), 0.2, 0.0, False, NOT_NEEDED),
        ((-0.1, 0.15), 0.2, 0.0, False, UNDECIDED),
        ((-0.1, 0.05), 0.0, 0.1, False, NOT_NEEDED),
        ((-0.1, 0.05), 0.2, 0.0, True, SHORTER),
        ((-0.2, -0.1), 0.2, 0.0, True, NOT_NEEDED),
        ((-0.1, 0.05), None, None, False, UNDECIDED),
    ],
)
def test_a_keeps_verdict_follows_its_interval(
    interval: tuple[float, float], gain: float | None, price: float | None, shorter: bool, verdict: str
) -> None:
    effect = Effect(6, sum(interval) / 2, *interval)
    assert weights.keep_word(effect, gain, price, shorter) == verdict


def a_study(*runs: tuple[int, str, str], looks: tuple[int, ...] = (), settled: tuple[str, ...] = ()) -> Study:
    arms = [{"name": "all", "against": "", "trouble": ""}] + [
        {"name": name, "against": "all", "trouble": trouble}
        for name, trouble in (("b", ""), ("c", ""), ("d", "x"))
    ]
    study = Study("a1", "ablate", "e003", arms, pairs=6, most_runs=100, at="")
    study.looks, study.settled = list(looks), list(settled)
    study.runs = [
        Run(
            f"a1.{n}",
            1,
            "",
            "",
            outcome,
            1.0 if outcome == "ok" else None,
            role="study",
            side=side,
            pair=pair,
        )
        for n, (pair, side, outcome) in enumerate(runs, 1)
    ]
    return study


def test_rounds_go_forwards_and_backwards_in_turns() -> None:
    runs: list[tuple[int, str, str]] = []
    while due := next_run(a_study(*runs)):
        runs.append((*due, "ok"))
    assert "".join(side[0] for _, side, _ in runs) == "abc" + "cba" + "abc"


def test_a_machines_fault_is_repeated_and_a_crash_ends_an_arm() -> None:
    assert next_run(a_study((1, "all", "interrupted"))) == (1, "all")
    assert active(a_study((1, "all", "ok"), (1, "b", "error"))) == ["all", "c"]
    assert active(a_study((1, "all", "error"))) == []


def test_what_is_decided_runs_no_further() -> None:
    done = [(pair, side, "ok") for pair in (1, 2, 3) for side in ("all", "b", "c")]
    assert next_run(a_study(*done)) is None
    later = a_study(*done, looks=(3,), settled=("b",))
    assert active(later) == ["all", "c"] and next_run(later) == (4, "c")


# -- taking a change back ------------------------------------------------------------------------------


def test_equal_variants_share_their_runs() -> None:
    study = a_study((1, "all", "ok"), (1, "b", "ok"))
    study.arm("c")["runs_as"] = "b"
    assert active(study) == ["all", "b"] and next_run(study) == (2, "b")
    assert active(a_study((1, "b", "error"))) == ["all", "c"]


def lines(text: str) -> list[str]:
    return [f"{c}\n" for c in text]


@pytest.mark.parametrize(
    ("before", "after", "now", "wanted"),
    [
        ("abc", "aXc", "aXc", "abc"),
        ("abc", "aXc", "QXR", "QbR"),  # the neighbours were changed since
        ("abc", "aXc", "aYc", None),  # its own line was
        ("ac", "abc", "abcd", "acd"),
        ("abc", "ac", "acd", "abcd"),
        ("abc", "ac", "qr", None),
        ("abcd", "aXcY", "aXcYe", "abcde"),
        ("", "a", "ab", "b"),
    ],
)
def test_a_change_is_taken_back_where_its_own_lines_stand(
    before: str, after: str, now: str, wanted: str | None
) -> None:
    found = taken_out(lines(now), lines(before), lines(after))
    assert found == (None if wanted is None else lines(wanted))


@pytest.mark.parametrize(
    ("now", "before", "after", "wanted"),
    [
        ("--lr 1 --x", "--lr 1", "--lr 1 --x", "--lr 1"),
        ("--lr 3 --x", "--lr 1", "--lr 2", None),
        ("--lr 2 --x", "--lr 1", "--lr 2", "--lr 1 --x"),
        ("--a", "--a", "--a", "--a"),
        ("", "", "", ""),
        ("plain 2", "plain 1", "plain 2", "plain 1"),
    ],
)
def test_arguments_are_taken_back_option_by_option(
    now: str, before: str, after: str, wanted: str | None
) -> None:
    found = args_without(now, before, after)
    assert (None if found is None else sorted(found.split())) == (
        None if wanted is None else sorted(wanted.split())
    )


# -- switches ------------------------------------------------------------------------------------------

SOURCE = """import argparse
from dataclasses import dataclass
USE_A = False
é = "é"; USE_B = True  # beside a letter of two bytes
name = True
N = 3
@dataclass
class Config:
    rope: bool = True
    depth: int = 3
p = argparse.ArgumentParser()
p.add_argument("-f", "--flash", action="store_true")
p.add_argument("--no-bias", action="store_false")
p.add_argument("--tie", action=argparse.BooleanOptionalAction, default=True)
p.add_argument("--depth", type=int)
p.add_argument("--use-moe", type=int, default=0)
p.add_argument("--layers", type=int, default=1)
a = p.parse_args()
if not a.use_moe and a.depth:
    pass
"""


def test_switches_are_found_by_reading() -> None:
    found = {s.name: (s.kind, s.default, s.turned) for s in switches(SOURCE)}
    assert found == {
        "USE_A": ("constant", False, ""),
        "USE_B": ("constant", True, ""),
        "Config.rope": ("constant", True, ""),
        "--flash": (OPTION, False, "--flash"),
        "--no-bias": (OPTION, True, "--no-bias"),
        "--tie": (OPTION, True, "--no-tie"),
        "--use-moe": (OPTION, False, "--use-moe 1"),
    }
    assert switches("def (") == [] and switches("a\0b") == []


def test_constants_are_turned_in_place_and_nothing_else() -> None:
    named = {s.name: s for s in switches(SOURCE)}
    changed = turned(SOURCE, [named["USE_A"], named["USE_B"], named["Config.rope"]])
    assert changed == (
        SOURCE.replace("USE_A = False", "USE_A = True").replace("USE_B = True", "USE_B = False")
        .replace("rope: bool = True", "rope: bool = False")
    )  # fmt: skip


def test_an_option_is_put_in_or_taken_out() -> None:
    depth, flash = (
        Switch("--depth 8", OPTION, False, turned="--depth 8"),
        Switch("-f", OPTION, False, turned="-f"),
    )
    assert turned_args("--lr 1", [depth, flash]) == "--lr 1 --depth 8 -f"
    assert turned_args("--depth 8 --lr 1", [depth]) == "--lr 1"


@pytest.mark.slow
def test_the_suggestions_say_when_they_are_old(night: Project) -> None:
    night.ok("ablate", "e003", "--pairs", "2")
    assert night.ok("document", "suggestions", "--check")["old"] == []
    night.edit("USE_X = False", "USE_X = True")
    assert night.ok("try", "x")["verdict"] == "keep"
    answer = night.run("--json", "document", "suggestions", "--check")
    assert answer.code == 4 and answer.json["old"] == ["keeps"]
