"""The pure parts of `drive`: what is next, silence, limits, spending, commands, permissions."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.driving import planning
from lab.driving.agents import (
    PROGRAMS,
    Place,
    allowances,
    program_of,
    refuse_attended,
    unguarded,
    with_message,
)
from lab.driving.driver import GAP_SECONDS, TROUBLE_ALLOWED_SECONDS, Awake, Patience
from lab.driving.planning import Plan, Present, Rules, plan
from lab.driving.prompts import Task, cron_line, message
from lab.driving.quota import LONGEST, SIGNS, limit_in
from lab.driving.seat import Ending
from lab.driving.silence import LEAST_SECONDS, silent_after, silent_seconds
from lab.driving.spending import READERS, Spending, account_of, calls_refused, read_spending
from lab.driving.turns import ended, last_words
from lab.errors import LabError
from lab.model import Confirmation, Experiment, Record, State
from lab.notify.due import Around, due
from lab.report.material import Beside, Material
from lab.report.story import Story
from lab.report.words import wake
from lab.settings import Settings

NOON = "2026-11-21T12:00:00+00:00"
RULES = Rules(silent_after=600.0)


def at(seconds: float) -> str:
    """A time so many seconds after noon."""
    return (datetime.datetime.fromisoformat(NOON) + datetime.timedelta(seconds=seconds)).isoformat()


def a_session(number: int = 1, *, steps: int = 0, outcome: str = "exited", **more: object) -> Record:
    """One that has ended at noon."""
    return {
        "session": f"s{number}", "started": at(-60), "closing": "", "ended": NOON, "outcome": outcome,
        "steps": steps, "detail": "bye", "until": "", **more,
    }  # fmt: skip


def a_present(agents: list[Record], **more: object) -> Present:
    return replace(Present(now=at(1), agents=agents, seat="", moved=at(-60)), **more)  # type: ignore[arg-type]


OPEN: Record = {"session": "s1", "started": at(-60), "closing": ""}


@pytest.mark.parametrize(
    ("agents", "more", "wanted"),
    [
        ([], {}, "start"),
        ([OPEN], {"seat": "running"}, "work"),
        ([OPEN], {"seat": "done"}, "collect"),
        ([OPEN], {"seat": "lost"}, "collect"),
        ([OPEN], {"seat": "absent"}, "seat"),
        ([OPEN], {"seat": "absent", "over": "finished"}, "collect"),
        ([OPEN], {"seat": "running", "now": at(700)}, "silent"),
        ([OPEN], {"seat": "running", "now": at(700), "busy": True}, "work"),
        ([OPEN], {"seat": "running", "now": at(700), "moved": at(200)}, "work"),
        ([OPEN], {"seat": "running", "now": at(9999), "awake": at(9900)}, "work"),
        ([a_session(busy=True)], {"busy": True, "now": at(9999)}, "idle"),
        ([a_session(steps=1)], {"busy": True}, "start"),
        ([a_session(steps=1, closing="spent")], {"busy": True, "spent": "spent"}, "idle"),
        ([a_session(n, busy=True) for n in range(9)], {"now": at(9999)}, "start"),
        ([{**OPEN, "silent": 700.0}], {"seat": "running", "now": at(710)}, "end"),
        ([OPEN], {"seat": "running", "over": "stopped", "moved": at(-1)}, "work"),
        ([OPEN], {"seat": "running", "over": "stopped", "moved": at(-121)}, "end"),
        ([OPEN], {"seat": "running", "enough": "target reached"}, "end"),
        ([OPEN], {"seat": "running", "enough": "target reached", "busy": True}, "work"),
        ([{**OPEN, "closing": "target reached"}], {"seat": "running", "enough": "target reached"}, "work"),
        ([OPEN], {"seat": "running", "spent": "budget spent"}, "work"),
        ([a_session(steps=3)], {}, "start"),
        ([a_session(steps=3, outcome="crashed")], {}, "start"),
        ([a_session()], {}, "rest"),
        ([a_session()], {"now": at(31)}, "start"),
        ([a_session(), a_session(2)], {"now": at(31)}, "rest"),
        ([a_session(), a_session(2)], {"now": at(61)}, "start"),
        ([a_session(steps=1)], {"over": "finished"}, "leave"),
        ([a_session(steps=1)], {"spent": "budget spent"}, "start"),
        ([a_session(n, closing="spent") for n in (1, 2)], {"spent": "budget spent"}, "leave"),
        ([a_session(n, closing="spent", outcome="limited") for n in (1, 2)],
         {"spent": "budget spent", "now": at(3600)}, "start"),
        ([a_session(n) for n in range(1, 6)], {"now": at(9999)}, "leave"),
        ([a_session(n, last=n == 5) for n in range(1, 6)], {}, "start"),
        ([a_session(n, last=n == 5) for n in range(1, 6)], {"gave_up": "it brings nothing"}, "leave"),
        ([a_session(outcome="limited", until=at(3600))], {"now": at(3599)}, "rest"),
        ([a_session(outcome="limited", until=at(3600))], {"now": at(3601)}, "start"),
        ([a_session(outcome="limited", until=at(3600), steps=9)], {"now": at(3599)}, "rest"),
        ([a_session(outcome="limited")], {"now": at(299)}, "rest"),
        ([a_session(outcome="limited")], {"now": at(301)}, "start"),
        # A program that names a moment and is at its limit again then: not in a circle.
        ([a_session(n, outcome="limited", until=at(1)) for n in (1, 2)], {"now": at(599)}, "rest"),
        ([a_session(n, outcome="limited", until=at(1)) for n in range(48)], {"now": at(9999)}, "leave"),
        ([a_session(n, outcome="limited") for n in range(9)], {"now": at(3601)}, "start"),
    ],
)  # fmt: skip
def test_what_is_next_follows_from_the_journal_and_the_clock(
    agents: list[Record], more: dict[str, object], wanted: str
) -> None:
    assert plan(a_present(agents, **more), RULES).do == wanted


def test_a_person_is_needed_when_a_drive_leaves_an_unfinished_campaign() -> None:
    assert plan(a_present([a_session(n) for n in range(5)]), RULES).failed
    assert plan(a_present([a_session(closing="x"), a_session(2, closing="x")], spent="spent"), RULES).failed
    assert not plan(a_present([a_session()], over="the campaign is finished"), RULES).failed


sessions = st.builds(
    a_session,
    st.integers(1, 9),
    steps=st.integers(0, 2),
    outcome=st.sampled_from(("exited", "crashed", "silent", "limited", "lost", "ended")),
    until=st.sampled_from(("", at(-5), at(5), at(99_999))),
    closing=st.sampled_from(("", "spent")),
)


@given(
    st.lists(sessions, max_size=60),
    st.sampled_from(("absent", "running", "done", "lost")),
    st.booleans(),
    st.booleans(),
    st.sampled_from(("", "spent")),
    st.sampled_from(("", "stopped")),
    st.floats(0, 1e6),
)
def test_there_is_always_something_next_and_no_session_beside_another(
    agents: list[Record], seat: str, is_open: bool, busy: bool, spent: str, over: str, later: float
) -> None:
    rows = [*agents, OPEN] if is_open else agents
    facts = a_present(rows, seat=seat if is_open else "", busy=busy, spent=spent, over=over, now=at(later))
    found = plan(facts, RULES)
    assert isinstance(found, Plan)
    assert not (found.do == "start" and (is_open or over))
    assert (found.do == "rest") == bool(found.until)
    if found.do == "rest":  # a wait has an end, and it lies ahead
        assert datetime.datetime.fromisoformat(found.until) > datetime.datetime.fromisoformat(facts.now)
        assert plan(replace(facts, now=found.until), RULES).do != "rest"


def test_pauses_double_and_are_bounded() -> None:
    pauses = []
    for count in range(1, 30):
        found = plan(a_present([a_session(n) for n in range(count)]), Rules(600.0, fruitless=99))
        pauses.append(
            (datetime.datetime.fromisoformat(found.until) - datetime.datetime.fromisoformat(NOON)).seconds
        )
    assert pauses[:4] == [30, 60, 120, 240]
    assert max(pauses) == planning.LONGEST_PAUSE


# -- silence -------------------------------------------------------------------------------------------


def test_an_agent_is_silent_after_two_budgets_but_not_within_ten_minutes() -> None:
    assert silent_after(300) == LEAST_SECONDS == 600
    assert silent_after(1800) == 3600
    assert silent_seconds(NOON, at(600), 600, busy=False) == 0
    assert silent_seconds(NOON, at(601), 600, busy=False) == 601
    assert silent_seconds(NOON, at(9999), 600, busy=True) == 0
    assert silent_seconds(NOON, at(9999), 600, busy=False, began=at(9500)) == 0
    assert silent_seconds("2026-11-21T14:00:00+02:00", at(601), 600, busy=False) == 601


# -- limits --------------------------------------------------------------------------------------------

PRESENT = datetime.datetime.fromisoformat("2026-11-21T12:00:00+01:00")


@pytest.mark.parametrize(
    ("output", "until"),
    [
        ("You've hit your limit · resets 1pm (Europe/Lisbon)", "2026-11-21T13:00:00+00:00"),
        ("You've hit your limit \\u00b7 resets 3:30am (Asia/Calcutta)", "2026-11-22T03:30:00+05:30"),
        ("You've hit your session limit · resets 1:10am (Europe/Moscow)", "2026-11-22T01:10:00+03:00"),
        ("You've hit your limit · resets Nov 23 at 4pm (America/Recife)", "2026-11-23T16:00:00-03:00"),
        ("You've hit your weekly limit · resets 11am", "2026-11-22T11:00:00+01:00"),
        ("Claude AI usage limit reached|1795266000", "2026-11-21T14:00:00+01:00"),
        ("5-hour limit reached ∙ resets 3pm", "2026-11-21T15:00:00+01:00"),
        ("You've hit your usage limit. Upgrade to Pro or try again in 2 days 17 hours 14 minutes.",
         "2026-11-24T05:14:00+01:00"),
        ("You've hit your usage limit. To get more access now, ask your admin or try again at 12:16 PM.",
         "2026-11-21T12:16:00+01:00"),
        ('{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached",'
         '"resets_at":1795266000,"resets_in_seconds":7200}}', "2026-11-21T14:00:00+01:00"),
        ("Error: Rate limit reached for gpt in organization. Please try again in 1.5s.",
         "2026-11-21T12:00:01.500000+01:00"),
        ("429 Too Many Requests\nretry-after: 90", "2026-11-21T12:01:30+01:00"),
        ("API Error: 529 overloaded_error", None),
        ("You have exceeded your premium request allowance.", None),
        ("ERROR: Quota exceeded. Check your plan and billing details.", None),
        ("You've hit your usage limit. Try again at Feb 31, 4 PM", None),
        ("usage limit reached, resets 3pm (Mars/Olympus)", "2026-11-21T15:00:00+01:00"),
        ("rate limit exceeded, try again in 400 days", None),
    ],
)  # fmt: skip
def test_a_usage_limit_is_found_with_the_time_it_names(output: str, until: str | None) -> None:
    found = limit_in(f"some work\nmore work\n{output}\n", PRESENT)
    assert found
    assert found.words
    assert found.until == (datetime.datetime.fromisoformat(until) if until else None)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "all done",
        "Context limit reached · /compact",
        "the learning rate limits the loss",
        "a limit of 60 s",
    ],
)
def test_other_words_are_no_limit(output: str) -> None:
    assert limit_in(output, PRESENT) is None


def test_a_limit_far_above_the_end_is_history() -> None:
    assert limit_in("rate limit reached, try again in 9 s\n" + "working\n" * 2000, PRESENT) is None


@given(st.text(max_size=200), st.sampled_from(("hit your limit", "rate_limit_error", "usage limit reached")))
def test_whatever_is_printed_a_limit_is_in_reach_or_unknown(text: str, sign: str) -> None:
    for output in (
        f"{text}{sign} resets {text}",
        f"{sign} try again in {text}",
        f"{sign} try again at {text} pm",
    ):
        found = limit_in(output, PRESENT)
        if SIGNS.search(output[-6000:]):
            assert found and (found.until is None or PRESENT < found.until <= PRESENT + LONGEST)


# -- spending ------------------------------------------------------------------------------------------

CLAUDE = json.dumps({
    "type": "result", "subtype": "success", "is_error": False, "num_turns": 3, "total_cost_usd": 0.125,
    "usage": {"input_tokens": 10, "cache_creation_input_tokens": 90, "cache_read_input_tokens": 500,
              "output_tokens": 20},
})  # fmt: skip
CLAUDE_CUT = "\n".join(
    json.dumps(
        {"type": "assistant", "message": {"id": name, "usage": {"input_tokens": 5, "output_tokens": n}}}
    )
    for name, n in (("m1", 1), ("m1", 7), ("m2", 3))
)
CODEX = "\n".join([
    json.dumps({"type": "thread.started", "thread_id": "x"}),
    json.dumps({"type": "turn.completed",
                "usage": {"input_tokens": 1000, "cached_input_tokens": 800, "output_tokens": 50}}),
])  # fmt: skip
CODEX_TEXT = "codex\nI am done.\ntokens used\n12,345\n"
COPILOT = "Done.\n\nTotal usage est: 3 Premium requests\n  some-model   245.2k in, 1.3k out, 200k cached\n"
COPILOT_JSON = json.dumps({"type": "result", "usage": {"premiumRequests": 2}})
CURSOR = json.dumps({"type": "result", "subtype": "success", "result": "bye",
                     "usage": {"inputTokens": 7, "outputTokens": 3, "cacheReadTokens": 90}})  # fmt: skip


@pytest.mark.parametrize("host", [*READERS, "", "another"])
@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (f"noise\n{CLAUDE}\n", Spending(0.125, 120, 500, None)),
        (f"[{CLAUDE}]", Spending(0.125, 120, 500, None)),
        (CLAUDE_CUT, Spending(None, 20, None, None)),
        (CODEX, Spending(None, 250, 800, None)),
        (CODEX_TEXT, Spending(None, 12345, None, None)),
        (COPILOT, Spending(None, 246500, 200000, 3.0)),
        (COPILOT_JSON, Spending(None, None, None, 2.0)),
        (CURSOR, Spending(None, 10, 90, None)),
        ("I spent 5 dollars", Spending()),
        ('{"type": "result", "total_cost_usd": -1}', Spending()),
        ('{"type": "result", "total_cost_usd": NaN}', Spending()),
        ('{"type": "result", "total_cost_usd": "9"}', Spending()),
        ("{" * 5000, Spending()),
        ("[" * 100_000, Spending()),
    ],
)
def test_what_a_program_reports_is_read_whichever_it_is(host: str, output: str, wanted: Spending) -> None:
    assert read_spending(host, output) == wanted


def test_calls_that_were_not_permitted_are_counted_where_the_program_says_so() -> None:
    denied = json.dumps(
        {"type": "result", "permission_denials": [{"tool_name": "Bash"}, {"tool_name": "Edit"}]}
    )
    assert calls_refused(f"x\n{denied}\n") == 2
    assert calls_refused(CLAUDE) == calls_refused("permission_denials: 3") == 0
    said = ended({"session": "s1"}, Ending(0, 1.0, False, "", denied), 0, NOON)
    assert "2 tool calls were not permitted: `doctor --permissions`" in str(said["detail"])


@pytest.mark.parametrize(
    ("ending", "record", "steps", "outcome"),
    [
        (Ending(0, 1.0, False, "", "bye"), {}, 3, "exited"),
        (Ending(1, 1.0, False, "", "bye"), {}, 3, "crashed"),
        (Ending(127, 0.0, False, "x: No such file", ""), {}, 0, "crashed"),
        (Ending(-9, 1.0, True, "", "bye"), {}, 0, "ended"),
        (Ending(-9, 1.0, True, "", "bye"), {"silent": 600.0}, 0, "silent"),
        (Ending(None, None, False, "", ""), {}, 2, "lost"),
        (Ending(1, 1.0, False, "", "usage limit reached"), {}, 3, "limited"),
        (Ending(0, 1.0, False, "", "usage limit reached"), {}, 0, "limited"),
        (Ending(0, 1.0, False, "", "I lowered what was said of a usage limit reached"), {}, 3, "exited"),
    ],
)
def test_an_end_is_named_by_what_is_known_of_it(
    ending: Ending, record: Record, steps: int, outcome: str
) -> None:
    assert ended({"session": "s1", **record}, ending, steps, NOON)["outcome"] == outcome


def test_the_last_words_are_a_line_or_the_text_of_a_json_object_without_secrets() -> None:
    assert last_words("one\n\n  two \n\n") == "  two "
    assert last_words('x\n{"type": "result", "result": "Not logged in"}\n') == "Not logged in"
    assert (
        last_words('{"type": "result"}') == "" and last_words("") == "" and last_words("{broken") == "{broken"
    )
    secret = ended({"session": "s1"}, Ending(1, 1.0, False, "", "key sk-ant-" + "a1B2" * 12), 0, NOON)
    assert "a1B2" not in str(secret["detail"])


def test_sessions_add_up_and_what_was_not_said_stays_unknown() -> None:
    rows = [
        {**a_session(1), "cost_usd": 0.5, "tokens": 100, "seconds": 10.0},
        {**a_session(2), "cost_usd": None, "tokens": None, "seconds": 5.0},
        {**a_session(3), "cost_usd": 0.25, "tokens": 50, "seconds": None},
        OPEN,
    ]
    total = account_of(rows)
    assert (total.sessions, total.said, total.seconds) == (3, 2, 15.0)
    assert total.spent == Spending(0.75, 150, None, None)


# -- commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "argv", "stdin"),
    [
        ("claude -p --allowedTools Read", "claude -p --allowedTools Read", "hello"),
        ("npx -y claude -p", "npx -y claude -p", "hello"),
        ("codex exec --json", "codex exec --json", "hello"),
        ("copilot --trust-folder", "copilot --trust-folder --prompt hello", ""),
        ("copilot --trust-folder -p", "copilot --trust-folder -p hello", ""),
        ("/opt/bin/cursor-agent -p", "/opt/bin/cursor-agent -p hello", ""),
        ("my-agent --task {prompt} --fast", "my-agent --task hello --fast", ""),
        ("my-agent", "my-agent hello", ""),
    ],
)
def test_each_program_gets_its_message_the_way_it_wants_it(command: str, argv: str, stdin: str) -> None:
    assert with_message(command.split(), "hello") == (argv.split(), stdin)


def test_a_way_that_the_user_names_comes_first() -> None:
    assert with_message(["my-agent"], "hello", "stdin") == (["my-agent"], "hello")
    assert with_message(["claude", "-p"], "hello", "argument") == (["claude", "-p", "hello"], "")


@pytest.mark.parametrize("command", ["claude", "codex", "cursor-agent --model x", "nice claude --verbose"])
def test_a_program_that_would_wait_for_a_person_is_refused(command: str) -> None:
    with pytest.raises(LabError) as caught:
        refuse_attended(command.split())
    assert caught.value.code == 2
    assert caught.value.hint.startswith("drive -- ")


@pytest.mark.parametrize("program", PROGRAMS.values())
def test_what_is_recommended_is_not_refused_and_skips_no_question(program: object) -> None:
    typed = program.typed.split()  # type: ignore[attr-defined]
    refuse_attended(typed)
    assert program_of(typed) is program
    assert unguarded(typed) == []


def test_words_that_switch_every_question_off_are_the_users_and_are_named() -> None:
    assert unguarded(["claude", "-p", "--permission-mode", "bypassPermissions"]) == ["bypassPermissions"]
    assert unguarded(["codex", "exec", "--sandbox=danger-full-access"]) == ["--sandbox=danger-full-access"]
    assert unguarded(["copilot", "--allow-all-tools"]) == ["--allow-all-tools"]
    assert unguarded(["cursor-agent", "-p", "--force"]) == ["--force"]
    assert unguarded(["my-agent", "--force"]) == []


def test_every_known_program_has_an_allowance_that_names_the_tool_and_the_edited_files() -> None:
    found = allowances(Place("/skill/autoresearch.py", ("train.py", "src/*.py"), "/project", "/project/.git"))
    assert {row.host for row in found} == {program.host for program in PROGRAMS.values()}
    text = {row.host: row.text for row in found}
    claude = json.loads(text["claude"])["permissions"]["allow"]
    assert "Bash(python3 /skill/autoresearch.py *)" in claude
    assert {"Edit(train.py)", "Edit(src/*.py)"} <= set(claude)
    assert "/project/.git" in text["codex"]
    assert not any(unguarded(row.text.split()) for row in found)


A_TASK = Task("nov21", "/s/SKILL.md", "/s/scripts/autoresearch.py", "/p", "train.py", first=True)


def test_the_message_begins_with_status_and_says_what_is_left() -> None:
    first, later = message(A_TASK), message(replace(A_TASK, first=False))
    assert "python3 /s/scripts/autoresearch.py status" in first
    assert "never tried" in later and "never tried" not in first
    closing = message(replace(A_TASK, closing="budget spent: 30 of 30 experiments"))
    assert "30 of 30" in closing and "`finish`" in closing
    assert "val_bpb at most 0.97" in message(replace(A_TASK, target="val_bpb at most 0.97"))


def test_a_cron_line_survives_percent_signs_and_spaces() -> None:
    line = cron_line(["python3", "a b.py", "--x", "50%"], "/tmp/log", "/usr/bin:/bin")
    assert line.startswith("*/10 * * * * PATH=/usr/bin:/bin python3 'a b.py' --x ")
    assert "50\\%" in line and "\n" not in line


# -- what people see -------------------------------------------------------------------------------------


def a_story(*agents: Record, keeps: int = 2, confirmed: bool = False, gave_up: str = "") -> Story:
    """A campaign whose keeps were made by these sessions."""
    state = State(tag="t1", started=at(-3600), base="0" * 40, agents=list(agents), gave_up=gave_up)
    for number in range(keeps + 1):
        state.experiments[f"e{number:03d}"] = Experiment(
            id=f"e{number:03d}", commit=f"{number:040d}", tree="t", parent="0" * 40, hypothesis="h",
            at=at(-60), verdict="keep", verdict_at=at(-30), metric=1.0 - number / 100, gain=0.01,
            shrunken=0.01, p=0.99,
        )  # fmt: skip
    state.incumbent_id = f"e{keeps:03d}"
    if confirmed:
        result = {"n": 5, "gain": 0.02, "interval": [0.01, 0.03], "p_t": 0.001, "p_wilcoxon": 0.03}
        state.confirmations["c1"] = Confirmation(
            id="c1", experiment=state.incumbent_id, commit="1" * 40, base="e000", base_commit="0" * 40,
            pairs=5, at=NOON, verdict="confirmed", result=dict(result), ended=NOON,
        )  # fmt: skip
    settings = Settings(command="python train.py", metric="val_bpb", goal="min", seed_env="SEED")
    return Story(Material(state, settings, Beside(now=at(60))))


def agent_card(story: Story) -> str:
    return next((f"{card.value} | {card.note}" for card in story.cards if card.label == "agent"), "")


PAID: Record = a_session(1, steps=2, cost_usd=3.0, tokens=2_000_000, seconds=60.0)


@pytest.mark.parametrize(
    ("story", "wanted"),
    [
        (a_story(), ""),
        (a_story(OPEN), ""),
        (a_story(a_session()), "1 session | its program does not say what they cost"),
        (a_story(PAID), "$3.00 | 1 session · no confirmed gain yet · $1.50 a keep"),
        (a_story(PAID, a_session(2)), "$3.00 | 1 of 2 sessions · no confirmed gain yet · $1.50 a keep"),
        (a_story(PAID, confirmed=True), "$3.00 | 1 session · for a confirmed +0.020 · $1.50 a keep"),
        (a_story(PAID, keeps=0), "$3.00 | 1 session · no confirmed gain yet"),
        (a_story(a_session(tokens=4000), keeps=0), "4 k tokens | 1 session · no confirmed gain yet"),
        (a_story(a_session(tokens=3_000_000), keeps=0), "3.0 M tokens | 1 session · no confirmed gain yet"),
        (a_story(a_session(requests=3.0), keeps=0), "3 requests | 1 session · no confirmed gain yet"),
    ],
)  # fmt: skip
def test_the_page_shows_what_the_sessions_cost_for_what_they_brought(story: Story, wanted: str) -> None:
    assert agent_card(story) == wanted
    lines = [line for line in wake(story) if line.startswith("agent:")]
    assert lines == ([f"agent: {wanted.replace(' | ', ', ')}"] if wanted else [])


def test_a_drive_that_gave_up_is_the_first_thing_that_needs_a_person() -> None:
    story = a_story(PAID, gave_up="5 sessions in a row brought no experiment")
    assert story.needs[0].reason.startswith("drive gave up: 5 sessions")


def test_people_are_told_once_that_a_drive_gave_up_and_again_after_the_next() -> None:
    story = a_story(PAID, gave_up="5 sessions in a row brought no experiment")
    state, settings = story.m.state, story.m.settings
    told = [notice for notice in due(state, settings, Around(now=at(60))) if notice.kind == "decision"]
    assert len(told) == 1 and "5 sessions in a row" in told[0].text
    state.notices[told[0].key] = {"kind": "decision", "at": NOON}
    assert not [notice for notice in due(state, settings, Around(now=at(60))) if notice.kind == "decision"]
    state.agents.append(a_session(2))
    assert [notice for notice in due(state, settings, Around(now=at(60))) if notice.kind == "decision"]


# -- the driver's own patience ---------------------------------------------------------------------------


def test_trouble_that_passes_ends_no_night_and_trouble_that_stays_does() -> None:
    said: list[str] = []
    patience = Patience(said.append)
    patience.pause = 0.01
    for _ in range(2):
        with patience:
            raise LabError("cannot write the journal: no space left", "free some disk space")
    assert ["0.01 s" in said[0], "0.02 s" in said[1]] == [True, True]
    with patience:
        pass
    assert patience.since == 0.0
    with patience:
        patience.pause = 0.01
        raise LabError("again", "the same")
    patience.since -= TROUBLE_ALLOWED_SECONDS
    with pytest.raises(LabError), patience:
        raise LabError("again", "the same")
    with pytest.raises(ZeroDivisionError), Patience(said.append):  # a bug is no trouble
        raise ZeroDivisionError


def test_a_machine_that_slept_makes_no_agent_silent() -> None:
    awake = Awake()
    awake.began = NOON
    assert awake.since() == NOON
    awake.wall -= GAP_SECONDS + 1
    later = awake.since()
    assert later != NOON and awake.since() == later
