"""What an agent's sessions cost, as far as the agent's own program says so.

Every figure is the program's word, taken from what it printed; what it does not say stays unknown.
A further program is a function and a row in READERS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from lab.model import Record

LONGEST_LINE = 4_000_000
MOST = 1e12  # of anything


@dataclass(frozen=True)
class Spending:
    """Money and tokens of one session or of several; None where nothing was said."""

    cost_usd: float | None = None
    tokens: int | None = None  # in and out, without what came from a cache
    cached: int | None = None
    requests: float | None = None  # where the program counts premium requests

    @property
    def known(self) -> bool:
        """Whether anything was said."""
        return any(value is not None for value in asdict(self).values())


@dataclass(frozen=True)
class Account:
    """All sessions of a campaign together."""

    spent: Spending
    sessions: int
    said: int  # sessions whose program said something
    seconds: float


def read_spending(host: str, output: str) -> Spending:
    """What the session's output says; the reader of `host` first, then the others."""
    rows = list(_objects(output))
    order = [*([host] if host in READERS else []), *(name for name in READERS if name != host)]
    found = (READERS[name](rows, output) for name in order)
    return next((spending for spending in found if spending.known), Spending())


def calls_refused(output: str) -> int:
    """How many tool calls the permissions did not cover, where the program says so (Claude Code does)."""
    denials = [row.get("permission_denials") for row in _objects(output) if row.get("type") == "result"]
    return sum(len(found) for found in denials[-1:] if isinstance(found, list))


def account_of(agents: Iterable[Record]) -> Account:
    """Add up the sessions as the journal has them."""
    ended = [agent for agent in agents if "ended" in agent]
    each = [
        Spending(_number(a.get("cost_usd")), _count(a.get("tokens")), _count(a.get("cached")),
                 _number(a.get("requests")))
        for a in ended
    ]  # fmt: skip
    total = Spending(
        cost_usd=_sum(s.cost_usd for s in each), tokens=_whole(_sum(s.tokens for s in each)),
        cached=_whole(_sum(s.cached for s in each)), requests=_sum(s.requests for s in each),
    )  # fmt: skip
    seconds = sum(_number(a.get("seconds")) or 0.0 for a in ended)
    return Account(total, len(ended), sum(s.known for s in each), seconds)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


# -- what the programs print -----------------------------------------------------------------------------


def _objects(output: str) -> Iterator[Record]:
    """The JSON objects of the output, one a line; a line may also be a list of them."""
    for line in output.splitlines():
        text = line.strip()
        if text[:1] not in ("{", "[") or len(text) > LONGEST_LINE:
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        yield from (row for row in (found if isinstance(found, list) else [found]) if isinstance(row, dict))


def _claude(rows: list[Record], output: str) -> Spending:
    """`--output-format json`, `stream-json`: a result with total_cost_usd; cut short, the messages' usage."""
    results = [row for row in rows if row.get("type") == "result" and "total_cost_usd" in row]
    if results:
        last = results[-1]
        return _with_usage(_dict(last.get("usage")), _number(last.get("total_cost_usd")))
    messages = [_dict(row.get("message")) for row in rows if row.get("type") == "assistant"]
    usages = {str(m.get("id")): _dict(m.get("usage")) for m in messages if m.get("usage")}
    parts = [_with_usage(usage, None) for usage in usages.values()]
    return Spending(
        tokens=_whole(_sum(p.tokens for p in parts)), cached=_whole(_sum(p.cached for p in parts))
    )


def _with_usage(usage: Record, cost: float | None) -> Spending:
    names = ("input_tokens", "cache_creation_input_tokens", "output_tokens")
    return Spending(
        cost_usd=cost,
        tokens=_whole(_sum(_count(usage.get(name)) for name in names)),
        cached=_count(usage.get("cache_read_input_tokens")),
    )


def _codex(rows: list[Record], output: str) -> Spending:
    """`exec --json`: turn.completed with the session's tokens so far; as text: `tokens used` and a number."""
    turns = [_dict(row.get("usage")) for row in rows if row.get("type") == "turn.completed"]
    if turns:
        total, out = _count(turns[-1].get("input_tokens")), _count(turns[-1].get("output_tokens"))
        cached = _count(turns[-1].get("cached_input_tokens"))
        fresh = None if total is None else max(0, total - (cached or 0))
        return Spending(tokens=_whole(_sum((fresh, out))), cached=cached)
    said = re.findall(r"^tokens used:?\s+([\d,]+)\s*$", output, re.MULTILINE | re.IGNORECASE)
    return Spending(tokens=int(said[-1].replace(",", ""))) if said else Spending()


def _copilot(rows: list[Record], output: str) -> Spending:
    """Premium requests, and the tokens by model that it lists at the end of a prompt."""
    results = [_dict(row.get("usage")) for row in rows if row.get("type") == "result"]
    requests = _number(results[-1].get("premiumRequests")) if results else None
    said = re.findall(r"([\d.]+) Premium requests?", output, re.IGNORECASE)
    requests = requests if requests is not None else (_number(_float(said[-1])) if said else None)
    models = re.findall(
        r"([\d.]+)([km]?) in(?:put)?, ([\d.]+)([km]?) out(?:put)?(?:, ([\d.]+)([km]?) cache[d]?)?", output
    )
    tokens = [_scaled(m[0], m[1]) + _scaled(m[2], m[3]) for m in models]
    cached = [_scaled(m[4], m[5]) for m in models if m[4]]
    return Spending(requests=requests, tokens=_whole(_sum(tokens)), cached=_whole(_sum(cached)))


def _cursor(rows: list[Record], output: str) -> Spending:
    """`--output-format json`: a result that may have usage in camel case."""
    results = [_dict(row.get("usage")) for row in rows if row.get("type") == "result" and row.get("usage")]
    if not results:
        return Spending()
    names = ("inputTokens", "cacheWriteTokens", "outputTokens")
    tokens = _whole(_sum(_count(results[-1].get(name)) for name in names))
    return Spending(tokens=tokens, cached=_count(results[-1].get("cacheReadTokens")))


def _dict(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    """A sensible amount, or None: what an agent prints is no more than a claim."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < MOST else None  # nan is neither


def _count(value: object) -> int | None:
    return _whole(_number(value))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _scaled(number: str, unit: str) -> int:
    return int((_float(number) or 0.0) * {"": 1, "k": 1_000, "m": 1_000_000}[unit.lower()])


READERS: dict[str, Callable[[list[Record], str], Spending]] = {
    "claude": _claude, "codex": _codex, "copilot": _copilot, "cursor": _cursor,
}  # fmt: skip
