"""Text from outside made safe to show: no control bytes, no hidden characters, no secrets, quoted and cut.

A log, a hypothesis or a commit message is data. After `clean` it can move no cursor and hide no character;
after `quote` no line of it can pass for a metric, a heading or a tag of ours.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "[hidden]"
MARK = "| "

# CSI; OSC, DCS, SOS, PM, APC up to their end or the end of the line; every other escape.
ESCAPE_BYTES = rb"\x1b\[[0-?]*[ -/]*[@-~]"
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)

# Not of a C category, yet nothing is seen where they stand, so text can be smuggled in them.
_INVISIBLE = (
    frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0})
    | frozenset(range(0x180B, 0x1810))
    | frozenset(range(0xFE00, 0xFE10))
    | frozenset(range(0xE0100, 0xE01F0))
)


class _Visible(dict[int, "int | str | None"]):
    """Table for str.translate that looks a character up once: None drops it."""

    def __missing__(self, point: int) -> int | str | None:
        kind = unicodedata.category(chr(point))
        seen: int | str | None = point
        if kind in ("Zl", "Zp"):
            seen = " "  # str.splitlines would begin a line there that carries no mark
        elif (kind[0] == "C" and point not in (0x09, 0x0A)) or point in _INVISIBLE:
            seen = None
        self[point] = seen
        return seen


_VISIBLE = _Visible()

_NAME = r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)"
_WORD = (
    r"(?:(?:api|access|secret|auth|private|client|session|refresh|account|bearer)[_-]?(?:key|token|secret)"
    r"|password|passwd|passphrase|secret)"
)
_PEM_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----"
_A_NUMBER = r"(?![\d.]{1,12}(?![^\s,;)\]}\"']))"  # max_token=512 is no secret
_VALUE = r"(?:\"[^\"\n]{1,2000}\"|'[^'\n]{1,2000}'|[^\s\"',;]{1,2000})"

# What is replaced by what. Lengths are bounded: a log of one repeated prefix must not cost quadratic time.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), hidden)
    for pattern, hidden in (
        (rf"(?s)-----BEGIN [A-Z0-9 ]{{0,40}}PRIVATE KEY-----.*?(?:{_PEM_END}|\Z)", HIDDEN),
        (rf"(?m)^(?:[A-Za-z0-9+/=]{{16,76}}\s?\n){{1,80}}{_PEM_END}", HIDDEN),  # its beginning is cut off
        (r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/@:]{0,100}:[^\s/@]{1,200}@", rf"\1{HIDDEN}@"),
        (r"\bsk-(?=[A-Za-z_-]{0,60}\d)[A-Za-z0-9_-]{8,250}", HIDDEN),
        (r"\b(?:hf|npm|r8)_(?=[A-Za-z]{0,60}\d|[A-Za-z]{20})[A-Za-z0-9]{8,250}", HIDDEN),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|pypi-|xox[abprs]-|ya29\.)[A-Za-z0-9_.-]{8,250}", HIDDEN),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{12,20}\b", HIDDEN),
        (r"\bAIza[0-9A-Za-z_-]{30,60}", HIDDEN),
        (r"\b[prs]k_(?:live|test)_[A-Za-z0-9]{8,250}", HIDDEN),
        (r"\b(?:gsk_|xai-|pplx-|tvly-|lin_api_)(?=[A-Za-z]{0,60}\d)[A-Za-z0-9]{16,250}", HIDDEN),
        (r"\b(?:dapi[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{64}|AGE-SECRET-KEY-1[0-9A-Z]{20,100})", HIDDEN),
        (r"\bSG\.[\w-]{16,64}\.[\w-]{16,128}|\b\d{6,12}:AA[\w-]{30,40}", HIDDEN),
        (r"(\bhooks\.slack\.com/)[\w/]{8,200}", rf"\1{HIDDEN}"),
        (r"(\bdiscord(?:app)?\.com/api/webhooks/)[\w/-]{8,200}", rf"\1{HIDDEN}"),
        (r"(?i)(\bkey\s{0,4}[=:]\s{0,4}[\"'])[0-9a-f]{40}\b", rf"\1{HIDDEN}"),
        (r"\beyJ[\w-]{8,2000}\.[\w-]{8,2000}(?:\.[\w-]{0,2000})?", HIDDEN),
        (r"(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9+/_.=-]{16,2000}", rf"\1 {HIDDEN}"),
        (rf"\b([A-Z0-9_]{{0,100}}?{_NAME}[\"']?\]?[ \t]?=[ \t]{{0,4}}){_A_NUMBER}{_VALUE}", rf"\1{HIDDEN}"),
        (rf"(?i)\b(\w{{0,100}}?{_WORD}[\"']?\]?[ \t]?[:=][ \t]{{0,4}}){_A_NUMBER}{_VALUE}", rf"\1{HIDDEN}"),
    )
)


def hide_secrets(text: str) -> str:
    """`text` with everything shaped like a key, a token or a password replaced by `[hidden]`."""
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    return text


def clean(text: str | bytes) -> str:
    """Printable text: escapes, control and invisible characters, bad bytes and secrets are gone.

    Newlines and tabs stay. A line rewritten with carriage returns is left in its last state.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "ignore")
    text = _ESCAPE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(_last_state(line) for line in text.split("\n"))
    return hide_secrets(text.translate(_VISIBLE))


def _last_state(line: str) -> str:
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")


def one_line(text: str | bytes, limit: int) -> str:
    """`clean` text on one line, runs of blanks made one, at most `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: max(limit - 1, 0)].rstrip() + "…"[:limit]


def quote(text: str | bytes, limit_bytes: int) -> str:
    """`clean` text, tabs made blanks, with `| ` before every line, in at most `limit_bytes` bytes of UTF-8.

    The end of a text says most (it is where a run died), so it is the beginning that is cut, and the first
    line says how much. A single line too long for the room keeps its beginning.
    """
    lines = clean(text).replace("\t", "    ").strip("\n").split("\n")
    lines = [MARK + line.rstrip() for line in lines] if any(lines) else []
    whole = "\n".join(lines)
    size = len(whole.encode())
    if size <= limit_bytes:
        return whole
    room = limit_bytes - len(f"{MARK}[{size} bytes cut]\n")
    kept: list[str] = []
    for line in reversed(lines):
        length = len(line.encode()) + 1
        if length > room:
            if not kept:
                kept.append(_cut_bytes(line, room))
            break
        kept.append(line)
        room -= length
    body = "\n".join(reversed(kept))
    note = f"{MARK}[{size - len(body.encode())} bytes cut]"
    return _cut_bytes(f"{note}\n{body}" if len(body) > len(MARK) else note, limit_bytes)


def _cut_bytes(text: str, limit: int) -> str:
    return text.encode()[: max(limit, 0)].decode("utf-8", "ignore")
