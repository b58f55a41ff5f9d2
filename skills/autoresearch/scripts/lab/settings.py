"""autoresearch.yaml: read with the line of every value, checked against one table, and written by `init`.

Every scalar is read as the text that stands in the file and converted by the table, so that YAML's own
guesses (`no` is false, `3e-4` is text, `12e4567` is a number) never reach a setting.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.cluster import KINDS, Cluster, misplaced
from lab.errors import CONFIG, LabError
from lab.knobs import HINT, Knob, choices_of, knob_of, range_of

FILE_NAME = "autoresearch.yaml"
EARLY_STOPS = ("off", "divergence", "hopeless")  # as in early.MODES
SANDBOXES = ("landlock", "bubblewrap", "seatbelt", "uid")  # as in sandbox.box.MEANS
TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,63}")
FUNCTION = re.compile(r"[\w./-]+\.py:[A-Za-z_]\w*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
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
ADDRESS = re.compile(r"https?://[^\s/@]+(?:/[^\s@?#]*)?")  # of an engine; a key does not belong into it
DEVICES = re.compile(r"[\w:.-]+(?:,[\w:.-]+)*")  # GPUs by number or id, several together with commas
MOST_SLOTS = 256
REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Settings:
    """Everything autoresearch.yaml says, with defaults filled in. Times are in seconds."""

    command: str
    metric: str
    goal: str  # min or max
    take: str = "only"  # only: a metric printed twice with different values is a crash; last: the last counts
    pattern: str | None = None
    seconds: float = 300.0
    kill_after: float = 600.0
    max_experiments: int | None = None
    max_hours: float | None = None
    edit: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    seed_env: str | None = None
    seed_arg: str | None = None
    confidence: float = 0.95
    min_effect: float | None = None
    max_runs: int | None = None
    decision_mode: str = "balanced"
    price: float | None = None
    throughput: float | None = None  # how much less work a repeat may do than its siblings; None: measured
    confirm_env: tuple[tuple[str, str], ...] = ()  # what makes the program score a split the loop never sees
    confirm_metric: str | None = None  # and the metric it then prints
    evaluate: str | None = None  # the command that works out the metric from what a run exported
    evaluate_level: str = "L1"  # L2: it says that it shuts the model's code in
    evaluate_hidden: str | None = None  # a command that prints the files a training may not read
    evaluate_hide: tuple[str, ...] = ()  # such files of the project
    sandbox: str = "auto"  # auto: the best there is; required: no run without one; off
    sandbox_kind: str = "auto"  # or the one means that is to be used: a row of sandbox.box.MEANS
    sandbox_write: tuple[str, ...] = ()  # folders a run may write beside its own and the usual caches
    sandbox_read: tuple[str, ...] = ()  # files it may read although they look like keys
    sandbox_env: tuple[str, ...] = ()  # variables it sees beside the usual ones
    sandbox_disk_gb: float = 200.0  # of a run's own folders, and of one file
    network: bool = False
    runner: str = "local"
    slots: int | tuple[str, ...] | None = None  # places for runs: a number, GPUs, or None for all there are
    preflight: str | None = None  # arguments for a short start before a candidate's first run
    when_busy: str = "run"  # wait: for other programs to leave a GPU
    cluster: Cluster = Cluster()  # where the runs of an engine go, and what they ask for
    early_stop: str = "divergence"  # off, or hopeless: ends runs far behind the incumbent's as well
    knobs: tuple[Knob, ...] = ()  # constants of the edited files that `sweep` may turn
    mode: str = "autonomous"
    inbox: str | None = None  # a folder in which a person drops results; taken in at the next call
    ideas_inbox: str | None = None
    probe_model: str | None = None  # file.py:function: the model for `health` and `verify-metric`
    notify: tuple[str, ...] = ()
    digest_experiments: int | None = 40  # a digest after so many verdicts ...
    digest_hours: float | None = 8.0  # ... or so many hours, whichever comes first
    push: str | None = None  # the remote the campaign branch goes to; "" leaves the choice to git's settings

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The variables that `notify:` takes keys from; no run sees them."""
        return tuple(name for place in self.notify for name in FROM_ENVIRONMENT.findall(place))

    @property
    def secret_files(self) -> tuple[str, ...]:
        """The lists of addresses that `notify:` names; no run may read them."""
        return tuple(place.removeprefix("file:") for place in self.notify if place.startswith("file:"))

    @property
    def aim(self) -> str:
        """The metric and its direction in words."""
        return f"{self.metric} ({'lower' if self.goal == 'min' else 'higher'} is better)"

    @property
    def seeded(self) -> bool:
        """Whether the tool can choose a run's seed."""
        return bool(self.seed_env or self.seed_arg)

    @property
    def frozen(self) -> dict[str, object]:
        """What must stay the same for two results to be comparable."""
        return {
            "command": self.command,
            "metric": self.metric,
            "goal": self.goal,
            "take": self.take,
            "pattern": self.pattern,
            "seconds": self.seconds,
            "protect": list(self.protect),
            "seed_env": self.seed_env,
            "seed_arg": self.seed_arg,
            **({"evaluate": [self.evaluate, *self.evaluate_hide]} if self.evaluate else {}),
        }

    def argv(self) -> tuple[dict[str, str], list[str]]:
        """Split `command` into leading NAME=value settings and the program with its arguments."""
        words = shlex.split(self.command)
        env: dict[str, str] = {}
        while words and re.match(r"[A-Za-z_][A-Za-z0-9_]*=", words[0]):
            name, value = words.pop(0).split("=", 1)
            env[name] = value
        return env, words


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


