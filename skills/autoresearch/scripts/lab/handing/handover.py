"""Asking a person for runs: the journal's word first, then the folder with everything they need.

What is asked for counts as started, so that the loop waits for it as it does for a run of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from lab.campaign import Lab
from lab.comparison import next_look
from lab.errors import CONFIG, REFUSED, LabError
from lab.handing import packing
from lab.model import BASELINE, ELSEWHERE, Confirmation, Experiment, Place, Run
from lab.redact import hide_secrets
from lab.steps import step

TRIALS = 4  # of a sweep that a person is asked for together
FIRST_SEEDS = 2  # of a candidate: a round trip costs a person more than a run costs the machine
SEEDS = 1_000_000  # to look through for one that no run has had
COLLABORATIVE = "collaborative"


def handed_out(lab: Lab) -> bool:
    """Whether this campaign's runs are executed by a person."""
    return lab.settings.mode == COLLABORATIVE


def asked_for(lab: Lab) -> bool:
    """Whether a person has the baseline to measure: what is to be compared with it may go with them."""
    baseline = lab.state.baseline
    return handed_out(lab) and baseline is not None and baseline.verdict is None


def ask(
    lab: Lab, place: Place, experiment: Experiment, seed: int | None, words: Mapping[str, object]
) -> bool:
    """Ask for the run that the loop would start; False when that was asked before or a result is held."""
    if _waits(lab.state.moved, place, experiment, seed):
        return False
    if isinstance(place, Confirmation):
        return _ask_pairs(lab, place)
    seeds = [seed] if words else _seeds(lab, experiment, seed)
    request(lab, place, experiment, [{"seed": seed, **words} for seed in seeds])
    return True


def _ask_pairs(lab: Lab, confirmation: Confirmation) -> bool:
    """Ask for every run up to the next look at once, a request for each side."""
    asked = False
    for name in (confirmation.base, confirmation.experiment):
        rows = confirm_rows(lab, confirmation, name)
        if rows:
            request(lab, confirmation, lab.state.get(name), rows)
            asked = True
    return asked


def confirm_rows(lab: Lab, confirmation: Confirmation, name: str) -> list[dict[str, object]]:
    """The runs of one side that the next look needs and nobody has."""
    from lab.confirm import fresh_seed  # it starts runs, so it stands on this module

    used = lab.state.seeds_used()
    fresh = filter(lambda seed: seed not in used, (fresh_seed(lab.state.tag, k) for k in range(SEEDS)))
    looked_at = confirmation.looks[-1] if confirmation.looks else 0
    rows: list[dict[str, object]] = []
    for pair in range(1, min(next_look(looked_at), confirmation.pairs) + 1):
        runs = [run for run in confirmation.runs if run.pair == pair]
        if any(run.side == name and (run.outcome is None or run.counts or run.failed) for run in runs):
            continue
        seed = runs[0].seed if runs else next(fresh) if lab.settings.seeded else None
        rows.append({"seed": seed, "role": "confirm", "side": name, "pair": pair})
    return rows


def _waits(moved: int, place: Place, experiment: Experiment, seed: int | None) -> bool:
    """Whether a person has the run already, or it came back from a machine nothing was compared on so far."""
    runs = [run for run in place.runs if run.commit == experiment.commit]
    asked = any(run.outcome is None and run.request for run in runs)
    held = any(run.outcome == ELSEWHERE and run.ended > moved and run.seed == seed for run in runs)
    return asked or held


def _seeds(lab: Lab, experiment: Experiment, seed: int | None) -> list[int | None]:
    """The seeds to ask for at once, from `seed` on."""
    have = [run for run in experiment.runs if run.commit == experiment.commit and run.counts]
    if experiment.trial:
        return [seed]
    if experiment.id == BASELINE:
        wanted = max(1, experiment.repeats - len(have))
    else:
        wanted = 1 if have or experiment.verdict else FIRST_SEEDS
    return more_seeds(lab, experiment, wanted) if wanted > 1 else [seed]


def more_seeds(lab: Lab, experiment: Experiment, count: int) -> list[int | None]:
    """The next seeds of the one list that this experiment has no result for."""
    taken = {run.seed for run in experiment.runs if run.commit == experiment.commit and run.counts}
    found: list[int | None] = []
    index = 0
    while len(found) < count:
        seed = lab.seed(index)
        index += 1
        if seed is None or seed not in taken:
            found.append(seed)
    return found


def request(
    lab: Lab,
    place: Place,
    experiment: Experiment,
    rows: Sequence[Mapping[str, object]],
    anchor: bool = False,
) -> str:
    """Journal a request for runs with these seeds, make its folder, return its id.

    `anchor`: when they come back from another kind of machine, results are compared there from then on.
    """
    if lab.settings.evaluate:
        raise LabError(
            "`evaluate:` scores a run in a process of the tool, which another machine does not have",
            "run it here (mode: autonomous), or let the program print the metric itself",
            CONFIG,
        )
    command = packing.words_of(lab, experiment, None)
    if hide_secrets("\n".join(command)) != "\n".join(command):
        raise LabError(
            "the command holds what looks like a key, and a request is sent around",
            "let the program read it from the environment: the person sets it there",
            REFUSED,
        )
    first = len(place.runs) + 1
    runs = [{"id": f"{place.id}.{first + n}", **row} for n, row in enumerate(rows)]
    identity = f"r{len(lab.state.requests) + 1:03d}"
    lab.journal.append(
        "requested",
        request=identity,
        token=secrets.token_hex(16),
        place=place.id,
        experiment=experiment.id,
        commit=experiment.commit,
        runs=runs,
        anchor=anchor,
    )
    step("request.journalled")
    packing.write(lab, identity)
    return identity


def back(lab: Lab) -> tuple[Experiment, Run] | None:
    """A run whose result has been brought back and is not in the journal yet."""
    found = ((e, run) for e, run in lab.state.handed() if (lab.run_dir(run) / "run.json").exists())
    return next(found, None)


def give_up(lab: Lab) -> bool:
    """Wait no longer for the rest of a request of which a run failed; whether there was one."""
    for identity in dict.fromkeys(run.request for _, run in lab.state.handed()):
        failed = next((run for run in packing.runs_of(lab, identity) if run.failed), None)
        if failed:
            lab.journal.append("withdrawn", request=identity, reason=f"{failed.id} failed")
            step("request.withdrawn")
            return True
    return False
