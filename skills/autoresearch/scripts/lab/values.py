"""The kinds of values a setting may have: each reads one YAML node, or says what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.errors import CONFIG, LabError

METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,63}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Place:
    """Where a value stands, for errors."""

    file: str
    line: int
    key: str

    def error(self, problem: str, hint: str) -> LabError:
        """Build the error that names file, line and key."""
        return LabError(f"{self.file}:{self.line}: {self.key} {problem}", hint, CONFIG)


Convert = Callable[[yaml.Node, Place], object]


def seconds_of(text: str) -> float | None:
    """Read `300`, `90s`, `5m`, `1h30m` as seconds; None when it is no duration."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not parts or re.sub(r"[\d.smhd\s]", "", text) or (len(parts) > 1 and any(not u for _, u in parts)):
        return None
    total = sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
    return total if math.isfinite(total) else None


def as_text(node: yaml.Node, place: Place) -> str:
    """One line of text."""
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise place.error(f"is {shown(node)}", "write one line of text")
    return str(node.value)


def as_optional_text(node: yaml.Node, place: Place) -> str | None:
    """One line of text, or None for nothing."""
    return None if is_none(node) else as_text(node, place)


def as_note(node: yaml.Node, place: Place) -> str | None:
    """The path of a file people write ideas into."""
    path = as_optional_text(node, place)
    if path and not path.isprintable():
        raise place.error(f"is {path!r}", "write the path of a Markdown file")
    return path


def as_folder(node: yaml.Node, place: Place) -> str | None:
    """A folder of its own in the project."""
    path = as_optional_text(node, place)
    if path and (not path.isprintable() or path.rstrip("/") in (".", "")):
        raise place.error(f"is {path!r}", "write a folder of its own: inbox: results-in")
    return path


def as_seconds(node: yaml.Node, place: Place) -> float:
    """A time, in seconds; never 0."""
    value = seconds_of(as_text(node, place))
    if not value:
        raise place.error(f"is {shown(node)}, not a time", "write seconds or 90s, 5m, 1h30m")
    return value


def as_hours(node: yaml.Node, place: Place) -> float | None:
    """Hours, or None for no limit."""
    return None if is_none(node) else as_number(node, place)


def as_number(node: yaml.Node, place: Place) -> float:
    """A finite number."""
    try:
        value = float(as_text(node, place))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in as_text(node, place):
        raise place.error(f"is {shown(node)}, not a number", "write a number such as 0.001 or 3e-4")
    return value


def as_auto_number(node: yaml.Node, place: Place) -> float | None:
    """A finite number, or None for `auto`."""
    return None if isinstance(node, yaml.ScalarNode) and node.value == "auto" else as_number(node, place)


def as_count(node: yaml.Node, place: Place) -> int | None:
    """A whole number from 1, or None for nothing."""
    if is_none(node):
        return None
    value = as_number(node, place)
    if value != int(value) or value < 1:
        raise place.error(f"is {shown(node)}", "write a whole number, at least 1")
    return int(value)


def as_confidence(node: yaml.Node, place: Place) -> float:
    """A confidence from 0.5 to below 1."""
    value = as_number(node, place)
    if not 0.5 <= value < 1:
        raise place.error(f"is {shown(node)}", "write a share between 0.5 and 0.999, such as 0.95")
    return value


def as_share(node: yaml.Node, place: Place) -> float | None:
    """A share between 0 and 1; None for `auto`, 0 for `off`."""
    if isinstance(node, yaml.ScalarNode) and node.value in ("auto", "off"):
        return None if node.value == "auto" else 0.0
    value = as_number(node, place)
    if not 0 < value < 1:
        raise place.error(f"is {shown(node)}", "write auto, off, or a share such as 0.05")
    return value


def as_runs(node: yaml.Node, place: Place) -> int | None:
    """1 to 20 runs, or None for `auto`."""
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    value = as_count(node, place)
    if value is None or value > 20:
        raise place.error(f"is {shown(node)}", "write auto, or a whole number from 1 to 20")
    return value


def as_list(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """A list of texts; a single text is a list of one."""
    if is_none(node):
        return ()
    if isinstance(node, yaml.ScalarNode):
        return (as_text(node, place),)
    if not isinstance(node, yaml.SequenceNode):
        raise place.error(f"is {shown(node)}", "write a list such as [train.py]")
    return tuple(as_text(item, place) for item in node.value)


def as_paths(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Paths inside the project, as git writes them."""
    paths = as_list(node, place)
    for path in paths:
        if path.startswith(("/", "~", ":")) or ".." in Path(path).parts or "\0" in path:
            raise place.error(f"names {path!r}", "write paths inside the project, relative to this file")
    return tuple(path.removeprefix("./").rstrip("/") or "." for path in paths)


def as_anywhere(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Paths that may lie outside the project."""
    paths = as_list(node, place)
    for path in paths:
        if "\0" in path or not path.strip("/"):
            raise place.error(f"names {path!r}", "write folders such as [/mnt/scratch, checkpoints]")
    return paths


def as_names(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Names of environment variables."""
    names = as_list(node, place)
    for name in names:
        if not ENV_NAME.fullmatch(name):
            raise place.error(f"names {name!r}", "write names of environment variables: [DATA_DIR]")
    return names


def as_switch(node: yaml.Node, place: Place) -> bool:
    """true or false."""
    value = as_text(node, place).lower()
    if value not in ("true", "false", "yes", "no", "on", "off"):
        raise place.error(f"is {shown(node)}", "write true or false")
    return value in ("true", "yes", "on")


def as_gigabytes(node: yaml.Node, place: Place) -> float:
    """Gigabytes, more than 0."""
    value = as_number(node, place)
    if value <= 0:
        raise place.error(f"is {shown(node)}", "write gigabytes, more than 0")
    return value


def one_of(*allowed: str) -> Convert:
    """A conversion that takes these words alone."""

    def convert(node: yaml.Node, place: Place) -> str:
        value = as_text(node, place)
        if value not in allowed:
            raise place.error(f"is {value!r}", f"write {' or '.join(allowed)}")
        return value

    return convert


def matching(pattern: re.Pattern[str], hint: str) -> Convert:
    """A conversion that takes what fits the pattern."""

    def convert(node: yaml.Node, place: Place) -> str:
        value = as_text(node, place)
        if not pattern.fullmatch(value):
            raise place.error(f"is {value!r}", hint)
        return value

    return convert


def is_none(node: yaml.Node) -> bool:
    """Whether nothing stands there."""
    return isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null", "none")


def shown(node: yaml.Node) -> str:
    """The value as an error shows it."""
    return (
        repr(node.value)
        if isinstance(node, yaml.ScalarNode)
        else "a list"
        if isinstance(node, yaml.SequenceNode)
        else "a mapping"
    )
