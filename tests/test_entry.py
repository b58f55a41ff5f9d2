"""The entry starts on whatever python3 there is, from wherever it is called, and leaves no trace in a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from world import ENTRY, Answer, Project, a_project

VERSION = "autoresearch 0.1.0\n"
SHOWS_ITS_SURROUNDINGS = """import os, sys
print("val_loss:", 1.0)
print("prefix", sys.prefix)
ours = ("UV", "VIRTUAL_ENV", "AUTORESEARCH_", "PYTHONPATH")
print("surroundings", {k: v for k, v in os.environ.items() if k.startswith(ours)})
print("path", os.environ["PATH"])
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for the PATH with git and nothing else of what a developer's machine may have."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("git", "sh", "cat"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without a single package."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a real uv in it."""
    folder = tmp_path_factory.mktemp("uv")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "uv"]
    done = subprocess.run(pip, capture_output=True)
    if done.returncode:
        pytest.skip("uv cannot be installed here")
    return folder / "bin"


def enter(
    python: Path | str, *args: str, entry: Path = ENTRY, cwd: Path | None = None, **env: str | None
) -> Answer:
    """Call the entry file; a variable set to None is taken away."""
    surroundings = {k: v for k, v in {**os.environ, **env}.items() if v is not None}
    done = subprocess.run(
        [str(python), str(entry), *args],
        cwd=cwd,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def environments(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "autoresearch").iterdir())


# -- where it is called from -----------------------------------------------------------------------------


def test_it_starts_where_its_packages_are(tmp_path: Path) -> None:
    answer = enter(sys.executable, "--version", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (answer.code, answer.out, answer.err) == (0, VERSION, "")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("by_link", [True, False])
def test_it_starts_from_a_linked_and_from_a_copied_skill_folder(tmp_path: Path, by_link: bool) -> None:
    skill = tmp_path / "my project" / ".agents" / "skills" / "autoresearch"
    skill.parent.mkdir(parents=True)
    if by_link:
        skill.symlink_to(ENTRY.parents[1])
    else:
        shutil.copytree(ENTRY.parents[1], skill, ignore=shutil.ignore_patterns("__pycache__"))
    assert (
        enter(sys.executable, "--version", entry=skill / "scripts" / ENTRY.name, cwd=tmp_path).out == VERSION
    )
    assert enter(sys.executable, "--version", entry=Path("skills/autoresearch/scripts") / ENTRY.name,
                 cwd=skill.parents[1]).out == VERSION  # fmt: skip


SHADOWS = (
    "click.py", "git.py", "yaml.py", "psutil.py", "bootstrap.py", "autoresearch.py",
    "lab/__init__.py", "lab/errors.py", "scripts/autoresearch.py", "scripts/bootstrap.py",
)  # fmt: skip


@pytest.mark.parametrize("python_path", [None, ".", "project"])
def test_a_projects_own_modules_of_the_same_names_are_not_ours(
    tmp_path: Path, python_path: str | None
) -> None:
    world = a_project(tmp_path / "p", {name: "raise SystemExit('the wrong file')\n" for name in SHADOWS})
    value = str(world.root) if python_path == "project" else python_path
    answer = enter(sys.executable, "--version", cwd=world.root, PYTHONPATH=value)
    assert (answer.code, answer.out) == (0, VERSION), answer.err


@pytest.mark.slow
@pytest.mark.parametrize("python_path", [None, "."])
def test_a_campaign_runs_in_a_project_with_modules_of_the_same_names(
    tmp_path: Path, python_path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: "import sys; sys.exit('the wrong file')\n" for name in SHADOWS}
    train = "import os\nprint('val_loss:', 1.0, flush=True)\nprint('path', os.environ.get('PYTHONPATH'))\n"
    world = a_project(tmp_path / "p", {"train.py": train, **files})
    if python_path:
        monkeypatch.setenv("PYTHONPATH", python_path)
    world.begin(
        "--metric", "val_loss", "--goal", "min", "--edit", "train.py", "--command", "python3 train.py"
    )
    assert f"path {python_path}" in world.read(".autoresearch/runs/e000.1/run.log")
    world.edit("1.0", "0.5")
    assert world.ok("try", "less")["verdict"] == "keep"


# -- without packages --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bare_python_makes_its_environment_once(tmp_path: Path, bare: Path, tools: Path) -> None:
    cache = tmp_path / "cache"
    surroundings = {"XDG_CACHE_HOME": str(cache), "PATH": str(tools)}
    first = enter(bare, "--version", **surroundings)
    assert (first.code, first.out) == (0, VERSION), first.err
    assert "once" in first.err and len(first.err.splitlines()) == 1
    made = environments(cache)
    assert len(made) == 1
    nothing_to_get = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": None}
    again = enter(bare, "--version", **surroundings, **nothing_to_get)
    assert (again.code, again.out, again.err) == (0, VERSION, "")
    assert environments(cache) == made

    # A run sees the project's Python, and nothing of the environment that was made.
    world = a_project(tmp_path / "project", {"train.py": SHOWS_ITS_SURROUNDINGS})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(world.root / ".venv")], check=True)
    world.write(".gitignore", ".venv/\n")
    world.commit("an environment of its own")
    assert run_once(world, bare, surroundings) == run_of(world)
    log = run_of(world)
    assert f"prefix {world.root / '.venv'}\n" in log
    assert str(cache) not in log and "BOOTSTRAPPED" not in log and "CALLER" not in log

    # Its Python was uninstalled: the environment is made again.
    python = cache / "autoresearch" / made[0] / "bin" / "python"
    for link in python.parent.glob("python*"):
        link.unlink()
    mended = enter(bare, "--version", **surroundings)
    assert (mended.code, mended.out) == (0, VERSION), mended.err
    assert environments(cache) == made


