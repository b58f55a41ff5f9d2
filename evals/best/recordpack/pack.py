"""Packing a frame of records: every field as a digit of one long number, each with its own base."""

import json
import zlib

STATES = ("idle", "running", "blocked", "service")
STEP = 250  # milliseconds between two records are a multiple of it
GAPS, MACHINES, TENTHS, PARTS = 4, 24, 1024, 8


def pack(frame):
    """Give the bytes of a list of records, put in from the last so that unpacking reads from the first."""
    try:
        return bytes([len(frame)]) + _number(frame)
    except ValueError:
        return b"\0" + zlib.compress(json.dumps(frame).encode(), 9)


def _number(frame):
    number = 0
    for at in range(len(frame) - 1, -1, -1):
        record = frame[at]
        running = record["state"] == "running"
        if running:
            number = _push(number, PARTS, record["parts"])
        elif record["parts"]:
            raise ValueError("parts of a machine that does not run")
        number = _push(number, TENTHS, round(record["humidity"] * 10))
        number = _push(number, TENTHS, round(record["temperature"] * 10))
        number = _push(number, len(STATES), STATES.index(record["state"]))
        number = _push(number, MACHINES, int(record["machine"][6:]))
        if at:
            gap, rest = divmod(record["time"] - frame[at - 1]["time"], STEP)
            number = _push(number, GAPS, gap if not rest else -1)
    number = number << 41 | frame[0]["time"]
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _push(number, base, value):
    if not 0 <= value < base:
        raise ValueError(f"{value} is no digit of base {base}")
    return number * base + value


def unpack(data):
    """Give the records of packed bytes."""
    if not data[0]:
        return json.loads(zlib.decompress(data[1:]))
    number = int.from_bytes(data[1:], "big")
    clock, number = number & ((1 << 41) - 1), number >> 41
    frame = []
    for at in range(data[0]):
        if at:
            number, gap = divmod(number, GAPS)
            clock += gap * STEP
        number, machine = divmod(number, MACHINES)
        number, state = divmod(number, len(STATES))
        number, temperature = divmod(number, TENTHS)
        number, humidity = divmod(number, TENTHS)
        parts = 0
        if STATES[state] == "running":
            number, parts = divmod(number, PARTS)
        frame.append({
            "time": clock, "machine": f"press-{machine:03d}", "state": STATES[state],
            "temperature": temperature / 10, "humidity": humidity / 10, "parts": parts,
        })  # fmt: skip
    return frame
