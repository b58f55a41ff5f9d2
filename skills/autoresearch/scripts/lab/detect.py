"""What `init` can see for itself in a project folder: the script, the metric, the seed, what to protect."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import CONFIG, LabError
from lab.settings import Settings, kill_after_default
from lab.values import METRIC_NAME

SCRIPTS = ("train.py", "main.py", "run.py")
# A printed summary line in the source: print(f"val_bpb:   {x:.6f}") or "METRIC name={x}".
PRINTED = re.compile(r"""["'](?:METRIC )?([A-Za-z_][A-Za-z0-9_]*)\s*[:=]\s*(?:\{|%|["']\s*,)""")
LOWER = re.compile(
    r"loss|bpb|bpc|bits|entropy|ppl|perplex|error|err\b|rmse|mse|mae|nll|seconds|latency|runtime|wer|cer|fid"
)
HIGHER = re.compile(r"acc|f1|auc|score|reward|r2|map\b|bleu|rouge|iou|throughput|precision|recall|return")
HELD_OUT = re.compile(r"val|valid|test|eval|dev|heldout")
SCORE = re.compile(r"(?:val|valid|test|heldout)_")  # says that it is a score, whatever its name goes on with
COST = re.compile(r"seconds|latency|runtime")  # printed beside a score it is not what counts
FILE = re.compile(r"""["']([\w][\w./-]*\.\w{1,8})["']""")
QUOTED = re.compile(r"""["']((?:val|valid|test|eval)_[A-Za-z0-9_]+)["']""")
SEED_ENV = re.compile(r"""(?:get\w*\(|\[)\s*["']([A-Z0-9_]*SEED[A-Z0-9_]*)["']""")
IMPORTED = re.compile(r"^(?:from|import)\s+([A-Za-z_]\w*)", re.MULTILINE)
SEED_ARG = re.compile(r"""["'](--(?:random[-_])?seed)["']""")
TIME_BUDGET = re.compile(r"^TIME_BUDGET\s*=\s*(\d+(?:\.\d+)?)", re.MULTILINE)
SHARED = ("data", "datasets")
# A target that scores a second split only when told to; prepare.py of this repository is one.
HELDOUT_SWITCH = "AUTORESEARCH_HELDOUT"
# A target that leaves the score to another process when told to, and says which files to hide.
SEALED_SWITCH, SCORING, HIDING = "AUTORESEARCH_SEALED", "--score", "--hidden"
HELDOUT_METRIC = re.compile(r"""["'](heldout_[A-Za-z0-9_]+)["':]""")


@dataclass(frozen=True)
class Wishes:
    """What the caller of `init` said; None or () where nothing was said."""

    command: str | None = None
    metric: str | None = None
    goal: str | None = None
    edit: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    seconds: float | None = None
    max_experiments: int | None = None
    max_hours: float | None = None
    mode: str | None = None
    slots: int | None = None


def detect(root: Path, wishes: Wishes, ignored: set[str], committed: set[str]) -> Settings:
    """Fill what `wishes` leaves open from the files in `root`; say which flag is missing otherwise.

    `ignored` holds the names of git-ignored entries of `root`: those a run only sees when shared.
    `committed` holds the paths, relative to `root`, that may be protected.
    """
    named = next((name for name in wishes.edit if (root / name).suffix == ".py"), None)
    script = named or ("" if wishes.command and wishes.edit else _script(root, wishes.command))
    edit = wishes.edit or (script,)
    protect = wishes.protect or _fixed(root, script, edit, committed)
    text = "\n".join(_source(root / name) for name in dict.fromkeys((script, *edit, *protect)))
    metric = wishes.metric or _metric(text)
    if not METRIC_NAME.fullmatch(metric):
        raise LabError(f"--metric is {metric!r}", "write the name as the program prints it: val_loss", CONFIG)
    seconds = wishes.seconds or _budget(text)
    uses_uv = (root / "uv.lock").exists() and shutil.which("uv") is not None
    command = wishes.command or (f"uv run {script}" if uses_uv else f"python {script}")
    share = wishes.share or tuple(name for name in SHARED if name in ignored)
    if uses_uv and ".venv" in ignored and not wishes.share:
        share += (".venv",)
    env, arg = SEED_ENV.search(text), SEED_ARG.search(text)
    heldout = HELDOUT_METRIC.search(text) if HELDOUT_SWITCH in text else None
    return Settings(
        command=command,
        metric=metric,
        goal=wishes.goal or _goal(metric),
        seconds=seconds,
        kill_after=kill_after_default(seconds),
        max_experiments=wishes.max_experiments,
        max_hours=wishes.max_hours,
        edit=edit,
        protect=protect,
        share=share,
        seed_env=env.group(1) if env else None,
        seed_arg=arg.group(1) if arg and not env else None,
        confirm_env=((HELDOUT_SWITCH, "1"),) if heldout else (),
        confirm_metric=heldout.group(1) if heldout else None,
        **_sealed(root, script, protect, command),
    )


def _sealed(root: Path, script: str, protect: tuple[str, ...], command: str) -> dict[str, Any]:
    """The evaluation of a target whose protected half can score an export, started as the training is."""
    words = [word for word in command.split() if "=" not in word]
    start = " ".join(words[: words.index(script)]) if script in words else ""
    for name in protect:
        text = _source(root / name)
        if start and all(word in text for word in (SEALED_SWITCH, SCORING, HIDING)):
            return {
                "evaluate": f"{start} {name} {SCORING} {{export}}",
                "evaluate_hidden": f"{start} {name} {HIDING}",
                "evaluate_level": "L2",
            }
    return {}


def _script(root: Path, command: str | None) -> str:
    words = [word for word in (command or "").split() if not Path(word).is_absolute()]
    named = [word for word in words if (root / word).is_file()]
    if named:
        return named[0]
    for name in SCRIPTS:
        if (root / name).exists():
            return name
    scripts = sorted(path.name for path in root.glob("*.py") if path.name != "prepare.py")
    if len(scripts) == 1:
        return scripts[0]
    seen = f"found {', '.join(scripts[:6])}" if scripts else "found no Python file"
    raise LabError(
        f"cannot tell which script trains ({seen})", "say --command 'python FILE.py' --edit FILE.py", CONFIG
    )


def _imported(root: Path, script: str, edit: tuple[str, ...]) -> tuple[str, ...]:
    """The project's own modules that the script imports and a candidate may not change, and prepare.py."""
    modules = dict.fromkeys(["prepare", *IMPORTED.findall(_source(root / script))])
    found = [f"{name}.py" for name in modules if (root / f"{name}.py").is_file()]
    return tuple(name for name in found if name not in edit and name != script)


def _fixed(root: Path, script: str, edit: tuple[str, ...], committed: set[str]) -> tuple[str, ...]:
    """What the script imports from the project, and the committed files these modules name: their data."""
    modules = _imported(root, script, edit)
    named = {name for module in modules for name in FILE.findall(_source(root / module))}
    data = sorted(name for name in named & committed if name not in (*modules, *edit, script))
    return (*modules, *(name for name in data if Path(name).suffix != ".py"))


def _metric(text: str) -> str:
    names = [str(name) for name in dict.fromkeys([*PRINTED.findall(text), *QUOTED.findall(text)])]
    scored = [n for n in names if LOWER.search(n.lower()) or HIGHER.search(n.lower())]
    held_out = [n for n in scored if HELD_OUT.search(n.lower()) and not COST.search(n.lower())]
    choice = held_out or [n for n in names if SCORE.match(n.lower()) and not COST.search(n.lower())] or scored
    if len(choice) == 1 or (choice and choice[0] == "val_bpb"):
        return choice[0]
    seen = (
        f"the code prints {', '.join((choice or names)[:8])}"
        if names
        else "the code prints no `name: value` line"
    )
    raise LabError(f"cannot tell which number counts ({seen})", "say --metric NAME --goal min|max", CONFIG)


def _goal(metric: str) -> str:
    low, high = LOWER.search(metric.lower()), HIGHER.search(metric.lower())
    if bool(low) == bool(high):
        raise LabError(
            f"cannot tell whether {metric} should fall or rise", "say --goal min or --goal max", CONFIG
        )
    return "min" if low else "max"


def _budget(text: str) -> float:
    found = TIME_BUDGET.search(text)
    return float(found.group(1)) if found else Settings.seconds


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
