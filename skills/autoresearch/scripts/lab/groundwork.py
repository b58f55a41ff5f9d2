"""The set-up of research, step by step: what is known, whether the ruler holds, the baseline, what to try.

Every step is read from what lies on disk, so a session that was killed or is new goes on where it stands.
What a program can do is done here; what needs a mind is named with its command. Only two things are noted
beside: steps that somebody put aside, and code whose model cannot be probed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass

from lab import digest, ideas, loop, memory, probing
from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.documents.filling import Document, fill, look
from lab.documents.kinds import KINDS
from lab.errors import USAGE, LabError
from lab.marks import QUEUED
from lab.model import BASELINE, Experiment, Record, now
from lab.probing import failed, kept
from lab.propose import propose_baseline
from lab.redact import one_line
from lab.steps import step

DONE, TO_DO, NONE = "done", "to do", "not applicable"
FRESH_HOURS = 24.0  # a baseline younger than this is taken as it is
ENOUGH_IDEAS = 3
KEPT = "bootstrap.json"
PROBE_STEPS, PROBE_SECONDS = 60, 300.0


@dataclass(frozen=True)
class Step:
    """How one step stands, and the one command that does it ("" when nothing is to be done)."""

    name: str
    state: str
    said: str
    command: str = ""


@dataclass(frozen=True)
class Way:
    """What the steps need of the caller: how long runs may be waited for, and the tool's next step."""

    seconds: float
    next_step: str


def walk(lab: Lab, way: Way, only_look: bool = False) -> list[Step]:
    """Do what is mechanical, in order, and say how every step stands. The caller holds the agent lock."""
    skipped = _noted(lab)["skipped"]
    found = []
    for name, (do, see) in STEPS.items():
        if name in skipped:
            found.append(Step(name, NONE, f"put aside: {one_line(str(skipped[name]), 160)}"))
            continue
        trouble = "" if only_look else _do(lab, way, do)
        stands = see(lab, way)
        found.append(
            Step(name, TO_DO, trouble, stands.command) if trouble and stands.state != DONE else stands
        )
        step("bootstrap.step")
    return found


def _do(lab: Lab, way: Way, do: Callable[[Lab, Way], None] | None) -> str:
    """Do the mechanical part of a step; what stands in its way in words."""
    if do is None or lab.state.finished:
        return ""
    try:
        do(lab, way)
    except (LabError, OSError) as error:
        return str(error)
    return ""


def put_aside(lab: Lab, name: str, why: str) -> None:
    """Note that a step is not wanted here."""
    if name not in STEPS:
        raise LabError(f"there is no step {name!r}", f"there are: {', '.join(STEPS)}", USAGE)
    if not why.strip():
        raise LabError(f"why is {name} put aside?", f'--skip {name} --because "no network here"', USAGE)
    noted = _noted(lab)
    _note(lab, {**noted, "skipped": {**noted["skipped"], name: one_line(why, 200)}})


def _noted(lab: Lab) -> dict[str, dict[str, str]]:
    """What was written down; a torn or foreign file means nothing was."""
    try:
        found = json.loads((lab.home / KEPT).read_bytes())
    except (OSError, ValueError):
        found = None
    found = found if isinstance(found, dict) else {}
    return {
        name: found[name] if isinstance(found.get(name), dict) else {} for name in ("skipped", "unprobed")
    }


def _note(lab: Lab, noted: dict[str, dict[str, str]]) -> None:
    step("bootstrap.note.before")
    write_atomic(lab.home / KEPT, json.dumps(noted))
    step("bootstrap.note.after")


# -- the steps -----------------------------------------------------------------------------------------


def _memories(lab: Lab, way: Way) -> Step:
    known = memory.entries(lab.root)
    if not known:
        return Step("memories", NONE, "nothing was written down by earlier campaigns")
    newest = "; ".join(digest.shown(entry) for entry in memory.newest(known))
    return Step("memories", DONE, f"{len(known)} entries; newest: {one_line(newest, 300)}")


def _probe(lab: Lab, way: Way) -> None:
    """Test the ruler on the unchanged code, unless that was done or cannot be done."""
    noted = _noted(lab)
    if _measured(lab) or _probed_as(lab) in noted["unprobed"]:
        return
    try:
        probing.verify(lab, start(lab), None, PROBE_STEPS, PROBE_SECONDS)
    except LabError as error:
        words = {**noted["unprobed"], _probed_as(lab): one_line(str(error), 200)}
        _note(lab, {**noted, "unprobed": words})


def _probed_as(lab: Lab) -> str:
    """The code and the function that gives its model: with another one the probe is worth another try."""
    return f"{lab.state.base} {lab.settings.probe_model or ''}".strip()


def start(lab: Lab) -> Experiment:
    """The unchanged code: the baseline, or what will be it."""
    state = lab.state
    tree = lab.workspace.tree_of(state.base)
    return state.baseline or Experiment(BASELINE, state.base, tree, state.base, "baseline", now())


def _measured(lab: Lab) -> Record | None:
    """What `verify-metric` said of code of this campaign."""
    found = kept(lab)
    ours = {lab.state.base, *(e.commit for e in lab.state.experiments.values())}
    return found if found and found.get("commit") in ours else None


