"""The progress picture: the staircase of the best, its noise band, and a mark for every experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.report.figures import Figures
from lab.report.material import Material, Row
from lab.report.plot import Frame, tag, text, tick_words, ticks, tip

BAND_SIGMAS = 2.0  # where 19 of 20 further runs of the same code would land
MANY = 700  # experiments from which on a discard is a dot without words of its own
LABELS = 7
# Where a label may stand: points beside its mark, lines below or above it; the first is liked best.
PLACES = tuple((dx, lines) for lines in (-0.9, 0.9, -1.8, 1.8, -2.8, 2.8, -4, 4) for dx in (9, -9, 30, -30))
MOST_COVERED = 40.0


@dataclass(frozen=True)
class Size:
    """The measures of one form of the progress picture."""

    width: float
    height: float
    left: float
    bottom: float
    font: float
    mark: float
    wordy: bool  # labels at the keeps, words at the marks


WIDE = Size(960, 430, 70, 44, 13, 5.0, True)
NARROW = Size(400, 360, 62, 46, 13.5, 4.5, False)
CARD = Size(1120, 400, 84, 46, 17, 6.5, True)


def progress(m: Material, size: Size = WIDE, alt: str = "") -> str:
    """The staircase of the best value over the experiments, the noise band, every experiment's mark."""
    rows = [row for row in m.rows if row.e.verdict]
    if m.baseline is None:
        return ""
    low, high = scale(m)
    last = max((row.e.number for row in rows), default=0)
    f = Frame(
        size.width, size.height, size.left, 14, 26, size.bottom, -0.5, last + 0.5 + 0.02 * last, low, high
    )
    parts = [
        _axes(f, size, m),
        *_band(f, m, last),
        _baseline(f, m),
        _stairs(f, m, last),
        *_marks(f, size, m, rows),
    ]
    if size.wordy:
        parts += _labels(f, size, m)
    heading = text(
        f"{m.settings.metric}, {'lower' if m.sign < 0 else 'higher'} is better", 6, 15, class_="axis"
    )
    return tag(
        "svg",
        heading + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=alt,
        class_="plot " + ("wide" if size is WIDE else "narrow" if size is NARROW else "card"),
        viewBox=f"0 0 {size.width:g} {size.height:g}",
        font_size=size.font,
    )


def scale(m: Material) -> tuple[float, float]:
    """What the axis shows: all keeps with their band; far discards are marked at the edge."""
    assert m.baseline
    sigma = m.beside.sigma or 0.0
    core = [row.e.metric for row in (m.baseline, *m.kept) if row.e.metric is not None]
    low, high = min(core), max(core)
    margin = max(high - low, 6 * sigma, 1e-3 * max(map(abs, core)), 1e-12)
    others = [row.e.metric for row in m.discards if row.e.metric is not None and math.isfinite(row.e.metric)]
    low, high = low - BAND_SIGMAS * sigma, high + BAND_SIGMAS * sigma
    worse, better = 0.4 * margin, 0.25 * margin
    reach = (better, worse) if m.sign < 0 else (worse, better)
    seen = [v for v in others if low - reach[0] <= v <= high + reach[1]]
    low, high = min([low, *seen]), max([high, *seen])
    return low - 0.06 * margin, high + 0.06 * margin


def _axes(f: Frame, size: Size, m: Material) -> str:
    ys, xs = ticks(f.y0, f.y1), [v for v in ticks(0, f.x1, 8 if size.wordy else 4) if v == int(v)]
    right, bottom = f.width - f.right, f.height - f.bottom
    lines = "".join(f"M{f.left:.0f} {f.y(v):.1f}H{right:.0f}" for v in ys)
    words = "".join(text(w, f.left - 8, f.y(v) + 4, class_="axis", text_anchor="end")
                    for v, w in zip(ys, tick_words(ys), strict=True))  # fmt: skip
    below = "".join(text(f"{v:.0f}", f.x(v), bottom + 18, class_="axis", text_anchor="middle") for v in xs)
    name = text("experiment", (f.left + right) / 2, f.height - 6, class_="axis", text_anchor="middle")
    return tag("path", d=lines, class_="grid") + words + below + name


