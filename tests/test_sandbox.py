from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import a_run, executed, result_of, tree_of
from sandboxes import HARMFUL, HONEST, NOBODY, a_world, answers, supervised, without_sandbox
from world import a_project

from lab.runners.local import Local
from lab.sandbox import another, box, bubblewrap, landlock, seatbelt
from lab.sandbox import policy as policy_module
from lab.sandbox.box import put_up, tried
from lab.sandbox.denied import Denied
from lab.sandbox.policy import Policy, around, caches, from_json, keys, temporary
from lab.sandbox.variables import allowed, named
from lab.settings import SANDBOXES

ROOT = os.geteuid() == 0
BUBBLEWRAP = put_up(Policy(write=(), kind="bubblewrap")).facts["kind"] == "bubblewrap"
needs_bubblewrap = pytest.mark.skipif(not BUBBLEWRAP, reason="bubblewrap is not here, or does not work")
needs_landlock = pytest.mark.skipif(landlock.version() < 6, reason="this kernel has no Landlock 6")
USERS = [None, pytest.param(NOBODY, marks=pytest.mark.skipif(not ROOT, reason="only root becomes another"))]


# -- what is stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [pytest.param("landlock", marks=needs_landlock), pytest.param("bubblewrap", marks=needs_bubblewrap)],
)
@pytest.mark.parametrize("user", USERS, ids=["me", "nobody"])
def test_every_harmful_action_is_stopped_and_every_honest_one_goes_through(
    user: int | None, kind: str
) -> None:
    with a_world(user, kind) as world:
        result = supervised(world, user)
        harmful, honest = answers(world)
        assert len(harmful) == HARMFUL and [name for name, said in harmful.items() if said == "through"] == []
        assert len(honest) == HONEST and [name for name, said in honest.items() if said != "through"] == []
        assert world.victim.poll() is None and not world.received()
        assert (world.run_dir / "kept.txt").read_text() == "x" and result["metric"] == 1.0
        facts = dict(result["sandbox"])  # type: ignore[call-overload]
        facts.pop("abi", None)
        assert facts == {"kind": kind, "signals": "own only", "hidden": 2, "network": "own"}


@pytest.mark.skipif(not ROOT or sys.platform != "linux", reason="only root becomes another user")
def test_another_user_may_do_what_everybody_may_and_no_more() -> None:
    """What it cannot keep from a run, it says: here the scored data, which everybody may read."""
    with a_world(None, "uid") as world:
        result = supervised(world)
        harmful, honest = answers(world)
        assert [name for name, said in harmful.items() if said == "through"] == ["read the scored data"]
        assert [name for name, said in honest.items() if said != "through"] == ["fill a cache"]
        assert world.victim.poll() is None and not world.received()
        assert (world.run_dir / "kept.txt").read_text() == "x" and result["metric"] == 1.0
        facts = dict(result["sandbox"])  # type: ignore[call-overload]
        assert 61184 <= facts.pop("uid") <= 65519
        assert facts == {"kind": "uid", "signals": "own only", "readable": 1, "network": "own"}


def test_without_a_sandbox_the_same_actions_go_through() -> None:
    with a_world() as world:
        without_sandbox(world)
        result = supervised(world)
        harmful, _ = answers(world)
        assert sum(said == "through" for said in harmful.values()) >= HARMFUL - 1  # a file limit it has not
        assert world.victim.wait(10) and world.received()
        assert result["sandbox"] == {"kind": "off"}


@needs_landlock
def test_a_forged_result_is_not_ours(tmp_path: Path) -> None:
    code = "import os; open(os.environ['AUTORESEARCH_RUN_DIR'] + '/run.json', 'w'); print('val_bpb: 1')"
    result = executed(tmp_path, code, sandbox=Policy(write=()).as_json())
    assert result["metric"] == 1.0 and result["run"] == "e001.1"


