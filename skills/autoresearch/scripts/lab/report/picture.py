"""Progress and the share card as PNG, where matplotlib happens to be: an extra that nothing relies on."""

from __future__ import annotations

import importlib
import io
from typing import Any

from lab.report.figures import plural
from lab.report.progress import BAND_SIGMAS, levels, scale
from lab.report.story import Story

KEEP, DISCARD, CRASH, SOFT = "#0072b2", "#85898e", "#c04f00", "#55595e"
DPI = 100
CARD_INCHES, PROGRESS_INCHES = (12.0, 6.75), (9.6, 4.8)  # 1200 x 675 and 960 x 480 points


def pictures(s: Story) -> dict[str, bytes] | None:
    """progress.png and card.png; None where matplotlib is not installed or cannot start."""
    if s.m.baseline is None:
        return {}
    try:
        matplotlib = importlib.import_module(
            "matplotlib"
        )  # 0.3 s, and seldom there: types know nothing of it
        figure = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        return None
    with matplotlib.rc_context(
        {
            "font.family": "sans-serif",
            "text.usetex": False,
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 12,
        }
    ):
        return {"progress.png": _progress(s, figure), "card.png": _card(s, figure)}


def _progress(s: Story, figure: Any) -> bytes:
    drawn = figure(figsize=PROGRESS_INCHES, dpi=DPI, layout="constrained")
    _draw(s, drawn.add_subplot())
    return _png(drawn)


def _card(s: Story, figure: Any) -> bytes:
    drawn = figure(figsize=CARD_INCHES, dpi=DPI)
    size = min(30.0, 1400 / len(s.title))  # so that the headline fits the width
    drawn.text(0.05, 0.9, s.title, fontsize=size, fontweight="bold", va="center")
    drawn.text(0.05, 0.83, s.belief.head, fontsize=18, color=KEEP, va="center")
    drawn.text(
        0.05,
        0.05,
        "  ·  ".join((s.meta[0], plural(len(s.m.tried), "experiment"), f"{len(s.m.kept)} kept", s.meta[3])),
        fontsize=13,
        color=SOFT,
        va="center",
    )
    _draw(s, drawn.add_axes((0.08, 0.17, 0.88, 0.58)))
    return _png(drawn)


def _png(drawn: Any) -> bytes:
    out = io.BytesIO()
    drawn.savefig(out, format="png")
    return out.getvalue()


def _draw(s: Story, axes: Any) -> None:
    m = s.m
    steps = [
        (row.e.number, row.e.metric) for row in (m.baseline, *m.kept) if row and row.e.metric is not None
    ]
    last = max(row.e.number for row in m.rows)
    low, high = scale(m)
    for start, end, value, sigma in levels(m, last):
        reach = BAND_SIGMAS * sigma
        axes.fill_between([start, end], value - reach, value + reach, color=KEEP, alpha=0.15, linewidth=0)
    xs, ys = [n for n, _ in steps] + [last + 0.5], [v for _, v in steps] + [steps[-1][1]]
    axes.step(xs, ys, where="post", color=KEEP, linewidth=2)
    inside = [r for r in m.discards if r.e.metric is not None and low <= r.e.metric <= high]
    axes.plot([r.e.number for r in inside], [r.e.metric for r in inside], "o", color=DISCARD, markersize=4)
    for row in m.kept:
        face = KEEP if row.mark == "keep" else "white"
        axes.plot(row.e.number, row.e.metric, "o", color=KEEP, markerfacecolor=face, markersize=8)
    foot = low + 0.03 * (high - low)
    axes.plot([r.e.number for r in m.crashes], [foot] * len(m.crashes), "x", color=CRASH, markersize=6)
    axes.set_ylim(low, high)
    axes.set_xlabel("experiment")
    axes.set_ylabel(f"{m.settings.metric} ({'lower' if m.sign < 0 else 'higher'} is better)")
