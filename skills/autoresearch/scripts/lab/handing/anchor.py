"""Another kind of machine to compare on: the incumbent was measured there because somebody asked for it."""

from __future__ import annotations

from lab import judging
from lab.campaign import Lab
from lab.decide import as_json, restarted, trusted
from lab.model import ELSEWHERE, Experiment, Run
from lab.steps import step

EXACT = 1e-9  # of the metric: what stands for no noise at all, by which nothing can be divided


def move(lab: Lab) -> bool:
    """Compare on the machine of the incumbent's anchored runs from here on; False when there are none."""
    incumbent = lab.state.incumbent or lab.state.baseline
    runs = _anchored(lab, incumbent) if incumbent else []
    if not runs or incumbent is None or incumbent.handed:
        return False
    machine = runs[-1].machine
    chosen = [run for run in runs if run.machine == machine]
    belief, sign = judging.believed(lab.state), 1.0 if lab.settings.goal == "min" else -1.0
    losses = [(run.seed, sign * judging.value_of(run)) for run in chosen]
    noise = trusted(judging.facts_of(lab.state, lab.settings, incumbent)).sigma
    again = as_json(restarted(belief, losses, noise or EXACT * max(1.0, abs(losses[0][1])))) if belief else {}
    lab.journal.append("machine", experiment=incumbent.id, machine=machine, belief=again)
    step("machine.moved")
    waiting = [
        f"{e.id}" for e in lab.state.open() if any(r.outcome == "ok" and r.machine == machine for r in e.runs)
    ]
    lab.told.append(
        f"results are compared on {machine} from here on: {incumbent.id} has {len(chosen)} runs there"
        + (f"; {', '.join(waiting)} from there count now" if waiting else "")
    )
    return True


def _anchored(lab: Lab, incumbent: Experiment) -> list[Run]:
    requests = lab.state.requests
    return [
        run
        for run in incumbent.runs
        if run.outcome == ELSEWHERE
        and run.ended > lab.state.moved
        and run.commit == incumbent.commit
        and requests[run.request].get("anchor")
    ]
