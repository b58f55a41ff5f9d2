from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lab import doctor
from lab.campaign import Lab
from lab.changes import replay
from lab.errors import LabError
from lab.frozen import freeze, thaw
from lab.model import Record, State
from lab.notify import message, sender
from lab.notify.channels import APPRISE, Channel, channels
from lab.notify.due import Around, Notice, due
from lab.notify.outbox import REPEAT, Letter, letters, problems, waiting
from lab.settings import Settings, load

SETTINGS = Settings(command="python train.py", metric="val_bpb", goal="min", edit=("train.py",))
START = datetime.datetime(2026, 11, 21, 8, 0, tzinfo=datetime.timezone.utc)
SECRET = "canary-4711-secret"


def at(minutes: float) -> str:
    return (START + datetime.timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def begun(minutes: float = 0) -> Record:
    frozen: Record = {"tag": "t1", "branch": "autoresearch/t1", "base": "b", "head": "main", "frozen": {}}
    return {"event": "campaign_started", "at": at(minutes), **frozen}


def a_state(*verdicts: str | Record, more: tuple[Record, ...] = (), every: float = 5.0) -> State:
    """A campaign whose baseline measured 1.0; each verdict comes `every` minutes after the one before."""
    records = [begun()]
    rows: list[str | Record] = [{"verdict": "keep", "metric": 1.0}, *verdicts]
    incumbent = ""
    for number, row in enumerate(rows):
        wish = {"verdict": row} if isinstance(row, str) else dict(row)
        name, metric = f"e{number:03d}", None if wish["verdict"] == "crash" else 1.0 - number / 100
        moment = at((number + 1) * every)
        words = {"hypothesis": wish.pop("hypothesis", f"idea {number}"), "tree": "t", "parent": "p"}
        records.append(
            {"event": "proposed", "at": moment, "experiment": name, "commit": f"c{number}", **words}
        )
        facts = {"metric": metric, "reason": "why", "memory_gb": None, "against": incumbent}
        records.append({"event": "verdict", "at": moment, "experiment": name, **facts, **wish})
        incumbent = name if wish["verdict"] == "keep" else incumbent
    return replay([*records, *more])


def around(minutes: float, **facts: object) -> Around:
    return Around(now=at(minutes), **facts)  # type: ignore[arg-type]


def kinds(found: list[Notice]) -> list[str]:
    return [notice.kind for notice in found]


def tell(state: State, *found: Notice, minutes: float = 0, to: tuple[str, ...] = ("json 1",)) -> None:
    """Take notices into the journal, as the messenger does."""
    for notice in found:
        record = {"event": "notice", "at": at(minutes), "to": list(to), **vars(notice)}
        replay([record], state)


def ask(state: State, minutes: float, settings: Settings = SETTINGS, **facts: object) -> list[Notice]:
    """What is due, and from then on told."""
    found = due(state, settings, around(minutes, **facts))
    tell(state, *found, minutes=minutes)
    return found


# -- what is due --------------------------------------------------------------------------------------------


def test_nothing_is_due_while_all_is_well() -> None:
    assert due(a_state("discard", "discard"), SETTINGS, around(16, disk_free_gb=50.0)) == []
    assert due(State(), SETTINGS, around(0)) == []


def test_the_end_is_told_once_and_nothing_besides() -> None:
    state = a_state("crash", "crash", "crash", more=({"event": "finished", "at": at(30)},))
    assert kinds(ask(state, 31, disk_free_gb=0.1)) == ["finished"]
    assert ask(state, 500) == []


def test_an_end_of_the_day_before_is_no_news() -> None:
    state = a_state(more=({"event": "finished", "at": at(30)},))
    assert due(state, SETTINGS, around(30 + 25 * 60)) == []


def test_three_crashes_in_a_row_are_told_once_however_many_follow() -> None:
    assert due(a_state("crash", "crash"), SETTINGS, around(16)) == []
    state = a_state("discard", "crash", "crash", "crash")
    assert kinds(ask(state, 26)) == ["crashes"]
    longer = a_state("discard", "crash", "crash", "crash", "crash", "crash")
    longer.notices = state.notices
    assert due(longer, SETTINGS, around(36)) == []
    second = a_state("discard", "crash", "crash", "crash", "discard", "crash", "crash", "crash")
    second.notices = state.notices
    assert kinds(due(second, SETTINGS, around(46))) == ["crashes"]


def test_a_campaign_that_stopped_by_itself_needs_a_decision_and_a_users_stop_none() -> None:
    for by, expected in (("host", ["decision"]), ("guard", ["decision"]), ("user", [])):
        stop = {"event": "stopped", "at": at(12), "reason": "three failures", "by": by}
        assert kinds(due(a_state("discard", more=(stop,)), SETTINGS, around(13))) == expected


def test_a_second_stop_is_told_again() -> None:
    stop = {"event": "stopped", "at": at(12), "reason": "full", "by": "host"}
    state = a_state("discard", more=(stop,))
    assert kinds(ask(state, 13)) == ["decision"]
    replay([{"event": "resumed", "at": at(14)}, {**stop, "at": at(15)}], state)
    assert kinds(ask(state, 16)) == ["decision"]


def test_a_baseline_that_crashed_needs_a_decision() -> None:
    state = a_state()
    state.experiments["e000"].verdict, state.incumbent_id = "crash", ""
    assert kinds(due(state, SETTINGS, around(6))) == ["decision"]


def test_a_disk_that_is_low_is_told_once_a_day() -> None:
    state = a_state("discard")
    assert kinds(ask(state, 11, disk_free_gb=1.9)) == ["disk"]
    assert ask(state, 12, disk_free_gb=0.5) == []
    state.active_at = at(24 * 60)
    assert kinds(due(state, SETTINGS, around(24 * 60 + 1, disk_free_gb=0.5))) == ["disk", "digest"]


def test_an_agent_is_silent_after_two_budgets_and_told_once_for_each_silence() -> None:
    state = a_state("discard")  # the last sign at 10 minutes; two budgets are 10 minutes
    assert ask(state, 19) == []
    assert kinds(ask(state, 21)) == ["silent"]
    assert ask(state, 300) == []
    state.active_at = at(310)
    assert kinds(ask(state, 330)) == ["silent"]


def test_what_the_messenger_writes_is_no_sign_of_the_agent() -> None:
    state = a_state("discard")
    tell(state, Notice("k", "digest 1", "text"), minutes=18)
    assert state.active_at == at(10)
    state.notices.clear()
    assert kinds(due(state, SETTINGS, around(21))) == ["silent"]


def test_a_run_at_work_is_no_silence_and_its_end_begins_one() -> None:
    state = a_state("discard")
    assert due(state, SETTINGS, around(60, running=True)) == []
    assert due(state, SETTINGS, around(60, run_ended_at=at(55))) == []
    assert kinds(due(state, SETTINGS, around(66, run_ended_at=at(55)))) == ["silent"]


def test_a_silence_is_measured_across_a_change_of_the_zone() -> None:
    state = a_state("discard")
    state.active_at = "2026-11-21T03:00:00.000+02:00"  # one in the night, UTC
    ended = "2026-11-21T02:30:00.000+01:00"  # half past one, UTC, though its text sorts before
    early, late = "2026-11-21T02:39:00.000+01:00", "2026-11-21T02:41:00.000+01:00"
    assert due(state, SETTINGS, Around(early, run_ended_at=ended)) == []
    assert kinds(due(state, SETTINGS, Around(late, run_ended_at=ended))) == ["silent"]


def test_a_short_budget_leaves_an_agent_ten_minutes_to_think() -> None:
    quick = Settings(command="x", metric="val_bpb", goal="min", edit=("a",), seconds=5)
    state = a_state("discard")
    assert due(state, quick, around(19)) == []
    assert kinds(due(state, quick, around(21))) == ["silent"]


def test_a_best_is_told_when_it_is_clear_of_the_noise() -> None:
    for p, expected in ((0.99, ["best"]), (0.8, []), (None, [])):
        state = a_state({"verdict": "keep", "p": p})
        assert kinds(due(state, SETTINGS, around(11))) == expected


def test_a_best_is_told_at_most_once_an_hour_and_then_the_newest() -> None:
    state = a_state({"verdict": "keep", "p": 0.99})
    assert [n.key for n in ask(state, 11)] == ["best e001"]
    later = a_state(*[{"verdict": "keep", "p": 0.99}] * 3)
    later.notices = state.notices
    assert due(later, SETTINGS, around(25)) == []
    assert [n.key for n in due(later, SETTINGS, around(72, running=True))] == ["best e003"]


def test_a_confirmation_is_told_and_its_experiment_not_again() -> None:
    confirmation = {
        "event": "confirm_started", "at": at(12), "confirmation": "c1", "experiment": "e001", "commit": "c1",
        "base": "e000", "base_commit": "c0", "pairs": 10,
    }  # fmt: skip
    told = {"event": "confirmed", "at": at(14), "confirmation": "c1", "pairs": 10, "cut": "", "result": {}}
    for verdict, expected in (("confirmed", ["best c1.1"]), ("not confirmed", ["best e001"])):
        ended = {**told, "verdict": verdict, "reason": "better by 0.01"}
        state = a_state({"verdict": "keep", "p": 0.99}, more=(confirmation, ended))
        found = ask(state, 15)
        assert [n.key for n in found] == expected
        assert "val_bpb 1.000000 -> 0.990000 (-0.010000)" in found[0].text
        assert ask(state, 80, running=True) == []


def test_a_digest_comes_after_so_many_verdicts_or_hours_and_never_about_nothing() -> None:
    by_count = Settings(
        command="x", metric="m", goal="min", edit=("a",), digest_experiments=3, digest_hours=None
    )
    state = a_state("discard", "discard", "discard")
    assert [n.key for n in ask(state, 21, by_count)] == ["digest 3"]
    assert ask(state, 22, by_count) == []
    more = a_state(*["discard"] * 5)
    more.notices = state.notices
    assert ask(more, 31, by_count) == []
    by_hours = Settings(
        command="x", metric="m", goal="min", edit=("a",), digest_experiments=None, digest_hours=2
    )
    assert [n.key for n in ask(more, 31, by_hours)] == []
    assert [n.key for n in ask(more, 21 + 121, by_hours, running=True)] == ["digest 5"]
    assert ask(more, 21 + 121 + 121, by_hours, running=True) == []


def test_both_limits_of_the_digest_can_be_turned_off() -> None:
    off = Settings(
        command="x", metric="m", goal="min", edit=("a",), digest_experiments=None, digest_hours=None
    )
    assert due(a_state(*["discard"] * 100), off, around(10_000, running=True)) == []


def test_asking_again_after_any_notice_gives_none_of_them_twice() -> None:
    stop = {"event": "stopped", "at": at(40), "reason": "r", "by": "host"}
    state = a_state({"verdict": "keep", "p": 1.0}, "crash", "crash", "crash", more=(stop,))
    settings = Settings(command="x", metric="m", goal="min", edit=("a",), digest_experiments=1)
    first = due(state, settings, around(41, disk_free_gb=1.0))
    assert sorted(kinds(first)) == ["best", "crashes", "decision", "digest", "disk"]
    for number, notice in enumerate(first):
        tell(state, notice, minutes=41)
        left = due(state, settings, around(41, disk_free_gb=1.0))
        assert left == first[number + 1 :]


# -- the text -----------------------------------------------------------------------------------------------


def test_a_new_best_says_experiment_metric_from_to_and_verdict() -> None:
    state = a_state({"verdict": "keep", "p": 0.99, "shrunken": 0.008, "hypothesis": "wider MLP"})
    assert due(state, SETTINGS, around(11))[0].text.splitlines() == [
        "autoresearch t1: a clear new best",
        "Experiment e001: wider MLP",
        "val_bpb 1.000000 -> 0.990000 (-0.010000), keep (clear)",
        "to be believed: better by 0.008",
    ]


def test_the_end_tells_what_came_of_it() -> None:
    state = a_state("keep", "discard", "crash", more=({"event": "finished", "at": at(30)},))
    assert due(state, SETTINGS, around(31))[0].text.splitlines() == [
        "autoresearch t1: finished",
        "1 keep, 1 discard, 1 crash",
        "Experiment e001: idea 1",
        "val_bpb 1.000000 -> 0.990000 (-0.010000), keep",
        "take it over: git merge autoresearch/t1",
    ]


HOSTILE = st.text(max_size=3000) | st.sampled_from(
    ["\x1b[2J\x1b[H gone", f"api_key={SECRET}", "<script>alert(1)</script>", "\u202eevil", "a\r\nb" * 500]
)


@given(words=HOSTILE, reason=HOSTILE)
def test_no_text_is_longer_than_600_characters_or_holds_what_a_terminal_obeys(
    words: str, reason: str
) -> None:
    stop = {"event": "stopped", "at": at(40), "reason": reason, "by": "host"}
    row: Record = {"verdict": "crash", "hypothesis": words, "reason": reason}
    keep: Record = {"verdict": "keep", "p": 1.0, "hypothesis": words, "shrunken": 0.1}
    for state in (
        a_state(row, row, row, more=(stop,)),
        a_state(keep, more=({"event": "finished", "at": at(30)},)),
        a_state(keep, keep),
    ):
        found = due(state, Settings("x", "m", "min", digest_experiments=1), around(41, disk_free_gb=0.1))
        assert found
        for notice in found:
            assert len(notice.text) <= message.LIMIT
            assert notice.text.startswith("autoresearch t1: ")
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", notice.text)
            assert SECRET not in notice.text


# -- where it goes ------------------------------------------------------------------------------------------


def test_an_address_takes_its_secret_from_the_environment(tmp_path: Path) -> None:
    found = channels(("tgram://${TOKEN}/${CHAT}", "${WHOLE}"), {"TOKEN": SECRET, "CHAT": "7", "WHOLE": "ntfy://x"},
                     tmp_path)  # fmt: skip
    assert found == [Channel("tgram 1", f"tgram://{SECRET}/7"), Channel("ntfy 2", "ntfy://x")]
    assert SECRET not in repr(found)


def test_a_variable_that_is_not_set_is_named_and_its_channel_stays(tmp_path: Path) -> None:
    found = channels(("tgram://${TOKEN}/${CHAT}", "${WHOLE}"), {"TOKEN": SECRET}, tmp_path)
    assert found == [
        Channel("tgram 1", problem="CHAT is not set"),
        Channel("channel 2", problem="WHOLE is not set"),
    ]


def test_a_file_of_addresses_is_read_when_only_its_owner_can(tmp_path: Path) -> None:
    path = tmp_path / "addresses"
    path.write_text(f"# mine\n\ntgram://{SECRET}/7\nslack://${{SLACK}}\n")
    path.chmod(0o600)
    found = channels((f"file:{path}",), {"SLACK": "a/b/c"}, tmp_path)
    assert found == [Channel("tgram 1.1", f"tgram://{SECRET}/7"), Channel("slack 1.2", "slack://a/b/c")]
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        (other,) = channels((f"file:{path}",), {}, tmp_path)
        assert other.url == "" and "chmod 600" in other.problem
    (gone,) = channels(("file:~/none/of/it",), {}, tmp_path)
    assert "cannot be read" in gone.problem


CONFIG = "command: python a.py\nmetric: {name: m, goal: min}\nedit: [a.py]\n"


def read(folder: Path, text: str) -> Settings:
    (folder / "autoresearch.yaml").write_text(CONFIG + text)
    return load(folder / "autoresearch.yaml")


def test_the_settings_say_where_messages_go_and_how_often_a_digest_comes(tmp_path: Path) -> None:
    assert read(tmp_path, "notify: []").notify == ()
    assert read(tmp_path, 'notify: "ntfys://${TOPIC}"').notify == ("ntfys://${TOPIC}",)
    full = read(
        tmp_path, "notify: {to: ['file:~/.config/n', '${URL}'], experiments: 9, hours: none}\npush: true"
    )
    assert full.notify == ("file:~/.config/n", "${URL}") and full.secret_names == ("URL",)
    assert (full.digest_experiments, full.digest_hours, full.push) == (9, None, "")
    assert read(tmp_path, "push: false").push is None and read(tmp_path, "push: fork").push == "fork"


@pytest.mark.parametrize(
    "address",
    [
        f"tgram://{SECRET}/7",
        f"mailtos://bob:{SECRET}@example.org",
        f"json://u:{SECRET}@localhost/x",
        f"ntfys://host/topic?token={SECRET}",
        f"slack://{SECRET}/b/c",
        SECRET,
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    for text in (f'notify: ["{address}"]', f'notify: {{to: ["ntfy://x", "{address}"]}}'):
        with pytest.raises(LabError) as error:
            read(tmp_path, text)
        assert SECRET not in error.value.message + error.value.hint
        assert "autoresearch.yaml:4" in error.value.message and error.value.code == 3


@pytest.mark.parametrize("text", ["push: '--mirror'", "push: ../x", "push: 'a b'", "notify: {tp: []}"])
def test_what_is_no_remote_and_no_setting_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabError):
        read(tmp_path, text)


def test_the_reason_of_a_failure_holds_nothing_of_the_address() -> None:
    for log, words in (
        (f"Failed to send to {SECRET}: Unauthorized, error=401.", "the service answered 401"),
        (f"HTTPConnectionPool(host='{SECRET}'): Read timed out.", "no answer"),
        (f"A Connection error occurred sending to {SECRET}", "it cannot be reached"),
        (f"anything with {SECRET}", "the service did not take it"),
    ):
        assert sender._reason(log) == words


# -- what is still to be delivered --------------------------------------------------------------------------


def attempt(state: State, outcome: str, minutes: float, channel: str = "json 1") -> None:
    record = {"event": "notified", "key": "k", "channel": channel, "outcome": outcome, "detail": "no answer"}
    replay([{**record, "at": at(minutes)}], state)


def a_notice(*to: str) -> State:
    state = a_state()
    tell(state, Notice("k", "disk", "text"), to=to)
    return state


def test_a_notice_goes_once_to_each_channel_it_was_meant_for() -> None:
    state = a_notice("json 1", "ntfy 2")
    assert [x.channel for x in letters(state, ["json 1", "ntfy 2", "slack 3"], at(0))] == ["json 1", "ntfy 2"]
    attempt(state, "sent", 0)
    assert letters(state, ["json 1", "ntfy 2"], at(0)) == [Letter("k", "ntfy 2", "text", 1)]
    attempt(state, "sent", 0, "ntfy 2")
    assert not waiting(state, ["json 1", "ntfy 2"], at(500))


def test_a_failed_delivery_is_tried_three_times_in_all_with_pauses() -> None:
    state, names = a_notice("json 1"), ["json 1"]
    attempt(state, "failed", 0)
    assert letters(state, names, at(0.5)) == [] and waiting(state, names, at(0.5))
    assert letters(state, names, at(1)) == [Letter("k", "json 1", "text", 2)]
    attempt(state, "failed", 1)
    assert letters(state, names, at(10)) == []
    assert letters(state, names, at(11)) == [Letter("k", "json 1", "text", 3)]
    attempt(state, "failed", 11)
    assert letters(state, names, at(9999)) == [] and not waiting(state, names, at(9999))
    assert problems(state) == ["messages to json 1 fail (no answer): `notify test` tries it"]


def test_a_delivery_that_nobody_knows_of_is_repeated_and_says_so() -> None:
    state = a_notice("json 1")
    attempt(state, "unknown", 0)
    assert letters(state, ["json 1"], at(0)) == [Letter("k", "json 1", f"{REPEAT}text", 2)]


def test_a_channel_that_was_mended_is_no_problem_any_more() -> None:
    state = a_notice("json 1")
    attempt(state, "failed", 0)
    attempt(state, "sent", 1)
    assert problems(state) == []


def test_the_snapshot_keeps_what_was_told() -> None:
    state = a_notice("json 1")
    attempt(state, "failed", 0)
    again = thaw(freeze(state))
    assert (again.notices, again.active_at) == (state.notices, state.active_at)


def test_the_doctor_names_what_keeps_an_address_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(text: str) -> doctor.Finding:
        read(tmp_path, text)
        return doctor.CHECKS["messages"](Lab(tmp_path))

    monkeypatch.setattr(doctor, "sender_python", lambda: None)
    assert seen("").ok is None
    missing = seen('notify: ["tgram://${TOKEN}/1"]')
    assert missing.ok is False and "TOKEN is not set" in missing.text
    monkeypatch.setenv("TOKEN", SECRET)
    absent = seen('notify: ["tgram://${TOKEN}/1"]')
    assert absent.ok is False and absent.fix.endswith(APPRISE)
    monkeypatch.setattr(doctor, "sender_python", lambda: "python3")
    good = seen('notify: ["tgram://${TOKEN}/1"]')
    assert good.ok and SECRET not in repr(good)


def test_the_version_of_apprise_stands_the_same_in_both_places() -> None:
    assert f'"{APPRISE}"' in (ROOT / "pyproject.toml").read_text()


def test_an_address_never_reaches_the_arguments_of_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from lab.notify import post

    seen: list[object] = []
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def spy(command: list[str], **words: object) -> object:
        seen.append((command, words["env"]))
        started.append(real(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[0]

    monkeypatch.setattr(post, "sender_python", lambda: "python3")
    monkeypatch.setattr(subprocess, "Popen", spy)
    letters_out = post.Post(tmp_path, {"PATH": os.environ["PATH"], "PYTHONPATH": "x"})
    letters_out.send(Letter("k", "json 1", "a\nb", 1), Channel("json 1", f"json://{SECRET}"))
    with started[0] as process:
        assert process.stdout and SECRET in process.stdout.read().decode()
    assert len(seen) == 1 and SECRET not in repr(seen) and "PYTHONPATH" not in repr(seen)
