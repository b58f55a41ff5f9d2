from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import install
import pytest
from conftest import ROOT, git

SOURCE = ROOT / "skills" / "autoresearch"


def put(project: Path, *options: str) -> int:
    return install.main(["--to", str(project), *options])


def everything(folder: Path) -> dict[str, bytes]:
    """Give every file and link below `folder`, git's own left out."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and ".git/" not in f"{path.relative_to(folder)}/"
    }


def place_of(project: Path, agent: str) -> Path:
    return project / install.PLACES[agent] / "autoresearch"


@pytest.mark.parametrize("agent", install.PLACES)
@pytest.mark.parametrize("mode", [(), ("--link",)], ids=["copy", "link"])
def test_the_skill_arrives_and_goes_without_a_trace(agent: str, mode: tuple[str, ...], project: Path) -> None:
    before = everything(project)
    assert put(project, "--agent", agent, *mode) == 0
    assert (place_of(project, agent) / "SKILL.md").read_bytes() == (SOURCE / "SKILL.md").read_bytes()
    assert put(project, "--agent", agent, "--remove") == 0
    assert everything(project) == before
    assert not (project / install.PLACES[agent]).exists()


@pytest.mark.parametrize("mode", [(), ("--link",)], ids=["copy", "link"])
def test_installing_twice_changes_nothing(mode: tuple[str, ...], project: Path) -> None:
    assert put(project, "--agent", "claude", *mode) == 0
    once = everything(project)
    assert put(project, "--agent", "claude", *mode) == 0
    assert everything(project) == once


def test_a_copy_holds_real_files_and_the_whole_skill(project: Path) -> None:
    put(project, "--agent", "copilot")
    target = place_of(project, "copilot")
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert install.files_of(target) == install.files_of(SOURCE)


def test_a_link_becomes_a_copy_and_back(project: Path) -> None:
    put(project, "--agent", "claude", "--link")
    assert place_of(project, "claude").is_symlink()
    put(project, "--agent", "claude", "--remove")
    put(project, "--agent", "claude")
    assert not place_of(project, "claude").is_symlink()
    put(project, "--agent", "claude", "--link")
    assert place_of(project, "claude").is_symlink()


def test_an_older_copy_is_brought_up_to_date(project: Path) -> None:
    put(project, "--agent", "claude")
    target, place = place_of(project, "claude"), project / install.PLACES["claude"]
    (target / "SKILL.md").write_text("older")
    (target / "references" / "gone.md").write_text("no longer part of the skill")
    install.write_manifest(place, {"autoresearch": install.files_of(target)})
    assert put(project, "--agent", "claude") == 0
    assert install.files_of(target) == install.files_of(SOURCE)


def test_what_the_user_changed_is_not_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(project, "--agent", "claude")
    mine = place_of(project, "claude") / "SKILL.md"
    mine.write_text("my own protocol")
    assert put(project, "--agent", "claude") == 4
    assert mine.read_text() == "my own protocol"
    assert "was changed" in capsys.readouterr().err


def test_remove_leaves_what_the_user_added_and_names_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(project, "--agent", "claude")
    note = place_of(project, "claude") / "notes.md"
    note.write_text("mine")
    other = project / ".claude" / "skills" / "other" / "SKILL.md"
    other.parent.mkdir()
    other.write_text("another skill")
    assert put(project, "--agent", "claude", "--remove") == 0
    assert everything(project / ".claude") == {
        "skills/autoresearch/notes.md": b"mine",
        "skills/other/SKILL.md": b"another skill",
    }
    assert str(note) in capsys.readouterr().out


def test_a_foreign_skill_of_the_same_name_is_left_alone(project: Path) -> None:
    foreign = place_of(project, "cursor") / "SKILL.md"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody else's")
    assert put(project, "--agent", "cursor") == 4
    assert put(project, "--agent", "cursor", "--link") == 4
    assert put(project, "--agent", "cursor", "--remove") == 0
    assert foreign.read_text() == "somebody else's"


def test_a_link_to_elsewhere_is_not_followed_when_removing(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, elsewhere, ignore=install.LEFT_OUT)
    put(project, "--agent", "claude")
    target = place_of(project, "claude")
    shutil.rmtree(target)
    target.symlink_to(elsewhere)
    before = everything(elsewhere)
    assert put(project, "--agent", "claude", "--remove") == 4
    assert everything(elsewhere) == before


def test_a_copy_cut_short_is_no_obstacle(project: Path) -> None:
    half = project / install.PLACES["claude"] / ".autoresearch.new"
    half.mkdir(parents=True)
    (half / "SKILL.md").write_text("half")
    assert put(project, "--agent", "claude") == 0
    assert not half.exists()


def test_every_skill_arrives_and_a_sibling_finds_the_helper(project: Path) -> None:
    put(project, "--agent", "cursor")
    place = project / install.PLACES["cursor"]
    names = sorted(path.name for path in place.iterdir() if path.is_dir())
    assert names == install.skill_names()
    for name in names:
        assert Path(f"{place}/{name}/../autoresearch/scripts/autoresearch.py").is_file()


def test_a_folder_that_was_there_before_stays(project: Path) -> None:
    (project / ".claude").mkdir()
    put(project, "--agent", "claude")
    put(project, "--agent", "claude")
    put(project, "--agent", "claude", "--remove")
    assert (project / ".claude").is_dir()
    assert not (project / ".claude" / "skills").exists()


def test_in_the_home_folder_copilot_has_a_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "--agent", "copilot")
    assert (tmp_path / ".copilot" / "skills" / "autoresearch" / "SKILL.md").is_file()
    put(tmp_path, "--agent", "copilot", "--remove")
    assert list(tmp_path.iterdir()) == []


def test_copy_is_what_happens_anyway(project: Path, tmp_path: Path) -> None:
    put(project, "--agent", "claude")
    once = everything(project)
    assert put(project, "--agent", "claude", "--copy") == 0
    assert everything(project) == once
    with pytest.raises(SystemExit) as left:
        put(project, "--agent", "claude", "--copy", "--link")
    assert left.value.code == 2


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert put(tmp_path / "nowhere", "--agent", "claude") == 4


def test_installing_into_this_checkout_leaves_its_own_links(tmp_path: Path) -> None:
    root = checkout(tmp_path, "true")
    before = everything(root)
    call(root, "--agent", "claude", "--to", str(root))
    call(root, "--agent", "claude", "--to", str(root), "--remove")
    assert everything(root) == before


def checkout(place: Path, symlinks: str) -> Path:
    """Clone what the installer needs, with or without support for links."""
    made, root = place / "made", place / "checkout"
    caches = shutil.ignore_patterns("__pycache__")
    for name in ("skills", ".claude", ".github"):
        shutil.copytree(ROOT / name, made / name, symlinks=True, ignore=caches)
    (made / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install.py", made / "scripts")
    git(made, "init", "-q")
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "start")
    subprocess.run(
        ["git", "clone", "-q", "-c", f"core.symlinks={symlinks}", str(made), str(root)], check=True
    )
    return root


def call(root: Path, *options: str) -> str:
    script = [sys.executable, str(root / "scripts" / "install.py"), *options]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


def test_a_checkout_without_links_is_repaired(tmp_path: Path) -> None:
    root = checkout(tmp_path, "false")
    links = [root / name / "autoresearch" for name in install.OWN_LINKS]
    assert all(link.is_file() for link in links)
    call(root, "--repair")
    assert all((link / "SKILL.md").is_file() for link in links)
    assert "works" in call(root, "--repair")
    assert (root / "skills" / "autoresearch" / "SKILL.md").read_bytes() == (SOURCE / "SKILL.md").read_bytes()


def test_from_a_checkout_without_links_it_installs_elsewhere(tmp_path: Path, project: Path) -> None:
    root = checkout(tmp_path, "false")
    call(root, "--agent", "copilot", "--to", str(project))
    assert install.files_of(place_of(project, "copilot")) == install.files_of(SOURCE)
