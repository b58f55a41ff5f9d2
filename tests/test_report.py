from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import AXE, Browser, axe_core, browser, chromium
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from night import HOSTILE, MOVES, a_night
from world import Project, a_project

from lab.changes import replay
from lab.live.readings import read_curve
from lab.model import Record, State
from lab.report.figures import Figures, figures, percent, plural, said, span
from lab.report.material import Beside, Material, Note
from lab.report.page import Page, ticks
from lab.report.patch import diff_lines
from lab.report.story import Story
from lab.report.tries import expected_gain, foretold
from lab.report.trust import Check
from lab.report.words import data, markdown, wake
from lab.settings import Settings

NOON = "2026-11-21T12:00:00+00:00"
SETTINGS = Settings(
    command="python train.py",
    metric="val_bpb",
    goal="min",
    edit=("train.py",),
    protect=("prepare.py",),
    seed_env="SEED",
)


# -- builders ------------------------------------------------------------------------------------------


def commit(number: int) -> str:
    return f"{number:040x}"


def a_campaign(*tries: Record, sign: float = -1.0, **ended: object) -> State:
    """A baseline at 1.0 and one experiment for each record: its verdict, gain and words."""
    records: list[Record] = [
        {
            "event": "campaign_started",
            "at": "2026-11-21T08:00:00+00:00",
            "tag": "t1",
            "branch": "autoresearch/t1",
            "base": commit(0),
            "head": "main",
            "frozen": {"metric": "val_bpb"},
        },
        *an_experiment(0, {"verdict": "keep", "value": 1.0, "hypothesis": "baseline", "runs": 3}, ""),
    ]
    best, holder = 1.0, "e000"
    for number, wish in enumerate(tries, 1):
        gain = wish.get("gain")
        value = None if wish["verdict"] == "crash" else best + sign * float(str(gain or 0.0))
        records += an_experiment(number, {"value": value, **wish}, holder)
        if wish["verdict"] == "keep" and value is not None:
            best, holder = value, f"e{number:03d}"
    records += [
        {"event": event, "at": NOON, **(fields if isinstance(fields, dict) else {})}
        for event, fields in ended.items()
    ]
    return replay([{"seq": n, **record} for n, record in enumerate(records, 1)])


def an_experiment(number: int, wish: Record, against: str) -> list[Record]:
    """The records of one experiment, from its proposal to its verdict."""
    name, at = f"e{number:03d}", f"2026-11-21T{9 + number // 60 % 12:02d}:{number % 60:02d}:00+00:00"
    words = {key: wish.get(key, "") for key in ("because", "expect", "retry_of")}
    gain, value = wish.get("gain"), wish.get("value")
    made: list[Record] = [
        {
            "event": "proposed",
            "at": at,
            "experiment": name,
            "commit": commit(number),
            "tree": "t",
            "parent": commit(0),
            "hypothesis": wish.get("hypothesis", f"idea {number}"),
            "files": ["train.py"],
            "added": 3,
            "removed": 1,
            **words,
        }
    ]
    for run in range(1, int(str(wish.get("runs", 1))) + 1):
        crash = {
            "outcome": "error",
            "kind": wish.get("kind", "error"),
            "line": wish.get("line", "it broke"),
            "seconds": 3.0,
        }
        ok = {"outcome": "ok", "metric": value, "seconds": 60.0, "memory_gb": wish.get("memory_gb", 2.0)}
        made.append(
            {
                "event": "run_started",
                "at": at,
                "experiment": name,
                "run": f"{name}.{run}",
                "seed": 41 + run,
                "nonce": "n",
                "commit": commit(number),
            }
        )
        made.append(
            {
                "event": "run_ended",
                "at": at,
                "experiment": name,
                "run": f"{name}.{run}",
                **(crash if value is None else ok),
            }
        )
    judged: Record = {
        "event": "verdict",
        "at": at,
        "experiment": name,
        "verdict": wish["verdict"],
        "metric": value,
        "reason": wish.get("reason", "because of the numbers"),
        "memory_gb": wish.get("memory_gb", 2.0),
        "against": against,
    }
    if gain is not None:
        around = float(str(wish.get("spread", 0.002)))
        judged |= {
            "gain": gain,
            "sigma": 0.001,
            "p": wish.get("p", 0.99 if float(str(gain)) > around else 0.8),
            "interval": [float(str(gain)) - around, float(str(gain)) + around],
        }
    return [*made, judged]


def keep(gain: float, **more: object) -> Record:
    return {"verdict": "keep", "gain": gain, **more}


def discard(gain: float, **more: object) -> Record:
    return {"verdict": "discard", "gain": gain, "p": 0.1, **more}


def crash(kind: str = "error", **more: object) -> Record:
    return {"verdict": "crash", "kind": kind, **more}


