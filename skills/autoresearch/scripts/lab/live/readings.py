"""What a training program shows on its way: step, loss, speed, time left; from its output or curve file.

Only numbers and the unit of the speed leave the text, so that nothing else can. Programs write them in many
ways (`step 00620 (65.1%) | loss: 3.21`, `iter 100: loss 3.2, time 104ms`, `{'loss': 3.2, 'epoch': 1.5}`);
what is not found is None.
"""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Curve = Sequence[tuple[float, float]]

CURVE_BYTES = 2_000_000  # of a curve file
LOG_BYTES = 4_000_000  # of a log, for its curve
TAIL_BYTES = 20_000  # of a log, for the present
LINE = 1000  # characters of a line that are read
LEAST = 2  # points that make a curve
MOSTLY = 0.8  # of the lines with a loss: with so many steps they are the axis
AXES = ("step", "tokens", "progress", "seconds", "epoch", "x")
LOSSES = ("smooth_loss", "loss", "train_loss", "val_loss", "y")
COUNTERS = ("step", "steps", "iteration", "iter", "it", "batch", "pass", "round", "epoch")

GAP = r"[ \t]{0,8}"  # bounded: two gaps side by side cost the square of their length
NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
COUNT = re.compile(
    rf"(?<![\w./])({'|'.join(COUNTERS)})['\"]?{GAP}[:=#]?{GAP}({NUMBER})"
    rf"(?:{GAP}/{GAP}(\d[\d,]*))?(?![\w.])",
    re.IGNORECASE,
)
LOSS = re.compile(
    rf"(?<![\w.])(?:train(?:ing)?[_/ ]|smooth_)?loss['\"]?{GAP}[:=]?{GAP}({NUMBER})(?![\w.])",
    re.I,
)
UNIT = rf"(tok|token|tokens|samples?|images?|examples?|rows?|it|steps?){GAP}/{GAP}s(?:ec)?\b"
RATES = (
    re.compile(rf"({NUMBER}){GAP}([kKM]?){GAP}{UNIT}"),
    re.compile(rf"(?<!\w){UNIT}{GAP}[:=]?{GAP}({NUMBER})([kKM]?)(?![\w.])"),
)
SHARE = re.compile(rf"(?:^|[(|\[]|progress:?){GAP}(\d{{1,3}}(?:\.\d+)?){GAP}%", re.I)
LEFT = re.compile(
    rf"(?<!\w)(?:remaining|eta|left)['\"]?{GAP}[:=]?{GAP}"
    rf"(?:(\d+(?:\.\d+)?){GAP}(s|m|min|h)?(?![\w:.])|(?:(\d+):)?(\d{{1,2}}):(\d{{2}})(?!\d))",
    re.I,
)
SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Reading:
    """The last that a run has shown of each; `share` is how much is done, from 0 to 1."""

    step: float | None = None
    loss: float | None = None
    rate: str | None = None  # with its unit: 1,234 tok/s
    left: float | None = None  # seconds, as the program says
    share: float | None = None


def lines_of(log: bytes) -> list[str]:
    """The lines of an output, each redrawing of a progress line one of its own."""
    return re.split(r"[\r\n]+", log.decode("utf-8", "replace"))


def last_reading(log: bytes) -> Reading:
    """What the end of an output says, newest first for each fact by itself."""
    found: dict[str, object] = {}
    for line in reversed(lines_of(log[-TAIL_BYTES:])):
        for name, value in _facts(line[:LINE]).items():
            found.setdefault(name, value)
        if len(found) == 5:
            break
    return Reading(**found)  # type: ignore[arg-type]


def _facts(line: str) -> dict[str, object]:
    count, loss = _count(line), _loss(line)
    facts: dict[str, object] = {}
    if count:
        facts["step"] = count[0]
    if loss is not None:
        facts["loss"] = loss
    share = SHARE.search(line)
    if share and float(share[1]) <= 100:
        facts["share"] = float(share[1]) / 100
    elif count and count[1] and count[0] <= count[1]:
        facts["share"] = count[0] / count[1]
    rate, left = _rate(line), _left(line)
    facts |= {"rate": rate} if rate else {}
    return facts | ({"left": left} if left is not None else {})


