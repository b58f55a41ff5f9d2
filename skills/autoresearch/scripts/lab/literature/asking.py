"""Asking the services side by side, all within one time limit; each gives papers or says why not.

Nothing here raises for what a service does: no network, a refusal or nonsense is an answer in words. A key
travels to its own service only, and an address that holds one is never shown.
"""

from __future__ import annotations

import contextlib
import email.utils
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lab.errors import CONFIG, LabError
from lab.literature.papers import Paper
from lab.literature.sources import Source, address
from lab.redact import one_line

OK, CACHED, OLD = "ok", "cached", "old"
BUSY, SLOW, UNREACHABLE, REFUSED, FAILED, UNREADABLE = (
    "busy", "slow", "unreachable", "refused", "failed", "unreadable",
)  # fmt: skip
LARGEST = 4_000_000  # bytes: twenty OpenAlex works with all their places are well under one
COOL_DOWN, LONGEST_COOL_DOWN = 300.0, 86_400.0  # seconds, when a busy service names no time; at most
MAIL_VARIABLE = "AUTORESEARCH_MAIL"


@dataclass(frozen=True)
class Answer:
    """What came of asking one service. `until`: seconds since 1970, when it may be asked again."""

    source: str
    state: str
    papers: tuple[Paper, ...] = ()
    detail: str = ""
    until: float | None = None
    at: float | None = None  # when the papers were answered


@dataclass(frozen=True)
class Question:
    """What one service is asked, and when at the earliest (seconds since 1970)."""

    source: Source
    words: str
    key: str = ""
    mail: str = ""
    earliest: float = 0.0


def ask(questions: Sequence[Question], seconds: float) -> list[Answer]:
    """Ask every service at once and take what is there when the time is over."""
    deadline = time.monotonic() + seconds
    answers: dict[str, Answer] = {}

    def one(question: Question) -> None:
        answers[question.source.name] = _asked(question, deadline)

    # Daemons: a name server that never answers cannot be interrupted, and must not keep the call.
    threads = [threading.Thread(target=one, args=(question,), daemon=True) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    got = dict(answers)  # who comes later has not answered
    return [got.get(q.source.name) or _slow(q.source.name, seconds) for q in questions]


def base_of(source: Source, environment: Mapping[str, str] = os.environ) -> str:
    """The service's address, or the one in AUTORESEARCH_<NAME>_URL; plain http only on this machine."""
    variable = f"AUTORESEARCH_{source.name.upper()}_URL"
    base = environment.get(variable, "").strip() or source.address
    parts = urlsplit(base)
    here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (here and parts.scheme == "http")):
        raise LabError(f"{variable} is no https address", "name one that begins with https://", CONFIG)
    return base


def _slow(name: str, seconds: float) -> Answer:
    return Answer(name, SLOW, detail=f"no answer within {seconds:g} s")


def _asked(question: Question, deadline: float) -> Answer:
    name = question.source.name
    pause = question.earliest - time.time()
    if pause > 0:
        if pause > deadline - time.monotonic():
            return Answer(name, BUSY, until=question.earliest, detail="it was asked a moment ago")
        time.sleep(pause)
    try:
        data = _read(question, deadline)
    except HTTPError as error:
        with error:
            return _not_given(question, error.code, error.headers.get("Retry-After"))
    except TimeoutError:
        return Answer(name, SLOW, detail="no whole answer in time")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        state = SLOW if isinstance(reason, TimeoutError) else UNREACHABLE
        return Answer(name, state, detail=one_line(str(reason) or type(reason).__name__, 100))
    try:
        if len(data) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        return Answer(name, OK, tuple(question.source.read(data)), at=time.time())
    except (ValueError, RecursionError) as error:
        return Answer(name, UNREADABLE, detail=one_line(f"no answer of this service: {error}", 100))


def _read(question: Question, deadline: float) -> bytes:
    source = question.source
    headers = {"User-Agent": "autoresearch" + (f" (mailto:{question.mail})" if question.mail else "")}
    if question.key and source.key_header:
        headers[source.key_header] = question.key
    where = address(source, base_of(source), question.words, question.key, question.mail)
    left = max(0.01, deadline - time.monotonic())
    data = bytearray()
    answer: HTTPResponse
    with build_opener(_SameHost).open(Request(where, headers=headers), timeout=left) as answer:
        while len(data) <= LARGEST and (part := answer.read1(65_536)):
            data += part
            if time.monotonic() > deadline:  # a drop now and then keeps a socket's own limit away
                raise TimeoutError
    return bytes(data)


def _not_given(question: Question, code: int, after: str | None) -> Answer:
    source = question.source
    if code in (429, 503):
        return Answer(source.name, BUSY, detail=f"HTTP {code}", until=time.time() + _seconds(after))
    if code in (401, 403):
        mend = ", look at its key" if question.key else ", it wants a key"
        return Answer(source.name, REFUSED, detail=f"HTTP {code}" + (mend if source.key_variable else ""))
    return Answer(source.name, FAILED, detail=f"HTTP {code}")


def _seconds(after: str | None) -> float:
    """Retry-After, seconds or a date, as seconds from now within reason."""
    wait = COOL_DOWN
    try:
        wait = float(after or COOL_DOWN)
    except ValueError:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            wait = email.utils.parsedate_to_datetime(after or "").timestamp() - time.time()
    return min(max(wait, 1.0), LONGEST_COOL_DOWN) if math.isfinite(wait) else COOL_DOWN


class _SameHost(HTTPRedirectHandler):
    """Follows a redirect on the same host only: a key is meant for the address that was asked."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Refuse another host or scheme, so that the answer counts as an error."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)
