#!/usr/bin/env python3
"""Copy or link the skills to where an agent looks for them, and take away again exactly what was put there.

python3 scripts/install.py --agent claude --to ../my-project
python3 scripts/install.py --agent copilot --to ../my-project --link
python3 scripts/install.py --agent claude --to ../my-project --remove
python3 scripts/install.py --agent codex --to ~
python3 scripts/install.py --repair

Standard library only. What was installed is written down in a manifest beside the skills; a file that
somebody changed since is left alone and named. Exit codes: 0 done, 2 usage, 4 something is in the way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKILLS = ROOT / "skills"
MANIFEST = ".autoresearch-skills.json"

# Where each agent looks inside a project. Copilot, Cursor and Codex all read .agents/skills as well.
# In the user's home folder the places are the same but for one.
PLACES: dict[str, str] = {
    "claude": ".claude/skills",
    "copilot": ".github/skills",
    "cursor": ".cursor/skills",
    "codex": ".agents/skills",
}
AT_HOME = {"copilot": ".copilot/skills"}
OWN_LINKS = (".claude/skills", ".github/skills")
CACHES = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".DS_Store"}
LEFT_OUT = shutil.ignore_patterns(*CACHES)


class InTheWay(Exception):
    """Something that is not ours stands where a skill should go."""


def skill_names() -> list[str]:
    """Name the skills of this checkout."""
    return sorted(path.parent.name for path in SKILLS.glob("*/SKILL.md"))


def files_of(folder: Path) -> dict[str, str]:
    """Give every file below `folder` with its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not CACHES & set(path.parts)
    }


def read_manifest(place: Path) -> dict[str, dict[str, str]]:
    """Read what was installed in `place`: for each skill its files with hashes, or {} for a link."""
    try:
        found = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return dict(found["skills"])


def made_folders(place: Path) -> list[str]:
    """Read which folders `install` made for `place`, the deepest first."""
    try:
        return list(json.loads((place / MANIFEST).read_text(encoding="utf-8")).get("folders", []))
    except FileNotFoundError:
        return []


def write_manifest(place: Path, skills: dict[str, dict[str, str]], folders: Sequence[str] = ()) -> None:
    """Write the manifest, or remove it when nothing is left. `folders` are the names of those made for it."""
    path = place / MANIFEST
    if not skills:
        path.unlink(missing_ok=True)
        return
    content = {"schema": 1, "skills": skills, "folders": list(folders) or made_folders(place)}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def place_for(agent: str, folder: Path) -> Path:
    """The folder where `agent` looks for skills below `folder`, a project or the user's home."""
    at_home = AT_HOME if folder == Path.home().resolve() else {}
    return folder / at_home.get(agent, PLACES[agent])


def is_our_link(target: Path) -> bool:
    """Whether `target` links to a skill of this checkout."""
    return target.is_symlink() and Path(os.path.realpath(target)) == SKILLS / target.name


def is_flattened_link(target: Path) -> bool:
    """Whether git wrote a link as a small text file, as it does without symlink support."""
    if target.is_symlink() or not target.is_file() or target.stat().st_size > 200:
        return False
    return target.read_text(encoding="utf-8", errors="replace").strip() == f"../../skills/{target.name}"


def clear(target: Path, installed: dict[str, str] | None) -> list[str]:
    """Remove what we put at `target`; give the files that are not ours or were changed, which stay."""
    linked = is_our_link(target) or (target.is_symlink() and installed == {})
    if linked or is_flattened_link(target):
        target.unlink()
        return []
    if not target.exists() and not target.is_symlink():
        return []
    if installed is None or not target.is_dir() or target.is_symlink():
        if target.is_dir() and not target.is_symlink() and files_of(target) == files_of(SKILLS / target.name):
            shutil.rmtree(target)  # a copy made by hand, the same in every byte
            return []
        raise InTheWay(f"{target} is there and was not installed by this script")
    kept = []
    for name, digest in files_of(target).items():
        if installed.get(name) == digest:
            (target / name).unlink()
        else:
            kept.append(f"{target / name}")
    remove_empty(target)
    return kept