def _best_after(m: Material) -> list[tuple[int, float]]:
    """(experiment number, best value from there on)."""
    steps = [row for row in (m.baseline, *m.kept) if row and row.e.metric is not None]
    return [(row.e.number, row.e.metric or 0.0) for row in steps]


def levels(m: Material, last: int) -> list[tuple[float, float, float, float]]:
    """(from, to, best value, sigma) of each step whose noise is known, as it was known at that level."""
    steps = _best_after(m)
    ends = [*(float(number) for number, _ in steps[1:]), last + 0.5]
    told = sorted(((row.e.number, row.e.sigma) for row in m.tried if row.e.sigma is not None), reverse=True)
    found, known = [], m.beside.sigma
    for (number, value), end in zip(steps, ends, strict=True):
        here = None
        while told and told[-1][0] <= end:
            here = told.pop()[1]
        sigma = here if here is not None else known
        if sigma:
            found.append((float(number), end, value, sigma))
            known = sigma
    return found


def _band(f: Frame, m: Material, last: int) -> list[str]:
    """Where 19 of 20 further runs of the best would land."""
    boxes = []
    for start, end, value, sigma in levels(m, last):
        top, bottom = f.y(value + BAND_SIGMAS * sigma), f.y(value - BAND_SIGMAS * sigma)
        boxes.append(f"M{f.x(start):.1f} {top:.1f}H{f.x(end):.1f}V{bottom:.1f}H{f.x(start):.1f}z")
    words = tip("where 19 of 20 further runs of the best at that time would land")
    return [tag("path", words, d="".join(boxes), class_="band")] if boxes else []


def _baseline(f: Frame, m: Material) -> str:
    assert m.baseline and m.baseline.e.metric is not None
    y = f.y(m.baseline.e.metric)
    right = f.width - f.right
    return tag("path", d=f"M{f.left:.0f} {y:.1f}H{right:.0f}", class_="base") + text(
        "baseline", right - 2, y - 6, class_="axis", text_anchor="end"
    )


def _stairs(f: Frame, m: Material, last: int) -> str:
    steps = _best_after(m)
    path = f"M{f.x(steps[0][0]):.1f} {f.y(steps[0][1]):.1f}"
    path += "".join(f"H{f.x(n):.1f}V{f.y(v):.1f}" for n, v in steps[1:])
    return tag("path", d=path + f"H{f.x(last + 0.5):.1f}", class_="stairs")


def _marks(f: Frame, size: Size, m: Material, rows: Sequence[Row]) -> Iterable[str]:
    """Discards below, crashes on the floor, keeps on top; what is off the scale stands at the edge."""
    told = size.wordy and len(rows) <= MANY
    edge = {True: f.top + 4, False: f.height - f.bottom - 4}
    dots, crosses, arrows, keeps = [], [], [], []
    for row in rows:
        x, value = f.x(row.e.number), row.e.metric
        words = tip(_words(m.figures, row)) if told or (size.wordy and row.e.verdict == "keep") else ""
        if row.e.verdict == "crash" or value is None:
            # Crashes have no value: they stand in a row at the foot, where they hide nothing.
            crosses.append((_cross(x, f.height - f.bottom - 7, size.mark - 1), words))
        elif not f.y0 <= value <= f.y1:
            arrows.append((_arrow(x, edge[value > f.y1], value > f.y1, size.mark), words))
        elif row.e.verdict == "discard":
            dots.append((f"M{x:.1f} {f.y(value):.1f}h0", words))
        else:
            proof = m.proofs.get(row.id)
            ring = (
                [tag("circle", cx=x, cy=f.y(value), r=size.mark + 3.5, class_="ring")]
                if proof and proof.confirmed
                else []
            )
            keeps += [*ring, _keep(row, x, f.y(value), size.mark, words)]
    yield from _group(dots, "dot", told)
    yield from _group(crosses, "crash", told)
    yield from _group(arrows, "off", told)
    yield from keeps


