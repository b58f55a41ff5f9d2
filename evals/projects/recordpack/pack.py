"""Packing a frame of records into bytes, and back."""

import json
import zlib

LEVEL = 6


def pack(frame):
    """Give the bytes of a list of records."""
    return zlib.compress(json.dumps(frame).encode(), LEVEL)


def unpack(data):
    """Give the records of packed bytes."""
    return json.loads(zlib.decompress(data))
