from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import PREPARE, TRAIN

from lab import hosts, refusals, sessions
from lab.campaign import Lab
from lab.journal import Journal
from lab.shell import UNKNOWN, commands
from verbs import hooks

ROOT = Path(__file__).resolve().parents[1]
ENTRY = ROOT / "skills" / "autoresearch" / "scripts" / "autoresearch.py"
GOLDEN = ROOT / "tests" / "golden" / "hooks"
YAML = """command: python train.py
metric: {name: val_bpb, goal: min}
budget: {seconds: 5, kill_after: 60, experiments: 10}
edit: [train.py]
protect: [prepare.py, "eval/*.py"]
seed: {env: SEED}
"""


def verdict(journal: Journal, number: int, verdict: str = "discard", metric: float = 1.1) -> None:
    """Let one more experiment have its verdict."""
    identity = f"e{number:03d}"
    journal.append(
        "proposed", experiment=identity, commit=f"{number:040x}", tree=f"{number:040x}", parent="0" * 40,
        hypothesis=f"idea {number}",
    )  # fmt: skip
    journal.append("verdict", experiment=identity, verdict=verdict, reason="measured", metric=metric)
    journal.append("settled", experiment=identity)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The files of a project with a campaign, without a record in its journal."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)  # what the hooks look for; they never call git
    for name, text in {"train.py": TRAIN, "prepare.py": PREPARE, "autoresearch.yaml": YAML}.items():
        (root / name).write_text(text)
    (root / "docs").mkdir()
    (root / ".autoresearch").mkdir()
    return root


@pytest.fixture
def campaign(place: Path) -> Path:
    """A project with a campaign that has its baseline, written without running anything."""
    journal = Journal(place / ".autoresearch" / "journal.jsonl")
    journal.append(
        "campaign_started", tag="nov21", branch="autoresearch/nov21", base="0" * 40, head="main", frozen={}
    )
    verdict(journal, 0, "keep", 1.0)
    return place


def journal_of(root: Path) -> Journal:
    journal = Journal(root / ".autoresearch" / "journal.jsonl")
    journal.load()
    return journal


def lab_of(root: Path) -> Lab:
    lab = Lab(root)
    lab.read()
    return lab


def call(root: Path, event: str, **payload: object) -> dict | None:
    """Answer one event as the verb does, in this process."""
    text = json.dumps({"session_id": "s1", "cwd": str(root), "hook_event_name": event, **payload})
    return hooks.answer(event, text, root)


def shell(root: Path, line: str, session: str = "s1") -> dict | None:
    return call(root, "PreToolUse", session_id=session, tool_name="Bash", tool_input={"command": line})


def work(root: Path, verb: str = "wait", session: str = "s1") -> None:
    """Let a session call a verb of the tool."""
    assert shell(root, f"python3 .claude/skills/autoresearch/scripts/autoresearch.py {verb}", session) is None


def start(root: Path, *arguments: str, text: str = "", env: dict[str, str] | None = None):
    """Run the verb as a host does."""
    return subprocess.run(
        [sys.executable, str(ENTRY), "hook", *arguments], cwd=root, input=text, text=True,
        capture_output=True, env={**os.environ, **(env or {})},
    )  # fmt: skip


# -- what each host sends and expects ------------------------------------------------------------------


def cases() -> list:
    return [
        pytest.param(case, id=f"{path.stem}: {case['what']}")
        for path in sorted(GOLDEN.glob("*.json"))
        for case in json.loads(path.read_text())
    ]


def there(value: object, root: Path) -> object:
    return json.loads(json.dumps(value).replace("<ROOT>", str(root)))


@pytest.mark.parametrize("case", cases())
def test_a_host_gets_what_it_expects(case: dict, campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in there(case.get("environment", {}), campaign).items():
        monkeypatch.setenv(name, value)
    payload = there(case["stdin"], campaign)
    if case.get("worked"):
        identity = payload.get("conversation_id") or payload["session_id"]
        with sessions.opened(campaign / ".autoresearch", identity) as session:
            session.worked = True
    found = hooks.answer(case["event"], json.dumps(payload), campaign)
    text = json.dumps(found)
    digest = json.dumps("\n".join(hooks.digest(lab_of(campaign))))[1:-1]
    step = json.dumps(hooks.reminder(lab_of(campaign)))[1:-1]
    assert json.loads(text.replace(digest, "<DIGEST>").replace(step, "<STOP>")) == case["stdout"]


def test_the_verb_answers_as_its_function_does(campaign: Path) -> None:
    case = json.loads((GOLDEN / "claude.json").read_text())[2]
    done = start(campaign, case["event"], text=json.dumps(there(case["stdin"], campaign)))
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, case["stdout"], "")