def _group(marks: list[tuple[str, str]], name: str, told: bool) -> Iterable[str]:
    if told:
        return [tag("path", words, d=path, class_=name) for path, words in marks]
    return [tag("path", d="".join(path for path, _ in marks), class_=name)] if marks else []


def _keep(row: Row, x: float, y: float, radius: float, words: str) -> str:
    return tag("circle", words, cx=x, cy=y, r=radius, class_="keep" if row.mark == "keep" else "keep open")


def _cross(x: float, y: float, r: float) -> str:
    return f"M{x - r:.1f} {y - r:.1f}l{2 * r:g} {2 * r:g}m0 {-2 * r:g}l{-2 * r:g} {2 * r:g}"


def _arrow(x: float, y: float, up: bool, r: float) -> str:
    high = -1.6 * r if up else 1.6 * r
    return f"M{x - r:.1f} {y + (0 if not up else -high):.1f}h{2 * r:g}l{-r:g} {high:g}z"


def _words(figures: Figures, row: Row) -> str:
    value = figures.value(row.e.metric) if row.e.verdict != "crash" else "crash"
    change = f" ({figures.change(row.evidence.gain)})" if row.evidence.gain is not None else ""
    return f"{row.id} {value}{change} {row.words(60)}"


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(f: Frame, size: Size, m: Material) -> list[str]:
    """Plain words at the keeps that gained most, where they find room."""
    keeps = [(f.x(row.e.number), f.y(row.e.metric)) for row in m.kept if row.e.metric is not None]
    dots = [(f.x(row.e.number), f.y(row.e.metric)) for row in m.discards if row.e.metric is not None]
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in keeps]
    light: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in dots]
    light += _lines(f, m)
    made = []
    for row in sorted(m.kept, key=lambda row: -(row.evidence.gain or 0.0))[:LABELS]:
        if row.e.metric is None:
            continue
        words = f"{row.id} {row.words(28)}"
        spot = (f.x(row.e.number), f.y(row.e.metric))
        place = _room(f, spot, 0.53 * size.font * len(words), size.font, taken, light)
        if place:
            taken.append(place)
            made.append(text(words, place[0], place[3] - 3, class_="label"))
    return made


def _lines(f: Frame, m: Material) -> list[Box]:
    """The stairs and the line of the baseline as thin boxes."""
    steps = [(f.x(n), f.y(v)) for n, v in _best_after(m)]
    ends = [*steps[1:], (f.width - f.right, steps[-1][1])]
    boxes = [(x, y - 1, to, y + 1) for (x, y), (to, _) in zip(steps, ends, strict=True)]
    boxes += [
        (to - 1, min(y, there), to + 1, max(y, there))
        for (_, y), (to, there) in zip(steps, ends, strict=True)
    ]
    return [*boxes, (f.left, steps[0][1] - 1, f.width, steps[0][1] + 1)]


def _room(
    f: Frame,
    spot: tuple[float, float],
    width: float,
    height: float,
    taken: Sequence[Box],
    light: Sequence[Box],
) -> Box | None:
    """The box near a mark, inside the frame and on no other label, that covers the fewest dots and lines."""
    x, y = spot
    best: tuple[float, Box] | None = None
    for order, (dx, lines) in enumerate(PLACES):
        left = x + dx if dx > 0 else x + dx - width
        top = y + lines * height - height / 2
        box = (left, top, left + width, top + height)
        inside = (
            f.left <= left and box[2] <= f.width - 4 and f.top <= top and box[3] <= f.height - f.bottom - 16
        )
        if not inside or any(_meet(box, other) for other in taken):
            continue
        cost = order + 6.0 * sum(_meet(box, other) for other in light)
        if cost < (best[0] if best else MOST_COVERED):
            best = (cost, box)
    return best[1] if best else None


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
