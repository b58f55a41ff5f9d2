"""What was learned and what to try: remember, recall, ideas."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lab import digest, ideas, lessons, memory
from lab.agenda import AGENDA, SOURCES, Idea, ordered, relatives
from lab.campaign import Lab
from lab.errors import USAGE, LabError
from lab.marks import DEFERRED, OUT_OF_SCOPE, QUEUED, STATES
from lab.memory import Entry
from lab.model import MEMORIES, Record
from lab.redact import one_line
from verbs.shared import Context, everywhere, next_step, verb

SCALE = click.IntRange(1, 5)
EXCERPT = 220  # characters of an entry's text


@verb()
@click.argument("text")
@click.option("--kind", type=click.Choice(list(memory.KINDS)), default="learning", show_default=True,
              help="learning: what held; issue: what broke and what helps.")  # fmt: skip
@click.option("--from", "evidence", default="", help="Experiments that show it: e012,e013.")
@click.option("--state", type=click.Choice(memory.STATES), default=memory.HOLDS, show_default=True)
@click.option("--replaces", default="", help="Id of the entry that this takes the place of.")
@click.option("--contradicts", default="", help="Id of the entry that this speaks against.")
def remember(
    obj: Context, text: str, kind: str, evidence: str, state: str, replaces: str, contradicts: str
) -> None:
    """Write down what was learned, with its evidence, for every session to come

    The entry goes to the end of a file under memories/, which people may edit and commit.

    \b
    remember "A warm-up of 20 steps beats none at this budget" --from e012,e013
    remember "Batch 128 runs out of memory on 24 GB; 64 fits" --kind issue --from e007
    """
    lab = Lab.find(obj.folder)
    lab.read()
    proofs = tuple(name.strip() for name in evidence.split(",") if name.strip())
    lesson = lessons.Lesson(text, kind, proofs, state, replaces, contradicts)
    entry, fresh, told = lessons.remember(lab, lesson)
    if kind == "learning" and not entry.evidence:
        told.append("no experiment shows it yet: --from e012 names the evidence")
    lines = [f"{entry.id} {'remembered' if fresh else 'was there already'} in {entry.file}:{entry.line}"]
    lines += [f"note: {line}" for line in told]
    obj.say(lines, {"entry": _record(entry), "fresh": fresh, "notices": told})


@verb()
@click.argument("query")
@click.option(
    "-n", "count", type=click.IntRange(1, 20), default=5, show_default=True, help="Entries at most."
)
def recall(obj: Context, query: str, count: int) -> None:
    """Search what was learned, in this campaign and in those before

    An entry is advice: an experiment may overrule it, and says so with remember --contradicts ID.
    """
    from lab import recall as search

    root, index = _place(obj.folder)
    found = search.recall(root, index, query, count)
    lines = [f"{found.matching} of {found.known} entries match {one_line(query, 60)!r}"]
    for entry in found.hits:
        where = f"{entry.file}:{entry.line}" if entry.line else entry.file
        lines.append(f"{digest.shown(entry)}  {where}")
        text = one_line(" ".join(entry.text.split()), EXCERPT)
        lines += [f"  {text}"] if text else []
    if not found.known:
        lines.append(f"nothing is remembered in {root / MEMORIES}")
    obj.say(
        lines,
        {"matching": found.matching, "known": found.known, "by": found.by,
         "entries": [_record(entry) for entry in found.hits]},
    )  # fmt: skip


def _place(folder: Path) -> tuple[Path, Path | None]:
    """The project's folder and where its index may lie; a project without a campaign has no such place."""
    try:
        lab = Lab.find(folder)
        return lab.root, lab.home / "recall.sqlite"
    except LabError:
        start = Path(os.path.realpath(folder))
        named = (place for place in (start, *start.parents) if (place / MEMORIES).is_dir())
        return next(named, start), None


def _record(entry: Entry) -> Record:
    title = one_line(entry.title, 120)
    return {
        **vars(entry),
        "evidence": list(entry.evidence),
        "title": title,
        "text": one_line(entry.text, 2 * EXCERPT),
    }


