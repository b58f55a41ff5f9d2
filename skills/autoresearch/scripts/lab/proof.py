"""A confirmation in words and as JSON: what `confirm`, `status` and the closing report say of it."""

from __future__ import annotations

from lab.comparison import Comparison, Side
from lab.model import Confirmation, Record, State


def comparison_json(metric: str, c: Comparison | None) -> Record | None:
    """The figures of one comparison."""
    if c is None:
        return None
    return {
        "metric": metric,
        "gain": c.gain,
        "interval": list(c.interval),
        "level": c.level,
        "n": c.n,
        "paired": c.paired,
        "before": _side(c.before),
        "after": _side(c.after),
        "p_t": c.p_t,
        "p_wilcoxon": c.p_wilcoxon,
    }


def _side(s: Side) -> Record:
    return {"n": s.n, "mean": s.mean, "sd": s.sd}


def sentence(metric: str, c: Comparison, claimed: float | None) -> str:
    """One comparison with every figure it stands on."""
    change = "the same" if c.gain == 0 else f"{'better' if c.gain > 0 else 'worse'} by {abs(c.gain):.4g}"
    seeds = f"{c.n} fresh seeds, paired" if c.paired else f"{c.before.n} and {c.after.n} runs, unpaired"
    text = (
        f"{metric} {_mean(c.before)} -> {_mean(c.after)} ({seeds}): {change}, "
        f"95 % interval {c.interval[0]:+.4g} to {c.interval[1]:+.4g}"
    )
    if c.p_t is not None:
        text += f", {'paired' if c.paired else 'Welch'} t p {_p(c.p_t)}"
    if c.p_wilcoxon is not None:
        text += f", Wilcoxon p {_p(c.p_wilcoxon)}"
    if c.error == 0:
        text += ", every difference the same: nothing here varies with the seed"
    return text + ("" if claimed is None else f"; in the loop, where it was selected, {claimed:+.4g}")


def _mean(s: Side) -> str:
    return f"{s.mean:.6f}" + ("" if s.sd is None else f" ± {s.sd:.2g}")


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def heldout_looks(state: State) -> int:
    """How often a result on the held-out split has been told in this campaign."""
    return sum(c.told for c in state.confirmations.values() if c.heldout) + bool(state.heldout)


def pairs_done(c: Confirmation) -> int:
    """Pairs whose two runs gave a number."""
    sides: dict[int, set[str]] = {}
    for run in c.runs:
        if run.counts and run.pair is not None:
            sides.setdefault(run.pair, set()).add(run.side)
    return sum(len(ran) == 2 for ran in sides.values())


def line(state: State, c: Confirmation) -> str:
    """One line for `status`."""
    who = f"{c.id}: {c.experiment} against {c.base}"
    if c.verdict:
        return f"confirm {who}, {c.verdict.upper()}"
    return f"confirm {who} under way, {_progress(c)}"


def lines(state: State, c: Confirmation) -> list[str]:
    """Everything `confirm` says, the verdict first."""
    if not c.verdict:
        run = c.open_run
        at = f", run {run.id} ({run.side}, seed {run.seed})" if run else ""
        return [f"{c.id} CONFIRMING  {c.experiment} against {c.base}: {_progress(c)}{at}"]
    text = [f"{c.id} {c.verdict.upper()}  {c.experiment} against {c.base}: {c.reason}"]
    text += [f"also: {c.result['also']}"] if c.result.get("also") else []
    text += [f"missing: {row}" for row in _texts(c.result.get("missing"))[:5]]
    text += [f"cut short: {c.cut}"] if c.cut else []
    if c.heldout:
        looks = heldout_looks(state)
        text.append(
            f"looks at the held-out split in this campaign: {looks}"
            + ("; every further one makes it less untouched" if looks > 1 else "")
        )
    return text


def _progress(c: Confirmation) -> str:
    return f"{pairs_done(c)} of at most {c.pairs} pairs"


def _texts(rows: object) -> list[str]:
    return [str(row) for row in rows] if isinstance(rows, list) else []


def as_json(state: State, c: Confirmation | None) -> Record | None:
    """The fields of `confirm`, and of `confirmation` in `status` and `finish`."""
    if c is None:
        return None
    return {
        "confirmation": c.id,
        "experiment": c.experiment,
        "baseline": c.base,
        "status": "done" if c.verdict else "running" if c.open_run else "queued",
        "verdict": c.verdict or None,
        "reason": c.reason if c.verdict else "",
        **(c.result if c.verdict else {}),
        "pairs": {"done": pairs_done(c), "planned": c.pairs, "looks": c.looks},
        "heldout_looks": heldout_looks(state) if c.heldout else None,
        "cut": c.cut or None,
        "runs": [
            {**run.as_json(), "experiment": run.side, "pair": run.pair, "role": run.role} for run in c.runs
        ],
    }


def last_look(state: State) -> list[str]:
    """What `finish` saw on the held-out split, in one line; [] where it did not look."""
    found = state.heldout
    if not found:
        return []
    looks = f"look {heldout_looks(state)} in this campaign"
    said = f"{found['metric']}, which no decision has seen ({looks})"
    before, after, gain = (found.get(name) for name in ("before", "after", "gain"))
    if not (isinstance(before, float) and isinstance(after, float) and isinstance(gain, float)):
        return [f"{said}: not scored, {found.get('trouble') or 'the look was cut'}"]
    who = f"{found['experiment']} {after:.6g} against {before:.6g} of {found['base']}"
    word = "better" if gain > 0 else "NOT BETTER"
    return [f"{said}: {who}, {abs(gain):.4g} {word}; one model each, so no interval"]


def section(state: State) -> list[str]:
    """The confirmation's part of the closing report, in Markdown."""
    done = list(state.confirmations.values())
    if not done:
        return [
            "**Not confirmed.** No fresh seed has been run: `confirm` before `finish` measures the gain "
            "without the luck of having been selected.",
            *(f"- {row}" for row in last_look(state)),
        ]
    text = ["## Confirmation on fresh seeds", ""]
    for c in done:
        rows = lines(state, c)
        text += [f"- {rows[0]}", *(f"  - {row}" for row in rows[1:])]
    text += [f"- {row}" for row in last_look(state)]
    return text
