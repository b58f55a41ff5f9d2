"""Settings with a grammar of their own: commands, knobs, slots, and where messages and branches go."""

from __future__ import annotations

import difflib
import re
import shlex

import yaml

from lab.knobs import HINT, Knob, choices_of, knob_of, range_of
from lab.values import (
    ENV_NAME,
    METRIC_NAME,
    Place,
    as_list,
    as_number,
    as_switch,
    as_text,
    is_none,
    matching,
    shown,
)  # fmt: skip

GOALS = {"min": "min", "lower": "min", "minimize": "min", "max": "max", "higher": "max", "maximize": "max"}
# A metric of the training data, which shows no gain: train_loss, loss/train. (training_seconds is none.)
TRAIN_METRIC = re.compile(r"(?:^|[_./-])train(?:[_./-]|$)")
# What a confirmation may not change: it would no longer be the same measurement.
NOT_TO_CONFIRM_WITH = {"PATH", "HOME", "AUTORESEARCH_BUDGET", "AUTORESEARCH_RUN", "AUTORESEARCH_RUN_DIR"}
SHELL_SIGNS = re.compile(r"[|&;<>`]|\$\(")
# Where a message goes: an apprise URL with ${NAME} for what is secret, or file:PATH of a list of such URLs.
FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SCHEME = re.compile(r"([a-z][a-z0-9]{0,30})://")
# The address alone is no key to anything: these may stand in a file that is committed.
OPEN_SCHEMES = {"json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys", "mailto", "mailtos", "dbus",
                "glib", "kde", "gnome", "macosx", "windows", "syslog"}  # fmt: skip
PASSWORD = re.compile(r"://[^/@]*:(?!\$\{)[^/@]+@|[?&](?:pass|password|token|key|secret)=(?!\$\{)", re.I)
DEVICES = re.compile(r"[\w:.-]+(?:,[\w:.-]+)*")  # GPUs by number or id, several together with commas
MOST_SLOTS = 256
REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def as_environment(node: yaml.Node, place: Place) -> tuple[tuple[str, str], ...]:
    """The variables that make the program score its held-out split."""
    if is_none(node):
        return ()
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"is {shown(node)}", 'write {NAME: "value"}')
    pairs = [(as_text(key, place), as_text(value, place)) for key, value in node.value]
    for name, _ in pairs:
        if not ENV_NAME.fullmatch(name) or name in NOT_TO_CONFIRM_WITH:
            raise place.error(
                f"sets {name!r}", "name the variable that makes your program score its held-out split"
            )
    return tuple(pairs)


def as_held_out(node: yaml.Node, place: Place) -> str | None:
    """The name of a held-out metric."""
    name = None if is_none(node) else matching(METRIC_NAME, "write a name the program prints")(node, place)
    if name and TRAIN_METRIC.search(str(name)):
        raise place.error(
            f"is {name!r}", "a number from the training data confirms nothing: name a held-out one"
        )
    return None if name is None else str(name)


def as_goal(node: yaml.Node, place: Place) -> str:
    """min or max, by whatever name."""
    value = as_text(node, place)
    if value not in GOALS:
        close = difflib.get_close_matches(value, GOALS, 1)
        hint = f"did you mean {close[0]}? Write min or max" if close else "write min or max"
        raise place.error(f"is {value!r}", hint)
    return GOALS[value]


def as_command(node: yaml.Node, place: Place) -> str:
    """A command line that needs no shell."""
    value = as_text(node, place)
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise place.error(f"cannot be split into words ({error})", "close every quote") from error
    if any(SHELL_SIGNS.search(word) for word in words) and words[0] not in ("bash", "sh"):
        raise place.error(f"is {value!r}, which needs a shell", f"write: bash -c {shlex.quote(value)}")
    return value


def as_pattern(node: yaml.Node, place: Place) -> str | None:
    """A regular expression with one group."""
    if is_none(node):
        return None
    try:
        groups = re.compile(as_text(node, place)).groups
    except re.error as error:
        raise place.error(f"is not a regular expression ({error})", "mend it") from error
    if groups != 1:
        raise place.error(f"has {groups} groups", "put one ( ) around the number")
    return as_text(node, place)