def told(state: State, wanted: Settings = SETTINGS, **beside: object) -> Story:
    facts = {
        "now": NOON,
        "sigma": 0.001,
        "sigma_runs": 5,
        "command": "python3 autoresearch.py -C p",
        "next": "`try`",
    }
    return Story(Material(state, wanted, Beside(**{**facts, **beside})))  # type: ignore[arg-type]


class Tags(HTMLParser):
    """The elements of a page and what could load or run something."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.dangerous: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("src", "href", "action") and not (value or "").startswith(("#", "data:,"))
            ):
                self.dangerous.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# -- the answer ----------------------------------------------------------------------------------------


def test_the_headline_is_the_answer() -> None:
    assert (
        told(a_campaign(keep(0.03), discard(-0.1))).title
        == "val_bpb 0.9700: 0.0300 better than the baseline (3 %)"
    )


def test_nothing_kept_is_said_in_the_headline() -> None:
    story = told(a_campaign(discard(-0.1), crash()))
    assert story.title == "val_bpb 1.0000: none of 2 experiments beat the baseline"
    assert story.belief.head == "There is no gain to believe."


def test_a_metric_to_maximise_is_told_as_the_mirror_image() -> None:
    low, high = (keep(0.03), discard(-0.1)), Settings(command="x", metric="acc", goal="max", edit=("f.py",))
    story = told(a_campaign(*low, sign=1.0), high)
    assert story.title == "acc 1.0300: 0.0300 better than the baseline (3 %)"
    assert story.m.gain == pytest.approx(0.03)


def test_before_the_baseline_there_is_a_page_too() -> None:
    start = {
        "seq": 1,
        "event": "campaign_started",
        "at": NOON,
        "tag": "t1",
        "branch": "b",
        "base": commit(0),
        "head": "m",
    }
    story = told(replay([start]), sigma=None)
    assert story.title == "t1: nothing measured yet"
    assert "nothing measured yet" in Page(story).html() and Page(story).picture() == ""
    assert story.needs[0].verb == "baseline" and markdown(story) and data(story) and len(wake(story)) <= 20


def test_a_crashed_baseline_needs_a_person() -> None:
    records = an_experiment(0, {"verdict": "crash", "reason": "error: no data"}, "")
    start = {
        "event": "campaign_started",
        "at": NOON,
        "tag": "t1",
        "branch": "b",
        "base": commit(0),
        "head": "m",
    }
    story = told(replay([{"seq": n, **r} for n, r in enumerate([start, *records], 1)]))
    assert story.title == "t1: the baseline crashed" and story.needs[0].verb == "show e000"
    assert "no data" in Page(story).html()


@pytest.mark.parametrize(
    ("tries", "sign"),
    [
        ((keep(0.03), keep(0.01)), "good"),
        ((keep(0.03), keep(0.001)), "partly"),
        ((keep(0.003), keep(0.001), keep(0.001), keep(0.0015)), "doubt"),
        ((keep(0.001),), "doubt"),
    ],
)
def test_the_belief_follows_how_much_of_the_gain_is_clear(tries: tuple[Record, ...], sign: str) -> None:
    assert told(a_campaign(*tries)).belief.sign == sign


def test_what_is_within_the_noise_is_added_up_and_called_unproven() -> None:
    grounds = " ".join(told(a_campaign(keep(0.03), keep(0.001), keep(0.0015))).belief.grounds)
    assert "1 of 3 kept changes clear the noise" in grounds and "+0.0025: not proven one by one" in grounds


def test_a_keep_without_an_interval_is_not_called_clear() -> None:
    state = a_campaign(keep(0.03))
    state.experiments["e001"].p = None
    story = told(state)
    assert story.belief.head == "It cannot be told yet." and "not measured" in Page(story).html()


def test_what_is_to_be_believed_is_told_where_the_decision_knows_it() -> None:
    state = a_campaign(keep(0.03), discard(-0.1))
    state.experiments["e001"].shrunken = 0.024
    story = told(state, account={"gain": 0.0238, "gain_error": 0.0021, "drifts": [NOON]})
    assert (
        "Free of the luck that chose them, the keeps are worth +0.0238 ± 0.0021 together."
        in story.belief.grounds
    )
    assert story.evidence_words(story.worked[0]).startswith("clear · ")
    assert "as measured +0.0300 · P(pays) 0.99" in story.evidence_words(story.worked[0])
    assert [(c.value, c.note) for c in story.cards if c.label == "to be believed"] == [
        ("+0.0238", "± 0.0021, without the luck")
    ]
    assert any(c.name == "Drift" and c.ok is False for c in story.checks)


def test_fresh_seeds_have_the_last_word() -> None:
    result = {"gain": 0.028, "interval": [0.02, 0.036], "n": 6, "p_t": 0.0004, "metric": "val_bpb"}
    common = {"confirmation": "c1", "experiment": "e001"}
    started = {**common, "commit": commit(1), "base": "e000", "base_commit": commit(0), "pairs": 10}
    for verdict, sign in (
        ("confirmed", "good"),
        ("not confirmed", "doubt"),
        ("inconclusive at this scale", "doubt"),
    ):
        ended = {**common, "verdict": verdict, "reason": "numbers", "cut": "", "result": result, "pairs": 6}
        story = told(a_campaign(keep(0.03), confirm_started=started, confirmed=ended))
        assert story.belief.sign == sign and story.title.endswith(f", {verdict}")
        shown = "0.0280 better than the baseline" if verdict == "confirmed" else "0.0300 better"
        assert shown in story.title and ("in the loop" in story.title) is (verdict != "confirmed")
        assert "On 6 fresh pairs of seeds e001 is +0.0280" in story.belief.grounds[0]
        assert ("confirm" in [need.verb for need in story.needs]) is False
        assert ('class="ring"' in Page(story).html()) is (verdict == "confirmed")


def test_without_a_seed_no_fresh_seeds_are_claimed() -> None:
    result = {"gain": 0.03, "interval": [0.03, 0.03], "n": 5, "p_t": None, "metric": "val_bpb"}
    common = {"confirmation": "c1", "experiment": "e001"}
    started = {**common, "commit": commit(1), "base": "e000", "base_commit": commit(0), "pairs": 10}
    ended = {**common, "verdict": "confirmed", "reason": "numbers", "cut": "", "result": result, "pairs": 5}
    state = a_campaign(keep(0.03), confirm_started=started, confirmed=ended)
    for env, claimed in (("SEED", True), (None, False)):
        story = told(state, replace(SETTINGS, seed_env=env))
        said = " ".join(
            [story.title, story.belief.head, *story.belief.grounds, *(c.label for c in story.cards)]
        )
        assert ("fresh" in said) is claimed


# -- what needs a person, and whether it goes on -------------------------------------------------------


def verbs(story: Story) -> list[str]:
    return [need.verb for need in story.needs]


def test_every_need_has_a_command_that_can_be_typed() -> None:
    story = told(a_campaign(keep(0.03), stopped={"reason": "disk full"}), sigma=None, disk_free_gb=0.5)
    assert verbs(story) == ["resume", "doctor", "confirm"]
    assert verbs(told(a_campaign(discard(-0.1)), sigma=None))[0] == "baseline --repeats 3"
    assert story.needs[0].typed("python3 a.py -C p") == "python3 a.py -C p resume"
    page = Tags(Page(story).html())
    assert "python3 autoresearch.py -C p resume" in page.text


def test_at_most_five_things_need_a_person() -> None:
    state = a_campaign(
        keep(0.03, memory_gb=9.0), discard(0.001, p=0.95), crash(), crash(), crash(), stopped={"reason": "x"}
    )
    assert len(told(state, sigma=None, disk_free_gb=0.1, budget_spent="9 of 9").needs) == 5


def test_more_memory_is_asked_about_only_where_it_matters() -> None:
    assert "show e001" in verbs(told(a_campaign(keep(0.03, memory_gb=9.0))))
    small = a_campaign(keep(0.03, memory_gb=0.02))
    assert small.baseline is not None
    small.baseline.memory_gb = 0.01  # twice as much, and still nothing
    assert "show e001" not in verbs(told(small))


def test_three_crashes_in_a_row_are_said() -> None:
    assert "show e003" in verbs(told(a_campaign(crash(), crash(), crash())))
    assert "show e003" not in verbs(told(a_campaign(crash(), discard(-0.1), crash())))


def test_a_silent_agent_is_noticed_after_two_budgets_and_a_finished_campaign_is_not() -> None:
    late = {"now": "2026-11-21T14:00:00+00:00"}
    silent = told(a_campaign(keep(0.03)), **late)
    assert "status" in verbs(silent) and silent.present.startswith("silent since")
    done = told(a_campaign(keep(0.03), finished=True), **late)
    assert "status" not in verbs(done) and verbs(done) == ["git merge autoresearch/t1"]
    assert done.needs[0].typed("python3 x") == "git merge autoresearch/t1"


def test_a_run_at_work_is_named() -> None:
    state = a_campaign(keep(0.03))
    going = [
        r for r in an_experiment(2, {"verdict": "keep"}, "e001") if r["event"] in ("proposed", "run_started")
    ]
    state = replay([{"seq": 100 + n, **record} for n, record in enumerate(going)], state)
    story = told(state)
    assert story.present == "running e002.1" and "e002" in Page(story).html() and verbs(story) == ["confirm"]


# -- the parts -----------------------------------------------------------------------------------------


def test_the_page_says_how_the_agenda_stands(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p")
    project.begin()
    page = Path(project.ok("report")["page"])
    assert "1 idea" not in page.read_text()
    tried = project.ok("ideas", "add", "Halve the rate <b>now</b>", "--impact", "4")["idea"]["id"]
    project.ok("ideas", "add", "Double the width")
    project.edit("LR = 1.00", "LR = 0.50")
    project.ok("try", "Halve the rate", "--idea", tried)
    project.ok("report")
    said = "2 ideas: 1 queued, 1 tested; 1 kept in this campaign. Next: i"
    assert said in page.read_text() and said in page.with_name("report.md").read_text()
    assert json.loads(page.with_name("report.json").read_text())["ideas"].endswith("Double the width.")


def test_crashes_are_told_by_class_with_what_was_done_about_them() -> None:
    state = a_campaign(
        crash("oom"), crash("oom", line="CUDA out of memory"), crash("timeout"), keep(0.01, retry_of="e001")
    )
    first, second = told(state).failures
    assert (first.kind, first.ids, first.line) == ("oom", ("e001", "e002"), "CUDA out of memory")
    assert first.after == "tried again: e001 → e004 keep" and second.after == "left alone"


def test_near_misses_are_the_likely_ones_the_likeliest_first() -> None:
    state = a_campaign(discard(0.001, p=0.8), discard(0.002, p=0.95), discard(0.0001, p=0.52), discard(-0.1))
    assert [row.id for row in told(state).near] == ["e002", "e001"]
    assert told(state).dropped.startswith("4 discards: 1 not better than the best at that time, 3 better but")
    state.get("e004").trial = True
    assert told(state).dropped.startswith("4 discards: 1 trial of a sweep, 0 not better")


def test_where_the_gain_has_to_pay_a_near_miss_needs_less() -> None:
    state = a_campaign(discard(0.001, p=0.55), discard(0.001, p=0.2))
    for e in state.experiments.values():
        e.shrunken = e.gain
    story = told(state)
    assert [row.id for row in story.near] == ["e001"] and "restore e001" in verbs(story)


def test_a_discard_with_much_less_memory_is_a_near_miss() -> None:
    state = a_campaign(discard(-0.001, memory_gb=1.0), discard(-0.1, memory_gb=1.0))
    assert [row.id for row in told(state).near] == ["e001"]


def test_the_kept_path_says_what_was_tried_on_each_step() -> None:
    path = told(a_campaign(discard(-0.1), keep(0.02), crash(), discard(-0.1), keep(0.01))).path
    assert [(x.row.id, x.tried, x.discards, x.crashes) for x in path] == [
        ("e000", 2, 1, 0), ("e002", 3, 1, 1), ("e005", 0, 0, 0),
    ]  # fmt: skip
    assert path[-1].total == pytest.approx(0.03) and path[-1].share == 1.0


def test_checks_say_what_was_not_measured() -> None:
    checks = {c.name: c for c in told(a_campaign(keep(0.03)), sigma=None).checks}
    assert checks["Noise between runs"].ok is None and checks["What was changed"].ok is None
    stray = told(a_campaign(keep(0.03)), stray=("prepare.py",)).checks
    assert [c.ok for c in stray if c.name == "What was changed"] == [False]


def test_noise_from_few_runs_is_doubted_and_fresh_seeds_can_refute_it() -> None:
    def noise(story: Story) -> Check:
        return next(c for c in story.checks if c.name == "Noise between runs")

    state = a_campaign(keep(0.03))
    assert noise(told(state, sigma_runs=3)).ok is None and noise(told(state, sigma_runs=30)).ok is True
    assert "may be several times more" in " ".join(told(state, sigma_runs=3).belief.grounds)
    result = {"gain": 0.03, "interval": [0.02, 0.04], "n": 5, "p_t": 0.001, "metric": "val_bpb",
              "before": {"sd": 0.001}, "after": {"sd": 0.0069}}  # fmt: skip
    common = {"confirmation": "c1", "experiment": "e001"}
    started = {**common, "commit": commit(1), "base": "e000", "base_commit": commit(0), "pairs": 5}
    ended = {**common, "verdict": "confirmed", "reason": "r", "cut": "", "result": result, "pairs": 5}
    check = noise(told(a_campaign(keep(0.03), confirm_started=started, confirmed=ended), sigma_runs=30))
    assert check.ok is False and "fresh seeds differ by 0.0069 (sd), the loop counted on 0.001" in check.text


def test_a_run_much_shorter_than_its_budget_and_the_others_is_doubted() -> None:
    state = a_campaign(keep(0.03))
    state.experiments["e001"].runs[0].seconds = 5.0

    def checked(budget: float) -> Check:
        wanted = dataclasses.replace(SETTINGS, seconds=budget)
        return next(c for c in told(state, wanted).checks if c.name == "Length of the runs")

    assert checked(60.0).ok is False and "e001.1" in checked(60.0).text
    assert checked(300.0).ok is None and "far from the budget" in checked(300.0).text


def test_runs_on_other_data_are_doubted() -> None:
    state = a_campaign(keep(0.03), discard(-0.1))

    def checked() -> bool | None:
        return next(c.ok for c in told(state).checks if c.name == "The same data")

    assert checked() is None
    for e in state.experiments.values():
        e.runs[0].facts = {"fingerprint": "aa"}
    assert checked() is True
    state.experiments["e002"].runs[0].facts = {"fingerprint": "bb"}
    assert checked() is False


def test_a_flag_is_a_doubt_and_needs_a_person() -> None:
    state = a_campaign(keep(0.03))
    state.experiments["e001"].flags = ["too good to be true: 9 times what changes do here"]
    story = told(state)
    assert verbs(story)[0] == "show e001" and "too good to be true" in Page(story).html()
    assert any(line.startswith("doubt: Too good") for line in wake(story))


def test_what_was_found_wrong_and_is_not_mended_needs_a_person() -> None:
    story = told(
        a_campaign(keep(0.03)), issues=(Note("the labels are shifted", "the labels"), Note("b", "b"))
    )
    found = next(need for need in story.needs if "labels" in need.reason)
    assert (
        "the labels are shifted (and 1 other issue)" in found.reason and found.verb == "recall 'the labels'"
    )
    for text in (Page(story).html(), markdown(story), "\n".join(wake(story))):
        assert "the labels are shifted" in text


def test_lessons_stand_on_the_page_with_their_evidence() -> None:
    story = told(a_campaign(keep(0.03)), lessons=(Note("Warm-up matters", "t1: e001"),))
    for text in (Page(story).html(), markdown(story), "\n".join(wake(story))):
        assert "Warm-up matters" in text


@pytest.mark.parametrize(
    ("words", "gain"),
    [("-0.01", 0.01), ("val_bpb −0.02, memory down", 0.02), ("+0.5", -0.5), ("- 1e-3", 0.001),
     ("worse", None), ("-3 %", None), ("between 0.1 and 0.2", None), ("e-3", None)],
)  # fmt: skip
def test_an_expectation_is_read_where_it_names_a_change(words: str, gain: float | None) -> None:
    assert expected_gain(words, -1.0) == (gain if gain is None else pytest.approx(gain))


def test_how_well_the_hypotheses_foretold_is_counted() -> None:
    state = a_campaign(
        keep(0.03, expect="-0.02"), discard(-0.1, expect="-0.02"), discard(0.001, expect="-0.02")
    )
    assert foretold(told(state).m).startswith(
        "3 hypotheses named a change in numbers: 2 went in that direction, 1 by"
    )


# -- pictures ------------------------------------------------------------------------------------------


def test_marks_differ_in_shape_and_the_picture_has_words_and_a_table() -> None:
    state = a_campaign(keep(0.03), keep(0.001), discard(0.002, p=0.9), crash(), discard(-9.0))
    page = Page(told(state)).html()
    wide = re.search(r'<svg[^>]*class="plot wide".*?</svg>', page, re.DOTALL)
    assert wide
    for mark in (
        'class="keep"',
        'class="keep open"',
        'class="dot"',
        'class="crash"',
        'class="off"',
        'class="band"',
    ):
        assert mark in wide[0], mark
    assert 'role="img" aria-label="val_bpb over 5 experiments' in wide[0]
    assert "The kept path, step by step" in page


def test_one_far_value_does_not_flatten_the_rest() -> None:
    near, far = (Page(told(a_campaign(keep(0.03), discard(-x)))).picture() for x in (0.01, 1e6))
    assert 'class="off"' in far and 'class="off"' not in near.split("</style>")[1]


def test_a_picture_alone_is_whole_xml() -> None:
    import xml.etree.ElementTree as tree

    svg = Page(told(a_campaign(keep(0.03, hypothesis="a </svg> & <b>"), crash()))).picture()
    assert tree.fromstring(svg).tag.endswith("svg")


@pytest.mark.parametrize(
    ("name", "text", "curve"),
    [
        ("curve.jsonl", '{"step": 2, "loss": 3}\n{"step": 1, "loss": 4.5}\n', ((1, 4.5), (2, 3))),
        ("metrics.json", '{"val": 1, "curve": [[1, 4], [2, 3], [3, NaN], ["x", 1], [4]]}', ((1, 4), (2, 3))),
        ("curve.json", "[[0, 1], [1, 0.5]]", ((0, 1), (1, 0.5))),
        ("curve.jsonl", "not json\n", ()),
        ("metrics.json", '{"curve": 3}', ()),
        ("metrics.json", "[" * 100_000, ()),
        ("curve.jsonl", '{"step": 1, "loss": 1}\n', ()),
    ],
)
def test_a_curve_is_read_from_what_the_run_left(
    tmp_path: Path, name: str, text: str, curve: tuple[tuple[float, float], ...]
) -> None:
    (tmp_path / name).write_text(text)
    assert tuple(read_curve(tmp_path)) == curve


def test_a_curve_behind_a_link_or_too_large_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 1}\n')
    (tmp_path / "curve.jsonl").symlink_to(tmp_path / "there")
    assert read_curve(tmp_path) == ()
    (tmp_path / "curve.jsonl").unlink()
    (tmp_path / "curve.jsonl").write_text(
        '{"step": 1, "loss": 1}\n{"step": 2, "loss": 1}\n' + " " * 2_000_001
    )
    assert read_curve(tmp_path) == ()


def test_a_curve_stands_over_its_parents_with_a_table() -> None:
    curves = {
        "e000.1": [(x, 3.0 - x / 100) for x in range(100)],
        "e001.1": [(x, 2.9 - x / 100) for x in range(100)],
    }
    page = Page(told(a_campaign(keep(0.03)), curves=curves)).html()
    assert 'class="mine"' in page and 'class="theirs"' in page and "the curve as a table" in page
    assert 'class="curve"' not in Page(told(a_campaign(keep(0.03)))).html()


def test_pictures_as_png_are_an_extra() -> None:
    from lab.report.picture import pictures

    made = pictures(told(a_campaign(keep(0.03), discard(-0.1), crash())))
    if importlib.util.find_spec("matplotlib") is None:
        assert made is None
    else:
        assert made is not None
        assert {name: png[:4] for name, png in made.items()} == {
            "progress.png": b"\x89PNG",
            "card.png": b"\x89PNG",
        }
        assert made["card.png"][16:24] == (1200).to_bytes(4, "big") + (675).to_bytes(4, "big")


# -- diffs and numbers ---------------------------------------------------------------------------------


def test_a_diff_is_cut_and_its_headers_become_one_line() -> None:
    text = (
        "diff --git a/train.py b/train.py\nindex 1..2\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-a\n+b\n"
    )
    assert [(line.kind, line.text) for line in diff_lines(text)] == [
        ("file", "train.py"), ("at", "@@ -1 +1 @@"), ("minus", "-a"), ("plus", "+b"),
    ]  # fmt: skip
    long = diff_lines(text + "+x\n" * 10_000)
    assert len(long) <= 61 and long[-1].kind == "cut"


@pytest.mark.parametrize(
    ("sigma", "values", "decimals"),
    [(0.0004, [0.9979, 0.9697], 4), (0.015, [0.66, 0.19], 3), (None, [0.9979], 4), (0.5, [120.0, 90.0], 1),
     (50.0, [12000.0, 9000.0], 0), (0.0, [0.0], 3), (0.01, [1.0, 1.0001], 5)],
)  # fmt: skip
def test_numbers_have_the_digits_the_noise_allows(
    sigma: float | None, values: list[float], decimals: int
) -> None:
    assert figures(sigma, values).decimals == decimals


def test_numbers_and_times_in_words() -> None:
    assert (span(5), span(65), span(3700), span(90000)) == ("5.0 s", "1 m 05 s", "1 h 01 m", "1 d 1 h")
    assert (percent(0.0282, 0.9979), percent(1, 0), percent(5, 2)) == ("2.8 %", "", "250 %")
    assert (plural(1, "run"), plural(2, "run"), plural(0, "hypothesis")) == (
        "1 run",
        "2 runs",
        "0 hypotheses",
    )
    assert (Figures(3).change(-0.5), Figures(3).change(0.0), Figures(2).change(float("nan"))) == (
        "−0.500",
        "0.000",
        "–",
    )
    assert ticks("say `a<b` and `") == "say `a&lt;b` and `" and ticks("`a<b`!") == "<code>a&lt;b</code>!"


# -- hostile texts -------------------------------------------------------------------------------------


def everywhere(text: str) -> Story:
    """A campaign that says `text` wherever a text can come from outside."""
    words = {"hypothesis": text, "because": text, "expect": text, "reason": text}
    state = a_campaign(
        keep(0.03, **words), discard(0.001, p=0.9, **words), crash(kind="error", line=text, **words)
    )
    return told(
        state,
        lessons=(Note(text, text),),
        notices=(text,),
        next=text,
        ideas=text,
        diffs={"e001": f"+++ b/{text}\n+{text}"},
    )


PLAIN = everywhere("plain words")


@pytest.mark.parametrize(
    "text", [*HOSTILE, "</title></head>", "{{ m.state }}{% raw %}", "\x00\x07\x1b]8;;http://x\x1b\\"]
)
def test_a_hostile_text_stays_text_on_the_page(text: str) -> None:
    page = Page(everywhere(text)).html()
    tags = Tags(page)
    assert tags.dangerous == [] and tags.found.count("script") == 1 and tags.found.count("title") >= 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    assert "owned" not in text or "document.title='owned'" in "".join(tags.text)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60))
def test_no_text_adds_or_takes_an_element(text: str) -> None:
    # A text that is empty once cleaned leaves its line out, and of "x\r" nothing is left either.
    page = Page(everywhere(f"x{text}x")).html()
    found = [tag for tag in Tags(page).found if tag not in ("title", "code", "span")]
    plain = [tag for tag in Tags(Page(PLAIN).html()).found if tag not in ("title", "code", "span")]
    assert found == plain


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_text_in_the_twins(text: str) -> None:
    story = everywhere(text)
    assert "<" not in markdown(story) and json.loads(json.dumps(data(story)))
    assert all(len(line) <= 200 and line.isprintable() for line in wake(story))


def test_nothing_is_loaded_and_no_other_script_may_run() -> None:
    page = Page(PLAIN).html()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert re.search(r"default-src 'none'.*script-src 'sha256-[\w+/=]{44}'", page)
    assert not re.search(r"@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")", page)


def test_secrets_are_hidden() -> None:
    key = "sk-" + "a1" * 20
    assert key not in Page(everywhere(f"key {key}")).html() + markdown(everywhere(f"key {key}"))


# -- size ----------------------------------------------------------------------------------------------


def many(count: int) -> Story:
    """A long campaign with a diff for every experiment."""
    kinds = (keep(0.001), discard(-0.01), discard(-0.02), discard(0.001, p=0.8), crash("oom"))
    tries = [
        {**kinds[n % 5], "hypothesis": f"idea {n} " + "with some words to it " * 3} for n in range(count)
    ]
    diffs = {f"e{n:03d}": "+++ b/train.py\n" + "+line of code\n" * 30 for n in range(count)}
    return told(a_campaign(*tries), diffs=diffs)


def test_the_page_of_500_experiments_is_under_300_kb() -> None:
    page = Page(many(500))
    assert 150_000 < len(page.html().encode()) < 300_000
    assert page.without() > 0 and f"{page.without()} experiments have no details here" in page.html()


@pytest.mark.slow
def test_the_page_of_5000_experiments_is_under_2_mb() -> None:
    assert len(Page(many(5000)).html().encode()) < 2_000_000


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_wake_is_at_most_20_lines(count: int) -> None:
    lines = wake(many(count))
    assert len(lines) <= 20 and lines[0].startswith("val_bpb") and all(len(line) <= 200 for line in lines)


def test_a_long_text_is_cleaned_once_and_cut() -> None:
    assert said("a  b\n c", 40) == "a b c" and said("word " * 5000, 20) == "word word word word…"


# -- in a project --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = a_project(tmp_path_factory.mktemp("begun") / "p")
    project.begin()
    project.edit("LR = 1.00", "LR = 0.50")
    assert project.ok("try", "half the rate", "--expect", "-0.5")["verdict"] == "keep"
    return project


@pytest.fixture
def begun(prepared: Project, tmp_path: Path) -> Project:
    """A campaign with one keep, each test its own copy."""
    shutil.copytree(prepared.root, tmp_path / "p", symlinks=True)
    return Project(tmp_path / "p", prepared.env)


def test_report_writes_the_page_and_its_twins(begun: Project) -> None:
    done = begun.ok("report")
    folder = begun.root / ".autoresearch" / "report"
    assert Path(done["page"]) == folder / "index.html"
    assert {"index.html", "report.md", "report.json", "progress.svg"} <= {
        path.name for path in folder.iterdir()
    }
    page = (folder / "index.html").read_text()
    assert "half the rate" in page and '<span class="plus">+LR = 0.50</span>' in page
    assert "the kept commits change nothing but train.py" in page
    written = json.loads((folder / "report.json").read_text())
    assert written["best"]["experiment"] == "e001" and [r["experiment"] for r in written["runs"]] == [
        "e000",
        "e001",
    ]
    assert begun.git("status", "--porcelain", "--untracked-files=all").split() == [
        "M",
        "train.py",
        "??",
        "autoresearch.yaml",
    ]


def test_what_was_not_written_is_said(begun: Project) -> None:
    done = begun.ok("report")
    written = {Path(path).name for path in done["files"]}
    assert ("card.png" in written) != any("card.png" in what for what in done["not_written"])


def test_wake_says_it_on_a_screen_and_as_data(begun: Project) -> None:
    begun.ok("report")
    lines = begun.run("wake").out.splitlines()
    assert len(lines) <= 20 and lines[0] == begun.ok("wake")["title"]
    assert lines[-1].endswith(".autoresearch/report/index.html")
    assert {"title", "believe", "needs", "next", "gain"} <= set(begun.ok("wake"))


def test_a_report_during_a_run_disturbs_nothing(begun: Project) -> None:
    begun.write("train.py", begun.read("train.py") + "import time\ntime.sleep(0.4)\n")
    begun.run("try", "a slow one", "--wait", "0")
    assert begun.ok("wake")["present"] == "running e002.1"
    assert "running e002.1" in Path(begun.ok("report")["page"]).read_text()
    assert begun.ok("wait")["verdict"] in ("keep", "discard")


def test_finish_leaves_the_page(begun: Project) -> None:
    done = begun.ok("finish")
    assert "finished" in Path(done["page"]).read_text() and Path(done["report"]).exists()
    assert begun.ok("wake")["needs"][-1]["command"] == "git merge autoresearch/t1"


def test_without_the_commits_there_is_a_page_without_diffs(begun: Project) -> None:
    shutil.rmtree(begun.root / ".git" / "objects")
    (begun.root / ".git" / "objects").mkdir()
    done = begun.ok("report")
    assert (
        any("no diffs" in notice for notice in done["notices"])
        and "half the rate" in Path(done["page"]).read_text()
    )


# -- in a browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A real campaign: every experiment a real training, 40 and more of them."""
    folder = tmp_path_factory.mktemp("night") / "p"
    said = list(a_night(folder))
    assert len(said) > 40
    return Project(folder)


