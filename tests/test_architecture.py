from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "skills" / "autoresearch" / "scripts"
MODULES = sorted(
    path.relative_to(SCRIPTS)
    for folder in ("lab", "verbs")
    for path in (SCRIPTS / folder).rglob("*.py")
    if path.stem != "__init__"
)
VERB_FILES = {path.stem for path in MODULES if path.parts[0] == "verbs"}
OWNERS = {
    "git": {"workspace"},
    "yaml": {"settings", "values", "grammars", "rendering"},
    "click": {"autoresearch"} | VERB_FILES,
    "jinja2": {"page"},
    "markupsafe": {"page"},  # comes with jinja2
    "matplotlib": {"picture"},  # an extra: tried, never needed
}
SHARED = {"psutil"}


def rows() -> dict[str, int]:
    """Module name -> height, read from the picture in docs/design.md."""
    text = (ROOT / "docs" / "design.md").read_text()
    picture = text.split("## Modules of lab/")[1].split("```")[1].removeprefix("text\n")
    heights: dict[str, int] = {}
    for height, row in enumerate(picture.split("\n   |\n")):
        for name in re.findall(r"([a-z]+)\.py", row):
            heights[name] = -height
        for inside in re.findall(r"[a-z]+/ \(([^)]*)\)", row):
            heights.update({name.strip(): -height for name in inside.split(",")})
    return heights


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "lab" else node.module for alias in node.names
            }
    return found


def test_every_module_stands_in_the_picture_and_the_other_way_round() -> None:
    drawn = set(rows()) - {"autoresearch", "bootstrap"}
    later = {"lint", "sweep", "drive", "notebook", "literature", "notify"}
    assert {path.stem for path in MODULES} == drawn - later


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down_or_stay_in_the_row(module: Path) -> None:
    heights = rows()
    for name in imports(SCRIPTS / module):
        if name.startswith(("lab.", "verbs.")):
            target = name.split(".")[-1]
            if target in heights:
                assert heights[target] <= heights[module.stem], f"{module} imports {name} from above"


@pytest.mark.parametrize("module", [*MODULES, Path("autoresearch.py")], ids=str)
def test_each_outside_package_has_one_owner(module: Path) -> None:
    packages = {name.split(".")[0] for name in imports(SCRIPTS / module)}
    assert "torch" not in packages
    for package, owner in OWNERS.items():
        if package in packages:
            assert module.stem in owner
    known = set(__import__("sys").stdlib_module_names) | set(OWNERS) | SHARED | {"lab", "bootstrap", "verbs"}
    assert packages <= known, packages - known


def verbs() -> set[str]:
    """The names in the entry's table."""
    for node in ast.walk(ast.parse((SCRIPTS / "autoresearch.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERBS":
            return set(ast.literal_eval(node.value))
    raise AssertionError("autoresearch.py has no table VERBS")


DANGEROUS = {
    "reset --hard": r"reset[\"', ]+--hard",
    "git clean": r"[\"']clean[\"']\s*,\s*[\"']-",
    "add everything": r"[\"']add[\"']\s*,\s*[\"'](-A|\.)[\"']",
    "stash": r"[\"']stash[\"']",
    "checkout of the user's tree": r"[\"']checkout[\"']",
    "kill by name": r"pkill|killall",
    "a shell": r"shell\s*=\s*True|os\.system|os\.popen",
    "pickle": r"\bpickle\b|torch\.load",
    "code from text": r"(?<![\w.])(eval|exec)\(",
    "unsafe yaml": r"yaml\.(load|unsafe_load|full_load)\(",
}


@pytest.mark.parametrize("what", DANGEROUS)
def test_the_skills_code_never_contains(what: str) -> None:
    for path in SCRIPTS.rglob("*.py"):
        if path.parts[-2:] == ("lint", "shapes.py") and what == "pickle":
            continue  # the names that the lint looks for in a candidate
        found = re.search(DANGEROUS[what], path.read_text())
        assert not found, f"{path.name}: {found.group()}"


def test_the_design_names_every_verb_and_marks_the_planned_ones() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    built, planned = text.split("Planned, with names already fixed:")
    names = verbs()
    table = built.split("| verb | does |")[1]
    missing = {name for name in names if not re.search(rf"`{name}\b", table)}
    assert not missing
    for name in re.findall(r"`(\w+)", planned.split("JSON fields")[0].split("|---|---|")[1]):
        assert name not in names, f"{name} is built: move it up"
