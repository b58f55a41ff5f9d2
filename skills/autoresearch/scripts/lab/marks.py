"""The ideas in a Markdown note, and the mark behind each: `{i3f7a TESTED nov21/e012 discard}`.

An idea is an item of a list, with or without a task box; in a note without any list it is a line of text.
Front matter, headings, code, quotes, tables and comments are none, and neither is an item that a person has
ticked. A note is handled as bytes, line by line: whatever is not part of a mark comes out as it went in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lab.notes import BYTE_ORDER_MARK, ending, lines_of
from lab.redact import one_line

QUEUED, TESTED, DEFERRED, OUT_OF_SCOPE = "QUEUED", "TESTED", "DEFERRED", "OUT_OF_SCOPE"
STATES = (QUEUED, TESTED, DEFERRED, OUT_OF_SCOPE)
KEYS = ("because", "score", "source", "category", "reason")
LONGEST_TEXT = 300
LONGEST_MARK = 4_000  # bytes: a hundred results

_RESULT = r"[a-z0-9][a-z0-9._-]{0,63}/e\d{3,9} (?:keep|discard|crash)"
_MARK = re.compile(rf"\{{(i[0-9a-f]{{4,32}}) ({'|'.join(STATES)})((?: {_RESULT},?)*)\}}".encode())
_BLOCK_ID = re.compile(rb"\^[A-Za-z0-9-]+")  # Obsidian's, which must stay last
# Groups: indentation, what the task box holds, the text.
_ITEM = re.compile(
    rb"(?:\xef\xbb\xbf)?([ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+(?:\[([^\]\r\n]{1,4})\](?:[ \t]+|$))?(.*)",
    re.DOTALL,
)
_NO_TEXT = (b"#", b">", b"|", b"<", b"%%", b"![", b"```", b"~~~", b"---", b"***", b"___", b"===")
_TICKED = (b"x", b"X", b"-")


@dataclass(frozen=True)
class Mark:
    """What stands behind an idea: its id, its state, and where it was tested with what outcome."""

    id: str
    state: str
    results: tuple[str, ...] = ()  # "nov21/e012 discard"

    def __str__(self) -> str:
        return "{" + " ".join([self.id, self.state, ", ".join(self.results)]).rstrip() + "}"


@dataclass(frozen=True)
class Item:
    """One idea of a note: `line` is its first line, `end` the one after its last."""

    line: int
    end: int
    text: str
    mark: Mark | None
    ticked: bool = False
    details: Mapping[str, str] = field(default_factory=dict)  # "because" -> the words behind it


def items(data: bytes, sentences: bool = True) -> list[Item]:
    """The ideas of a note, in its order; without `sentences` only those of its lists."""
    lines = lines_of(data)
    plain = list(_plain_lines(lines))
    tops = {n for n in plain if _ITEM.match(lines[n]) and _indent(lines[n]) < 2}
    if sentences:
        wanted = _is_sentence if not tops else _is_marked
        tops |= {n for n in plain if wanted(lines[n])}
    return [found for n in sorted(tops) if (found := _read(lines, n)).text]


def with_mark(line: bytes, mark: Mark) -> bytes:
    """The line with its mark put in or exchanged, and its box ticked when the idea was tested."""
    body, tail = _body(line)
    text, _ = _split_mark(body)
    found = _ITEM.match(text)
    if found and found[2] == b" " and mark.state == TESTED:
        box = found.start(2)
        text = text[:box] + b"x" + text[box + 1 :]
    return text.rstrip(b" \t") + b" " + str(mark).encode() + tail


def with_text(line: bytes, text: str) -> bytes:
    """The line with other words before its mark."""
    body, tail = _body(line)
    old, mark = _split_mark(body)
    found = _ITEM.match(old)
    front = old[: found.start(3)] if found else b""
    return front + text.encode("utf-8", "replace") + (f" {mark}".encode() if mark else b"") + tail


def with_detail(lines: list[bytes], item: Item, key: str, value: str) -> None:
    """Set `key: value` below an item, in place, or add it as the item's last line; "" takes it away."""
    for n in range(item.line + 1, item.end):
        if (_detail(lines[n]) or ("", ""))[0] == key:
            if not value:
                del lines[n]
                return
            body = lines[n].rstrip(b"\r\n")
            front = body[: body.lower().index(key.encode() + b":")]
            lines[n] = front + f"{key}: {value}".encode("utf-8", "replace") + lines[n][len(body) :]
            return
    if not value:
        return
    end = ending(b"".join(lines))
    last = lines[item.end - 1]
    if not last.endswith((b"\n", b"\r")):
        lines[item.end - 1] = last + end
    lines.insert(item.end, f"  - {key}: {value}".encode("utf-8", "replace") + end)


