"""Size of the packed records as the gateway gets them, and the proof that nothing is lost."""

import random
import time

import pack

RECORDS = 40_000
FRAME = 40  # records in one frame; each frame is unpacked on its own
STATES = ("idle", "running", "blocked", "service")


def records():
    """What a hall of machines reports: one record every few seconds."""
    draw = random.Random(11)
    clock = 1_700_000_000_000
    machines = [(f"press-{n:03d}", draw.uniform(20, 60), draw.uniform(30, 70)) for n in range(24)]
    heat = [base for _, base, _ in machines]
    state = [0] * len(machines)
    found = []
    for _ in range(RECORDS):
        clock += draw.choice((250, 250, 250, 500, 750))
        n = draw.randrange(len(machines))
        heat[n] += draw.gauss(0, 0.3) + 0.02 * (machines[n][1] - heat[n])
        if draw.random() < 0.05:
            state[n] = draw.randrange(len(STATES))
        found.append({
            "time": clock,
            "machine": machines[n][0],
            "state": STATES[state[n]],
            "temperature": round(heat[n], 1),
            "humidity": round(machines[n][2] + draw.gauss(0, 0.4), 1),
            "parts": draw.randrange(8) if state[n] == 1 else 0,
        })  # fmt: skip
    return found


def main():
    start, rows, size = time.time(), records(), 0
    for at in range(0, len(rows), FRAME):
        frame = rows[at : at + FRAME]
        packed = pack.pack(frame)
        if not isinstance(packed, bytes) or pack.unpack(packed) != frame:
            raise SystemExit(f"the frame of record {at} does not come back as it was")
        size += len(packed)
        if at % 8000 == 0:
            print(f"record {at} bytes {size}", flush=True)
    print("---")
    print(f"bytes_per_record: {size / len(rows):.6f}")
    print(f"seconds: {time.time() - start:.1f}")


if __name__ == "__main__":
    main()
