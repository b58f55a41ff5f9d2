"""The smallest gain that pays for a change: its lines, its new constants, its memory."""

from __future__ import annotations

import re

from lab.decide.facts import Facts

LINE = 0.1  # sigma for each net line: 0.001 does not pay for 20 lines where sigma is 0.0005
CONSTANT = 0.1  # sigma besides, for each new constant: somebody has to know its value
MOST = 4.0  # sigma; what lines can cost at most
SLACK = 1.0  # sigma; what a shorter code may earn at most
MEMORY_STEP = 0.25  # of the incumbent's peak memory ...
MEMORY_PRICE = 1.0  # ... costs this many sigma
MEMORY_GB = 0.5  # below this more memory costs nothing
CONSTANT_LINE = re.compile(r"^([+-])\s*([A-Z][A-Z0-9_]{2,})\s*(?::[^=]+)?=[^=]")


def asked(facts: Facts, unit: float) -> float:
    """The gain this change has to show, in units of the metric; below 0 when it makes the code shorter.

    `unit` is one sigma, less what pairs on one seed share. A smallest effect of the user's is a floor for
    whatever does not shorten.
    """
    line = LINE * unit if facts.price is None else facts.price
    lines = line * facts.net + (CONSTANT * unit * facts.constants if facts.price is None else 0.0)
    code = min(max(lines, -SLACK * unit), MOST * unit)
    total = code + memory(facts) * unit
    if facts.min_effect is not None and not shortens(facts):
        return max(total, facts.min_effect)
    return total if shortens(facts) else max(total, 0.0)


def memory(facts: Facts) -> float:
    """What the memory of the candidate costs, in sigma."""
    now, before = facts.memory_gb, facts.incumbent_memory_gb
    if now is None or before is None or before <= 0 or now - before <= MEMORY_GB:
        return 0.0
    return MEMORY_PRICE * (now / before - 1) / MEMORY_STEP


def shortens(facts: Facts) -> bool:
    """Whether equal results would be a gain."""
    return facts.net < 0 and memory(facts) == 0.0


def new_constants(diff: str) -> int:
    """Constants (`NAME = value`) that a unified diff adds and does not only change."""
    found: dict[str, set[str]] = {"+": set(), "-": set()}
    for line in diff.splitlines():
        match = CONSTANT_LINE.match(line)
        if match:
            found[match.group(1)].add(match.group(2))
    return len(found["+"] - found["-"])