@pytest.fixture
def tab(night: Project, tmp_path: Path) -> Browser:
    if not chromium():
        pytest.skip("no Chromium here: apt-get install chromium")
    page = Path(night.ok("report")["page"])
    with browser(tmp_path / "profile") as made:
        made.device(1100, 900)
        made.open(page.as_uri())
        yield made


def focused(tab: Browser, wanted: str) -> None:
    """Press Tab until `wanted` (a JavaScript condition on `it`) has the focus."""
    for _ in range(400):
        tab.key("Tab")
        if tab.run(f"(it => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"the keyboard never reaches: {wanted}")


@pytest.mark.slow
def test_a_browser_opens_it_without_an_error_or_a_request(tab: Browser, night: Project) -> None:
    assert len(night.records()) > 200 and len(MOVES) > 40
    assert tab.troubles() == []
    assert [url for url in tab.requests() if not url.startswith("file:///")] == [] and len(
        tab.requests()
    ) == 1
    assert tab.run("document.title") == night.ok("wake")["title"]
    assert tab.run("document.scrollingElement.scrollWidth <= innerWidth")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "phone", "dark"), [(390, True, False), (360, True, True), (1100, False, True)]
)
def test_no_screen_has_to_be_scrolled_sideways(tab: Browser, width: int, phone: bool, dark: bool) -> None:
    tab.device(width, 800, phone=phone, dark=dark)
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.run("document.scrollingElement.scrollWidth") == width


