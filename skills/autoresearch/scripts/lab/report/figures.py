"""Numbers, times and texts as a person reads them: the digits the noise allows, one clean bounded line."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from functools import lru_cache

from lab.redact import one_line
from lab.views import flat

LONGEST = 400  # characters of any text on one line
MINUS = "\u2212"  # as wide as a plus, so that columns of changes line up


@lru_cache(maxsize=1 << 16)
def _line(text: str) -> str:
    """A text cleaned once: it stands in the table, the details and both twins of the page."""
    # Cut before it is cleaned: some texts are 10 KB long, and cleaning looks at every letter.
    return one_line(flat(text[: 8 * LONGEST]), LONGEST)


def said(text: str, limit: int) -> str:
    """A person's, an agent's or a program's text on one line of at most `limit` characters."""
    found = _line(text)
    return found if len(found) <= limit else found[: limit - 1].rstrip() + "…"


@dataclass(frozen=True)
class Figures:
    """How many decimals a value and a change of this metric are worth."""

    decimals: int

    def value(self, number: float | None) -> str:
        """The metric itself; a dash where it is not known."""
        return "–" if number is None or not math.isfinite(number) else f"{number:.{self.decimals}f}"

    def change(self, number: float | None) -> str:
        """A signed difference; positive is better everywhere on the page."""
        if number is None or not math.isfinite(number):
            return "–"
        text = f"{abs(number):.{self.decimals}f}"
        return text if not text.strip("0.") else ("+" if number > 0 else MINUS) + text

    def size(self, number: float) -> str:
        """A difference without its sign."""
        return self.change(abs(number)).lstrip("+")


def figures(sigma: float | None, values: list[float]) -> Figures:
    """The last digit of a value is the first of the noise, the second where that first is a 1 or a 2.

    Without noise four significant ones; never so few that the values of the campaign all look alike.
    """
    finite = [abs(v) for v in values if math.isfinite(v) and v]
    size = max(finite, default=1.0)
    spread = max(values) - min(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0
    need = _decimals(sigma) + (_first_digit(sigma) < 3) if sigma else _decimals(size) + 3
    if spread:
        need = max(need, _decimals(spread) + 1)
    return Figures(max(0, min(need, 8)))


def _decimals(number: float) -> int:
    """Decimals that show the first digit of `number`."""
    return -math.floor(math.log10(abs(number)) + 1e-9)  # 1 - 0.9999 is a little under 0.0001


def _first_digit(number: float) -> int:
    return int(abs(number) * 10.0 ** _decimals(number) + 1e-9)


def percent(part: float, whole: float) -> str:
    """A share of the baseline: two digits, and nothing where the baseline is 0."""
    if not whole or not math.isfinite(part):
        return ""
    return (
        f"{100 * part / abs(whole):.2g}" + " %"
        if abs(part / whole) < 1
        else f"{100 * part / abs(whole):.0f} %"
    )


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} m"
    return f"{minutes} m {whole % 60:02d} s"


def moment(iso: str) -> datetime.datetime | None:
    """The time a record carries; None for what is no time."""
    try:
        found = datetime.datetime.fromisoformat(iso)
    except ValueError:
        return None
    return found if found.tzinfo else found.astimezone()


def between(start: str, end: str) -> float:
    """Seconds from one time to the other, 0 where one is unknown or the clock went back."""
    first, last = moment(start), moment(end)
    return max(0.0, (last - first).total_seconds()) if first and last else 0.0


def clock(iso: str, beside: str = "") -> str:
    """Day and time of a record, the time alone on the day of `beside`."""
    found, other = moment(iso), moment(beside)
    if found is None:
        return "?"
    same = other is not None and other.date() == found.date()
    return found.strftime("%H:%M" if same else "%d %b %Y %H:%M")


def plural(count: int, word: str) -> str:
    """`1 run`, `2 runs`, `0 runs`."""
    if word.endswith("sis") and count != 1:
        return f"{count} {word[:-2]}es"
    return f"{count} {word}" + ("" if count == 1 else "es" if word.endswith(("s", "sh", "ch")) else "s")
