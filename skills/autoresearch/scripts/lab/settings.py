"""autoresearch.yaml: read with the line of every value and checked against one table.

Every scalar is read as the text that stands in the file and converted by the table, so that YAML's own
guesses (`no` is false, `3e-4` is text, `12e4567` is a number) never reach a setting.
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import grammars, values
from lab.cluster import KINDS, Cluster, misplaced
from lab.errors import CONFIG, LabError
from lab.grammars import FROM_ENVIRONMENT
from lab.knobs import Knob
from lab.values import ENV_NAME, METRIC_NAME

FILE_NAME = "autoresearch.yaml"
EARLY_STOPS = ("off", "divergence", "hopeless")  # as in early.MODES
SANDBOXES = ("landlock", "bubblewrap", "seatbelt", "uid")  # as in sandbox.box.MEANS
TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FUNCTION = re.compile(r"[\w./-]+\.py:[A-Za-z_]\w*")
ADDRESS = re.compile(r"https?://[^\s/@]+(?:/[^\s@?#]*)?")  # of an engine; a key does not belong into it


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


# Every key of the file: its place there, the field it fills (or None: only checked), its conversion.
TABLE: dict[str, tuple[str | None, values.Convert]] = {
    "command": ("command", grammars.as_command),
    "metric.name": (
        "metric",
        values.matching(METRIC_NAME, "write the name as the program prints it: val_loss"),
    ),
    "metric.goal": ("goal", grammars.as_goal),
    "metric.take": ("take", values.one_of("only", "last")),
    "metric.pattern": ("pattern", grammars.as_pattern),
    "budget.seconds": ("seconds", values.as_seconds),
    "budget.kill_after": ("kill_after", values.as_seconds),
    "budget.experiments": ("max_experiments", values.as_count),
    "budget.hours": ("max_hours", values.as_hours),
    "edit": ("edit", values.as_paths),
    "protect": ("protect", values.as_paths),
    "share": ("share", values.as_paths),
    "seed.env": ("seed_env", values.matching(ENV_NAME, "write the name of an environment variable: SEED")),
    "seed.arg": ("seed_arg", values.as_text),
    "decision.method": (None, values.one_of("paired")),
    "decision.confidence": ("confidence", values.as_confidence),
    "decision.min_effect": ("min_effect", values.as_auto_number),
    "decision.max_runs": ("max_runs", values.as_runs),
    "decision.mode": ("decision_mode", values.one_of("fast", "balanced", "strict", "seed-table")),
    "decision.price": ("price", values.as_auto_number),
    "decision.throughput": ("throughput", values.as_share),
    "confirm.env": ("confirm_env", grammars.as_environment),
    "confirm.metric": ("confirm_metric", grammars.as_held_out),
    "evaluate": ("evaluate", grammars.as_command),  # the short form of the next line
    "evaluate.command": ("evaluate", grammars.as_command),
    "evaluate.level": ("evaluate_level", values.one_of("L1", "L2")),
    "evaluate.hidden": ("evaluate_hidden", grammars.as_command),
    "evaluate.hide": ("evaluate_hide", values.as_paths),
    "sandbox": ("sandbox", values.one_of("auto", "required", "off")),
    "sandbox.mode": ("sandbox", values.one_of("auto", "required", "off")),
    "sandbox.kind": ("sandbox_kind", values.one_of("auto", *SANDBOXES)),
    "sandbox.write": ("sandbox_write", values.as_anywhere),
    "sandbox.read": ("sandbox_read", values.as_anywhere),
    "sandbox.env": ("sandbox_env", values.as_names),
    "sandbox.disk_gb": ("sandbox_disk_gb", values.as_gigabytes),
    "network": ("network", values.as_switch),
    "runner.kind": ("runner", values.one_of(*KINDS)),
    "runner.partition": ("cluster.partition", values.as_text),
    "runner.account": ("cluster.account", values.as_text),
    "runner.gres": ("cluster.gres", values.as_text),
    "runner.gpus": ("cluster.gpus", values.as_count),
    "runner.cpus": ("cluster.cpus", values.as_count),
    "runner.python": ("cluster.python", values.as_text),
    "runner.extra": ("cluster.extra", values.as_list),
    "runner.address": (
        "cluster.address",
        values.matching(ADDRESS, "write http:// or https://, host and port"),
    ),
    "runner.slots": ("slots", grammars.as_slots),
    "runner.preflight": ("preflight", grammars.as_preflight),
    "runner.when_busy": ("when_busy", values.one_of("run", "wait")),
    "early_stop": ("early_stop", values.one_of(*EARLY_STOPS)),
    "sweep.knobs": ("knobs", grammars.as_knobs),
    "mode": ("mode", values.one_of("autonomous", "collaborative")),
    "inbox": ("inbox", values.as_folder),
    "ideas.inbox": ("ideas_inbox", values.as_note),
    "probe.model": ("probe_model", values.matching(FUNCTION, "write file.py:function")),
    "notify": ("notify", grammars.as_places),
    "notify.to": ("notify", grammars.as_places),
    "notify.experiments": ("digest_experiments", values.as_count),
    "notify.hours": ("digest_hours", values.as_hours),
    "push": ("push", grammars.as_remote),
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
    given = {name.removeprefix("cluster."): found.pop(name) for name in named}
    kind = str(found.get("runner", Settings.runner))
    wrong = misplaced(kind, list(given))
    if wrong:
        raise LabError(f"{file}: runner.{wrong[0]} means nothing to kind {kind}", wrong[1], CONFIG)
    return Cluster(**given)  # type: ignore[arg-type]


def _walk(node: yaml.MappingNode, prefix: str, file: str, found: dict[str, object]) -> None:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        place = values.Place(file, key_node.start_mark.line + 1, key)
        if key in seen:
            raise place.error("stands twice", "leave one")
        seen.add(key)
        if key in SECTIONS and (key not in TABLE or isinstance(value_node, yaml.MappingNode)):
            if isinstance(value_node, yaml.MappingNode):
                _walk(value_node, f"{key}.", file, found)
            elif not values.is_none(value_node):
                names = ", ".join(k.split(".")[1] for k in TABLE if k.startswith(f"{key}."))
                raise place.error(f"is {values.shown(value_node)}", f"write {key}: {{...}} with {names}")
        elif key in TABLE:
            field, convert = TABLE[key]
            value = convert(value_node, place)
            if field:
                found[field] = value
        else:
            raise _unknown(place, prefix)


def _unknown(place: values.Place, prefix: str) -> LabError:
    allowed = [k for k in (*TABLE, *SECTIONS) if k.startswith(prefix)]
    allowed = sorted({k[len(prefix) :].split(".")[0] for k in allowed})
    close = difflib.get_close_matches(place.key[len(prefix) :], allowed, 1)
    hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(allowed)}"
    return place.error("is not a setting", hint)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem
