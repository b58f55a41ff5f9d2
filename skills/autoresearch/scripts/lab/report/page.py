"""The morning page as one HTML file: nothing is fetched, every text is escaped, and its size is bounded.

A part that depends on how many experiments there are is made by itself and weighed: the details of single
experiments get what room the rest leaves, the ones a reader opens first before the others.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import jinja2  # 0.05 s: only `report` and `finish` pay for it
from markupsafe import Markup, escape

from lab.model import BASELINE
from lab.report import curves, progress
from lab.report.figures import plural, said, span
from lab.report.material import Curve, Row
from lab.report.patch import diff_lines
from lab.report.story import Story

FOLDER = Path(__file__).resolve().parent
LEAST_ROOM, ROW_ROOM, MOST_ROOM = 285_000, 380, 1_850_000  # bytes: a page, each of its rows, any page
LEAST_BYTES = 30_000  # of details, whatever the rest takes
MANY_ROWS = 1000
DETAILS_AT_MOST = 400
TOP = 8
PATH_AT_MOST = 40
COLOUR_LINES = 2  # of page.css, at its top: a picture that stands alone needs them too


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates of this folder, with everything escaped that is not markup made here."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters.update(
        span=span, plural=plural, ticks=ticks, chance=chance, percent=lambda share: f"{100 * share:.0f}%"
    )
    return made


@dataclass(frozen=True)
class Page:
    """The template's data and the parts that are made one by one."""

    story: Story
    live: bool = False  # kept up to date by a server, over events

    def html(self) -> str:
        """The whole page."""
        story, m = self.story, self.story.m
        style = (FOLDER / "page.css").read_text(encoding="utf-8")
        scripts = ("page.js", "live.js") if self.live else ("page.js",)
        script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in scripts)
        parts = {
            "runs": self._runs(),
            "wide": self._progress(progress.WIDE),
            "narrow": self._progress(progress.NARROW),
        }
        bare = len(style) + len(script) + sum(len(part.encode()) for part in parts.values()) + 22_000
        room = min(MOST_ROOM, max(LEAST_ROOM, ROW_ROOM * len(m.rows)))
        self._fill(max(LEAST_BYTES, room - bare))
        return environment().get_template("page.jinja").render(
            s=story, m=m, f=m.figures, page=self, style=Markup(style), script=Markup(script),
            script_hash=_digest(script), reach=self._reach, top=TOP, baseline_id=BASELINE, **parts,
        )  # fmt: skip

    @cached_property
    def _reach(self) -> float:
        """The largest gain an interval picture has to show."""
        highs = sorted(abs(row.evidence.high) for row in self.story.worked if row.evidence.high is not None)
        return highs[int(0.9 * (len(highs) - 1))] if highs else 0.0

    def interval(self, row: Row) -> Markup:
        """The picture of a gain."""
        return Markup(curves.interval(row, self._reach))

    def _progress(self, size: progress.Size) -> Markup:
        return Markup(progress.progress(self.story.m, size, self.alt))

    @cached_property
    def alt(self) -> str:
        """The progress picture in words."""
        m = self.story.m
        sigma = m.beside.sigma
        band = (
            f"The band is {progress.BAND_SIGMAS:g} sigma ({sigma:.2g})."
            if sigma
            else "There is no noise band."
        )
        return (
            f"{m.settings.metric} over {len(m.tried)} experiments. {self.story.title}. {len(m.kept)} kept, "
            f"{len(m.discards)} discarded, {len(m.crashes)} crashed. {band} The table below has the steps."
        )

    def picture(self) -> str:
        """The progress picture as a file of its own, with its colours inside; "" without a baseline."""
        svg = progress.progress(self.story.m, progress.CARD, self.alt)
        sheet = (FOLDER / "page.css").read_text(encoding="utf-8").splitlines()
        rules = [*sheet[:COLOUR_LINES], *(line for line in sheet if line.startswith("svg ."))]
        ground = "svg{background:var(--bg);font-family:system-ui,sans-serif}"
        head, bracket, rest = svg.partition(">")
        return svg and f"{head}{bracket}<style>{''.join(rules)}{ground}</style>{rest}"

    # -- every experiment ------------------------------------------------------------------------------

    def _runs(self) -> Markup:
        limit = 120 if len(self.story.m.rows) <= MANY_ROWS else 72
        found = (
            environment()
            .get_template("runs.html")
            .render(
                s=self.story,
                m=self.story.m,
                f=self.story.m.figures,
                words_limit=limit,
                marks=MARKS,
                unit=self._memory_unit,
            )
        )
        return Markup(found)

    @property
    def _memory_unit(self) -> tuple[str, float]:
        """GB, or MB where everything is smaller than one."""
        largest = max((row.e.memory_gb or 0.0 for row in self.story.m.rows), default=0.0)
        return ("GB", 1.0) if largest >= 1 else ("MB", 1024.0)

    # -- single experiments ----------------------------------------------------------------------------

    @cached_property
    def _details(self) -> dict[str, Markup]:
        return {}

    def _fill(self, room: int) -> None:
        """Make the details of as many experiments as there is room for, the most wanted first."""
        for row in itertools.islice(wanted(self.story), DETAILS_AT_MOST):
            made = self._detail(row)
            size = len(made.encode())
            if size <= room:
                self._details[row.id] = made
                room -= size

    def _detail(self, row: Row) -> Markup:
        story = self.story
        curve = self._curve(row)
        return Markup(
            environment()
            .get_template("detail.html")
            .render(
                s=story,
                m=story.m,
                f=story.m.figures,
                row=row,
                e=row.e,
                v=row.evidence,
                curve=curve,
                diff=diff_lines(story.m.beside.diffs.get(row.id, "")),
                words=said,
                marks=MARKS,
                page=self,
            )  # fmt: skip
        )

    def detail(self, row: Row) -> Markup:
        """The details of an experiment, or ""."""
        return self._details.get(row.id, Markup(""))

    def others(self) -> list[Row]:
        """Experiments with details that no part above has shown, in order."""
        shown = {row.id for row in (*self.story.worked, *self.story.near)}
        return [row for row in self.story.m.rows if row.id in self._details and row.id not in shown]

    def without(self) -> int:
        """How many experiments have no details here."""
        return len(self.story.m.rows) - len(self._details)

    def path(self) -> tuple[int, Sequence[object]]:
        """(how many early steps are left out, the steps of the kept path)."""
        steps = self.story.path
        if len(steps) <= PATH_AT_MOST:
            return 0, steps
        return len(steps) - PATH_AT_MOST, [steps[0], *steps[-PATH_AT_MOST + 1 :]]

    def _curve(self, row: Row) -> Picture | None:
        m = self.story.m
        mine = _curve_of(row, m.beside.curves)
        if not mine:
            return None
        parent = m.by_id.get(row.e.against)
        theirs = _curve_of(parent, m.beside.curves) if parent and parent.id != row.id else ()
        names = (row.id, f"{parent.id} before it" if parent and theirs else "")
        alt = f"Loss of {row.id} from {mine[0][1]:.4g} to {mine[-1][1]:.4g}"
        alt += f"; of {parent.id} to {theirs[-1][1]:.4g}" if parent and theirs else ""
        return Picture(Markup(curves.curves(mine, theirs, names, alt)), names, _beside(mine, theirs))


