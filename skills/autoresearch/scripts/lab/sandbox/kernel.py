"""What else a process takes upon itself before it becomes the training: network, capabilities, limits.

Called between fork and exec, where nothing may be assumed of the parent's threads and every step is a plain
system call. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import socket
import struct
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# Numbers of the machine in an audit record, of socket(2), and of io_uring_setup(2), which opens sockets too.
# and of shmget, semget, msgget and mq_open.
MACHINES = {
    "x86_64": (0xC000003E, 41, 425, (29, 64, 68, 240)),
    "aarch64": (0xC00000B7, 198, 425, (194, 190, 186, 180)),
}
LOCAL_FAMILIES = (socket.AF_UNIX, 16)  # 16: netlink, by which a program lists its own interfaces
INTERNET_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# What root keeps: what concerns files it may write anyway. No devices, mounts, clocks or modules.
KEPT_CAPABILITIES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 23, 24, 31}
CAPABILITIES = 41


def own_network() -> bool:
    """Move into a network of one's own with nothing in it but the loopback; False where that is forbidden."""
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if library.unshare(CLONE_NEWNET | CLONE_NEWIPC):
        if library.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC):
            return False
        _stay(user, group)
    try:
        _loopback_up()
    except OSError:
        return False
    return True


def _stay(user: int, group: int) -> None:
    """Be the same user in the new user namespace."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path("/proc/self", name).write_text(text)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        flags = struct.unpack_from("16sh", request)[1] | IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags))


def filter_calls(internet: bool, alone: bool) -> bool:
    """Let socket(2) open local sockets only, or the internet's too, by a seccomp filter; False without one.

    `alone`: no memory, queue or semaphore that other processes find by a key either.
    no_new_privs must be set. A call in another machine's numbering is denied whole. Also with the internet
    the filter is wanted: a virtual machine's host is reached by a family of its own.
    """
    families = (*LOCAL_FAMILIES, *(INTERNET_FAMILIES if internet else ()))
    known = MACHINES.get(platform.machine())
    if known is None:
        return False
    machine, socket_call, ring_call, shared_calls = known
    missing = (ring_call, *(shared_calls if alone else ()))
    deny, absent, allow = 0x50000 | errno.EACCES, 0x50000 | errno.ENOSYS, 0x7FFF0000
    program = [
        (0x20, 0, 0, 4),  # load the machine
        (0x15, 1, 0, machine),
        (0x06, 0, 0, deny),
        (0x20, 0, 0, 0),  # load the number of the call
        (0x35, 0, 1, 0x40000000),  # x32 has numbers of its own
        (0x06, 0, 0, deny),
        *(line for call in missing for line in ((0x15, 0, 1, call), (0x06, 0, 0, absent))),
        (0x15, 0, len(families) + 2, socket_call),
        (0x20, 0, 0, 16),  # load the first argument: the family
        *((0x15, len(families) - index, 0, family) for index, family in enumerate(families)),
        (0x06, 0, 0, deny),
        (0x06, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = _Filter(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    return not ctypes.CDLL(None).prctl(PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_void_p))


def drop_capabilities() -> None:
    """Take from root what reaches beyond files: what is not kept cannot come back through any exec."""
    if os.geteuid():
        return
    library = ctypes.CDLL(None)
    for number in range(CAPABILITIES):
        if number not in KEPT_CAPABILITIES:
            library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def limit(file_bytes: int) -> None:
    """No file larger than this, and no core file."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    wanted = file_bytes if hard == resource.RLIM_INFINITY else min(file_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
