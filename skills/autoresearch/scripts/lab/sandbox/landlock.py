"""Linux Landlock through ctypes: allow-lists of files that a process takes upon itself and cannot take off.

No privilege, no package. What a list does not name is denied, for this process and all it starts.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

CREATE, ADD_RULE, RESTRICT = 444, 445, 446  # the same numbers on every architecture
VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << n for n in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << n for n in range(6, 13))
REFER, TRUNCATE = 1 << 13, 1 << 14  # since version 2 and 3
BIND_TCP, CONNECT_TCP = 1, 2  # since 4
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2  # since 6

READ = EXECUTE | READ_FILE | READ_DIR
# Without device nodes: who makes one for the disk reads every file on it.
WRITE = (
    WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | REFER | READ_DIR
    | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
)  # fmt: skip
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE  # what a rule for something that is no folder may say
SINCE = {REFER: 2, TRUNCATE: 3}
PR_SET_NO_NEW_PRIVS = 38


def version() -> int:
    """The version the kernel offers; 0 where there is none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(CREATE, None, 0, VERSION))


def no_new_privileges() -> None:
    """No program that this process starts gets rights that it has not itself."""
    if _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


class Ruleset:
    """A list under construction; `enter` puts it on the calling process for good."""

    def __init__(self, abi: int, *, tcp: bool) -> None:
        self.known = READ | WRITE | MAKE_CHAR | MAKE_BLOCK
        for right, since in SINCE.items():
            self.known &= ~right if abi < since else -1
        network = 0 if tcp or abi < 4 else BIND_TCP | CONNECT_TCP
        scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if abi >= 6 else 0
        size = 8 if abi < 4 else 16 if abi < 6 else 24
        attributes = (ctypes.c_uint64 * 3)(self.known, network, scoped)
        self.descriptor = _checked(CREATE, ctypes.byref(attributes), size, 0)
        os.set_inheritable(self.descriptor, False)

    def allow(self, path: str, rights: int) -> bool:
        """Allow `rights` on `path` and all beneath it; False when there is nothing of that name."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            rights &= self.known
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= OF_A_FILE
            rule = _Rule(rights, descriptor)
            _checked(ADD_RULE, self.descriptor, PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)
        return True

    def enter(self) -> None:
        """Restrict the calling process; it may gain no rights by a set-user-id program any more."""
        no_new_privileges()
        _checked(RESTRICT, self.descriptor, 0)

    def close(self) -> None:
        """Forget the list; whoever entered it stays restricted."""
        os.close(self.descriptor)


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


_LIBRARY: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _LIBRARY:
        _LIBRARY.append(ctypes.CDLL(None, use_errno=True))
    return _LIBRARY[0]


def _call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(_libc().syscall(ctypes.c_long(number), *words))


def _checked(number: int, *arguments: object) -> int:
    result = _call(number, *arguments)
    if result < 0:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, f"landlock: {os.strerror(number_of_error)}")
    return result
