"""Drawing as SVG: elements, text that is always escaped, ticks, and a frame that knows its ranges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An SVG element; attribute values are escaped, `content` is markup made here."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{words}>{content}</{name}>" if content else f"<{name}{words}/>"


def text(words: str, x: float, y: float, **attributes: object) -> str:
    """A line of text, escaped."""
    return tag("text", escape(words), x=x, y=y, **attributes)


def tip(words: str) -> str:
    """What shows when the mark is pointed at."""
    return f"<title>{escape(words)}</title>"


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    rough = (high - low) / about
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_words(values: Sequence[float]) -> list[str]:
    """The tick's numbers with as many decimals as tell them apart."""
    step = min((b - a for a, b in zip(values, values[1:], strict=False)), default=1.0)
    decimals = max(0, min(8, -math.floor(math.log10(step)) if step > 0 else 0))
    if any(abs(v * 10**decimals - round(v * 10**decimals)) > 1e-6 for v in values):
        decimals += 1
    return [f"{v:.{decimals}f}" for v in values]


@dataclass(frozen=True)
class Frame:
    """A drawing area and the ranges it shows."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return self.left + (value - self.x0) / ((self.x1 - self.x0) or 1) * (
            self.width - self.left - self.right
        )

    def y(self, value: float) -> float:
        share = (value - self.y0) / ((self.y1 - self.y0) or 1)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)
