"""Looking whether the record can be believed: verify."""

from __future__ import annotations

import click

from lab import errors, verify
from lab.campaign import Lab
from lab.model import Record
from verbs.shared import TRY_WAIT_SECONDS, Context, agent, next_step
from verbs.shared import verb as a_verb

SHOWN = 10


@a_verb("verify")
@click.option(
    "--rerun", type=click.IntRange(1, 100), metavar="N", help="Measure N random rows again as well."
)
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=TRY_WAIT_SECONDS, show_default=True,
              help="Seconds to wait for the runs of --rerun.")  # fmt: skip
def verify_record(obj: Context, rerun: int | None, wait_seconds: float) -> None:
    """Check that the record is whole and true: was anything changed, cut off or made up?

    Reads the journal's chain of hashes, exports every commit again and compares it with what ran, reads every
    number again from its log, and compares the verdicts with what git noted. Names the first record that does
    not fit, and then exits 4. With --rerun it says how many rows come out the same within the noise; it exits
    124 when the wait ended before their runs, and goes on when called again.

    \b
    verify
    verify --rerun 3 --wait 540
    """
    lab = Lab.find(obj.folder)
    found = verify.examine(lab)
    again: Record | None = None
    waiting = False
    if rerun and not found.misfits:
        with agent(lab, "verify"):
            again = verify.measure_again(lab, rerun, wait_seconds)
        waiting = again is None
    lines = [*_verdict(found), *_again(again, waiting)]
    fields: Record = {
        "holds": not found.misfits,
        "first": str(found.misfits[0]) if found.misfits else None,
        "misfits": [vars(m) for m in found.misfits[:50]],
        "records": found.records,
        "held_from": found.held_from,
        "experiments": found.experiments,
        "exported": found.exported,
        "reread": found.reread,
        "unread": found.unread,
        "rerun": again,
    }
    if found.misfits:
        follow = "keep a copy of the folder, then look at that line"
    else:
        follow = f"`verify --rerun {rerun}` goes on" if waiting else next_step(lab)
    obj.say([*lines, f"next: {follow}"], {**fields, "next": follow})
    if found.misfits:
        raise SystemExit(errors.PRECONDITION)
    if waiting:
        raise SystemExit(errors.WAIT_ENDED)


def _verdict(found: verify.Findings) -> list[str]:
    """Holds or not, first; then what was looked at."""
    if found.misfits:
        more = len(found.misfits) - SHOWN
        lines = [f"RECORD DOES NOT FIT  {found.misfits[0]}"]
        lines += [f"also {misfit}" for misfit in found.misfits[1:SHOWN]]
        lines += [f"and {more} more"] if more > 0 else []
    else:
        lines = ["RECORD HOLDS  nothing was changed, cut off or made up that anything here could show"]
    held = f"an unbroken chain from line {found.held_from}" if found.held_from else "no chain of hashes yet"
    if any(m.what == "chain" for m in found.misfits):
        held = f"a chain of hashes from line {found.held_from}, broken"
    return [
        *lines,
        f"{found.records} records, {held}; {found.experiments} experiments, {found.exported} commits "
        f"exported again, {found.reread} numbers read again from their logs"
        + (f", {found.unread} without a log to read" if found.unread else ""),
    ]


def _again(again: Record | None, waiting: bool) -> list[str]:
    if waiting:
        return ["the rows chosen are still being measured"]
    if again is None:
        return []
    rows = again["rows"]
    assert isinstance(rows, list)
    good = sum(bool(row["within"]) for row in rows)
    lines = [f"{good} of {len(rows)} rows come out the same within the noise"]
    for row in rows:
        seen = f"{row['is']:.6f}" if row["is"] is not None else f"nothing: {row['trouble']}"
        mark = "same " if row["within"] else "OTHER"
        lines.append(
            f"{mark} {row['experiment']} seed {row['seed']}: was {row['was']:.6f}, is {seen} "
            f"(noise explains {row['reach']:.2g})"
        )
    return lines