def run_once(world: Project, python: Path, surroundings: dict[str, str]) -> str:
    """init and a baseline of one run; return its log."""
    flags = ("--command", "python train.py", "--metric", "val_loss", "--goal", "min", "--edit", "train.py")
    for args in (("init", "--tag", "t1", *flags), ("baseline", "--repeats", "1")):
        answer = enter(python, *args, cwd=world.root, **{**world.env, **surroundings})
        assert answer.code == 0, answer.out + answer.err
    return run_of(world)


def run_of(world: Project) -> str:
    return world.read(".autoresearch/runs/e000.1/run.log")


@pytest.mark.slow
def test_two_first_starts_at_once_do_not_break_each_other(tmp_path: Path, bare: Path, tools: Path) -> None:
    surroundings = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PATH": str(tools)}
    command = [str(bare), str(ENTRY), "--version"]
    starts = [
        subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=300) for process in starts]
    assert [out for out, _ in answers] == [VERSION] * 2, answers
    assert len(environments(tmp_path)) == 1


@pytest.mark.slow
def test_a_uv_that_fails_is_no_obstacle(tmp_path: Path, bare: Path, tools: Path) -> None:
    (tools / "uv").write_text("#!/bin/sh\necho 'error: no route to host' >&2\nexit 2\n")
    (tools / "uv").chmod(0o755)
    answer = enter(bare, "--version", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=str(tools))
    assert (answer.code, answer.out) == (0, VERSION), answer.err
    assert "no route" not in answer.err
    assert [name.startswith("env-") for name in environments(tmp_path / "cache")] == [True]


@pytest.mark.slow
def test_with_uv_it_makes_nothing_itself_and_a_run_sees_no_trace_of_it(
    tmp_path: Path, bare: Path, tools: Path, uv: Path
) -> None:
    path = os.pathsep.join(map(str, (tools, bare.parent, uv)))
    cache = tmp_path / "cache"
    surroundings = {"XDG_CACHE_HOME": str(cache), "UV_CACHE_DIR": str(tmp_path / "uv"), "PATH": path}
    answer = enter(bare, "--version", **surroundings)
    if "making its environment" in answer.err:
        pytest.skip("uv cannot get packages here")
    assert (answer.code, answer.out, answer.err) == (0, VERSION, "")
    assert [name.endswith(".uv") for name in environments(cache)] == [True]
    again = enter(bare, "--json", "status", cwd=tmp_path, **surroundings)
    assert again.code == 4 and again.err == ""

    world = a_project(tmp_path / "project", {"train.py": SHOWS_ITS_SURROUNDINGS})
    log = run_once(world, bare, surroundings)
    assert f"prefix {bare.parents[1]}\n" in log
    assert f"path {path}\n" in log
    # The caller's own setting of uv is the project's; what `uv run` added is not.
    seen = next(line for line in log.splitlines() if line.startswith("surroundings"))
    assert f"'UV_CACHE_DIR': '{tmp_path / 'uv'}'" in seen
    assert "VIRTUAL_ENV" not in seen and seen.count("UV_") == 1 and "'UV'" not in seen
    assert "CALLER" not in seen and "BOOTSTRAPPED" not in seen


@pytest.mark.slow
def test_without_a_network_one_line_names_the_command(tmp_path: Path, bare: Path, tools: Path) -> None:
    answer = enter(
        bare, "status", XDG_CACHE_HOME=str(tmp_path), PATH=str(tools),
        PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS=None,
    )  # fmt: skip
    assert answer.code != 0 and answer.out == ""
    last = answer.err.splitlines()[-1]
    assert last.startswith("autoresearch cannot start (") and "-m pip install click==" in last
    assert "Traceback" not in answer.err and len(answer.err.splitlines()) <= 2
    assert environments(tmp_path) == []


def test_a_cache_folder_that_cannot_be_made_is_said(bare: Path, tools: Path) -> None:
    answer = enter(bare, "status", XDG_CACHE_HOME="/dev/null/cache", PATH=str(tools))
    assert answer.code != 0
    assert (
        "Not a directory" in answer.err and "-m pip install" in answer.err and "Traceback" not in answer.err
    )


# -- an old Python -----------------------------------------------------------------------------------------


def old_python() -> str:
    for name in ("python3.9", "python3.8"):
        found = shutil.which(name)
        command = [found or "false", "-c", "import sys; print(sys.executable)"]
        done = subprocess.run(command, capture_output=True, text=True)  # a shim of pyenv may lead nowhere
        if not done.returncode:
            return done.stdout.strip()
    pytest.skip("no Python 3.8 or 3.9 on the PATH")


def test_an_old_python_hands_over_to_a_newer_one(tmp_path: Path, tools: Path) -> None:
    old = old_python()
    (tools / "python3.14").write_text("#!/bin/sh\necho 'shim: not chosen' >&2\nexit 127\n")
    (tools / "python3.14").chmod(0o755)
    newer = tools / "python3.13"
    newer.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    newer.chmod(0o755)
    answer = enter(old, "--version", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=str(tools))
    assert (answer.code, answer.out) == (0, VERSION), answer.err


def test_an_old_python_alone_says_what_is_needed(tmp_path: Path, tools: Path) -> None:
    answer = enter(old_python(), "--version", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=str(tools))
    assert answer.code != 0 and len(answer.err.splitlines()) == 1
    assert "needs Python 3.10" in answer.err