def _text(node: yaml.Node, place: Place) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise place.error(f"is {_shown(node)}", "write one line of text")
    return str(node.value)


def _optional_text(node: yaml.Node, place: Place) -> str | None:
    return None if _is_none(node) else _text(node, place)


def _note(node: yaml.Node, place: Place) -> str | None:
    path = _optional_text(node, place)
    if path and not path.isprintable():
        raise place.error(f"is {path!r}", "write the path of a Markdown file")
    return path


def _folder(node: yaml.Node, place: Place) -> str | None:
    path = _optional_text(node, place)
    if path and (not path.isprintable() or path.rstrip("/") in (".", "")):
        raise place.error(f"is {path!r}", "write a folder of its own: inbox: results-in")
    return path


def _seconds(node: yaml.Node, place: Place) -> float:
    value = seconds_of(_text(node, place))
    if not value:
        raise place.error(f"is {_shown(node)}, not a time", "write seconds or 90s, 5m, 1h30m")
    return value


def _hours(node: yaml.Node, place: Place) -> float | None:
    return None if _is_none(node) else _number(node, place)


def _number(node: yaml.Node, place: Place) -> float:
    try:
        value = float(_text(node, place))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in _text(node, place):
        raise place.error(f"is {_shown(node)}, not a number", "write a number such as 0.001 or 3e-4")
    return value


def _auto_number(node: yaml.Node, place: Place) -> float | None:
    return None if isinstance(node, yaml.ScalarNode) and node.value == "auto" else _number(node, place)


def _count(node: yaml.Node, place: Place) -> int | None:
    if _is_none(node):
        return None
    value = _number(node, place)
    if value != int(value) or value < 1:
        raise place.error(f"is {_shown(node)}", "write a whole number, at least 1")
    return int(value)


def _confidence(node: yaml.Node, place: Place) -> float:
    value = _number(node, place)
    if not 0.5 <= value < 1:
        raise place.error(f"is {_shown(node)}", "write a share between 0.5 and 0.999, such as 0.95")
    return value


def _share(node: yaml.Node, place: Place) -> float | None:
    if isinstance(node, yaml.ScalarNode) and node.value in ("auto", "off"):
        return None if node.value == "auto" else 0.0
    value = _number(node, place)
    if not 0 < value < 1:
        raise place.error(f"is {_shown(node)}", "write auto, off, or a share such as 0.05")
    return value


