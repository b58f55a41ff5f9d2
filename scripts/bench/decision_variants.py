"""Variants of the engine that were tried: each changes one thing of the default, for `--only tried`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from decision_nights import Night, Result
from decision_rules import Rule, engine

from lab.decide import belief, effects, posterior, rules
from lab.decide.weighing import Evidence

Change = tuple[object, str, object]


def worlds(*rows: tuple[float, float, float]) -> list[Change]:
    """Other guesses about inherited luck."""
    return [(module, "WORLDS", rows) for module in (belief, posterior)]


def priors(**names: object) -> list[Change]:
    """Another prior of effects, its regimes made anew."""
    with changed([(effects, name, value) for name, value in names.items()]):
        weights, rows = effects._regimes()
    columns = tuple(zip(*rows, strict=True))
    made = {"PRIOR": weights, "REGIMES": rows, "COLUMNS": columns}
    return [(effects, name, value) for name, value in {**names, **made}.items()]


@contextmanager
def changed(changes: list[Change]) -> Iterator[None]:
    """Set names of modules for a while."""
    old = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


def variant(changes: list[Change], mode: str = "balanced") -> Rule:
    """The engine with something changed."""

    def rule(night: Night) -> Result:
        with changed(changes):
            return engine(mode)(night)

    return rule


def better_number(e: Evidence) -> bool:
    """A keep has to beat the incumbent's own number too, lucky as it may be."""
    return e.difference > 0 and e.gain > 0


def without(name: str) -> dict[str, Callable[[Evidence], tuple[str, str] | None]]:
    return {key: rule for key, rule in rules.RULES.items() if key != name}


VARIANTS: dict[str, Rule] = {
    "as it is": variant([]),
    "luck is never inherited": variant(worlds((0.0, 0.0, 1.0))),
    "luck is inherited as in the second table": variant(worlds((0.7, 0.85, 1.0))),
    "without the sharp guess": variant(worlds((0.0, 0.0, 0.35), (0.6, 0.6, 0.4), (0.8, 0.8, 0.25))),
    "regimes never forget": variant([(effects, "FORGET", 1.0)]),
    "regimes forget slower": variant([(effects, "FORGET", 0.98)]),
    "no regime where nothing works": variant(priors(INERT=1e-9)),
    "far discards tell of the incumbent": variant(priors(LOCAL=effects.COUNT)),
    "fewer gains expected": variant(
        priors(GAIN_SHARES=((0.003, 0.25), (0.03, 0.25), (0.10, 0.25), (0.25, 0.15), (0.50, 0.10)))
    ),
    "one run may decide at unknown noise": variant([(rules, "RULES", without("noise first"))]),
    "noise taken as it is": variant([(posterior, "CAUTION", 0.0)]),
    "the incumbent never runs again": variant([(rules, "SIDE_RUNS", 0)]),
    "a keep must beat the lucky number too": variant([(rules, "pays", better_number)]),
    "every doubt is worth a repeat": variant([(rules, "PACE", 0.0)]),
    "a repeat is worth twice as little": variant([(rules, "PACE", 1.0)]),
}
