"""The real installer of skills against this checkout; needs npx and a registry (or npm's cache of it)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, git
from world import PREPARE, TRAIN

pytestmark = pytest.mark.slow

INSTALLER = "skills@1.5.18"  # the last that runs on Node 18 and 20; newer ones install the same files
AGENTS = ("claude-code", "cursor", "github-copilot", "codex")
SKILLS = ("autoresearch", "collaborative-and-templates", "diagnostic-investigation")
HOME = Path.home()  # the caller's, whose npm cache and settings are used; tests have a home of their own
SCOPES, MODES = {"project": (), "global": ("-g",)}, {"link": (), "copy": ("--copy",)}


def npx(folder: Path, *arguments: str) -> str:
    """Run the installer in `folder`, as a user with an empty home."""
    settings = {"NPM_CONFIG_CACHE": str(HOME / ".npm"), "NPM_CONFIG_PREFER_OFFLINE": "true"}
    if (HOME / ".npmrc").exists():
        settings["NPM_CONFIG_USERCONFIG"] = str(HOME / ".npmrc")
    done = subprocess.run(
        ["npx", "-y", INSTALLER, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        stdin=subprocess.DEVNULL, env={**os.environ, **settings, "DISABLE_TELEMETRY": "1", "CI": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def installer() -> None:
    """Leave the file out, with the reason, where the installer cannot run."""
    if not shutil.which("npx"):
        pytest.skip("npx is not installed")
    try:
        npx(ROOT, "--version")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{INSTALLER} does not start: {str(error).strip()[-200:]}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with this checkout's files as they are now."""
    root = tmp_path / "srv" / "OWNER" / "REPO"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-coz", "--exclude-standard"], check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        source = ROOT / name
        if name and (source.is_symlink() or source.is_file()):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / name, follow_symlinks=False)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "release")
    return root


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """An otherwise empty repository with a training script."""
    root = tmp_path / "training"
    root.mkdir()
    git(root, "init", "-q")
    (root / "train.py").write_text(TRAIN)
    (root / "prepare.py").write_text(PREPARE)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return root


def chosen(agents: tuple[str, ...]) -> list[str]:
    return [word for agent in agents for word in ("-a", agent)]


def place_of(agent: str, scope: str, project: Path) -> Path:
    """Where the installer puts skills for this agent."""
    base = project if scope == "project" else Path(os.environ["HOME"])
    return base / (".claude" if agent == "claude-code" else ".agents") / "skills"


