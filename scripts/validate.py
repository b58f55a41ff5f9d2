#!/usr/bin/env python3
"""Check what agents read: skill texts, the links to them, and that each command they name exists.

A check is a function from the repository's root to a list of faults, and a row in CHECKS.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "skills" / "autoresearch" / "scripts"

KEYS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
MAX_DESCRIPTION = 1024
MAX_LINES = 200
MAX_CHARACTERS = 20_000  # after a compaction an agent sees no more of a skill
LINK_FOLDERS = (".claude/skills", ".github/skills")
SMALL = 200  # bytes; shorter files may be equal

# Words that auditors of skills mark down, or that make an agent do harm when it reads them.
BANNED: tuple[str, ...] = (
    r"never stop",
    r"loop forever",
    r"(?:never|do not|don't|without) ask(?:ing)?(?: the (?:user|human))?\b",
    r"do not pause",
    r"run indefinitely",
    r"reset --hard",
    r"git clean",
    r"add (?:-A\b|--all|\.(?=\s|$|`))",
    r"git stash",
    r"checkout -- \.",
    r"pkill|killall",
    r"curl[^\n]*\|\s*(?:ba)?sh",
    r"wget[^\n]*\|\s*(?:ba)?sh",
    r"skip-permissions|--yolo|bypass-approvals",
    r"shell=True|os\.system",
    r"nohup ",
    r"ignore (?:all )?previous instructions",
)

# A path below scripts/ that an agent's shell would look for in the user's project.
BARE_SCRIPT = re.compile(r"(?<![\w>/-])(?:\./)?scripts/[\w.-]+")
INSTALLED_PREFIXES = ("<skill-dir>/", "<skill-dir>/../autoresearch/")
MARKDOWN_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
NAMED_FILE = re.compile(r"`((?:references|assets)/[\w./-]+)`")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"autoresearch(?:\.py)?\s+((?:-C \S+ |--json )*)([a-z]+)\b([^\n`|]*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def skill_texts(root: Path) -> Iterator[Path]:
    """Give every Markdown file that an agent may read as part of a skill."""
    yield from sorted((root / "skills").rglob("*.md"))


def command_texts(root: Path) -> Iterator[Path]:
    """Give every text that names our commands."""
    yield from skill_texts(root)
    for name in ("README.md", ".github/copilot-instructions.md", ".github/CONTRIBUTING.md"):
        if (root / name).exists():
            yield root / name


def where(path: Path, root: Path, text: str, position: int) -> str:
    """Name a place as file:line."""
    return f"{path.relative_to(root)}:{text.count(chr(10), 0, position) + 1}"


def front_matter(root: Path) -> list[str]:
    """Only the specification's keys; a name equal to the folder's; a description that says when."""
    faults = []
    skills = [path for path in sorted((root / "skills").iterdir()) if path.is_dir()]
    for folder in skills:
        path = folder / "SKILL.md"
        if not path.exists():
            faults.append(f"{folder.relative_to(root)}: no SKILL.md")
            continue
        faults += [f"{path.relative_to(root)}: {fault}" for fault in _front_matter_of(path)]
    return faults or ([] if skills else ["skills: no skill"])


def _front_matter_of(path: Path) -> Iterator[str]:
    parts = path.read_text(encoding="utf-8").split("---\n", 2)
    if len(parts) < 3 or parts[0]:
        yield "no front matter between two lines of ---"
        return
    try:
        found = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        yield f"front matter is not YAML: {str(error).splitlines()[0]}"
        return
    if not isinstance(found, dict):
        yield "front matter is no list of keys"
        return
    for key in sorted(set(map(str, found)) - KEYS):
        yield f"front matter key {key!r} is not in the specification"
    if found.get("name") != path.parent.name:
        yield f"name is {found.get('name')!r}, the folder {path.parent.name!r}"
    description = str(found.get("description", ""))
    if not 0 < len(description) <= MAX_DESCRIPTION:
        yield f"description has {len(description)} characters, allowed are 1 to {MAX_DESCRIPTION}"
    if re.search("[<>]", description):
        yield "description holds < or >"
    if not re.search(r"\buse (?:this )?when\b", description, re.IGNORECASE):
        yield "description does not say `Use when ...`"


def length(root: Path) -> list[str]:
    """A SKILL.md that survives a compaction whole."""
    faults = []
    for path in sorted((root / "skills").glob("*/SKILL.md")):
        text = path.read_text(encoding="utf-8")
        lines, characters = text.count("\n"), len(text)
        if lines >= MAX_LINES or characters >= MAX_CHARACTERS:
            faults.append(
                f"{path.relative_to(root)}: {lines} lines, {characters} characters; "
                f"must be below {MAX_LINES} and {MAX_CHARACTERS}"
            )
    return faults


def script_paths(root: Path) -> list[str]:
    """No bare `scripts/...`: the agent's shell is in the user's project."""
    faults = []
    for path in skill_texts(root):
        text = path.read_text(encoding="utf-8")
        for prefix in INSTALLED_PREFIXES:
            text = text.replace(f"{prefix}scripts/", " " * len(prefix) + "SCRIPTS/")
        for found in BARE_SCRIPT.finditer(text):
            faults.append(f"{where(path, root, text, found.start())}: bare path {found[0]}")
    return faults


def links(root: Path) -> list[str]:
    """Each file a skill names exists inside it, one level deep."""
    faults = []
    for path in skill_texts(root):
        skill = root / "skills" / path.relative_to(root / "skills").parts[0]
        text = path.read_text(encoding="utf-8")
        for found in (*MARKDOWN_LINK.finditer(text), *NAMED_FILE.finditer(text)):
            name = found[1]
            if "://" in name:
                continue
            place = where(path, root, text, found.start())
            target = (path.parent if found.re is MARKDOWN_LINK else skill) / name
            if not target.resolve().is_relative_to(skill.resolve()):
                faults.append(f"{place}: {name} leaves the skill's folder")
            elif not target.is_file():
                faults.append(f"{place}: {name} is not there")
            elif path.name != "SKILL.md" or len(Path(name).parts) > 2:
                faults.append(f"{place}: {name} is more than one level below SKILL.md")
    return faults


def unread_references(root: Path) -> list[str]:
    """Each reference is named in its SKILL.md: nobody reads the others."""
    faults = []
    for path in sorted((root / "skills").glob("*/references/*")):
        name = f"references/{path.name}"
        if name not in (path.parents[1] / "SKILL.md").read_text(encoding="utf-8"):
            faults.append(f"{path.relative_to(root)}: SKILL.md does not say when to read it")
    return faults


def banned_words(root: Path) -> list[str]:
    """No wording that makes an agent, or the auditors of skills, fear for the user's work."""
    pattern = re.compile("|".join(f"(?:{words})" for words in BANNED), re.IGNORECASE | re.MULTILINE)
    faults = []
    for path in [
        *sorted((root / "skills").rglob("*")),
        root / "README.md",
        root / ".github/copilot-instructions.md",
    ]:
        if path.suffix not in (".md", ".py", ".json", ".yaml", ".yml", ".sh", ".txt") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        for found in pattern.finditer(text):
            faults.append(f"{where(path, root, text, found.start())}: banned words {found[0]!r}")
    return faults