@needs_landlock
def test_temporary_files_go_with_the_run(tmp_path: Path) -> None:
    code = "import tempfile; print(tempfile.mkdtemp()); print('val_bpb: 1')"
    run_dir = a_run(tmp_path, code, sandbox=Policy(write=()).as_json())
    Local().submit(run_dir, os.environ)
    result_of(run_dir)
    folder = Path((run_dir / "run.log").read_text().splitlines()[0]).parent
    assert folder.name.startswith("autoresearch-") and not folder.exists()


@needs_landlock
def test_compiled_kernels_outlive_the_run_in_a_home_without_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)  # torch sets them in whatever process imports it
    code = (
        "import os\nfor name in ('TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR'):\n"
        "    open(os.environ[name] + '/kernel', 'w')\nprint('val_bpb: 1')"
    )
    environment = dict(os.environ)
    assert executed(tmp_path, code, sandbox=Policy(write=tuple(caches(environment))).as_json())["metric"] == 1
    kept = Path(os.environ["HOME"], ".cache")
    assert (kept / "triton" / "kernel").exists() and (kept / "torchinductor" / "kernel").exists()


def test_the_folder_for_temporary_files_leaves_room_for_a_socket() -> None:
    assert len(str(temporary("e001.1:" + "a" * 16))) < 60


def test_a_run_that_asks_for_a_sandbox_does_not_start_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lab import execution

    monkeypatch.setattr(box, "MEANS", {})
    run_dir = a_run(tmp_path, "open('ran', 'w')", sandbox=Policy(write=(), mode="required").as_json())
    row = execution.perform(run_dir)
    assert row["outcome"] == "infra" and "sandbox: required" in str(row["detail"])
    assert not (tree_of(run_dir) / "ran").exists()


# -- what an honest project meets ------------------------------------------------------------------------


@needs_landlock
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("open(os.path.expanduser('~/model.pt'), 'w')", "model.pt]}` in autoresearch.yaml opens it"),
        ("open(os.path.expanduser('~/.ssh/id')).read()", "the sandbox hides"),
        ("import urllib.request as r; r.urlopen('http://example.org', timeout=9)", "`network: true`"),
        ("os.mkdir(os.path.expanduser('~/data'))", "data]}` in autoresearch.yaml opens it"),
    ],
)
def test_a_crash_by_a_denied_access_names_the_setting(tmp_path: Path, code: str, says: str) -> None:
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("key")
    policy = Policy(write=(), hidden=(str(home / ".ssh"),))
    result = executed(tmp_path, f"import os\n{code}\n", sandbox=policy.as_json())
    assert result["outcome"] == "error" and says in str(result["detail"])
    assert says in str(dict(result["digest"])["text"])  # type: ignore[call-overload]