COLUMN = "[...document.querySelectorAll('#runs tbody tr:not([hidden])')].map(r => r.cells[{}].textContent)"


@pytest.mark.slow
def test_sorting_works_by_keyboard(tab: Browser) -> None:
    focused(tab, "it.closest && it.closest('thead') && it.textContent.startsWith('gain')")
    tab.key("Enter")
    gains = [float(g.replace("−", "-")) for g in tab.run(COLUMN.format(2)) if g]
    assert gains == sorted(gains) and len(gains) > 30
    tab.key("Enter")
    again = [float(g.replace("−", "-")) for g in tab.run(COLUMN.format(2)) if g]
    assert again == sorted(gains, reverse=True)
    assert tab.run("document.querySelector('#runs [aria-sort]').getAttribute('aria-sort')") == "descending"
    assert tab.run("document.activeElement.textContent.startsWith('gain')")


@pytest.mark.slow
def test_filtering_works_by_keyboard(tab: Browser, night: Project) -> None:
    focused(tab, "it.id === 'filter'")
    for letter in "momentum":
        tab.key(letter)
    found = tab.run(COLUMN.format(9))
    assert found and all("momentum" in words.lower() for words in found)
    tab.run("document.getElementById('filter').value = ''")
    focused(tab, "it.dataset && it.dataset.kind === 'c'")
    tab.key(" ")
    crashes = night.ok("wake")["experiments"]["crashed"]
    assert len(tab.run(COLUMN.format(0))) == crashes > 3