def real_files(root: Path) -> list[str]:
    """No symlink under skills/: installers copy what it points to and never update the copy."""
    return [
        f"{path.relative_to(root)}: is a link; skills hold real files only"
        for path in sorted((root / "skills").rglob("*"))
        if path.is_symlink()
    ]


def agent_links(root: Path) -> list[str]:
    """One relative link per skill, never one for the whole folder."""
    faults = []
    names = {path.parent.name for path in (root / "skills").glob("*/SKILL.md")}
    for folder in LINK_FOLDERS:
        place = root / folder
        if place.is_symlink() or not place.is_dir():
            faults.append(f"{folder}: must be a folder with one link per skill")
            continue
        for name in sorted(names | {path.name for path in place.iterdir()}):
            wanted = f"../../skills/{name}"
            link = place / name
            if name not in names:
                faults.append(f"{folder}/{name}: there is no such skill")
            elif not link.is_symlink():
                faults.append(f"{folder}/{name}: must be a link to {wanted} (scripts/install.py --repair)")
            elif str(link.readlink()) != wanted:
                faults.append(f"{folder}/{name}: links to {link.readlink()}, must be {wanted}")
    return faults


def tracked_files(root: Path) -> list[Path]:
    """Give the files git knows, links left out."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], check=True, capture_output=True)
    paths = [root / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def no_copies(root: Path) -> list[str]:
    """No two tracked files with the same bytes."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for path in tracked_files(root):
        body = path.read_bytes()
        if len(body) > SMALL:
            by_digest[hashlib.sha256(body).hexdigest()].append(str(path.relative_to(root)))
    return [f"{' and '.join(names)}: the same bytes twice" for names in by_digest.values() if len(names) > 1]


def options_of_verbs() -> dict[str, set[str]]:
    """Ask the command line itself for its verbs and their options."""
    sys.path.insert(0, str(SCRIPTS))
    from autoresearch import VERBS, cli

    found = {}
    for name in VERBS:
        command = cli.get_command(click.Context(cli), name)
        below = getattr(command, "commands", {}).values()  # of a verb with verbs of its own
        flags = {flag for one in (command, *below) for parameter in one.params for flag in parameter.opts}
        found[name] = flags | {"--json", "--help"}
    return found


