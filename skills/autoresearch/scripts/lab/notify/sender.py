"""Delivers one message to one address, in a process of its own: `python sender.py OUTCOME DESCRIPTOR < JOB`.

The job comes by standard input, so that no address stands in the process list, in a file or in a log. OUTCOME
comes open and locked as DESCRIPTOR, from before this process began, and says in the end what became of the
message; a file that is empty and free was left by a sender that was killed, and only then nobody knows.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 30.0  # after its own limit; then whoever started it ends it


def main(path: str, descriptor: int) -> None:
    """Deliver the job on standard input and write into `descriptor` what became of it."""
    try:
        job = json.load(sys.stdin)
    except ValueError:
        Path(path).unlink()  # who started this was killed before it said what to send: no outcome at all
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("apprise")  # seconds on a busy machine, and no service's fault
    limit = float(job["limit"])

    def too_late(number: int, frame: FrameType | None) -> None:
        write(descriptor, "failed", f"no answer in {limit:g} s")
        os._exit(0)

    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, limit)
    outcome, detail = deliver(job["url"], job["title"], job["body"])
    signal.setitimer(signal.ITIMER_REAL, 0)
    write(descriptor, outcome, detail)


def write(descriptor: int, outcome: str, detail: str) -> None:
    """Say what became of the message, durably."""
    os.pwrite(descriptor, json.dumps({"outcome": outcome, "detail": detail}).encode(), 0)
    os.fsync(descriptor)


def deliver(url: str, title: str, body: str) -> tuple[str, str]:
    """Send it; return `sent` or `failed`, and why in words that no part of the address can be in."""
    heard: list[str] = []
    try:
        apprise = importlib.import_module("apprise")  # an extra
    except ImportError:
        return "failed", "apprise is not installed; `notify test` names the command"
    _listen(heard)
    address = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if address is None:
        return "failed", "no service of that name, or an incomplete address"
    messenger = apprise.Apprise()
    messenger.add(address)
    sent = bool(messenger.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))
    return ("sent", "") if sent else ("failed", _reason("\n".join(heard)))


def _listen(heard: list[str]) -> None:
    """Take what apprise logs, which may hold addresses, instead of letting it be printed."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [Ear()], False
    logger.setLevel(logging.DEBUG)


def _reason(log: str) -> str:
    code = re.search(r"\berror\s?=\s?(\d{3})\b", log)
    if code:
        return f"the service answered {code[1]}"
    if re.search(r"timed? ?out", log, re.I):
        return "no answer"
    if re.search(r"connection|socket|resolve|unreachable|refused", log, re.I):
        return "it cannot be reached"
    return "the service did not take it"


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: no module of ours may stand in for one that apprise looks for
    main(sys.argv[1], int(sys.argv[2]))