def _measurement(lab: Lab, way: Way) -> Step:
    found = _measured(lab)
    if found:
        wrong = failed(found)
        if wrong:
            words = f"{', '.join(wrong)} failed: look before any experiment"
            return Step("measurement", TO_DO, words, "verify-metric")
        return Step("measurement", DONE, probing.verify_lines(found)[0])
    why = _noted(lab)["unprobed"].get(_probed_as(lab))
    if why:
        return Step(
            "measurement", NONE, f"{why}; `probe:` in the yaml gives it a model, then `verify-metric`"
        )
    return Step("measurement", TO_DO, "the ruler was not tested", "verify-metric")


def _run_baseline(lab: Lab, way: Way) -> None:
    """Measure the unchanged code, or once more when its numbers are old; a fresh result is taken as it is."""
    state, first = lab.state, lab.state.baseline
    if lab.settings.mode == "collaborative" or state.stopped:
        return
    old = first is not None and first.verdict == "keep" and _too_old(lab, first)
    if first is None or not first.verdict or old:
        repeats = len(first.good_runs) + 1 if first and old else None
        with lab.changing("bootstrap"):
            propose_baseline(lab, repeats)
        loop.wait_for(lab, BASELINE, way.seconds)


def _too_old(lab: Lab, first: Experiment) -> bool:
    """Whether the baseline is older than a day and still what everything is compared with."""
    return lab.state.incumbent_id == first.id and _hours(first) > FRESH_HOURS


def _hours(first: Experiment) -> float:
    begun, present = map(datetime.datetime.fromisoformat, (first.verdict_at, now()))
    return (present - begun).total_seconds() / 3600


def _baseline(lab: Lab, way: Way) -> Step:
    first, mode = lab.state.baseline, lab.settings.mode
    if first is None or not first.verdict:
        if mode == "collaborative":
            return Step("baseline", TO_DO, "a person runs it", "handoff baseline")
        going = first is not None and first.runs
        return Step(
            "baseline", TO_DO, "under way" if going else "not measured", "wait" if going else "baseline"
        )
    if first.verdict == "crash":
        return Step("baseline", TO_DO, f"it crashed: {one_line(first.reason, 200)}", "show e000")
    if _too_old(lab, first):
        repeats = len(first.good_runs) + 1
        return Step("baseline", TO_DO, f"{_hours(first):.0f} h old", f"baseline --repeats {repeats}")
    age = (
        f"{_hours(first):.1f} h old"
        if lab.state.incumbent_id == BASELINE
        else f"{lab.state.incumbent_id} leads"
    )
    return Step("baseline", DONE, f"{one_line(first.reason, 160)} ({age}, used as it is)")


def _paper(name: str) -> tuple[Callable[[Lab, Way], None], Callable[[Lab, Way], Step]]:
    """A document: made here, finished by the agent."""

    def do(lab: Lab, way: Way) -> None:
        fill(lab, KINDS[name], way.next_step, None, None)

    def see(lab: Lab, way: Way) -> Step:
        made = look(lab, KINDS[name], way.next_step, None, None)
        return _paper_step(name, made, lab)

    return do, see


def _paper_step(name: str, made: Document, lab: Lab) -> Step:
    short = made.path.relative_to(lab.root.resolve())
    if not made.there:
        return Step(name, TO_DO, "not made yet", f"document {name}")
    if name == "working" or not made.places:
        return Step(name, DONE, f"{short}" + (f", {len(made.places)} places open" if made.places else ""))
    first = made.places[0]
    words = f"{short}: {len(made.places)} places wait, the first in line {first.line}: {first.text}"
    return Step(name, TO_DO, words, f"document {name}")


def _take_inbox(lab: Lab, way: Way) -> None:
    lab.told += ideas.take_inbox(lab).told


def _inbox(lab: Lab, way: Way) -> Step:
    if ideas.inbox(lab) is None:
        return Step("inbox", NONE, "`ideas: {inbox: FILE}` in the yaml names none")
    fresh = ideas.unread(lab, ideas.agenda(lab.root))
    state, words = (TO_DO, f"{fresh} new") if fresh else (DONE, "taken over")
    return Step("inbox", state, words, "ideas next" if fresh else "")


def _agenda(lab: Lab, way: Way) -> Step:
    queued = sum(idea.state == QUEUED for idea in ideas.agenda(lab.root))
    words = f"{queued} ideas queued"
    if queued >= ENOUGH_IDEAS:
        return Step("agenda", DONE, words)
    command = 'ideas add "WHAT TO TRY" --impact 3 --feasibility 3 --complexity 1'
    return Step("agenda", TO_DO, f"{words}, {ENOUGH_IDEAS} make a beginning", command)


STEPS: dict[str, tuple[Callable[[Lab, Way], None] | None, Callable[[Lab, Way], Step]]] = {
    "memories": (None, _memories),
    "measurement": (_probe, _measurement),
    "baseline": (_run_baseline, _baseline),
    "audit": _paper("audit"),
    "literature": _paper("literature"),
    "inbox": (_take_inbox, _inbox),
    "agenda": (None, _agenda),
    "working": _paper("working"),
}