def _runs(node: yaml.Node, place: Place) -> int | None:
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    value = _count(node, place)
    if value is None or value > 20:
        raise place.error(f"is {_shown(node)}", "write auto, or a whole number from 1 to 20")
    return value


def _list(node: yaml.Node, place: Place) -> tuple[str, ...]:
    if _is_none(node):
        return ()
    if isinstance(node, yaml.ScalarNode):
        return (_text(node, place),)
    if not isinstance(node, yaml.SequenceNode):
        raise place.error(f"is {_shown(node)}", "write a list such as [train.py]")
    return tuple(_text(item, place) for item in node.value)


def _paths(node: yaml.Node, place: Place) -> tuple[str, ...]:
    paths = _list(node, place)
    for path in paths:
        if path.startswith(("/", "~", ":")) or ".." in Path(path).parts or "\0" in path:
            raise place.error(f"names {path!r}", "write paths inside the project, relative to this file")
    return tuple(path.removeprefix("./").rstrip("/") or "." for path in paths)


def _anywhere(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Paths that may lie outside the project."""
    paths = _list(node, place)
    for path in paths:
        if "\0" in path or not path.strip("/"):
            raise place.error(f"names {path!r}", "write folders such as [/mnt/scratch, checkpoints]")
    return paths


def _names(node: yaml.Node, place: Place) -> tuple[str, ...]:
    names = _list(node, place)
    for name in names:
        if not ENV_NAME.fullmatch(name):
            raise place.error(f"names {name!r}", "write names of environment variables: [DATA_DIR]")
    return names


def _switch(node: yaml.Node, place: Place) -> bool:
    value = _text(node, place).lower()
    if value not in ("true", "false", "yes", "no", "on", "off"):
        raise place.error(f"is {_shown(node)}", "write true or false")
    return value in ("true", "yes", "on")


def _gigabytes(node: yaml.Node, place: Place) -> float:
    value = _number(node, place)
    if value <= 0:
        raise place.error(f"is {_shown(node)}", "write gigabytes, more than 0")
    return value


def _environment(node: yaml.Node, place: Place) -> tuple[tuple[str, str], ...]:
    if _is_none(node):
        return ()
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"is {_shown(node)}", 'write {NAME: "value"}')
    pairs = [(_text(key, place), _text(value, place)) for key, value in node.value]
    for name, _ in pairs:
        if not ENV_NAME.fullmatch(name) or name in NOT_TO_CONFIRM_WITH:
            raise place.error(
                f"sets {name!r}", "name the variable that makes your program score its held-out split"
            )
    return tuple(pairs)


def _held_out(node: yaml.Node, place: Place) -> str | None:
    name = None if _is_none(node) else _matching(METRIC_NAME, "write a name the program prints")(node, place)
    if name and TRAIN_METRIC.search(str(name)):
        raise place.error(
            f"is {name!r}", "a number from the training data confirms nothing: name a held-out one"
        )
    return None if name is None else str(name)


def _goal(node: yaml.Node, place: Place) -> str:
    value = _text(node, place)
    if value not in GOALS:
        close = difflib.get_close_matches(value, GOALS, 1)
        hint = f"did you mean {close[0]}? Write min or max" if close else "write min or max"
        raise place.error(f"is {value!r}", hint)
    return GOALS[value]


def _one_of(*allowed: str) -> Convert:
    def convert(node: yaml.Node, place: Place) -> str:
        value = _text(node, place)
        if value not in allowed:
            raise place.error(f"is {value!r}", f"write {' or '.join(allowed)}")
        return value

    return convert


def _matching(pattern: re.Pattern[str], hint: str) -> Convert:
    def convert(node: yaml.Node, place: Place) -> str:
        value = _text(node, place)
        if not pattern.fullmatch(value):
            raise place.error(f"is {value!r}", hint)
        return value

    return convert


def _command(node: yaml.Node, place: Place) -> str:
    value = _text(node, place)
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise place.error(f"cannot be split into words ({error})", "close every quote") from error
    if any(SHELL_SIGNS.search(word) for word in words) and words[0] not in ("bash", "sh"):
        raise place.error(f"is {value!r}, which needs a shell", f"write: bash -c {shlex.quote(value)}")
    return value


def _pattern(node: yaml.Node, place: Place) -> str | None:
    if _is_none(node):
        return None
    try:
        groups = re.compile(_text(node, place)).groups
    except re.error as error:
        raise place.error(f"is not a regular expression ({error})", "mend it") from error
    if groups != 1:
        raise place.error(f"has {groups} groups", "put one ( ) around the number")
    return _text(node, place)


def _slots(node: yaml.Node, place: Place) -> int | tuple[str, ...] | None:
    """auto, how many, or which devices."""
    if isinstance(node, yaml.SequenceNode) and node.value:
        devices = tuple("".join(_text(item, place).split()) for item in node.value)
        if not all(DEVICES.fullmatch(device) for device in devices):
            raise place.error(
                f"is [{', '.join(devices)}]", "write GPUs: [0, 1], [GPU-5d5b] or ['0,1', '2,3']"
            )
        return devices
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    if isinstance(node, yaml.ScalarNode) and node.value.isdigit() and 1 <= int(node.value) <= MOST_SLOTS:
        return int(node.value)
    raise place.error(f"is {_shown(node)}", f"write auto, 1 to {MOST_SLOTS}, or a list of GPUs: [0, 1]")


def _preflight(node: yaml.Node, place: Place) -> str | None:
    """on, off, or the arguments that make the command end after a step."""
    text = _text(node, place)
    if text in ("on", "true", "yes", "off", "false", "no"):
        return "" if text in ("on", "true", "yes") else None
    try:
        shlex.split(text)
    except ValueError as error:
        raise place.error(f"cannot be split into words ({error})", "close every quote") from error
    return text


def _places(node: yaml.Node, place: Place) -> tuple[str, ...]:
    """Where messages go. No error repeats a value: it may be a password that stands where it should not."""
    found = _list(node, place)
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


def _remote(node: yaml.Node, place: Place) -> str | None:
    value = "false" if _is_none(node) else _text(node, place)
    if value in ("true", "false"):
        return "" if value == "true" else None
    if not REMOTE.fullmatch(value) or ".." in value:
        raise place.error("is no name of a remote", "write true, false, or a name that `git remote` lists")
    return value


def _knobs(node: yaml.Node, place: Place) -> tuple[Knob, ...]:
    """NAME: 1e-4..1e-1 log, NAME: [1, 2, 4], or NAME: {low: 1e-4, high: 1e-1, log: true}."""
    if not isinstance(node, yaml.MappingNode):
        raise place.error(f"is {_shown(node)}", f"write {{LR: …}}: {HINT}")
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
        return choices_of(name, _list(node, place))
    if not isinstance(node, yaml.MappingNode):
        return knob_of(name, _text(node, place))
    parts = {str(key.value): value for key, value in node.value}
    unknown = sorted(set(parts) - {"low", "high", "log", "choices"})
    if unknown or ("choices" not in parts and not {"low", "high"} <= set(parts)):
        raise place.error(f"has {unknown[0]!r}" if unknown else "lacks low or high", HINT)
    if "choices" in parts:
        return choices_of(name, _list(parts["choices"], place))
    log = "log" in parts and _switch(parts["log"], place)
    return range_of(name, _number(parts["low"], place), _number(parts["high"], place), log)


def _is_none(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value in ("", "~", "null", "none")


def _shown(node: yaml.Node) -> str:
    return (
        repr(node.value)
        if isinstance(node, yaml.ScalarNode)
        else "a list"
        if isinstance(node, yaml.SequenceNode)
        else "a mapping"
    )


# Every key of the file: its place there, the field it fills (or None: only checked), its conversion.
TABLE: dict[str, tuple[str | None, Convert]] = {
    "command": ("command", _command),
    "metric.name": ("metric", _matching(METRIC_NAME, "write the name as the program prints it: val_loss")),
    "metric.goal": ("goal", _goal),
    "metric.take": ("take", _one_of("only", "last")),
    "metric.pattern": ("pattern", _pattern),
    "budget.seconds": ("seconds", _seconds),
    "budget.kill_after": ("kill_after", _seconds),
    "budget.experiments": ("max_experiments", _count),
    "budget.hours": ("max_hours", _hours),
    "edit": ("edit", _paths),
    "protect": ("protect", _paths),
    "share": ("share", _paths),
    "seed.env": ("seed_env", _matching(ENV_NAME, "write the name of an environment variable: SEED")),
    "seed.arg": ("seed_arg", _text),
    "decision.method": (None, _one_of("paired")),
    "decision.confidence": ("confidence", _confidence),
    "decision.min_effect": ("min_effect", _auto_number),
    "decision.max_runs": ("max_runs", _runs),
    "decision.mode": ("decision_mode", _one_of("fast", "balanced", "strict", "seed-table")),
    "decision.price": ("price", _auto_number),
    "decision.throughput": ("throughput", _share),
    "confirm.env": ("confirm_env", _environment),
    "confirm.metric": ("confirm_metric", _held_out),
    "evaluate": ("evaluate", _command),  # the short form of the next line
    "evaluate.command": ("evaluate", _command),
    "evaluate.level": ("evaluate_level", _one_of("L1", "L2")),
    "evaluate.hidden": ("evaluate_hidden", _command),
    "evaluate.hide": ("evaluate_hide", _paths),
    "sandbox": ("sandbox", _one_of("auto", "required", "off")),
    "sandbox.mode": ("sandbox", _one_of("auto", "required", "off")),
    "sandbox.kind": ("sandbox_kind", _one_of("auto", *SANDBOXES)),
    "sandbox.write": ("sandbox_write", _anywhere),
    "sandbox.read": ("sandbox_read", _anywhere),
    "sandbox.env": ("sandbox_env", _names),
    "sandbox.disk_gb": ("sandbox_disk_gb", _gigabytes),
    "network": ("network", _switch),
    "runner.kind": ("runner", _one_of(*KINDS)),
    "runner.partition": ("cluster.partition", _text),
    "runner.account": ("cluster.account", _text),
    "runner.gres": ("cluster.gres", _text),
    "runner.gpus": ("cluster.gpus", _count),
    "runner.cpus": ("cluster.cpus", _count),
    "runner.python": ("cluster.python", _text),
    "runner.extra": ("cluster.extra", _list),
    "runner.address": ("cluster.address", _matching(ADDRESS, "write http:// or https://, host and port")),
    "runner.slots": ("slots", _slots),
    "runner.preflight": ("preflight", _preflight),
    "runner.when_busy": ("when_busy", _one_of("run", "wait")),
    "early_stop": ("early_stop", _one_of(*EARLY_STOPS)),
    "sweep.knobs": ("knobs", _knobs),
    "mode": ("mode", _one_of("autonomous", "collaborative")),
    "inbox": ("inbox", _folder),
    "ideas.inbox": ("ideas_inbox", _note),
    "probe.model": ("probe_model", _matching(FUNCTION, "write file.py:function")),
    "notify": ("notify", _places),
    "notify.to": ("notify", _places),
    "notify.experiments": ("digest_experiments", _count),
    "notify.hours": ("digest_hours", _hours),
    "push": ("push", _remote),
}
SECTIONS = {key.split(".")[0] for key in TABLE if "." in key}
REQUIRED = ("command", "metric.name", "metric.goal", "edit")


def kill_after_default(seconds: float) -> float:
    """When the supervisor ends a run that has no `kill_after`: twice the budget, but two minutes of slack."""
    return max(2 * seconds, seconds + 120)


def load(path: Path) -> Settings:
    """Read and check the file; every fault names file, line, value and the way out (exit code 3)."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise LabError(f"{path} is not there", "run `init --tag TAG` first") from None
    except yaml.YAMLError as error:
        raise LabError(
            f"{path.name} is not YAML: {_yaml_problem(error)}", "mend that line", CONFIG
        ) from error
    except (UnicodeDecodeError, OSError) as error:
        raise LabError(f"{path.name} cannot be read: {error}", "save it as UTF-8 text", CONFIG) from error
    if not isinstance(root, yaml.MappingNode):
        raise LabError(f"{path.name} holds no settings", "run `init`, or write `command: ...`", CONFIG)
    found: dict[str, object] = {}
    _walk(root, "", path.name, found)
    missing = [key for key in REQUIRED if TABLE[key][0] not in found]
    if missing:
        raise LabError(f"{path.name} lacks {', '.join(missing)}", "add it, or run `init`", CONFIG)
    seconds = float(str(found.setdefault("seconds", Settings.seconds)))
    found.setdefault("kill_after", kill_after_default(seconds))
    if float(str(found["kill_after"])) < seconds:
        raise LabError(
            f"{path.name}: budget.kill_after ({found['kill_after']:g} s) is below seconds ({seconds:g} s)",
            "give a run time for its own budget, start-up and evaluation",
            CONFIG,
        )
    if found.get("seed_env") and found.get("seed_arg"):
        raise LabError(f"{path.name}: seed has both env and arg", "leave one", CONFIG)
    found["cluster"] = _cluster(found, path.name)
    return Settings(**found)  # type: ignore[arg-type]


def _cluster(found: dict[str, object], file: str) -> Cluster:
    """Take the engine's keys out of `found`; one that the kind does not know is an error."""
    named = [name for name in found if name.startswith("cluster.")]
    values = {name.removeprefix("cluster."): found.pop(name) for name in named}
    kind = str(found.get("runner", Settings.runner))
    wrong = misplaced(kind, list(values))
    if wrong:
        raise LabError(f"{file}: runner.{wrong[0]} means nothing to kind {kind}", wrong[1], CONFIG)
    return Cluster(**values)  # type: ignore[arg-type]


def _walk(node: yaml.MappingNode, prefix: str, file: str, found: dict[str, object]) -> None:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        place = Place(file, key_node.start_mark.line + 1, key)
        if key in seen:
            raise place.error("stands twice", "leave one")
        seen.add(key)
        if key in SECTIONS and (key not in TABLE or isinstance(value_node, yaml.MappingNode)):
            if isinstance(value_node, yaml.MappingNode):
                _walk(value_node, f"{key}.", file, found)
            elif not _is_none(value_node):
                names = ", ".join(k.split(".")[1] for k in TABLE if k.startswith(f"{key}."))
                raise place.error(f"is {_shown(value_node)}", f"write {key}: {{...}} with {names}")
        elif key in TABLE:
            field, convert = TABLE[key]
            value = convert(value_node, place)
            if field:
                found[field] = value
        else:
            raise _unknown(place, prefix)


def _unknown(place: Place, prefix: str) -> LabError:
    allowed = [k for k in (*TABLE, *SECTIONS) if k.startswith(prefix)]
    allowed = sorted({k[len(prefix) :].split(".")[0] for k in allowed})
    close = difflib.get_close_matches(place.key[len(prefix) :], allowed, 1)
    hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(allowed)}"
    return place.error("is not a setting", hint)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem


