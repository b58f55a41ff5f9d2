"""A check of a metric: what it found, and how a table of them is gone through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

EDGE = 0.02  # of the metric: less than that is no difference between labels and shuffled labels
T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """One check: `ok` is None where it could not be done, and `shows` says what it would need."""

    name: str
    ok: bool | None
    shows: str


class NotChecked(Exception):
    """The project does not give what a check needs."""


def worse(goal: str, a: float, b: float) -> bool:
    """Whether `a` is clearly worse than `b` by the goal."""
    gap = a - b if goal == "min" else b - a
    return gap > EDGE * max(abs(a), abs(b), 1e-6)


def done(checks: Mapping[str, Callable[[T], Checked]], subject: T) -> list[Checked]:
    """Every check; one that cannot be done says what it would need, and a refusal of the project fails."""
    found = []
    for name, check in checks.items():
        try:
            found.append(check(subject))
        except NotChecked as why:
            found.append(Checked(name, None, str(why)))
        except SystemExit as refused:
            found.append(Checked(name, False, f"the evaluation refused: {refused}"))
    return found
