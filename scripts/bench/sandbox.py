"""What the sandbox stops and what it costs a run.

    python scripts/bench/sandbox.py [--runs 15]

The probe of tests/sandboxes.py runs with and without a sandbox, as this user and, for root, as nobody. The
cost is that of a whole run under its supervisor, with and without the sandbox in turns; a run of `true`, so
that nothing hides it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "skills" / "autoresearch" / "scripts"), str(ROOT / "tests")]

import sandboxes  # noqa: E402 - the path comes first
from runs import a_run, result_of  # noqa: E402

from lab.runners.local import Local  # noqa: E402
from lab.sandbox.box import put_up  # noqa: E402
from lab.sandbox.policy import Policy, caches, keys  # noqa: E402


def probed(user: int | None, sandbox: bool) -> str:
    """One line: how many of the harmful and honest actions went through."""
    with sandboxes.a_world(user) as world:
        if not sandbox:
            sandboxes.without_sandbox(world)
        result = sandboxes.supervised(world, user)
        harmful, honest = sandboxes.answers(world)
    through = [sum(said == "through" for said in rows.values()) for rows in (harmful, honest)]
    facts = dict(result["sandbox"])  # type: ignore[call-overload]
    who = "nobody" if user else f"uid {os.geteuid()}"
    inside = " ".join(str(facts[name]) for name in ("kind", "abi", "network") if name in facts)
    stopped = f"{len(harmful) - through[0]} of {len(harmful)} harmful actions stopped"
    return f"{who:<8} {inside:<20} {stopped}, {through[1]} of {len(honest)} honest ones go through"


def seconds(folder: Path, number: int, policy: Policy) -> float:
    """Wall seconds of one run of `true` from its submission to its result."""
    run_dir = a_run(folder, name=f"e{number:03d}.1", argv=["true"], sandbox=policy.as_json())
    began = time.perf_counter()
    Local().submit(run_dir, os.environ)
    result_of(run_dir)
    return time.perf_counter() - began


def cost(runs: int) -> None:
    """Print the medians and their difference."""
    environment = dict(os.environ)
    usual = Policy(
        write=tuple(caches(environment)), hidden=tuple(keys(environment, ROOT)), locked=(str(ROOT),)
    )
    off = Policy(write=(), mode="off")
    times: dict[str, list[float]] = {"off": [], "on": [], "rules": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            for name, policy in (("off", off), ("on", usual)):
                times[name].append(seconds(Path(folder), 2 * number + (name == "on"), policy))
            began = time.perf_counter()
            put_up(usual).in_force()
            times["rules"].append(time.perf_counter() - began)
    for name, what in (
        ("off", "a run without a sandbox"),
        ("on", "the same in it"),
        ("rules", "of which: the rules"),
    ):
        print(f"{what:<26}{1000 * statistics.median(times[name]):7.1f} ms (median of {runs})")
    differences = [b - a for a, b in zip(times["off"], times["on"], strict=True)]
    print(f"{'difference, in turns':<26}{1000 * statistics.median(differences):7.1f} ms")


def main() -> None:
    """Probe, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    users = [None, *([sandboxes.NOBODY] if os.geteuid() == 0 else [])]
    for user in users:
        for sandbox in (False, True):
            print(probed(user, sandbox))
    cost(runs)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