def written(text: str, mark: Mark, details: Mapping[str, str]) -> str:
    """A new idea as the lines of the agenda."""
    rows = [f"- [{'x' if mark.state == TESTED else ' '}] {text} {mark}"]
    rows += [f"  - {key}: {details[key]}" for key in KEYS if details.get(key)]
    return "".join(f"{row}\n" for row in rows)


# -- one line ----------------------------------------------------------------------------------------------


def _read(lines: Sequence[bytes], n: int) -> Item:
    text, mark = _split_mark(_body(lines[n])[0])
    found = _ITEM.match(text)
    words = found[3] if found else text.removeprefix(BYTE_ORDER_MARK)
    ticked = bool(found and found[2] in _TICKED)
    end, details = _below(lines, n) if found else (n + 1, {})
    return Item(n, end, one_line(words, LONGEST_TEXT), mark, ticked, details)


def _below(lines: Sequence[bytes], n: int) -> tuple[int, dict[str, str]]:
    """Where an item ends, and the `key: value` lines below it."""
    details: dict[str, str] = {}
    end = n + 1
    while end < len(lines) and lines[end].strip() and _indent(lines[end]) >= 2:
        key, value = _detail(lines[end]) or ("", "")
        if key:
            details.setdefault(key, value)
        end += 1
    return end, details


def _detail(line: bytes) -> tuple[str, str] | None:
    found = _ITEM.match(line.rstrip(b"\r\n"))
    key, colon, value = (found[3] if found else line.strip()).partition(b":")
    name = key.strip().decode("utf-8", "replace").lower()
    return (name, one_line(value, 600)) if colon and name in KEYS else None


def _indent(line: bytes) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip(b" "))


def _body(line: bytes) -> tuple[bytes, bytes]:
    """Split a line before its blank end, its line ending and Obsidian's block id."""
    body = line.rstrip(b"\r\n").rstrip(b" \t")
    front, _, last = body.rpartition(b" ")
    if front.strip() and _BLOCK_ID.fullmatch(last):
        body = front.rstrip(b" \t")
    return body, line[len(body) :]


def _split_mark(body: bytes) -> tuple[bytes, Mark | None]:
    """Split the mark off the end of a line's body."""
    start = body.rfind(b"{") if body.endswith(b"}") else -1
    found = _MARK.fullmatch(body[start:]) if start >= 0 and len(body) - start <= LONGEST_MARK else None
    if not found:
        return body, None
    results = tuple(part.strip() for part in found[3].decode().split(",") if part.strip())
    return body[:start].rstrip(b" \t"), Mark(found[1].decode(), found[2].decode(), results)


def _is_marked(line: bytes) -> bool:
    return _split_mark(_body(line)[0])[1] is not None


def _is_sentence(line: bytes) -> bool:
    text = line.removeprefix(BYTE_ORDER_MARK).strip()
    return bool(text) and _indent(line) < 4 and not text.startswith(_NO_TEXT)


def _plain_lines(lines: Sequence[bytes]) -> Iterator[int]:
    """The numbers of the lines outside front matter, code fences and comments; one never closed is none."""
    n = _after_front_matter(lines)
    endless: set[bytes] = set()  # no end of this kind comes any more
    while n < len(lines):
        end = _end_of_block(lines[n])
        if not end:
            yield n
        elif end not in endless:
            last = next((m for m in range(n + 1, len(lines)) if _closes(lines[m], end)), None)
            if last is None:
                endless.add(end)
                continue
            n = last
        else:
            yield n
        n += 1


def _end_of_block(line: bytes) -> bytes:
    """What will close the block that begins here: code, or a comment of more than one line; b"" for none."""
    text = line.strip()
    if text.startswith((b"```", b"~~~")):
        return text[:3]
    if text.startswith(b"<!--"):
        return b"" if b"-->" in text else b"-->"
    return b"%%" if text.startswith(b"%%") and text.count(b"%%") % 2 else b""


def _closes(line: bytes, end: bytes) -> bool:
    return end in line if end in (b"-->", b"%%") else line.strip().startswith(end)


def _after_front_matter(lines: Sequence[bytes]) -> int:
    if not lines or lines[0].removeprefix(BYTE_ORDER_MARK).rstrip() != b"---":
        return 0
    return next((n + 1 for n in range(1, len(lines)) if lines[n].rstrip() in (b"---", b"...")), 0)
