"""Why the figures can be believed, or cannot: one check, one sentence."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lab import guards
from lab.model import NOT_EVIDENCE
from lab.report.figures import clock, plural, said, span
from lab.report.material import Material

FEW_RUNS = 6  # with three the truth may be six times as large (chi-square, 2 degrees of freedom, 2.5 %)
NOISIER = 3.0  # times what the loop counted on: fresh seeds that differ so much are told
SHORT_SHARE = 0.6  # of the usual length: a run that ended sooner may have skipped its work


@dataclass(frozen=True)
class Check:
    """`ok` is None where something was not measured."""

    ok: bool | None
    name: str
    text: str


def checks(m: Material) -> list[Check]:
    """Every check of `CHECKS`, in order."""
    return [check for make in CHECKS for check in [make(m)] if check]


def _read_by_the_tool(m: Material) -> Check:
    counted = sum(run.counts for run in m.runs)
    unread = [run.id for run in m.runs if run.kind in ("no_metric", "not_finite", "ambiguous")]
    text = f"{plural(counted, 'number')} read from the runs' own output, none typed by the agent"
    if unread:
        text += f"; {plural(len(unread), 'run')} without one clear number counted as a crash"
    return Check(True if counted else None, "Who read the numbers", text)


def _protected(m: Material) -> Check:
    paths = m.settings.protect
    changed = [run.id for run in m.runs if run.outcome == "protected"]
    ended = sum(run.outcome not in (None, *NOT_EVIDENCE) for run in m.runs)
    if not paths:
        return Check(None, "Protected files", "none is named in `protect:`, so none was watched")
    said = f"{', '.join(paths[:4])} hashed before and after {plural(ended, 'run')}"
    if changed:
        return Check(
            False, "Protected files", f"{said}; changed by {', '.join(changed[:5])}, which were refused"
        )
    return Check(True, "Protected files", f"{said}: unchanged")


def _inside(m: Material) -> Check:
    stray, edit = m.beside.stray, ", ".join(m.settings.edit)
    if stray is None:
        return Check(None, "What was changed", "not looked at")
    if stray:
        return Check(
            False, "What was changed", f"the keeps also change {', '.join(stray[:5])}, outside {edit}"
        )
    return Check(True, "What was changed", f"the kept commits change nothing but {edit}")


def _sealed(m: Material) -> Check:
    """Where the numbers come from, and whether the trainings could have read what is scored."""
    levels = sorted({run.level for run in m.runs if run.counts and run.level})
    boxes = sorted({run.sandbox for run in m.runs if run.counts and run.sandbox})
    if not levels:
        return Check(None, "Where the numbers come from", "not written down by the release that ran them")
    named = {
        "L0": "L0: the trainings' own output",
        "L1": "L1: a process of its own scored what they exported",
        "L2": "L2: a process of its own scored what they exported, with the model's code shut in",
    }
    text = f"{'; '.join(named[level] for level in levels)}; sandbox of the runs: {', '.join(boxes) or 'none'}"
    odd = [words for row in m.kept for run in row.e.runs if (words := guards.disagreement(run))]
    if odd:
        return Check(False, "Where the numbers come from", f"{text}; {'; '.join(odd[:3])}")
    return Check(True if levels[0] != "L0" else None, "Where the numbers come from", text)


def _lengths(m: Material) -> Check:
    times = [run.seconds for run in m.runs if run.counts and run.seconds]
    if len(times) < 3:
        return Check(None, "Length of the runs", "fewer than three runs to compare")
    usual = statistics.median(times)
    if usual < SHORT_SHARE * m.settings.seconds:
        text = (
            f"{span(usual)} usually, far from the budget of {span(m.settings.seconds)}: it says nothing here"
        )
        return Check(None, "Length of the runs", text)
    short = [run.id for run in m.runs if run.counts and run.seconds and run.seconds < SHORT_SHARE * usual]
    said = f"half of them took more than {span(usual)}, the longest {span(max(times))}"
    if short:
        return Check(False, "Length of the runs",
                     f"{said}; under {100 * SHORT_SHARE:.0f} % of that: {', '.join(short[:6])}"
                     + (f" and {len(short) - 6} more" if len(short) > 6 else ""))  # fmt: skip
    return Check(True, "Length of the runs", f"{said}, none under {100 * SHORT_SHARE:.0f} % of the usual")


def _same_ruler(m: Material) -> Check:
    if not m.state.frozen or m.baseline is None:
        return Check(None, "The same ruler", "there is no baseline yet")
    return Check(
        True, "The same ruler", "command, metric, budget, protected files and seeds as at the baseline"
    )


def _noise(m: Material) -> Check:
    sigma, runs, name = m.beside.sigma, m.beside.sigma_runs, "Noise between runs"
    seen = m.proof.sd if m.proof and m.proof.metric == m.settings.metric else None
    if sigma is None:
        return Check(None, name, "not measured: no code ran twice")
    if seen is not None and seen > NOISIER * sigma:
        text = (
            f"fresh seeds differ by {seen:.2g} (sd), the loop counted on {sigma:.2g}: doubt its smaller gains"
        )
        return Check(False, name, text)
    if sigma == 0:
        return Check(True, name, f"none: {plural(runs, 'repeated run')} gave equal numbers")
    said_of = f"{sigma:.2g} (one standard deviation, from {plural(runs, 'run')})"
    if runs < FEW_RUNS:
        return Check(None, name, f"{said_of}: so few runs may show it several times too small")
    return Check(True, name, said_of)


def _repeated(m: Material) -> Check:
    once = [row.id for row in m.kept if row.evidence.runs < 2]
    if not m.kept:
        return Check(None, "Repeats", "nothing was kept")
    more = f" and {len(once) - 6} more" if len(once) > 6 else ""
    again = len(m.kept) - len(once)
    return Check(
        not once or None,
        "Repeats",
        f"{again} of {plural(len(m.kept), 'kept change')} ran more than once"
        + (f"; once only: {', '.join(once[:6])}{more}" if once else ""),
    )


def _host(m: Material) -> Check:
    lost = [run.id for run in m.runs if run.outcome in NOT_EVIDENCE]
    if not lost:
        return Check(True, "The machine", "no run was lost to it")
    return Check(
        None,
        "The machine",
        f"{plural(len(lost), 'run')} ended by it or from outside and never counted: " + ", ".join(lost[:6]),
    )


def _flags(m: Material) -> Check:
    doubts = [f"{row.id}: {row.evidence.flags[0]}" for row in m.kept if row.evidence.flags]
    alike = guards.all_the_same(m.state)
    doubts += [said(guards.alike_words(alike), 200)] if alike else []
    if doubts:
        return Check(False, "Too good to be true", "; ".join(doubts[:4]))
    said_of = "no kept gain far beyond what changes do here, no metric at its bound, no row of equal numbers"
    return Check(True if m.kept else None, "Too good to be true", said_of)


def _touches(m: Material) -> Check:
    """What the lint saw in the diffs of the kept changes: nothing that is proved, something to look at."""
    name = "What the diffs touch"
    found = [(row.id, m.state.experiments[row.id].touches) for row in m.kept]
    doubts = [f"{who}: {said(touches[0], 120)}" + (f" and {len(touches) - 1} more" if touches[1:] else "")
              for who, touches in found if touches]  # fmt: skip
    if doubts:
        more = f"; and {len(doubts) - 4} more" if len(doubts) > 4 else ""
        return Check(False, name, f"look at {'; '.join(doubts[:4])}{more}")
    text = "no kept change touches seeds, time budget, evaluation, data paths or the printed metric"
    return Check(True if m.kept else None, name, text)


def _same_data(m: Material) -> Check:
    facts = [run.facts for run in m.runs if run.counts and run.facts]
    if not facts:
        return Check(None, "The same data", "the runs print no fingerprint of what they measured on")
    if any(guards.difference(facts[0], other) for other in facts[1:]):
        return Check(False, "The same data", "runs that counted print different fingerprints")
    return Check(
        True,
        "The same data",
        f"{plural(len(facts), 'run')} print the same fingerprint of what they measured on",
    )


def _drift(m: Material) -> Check | None:
    drifts = m.beside.account.get("drifts")
    if not isinstance(drifts, list) or not drifts:
        return None
    when = clock(str(drifts[-1]), m.state.started)
    text = f"{when} the best, measured again, was over 3 sd off: earlier numbers do not compare"
    return Check(False, "Drift", text)


def _journal(m: Material) -> Check:
    if m.beside.notices:
        return Check(None, "The record", "; ".join(said(notice, 200) for notice in m.beside.notices[:3]))
    rows = m.state.verified.get("rows")
    again = ""
    if isinstance(rows, list) and rows:
        same = sum(bool(row["within"]) for row in rows)
        again = f"; {same} of {plural(len(rows), 'row')} measured again came out the same"
    return Check(True, "The record", f"{m.state.seq} journal records, read without a gap{again}")


def _secrets(m: Material) -> Check:
    return Check(None, "Secrets", "hidden in every text of this page; the runs' own logs were not searched")


CHECKS: tuple[Callable[[Material], Check | None], ...] = (
    _read_by_the_tool,
    _protected,
    _sealed,
    _inside,
    _same_ruler,
    _same_data,
    _noise,
    _repeated,
    _lengths,
    _flags,
    _touches,
    _host,
    _drift,
    _journal,
    _secrets,
)
