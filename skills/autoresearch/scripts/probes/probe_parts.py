"""What was measured of each part of a model, and when that is unhealthy: a function and a row in CHECKS."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

DEAD = 0.5  # of the units: never above 0
SATURATED = 0.6  # of the values: at an end of their range
LOUD = 100.0  # times the median of the other modules
FAINT = 1e-6  # times the largest
STILL = 1e-7  # of a weight's norm, in one step
COLLAPSED = 0.05  # of the entropy of even attention
LONG_ROW = 50.0  # times the median norm of an embedding's rows


@dataclass
class Part:
    """What was measured of one module or parameter."""

    name: str
    kind: str
    size: int = 0
    gradient: float | None = None  # norm, median over the steps
    update: float | None = None  # norm of the change over that of the weight, a step
    matrix: bool = False
    spread: float | None = None  # standard deviation of the output in the last step
    gain: float | None = None  # that of the output over that of the input
    varies: float | None = None  # the most that any unit differs between examples
    mean: float | None = None
    dead: float | None = None  # share of units that were never active
    saturated: float | None = None
    entropy: float | None = None  # of attention, as a share of even attention
    longest_row: float | None = None  # of an embedding, over the median row
    trained: bool = True
    finite: bool = True
    gradients: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """One unhealthy part: how bad (0 to 1), what shows it, what to try."""

    part: str
    what: str
    weight: float
    shows: str
    attempt: str


def not_finite(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.finite:
        return None
    return Found(
        part.name, "not finite", 1.0, "nan or inf", "find its input: log, division, root, half precision"
    )


def unused(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.kind != "parameter" or not part.trained or part.gradients:
        return None
    return Found(part.name, "unused", 0.9, "no gradient ever reached it", "use it in forward, or remove it")


def no_gradient(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.kind != "parameter" or not part.gradients or max(part.gradients) > 0:
        return None
    shows = f"its gradient is 0 in all {len(part.gradients)} steps"
    return Found(
        part.name, "no gradient", 0.85, shows, "what lies behind it is dead, detached or multiplied by 0"
    )


def frozen(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.kind != "parameter" or (part.trained and (not part.gradient or max(part.updates) > 0)):
        return None
    shows = "requires_grad is off" if not part.trained else "it has a gradient and does not move"
    return Found(part.name, "frozen", 0.85, shows, "give it to the optimizer, or remove it if it is meant so")


def dead(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.dead is None or part.dead < DEAD:
        return None
    shows = f"{part.dead:.0%} of its units are 0 for every example"
    return Found(
        part.name, "dead", 0.5 + 0.5 * part.dead, shows, "smaller rate or weights, bias 0, a leaky unit"
    )


def saturated(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.saturated is None or part.saturated < SATURATED:
        return None
    shows = f"{part.saturated:.0%} of its values are at an end of their range"
    return Found(part.name, "saturated", 0.7, shows, "smaller weights before it, or a norm")


def loud(part: Part, parts: dict[str, Part]) -> Found | None:
    """An output far above its input, or a gradient far above that of the other parameters."""
    attempt = "scale of its weights, a norm before it, clipping"
    if part.gain is not None and part.gain > LOUD and (part.spread or 0.0) > 10:
        shows = f"its output is {part.gain:.3g} times its input"
        return Found(part.name, "exploding", 0.8, shows, attempt)
    others = [p.gradient for p in parts.values() if p is not part and p.gradient]
    usual = statistics.median(others) if len(others) > 1 else math.inf
    if part.gradient is None or part.gradient < max(10 * LOUD * usual, 10.0):
        return None
    shows = f"its gradient is {part.gradient / usual:.3g} times the median"
    return Found(part.name, "exploding", 0.6, shows, attempt)


def faint(part: Part, parts: dict[str, Part]) -> Found | None:
    if not part.matrix or not part.gradient:  # the bias of keys has no gradient by nature
        return None
    most = max(p.gradient or 0.0 for p in parts.values())
    if part.gradient > FAINT * most:
        return None
    shows = f"its gradient is {part.gradient / most:.1e} of the largest"
    return Found(part.name, "vanishing", 0.6, shows, "a residual path, a norm, or other initial weights")


def still(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.kind != "parameter" or not part.gradient or not part.update or part.update > STILL:
        return None
    return Found(
        part.name, "too slow", 0.4, f"a step changes it by {part.update:.1e} of its norm", "a larger rate"
    )


def collapsed(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.entropy is None or part.entropy > COLLAPSED:
        return None
    shows = f"its entropy is {part.entropy:.1%} of that of even attention: it looks at one place"
    return Found(part.name, "collapsed", 0.7, shows, "normalise queries and keys, or scale by 1/sqrt(width)")


def constant(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.varies is None or part.varies > 1e-7 * max(1.0, abs(part.mean or 0.0)) or part.dead == 1.0:
        return None
    return Found(part.name, "constant", 0.75, "its output is the same for all", "its weights, its input")


def long_row(part: Part, parts: dict[str, Part]) -> Found | None:
    if part.longest_row is None or part.longest_row < LONG_ROW:
        return None
    shows = f"its longest row is {part.longest_row:.3g} times the median"
    return Found(part.name, "exploding", 0.65, shows, "a norm after it, a smaller rate, decay")


CHECKS: dict[str, Callable[[Part, dict[str, Part]], Found | None]] = {
    "not finite": not_finite,
    "unused": unused,
    "no gradient": no_gradient,
    "frozen": frozen,
    "dead": dead,
    "saturated": saturated,
    "loud": loud,
    "faint": faint,
    "still": still,
    "collapsed": collapsed,
    "constant": constant,
    "long row": long_row,
}


def examine(parts: dict[str, Part]) -> list[Found]:
    """Every unhealthy part, the worst first."""
    found = [f for part in parts.values() for check in CHECKS.values() if (f := check(part, parts))]
    return sorted(found, key=lambda one: -one.weight)