def commands(root: Path) -> list[str]:
    """Each verb and option that a text names exists."""
    known = options_of_verbs()
    anywhere = set().union(*known.values(), {"--version"})
    faults = []
    for path in command_texts(root):
        text = path.read_text(encoding="utf-8")
        for found in CALL.finditer(text):
            place, verb = where(path, root, text, found.start()), found[2]
            if ".py" in found[0].split()[0] and verb not in known:
                faults.append(f"{place}: there is no verb {verb!r}")
            elif verb in known:
                faults += _unknown_flags(place, verb, found[3], known[verb])
        if path.is_relative_to(root / "skills"):
            for span in CODE_SPAN.finditer(text):
                place, verb = where(path, root, text, span.start()), span[1].split()[0]
                if verb in known or verb.startswith("--"):
                    faults += _unknown_flags(place, verb, span[1], known.get(verb, anywhere))
    return sorted(set(faults))


def _unknown_flags(place: str, verb: str, words: str, known: set[str]) -> list[str]:
    own = re.split(r"\s--\s", QUOTED.sub("", words))[0]  # what follows `--` is another program's
    flags = FLAG.findall(own)
    return [f"{place}: `{verb}` has no option {flag}" for flag in flags if flag not in known]


HOOKS_PAGE = "skills/autoresearch/references/hooks.md"
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)


def hook_settings(root: Path) -> list[str]:
    """Each file and page with hook settings holds what `hook --print` gives."""
    sys.path.insert(0, str(SCRIPTS))
    from lab.hosts import FILES, snippet

    faults = []
    for host in ("claude", "plugin"):
        path = root / FILES[host]
        held = json.loads(path.read_text(encoding="utf-8")).get("hooks") if path.is_file() else None
        if held != snippet(host)["hooks"]:
            faults.append(f"{FILES[host]}: its hooks are not those of `hook --print {host}`")
    text = (root / HOOKS_PAGE).read_text(encoding="utf-8") if (root / HOOKS_PAGE).is_file() else ""
    blocks = [json.loads(block) for block in JSON_BLOCK.findall(text)]
    hosts = [host for host in FILES if host != "plugin"]
    for host in hosts:
        if snippet(host) not in blocks or FILES[host] not in text:
            faults.append(f"{HOOKS_PAGE}: lacks what `hook --print {host}` gives, or its file {FILES[host]}")
    if not faults and any(block not in [snippet(host) for host in hosts] for block in blocks):
        faults.append(f"{HOOKS_PAGE}: holds settings that `hook --print` does not give")
    return faults


def companions(root: Path) -> list[str]:
    """A skill that calls the helpers says that autoresearch is needed, without an order to fetch code."""
    faults = []
    for path in sorted((root / "skills").glob("*/SKILL.md")):
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "autoresearch" and not (
            "<skill-dir>/../autoresearch/scripts/autoresearch.py" in text
            and "the skill autoresearch has to be installed too" in text
            and "npx skills" not in text
        ):
            faults.append(
                f"{path.relative_to(root)}: does not say how the autoresearch skill is found or installed"
            )
    return faults


def manifests(root: Path) -> list[str]:
    """Both manifests of the plugin list every skill, and nothing else."""
    wanted = sorted(f"./skills/{path.parent.name}" for path in (root / "skills").glob("*/SKILL.md"))
    faults = []
    for name in ("plugin.json", "marketplace.json"):
        path = root / ".claude-plugin" / name
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for offer in found.get("plugins", [found]):
            if sorted(offer.get("skills", [])) != wanted:
                faults.append(f".claude-plugin/{name}: lists {offer.get('skills')}, must be {wanted}")
    return faults


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "front matter": front_matter,
    "length": length,
    "script paths": script_paths,
    "links": links,
    "references": unread_references,
    "banned words": banned_words,
    "real files": real_files,
    "agent links": agent_links,
    "copies": no_copies,
    "commands": commands,
    "hook settings": hook_settings,
    "companions": companions,
    "manifests": manifests,
}


@click.command()
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ROOT,
    help="Check another checkout's files, against this checkout's command line.",
)
@click.option("--only", type=click.Choice(list(CHECKS)), multiple=True, help="Run only these checks.")
def main(root: Path, only: tuple[str, ...]) -> None:
    """Check skill texts, links and the commands they name

    Exits 0 when all is well, 1 with one line per fault otherwise.
    """
    names = only or tuple(CHECKS)
    faults = [fault for name in names for fault in CHECKS[name](root.resolve())]
    for fault in faults:
        click.echo(fault)
    if faults:
        raise SystemExit(1)
    click.echo(f"{len(names)} checks of the skill texts, no fault")


if __name__ == "__main__":
    main()
