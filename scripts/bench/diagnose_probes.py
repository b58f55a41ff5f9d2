"""Which planted faults of a model's parts and of a measurement the probes find.

python scripts/bench/diagnose_probes.py      needs torch; a quarter of a minute
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "skills" / "autoresearch" / "scripts" / "probes"))

import diagnose_parts  # noqa: E402
import diagnose_rulers  # noqa: E402
import health  # noqa: E402
import verify  # noqa: E402

STEPS, TRAINED = 8, 60


def parts() -> list[tuple[str, str, bool, str]]:
    """(planted, what must be found, whether it was found in the right part, the first three findings)."""
    rows = []
    for name, (make, what, part) in diagnose_parts.SICK.items():
        found = health.examine(health.measure(make(), STEPS))
        good = any(one.what == what and one.part.startswith(part) for one in found)
        rows.append((name, what, good, ", ".join(f"{one.part} {one.what}" for one in found[:3])))
    return rows


def healthy_parts() -> list[tuple[str, str]]:
    """(healthy model, what was said of it all the same)."""
    makers = diagnose_parts.HEALTHY.items()
    found = {name: health.examine(health.measure(make(), STEPS)) for name, make in makers}
    return [(name, ", ".join(f"{one.part} {one.what}" for one in all_of)) for name, all_of in found.items()]


def rulers() -> list[tuple[str, str, bool, str]]:
    """(planted, the check that must fail, whether it did, all that failed)."""
    rows = []
    for name, (make, check) in diagnose_rulers.FAULTS.items():
        failed = [one.name for one in verify.verify(make(), TRAINED) if one.ok is False]
        rows.append((name, check, check in failed, ", ".join(failed)))
    return rows


def honest_rulers() -> list[tuple[str, str]]:
    """(honest measurement, the checks that failed all the same)."""
    made = {name: verify.verify(make(), TRAINED) for name, make in diagnose_rulers.HONEST.items()}
    return [(name, ", ".join(one.name for one in done if one.ok is False)) for name, done in made.items()]


def main() -> None:
    for title, sick, sound in (
        ("health", parts(), healthy_parts()),
        ("verify-metric", rulers(), honest_rulers()),
    ):
        print(f"\n### {title}\n\n| planted | must be found | what was said |\n|---|---|---|")
        for name, what, good, said in sick:
            print(f"| {name} | {what}{'' if good else ' **(missed)**'} | {said} |")
        for name, said in sound:
            print(f"| {name} (nothing planted) | | {said or 'silent'} |")
        caught = sum(good for _, _, good, _ in sick)
        quiet = sum(not said for _, said in sound)
        print(f"\n{title}: {caught} of {len(sick)} found; silent on {quiet} of {len(sound)} sound ones")


if __name__ == "__main__":
    main()
