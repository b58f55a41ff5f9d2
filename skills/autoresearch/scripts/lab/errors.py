"""The one error a caller can fix, and the exit codes every verb shares."""

from __future__ import annotations

OK = 0
BUG = 1
USAGE = 2
CONFIG = 3
PRECONDITION = 4
BUSY = 8
REFUSED = 9
WAIT_ENDED = 124
INTERRUPTED = 130


class LabError(Exception):
    """Something the caller can mend: what is wrong with the value seen, then what to do.

    `code` is the exit code of the command line (see `docs/design.md`, contract).
    """

    def __init__(self, message: str, hint: str = "", code: int = PRECONDITION) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
