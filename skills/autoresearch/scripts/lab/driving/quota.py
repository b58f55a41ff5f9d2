"""What an agent program says when its account may do no more for a while, and until when.

Read only from the end of a session that failed or did nothing: the words also occur where nothing is wrong.
The forms were seen in Claude Code 2.1, Codex 0.169 and in reports of their users.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from dataclasses import dataclass

LOOKED_AT = 6000  # characters at the end of what the session printed
LONGEST = datetime.timedelta(days=8)  # a weekly limit, and a day for what a clock without a date may hide
SIGNS = re.compile(
    r"hit your [\w' -]{0,40}limit|(?<!context )\blimit (?:was |has been |is )?(?:reached|exceeded)"
    r"|rate_limit_error|rate_limit_exceeded|usage_limit_reached|insufficient_quota|overloaded_error"
    r"|exceeded your (?:[\w-]+ ){0,4}(?:quota|allowance|limits?|credits)|quota exceeded"
    r"|too many requests|out of (?:usage )?credits|rate.limited",
    re.IGNORECASE,
)
UNITS = {"ms": 0.001, "milli": 0.001, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
PART = r"\d+(?:\.\d+)?\s*(?:milliseconds?|ms|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b"
WAIT = re.compile(
    rf"(?:again|retry|resets?|wait)(?: \w+)? in (?:about )?({PART}(?:[\s,]+(?:and )?{PART})*)", re.IGNORECASE
)
AFTER = re.compile(r"(?:retry[-_ ]after|resets_in_seconds)[\"'\s:=]+(\d+(?:\.\d+)?)", re.IGNORECASE)
EPOCH = re.compile(r"(?:limit reached\||resets_at[\"'\s:=]+)(\d{10})\b", re.IGNORECASE)
ISO = re.compile(
    r"(?:again|resets?|until)(?: at)? "
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)",
    re.IGNORECASE,
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CLOCK = re.compile(
    r"(?:again|resets?)(?: at)? "
    rf"(?:({'|'.join(MONTHS)})[a-z]* (\d{{1,2}})(?:st|nd|rd|th)?,?(?: \d{{4}})?,? (?:at )?)?"
    r"(\d{1,2})(?::(\d\d))? ?([ap]m)?(?: \(([A-Za-z]+(?:/[A-Za-z_+-]+)*)\))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Limit:
    """A limit that was reached; `until` is None where the program does not say."""

    words: str
    until: datetime.datetime | None


def limit_in(output: str, now: datetime.datetime) -> Limit | None:
    """The limit that the end of a session's output speaks of, or None. `now` has a zone."""
    end = output[-LOOKED_AT:].replace("\\u00b7", "·").replace("\\/", "/").replace('\\"', '"')
    signs = list(SIGNS.finditer(end))
    if not signs:
        return None
    said = end[max(0, signs[-1].start() - 200) : signs[-1].end() + 400]
    until = _until(said, now)
    in_reach = until is not None and now < until <= now + LONGEST
    words = re.split(r"[\n\"}]", end[signs[-1].start() : signs[-1].end() + 120])[0]
    return Limit(words, until if in_reach else None)


def _until(said: str, now: datetime.datetime) -> datetime.datetime | None:
    seconds = _seconds(said)
    if seconds is not None:
        return now + datetime.timedelta(seconds=min(seconds, 2 * LONGEST.total_seconds()))
    epoch = EPOCH.search(said)
    if epoch:
        return datetime.datetime.fromtimestamp(int(epoch[1]), tz=now.tzinfo)
    written = ISO.search(said)
    try:
        return _iso(written[1], now) if written else _clock(said, now)
    except ValueError:
        return None


def _seconds(said: str) -> float | None:
    after, wait = AFTER.search(said), WAIT.search(said)
    if wait:
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|milli|[dhms])", wait[1].lower())
        return sum(float(number) * UNITS[unit] for number, unit in parts)
    return float(after[1]) if after else None


def _iso(text: str, now: datetime.datetime) -> datetime.datetime:
    text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text.replace("Z", "+00:00"))
    time = datetime.datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=now.tzinfo)


def _clock(said: str, now: datetime.datetime) -> datetime.datetime | None:
    """`resets 3:30am (Europe/Rome)`, `try again at Nov 22, 12:16 PM`: the next such time."""
    found = next((m for m in CLOCK.finditer(said) if m[4] or m[5]), None)
    if found is None:
        return None
    month, day, hour, minute, half, zone = found.groups()
    hours = int(hour) % 12 + (12 if half.lower() == "pm" else 0) if half else int(hour)
    here = now.astimezone(_zone(zone) or now.tzinfo)
    time = here.replace(hour=hours, minute=int(minute or 0), second=0, microsecond=0)
    if month:
        time = time.replace(month=MONTHS.index(month.lower()) + 1, day=int(day))
        return time if time > here else time.replace(year=time.year + 1)
    return time if time > here else time + datetime.timedelta(days=1)


def _zone(name: str | None) -> datetime.tzinfo | None:
    try:
        return zoneinfo.ZoneInfo(name) if name else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return None
