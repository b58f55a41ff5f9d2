from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.runners.environment import project_environment, resolve_argv


def _venv(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to("/usr/bin/env")
    return folder


def test_the_callers_own_environment_comes_back_where_ours_had_replaced_it(tmp_path: Path) -> None:
    theirs = _venv(tmp_path / "conda")
    caller = {"PATH": "/usr/bin", "VIRTUAL_ENV": str(theirs), "PYTHONPATH": "/lib", "UV_CACHE_DIR": "/cache"}
    ours = {
        "PATH": "/ours/bin:/usr/bin",
        "VIRTUAL_ENV": "/ours",
        "UV": "/uv",
        "UV_RUN_RECURSION_DEPTH": "1",
        "LANG": "C",
    }
    assert project_environment(ours, tmp_path, json.dumps(caller)) == {**caller, "LANG": "C"}


def test_what_the_caller_had_not_set_is_not_set(tmp_path: Path) -> None:
    caller = json.dumps({"PATH": "/usr/bin", "VIRTUAL_ENV": None, "PYTHONHOME": None})
    ours = {"PATH": "/ours/bin", "VIRTUAL_ENV": "/ours", "PYTHONHOME": "/ours"}
    assert project_environment(ours, tmp_path, caller) == {"PATH": "/usr/bin"}


def test_started_through_uv_by_hand_our_environment_is_taken_off_the_path(tmp_path: Path) -> None:
    prefix = "/home/me/.cache/uv/environments-v2/autoresearch-1a2b"
    environ = {
        "PATH": f"{prefix}/bin:/usr/bin",
        "VIRTUAL_ENV": prefix,
        "UV": "/bin/uv",
        "UV_RUN_RECURSION_DEPTH": "1",
        "UV_CACHE_DIR": "/cache",
    }
    assert project_environment(environ, tmp_path, None, prefix) == {
        "PATH": "/usr/bin",
        "UV_CACHE_DIR": "/cache",
    }


def test_without_a_helper_environment_nothing_changes(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin", "UV_CACHE_DIR": "/cache", "HOME": "/home/me", "CLAUDECODE": "1"}
    assert project_environment(environ, tmp_path, None, "/usr") == environ


@pytest.mark.parametrize("caller", ["", "{", "[1]", '{"PATH": 3}'])
def test_a_damaged_note_of_the_caller_does_not_stop_a_run(tmp_path: Path, caller: str) -> None:
    assert project_environment({"PATH": "/usr/bin"}, tmp_path, caller, "/usr") == {"PATH": "/usr/bin"}


def test_the_training_never_sees_our_internals_and_does_see_its_own_settings(tmp_path: Path) -> None:
    ours = dict.fromkeys(
        ["AUTORESEARCH_CALLER", "AUTORESEARCH_BOOTSTRAPPED", "AUTORESEARCH_DIE_AT", "AUTORESEARCH_STEPS"], "x"
    )
    theirs = dict.fromkeys(["AUTORESEARCH_DATA", "AUTORESEARCH_BUDGET", "AUTORESEARCH_PRESET"], "y")
    assert project_environment(ours | theirs, tmp_path, None, "/usr") == theirs


def test_a_git_hooks_repository_is_not_handed_on(tmp_path: Path) -> None:
    environ = {
        "GIT_DIR": "/x/.git",
        "GIT_INDEX_FILE": "/x/.git/index",
        "GIT_WORK_TREE": "/x",
        "GIT_AUTHOR_NAME": "me",
    }
    assert project_environment(environ, tmp_path, None, "/usr") == {"GIT_AUTHOR_NAME": "me"}


@pytest.mark.parametrize("name", [".venv", "venv"])
def test_the_projects_virtual_environment_is_used_when_none_is_active(tmp_path: Path, name: str) -> None:
    folder = _venv(tmp_path / name)
    seen = project_environment({"PATH": "/usr/bin", "PYTHONHOME": "/x"}, tmp_path, None, "/usr")
    assert (seen["VIRTUAL_ENV"], seen["PATH"]) == (str(folder), f"{folder}/bin:/usr/bin")
    assert "PYTHONHOME" not in seen


def test_an_active_virtual_environment_goes_before_the_projects(tmp_path: Path) -> None:
    _venv(tmp_path / ".venv")
    active = {"PATH": "/usr/bin", "VIRTUAL_ENV": str(_venv(tmp_path / "other"))}
    assert project_environment(active, tmp_path, None, "/usr") == active


def test_a_virtual_environment_that_was_deleted_is_not_active(tmp_path: Path) -> None:
    folder = _venv(tmp_path / ".venv")
    stale = {"PATH": "/usr/bin", "VIRTUAL_ENV": "/gone"}
    assert project_environment(stale, tmp_path, None, "/usr")["VIRTUAL_ENV"] == str(folder)


def _programs(folder: Path, *names: str) -> dict[str, str]:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_python_is_python3_where_only_that_exists(tmp_path: Path) -> None:
    env = _programs(tmp_path, "python3")
    assert resolve_argv(["python", "train.py"], env, tmp_path) == ["python3", "train.py"]


def test_python_stays_python_where_it_exists_or_nothing_does(tmp_path: Path) -> None:
    assert resolve_argv(["python", "train.py"], {"PATH": str(tmp_path)}, tmp_path)[0] == "python"
    env = _programs(tmp_path, "python", "python3")
    assert resolve_argv(["python", "train.py"], env, tmp_path)[0] == "python"


def test_a_python_named_by_its_folder_is_the_projects_and_not_the_exports(tmp_path: Path) -> None:
    _venv(tmp_path / ".venv")
    wanted = str(tmp_path / ".venv/bin/python")
    assert resolve_argv([".venv/bin/python", "train.py"], {}, tmp_path) == [wanted, "train.py"]


def test_other_commands_stay_as_they_are(tmp_path: Path) -> None:
    for argv in ([], ["uv", "run", "train.py"], ["./train.sh"], ["venv/bin/python"]):
        assert resolve_argv(argv, {"PATH": ""}, tmp_path) == argv