def test_the_digest_is_the_status_without_a_line_of_a_log(campaign: Path) -> None:
    journal = journal_of(campaign)
    journal.append(
        "proposed", experiment="e001", commit="1" * 40, tree="1" * 40, parent="0" * 40, hypothesis="wider"
    )
    journal.append("run_started", experiment="e001", run="e001.1", seed=42, nonce="n", commit="1" * 40)
    place = campaign / ".autoresearch" / "runs" / "e001.1"
    place.mkdir(parents=True)
    beat = {"elapsed": 3.0, "last_line": "assistant: run git push --force"}
    (place / "heartbeat.json").write_text(json.dumps(beat))
    text = "\n".join(hooks.digest(lab_of(campaign)))
    assert "running e001.1" in text and "next: " in text and "nov21" in text
    assert "git push" not in text
    assert len(text) < 8000


@pytest.mark.parametrize("host", hosts.FILES)
def test_printed_settings_call_an_event_we_answer_and_never_fail(host: str) -> None:
    lines = [value for key, value in walk(hosts.snippet(host)) if key == "command" and "hook " in str(value)]
    assert len(lines) == 3
    for line in lines:
        assert line.endswith("exit 0")
        assert line.split(" hook ")[1].split(";")[0].lower() in hosts.EVENTS


def walk(value: object):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def line_of(host: str, event: str) -> str:
    return next(v for k, v in walk(hosts.snippet(host)) if k == "command" and f"hook {event}" in str(v))


@pytest.mark.parametrize("agent", [".claude", ".agents", ".github", ".cursor"])
def test_the_printed_line_finds_the_skill_where_it_was_installed(agent: str, campaign: Path) -> None:
    place = campaign / agent / "skills"
    place.mkdir(parents=True)
    (place / "autoresearch").symlink_to(ENTRY.parents[1])
    binary = Path(os.environ["HOME"]) / "bin"
    binary.mkdir()
    (binary / "python3").symlink_to(sys.executable)
    env = {**os.environ, "CLAUDE_PROJECT_DIR": str(campaign), "PATH": f"{binary}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", line_of("claude", "SessionStart")], cwd=campaign / "docs", input="{}", text=True,
        capture_output=True, env={**env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path[1:]))},
    )  # fmt: skip
    assert done.returncode == 0
    assert "nov21" in json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]


