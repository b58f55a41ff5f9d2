"""The morning page of one project: its inputs read from journal, git and run folders, its files written."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import ideas, memory
from lab.account import account
from lab.agenda import ordered
from lab.atomic import write_atomic
from lab.campaign import Lab, measured_noise
from lab.errors import LabError
from lab.live.readings import read_curve
from lab.marks import DEFERRED, OUT_OF_SCOPE, QUEUED, TESTED
from lab.model import Run, now
from lab.redact import one_line
from lab.report.material import Beside, Curve, Material, Note
from lab.report.story import Story

if TYPE_CHECKING:
    from lab.report.page import Page

DIFFS_AT_MOST = 400  # experiments; git gives them in one call
LOG_LINES = 200  # of a log without a curve file: the picture has 48 points
LESSONS = 7
PAGE = "index.html"


@dataclass(frozen=True)
class Written:
    """What the page said, the files there are now (the page first), and what was left out and why."""

    told: Story
    paths: tuple[Path, ...]
    missing: tuple[str, ...]


def story(lab: Lab, next_step: str) -> Story:
    """The facts without those that cost git or files: what `wake` tells."""
    return Story(Material(lab.state, lab.settings, _beside(lab, next_step)))


def _beside(lab: Lab, next_step: str) -> Beside:
    known = measured_noise(lab.state)
    page = lab.home / "report" / PAGE
    return Beside(
        now=now(),
        command=command(lab.root),
        next=next_step,
        sigma=known.sigma,
        sigma_runs=known.n,
        budget_spent=lab.budget_spent(),
        notices=tuple(lab.notices),
        disk_free_gb=shutil.disk_usage(lab.root).free / 1e9,
        lessons=_lessons(lab),
        issues=_issues(lab),
        ideas=_ideas(lab),
        account=account(lab.state, known, lab.settings.goal),
        pages=(str(page),) if page.exists() else (),
    )


def _lessons(lab: Lab) -> tuple[Note, ...]:
    """What this campaign taught, the newest first; then what holds from earlier ones."""
    known = memory.entries(lab.root)
    own = [
        e
        for e in memory.newest(known, len(known))
        if e.campaign in ("", lab.state.tag) and e.kind == "learning"
    ]
    return tuple(Note(one_line(entry.title, 200), entry.source) for entry in own[:LESSONS])


def _issues(lab: Lab) -> tuple[Note, ...]:
    """What was found wrong in this campaign and still is, the newest first."""
    known = memory.entries(lab.root)
    own = [e for e in memory.newest(known, len(known)) if e.campaign == lab.state.tag and e.kind == "issue"]
    open_ones = [e for e in own if e.state == memory.HOLDS]
    return tuple(Note(one_line(e.title, 200), " ".join(e.title.split()[:6])) for e in open_ones)


IDEA_WORDS = {QUEUED: "queued", TESTED: "tested", DEFERRED: "deferred", OUT_OF_SCOPE: "out of scope"}


def _ideas(lab: Lab) -> str:
    """How the agenda stands: how many in each state, how many of the tested were kept here, what is next."""
    agenda = ideas.agenda(lab.root)
    if not agenda:
        return ""
    counts = Counter(idea.state for idea in agenda)
    kept = sum(any(_kept(result, lab.state.tag) for result in idea.results) for idea in agenda)
    words = [f"{counts[state]} {word}" for state, word in IDEA_WORDS.items() if counts[state]]
    queue = ordered(agenda, lab.state)
    first = f" Next: {queue[0].id}, {one_line(queue[0].text, 120)}." if queue else ""
    total = f"{len(agenda)} ideas" if len(agenda) > 1 else "1 idea"
    return f"{total}: {', '.join(words)}; {kept} kept in this campaign.{first}"


def _kept(result: str, tag: str) -> bool:
    """Whether an outcome (`nov21/e012 keep`) is a keep of this campaign."""
    return result.startswith(f"{tag}/") and result.endswith(" keep")


def command(root: Path) -> str:
    """How a person calls the tool for `root` from anywhere, with the home folder as `~`."""
    entry = Path(__file__).resolve().parents[1] / "autoresearch.py"
    return f"python3 {_short(entry)} -C {_short(root)}"


def _short(path: Path) -> str:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails where there is none
    if home != Path("/") and path.is_relative_to(home):
        return f"~/{shlex.quote(path.relative_to(home).as_posix())}"
    return shlex.quote(str(path))


def page_of(lab: Lab, next_step: str = "", *, live: bool = False) -> Page:
    """The page with all that is looked up for it; nothing is written."""
    from lab.report.page import Page, wanted

    told = story(lab, next_step)
    rows = [row for row, _ in zip(wanted(told), range(DIFFS_AT_MOST), strict=False)]
    beside = _looked_up(lab, told.m.beside, told, [row.id for row in rows])
    return Page(Story(Material(lab.state, lab.settings, beside)), live)


def write(lab: Lab, next_step: str = "") -> Written:
    """Write the page and its twins."""
    from lab.report.picture import pictures
    from lab.report.words import data, markdown

    page = page_of(lab, next_step)
    told = page.story
    files: dict[str, bytes | str] = {
        PAGE: page.html(),
        "report.md": markdown(told),
        "report.json": json.dumps(data(told), ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        "progress.svg": page.picture(),
    }
    made = pictures(told)
    missing = () if made is not None else ("progress.png and card.png: matplotlib is not installed here",)
    folder = lab.home / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, **(made or {})}.items():
        if content:
            write_atomic(folder / name, content, durable=False)
    paths = tuple(folder / name for name, content in {**files, **(made or {})}.items() if content)
    return Written(told, paths, missing)


# -- looked up beside the state ------------------------------------------------------------------------


def _looked_up(lab: Lab, beside: Beside, told: Story, ids: list[str]) -> Beside:
    """Add what costs git and files: diffs, curves, what the keeps changed outside `edit:`."""
    experiments = [told.m.by_id[name].e for name in ids]
    parents = {e.against for e in experiments}
    runs = [
        run
        for e in (*experiments, *(told.m.by_id[p].e for p in parents if p in told.m.by_id))
        for run in e.runs[:1]
    ]
    pairs = [(e.id, e.parent, e.commit) for e in experiments if e.parent != e.commit]
    values = {**vars(beside), "diffs": _diffs(lab, pairs), "curves": _curves(lab, runs)}
    best = told.m.best
    if best and best.e.commit != lab.state.base:
        values["stray"] = _stray(lab, best.e.commit)
    elif best:
        values["stray"] = ()
    return Beside(**values)


def _diffs(lab: Lab, wanted: list[tuple[str, str, str]]) -> dict[str, str]:
    """The change of each experiment; none where git has lost the commits."""
    try:
        found = lab.workspace.diffs([(old, new) for _, old, new in wanted])
    except LabError as error:
        lab.told.append(f"the report has no diffs: {error.message}")
        return {}
    if wanted and not found:  # git passes over commits that it lacks
        lab.told.append("the report has no diffs: git has none of the commits")
    return {name: found[new] for name, _, new in wanted if new in found}


def _stray(lab: Lab, commit: str) -> tuple[str, ...] | None:
    try:
        return tuple(lab.workspace.outside(lab.state.base, commit, lab.settings.edit))
    except LabError:
        return None


def _curves(lab: Lab, runs: Iterable[Run]) -> dict[str, Curve]:
    # An incumbent's curve stands beside many others: each is read once.
    unique = {run.id: run for run in runs}
    found = {name: read_curve(lab.run_dir(run), LOG_LINES) for name, run in unique.items()}
    return {name: curve for name, curve in found.items() if curve}
