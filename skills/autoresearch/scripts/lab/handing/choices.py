"""The checkpoint: how far it is, what could come next with its worth, one question; and the person's answer.

What an option is worth is worked out from this campaign alone: how often ideas of its source were kept, drawn
towards the campaign's own rate while there are few, times what a keep has brought so far.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import ideas, memory
from lab.account import account, account_lines, keeps
from lab.agenda import Idea, ordered
from lab.atomic import sweep, write_atomic
from lab.campaign import Lab, measured_noise
from lab.digest import shown
from lab.errors import LabError
from lab.handing.standing import age
from lab.marks import DEFERRED
from lab.model import BASELINE, Experiment, State
from lab.redact import hide_secrets, one_line
from lab.steps import step

OFFERED = 4  # ideas
WEIGHT = 2.0  # of the campaign's own rate, in experiments, beside those of a source
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Option:
    """One thing to do next."""

    letter: str
    text: str
    idea: str  # its id; "" for what is none
    worth: str  # in words, with figures


def options(lab: Lab) -> list[Option]:
    """What could come next: the first ideas of the agenda, confirming, ending."""
    state = lab.state
    agenda = ideas.agenda(lab.root)
    found = [(one_line(i.text, 120), i.id, worth(state, agenda, i)) for i in ordered(agenda, state)[:OFFERED]]
    best = state.incumbent
    if (
        best
        and best.id != BASELINE
        and not any(c.experiment == best.id for c in state.confirmations.values())
    ):
        found.append(
            (
                f"confirm {best.id} against the baseline on fresh seeds",
                "",
                "at least 10 runs, no gain; says what to report",
            )
        )
    found.append(("stop here: `finish` writes the report", "", "no run"))
    return [Option(letter, *rest) for letter, rest in zip(LETTERS, found, strict=False)]


def worth(state: State, agenda: Sequence[Idea], idea: Idea) -> str:
    """What trying an idea may bring, from what this campaign has seen."""
    sources = {i.id: i.source for i in agenda}
    judged = [e for e in state.experiments.values() if e.verdict and e.id != BASELINE]
    alike = [e for e in judged if sources.get(e.idea, "own") == idea.source]
    chance = kept_share(alike, kept_share(judged, 0.5))
    gains = [g for e in keeps(state) if (g := e.shrunken if e.shrunken is not None else e.gain) is not None]
    score = f"score {idea.score:.1f}" if idea.scored else "not scored"
    seen = f"{_kept(alike)} of {len(alike)} from `{idea.source}`, {_kept(judged)} of {len(judged)} in all"
    odds = f"P(keep) about {chance:.2f} ({seen})"
    if not gains:
        return f"{odds}; no keep yet tells what one brings; {score}; {_cost(judged)}"
    gain = statistics.fmean(gains)
    return f"{odds} x {gain:.4g} a keep = {chance * gain:.2g} expected; {score}; {_cost(judged)}"


def kept_share(experiments: Sequence[Experiment], usual: float) -> float:
    """The share of keeps, drawn towards `usual` while there are few."""
    return (_kept(experiments) + WEIGHT * usual) / (len(experiments) + WEIGHT)


def _kept(experiments: Sequence[Experiment]) -> int:
    return sum(e.verdict == "keep" for e in experiments)


def _cost(judged: Sequence[Experiment]) -> str:
    runs = [len([r for r in e.runs if r.seconds]) for e in judged]
    seconds = [r.seconds for e in judged for r in e.runs if r.seconds]
    if not seconds:
        return "cost not known yet"
    return f"{statistics.fmean(runs):.1f} runs of {statistics.fmean(seconds):.3g} s"


def ask(lab: Lab, question: str) -> dict[str, object]:
    """Journal a checkpoint and write its page; the one that waits is asked again when nothing changed."""
    state = lab.state
    offered = options(lab)
    rows = [vars(option) for option in offered]
    question = (
        one_line(hide_secrets(question), 500)
        or f"{', '.join(o.letter for o in offered)}? Anything to leave alone?"
    )
    waiting = next((c for c in state.checkpoints if not c["answer"]), None)
    if waiting is None or waiting["options"] != rows or waiting["question"] != question:
        identity = f"k{len(state.checkpoints) + 1}"
        lab.journal.append("checkpoint", checkpoint=identity, question=question, options=rows)
        step("checkpoint.journalled")
        waiting = state.checkpoints[-1]
    path = _pages(lab) / f"{waiting['checkpoint']}.md"
    write_atomic(path, "\n".join([*page(lab, waiting), ""]), name="checkpoint.page")
    return {**waiting, "page": str(path)}


def _pages(lab: Lab) -> Path:
    """The folder of the pages, without what a killed call left there."""
    place = lab.home / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    sweep(place)
    return place


def page(lab: Lab, asked: Mapping[str, object]) -> list[str]:
    """The checkpoint as a person reads it."""
    state, metric = lab.state, lab.settings.metric
    counts = state.counts()
    lines = [
        f"# Checkpoint {asked['checkpoint']} of campaign {state.tag} ({str(asked['at'])[:16]})",
        "",
        "## Progress",
        "",
    ]
    lines += [f"- {line}" for line in _progress(state, metric)]
    lines.append(
        f"- {counts['keep']} keep (with the baseline), {counts['discard']} discard, {counts['crash']} crash, "
        f"{counts['open']} open"
    )
    lines += [f"- {line}" for line in account_lines(account(state, measured_noise(state), lab.settings.goal))]
    waiting = dict.fromkeys(run.request for _, run in state.handed())
    lines += [f"- {name} is handed out since {age(str(state.requests[name]['at']))}" for name in waiting]
    learned = [shown(entry) for entry in memory.newest(memory.entries(lab.root), 3)]
    lines += ["", "## Learned", "", *(f"- {line}" for line in learned)] if learned else []
    lines += ["", "## Options", ""]
    rows = asked["options"]
    assert isinstance(rows, list)
    lines += [f"- **{row['letter']}** {row['text']}: {row['worth']}" for row in rows]
    return [*lines, "", "## Question", "", str(asked["question"])]


def _progress(state: State, metric: str) -> list[str]:
    baseline, best = state.baseline, state.incumbent
    if baseline is None or baseline.metric is None:
        return ["the baseline is not measured yet"]
    if best is None or best is baseline or best.metric is None:
        return [f"{metric} {baseline.metric:.6g} (the baseline); nothing better was kept yet"]
    return [
        f"{metric} {baseline.metric:.6g} -> {best.metric:.6g} ({best.id}: {one_line(best.hypothesis, 100)})"
    ]


def answer(lab: Lab, text: str, chosen: Sequence[str], dropped: Sequence[str]) -> dict[str, object]:
    """Journal the person's answer to the newest checkpoint; what they chose comes first."""
    if not lab.state.checkpoints:
        raise LabError("no checkpoint was asked", "`checkpoint` asks one; `note` takes any remark")
    asked = lab.state.checkpoints[-1]
    first, last = _ideas_of(asked, chosen), _ideas_of(asked, dropped)
    words = one_line(hide_secrets(text), 2000)
    record = {"answer": words, "chosen": first, "dropped": last}
    if any(asked.get(name) != value for name, value in record.items()):
        lab.journal.append("answered", checkpoint=asked["checkpoint"], by="user", **record)
        step("checkpoint.answered")
    _pages(lab)
    return asked


def follow(lab: Lab, asked: Mapping[str, object]) -> None:
    """Let the agenda say why what the person dropped is deferred; harmless to repeat."""
    known = {idea.id: idea for idea in ideas.agenda(lab.root)}
    dropped = asked.get("dropped", [])
    assert isinstance(dropped, list)
    for identity in dropped:
        idea = known.get(identity)
        if idea and idea.state != DEFERRED:
            reason = one_line(f"the user at {asked['checkpoint']}: {asked['answer']}", 200)
            ideas.judge(lab, identity, {"state": DEFERRED, "reason": reason})


def _ideas_of(asked: Mapping[str, object], letters: Sequence[str]) -> list[str]:
    """The ideas behind letters of the options; an id of the agenda names itself."""
    rows = asked["options"]
    assert isinstance(rows, list)
    offered = {row["letter"]: row["idea"] for row in rows}
    found = []
    for letter in letters:
        if letter.upper() not in offered and not (letter.startswith("i") and len(letter) > 2):
            raise LabError(
                f"{letter!r} is no option of {asked['checkpoint']}", f"options: {', '.join(offered)}"
            )
        found.append(offered.get(letter.upper(), letter))
    return [identity for identity in found if identity]
