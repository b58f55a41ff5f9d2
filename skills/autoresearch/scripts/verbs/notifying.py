"""Telling people: notify test, notify run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from lab import errors
from lab.campaign import Lab
from lab.errors import LabError
from verbs.shared import Context, everywhere

PATIENCE = 10  # of 19: a message can wait, a measured run cannot


@click.group("notify")
@everywhere
def notify() -> None:
    """Tell people what matters: finished, stopped, silent, crashing, disk low, a new best, a digest

    Where to: `notify:` in autoresearch.yaml. references/people.md says how.
    """


@notify.command()
@everywhere
@click.pass_obj
def test(obj: Context) -> None:
    """Send one message to every address of `notify:` and say what came of it

    Exits 4 when one did not go out.
    """
    from lab.notify import message
    from lab.notify.channels import channels, install_command, sender_python
    from lab.notify.outbox import Letter
    from lab.notify.post import Post

    lab = _lab(obj)
    found = channels(lab.settings.notify, os.environ, lab.root)
    if not found:
        hint = 'add a line to autoresearch.yaml: notify: ["ntfys://ntfy.sh/${NTFY_TOPIC}"]'
        raise LabError("notify: names no address", hint)
    if sender_python() is None:
        raise LabError("apprise, which sends messages, is not installed", f"type: {install_command()}")
    folder = lab.home / "notify"
    folder.mkdir(parents=True, exist_ok=True)
    post, text = Post(folder, os.environ), message.trial(lab.state.tag or lab.root.name)
    letters = {channel: Letter(f"test {os.getpid()}", channel.name, text, 1) for channel in found}
    outcomes: dict[str, tuple[str, str]] = {}
    while len(outcomes) < len(found):
        for channel, letter in letters.items():
            told = None if channel.name in outcomes else post.send(letter, channel)
            if told:
                outcomes[channel.name] = told
                post.forget(letter)
        time.sleep(0.02)
    outcomes = {channel.name: outcomes[channel.name] for channel in found}  # as they stand in the settings
    lines = [f"{name}: {what}" + (f", {why}" if why else "") for name, (what, why) in outcomes.items()]
    failed = [name for name, (what, _) in outcomes.items() if what != "sent"]
    obj.say(
        [*lines, f"{len(failed)} to mend" if failed else "all sent"],
        {
            "ok": not failed,
            "channels": [{"name": n, "outcome": o, "detail": d} for n, (o, d) in outcomes.items()],
        },
    )
    if failed:
        raise SystemExit(errors.PRECONDITION)


@notify.command()
@everywhere
@click.pass_obj
def run(obj: Context) -> None:
    """Tell people and push the branch until the campaign ends; verbs start this by themselves

    By hand only where an agent's sandbox lets nothing out: in your own terminal, before the agent begins.
    """
    from lab.notify.keeping import only_one
    from lab.notify.messenger import Messenger

    lab = Lab.find(obj.folder)
    os.nice(PATIENCE)
    with only_one(lab.home / "notify") as still:
        Messenger(lab.root, os.environ).run(still)
    obj.say(["nothing is left to tell"], {"campaign": lab.read().tag})


def _lab(obj: Context) -> Lab:
    """The campaign, or the folder with settings alone: messages can be tried before `init`."""
    try:
        lab = Lab.find(obj.folder)
    except LabError:
        lab = Lab(Path(os.path.realpath(obj.folder)))
    lab.read()
    return lab
