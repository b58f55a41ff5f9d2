"""Asks Optuna for the next values, in a process of its own: `python -I sampling.py < TASK > ANSWER`.

The study is built anew from what the journal holds, so that the search keeps nothing that a kill could lose.
Optuna and cmaes are an extra: this is the one module that imports them, and it imports nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from typing import Any

TRIES = 24  # for values that were not measured yet
START = 6  # points by chance before a model is made of them


def main() -> None:
    """Answer the task on standard input."""
    task = json.load(sys.stdin)
    own = {"cma": evolved, "random": drawn}.get(task["sampler"])
    if not task.get("importance"):
        task["told"] = with_failures(pruned_as_failed(task["told"]) if own else task["told"], task["goal"])
    if own and not task.get("importance"):
        json.dump({"asked": own(task)}, sys.stdout)
        return
    optuna: Any = importlib.import_module("optuna")  # 1 s
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {knob["name"]: distribution(optuna, knob) for knob in task["knobs"]}
    direction = "maximize" if task["goal"] == "max" else "minimize"
    study = optuna.create_study(direction=direction, sampler=sampler(optuna, task))
    for told in task["told"]:
        study.add_trial(trial(optuna, space, told, 1 if direction == "minimize" else -1))
    answer = importance(optuna, study, space) if task.get("importance") else ask(study, space, task)
    json.dump(answer, sys.stdout)


def with_failures(told: list[dict[str, Any]], goal: str) -> list[dict[str, Any]]:
    """A point that failed counts as the worst measured: a search that forgets it goes there again."""
    values = [one["value"] for one in told if one["state"] == "complete"]
    if not values:
        return told
    worst = {"state": "complete", "value": min(values) if goal == "max" else max(values)}
    return [one | worst if one["state"] == "failed" else one for one in told]


def pruned_as_failed(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for a point that was pruned, where the search knows numbers of whole runs only."""
    return [one | {"state": "failed"} if one["state"] == "pruned" else one for one in told]


def distribution(optuna: Any, knob: dict[str, Any]) -> Any:
    """The range of a knob as Optuna says it."""
    kinds = optuna.distributions
    if knob["choices"]:
        return kinds.CategoricalDistribution(knob["choices"])
    if knob["whole"]:
        low, high = math.ceil(knob["low"]), math.floor(knob["high"])
        return kinds.IntDistribution(low, high, log=knob["log"])
    return kinds.FloatDistribution(knob["low"], knob["high"], log=knob["log"])


def sampler(optuna: Any, task: dict[str, Any]) -> Any:
    """The search; its seed comes with the task, so that the same question has the same answer."""
    # Points under way count as bad ones, so that several at once do not gather in one place.
    return optuna.samplers.TPESampler(
        seed=task["seed"], n_startup_trials=START, multivariate=True, constant_liar=True
    )


def trial(optuna: Any, space: dict[str, Any], told: dict[str, Any], sign: int) -> Any:
    """One measured, pruned, failed or running point; of the pruned those that came farther are better."""
    states = optuna.trial.TrialState
    state = {
        "complete": states.COMPLETE, "pruned": states.PRUNED,
        "failed": states.FAIL, "running": states.RUNNING,
    }[told["state"]]  # fmt: skip
    return optuna.trial.create_trial(
        state=state, params=told["values"], distributions=space, value=told.get("value"),
        intermediate_values={told["at"]: sign * told["loss"]} if "at" in told else None,
    )  # fmt: skip


def ask(study: Any, space: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """The next values, at most as many as are asked for: fewer when no new ones are found."""
    seen = [told["values"] for told in task["told"]]
    asked: list[dict[str, Any]] = []
    for _ in range(task["ask"] * TRIES):
        if len(asked) == task["ask"]:
            break
        values = study.ask(space).params
        if values not in [*seen, *asked]:
            asked.append(values)
    return {"asked": asked}


def drawn(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Values by chance, each new; needs no package."""
    chance, seen = random.Random(task["seed"]), [told["values"] for told in task["told"]]
    asked: list[dict[str, Any]] = []
    for _ in range(task["ask"] * TRIES):
        values = {knob["name"]: _drawn(chance, knob) for knob in task["knobs"]}
        if len(asked) < task["ask"] and values not in [*seen, *asked]:
            asked.append(values)
    return asked


def _drawn(chance: random.Random, knob: dict[str, Any]) -> Any:
    if knob["choices"]:
        return chance.choice(knob["choices"])
    if knob["whole"] and not knob["log"]:
        return chance.randint(math.ceil(knob["low"]), math.floor(knob["high"]))
    value = valued(knob, chance.random())
    return round(value) if knob["whole"] else value


def evolved(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The next values by CMA-ES, told every whole generation anew.

    Optuna's own keeps its state with the trials it asked for; here it is made of the measured points alone.
    """
    knobs, sign = task["knobs"], -1 if task["goal"] == "max" else 1
    cmaes, numpy = (importlib.import_module(name) for name in ("cmaes", "numpy"))
    search = cmaes.CMA(
        mean=numpy.full(len(knobs), 0.5), sigma=0.25, bounds=numpy.array([[0.0, 1.0]] * len(knobs)),
        seed=task["seed"],
    )  # fmt: skip
    done = [told for told in task["told"] if told["state"] == "complete"]
    size = search.population_size
    for first in range(0, len(done) - size + 1, size):
        generation = done[first : first + size]
        points = [[placed(knob, told["values"][knob["name"]]) for knob in knobs] for told in generation]
        search.tell([(numpy.array(p), sign * t["value"]) for p, t in zip(points, generation, strict=True)])
    points = [search.ask() for _ in range(task["ask"])]
    return [
        {knob["name"]: valued(knob, x) for knob, x in zip(knobs, map(float, point), strict=True)}
        for point in points
    ]


def placed(knob: dict[str, Any], value: float) -> float:
    """Where a value lies in its range, from 0 to 1."""
    low, high = knob["low"], knob["high"]
    if knob["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def valued(knob: dict[str, Any], place: float) -> float:
    """The value at a place from 0 to 1."""
    low, high = knob["low"], knob["high"]
    if knob["log"]:
        return float(low * (high / low) ** place)
    return float(low + (high - low) * place)


def importance(optuna: Any, study: Any, space: dict[str, Any]) -> dict[str, Any]:
    """The share of each knob in what makes a trial a good one: PED-ANOVA (Watanabe et al. 2023)."""
    judge = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=judge, params=list(space))
    return {"importance": {name: float(share) for name, share in found.items()}}


if __name__ == "__main__":
    main()