def helper(entry: Path, folder: Path, *arguments: str) -> str:
    """Call the installed helper as SKILL.md says, and leave nothing beside it."""
    done = subprocess.run(
        [sys.executable, str(entry), *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def ask_for_help(place: Path, project: Path) -> None:
    """Every verb says how it is used."""
    entry = place / "autoresearch" / "scripts" / "autoresearch.py"
    listed = helper(entry, project, "--help").split("Commands:")[1].splitlines()
    verbs = [line.split()[0] for line in listed if line.startswith("  ") and line[2:3].strip()]
    assert {"init", "baseline", "try", "wait", "status", "hook"} <= set(verbs)
    for verb in verbs:
        assert "Usage:" in helper(entry, project, verb, "--help")


def use(place: Path, project: Path) -> None:
    """A campaign from its beginning to a verdict, called from where the skill is."""
    entry = place / "autoresearch" / "scripts" / "autoresearch.py"
    helper(entry, project, "init", "--tag", "t1", "--command", f"{sys.executable} train.py")
    helper(entry, project, "baseline", "--repeats", "1")
    text = (project / "train.py").read_text()
    (project / "train.py").write_text(text.replace("LR = 1.00", "LR = 0.50"))
    found = json.loads(helper(entry, project, "--json", "try", "half the rate"))
    assert (found["experiment"], found["verdict"]) == ("e001", "keep")
    for other in SKILLS[1:]:
        text = (place / other / "SKILL.md").read_text(encoding="utf-8")
        assert "<skill-dir>/../autoresearch/scripts/autoresearch.py" in text
        sibling = Path(f"{place}/{other}/../autoresearch/scripts/autoresearch.py")
        assert "campaign t1" in helper(sibling, project, "status")
    assert "campaign t1 is finished" in helper(entry, project, "finish")


def afresh(project: Path) -> None:
    """Take the campaign out again, so that the next place starts from the same repository."""
    shutil.rmtree(project / ".autoresearch")
    for name in ("results.tsv", "autoresearch.yaml"):
        (project / name).unlink()
    git(project, "branch", "-q", "-D", "autoresearch/t1")
    for ref in git(project, "for-each-ref", "--format=%(refname)", "refs/autoresearch").split():
        git(project, "update-ref", "-d", ref)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", MODES)
def test_four_agents_at_once_can_use_what_npx_installs(
    scope: str, mode: str, checkout: Path, training: Path
) -> None:
    npx(training, "add", str(checkout), *chosen(AGENTS), "-y", *SCOPES[scope], *MODES[mode])
    claude = place_of("claude-code", scope, training)
    assert claude.joinpath("autoresearch").is_symlink() == (mode == "link")
    places = {place_of(agent, scope, training) for agent in AGENTS}
    assert len(places) == 2
    for place in sorted(places):
        assert sorted(path.name for path in place.iterdir()) == list(SKILLS)
        ask_for_help(place, training)
        use(place, training)
        afresh(training)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("agent", AGENTS)
def test_one_agent_alone_can_use_what_npx_installs(
    agent: str, scope: str, checkout: Path, training: Path
) -> None:
    npx(training, "add", str(checkout), "-a", agent, "-y", *SCOPES[scope])
    use(place_of(agent, scope, training), training)


def everything(folder: Path) -> dict[str, bytes]:
    """Every file and link below `folder`, git's own and npm's left out."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file())
        and not {".git", ".npm"} & set(path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", MODES)
def test_uninstalling_leaves_no_trace_of_ours(scope: str, mode: str, checkout: Path, training: Path) -> None:
    home = Path(os.environ["HOME"])
    before, before_home = everything(training), everything(home)
    npx(training, "add", str(checkout), *chosen(AGENTS), "-y", *SCOPES[scope], *MODES[mode])
    entry = place_of("codex", scope, training) / "autoresearch" / "scripts" / "autoresearch.py"
    subprocess.run([sys.executable, str(entry), "--help"], cwd=training, check=True, capture_output=True)
    assert everything(training) != before or everything(home) != before_home
    npx(training, "remove", *SKILLS, "-y", *SCOPES[scope])
    locks = {"skills-lock.json", ".agents/.skill-lock.json"}  # the installer's own list of what it knows
    assert {k: v for k, v in everything(training).items() if k not in locks} == before
    assert {k: v for k, v in everything(home).items() if k not in locks} == before_home


def test_an_update_delivers_a_changed_script_and_leaves_memories_alone(
    checkout: Path, training: Path
) -> None:
    with (Path(os.environ["HOME"]) / ".gitconfig").open("a") as file:
        file.write(f'[url "file://{checkout.parents[1]}/"]\n\tinsteadOf = https://github.com/\n')
    bare = checkout.with_name("REPO.git")
    git(checkout, "clone", "-q", "--bare", ".", str(bare))
    npx(training, "add", "OWNER/REPO", *chosen(AGENTS), "-y")
    place = place_of("claude-code", "project", training)
    use(place, training)
    notes = training / "memories" / "learnings.md"
    notes.parent.mkdir(exist_ok=True)
    notes.write_text("what was learned\n")
    kept = {name: (training / name).read_bytes() for name in ("results.tsv", ".autoresearch/journal.jsonl")}
    script = Path("skills/autoresearch/scripts/lab/errors.py")
    with (checkout / script).open("a") as file:
        file.write("NEWER = True\n")
    git(checkout, "commit", "-q", "-a", "-m", "a newer release")
    git(checkout, "push", "-q", str(bare), "HEAD")
    npx(training, "update", "-y")
    for agent in AGENTS:
        installed = place_of(agent, "project", training) / script.relative_to("skills")
        assert installed.read_text().endswith("NEWER = True\n"), agent
    assert "campaign t1" in helper(place / "autoresearch/scripts/autoresearch.py", training, "status")
    assert notes.read_text() == "what was learned\n"
    assert {name: (training / name).read_bytes() for name in kept} == kept
