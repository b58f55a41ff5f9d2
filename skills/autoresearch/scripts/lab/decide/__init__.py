"""Keep, discard or repeat: measurements in, a verdict with its reason out, and no side effect.

`decide(Facts) -> Decision` judges a candidate; `settle(Facts, verdict) -> Belief` says what is believed of
the incumbent afterwards. docs/decision.md tells the rule in plain words, with what it was measured to do.
"""

from __future__ import annotations

from lab.decide.belief import Belief, as_json, from_json, restarted, surprise
from lab.decide.facts import Decision, Facts
from lab.decide.modes import MODES, NAMES, Mode
from lab.decide.noise import Noise, Trusted, character, pooled_noise, trusted
from lab.decide.price import new_constants
from lab.decide.rules import RULES, decide, opening, settle
from lab.decide.statistics import student_cdf, student_quantile
from lab.decide.weighing import weigh

__all__ = [
    "MODES",
    "NAMES",
    "RULES",
    "Belief",
    "Decision",
    "Facts",
    "Mode",
    "Noise",
    "Trusted",
    "as_json",
    "character",
    "decide",
    "from_json",
    "new_constants",
    "opening",
    "pooled_noise",
    "restarted",
    "settle",
    "student_cdf",
    "student_quantile",
    "surprise",
    "trusted",
    "weigh",
]