def render(settings: Settings) -> str:
    """Write `settings` as the text of autoresearch.yaml, one comment per key that is not plain."""

    def flow(value: object) -> str:
        text = yaml.safe_dump(
            value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
        )
        return text.removesuffix("...\n").strip()

    def number(value: float) -> str:
        return f"{value:g}" if value < 1e6 else str(int(value))

    metric = {"name": settings.metric, "goal": settings.goal}
    if settings.take != "only":
        metric["take"] = settings.take
    if settings.pattern:
        metric["pattern"] = settings.pattern
    budget = f"seconds: {number(settings.seconds)}, kill_after: {number(settings.kill_after)}"
    if settings.max_experiments:
        budget += f", experiments: {settings.max_experiments}"
    if settings.max_hours:
        budget += f", hours: {number(settings.max_hours)}"
    seed = "none"
    if settings.seed_env:
        seed = flow({"env": settings.seed_env})
    elif settings.seed_arg:
        seed = flow({"arg": settings.seed_arg})
    effect = "auto" if settings.min_effect is None else number(settings.min_effect)
    price = "" if settings.price is None else f", price: {number(settings.price)}"
    lines = [
        (f"command: {flow(settings.command)}", "runs in an export of the candidate commit"),
        (f"metric: {flow(metric)}", "as the program prints it: `name: value`"),
        (f"budget: {{{budget}}}", "the program's own budget; when the supervisor ends it"),
        (f"edit: {flow(list(settings.edit))}", "what a candidate may change"),
        (f"protect: {flow(list(settings.protect))}", "hash-checked before and after every run"),
        (f"share: {flow(list(settings.share))}", "git-ignored paths a run sees by link"),
        (f"seed: {seed}", "env: VARIABLE or arg: --option sets it; none: repeats measure run noise only"),
        (
            f"decision: {{method: paired, confidence: {settings.confidence:g}, min_effect: {effect}, "
            f"max_runs: {settings.max_runs or 'auto'}, mode: {settings.decision_mode}{price}}}",
            "min_effect: the smallest gain that counts; mode: fast, balanced, strict or seed-table",
        ),
        *_confirm_line(settings, flow),
        *_evaluate_line(settings, flow),
        *_sandbox_lines(settings, flow),
        (f"runner: {flow(_runner(settings))}", ""),
        (f"mode: {settings.mode}", ""),
    ]
    return "".join(f"{text:<56}  # {why}\n" if why else f"{text}\n" for text, why in lines)


