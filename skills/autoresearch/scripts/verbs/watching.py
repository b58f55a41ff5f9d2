"""Looking on while it runs, for people: on a terminal, or in a browser."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence

import click

from lab.campaign import Lab
from lab.errors import PRECONDITION, LabError
from lab.live import screen
from lab.live.present import Looker
from verbs.shared import Context, next_step, verb

TERMINAL_SECONDS, FILE_SECONDS = 2.0, 60.0


@verb()
@click.option("--once", is_flag=True, help="Say the present once and leave.")
@click.option(
    "--every", type=click.FloatRange(0.1), help="Seconds between two looks; 2 on a terminal, 60 else."
)
def watch(obj: Context, once: bool, every: float | None) -> None:
    """Show what runs, its loss against its parent's, the queue and the last verdicts, until it is finished

    Redraws on a terminal; prints a line a minute into a file or a pipe. It only reads: whether somebody
    watches changes nothing. Made for people: an agent uses `wait` and `status`.
    """
    looker = Looker(Lab.find(obj.folder))
    if once or obj.json:
        p = looker.look()
        obj.say(screen.lines(p, 160), p.as_json())
        return
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    drawn = 0
    while True:
        p = looker.look()
        if terminal:
            size = shutil.get_terminal_size()
            drawn = _redraw(screen.lines(p, size.columns - 1, size.lines - 1), drawn)
        else:
            obj.write(screen.brief(p))
        if p.finished:
            return
        time.sleep(every or (TERMINAL_SECONDS if terminal else FILE_SECONDS))


def _redraw(lines: Sequence[str], drawn: int) -> int:
    """Draw over the lines of the last time and return how many they are now."""
    up = f"\x1b[{drawn}F" if drawn else ""
    Context.write(up + "\x1b[J" + "\n".join(lines))
    return len(lines)


@verb()
@click.option("--open/--open-nothing", "show", default=False, help="Also open the page in a browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="A fixed port instead of a free one.")
def serve(obj: Context, show: bool, port: int) -> None:
    """Show the morning page in a browser, up to date within two seconds, until Ctrl-C

    On this machine only (127.0.0.1), only with the token in the printed address, and only to read.
    From elsewhere: ssh -L PORT:127.0.0.1:PORT MACHINE, then open the same address.
    """
    from lab.live.server import Server

    lab = Lab.find(obj.folder)
    lab.read()
    try:
        server = Server(lab.root, next_step, port)
    except OSError as error:
        raise LabError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}", "leave --port out", PRECONDITION
        ) from error
    obj.say([f"page: {server.url}", "Ctrl-C ends it; the runs go on"],
            {"url": server.url, "port": server.port, "campaign": lab.state.tag})  # fmt: skip
    if show:
        import webbrowser

        webbrowser.open(server.url)
    with server:
        server.serve()