@needs_landlock
def test_a_campaign_runs_in_the_sandbox_and_says_so(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p")
    world.begin()
    run = world.ok("show", "e000")["runs"][0]
    assert (run["sandbox"], run["level"]) == ("landlock", "L0")
    assert "measured: L0" in world.run("wait", "e000").out


@needs_landlock
def test_what_the_settings_open_is_open(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    text = f"open({str(scratch / 'x')!r}, 'w').write('x')\nopen('.env').close()\nprint('val_loss:', 1.0)\n"
    world = a_project(tmp_path / "p", {"train.py": text, ".gitignore": ".env\n"})
    world.ok("init", "--tag", "t1", "--metric", "val_loss", "--goal", "min")
    settings = world.read("autoresearch.yaml")
    world.write(
        "autoresearch.yaml",
        f"{settings}sandbox: {{write: [{scratch}]}}\nshare: [.env]\n".replace("share: []", ""),
    )
    world.write(".env", "x")
    assert world.ok("baseline", "--repeats", "1")["verdict"] == "crash"  # .env looks like keys
    world.edit(f"[{scratch}]", f"[{scratch}], read: [.env]", "autoresearch.yaml")
    assert world.ok("baseline", "--repeats", "1")["verdict"] == "keep"
    assert (scratch / "x").read_text() == "x"


def test_sandbox_off_is_one_word(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p")
    world.ok("init", "--tag", "t1")
    world.write("autoresearch.yaml", world.read("autoresearch.yaml") + "sandbox: off\n")
    world.ok("baseline", "--repeats", "1")
    assert world.ok("show", "e000")["runs"][0]["sandbox"] == "off"


def test_the_means_are_those_that_the_settings_know() -> None:
    assert tuple(box.MEANS) == SANDBOXES


def test_what_is_not_there_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(bubblewrap, "program", lambda: None)
    monkeypatch.setattr(another, "unfit", lambda policy: "another user cannot reach /somewhere")
    facts = tried(Policy(write=()))
    assert facts["kind"] == "none"
    assert facts["missing"] == {
        "landlock": "this kernel has no Landlock (Linux 5.13)",
        "bubblewrap": "bwrap is not installed",
        "seatbelt": "sandbox-exec is macOS's alone",
        "uid": "another user cannot reach /somewhere",
    }


def test_a_bubblewrap_that_does_not_work_is_not_relied_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that cannot start anything, and one that starts it without any sandbox."""
    broken, hollow = tmp_path / "broken", tmp_path / "hollow"
    broken.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
    hollow.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    for program, why in ((broken, "it did not start: setting up uid map"), (hollow, "a write outside went")):
        program.chmod(0o755)
        monkeypatch.setattr(bubblewrap, "program", lambda found=program: str(found))
        facts = put_up(Policy(write=(), kind="bubblewrap")).facts
        assert facts["kind"] == "none" and why in str(facts["missing"])


def test_a_deeper_rule_of_bubblewrap_comes_later(tmp_path: Path) -> None:
    for name in ("project/.autoresearch/tree", "project/data/sealed"):
        (tmp_path / name).mkdir(parents=True)
    root = str(tmp_path)
    policy = Policy(
        write=(f"{root}/project/.autoresearch/tree", root),
        hidden=(f"{root}/project/data/sealed",),
        locked=(f"{root}/project",),
    )
    said = bubblewrap.words(policy, "bwrap")
    rules = [
        (said[i], said[i + 1]) for i in range(len(said)) if said[i] in ("--bind", "--tmpfs", "--ro-bind")
    ]
    assert rules[1:3] == [("--bind", root), ("--ro-bind", f"{root}/project")]
    tree, sealed = f"{root}/project/.autoresearch/tree", f"{root}/project/data/sealed"
    assert sorted(rules[3:]) == [("--bind", tree), ("--tmpfs", sealed)]
    assert "--unshare-net" in said and said[-1] == "--"


@needs_bubblewrap
def test_bubblewrap_keeps_what_landlock_keeps(tmp_path: Path) -> None:
    """A writable folder in a locked one, a locked file in a writable folder, a hidden folder and file."""
    for name in ("open/locked", "locked/open/x", "hidden/x", "file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    root = str(tmp_path)
    code = f"""
import os
os.chdir({root!r})
def says(action):
    try:
        return action()
    except OSError as error:
        return type(error).__name__
print(says(lambda: open("open/new", "w").close()), says(lambda: open("open/locked", "a")),
      says(lambda: open("locked/new", "w")), says(lambda: open("locked/open/x", "w").close()),
      says(lambda: os.listdir("hidden")), says(lambda: open("hidden/y", "w")),
      says(lambda: open("file").read()),
      says(lambda: os.link("file", "open/link")), says(lambda: os.rename("hidden", "open/h")), sep="; ")
"""
    policy = Policy(
        write=(f"{root}/open", f"{root}/locked/open"),
        hidden=(f"{root}/hidden", f"{root}/file"),
        locked=(f"{root}/locked", f"{root}/open/locked"),
        kind="bubblewrap",
    )
    made = put_up(policy)
    done = subprocess.run(
        made.argv([sys.executable, "-c", code]), preexec_fn=made.enter, capture_output=True, text=True
    )
    assert done.stdout == "None; OSError; OSError; None; []; OSError; PermissionError; OSError; OSError\n", (
        done.stdout + done.stderr
    )


@needs_bubblewrap
def test_a_hidden_folder_that_is_gone_is_explained(tmp_path: Path) -> None:
    home = Path(os.environ["HOME"])
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / "config").write_text("key")
    policy = Policy(write=(), hidden=(str(home / ".aws"),), kind="bubblewrap")
    code = "import os\nopen(os.path.expanduser('~/.aws/config'))\n"
    result = executed(tmp_path, code, sandbox=policy.as_json())
    assert "the sandbox hides" in str(result["detail"]), result


def test_a_profile_for_macos_says_what_the_policy_says(tmp_path: Path) -> None:
    """Its text alone: nobody here has run it."""
    for name in ("project/tree", 'quo"ted\\', "keys"):
        (tmp_path / name).mkdir(parents=True)
    root = os.path.realpath(tmp_path)
    policy = Policy(
        write=(f"{root}/project/tree", f'{root}/quo"ted\\'),
        hidden=(f"{root}/keys",),
        locked=(f"{root}/project",),
    )
    lines = seatbelt.profile(policy).splitlines()
    assert lines[:3] == ["(version 1)", "(allow default)", "(deny file-write*)"]
    locked = lines.index(f'(deny file-write* (subpath "{root}/project"))')
    assert lines.index(f'(allow file-read* file-write* (subpath "{root}/project/tree"))') > locked
    assert f'(deny file-read* file-write* (subpath "{root}/keys"))' in lines
    assert f'(allow file-read* file-write* (subpath "{root}/quo\\"ted\\\\"))' in lines
    assert lines.index("(deny network*)") > lines.index("(allow signal (target same-sandbox))")
    assert "(deny network*)" not in seatbelt.profile(Policy(write=(), network=True))
    for line in lines:
        assert line.count("(") == line.count(")") or '"' in line


def test_the_id_of_another_user_is_free_and_stays_the_same() -> None:
    first = another.pick("/some/run")
    assert first == another.pick("/some/run") and another.FIRST <= first <= another.LAST


@pytest.mark.skipif(not ROOT, reason="only root becomes another user")
def test_another_user_is_not_taken_where_it_cannot_reach_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    (tmp_path / "data").chmod(0o600)
    facts = put_up(Policy(write=(), needs=(str(tmp_path / "data"),), kind="uid")).facts
    assert facts["kind"] == "none" and "cannot reach" in str(facts["missing"])


# -- the parts -------------------------------------------------------------------------------------------


def test_a_hole_is_left_out_and_all_beside_it_is_in(tmp_path: Path) -> None:
    for name in ("a/b/hole", "a/b/other", "a/c", "d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("a")
    root = str(tmp_path)
    found = sorted(path.removeprefix(root) for path in around(root, [f"{root}/a/b/hole", "/elsewhere"]))
    assert found == ["/a/b/other", "/a/c", "/d"]
    assert list(around(root, [])) == [root] and list(around(root, [root])) == []


def test_a_file_among_too_many_is_not_silently_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_module, "ENTRIES", 3)
    for name in "abcd":
        (tmp_path / name).write_text("x")
    with pytest.raises(OSError, match="a folder of its own"):
        list(around(str(tmp_path), [str(tmp_path / "a")]))


def test_a_policy_survives_the_spec() -> None:
    policy = Policy(write=("/a",), hidden=("/b",), network=True, mode="required")
    assert from_json(json.loads(json.dumps(policy.as_json()))) == policy


def test_keys_never_reach_a_training_and_what_the_project_names_does() -> None:
    environment = dict.fromkeys(
        (
            "PATH",
            "CUDA_VISIBLE_DEVICES",
            "HF_HOME",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "DATA_DIR",
            "OTHER",
            "MY_KEY",
        ),
        "1",
    )
    more = named(["os.environ['DATA_DIR']; os.environ['MY_KEY']"], environment)
    assert set(allowed(environment, more)) == {"PATH", "CUDA_VISIBLE_DEVICES", "HF_HOME", "DATA_DIR"}
    assert "HF_TOKEN" in allowed(environment, ["HF_TOKEN"])  # when the settings say so


def test_the_home_folder_itself_is_no_cache(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path),
        "TORCH_HOME": "/",
        "XDG_CACHE_HOME": "relative",
    }
    assert not {str(tmp_path), "/", "relative"} & set(caches(environment))


def test_the_files_of_keys_are_known(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text("x")
    found = keys({"HOME": "/home/me"}, tmp_path)
    assert {"/home/me/.ssh", "/home/me/.netrc", str(tmp_path / ".env.local")} <= set(found)


def test_a_log_without_a_denied_access_blames_no_sandbox() -> None:
    denied = Denied(Policy(write=()), {"kind": "landlock"})
    assert denied.reason(b"ValueError: loss is nan") == ""
    assert (
        Denied(Policy(write=()), {"kind": "none"}).reason(
            b"PermissionError: [Errno 13] Permission denied: '/x'"
        )
        == ""
    )


@needs_landlock
def test_the_model_of_an_evaluation_shares_nothing(tmp_path: Path) -> None:
    """Through confine.py: no file to write, no memory, no socket, and not what is hidden."""
    (tmp_path / "hidden").write_text("x")
    code = (
        "import ctypes, errno, socket, sys\n"
        "for name, action in {'write': lambda: open('/dev/shm/x', 'w'), 'read': lambda: open(sys.argv[1]),\n"
        "    'socket': lambda: socket.socket(socket.AF_INET)}.items():\n"
        "    try:\n"
        "        action(); print(name)\n"
        "    except OSError: pass\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.shmget(0, 10, 0o1600), ctypes.get_errno() == errno.ENOSYS)\n"
    )
    confine = Path(landlock.__file__).parents[1] / "confine.py"
    hidden = str(tmp_path / "hidden")
    command = [sys.executable, "-I", str(confine), "--hide", hidden, "--", sys.executable, "-c", code, hidden]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "-1 True\n"


# -- limits ----------------------------------------------------------------------------------------------


def test_a_run_with_too_many_processes_is_ended(tmp_path: Path) -> None:
    code = "import os, time\nfor _ in range(12):\n    if not os.fork():\n        break\ntime.sleep(60)\n"
    result = executed(tmp_path, code, sandbox=Policy(write=(), processes=5).as_json())
    assert (result["outcome"], result["detail"]) == ("limit", "more than 5 processes at once")


def test_a_run_that_fills_the_disk_is_ended(tmp_path: Path) -> None:
    code = "import time\nopen('big', 'wb').write(b'x' * 3_000_000)\ntime.sleep(60)\n"
    result = executed(tmp_path, code, sandbox=Policy(write=(), disk_bytes=2**20).as_json())
    assert result["outcome"] == "limit" and "disk_gb" in str(result["detail"])
    assert result["metric"] is None


@needs_landlock
def test_a_file_over_the_limit_is_named(tmp_path: Path) -> None:
    code = "import signal\nopen('big', 'wb').write(b'x' * 3_000_000)\n"
    result = executed(tmp_path, code, sandbox=Policy(write=(), file_bytes=2**20).as_json())
    assert result["outcome"] == "error" and "disk_gb" in str(result["detail"])


def test_a_lost_run_leaves_no_temporary_folder(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path, sandbox=Policy(write=()).as_json())
    spec = json.loads((run_dir / "spec.json").read_text())
    folder = temporary(f"{spec['run']}:{spec['nonce']}")
    folder.mkdir()
    (run_dir / "claim").write_text(json.dumps({"pid": 1, "boot_id": "another"}))
    Local().reap(run_dir)
    assert not folder.exists()