def _count(line: str) -> tuple[float, float | None] | None:
    """(step, of how many) by the finest counter of the line."""
    found = {m[1].lower(): m for m in reversed(list(COUNT.finditer(line)))}
    best = next((found[name] for name in COUNTERS if name in found), None)
    if best is None:
        return None
    return _number(best[2]), _number(best[3]) if best[3] else None


def _loss(line: str) -> float | None:
    found = LOSS.search(line)
    value = _number(found[1]) if found else math.nan
    return value if math.isfinite(value) else None


def _rate(line: str) -> str | None:
    first, second = RATES[0].search(line), RATES[1].search(line)
    if second:
        unit, number, scale = second[1], second[2], second[3]
    elif first:
        number, scale, unit = first[1], first[2], first[3]
    else:
        return None
    value = _number(number) * SCALE[scale]
    return f"{value:,.0f} {unit}/s" if value >= 100 else f"{value:.3g} {unit}/s"


def _left(line: str) -> float | None:
    found = LEFT.search(line)
    if found is None:
        return None
    if found[1]:
        return float(found[1]) * SECONDS[(found[2] or "s").lower()]
    return 3600.0 * int(found[3] or 0) + 60.0 * int(found[4]) + int(found[5])


def _number(text: str) -> float:
    return float(text.replace(",", ""))


# -- curves --------------------------------------------------------------------------------------------


def curve_of_log(log: bytes, most: int | None = None) -> Curve:
    """The loss over the step, from an output; by the order of its lines where no counter rises with them.

    `most` bounds the lines that are read, evenly from first to last: a page shows few points of a curve.
    """
    found = [line[:LINE] for line in lines_of(log[:LOG_BYTES]) if "loss" in line[:LINE].lower()]
    if most is not None and len(found) > most:
        found = [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    read = [(_count(line), loss) for line in found if (loss := _loss(line)) is not None]
    stepped = [(count[0], loss) for count, loss in read if count]
    steps = [step for step, _ in stepped]
    # A last line about the whole run has no step; where many have none, or it starts again, it is no axis.
    if len(stepped) < MOSTLY * len(read) or steps != sorted(steps):
        stepped = [(float(i), loss) for i, (_, loss) in enumerate(read, 1)]
    return sorted(dict(stepped).items()) if len(stepped) >= LEAST else ()


def read_curve(folder: Path, most: int | None = None) -> Curve:
    """The loss curve a run left, in a file of its own or else in its log; () without one."""
    own = curve_of_file(folder) or curve_of_file(folder / "out")  # there while it runs
    return own or curve_of_log(read_end(folder / "run.log", LOG_BYTES, head=True), most)


def curve_of_file(folder: Path) -> Curve:
    """The curve that the program wrote down: curve.jsonl, curve.json, `curve` in metrics.json."""
    for name in ("curve.jsonl", "curve.json", "metrics.json"):
        path = folder / name
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > CURVE_BYTES:
                continue
            rows = _rows_of(name, path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError, RecursionError):
            continue
        points = [point for row in rows for point in [_point(row)] if point]
        if len(points) >= LEAST:
            return sorted(dict(points).items())
    return ()


def read_end(path: Path, size: int, *, head: bool = False) -> bytes:
    """The last bytes of a file (the first with `head`), b"" when it cannot be read."""
    try:
        with path.open("rb") as file:
            if not head:
                file.seek(max(0, path.stat().st_size - size))
            return file.read(size)
    except OSError:
        return b""


def at(curve: Curve, x: float) -> float | None:
    """The curve's value at `x`, on a straight line between its neighbours; None beyond its ends."""
    if not curve or not curve[0][0] <= x <= curve[-1][0]:
        return None
    i = bisect.bisect_left([point[0] for point in curve], x)
    (x1, y1) = curve[i]
    if x1 == x or i == 0:
        return y1
    (x0, y0) = curve[i - 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _rows_of(name: str, text: str) -> list[object]:
    if name == "curve.jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    whole = json.loads(text)
    rows = whole.get("curve") if isinstance(whole, dict) else whole
    return rows if isinstance(rows, list) else []


def _point(row: object) -> tuple[float, float] | None:
    """One point of a curve: an object with names we know, or a pair."""
    if isinstance(row, dict):
        x = next((row[name] for name in AXES if name in row), None)
        y = next((row[name] for name in LOSSES if name in row), None)
    elif isinstance(row, list) and len(row) == 2:
        x, y = row
    else:
        return None
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in (x, y)):
        return None
    return float(x), float(y)  # type: ignore[arg-type]