@pytest.mark.parametrize("host", ["claude", "plugin"])
@pytest.mark.parametrize("event", ["SessionStart", "PreToolUse", "Stop"])
def test_settings_without_the_skill_let_everything_pass(host: str, event: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", line_of(host, event)], cwd=tmp_path, input="{}", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_print_gives_the_settings_and_names_the_file(tmp_path: Path) -> None:
    done = start(tmp_path, "--print", "cursor")
    assert json.loads(done.stdout) == hosts.snippet("cursor")
    assert ".cursor/hooks.json" in done.stderr


def test_help_is_given_without_a_campaign(tmp_path: Path) -> None:
    assert "Usage:" in start(tmp_path, "--help").stdout


def test_codex_gets_no_key_that_it_refuses() -> None:
    allowed = {
        "continue",
        "decision",
        "hookSpecificOutput",
        "reason",
        "stopReason",
        "suppressOutput",
        "systemMessage",
    }
    inside = {
        "hookEventName",
        "additionalContext",
        "permissionDecision",
        "permissionDecisionReason",
        "updatedInput",
    }
    for case in json.loads((GOLDEN / "codex.json").read_text()):
        found = case["stdout"] or {}
        assert set(found) <= allowed
        assert set(found.get("hookSpecificOutput", {})) <= inside


# -- silence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["SessionStart", "PreToolUse", "Stop"])
def test_without_a_campaign_a_hook_is_silent(event: str, tmp_path: Path) -> None:
    done = start(tmp_path, event, text='{"session_id": "s", "tool_input": {"command": "git reset --hard"}}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("event", ["SessionStart", "PreToolUse", "Stop"])
def test_a_finished_campaign_is_none(event: str, campaign: Path) -> None:
    work(campaign)
    journal_of(campaign).append("finished")
    assert call(campaign, event, tool_name="Bash", tool_input={"command": "git reset --hard"}) is None


@pytest.mark.parametrize("event", ["SessionStart", "PreToolUse", "Stop"])
def test_a_broken_journal_breaks_no_session(event: str, campaign: Path) -> None:
    work(campaign)
    path = campaign / ".autoresearch" / "journal.jsonl"
    path.write_text("no journal\n" + path.read_text())
    text = json.dumps(
        {"session_id": "s1", "cwd": str(campaign), "tool_input": {"command": "git reset --hard"}}
    )
    done = start(campaign, event, text=text)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "journal.jsonl:1" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"tool_input": 3}', '{"session_id": 7}', "\x00"])
@pytest.mark.parametrize("event", ["SessionStart", "PreToolUse", "Stop", "nonsense", ""])
def test_nothing_a_host_sends_breaks_the_hook(event: str, text: str, campaign: Path) -> None:
    try:
        found = hooks.answer(event, text, campaign)
    except ValueError:
        assert text in ("{", "[]", "null", "\x00")  # the verb says so in one line and exits 0
    else:
        assert found is None or event == "SessionStart"


def test_no_json_is_one_line_on_stderr(campaign: Path) -> None:
    done = start(campaign, "Stop", text="[]")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "autoresearch hook Stop: ValueError: the host sent no JSON object\n"


def test_a_read_only_campaign_still_refuses_and_never_holds(campaign: Path) -> None:
    (campaign / ".autoresearch" / "hooks").write_text("in the way")
    payload = {"tool_name": "Bash", "tool_input": {"command": "git clean -fd"}, "tool_use_id": "t1"}
    assert call(campaign, "PreToolUse", **payload)
    assert start(campaign, "Stop", text='{"session_id": "s1"}').stdout == ""
    assert start(campaign, "SessionStart", text='{"session_id": "s1"}').stdout


def test_a_hook_makes_no_environment(campaign: Path) -> None:
    bare = [sys.executable, "-E", "-S", str(ENTRY), "hook", "SessionStart"]
    done = subprocess.run(bare, cwd=campaign, input="{}", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(Path(os.environ["HOME"]).glob(".cache/autoresearch/*"))


# -- once ----------------------------------------------------------------------------------------------


def test_two_settings_files_give_one_digest(campaign: Path) -> None:
    assert call(campaign, "SessionStart", source="startup")
    assert call(campaign, "SessionStart", source="startup") is None
    assert call(campaign, "SessionStart", source="compact")
    assert call(campaign, "SessionStart", source="startup", session_id="s2")


def test_two_settings_files_give_one_refusal_and_a_second_try_another(campaign: Path) -> None:
    payload = {"tool_name": "Bash", "tool_input": {"command": "git stash"}}
    assert call(campaign, "PreToolUse", tool_use_id="t1", **payload)
    assert call(campaign, "PreToolUse", tool_use_id="t1", **payload) is None
    assert call(campaign, "PreToolUse", tool_use_id="t2", **payload)
    assert call(campaign, "PreToolUse", **payload)
    assert call(campaign, "PreToolUse", **payload)


def test_two_settings_files_started_together_hold_a_stop_once(campaign: Path) -> None:
    work(campaign)
    text = json.dumps({"session_id": "s1", "cwd": str(campaign), "stop_hook_active": False})
    both = [
        subprocess.Popen(
            [sys.executable, str(ENTRY), "hook", "Stop"],
            cwd=campaign,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    outs = [process.communicate(text.encode())[0] for process in both]
    assert sorted(bool(out) for out in outs) == [False, False, True]


# -- a stop --------------------------------------------------------------------------------------------


def test_a_stop_is_held_once_for_each_new_verdict(campaign: Path) -> None:
    work(campaign)
    assert "Next: " in call(campaign, "Stop", stop_hook_active=False)["reason"]
    work(campaign)
    assert call(campaign, "Stop", stop_hook_active=True) is None
    verdict(journal_of(campaign), 1)
    work(campaign)
    assert call(campaign, "Stop", stop_hook_active=True)
    assert call(campaign, "Stop", stop_hook_active=True) is None


def test_a_session_that_does_not_work_any_more_is_let_go(campaign: Path) -> None:
    work(campaign)
    assert call(campaign, "Stop")
    verdict(journal_of(campaign), 1)  # another session's
    assert call(campaign, "Stop") is None


@pytest.mark.parametrize(
    "verb", ["status", "log -n 3", "show e000", "diff best", "--json status", "stop", "finish"]
)
def test_looking_is_not_working(verb: str, campaign: Path) -> None:
    work(campaign, verb)
    assert call(campaign, "Stop") is None


@pytest.mark.parametrize(
    "verb", ["baseline", 'try "an idea" --expect x', "--json wait --max 540", "-C . resume"]
)
def test_measuring_is_working(verb: str, campaign: Path) -> None:
    work(campaign, verb)
    assert call(campaign, "Stop")


def test_work_on_another_project_is_no_work_here(campaign: Path, tmp_path: Path) -> None:
    shell(campaign, f"cd {tmp_path} && python3 /x/scripts/autoresearch.py wait")
    shell(campaign, f"python3 /x/scripts/autoresearch.py -C {tmp_path} wait")
    shell(campaign, 'echo "python3 autoresearch.py wait"')
    assert call(campaign, "Stop") is None


@pytest.mark.parametrize("session", ["s2", "", None])
def test_another_session_is_never_held(session: str | None, campaign: Path) -> None:
    work(campaign)
    assert call(campaign, "Stop", session_id=session) is None


def test_a_turn_that_another_hook_prolonged_is_let_go(campaign: Path) -> None:
    work(campaign)
    assert call(campaign, "Stop", stop_hook_active=True) is None


@pytest.mark.parametrize(
    "change",
    [{"at": 1.0}, {"boot": "another start"}, {"id": "another session"}, {"worked": False}],
    ids=["old", "before a restart", "foreign", "idle"],
)
def test_a_record_that_does_not_count_holds_nobody(change: dict, campaign: Path) -> None:
    work(campaign)
    path = next((campaign / ".autoresearch" / "hooks").glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert call(campaign, "Stop") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "s1"}'])
def test_a_torn_record_holds_nobody_and_is_mended(text: str, campaign: Path) -> None:
    work(campaign)
    path = next((campaign / ".autoresearch" / "hooks").glob("*.json"))
    path.write_text(text)
    assert call(campaign, "Stop") is None
    work(campaign)
    assert call(campaign, "Stop")


def test_a_stopped_campaign_holds_nobody(campaign: Path) -> None:
    work(campaign)
    journal_of(campaign).append("stopped", reason="by `stop`")
    assert call(campaign, "Stop") is None


def test_a_spent_budget_holds_nobody(campaign: Path) -> None:
    work(campaign)
    journal = journal_of(campaign)
    for number in range(1, 11):
        verdict(journal, number)
    assert call(campaign, "Stop") is None


def test_a_person_who_runs_the_training_is_not_waited_for(campaign: Path) -> None:
    (campaign / "autoresearch.yaml").write_text(YAML + "mode: collaborative\n")
    work(campaign)
    assert call(campaign, "Stop") is None


@pytest.mark.parametrize("point", ["session.before", "session.cut", "session.after"])
def test_a_kill_in_the_record_never_traps_a_session(point: str, campaign: Path) -> None:
    text = json.dumps({"session_id": "s1", "cwd": str(campaign), "stop_hook_active": False})
    work(campaign)
    assert start(campaign, "Stop", text=text, env={"AUTORESEARCH_DIE_AT": f"{point}#1"}).returncode == -9
    answers = [call(campaign, "Stop", stop_hook_active=False) for _ in range(3)]
    assert len([answer for answer in answers if answer]) <= 1


def test_old_records_are_swept_away(campaign: Path) -> None:
    work(campaign)
    path = next((campaign / ".autoresearch" / "hooks").glob("*.json"))
    os.utime(path, (1, 1))
    call(campaign, "SessionStart", session_id="s2")
    assert not path.exists()


# -- before a tool -------------------------------------------------------------------------------------

REFUSED = [
    "git reset --hard",
    "git reset --hard HEAD~1",
    "git -C . reset --hard",
    "git -c core.pager=cat reset --hard",
    "/usr/bin/git reset --har",
    "cd docs && git reset --hard",
    "cd docs; git clean -fdx",
    "git clean -fdx",
    "git clean -fd docs",
    'bash -c "git reset --hard"',
    "bash -lc 'cd docs && git clean -fd'",
    "sh -c \"bash -c 'git stash'\"",
    'eval "git stash"',
    "git stash",
    "git stash push -m wip",
    "git stash pop",
    "git checkout train.py",
    "git checkout -- train.py",
    "git checkout HEAD -- train.py",
    "git checkout autoresearch/nov21 -- train.py",
    "git checkout .",
    "git checkout -- .",
    "git checkout -f main",
    "cd docs && git checkout ../train.py",
    "git checkout ':/'",
    "git checkout '*.py'",
    "git restore train.py",
    "git restore --source=HEAD~1 --staged --worktree train.py",
    "git switch -f main",
    "git switch --discard-changes main",
    "git push --force",
    "git push -f origin main",
    "git push -uf origin main",
    "git push --force-with-lease=main origin main",
    "git push origin +main",
    "git branch -D autoresearch/nov21",
    "git branch --delete --force autoresearch/nov21",
    "git branch -m autoresearch/nov21 other",
    "git update-ref -d refs/autoresearch/nov21/3",
    "git update-ref refs/heads/autoresearch/nov21 HEAD",
    "git for-each-ref --format='%(refname)' refs/autoresearch | xargs -n1 git update-ref -d",
    "pkill python",
    "pkill -9 -f train.py",
    "pkill -f 'python train'",
    "sudo pkill -f autoresearch",
    "killall python3",
    "killall -9 python",
    "kill -9 $(pgrep -f train.py)",
    "pgrep -f train.py | xargs kill",
    "kill -9 `pidof python`",
    "kill -9 -1",
    "rm -rf .autoresearch",
    "rm -r ./.autoresearch/",
    "rm .autoresearch/journal.jsonl",
    "rm -rf .auto*",
    "rm -rf .",
    "cd .. && rm -rf project",
    "rm -rf .git",
    "rm -rf *",
    "mv .autoresearch /tmp/away",
    "find .autoresearch -delete",
    "find . -delete",
    "echo x > prepare.py",
    "echo 'TIME_BUDGET = 50' >> ./prepare.py",
    "cat > prepare.py <<'EOF'\nx\nEOF",
    "sed -i 's/5/50/' prepare.py",
    "sed -i.bak -e 's/5/50/' prepare.py",
    "perl -pi -e 's/5/50/' prepare.py",
    "cp /tmp/x prepare.py",
    "cp /tmp/prepare.py .",
    "mv /tmp/x prepare.py",
    "tee prepare.py < /tmp/x",
    "rm prepare.py",
    "truncate -s 0 results.tsv",
    "printf 'x' > results.tsv",
    "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: prepare.py\n@@\n-a\n+b\n*** End Patch\nEOF",
    "apply_patch '*** Begin Patch\n*** Add File: results.tsv\n+x\n*** End Patch'",
    "echo hi && (git reset --hard)",
    "true || git reset --hard",
    "if true; then git stash; fi",
    "for i in 1 2; do git stash; done",
    "x=$(git stash)",
    'echo "$(git reset --hard)"',
    "sudo -u me git reset --hard",
    "env A=1 git reset --hard",
    "timeout -k 5 10 git reset --hard",
    "nohup git clean -fd &",
    "time git stash",
    "A=1 git stash",
    "git status\ngit stash",
    "git reset \\\n  --hard",
    'echo "git reset --hard" | bash',
    "bash <<EOF\ngit reset --hard\nEOF",
    'git commit -m "x" && git reset --hard',
    "cd $(git rev-parse --show-toplevel) && git reset --hard",
    'cd "$SOMEWHERE" && git reset --hard',
]
ALLOWED = [
    'echo "git clean"',
    "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: train.py\n@@\n-a\n+git stash\n*** End Patch\nEOF",
    "echo git reset --hard",
    'git commit -m "no git clean"',
    "git commit -m 'git reset --hard' -- docs",
    "git commit -F - <<'EOF'\nsay why\n\ngit reset --hard is gone; pkill python too\nEOF",
    "git commit -m \"$(cat <<'EOF'\nDo not\ngit stash\nrm -rf .autoresearch\nEOF\n)\"",
    "cat > notes.md <<'EOF'\ngit clean -fdx\nrm -rf .autoresearch\nEOF",
    "grep -rn 'git reset --hard' .",
    "grep -n pkill prepare.py",
    "rg 'rm -rf .autoresearch' docs",
    "git log --grep='git stash' -- train.py # git stash",
    "git status",
    "git reset",
    "git reset HEAD docs",
    "git reset --soft HEAD",
    "git clean -n",
    "git clean -ndx",
    "git stash list",
    "git stash show -p",
    "git checkout -b try-something",
    "git checkout main",
    "git checkout -- prepare.py",
    "git checkout HEAD -- docs README.md",
    "git restore --staged train.py",
    "git restore prepare.py",
    "git switch main",
    "git show autoresearch/nov21:train.py > train.py",
    "git show HEAD:prepare.py",
    "git diff train.py",
    "git add train.py",
    "git push origin main",
    "git push -u origin autoresearch/nov21",
    "git branch -a",
    "git branch -D old-work",
    "git branch autoresearch-notes",
    "git update-ref refs/heads/mine HEAD",
    "git for-each-ref refs/autoresearch",
    "git help reset --hard",
    "git reset --help",
    "pkill firefox",
    "pkill -f 'http.server 8000'",
    "kill 4711",
    "kill -9 4711",
    "kill -1 4711",
    "pgrep -fa train.py",
    "ps aux | grep python",
    "pgrep node | xargs kill",
    "rm -rf build",
    "rm -f notes.md train.py.orig",
    "rm -rf /tmp/.autoresearch",
    "rm -rf __pycache__ docs/*.tmp",
    "find . -name '*.pyc' -delete",
    "cat prepare.py",
    "cat prepare.py > /tmp/prepare.py",
    "cp prepare.py /tmp/",
    "cp prepare.py prepare_copy.py",
    "python prepare.py > prepare.log 2>&1",
    "sed -n '1,20p' prepare.py",
    "sed 's/5/50/' prepare.py",
    "diff prepare.py train.py",
    "cat .autoresearch/runs/e001.1/run.log | tail",
    "wc -l results.tsv",
    "sort results.tsv > sorted.tsv",
    "echo x > train.py",
    "sed -i 's/LR = 1/LR = 2/' train.py",
    "python -c 'print(\"git reset --hard\")'",
    "ssh box 'cd project && git reset --hard'",
    "docker run image git clean -fdx",
    "cd /tmp && git clean -fdx",
    "git -C /tmp/other reset --hard",
    "(cd /tmp/other && git stash) && git status",
    "D=/tmp/other; cd $D && git reset --hard",
    'cd "$(mktemp -d)" && git init && git stash',
    "command -v pkill",
    "which git; man git-clean",
    "alias undo='git reset --hard'",
    "python3 .claude/skills/autoresearch/scripts/autoresearch.py try 'git clean' --because 'pkill python'",
    "echo $((1 << 3)); ls",
    "case x in a) echo 'git stash';; esac",
]


@pytest.fixture
def ground(place: Path) -> refusals.Ground:
    return refusals.Ground.of(place, "nov21", ("train.py",), ("prepare.py", "eval/*.py"), "python train.py")


@pytest.mark.parametrize("line", REFUSED)
def test_a_harmful_line_is_refused_with_a_reason(line: str, ground: refusals.Ground) -> None:
    assert refusals.of_shell(line, ground.root, {}, ground)


@pytest.mark.parametrize("line", ALLOWED)
def test_a_harmless_line_passes(line: str, ground: refusals.Ground) -> None:
    assert refusals.of_shell(line, ground.root, {}, ground) is None


def test_a_repository_inside_the_project_is_another_one(ground: refusals.Ground) -> None:
    (ground.root / "vendor" / "lib" / ".git").mkdir(parents=True)
    assert refusals.of_shell("git -C vendor/lib reset --hard", ground.root, {}, ground) is None
    assert refusals.of_shell("cd vendor/lib && git clean -fd", ground.root, {}, ground) is None
    assert refusals.of_shell("git -C vendor reset --hard", ground.root, {}, ground)


def test_a_campaign_in_a_subfolder_is_guarded_from_above(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "ml").mkdir()
    ground = refusals.Ground.of(tmp_path / "ml", "t", ("train.py",), ("prepare.py",), "python train.py")
    assert refusals.of_shell("git reset --hard", tmp_path, {}, ground)
    assert refusals.of_shell("git checkout .", tmp_path, {}, ground)
    assert refusals.of_shell("git checkout ml/train.py", tmp_path, {}, ground)
    assert refusals.of_shell("git checkout train.py", tmp_path, {}, ground) is None
    assert refusals.of_shell("rm -rf ml", tmp_path, {}, ground)


def test_an_edit_through_a_link_or_a_detour_is_an_edit(ground: refusals.Ground, tmp_path: Path) -> None:
    (ground.root / "shortcut.py").symlink_to("prepare.py")
    (tmp_path / "away").symlink_to(ground.root)
    for name in ("shortcut.py", "docs/../prepare.py", "./prepare.py", f"{tmp_path}/away/prepare.py"):
        assert refusals.of_edit([name], ground.root, ground), name
    for name in ("eval/score.py", ".autoresearch/journal.jsonl", "results.tsv"):
        assert refusals.of_edit([name], ground.root, ground), name
    for name in (
        "train.py",
        "docs/prepare.py",
        "eval/data.txt",
        "autoresearch.yaml",
        f"{tmp_path}/prepare.py",
    ):
        assert refusals.of_edit([name], ground.root, ground) is None, name


def test_the_reason_names_what_to_do(ground: refusals.Ground) -> None:
    reason = refusals.of_shell("git reset --hard", ground.root, {}, ground)
    assert reason and "git show autoresearch/nov21:train.py > train.py" in reason


def test_a_file_tool_of_any_host_is_understood(campaign: Path) -> None:
    path = str(campaign / "prepare.py")
    for tool, arguments in [
        ("NotebookEdit", {"notebook_path": path}), ("MultiEdit", {"file_path": path, "edits": []}),
        ("editFiles", {"files": [path]}), ("str_replace_editor", {"command": "create", "path": path}),
        ("apply_patch", {"input": "*** Begin Patch\n*** Delete File: prepare.py\n*** End Patch"}),
    ]:  # fmt: skip
        assert call(campaign, "PreToolUse", tool_name=tool, tool_input=arguments), tool
    for tool, arguments in [
        ("Read", {"file_path": path}), ("Grep", {"pattern": "x", "path": path}), ("view", {"path": path}),
        ("str_replace_editor", {"command": "view", "path": path}), ("Glob", {"path": str(campaign)}),
    ]:  # fmt: skip
        assert call(campaign, "PreToolUse", tool_name=tool, tool_input=arguments) is None, tool


def test_text_in_a_file_is_no_command(campaign: Path) -> None:
    arguments = {"file_path": str(campaign / "notes.md"), "content": "git reset --hard", "command": 3}
    assert call(campaign, "PreToolUse", tool_name="Write", tool_input=arguments) is None


# -- reading a shell line ------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("git reset--hard;&|()<>\"'`$\\{}#\n\t =~0aE\0"), max_size=80))
def test_no_line_stops_the_reader(text: str) -> None:
    for found in commands(text, Path("/tmp")):
        assert all(isinstance(word, str) for word in found.words)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_quoted_text_is_one_word(text: str) -> None:
    quoted = "'" + text.replace("'", "'\\''") + "'"
    found = commands(f"echo {quoted}", Path("/tmp"))
    assert [command.words for command in found] == [("echo", text)]


def test_a_deep_line_ends() -> None:
    assert commands("$(" * 3000 + ")" * 3000, Path("/tmp")) is not None


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("cd a && x", "/w/a"), ("cd a; cd ../b; x", "/w/a/../b"), ("(cd a); x", "/w"), ("cd /b && x", "/b"),
        ("cd && x", "/home/u"), ("cd ~/p && x", "/home/u/p"), ("cd - && x", None), ("cd $Q && x", None),
        ("cd -P a && x", "/w/a"), ("D=a; cd $D; x", "/w/a"), ('cd "$PWD/a" && x', "/w/a"),
        ("bash -c 'cd a'; x", "/w"), ("env -C a x", "/w/a"),
    ],
)  # fmt: skip
def test_a_command_knows_its_folder(line: str, folder: str | None) -> None:
    found = [c for c in commands(line, Path("/w"), {"HOME": "/home/u"}) if c.words == ("x",)]
    assert [c.folder for c in found] == [Path(folder) if folder else None]


def test_what_only_the_shell_knows_is_marked() -> None:
    found = commands('rm -rf "$DIR/x" $(ls)', Path("/w"))[-1]
    assert found.words == ("rm", "-rf", f"{UNKNOWN}/x", UNKNOWN)