@dataclass(frozen=True)
class Picture:
    """A loss picture, the names of its lines and its table."""

    svg: Markup
    names: tuple[str, str]
    table: list[tuple[str, str, str]]


MARKS = {"keep": "●", "within": "○", "discard": "•", "crash": "✕", "open": "…"}
MARK_WORDS = {
    "keep": "keep",
    "within": "keep, within noise",
    "discard": "discard",
    "crash": "crash",
    "open": "open",
}


def wanted(story: Story) -> Iterator[Row]:
    """Experiments in the order in which a reader wants to open them."""
    first = [*story.worked[:TOP], *story.near, *(story.m.by_id[f.ids[-1]] for f in story.failures)]
    rest = [*story.worked, *reversed(story.m.crashes), *reversed(story.m.rows)]
    return iter({row.id: row for row in [*first, *rest]}.values())


def ticks(text: str) -> Markup:
    """Text with what stands in backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is left over: it means nothing
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def chance(p: float | None) -> str:
    """A probability in two digits that never claims to be certain."""
    if p is None:
        return ""
    return "0.99+" if p > 0.99 else "0.01−" if p < 0.01 else f"{p:.2f}"


def _curve_of(row: Row | None, curves: dict[str, Curve] | object) -> Curve:
    """The curve of the first of an experiment's runs that has one."""
    if row is None or not hasattr(curves, "get"):
        return ()
    found = (curves.get(run.id) for run in row.e.runs)
    return next((curve for curve in found if curve and len(curve) > 1), ())


def _beside(mine: Curve, theirs: Curve) -> list[tuple[str, str, str]]:
    """Six points of both curves side by side: the picture's twin as a table."""
    other = dict(theirs)
    rows = []
    for x, y in curves.thin(mine, 6):
        rows.append((f"{x:g}", f"{y:.4g}", f"{other[x]:.4g}" if x in other else "–"))
    return rows


def _digest(script: str) -> str:
    """The script's hash for the content policy: no other script may run in the page."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
