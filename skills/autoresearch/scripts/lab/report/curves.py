"""Small pictures of one experiment: its loss over its parent's, its gain with the interval."""

from __future__ import annotations

from lab.report.material import Curve, Row
from lab.report.plot import Frame, tag, text, tick_words, ticks

CURVE_POINTS = 48


def thin(curve: Curve, points: int = CURVE_POINTS) -> list[tuple[float, float]]:
    """At most `points` of a curve, both ends among them."""
    if len(curve) <= points:
        return list(curve)
    return [curve[round(i * (len(curve) - 1) / (points - 1))] for i in range(points)]


def curves(mine: Curve, theirs: Curve, names: tuple[str, str], alt: str) -> str:
    """A run's loss over its parent's; the first steep part may be cut off."""
    mine, theirs = thin(mine), thin(theirs)
    both = [*mine, *theirs]
    values = sorted(y for _, y in both)
    high = values[min(len(values) - 1, int(0.94 * len(values)))]
    low = values[0]
    pad = 0.08 * (high - low or abs(high) or 1.0)
    f = Frame(
        460, 190, 58, 10, 12, 34, min(x for x, _ in both), max(x for x, _ in both), low - pad, high + pad
    )
    ys, xs = ticks(f.y0, f.y1, 4), ticks(f.x0, f.x1, 4)
    grid = "".join(f"M{f.left:.0f} {f.y(v):.1f}H{f.width - f.right:.0f}" for v in ys)
    words = [text(w, f.left - 6, f.y(v) + 4, class_="axis", text_anchor="end")
             for v, w in zip(ys, tick_words(ys), strict=True)]  # fmt: skip
    words += [text(w, f.x(v), f.height - 18, class_="axis", text_anchor="middle")
              for v, w in zip(xs, tick_words(xs), strict=True)]  # fmt: skip
    key = tag("path", d=f"M{f.left + 6:g} {f.height - 6:g}h20", class_="mine") + text(
        names[0], f.left + 30, f.height - 2, class_="axis"
    )
    if theirs:
        key += tag("path", d=f"M{f.left + 190:g} {f.height - 6:g}h20", class_="theirs")
        key += text(names[1], f.left + 214, f.height - 2, class_="axis")
    lines = _line(f, theirs, "theirs") + _line(f, mine, "mine")
    return tag(
        "svg",
        tag("path", d=grid, class_="grid") + "".join(words) + lines + key,
        role="img",
        aria_label=alt,
        class_="curve",
        viewBox=f"0 0 {f.width:g} {f.height:g}",
        font_size=12,
    )


def _line(f: Frame, curve: Curve, name: str) -> str:
    if not curve:
        return ""
    path = "L".join(f"{f.x(x):.1f} {f.y(min(max(y, f.y0), f.y1)):.1f}" for x, y in curve)
    return tag("path", d=f"M{path}", class_=name)


def interval(row: Row, reach: float) -> str:
    """The gain with its interval as a bar against 0; `reach` is the largest number shown."""
    v = row.evidence
    if v.gain is None or v.low is None or v.high is None or not reach > 0:
        return ""
    f = Frame(120, 18, 4, 4, 0, 0, min(0.0, -0.15 * reach), reach, 0, 1)
    x0, low, high = f.x(0), f.x(max(v.low, f.x0)), f.x(min(v.high, f.x1))
    at = f.x(min(max(v.gain, f.x0), f.x1))
    mark = tag("circle", cx=at, cy=9.0, r=4.0, class_="keep" if v.clear else "keep open")
    return tag(
        "svg",
        tag("path", d=f"M{x0:.1f} 1V17", class_="zero")
        + tag("path", d=f"M{low:.1f} 9H{high:.1f}", class_="bar")
        + mark,
        class_="gain",
        viewBox="0 0 120 18",
        aria_hidden="true",
    )
