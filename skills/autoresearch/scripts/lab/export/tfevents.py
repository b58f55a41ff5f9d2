"""TensorBoard event files, written with nothing but the standard library.

A file is a row of records (length, checksum, bytes, checksum), each an `Event` message in the wire format of
protobuf (tensorboard/compat/proto: event.proto, summary.proto, tensor.proto). A scalar holds 32 bits: the
usual reader (tensorboard-data-server 0.7.2) leaves out scalars written as tensors of doubles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DT_STRING, CLASS_TENSOR = 7, 2
POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


def event_file(started: float, scalars: Iterable[tuple[str, int, float]], texts: dict[str, str]) -> bytes:
    """A whole file: its version, each scalar (tag, step, value), each text under its tag at step 0."""
    records = [_event(started, 0, _field(3, b"brain.Event:2"))]
    records += [_event(started, 0, _field(5, _field(1, _text(tag, text)))) for tag, text in texts.items()]
    records += [
        _event(started, step, _field(5, _field(1, _scalar(tag, value)))) for tag, step, value in scalars
    ]
    return b"".join(_framed(record) for record in records)


def _event(wall: float, step: int, what: bytes) -> bytes:
    return _key(1, FIXED64) + struct.pack("<d", wall) + _key(2, VARINT) + _varint(step) + what


def _scalar(tag: str, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:  # a loss that ran away: beyond what the format holds
        packed = struct.pack("<f", math.copysign(math.inf, value))
    return _field(1, tag.encode()) + _key(2, FIXED32) + packed


def _text(tag: str, text: str) -> bytes:
    shape = _field(2, _key(1, VARINT) + _varint(1))
    tensor = _key(1, VARINT) + _varint(DT_STRING) + _field(2, shape) + _field(8, text.encode())
    return _field(1, tag.encode()) + _field(9, _metadata("text")) + _field(8, tensor)


def _metadata(plugin: str) -> bytes:
    return _field(1, _field(1, plugin.encode())) + _key(4, VARINT) + _varint(CLASS_TENSOR)


def _field(number: int, content: bytes) -> bytes:
    return _key(number, BYTES) + _varint(len(content)) + content


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # a negative step is written as its two's complement
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


# -- records -------------------------------------------------------------------------------------------


def _framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    """The checksum as the format wants it: turned and shifted, so that one of a checksum means something."""
    crc = _crc(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return ~crc & 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    return tuple(_entries())


def _entries() -> Iterator[int]:
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (POLYNOMIAL if entry & 1 else 0)
        yield entry
