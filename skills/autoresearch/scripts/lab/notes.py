"""Markdown files that people edit beside the tool: bytes in, bytes out, replaced only when nobody else wrote.

Every change is a function from the old bytes to the new ones. It is computed anew when the file is another
one at the moment of the exchange, so that an editor's save and ours both stay. The caller holds `Lab.noting`,
which keeps our own processes apart; an editor knows no lock of ours.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from lab.atomic import TEMPORARY, sweep, sync_folder, write_atomic
from lab.errors import BUSY, LabError
from lab.model import MEMORIES
from lab.steps import step

MAX_BYTES = 4_000_000
TRIES = 50
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def inside(root: Path, name: str) -> Path:
    """The real path of `name` below `root`; a link or a name that leads out of it is refused."""
    real = Path(os.path.realpath(root / name))
    if not real.is_relative_to(os.path.realpath(root)):
        raise LabError(f"{name} leads out of {root} (to {real})", "put a real folder or file there")
    return real


def memory_file(root: Path, name: str) -> Path:
    """The real path of a file of memories/; neither that folder nor the file can lie elsewhere."""
    return inside(inside(root, MEMORIES), name)


def read(path: Path) -> bytes:
    """The bytes of a note, b"" when there is none yet; LabError for what is no text a person wrote."""
    try:
        kind = path.stat()
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        raise LabError(f"{path} cannot be read: {error}", "mend the path or the rights") from error
    if not stat.S_ISREG(kind.st_mode):
        raise LabError(f"{path} is not a file", "name a Markdown file")
    if kind.st_size > MAX_BYTES:
        raise LabError(f"{path} has {kind.st_size} bytes", f"a note has at most {MAX_BYTES}: split it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}", "mend the rights") from error
    if b"\0" in data:
        raise LabError(f"{path} is not UTF-8 text (it holds zero bytes)", "save it as UTF-8")
    return data


def change(path: Path, make: Callable[[bytes], bytes]) -> bool:
    """Replace the bytes of `path` by `make` of them; False when they are the same."""
    for _ in range(TRIES):
        old = read(path)
        new = make(old)
        if new == old:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        if _exchange(path, old, new):
            return True
    raise LabError(f"{path} is being written all the time", "let the other program end, then repeat", BUSY)


def _exchange(path: Path, old: bytes, new: bytes) -> bool:
    """Put `new` in the place of `old`; False when something else stands there by now."""
    staged = path.with_name(f".{os.getpid()}-note{TEMPORARY}")
    fresh = not path.exists()
    mode = 0o644 if fresh else stat.S_IMODE(path.stat().st_mode)
    try:
        write_atomic(staged, new, mode)
        staged.chmod(mode)
        step("note.staged")
        if fresh:
            _link(staged, path)
        elif read(path) != old or not _swapped_in(staged, path, old, new):
            return False
    except (FileExistsError, FileNotFoundError):  # made, removed or swept away by another process
        return False
    finally:
        staged.unlink(missing_ok=True)
    sync_folder(path.parent)
    step("note.written")
    return True


def _swapped_in(staged: Path, path: Path, old: bytes, new: bytes) -> bool:
    """Give `path` the new bytes; False when somebody saved at the last moment, whose bytes are back then."""
    if not _swap(staged, path):
        staged.replace(path)  # a save within these microseconds would be lost where nothing can be swapped
        return True
    if staged.read_bytes() == old:
        return True
    _swap(staged, path)
    if staged.read_bytes() != new:  # and saved once more over ours: the later one counts
        _swap(staged, path)
    return False


def _swap(one: Path, other: Path) -> bool:
    """Exchange two files in one step; False where the system or the file system cannot."""
    import ctypes  # 0.01 s: only a change pays for it

    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, with glibc since 2.28
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)


def _link(staged: Path, path: Path) -> None:
    """Give the new file its name; FileExistsError when somebody made one meanwhile."""
    try:
        os.link(staged, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        staged.replace(path)


def lines_of(data: bytes) -> list[bytes]:
    """The lines with their own endings; joined they are `data` again."""
    return data.splitlines(keepends=True)


def ending(data: bytes) -> bytes:
    """How this file ends its lines."""
    first = data[: data.find(b"\n") + 1]
    return b"\r\n" if first.endswith(b"\r\n") else b"\n"


def appended(data: bytes, text: str, blank: bool = True) -> bytes:
    """`data` with `text` behind it, in the file's own line endings, after an empty line where asked."""
    end = ending(data)
    glue = b"" if not data or data.endswith((b"\n", b"\r")) else end
    if blank and data and not (data + glue).endswith(2 * end):
        glue += end
    return data + glue + text.encode("utf-8", "replace").replace(b"\n", end)


def fresh_id(letter: str, words: str, taken: set[str]) -> str:
    """An id from the words themselves, so that the same words read twice get the same one."""
    for turn in range(8 * 28):  # longer every eighth turn: where all short ones are taken, a long one is free
        digest = hashlib.blake2b(f"{words}\0{turn}".encode("utf-8", "replace")).hexdigest()
        identity = letter + digest[: 4 + turn // 8]
        if identity not in taken:
            return identity
    raise AssertionError(f"{len(taken)} ids collide")