def _runner(settings: Settings) -> dict[str, object]:
    chosen = list(settings.slots) if isinstance(settings.slots, tuple) else settings.slots
    values = {"kind": settings.runner, "slots": chosen or "auto", **settings.cluster.as_settings()}
    if settings.preflight is not None:
        values["preflight"] = settings.preflight or "on"
    return values if settings.when_busy == "run" else {**values, "when_busy": settings.when_busy}


def _confirm_line(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    if not (settings.confirm_env or settings.confirm_metric):
        return []
    values: dict[str, object] = {}
    if settings.confirm_env:
        values["env"] = dict(settings.confirm_env)
    if settings.confirm_metric:
        values["metric"] = settings.confirm_metric
    return [(f"confirm: {flow(values)}", "the held-out split, which only `confirm` scores")]


def _evaluate_line(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    if not settings.evaluate:
        return []
    values: dict[str, object] = {"command": settings.evaluate, "level": settings.evaluate_level}
    if settings.evaluate_hidden:
        values["hidden"] = settings.evaluate_hidden
    if settings.evaluate_hide:
        values["hide"] = list(settings.evaluate_hide)
    return [(f"evaluate: {flow(values)}", "scores what a run exported, in a process of its own")]


def _sandbox_lines(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    """The keys that were changed: the defaults need no line."""
    values: dict[str, object] = {} if settings.sandbox == "auto" else {"mode": settings.sandbox}
    values |= {} if settings.sandbox_kind == "auto" else {"kind": settings.sandbox_kind}
    for name, paths in (
        ("write", settings.sandbox_write),
        ("read", settings.sandbox_read),
        ("env", settings.sandbox_env),
    ):
        if paths:
            values[name] = list(paths)
    if settings.sandbox_disk_gb != Settings.sandbox_disk_gb:
        values["disk_gb"] = settings.sandbox_disk_gb
    lines = [(f"sandbox: {flow(values)}", "what a run may do beyond its own folders")] if values else []
    return [*lines, *([("network: true", "runs may reach the internet")] if settings.network else [])]