@pytest.mark.slow
def test_folds_open_by_keyboard_and_links_open_what_they_point_to(tab: Browser) -> None:
    focused(tab, "it.tagName === 'SUMMARY' && it.parentElement.classList.contains('exp')")
    tab.key("Enter")
    assert tab.run("(it => it.open && it.textContent.includes('+'))(document.activeElement.parentElement)")
    focused(tab, "it.tagName === 'A' && !!it.closest('.failures')")
    tab.key("Enter")
    # The page hears of the new address a moment later.
    opened = "document.getElementById(location.hash.slice(1)).open"
    later = f"new Promise(done => setTimeout(() => done({opened}), 80))"
    assert any(tab.run(later) for _ in range(40))


@pytest.mark.slow
def test_without_scripts_it_is_all_there(tab: Browser, night: Project) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(Path(night.ok("report")["page"]).as_uri())
    proposed = [r for r in night.records() if r["event"] == "proposed"]
    assert len(tab.run(COLUMN.format(0))) == len(proposed) > 40
    assert tab.run("document.querySelector('.tools').hidden") is True


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker."""
    return axe_core(tmp_path_factory.mktemp("axe")) or pytest.skip(f"npm cannot get {AXE}")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1100, 390])
def test_axe_finds_nothing(tab: Browser, axe: str, dark: bool, width: int) -> None:
    tab.device(width, 900, dark=dark, phone=width < 500)
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.run(axe + "; 0")
    found = tab.run(
        "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 200))]))"
    )
    assert found == []
