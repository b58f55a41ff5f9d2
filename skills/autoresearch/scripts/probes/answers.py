"""Checks of a metric through answers alone, for projects of any kind: no torch, no model, plain Python.

The project's function gives a dict with

    predict     predict(x) -> an answer                                         (needed)
    val         a list of (x, y), every row that the evaluation reads           (needed)
    score       score(predict, val) -> the metric as it is printed              (needed)
    train       a list of (x, y), to look for validation rows among them
    right       right(y) -> the answer that is right for y, where y itself is none
    goal        "min" or "max"                                                  the setting's
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from statistics import fmean
from typing import Any

from probe_checked import Checked, NotChecked, done, worse

CLOSE = 1e-9  # between two evaluations, as a share of the metric
CONSTANTS = 8  # of the commonest labels
Rows = list[tuple[Any, Any]]


class Scored:
    """The project's score of its own answers, and of others."""

    def __init__(self, found: dict[str, Any]) -> None:
        lacking = [name for name in ("predict", "val", "score") if not found.get(name)]
        if lacking:
            raise LookupError(f"the function gives no `{'`, `'.join(lacking)}`")
        self.found, self.goal = found, str(found["goal"])
        self.val: Rows = [(x, y) for x, y in found["val"]]
        self.right: Callable[[Any], Any] = found.get("right") or (lambda y: y)
        shuffled = [y for _, y in self.val]
        random.Random(0).shuffle(shuffled)
        self.shuffled: Rows = [(x, y) for (x, _), y in zip(self.val, shuffled, strict=True)]
        self.plain = self.score()

    def score(self, predict: Callable[[Any], Any] | None = None, val: Rows | None = None) -> float:
        """The metric of some answers on some rows."""
        return float(self.found["score"](predict or self.found["predict"], list(val or self.val)))

    @cached_property
    def best_constant(self) -> tuple[str, float]:
        """The one answer for everything that scores best, with its score."""
        scores = {str(one)[:40]: self.score(partial(_same, one)) for one in _constants(self)}
        best = (min if self.goal == "min" else max)(scores, key=lambda name: scores[name])
        return best, scores[best]

    def knowing(self) -> Callable[[Any], Any]:
        """Answers that are right for every row, wherever the score calls for them."""
        by_object = {id(x): y for x, y in self.val}
        by_text = {repr(x): y for x, y in self.val}

        def answer(x: Any) -> Any:
            if id(x) in by_object:
                return self.right(by_object[id(x)])
            if repr(x) in by_text:
                return self.right(by_text[repr(x)])
            raise NotChecked("`score` changes the inputs before it predicts: the right answer is not known")

        return answer


def repeats(s: Scored) -> Checked:
    """Two evaluations of the same answers give the same number."""
    again = s.score()
    return Checked("repeats", math.isclose(s.plain, again, rel_tol=CLOSE), f"{s.plain:.8g} and {again:.8g}")


def right_answers(s: Scored) -> Checked:
    """Right answers must score better than with shuffled labels, than a constant, and than the model."""
    knowing, (constant, same) = s.knowing(), s.best_constant
    right, spoiled = s.score(knowing), s.score(knowing, s.shuffled)
    shows = f"{right:.5g} for right answers, {spoiled:.5g} with shuffled labels, {s.plain:.5g} for the model"
    if not worse(s.goal, spoiled, right):
        why = "the score does not see which label belongs to which input"
        if worse(s.goal, right, spoiled):
            why = "the direction is inverted"
        return Checked("right answers", False, f"{shows}: {why}")
    if worse(s.goal, right, same):
        return Checked("right answers", False, f"{shows}: always {constant} gets {same:.5g}")
    if worse(s.goal, right, s.plain):
        return Checked("right answers", False, f"{shows}: the model beats the truth")
    return Checked("right answers", True, shows)


def shuffled_labels(s: Scored) -> Checked:
    """With labels that do not belong to the inputs the model's own score must get worse."""
    spoiled = s.score(val=s.shuffled)
    shows = f"{s.plain:.5g} with the labels, {spoiled:.5g} with shuffled ones"
    ok = worse(s.goal, spoiled, s.plain)
    return Checked(
        "shuffled labels", ok, shows if ok else f"{shows}: no label is seen, or nothing was learned"
    )


def constant_answer(s: Scored) -> Checked:
    """No single answer for everything may beat the model."""
    name, same = s.best_constant
    shows = f"{same:.5g} for always {name}, {s.plain:.5g} for the model"
    ok = not worse(s.goal, s.plain, same)
    return Checked(
        "constant answer", ok, shows if ok else f"{shows}: the score is wrong, or nothing was learned"
    )


def _same(answer: Any, x: Any) -> Any:
    return answer


def _constants(s: Scored) -> list[Any]:
    labels = [s.right(y) for _, y in s.val]
    if all(isinstance(label, float) for label in labels):
        return [fmean(labels), sorted(labels)[len(labels) // 2]]
    common = Counter(map(repr, labels)).most_common(CONSTANTS)
    first = {repr(label): label for label in labels}
    return [first[text] for text, _ in common]


def any_order(s: Scored) -> Checked:
    """The order of the rows is no business of the score."""
    other = list(s.val)
    random.Random(1).shuffle(other)
    moved = s.score(val=other)
    ok = math.isclose(s.plain, moved, rel_tol=1e-6, abs_tol=1e-9)
    shows = f"{s.plain:.6g}, and {moved:.6g} with the rows in another order"
    return Checked("same for every order", ok, shows if ok else f"{shows}: rows and labels slip apart")


def leaves_the_model(s: Scored) -> Checked:
    """Scoring changes no answer."""
    before = [(x, answer) for x, _ in s.val[:50] for answer in [_answer(s, x)] if answer]
    s.score()
    if not before:
        raise NotChecked("predict takes none of the rows as it is")
    changed = sum(answer != _answer(s, x) for x, answer in before)
    shows = f"{changed} of {len(before)} answers changed"
    return Checked("leaves the model as it is", not changed, shows)


def _answer(s: Scored, x: Any) -> str:
    """The answer as text; "" for a row that only the score knows how to clean."""
    try:
        return repr(s.found["predict"](x))
    except Exception:
        return ""


def splits_apart(s: Scored) -> Checked:
    """No validation row is in the training split."""
    if not s.found.get("train"):
        raise NotChecked("needs `train`")
    train, val = ({repr(x) for x, _ in rows} for rows in (s.found["train"], s.val))
    common = len(train & val)
    shows = f"{common} of {len(val)} validation rows are among {len(train)} training rows"
    return Checked("splits are apart", common == 0, shows)


CHECKS: dict[str, Callable[[Scored], Checked]] = {
    "repeats": repeats,
    "leaves the model as it is": leaves_the_model,
    "right answers": right_answers,
    "shuffled labels": shuffled_labels,
    "constant answer": constant_answer,
    "same for every order": any_order,
    "splits are apart": splits_apart,
}


def verify(found: dict[str, Any]) -> list[Checked]:
    """Every check."""
    scored = Scored(found)
    return done(CHECKS, scored)