# -- ideas -------------------------------------------------------------------------------------------------


@click.group("ideas", invoke_without_command=True)
@everywhere
@click.pass_context
def ideas_(ctx: click.Context) -> None:
    """Keep the agenda: what to try, ranked, from the inbox, from you, from diagnosis and from papers

    It is memories/ideas.md, which people may edit; `try --idea ID` ties an experiment to an idea, and its
    outcome is written there and into the note that the idea came from.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@ideas_.command()
@click.argument("text")
@click.option("--impact", type=SCALE, help="How much it may bring, 1 to 5.")
@click.option("--feasibility", type=SCALE, help="How likely it works, 1 to 5.")
@click.option("--complexity", type=SCALE, help="How much code it takes, 1 to 5.")
@click.option("--because", default="", help="Why it should help.")
@click.option("--category", default="", help="schedule, optimizer, depth, ...")
@click.option("--source", type=click.Choice(SOURCES), default="own", show_default=True, help="Who had it.")
@everywhere
@click.pass_obj
def add(
    obj: Context, text: str, impact: int | None, feasibility: int | None, complexity: int | None,
    because: str, category: str, source: str,
) -> None:  # fmt: skip
    """Put an idea on the agenda

    \b
    ideas add "warm up over 20 steps" --impact 4 --feasibility 4 --complexity 1 --because "the loss spikes"
    """
    lab = Lab.find(obj.folder)
    lab.read()
    wish = Idea(
        "", one_line(" ".join(text.split()), 300), source=source, because=one_line(because, 600),
        category=one_line(category, 60), impact=impact, feasibility=feasibility, complexity=complexity,
    )  # fmt: skip
    if not wish.text:
        raise LabError("the idea is empty", 'say what to try: ideas add "..."', USAGE)
    told = relatives(wish.text, ideas.agenda(lab.root), lab.state)
    idea, fresh = ideas.add(lab, wish)
    lines = [f"{idea.id} {'added' if fresh else f'is there already, {idea.mark}'}: {digest.ranked(idea)}"]
    obj.say(
        [*lines, *(f"note: {line}" for line in told)], {"idea": _idea(idea), "fresh": fresh, "notices": told}
    )


@ideas_.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@click.option("-n", "count", type=click.IntRange(1, 200), default=40, show_default=True)
@everywhere
@click.pass_obj
def list_(obj: Context, state: str | None = None, count: int = 40) -> None:
    """List the agenda: queued ideas in the order of their turns, then the others"""
    root, index = _place(obj.folder)
    known = ideas.agenda(root)
    queue = known if index is None else _queue(Lab.find(obj.folder), known)
    rest = [idea for idea in known if idea not in queue]
    rows = [idea for idea in [*queue, *rest] if state in (None, idea.state)]
    words = ", ".join(f"{sum(i.state == name for i in known)} {name}" for name in STATES)
    lines = [f"{len(known)} ideas: {words}"]
    for idea in rows[:count]:
        said = ", ".join(idea.results[-3:]) or idea.reason
        lines.append(
            f"{idea.state:<12} {digest.ranked(idea)}" + (f"  [{one_line(said, 100)}]" if said else "")
        )
    if len(rows) > count:
        lines.append(f"... {len(rows) - count} more: -n {min(len(rows), 200)}, or the file {AGENDA}")
    obj.say(lines, {"ideas": [_idea(idea) for idea in rows[:count]], "total": len(known)})


def _queue(lab: Lab, known: list[Idea]) -> list[Idea]:
    return ordered(known, lab.read())


@ideas_.command("next")
@click.option("-n", "count", type=click.IntRange(1, 10), default=3, show_default=True)
@everywhere
@click.pass_obj
def next_(obj: Context, count: int) -> None:
    """Say whose turn it is: the best idea of the source that waited longest

    New lines of the inbox are taken over first.
    """
    lab = Lab.find(obj.folder)
    lab.read()
    told = [*ideas.follow(lab)]
    taken = ideas.take_inbox(lab)
    queue = _queue(lab, ideas.agenda(lab.root))
    lines = [f"taken from the inbox: {digest.ranked(idea)}" for idea in taken.fresh[:10]]
    if queue:
        first = queue[0]
        lines.insert(0, f"next {digest.ranked(first)}")
        lines[1:1] = [f"  {name}: {text}" for name, text in first.details.items() if text and name != "score"]
        lines += [f"then {digest.ranked(idea)}" for idea in queue[1:count]]
    else:
        lines.append('no idea is queued: `ideas add "..."`')
    told += taken.told
    lines += [f"note: {line}" for line in told]
    step = next_step(lab)
    if queue and "--idea" not in step:
        step = step.replace('try "HYPOTHESIS"', f'try "HYPOTHESIS" --idea {queue[0].id}')
    lines.append(f"next: {step}")
    shown, fresh = [_idea(idea) for idea in queue[:count]], [idea.id for idea in taken.fresh]
    obj.say(lines, {"ideas": shown, "taken": fresh, "notices": told, "next": step})


@ideas_.command()
@click.argument("idea")
@click.option("--impact", type=SCALE, help="How much it may bring, 1 to 5.")
@click.option("--feasibility", type=SCALE, help="How likely it works, 1 to 5.")
@click.option("--complexity", type=SCALE, help="How much code it takes, 1 to 5.")
@click.option(
    "--state", type=click.Choice([QUEUED, DEFERRED, OUT_OF_SCOPE]), help="TESTED comes with a verdict."
)
@click.option("--reason", help="Why it is deferred or out of scope.")
@everywhere
@click.pass_obj
def score(
    obj: Context, idea: str, impact: int | None, feasibility: int | None, complexity: int | None,
    state: str | None, reason: str | None,
) -> None:  # fmt: skip
    """Judge an idea: (impact × feasibility) / complexity, or put it aside with a reason

    \b
    ideas score i3f7a --impact 4 --feasibility 3 --complexity 2
    ideas score i3f7a --state OUT_OF_SCOPE --reason "needs a new package"
    """
    lab = Lab.find(obj.folder)
    lab.read()
    if state in (DEFERRED, OUT_OF_SCOPE) and not reason:
        raise LabError(f"--state {state} has no --reason", "say why in a few words", USAGE)
    wishes: Record = {"impact": impact, "feasibility": feasibility, "complexity": complexity, "state": state}
    wishes["reason"] = "" if state == QUEUED else one_line(reason, 600) if reason else None
    found = ideas.judge(lab, idea, {name: value for name, value in wishes.items() if value is not None})
    aside = f"  {found.state}" + (f": {found.reason}" if found.reason else "")
    obj.say([digest.ranked(found) + aside], {"idea": _idea(found)})


@ideas_.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--source", type=click.Choice(SOURCES), default="inbox", show_default=True, help="Who had them."
)
@everywhere
@click.pass_obj
def import_(obj: Context, file: Path, source: str) -> None:
    """Take the list items of a Markdown note over as ideas, and mark them there

    Any note will do, also one in an Obsidian vault: behind each item comes a mark such as {i3f7a QUEUED},
    which follows the idea; every other byte stays. Ticked items are left alone.
    """
    lab = Lab.find(obj.folder)
    lab.read()
    path = obj.folder / file.expanduser() if not file.is_absolute() else file
    if not path.exists():
        raise LabError(f"{file} is not there", "name a Markdown file")
    taken = ideas.take(lab, path, source)
    lines = [
        f"{len(taken.fresh)} new ideas from {one_line(str(file), 200)}, {taken.known} known or marked before"
    ]
    lines += [digest.ranked(idea) for idea in taken.fresh[:20]]
    lines += [f"... and {len(taken.fresh) - 20} more: `ideas list`"] if len(taken.fresh) > 20 else []
    lines += [f"note: {line}" for line in taken.told]
    obj.say(
        lines, {"taken": [_idea(i) for i in taken.fresh], "known": taken.known, "notices": list(taken.told)}
    )


def _idea(idea: Idea) -> Record:
    return {**vars(idea), "results": list(idea.results), "score": idea.score, "scored": idea.scored}