def as_slots(node: yaml.Node, place: Place) -> int | tuple[str, ...] | None:
    """auto, how many, or which devices."""
    if isinstance(node, yaml.SequenceNode) and node.value:
        devices = tuple("".join(as_text(item, place).split()) for item in node.value)
        if not all(DEVICES.fullmatch(device) for device in devices):
            raise place.error(
                f"is [{', '.join(devices)}]", "write GPUs: [0, 1], [GPU-5d5b] or ['0,1', '2,3']"
            )
        return devices
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    if isinstance(node, yaml.ScalarNode) and node.value.isdigit() and 1 <= int(node.value) <= MOST_SLOTS:
        return int(node.value)
    raise place.error(f"is {shown(node)}", f"write auto, 1 to {MOST_SLOTS}, or a list of GPUs: [0, 1]")


def as_preflight(node: yaml.Node, place: Place) -> str | None:
    """on, off, or the arguments that make the command end after a step."""
    text = as_text(node, place)
    if text in ("on", "true", "yes", "off", "false", "no"):
        return "" if text in ("on", "true", "yes") else None
    try:
        shlex.split(text)
    except ValueError as error:
        raise place.error(f"cannot be split into words ({error})", "close every quote") from error
    return text


def as_places(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Where messages go. No error repeats a value: it may be a password that stands where it should not."""
    found = as_list(node, place)
    for number, text in enumerate(found, 1):
        name = place.key if len(found) == 1 else f"{place.key}, item {number},"
        spot = Place(place.file, place.line, name)
        if text.startswith("file:") and len(text) > 5:
            continue
        scheme = SCHEME.match(text)
        secret = FROM_ENVIRONMENT.search(text)
        if not scheme and not (secret and secret.start() == 0):
            raise spot.error("is no address", "write an apprise URL, ${NAME} or file:PATH")
        if PASSWORD.search(text) or (scheme and scheme[1] not in OPEN_SCHEMES and not secret):
            raise spot.error(
                "holds a key, and this file may be committed",
                "write ${NAME} in its place and set that variable, or put the URL into a file only you can "
                "read: file:~/.config/autoresearch/notify",
            )
    return found


def as_remote(node: yaml.Node, place: Place) -> str | None:
    """The remote to push to; "" leaves it to git, None is no push."""
    value = "false" if is_none(node) else as_text(node, place)
    if value in ("true", "false"):
        return "" if value == "true" else None
    if not REMOTE.fullmatch(value) or ".." in value:
        raise place.error("is no name of a remote", "write true, false, or a name that `git remote` lists")
    return value


def as_knobs(node: yaml.Node, place: Place) -> tuple[Knob, ...]:
    """NAME: 1e-4..1e-1 log, NAME: [1, 2, 4], or NAME: {low: 1e-4, high: 1e-1, log: true}."""
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"is {shown(node)}", f"write {{LR: …}}: {HINT}")
    found = []
    for key, value in node.value:
        spot = Place(place.file, key.start_mark.line + 1, f"{place.key}.{key.value}")
        if not ENV_NAME.fullmatch(str(key.value)):
            raise spot.error("is no name of a constant", "write the name as it stands in the file: LR")
        try:
            found.append(_knob(str(key.value), value, spot))
        except ValueError as error:
            raise spot.error(str(error), HINT) from error
    return tuple(found)


def _knob(name: str, node: yaml.Node, place: Place) -> Knob:
    if isinstance(node, yaml.SequenceNode):
        return choices_of(name, as_list(node, place))
    if not isinstance(node, yaml.MappingNode):
        return knob_of(name, as_text(node, place))
    parts = {str(key.value): value for key, value in node.value}
    unknown = sorted(set(parts) - {"low", "high", "log", "choices"})
    if unknown or ("choices" not in parts and not {"low", "high"} <= set(parts)):
        raise place.error(f"has {unknown[0]!r}" if unknown else "lacks low or high", HINT)
    if "choices" in parts:
        return choices_of(name, as_list(parts["choices"], place))
    log = "log" in parts and as_switch(parts["log"], place)
    return range_of(name, as_number(parts["low"], place), as_number(parts["high"], place), log)
