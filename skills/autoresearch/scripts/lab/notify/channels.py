"""Where messages go: the entries of `notify:` with their secrets filled in, and the program that sends.

A key is read from the environment or from a file that only its owner can read, at the moment it is needed. A
channel has a name without anything secret in it; its address shows in no `repr`, no error and no argument.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import extras
from lab.grammars import FROM_ENVIRONMENT, SCHEME

APPRISE = "apprise==2.2.0"


@dataclass(frozen=True)
class Channel:
    """One address, or the reason why there is none."""

    name: str  # tgram 1: the kind of service and the place in the list
    url: str = field(default="", repr=False)
    problem: str = ""


def channels(places: Sequence[str], environ: Mapping[str, str], root: Path) -> list[Channel]:
    """Every channel that `notify:` names; those that cannot be used carry a problem."""
    found: list[Channel] = []
    for number, place in enumerate(places, 1):
        if place.startswith("file:"):
            found += _of_file(place.removeprefix("file:"), str(number), environ, root)
        else:
            found.append(_channel(place, str(number), environ))
    return found


def _channel(text: str, number: str, environ: Mapping[str, str]) -> Channel:
    missing = [name for name in FROM_ENVIRONMENT.findall(text) if not environ.get(name)]
    url = FROM_ENVIRONMENT.sub(lambda name: environ.get(name[1], ""), text).strip()
    scheme = SCHEME.match(url.lower())
    if missing:
        kind = SCHEME.match(text)
        return Channel(
            f"{kind[1] if kind else 'channel'} {number}", problem=f"{', '.join(missing)} is not set"
        )
    if not scheme:
        return Channel(f"channel {number}", problem="is no apprise URL")
    return Channel(f"{scheme[1]} {number}", url)


def _of_file(name: str, number: str, environ: Mapping[str, str], root: Path) -> list[Channel]:
    """One URL a line, `#` for remarks; a file that others can read is not read."""
    path = root / Path(name).expanduser()
    try:
        facts = path.stat()
        if stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid != os.geteuid():
            return [
                Channel(f"file {number}", problem=f"others may read it: chmod 600 {shlex.quote(str(path))}")
            ]
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [Channel(f"file {number}", problem=f"{path} cannot be read ({type(error).__name__})")]
    urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not urls:
        return [Channel(f"file {number}", problem=f"{path} holds no address")]
    return [_channel(url, f"{number}.{place}", environ) for place, url in enumerate(urls, 1)]


# -- the program that sends ----------------------------------------------------------------------------------


def sender_python() -> str | None:
    """The Python that has apprise: ours, or that of the environment which `install_command` makes."""
    return extras.python_with(["apprise"], [APPRISE])


def install_command() -> str:
    """The line that makes apprise available.

    It is not among the helper's own packages: with what it needs it would more than double their size, and a
    campaign without messages never uses it. An environment of its own cannot disturb the helper's.
    """
    return extras.command([APPRISE])
