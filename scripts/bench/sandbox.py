"""What the sandbox stops and what it costs a run.

    python scripts/bench/sandbox.py [--runs 15]

The probe of tests/sandboxes.py runs without a sandbox and in each kind that is to be had, as this user and,
for root, as nobody. The cost is that of a whole run under its supervisor, with and without the sandbox in
turns; a run of `true`, so that nothing hides it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "skills" / "autoresearch" / "scripts"), str(ROOT / "tests")]

import sandboxes  # noqa: E402 - the path comes first
from runs import a_run, result_of  # noqa: E402

from lab.runners.local import Local  # noqa: E402
from lab.sandbox.box import put_up  # noqa: E402
from lab.sandbox.policy import Policy, caches, keys  # noqa: E402


def probed(user: int | None, kind: str) -> str:
    """One line: how many of the harmful and honest actions went through."""
    with sandboxes.a_world(user, kind) as world:
        if kind == "off":
            sandboxes.without_sandbox(world)
        result = sandboxes.supervised(world, user)
        harmful, honest = sandboxes.answers(world)
    through = [sum(said == "through" for said in rows.values()) for rows in (harmful, honest)]
    facts = dict(result["sandbox"])  # type: ignore[call-overload]
    who = "nobody" if user else f"uid {os.geteuid()}"
    if "network" not in facts and facts["kind"] != "off":
        return f"{who:<8} {kind:<20} not to be had here: {facts}"
    inside = " ".join(str(facts[name]) for name in ("kind", "abi", "network") if name in facts)
    stopped = f"{len(harmful) - through[0]} of {len(harmful)} harmful actions stopped"
    names = "; ".join(name for name, said in harmful.items() if said == "through" and kind != "off")
    names += (
        "; not: " + "; ".join(n for n, said in honest.items() if said != "through") if kind == "uid" else ""
    )
    end = f" (through: {names})" if names else ""
    return f"{who:<8} {inside:<20} {stopped}, {through[1]} of {len(honest)} honest ones go through{end}"


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
    kinds = {name: replace(usual, kind=name) for name in ("landlock", "bubblewrap")}
    kinds = {name: policy for name, policy in kinds.items() if put_up(policy).in_force()["kind"] == name}
    times: dict[str, list[float]] = {"off": [], "rules": [], **{name: [] for name in kinds}}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            for place, (name, policy) in enumerate({"off": off, **kinds}.items()):
                times[name].append(seconds(Path(folder), 4 * number + place, policy))
            began = time.perf_counter()
            put_up(usual).in_force()
            times["rules"].append(time.perf_counter() - began)
    print(
        f"{'a run without a sandbox':<34}{1000 * statistics.median(times['off']):7.1f} ms (median of {runs})"
    )
    for name in kinds:
        differences = [b - a for a, b in zip(times["off"], times[name], strict=True)]
        print(f"{f'{name}: difference, in turns':<34}{1000 * statistics.median(differences):7.1f} ms")
    print(f"{'of which Landlock: the rules':<34}{1000 * statistics.median(times['rules']):7.1f} ms")


def main() -> None:
    """Probe, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    users = [None, *([sandboxes.NOBODY] if os.geteuid() == 0 else [])]
    for user in users:
        for kind in ("off", "landlock", "bubblewrap", *(["uid"] if user is None else [])):
            print(probed(user, kind))
    cost(runs)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