def remove_empty(folder: Path) -> None:
    """Remove caches and empty folders from the bottom up."""
    for path in sorted(p for p in folder.rglob("*") if p.name in CACHES):
        shutil.rmtree(path, ignore_errors=True)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def copy(source: Path, target: Path) -> None:
    """Copy beside the place and move there whole, so that a cut leaves no half skill."""
    building = target.with_name(f".{target.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(source, building, ignore=LEFT_OUT)
    building.rename(target)


def install(place: Path, link: bool) -> list[str]:
    """Bring every skill to `place`; give what to tell."""
    skills = read_manifest(place)
    made = [str(folder.name) for folder in (place, place.parent) if not folder.exists()]
    told = []
    for name in skill_names():
        target, source = place / name, SKILLS / name
        if os.path.realpath(target) == str(source):
            told.append(f"{target} is linked to this checkout already")
            continue
        if not link and target.is_dir() and files_of(target) == files_of(source):
            told.append(f"{target} is up to date")
            skills[name] = files_of(source)
            continue
        changed = clear(target, skills.get(name))
        if changed:
            raise InTheWay(f"{', '.join(changed)} was changed after the installation")
        place.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to(os.path.relpath(source, os.path.realpath(place)), target_is_directory=True)
            skills[name] = {}
        else:
            copy(source, target)
            skills[name] = files_of(target)
        told.append(f"{'linked' if link else 'copied'} {name} to {target}")
    write_manifest(place, skills, made)
    return told


def remove(place: Path) -> list[str]:
    """Take away what `install` put into `place`; give what to tell."""
    skills, made = read_manifest(place), made_folders(place)
    if not skills:
        return [f"nothing was installed in {place}"]
    told = []
    for name, installed in skills.items():
        kept = clear(place / name, installed)
        told.append(f"removed {name} from {place}")
        told += [f"left {path}: changed or added after the installation" for path in kept]
    write_manifest(place, {})
    for folder in (place, place.parent):
        if folder.name in made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return told


def repair() -> list[str]:
    """Make this checkout's own agent folders work where git wrote links as text: as links, or as copies."""
    told = []
    for place in (ROOT / name for name in OWN_LINKS):
        for name in skill_names():
            target = place / name
            if os.path.realpath(target) == str(SKILLS / name):
                told.append(f"{target} is a link and works")
                continue
            clear(target, read_manifest(place).get(name))
            place.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(Path("../../skills") / name, target_is_directory=True)
                told.append(f"linked {target}")
            except OSError:
                copy(SKILLS / name, target)
                write_manifest(place, {**read_manifest(place), name: files_of(target)})
                told.append(f"copied to {target}: this system makes no links")
    return told


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", choices=PLACES, help="whose folder: " + ", ".join(PLACES.values()))
    parser.add_argument("--to", type=Path, metavar="DIR", help="the project to install into")
    parser.add_argument("--copy", action="store_true", help="copy: the default")
    parser.add_argument("--link", action="store_true", help="link to this checkout instead of copying")
    parser.add_argument("--remove", action="store_true", help="take away what was installed there")
    parser.add_argument("--repair", action="store_true", help="mend this checkout's own links")
    options = parser.parse_args(arguments)
    if options.copy and options.link:
        parser.error("say --copy or --link")
    if not options.repair and not (options.agent and options.to):
        parser.error("say --agent and --to, or --repair")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        if options.repair:
            told = repair()
        elif not options.to.is_dir():
            raise InTheWay(f"{options.to} is not a folder")
        else:
            place = place_for(options.agent, options.to.resolve())
            told = remove(place) if options.remove else install(place, options.link)
    except (InTheWay, OSError) as error:
        print(f"Error: {error}\nhint: move it away, or choose another --to", file=sys.stderr)
        return 4
    print("\n".join(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
