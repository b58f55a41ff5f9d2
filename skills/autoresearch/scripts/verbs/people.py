"""For people: the morning page and its twin on the terminal."""

from __future__ import annotations

import click

from lab.campaign import Lab
from verbs.shared import Context, next_step, verb


@verb()
@click.option("--open/--open-nothing", "show", default=False, help="Also open the page in a browser.")
def report(obj: Context, show: bool) -> None:
    """Write the morning page: one HTML file that says what to believe and what to decide

    May be called at any time, during a run too. Beside the page: report.md, report.json, progress.svg, and
    two PNG files where matplotlib is installed. Nothing in it is loaded from elsewhere: send it as it is.
    """
    from lab import morning

    lab = Lab.find(obj.folder)
    lab.read()
    made = morning.write(lab, next_step(lab))
    page, *others = made.paths
    obj.say(
        [made.told.title, f"page: {page}", f"beside it: {', '.join(path.name for path in others)}",
         *(f"not written: {what}" for what in made.missing), *(f"note: {n}" for n in lab.notices)],
        {"title": made.told.title, "page": str(page), "files": [str(path) for path in made.paths],
         "not_written": made.missing, "notices": lab.notices},
    )  # fmt: skip
    if show:
        import webbrowser

        webbrowser.open(page.as_uri())


@verb()
def wake(obj: Context) -> None:
    """Say in at most 20 lines whether it worked, what to believe, what needs you and what comes next"""
    from lab import morning
    from lab.report import words

    lab = Lab.find(obj.folder)
    lab.read()
    told = morning.story(lab, next_step(lab))
    obj.say(words.wake(told), words.brief(told))
