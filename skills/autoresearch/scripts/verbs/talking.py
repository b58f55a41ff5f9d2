"""What the user says, is asked and answers: note, checkpoint."""

from __future__ import annotations

import click

from lab import errors
from lab.campaign import Lab
from lab.errors import LabError
from lab.handing import choices, remarks
from verbs.shared import Context, next_step, verb


@verb()
@click.argument("text", required=False)
@click.option("--done", "handled", help="Mark this note as handled: n1.")
def note(obj: Context, text: str | None, handled: str | None) -> None:
    """Take down what the user says: the agent sees it first in its next answer, `status` until it is handled

    Without TEXT it lists the open notes. The words are the user's, kept as they are in the journal and in
    memories/said.md.

    \b
    note "leave the tokenizer alone, and try a shorter warm-up"
    note --done n1
    """
    lab = Lab.find(obj.folder)
    if text is not None and handled is not None:
        raise LabError("a new note, or --done: one of them", "note --done n1", errors.USAGE)
    taken = None
    with lab.changing("note") as state:
        if text is not None:
            taken = remarks.say(lab, text)
        elif handled is not None:
            remarks.done(lab, handled)
        waiting = [r for r in state.remarks if not r["done"]]
    lines = [f"{taken} taken down"] if taken else [f"{handled} is handled"] if handled else []
    lines += [remarks.shown(r) for r in waiting if r["seen"] or taken] or ["no note is open"]
    rows = [{"id": r["remark"], "text": r["text"], "at": r["at"], "seen": bool(r["seen"])} for r in waiting]
    obj.say(lines, {"note": taken or handled, "open": rows})


@verb()
@click.option("--question", default="", help="What the person is to decide; else which option.")
@click.option("--answer", "text", help="The person's answer, in their words.")
@click.option(
    "--choose", multiple=True, help="With --answer: an option (its letter, or an idea's id) to try first."
)
@click.option("--drop", multiple=True, help="With --answer: an option that is not wanted.")
def checkpoint(
    obj: Context, question: str, text: str | None, choose: tuple[str, ...], drop: tuple[str, ...]
) -> None:
    """Ask the person how to go on: progress, options with what each is worth, one question

    With --answer their answer is taken down; what they choose is next, what they drop is deferred.

    \b
    checkpoint --question "Is a slower model acceptable?"
    checkpoint --answer "A, then the warm-up; nothing with the tokenizer" --choose A --choose C --drop B
    """
    if text is None and (choose or drop):
        raise LabError(
            "--choose and --drop go with --answer", 'checkpoint --answer "A" --choose A', errors.USAGE
        )
    lab = Lab.find(obj.folder)
    with lab.changing("checkpoint"):
        asked = choices.ask(lab, question) if text is None else choices.answer(lab, text, choose, drop)
    if text is not None:
        choices.follow(lab, asked)
        remarks.acknowledge(lab)
        lines = [f"{asked['checkpoint']} answered: the agenda follows", f"next: {next_step(lab)}"]
        obj.say(lines, {**asked, "next": next_step(lab)})
        return
    lines = [*choices.page(lab, asked), f"page: {asked['page']}"]
    obj.say(lines, asked)
