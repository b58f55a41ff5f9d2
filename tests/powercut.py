"""Power cuts: a campaign on a small disk image, which is copied while a `try` works and then mounted again.

    unshare -m python tests/powercut.py ext4|xfs [--cuts 25]

Needs root. The copy holds what the file system had written to the device, and nothing that was still in
memory. It is not taken in one instant, and models a device that keeps the order of writes, not a drive cache
that lies.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from world import Answer, Project, a_project

MEGABYTES = 900  # a run does not start with less than 500 free


def shell(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def make_disk(kind: str, image: Path, place: Path) -> None:
    with image.open("wb") as file:
        file.truncate(MEGABYTES << 20)
    shell(f"mkfs.{kind}", "-q", str(image))
    place.mkdir()
    shell("mount", "-o", "loop", str(image), str(place))


def after_the_cut(kind: str, copy: Path, place: Path, acknowledged: bytes, env: dict[str, str]) -> list[str]:
    """Mount the copy where the disk was, go on, and say what is wrong."""
    twin = ",nouuid" if kind == "xfs" else ""  # xfs mounts no second file system of the same name
    shell("mount", "-o", f"loop{twin}", str(copy), str(place))
    try:
        world = Project(place / "p", env)
        return trouble_in(world, acknowledged)
    finally:
        shell("umount", str(place))


def trouble_in(world: Project, acknowledged: bytes) -> list[str]:
    wrong = []
    kept = (world.root / ".autoresearch/journal.jsonl").read_bytes()
    if not kept.startswith(acknowledged):
        wrong.append(f"acknowledged records are lost: {len(kept)} of {len(acknowledged)} bytes")
    steps = [world.run("resume"), world.run("wait"), world.run("wait")]
    wrong += [f"{answer.err or answer.out}" for answer in steps[:1] if answer.code]
    verified: Answer = world.run("verify")
    if verified.code:
        wrong.append(verified.out + verified.err)
    fsck = subprocess.run(
        ["git", "-C", str(world.root), "fsck", "--no-dangling"], capture_output=True, text=True
    )
    if fsck.returncode:
        wrong.append(fsck.stderr[:500])
    return wrong


def cut_often(kind: str, cuts: int, folder: Path, seed: int) -> tuple[int, list[str]]:
    """Return the acknowledged records over all cuts, and what was wrong after them."""
    rng = random.Random(seed)
    image, place = folder / "disk.img", folder / "disk"
    make_disk(kind, image, place)
    try:
        world = a_project(place / "p")
        world.begin()
        os.sync()
        records, wrong, usual, rate = 0, [], 1.0, 1.0
        journal = world.root / ".autoresearch/journal.jsonl"
        for number in range(cuts):
            acknowledged = journal.read_bytes()
            rate, old = round(rate - 0.01, 2), rate
            world.edit(f"LR = {old:.2f}", f"LR = {rate:.2f}")
            began = time.monotonic()
            process = world.start("try", f"cut {number}", "--wait", "60")
            time.sleep(rng.uniform(0.1, 1.0) * usual)
            copy = folder / "copy.img"
            shell("cp", "--sparse=always", str(image), str(copy))
            out, err = process.communicate(timeout=120)
            if process.returncode:
                raise SystemExit(f"the try itself failed: {out!r} {err!r}")
            usual = time.monotonic() - began
            records += acknowledged.count(b"\n")
            found = after_the_cut(kind, copy, place, acknowledged, world.env)
            wrong += [f"cut {number}: {text}" for text in found]
            copy.unlink()
        return records, wrong
    finally:
        shell("umount", str(place))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=["ext4", "xfs"])
    parser.add_argument("--cuts", type=int, default=25)
    parser.add_argument("--seed", type=int, default=7)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="powercut-"))
    try:
        records, wrong = cut_often(wanted.kind, wanted.cuts, folder, wanted.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(wrong))
    print(f"FIGURE P3 {wanted.kind}_cuts={wanted.cuts} acknowledged={records} damaged={len(wrong)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
