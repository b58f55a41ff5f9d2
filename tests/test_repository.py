from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENTRY, ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
README = ROOT / "README.md"
COMMANDS = ("scripts/environment", "scripts/quickstart", "scripts/check", ".ci/run")


def listed(text: str, start: str) -> list[str]:
    """Give the quoted strings of the list that opens with `start`."""
    block = text.split(start, 1)[1].split("\n]", 1)[0]
    return re.findall(r'^\s*"([^"]+)"', block, re.MULTILINE)


def header_pins() -> dict[str, str]:
    header = ENTRY.read_text(encoding="utf-8").split("# ///")[1]
    return dict(pin.split("==") for pin in re.findall(r'"([\w.-]+==[^"]+)"', header))


def test_the_helper_s_packages_are_named_in_the_project_and_pinned_only_in_the_header() -> None:
    named = [name for name in listed(PYPROJECT, "\ndependencies = [") if "==" not in name]
    assert sorted(named) == sorted(header_pins())


def test_every_other_dependency_is_pinned() -> None:
    free = {name for name in listed(PYPROJECT, "\ndependencies = [") if "==" not in name}
    assert free == set(header_pins())
    assert all("==" in name for name in listed(PYPROJECT, "\ndev = ["))


def test_environment_installs_exactly_the_torch_the_project_names() -> None:
    pin = next(name for name in listed(PYPROJECT, "\ndependencies = [") if name.startswith("torch"))
    assert f'torch="{pin}"' in (ROOT / "scripts" / "environment").read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    version = re.search(r'^version = "(.+)"', PYPROJECT, re.MULTILINE)
    assert version
    plugin = json.loads((ROOT / ".claude-plugin" / "plugin.json").read_text(encoding="utf-8"))
    assert plugin["version"] == version[1]
    said = subprocess.run(
        [sys.executable, str(ENTRY), "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[-1] == version[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_can_be_executed_and_is_tracked_so(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
    if (ROOT / ".git").exists():
        tracked = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "--stage", name], capture_output=True, text=True, check=True
        )
        assert tracked.stdout.startswith("100755")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_shell_script_is_sound(name: str) -> None:
    path = ROOT / name
    if "bash" in path.read_text(encoding="utf-8").split("\n", 1)[0]:
        subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", ["scripts/environment", "scripts/quickstart", "scripts/check"])
def test_a_command_explains_itself(name: str) -> None:
    said = subprocess.run([str(ROOT / name), "--help"], capture_output=True, text=True, check=True)
    assert name in said.stdout


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert "exec scripts/check" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "run: scripts/check" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(r"^scripts/check\b", README.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_file_the_readme_lists_is_there() -> None:
    table = README.read_text(encoding="utf-8").split("## What each file is", 1)[1].split("\n## ", 1)[0]
    names = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_tracked_place_at_the_top_is_in_the_readme() -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True)
    tops = {name.split("/")[0] for name in tracked.stdout.decode().split("\0") if name}
    text = README.read_text(encoding="utf-8").split("## What each file is", 1)[1]
    assert [top for top in sorted(tops - {".gitignore", ".ci", "README.md"}) if f"`{top}" not in text] == []


def test_json_files_for_agents_are_json() -> None:
    for name in (".claude/settings.json", ".claude-plugin/plugin.json", ".claude-plugin/marketplace.json"):
        json.loads((ROOT / name).read_text(encoding="utf-8"))


def test_the_marketplace_offers_the_plugin() -> None:
    folder = ROOT / ".claude-plugin"
    plugin = json.loads((folder / "plugin.json").read_text(encoding="utf-8"))
    market = json.loads((folder / "marketplace.json").read_text(encoding="utf-8"))
    assert [offer["name"] for offer in market["plugins"]] == [plugin["name"]]


def test_notes_are_dated_and_have_a_state() -> None:
    for path in (ROOT / "memories" / "issues.md", ROOT / "memories" / "decisions.md"):
        for entry in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            assert re.match(r"\d{4}-\d\d-\d\d ", entry), entry
            assert "State: " in entry, entry


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scripts" / "quickstart_edits").glob("*.patch")), ids=lambda p: p.name
)
def test_a_shipped_edit_has_its_words_and_fits_on_the_shipped_train_py(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for word in ("Hypothesis: ", "Because: ", "Expect: "):
        assert re.search(f"^{word}\\S", text, re.MULTILINE)
    (tmp_path / "train.py").write_bytes((ROOT / "train.py").read_bytes())
    subprocess.run(["git", "apply", str(path)], cwd=tmp_path, check=True)
