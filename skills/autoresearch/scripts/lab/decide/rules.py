"""Keep, discard or repeat: the first rule of `RULES` that has an opinion gives the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from lab.decide import effects, sentences, table
from lab.decide.belief import Belief, ran, rounded, with_seed
from lab.decide.facts import Decision, Facts, unusable
from lab.decide.modes import SEED_TABLE
from lab.decide.noise import trusted
from lab.decide.posterior import read
from lab.decide.statistics import normal_cdf, normal_density, normal_quantile
from lab.decide.weighing import Evidence, current, losses, settled, weigh

NOISE_RUNS = 3  # of one candidate are enough while the noise is known from few runs ...
LEAST_HOPE = 0.05  # ... and one is, where P is below this
PACE = 0.5  # a repeat has to be worth this part of what a run on a new idea brings
FALSE_KEEP = 1.0  # what a false keep costs, in units of the noise
SIDE_RUNS = 2  # of the incumbent for one candidate, beside what `max_runs` says
SIDE_MOST = 12  # runs of one incumbent, after which its level is known well enough

Verdict = tuple[str, str]
Rule = Callable[[Evidence], "Verdict | None"]


def same(e: Evidence) -> Verdict | None:
    """A change that gives exactly the incumbent's numbers does nothing, however lucky these were."""
    if not e.same or e.shortens or e.noise.none:
        return None
    return "discard", "exactly the incumbent's numbers, so the change does nothing"


def noise_first(e: Evidence) -> Verdict | None:
    """While few runs tell the noise, no single run is proof; each repeat tells what a pair is worth, too."""
    if not e.early or e.last or e.p <= LEAST_HOPE or len(e.facts.candidate) >= NOISE_RUNS:
        return None
    known = "known from few runs" if e.noise.measured else "only assumed"
    return "repeat", f"the noise is {known}, so it runs again before it is judged"


def clear(e: Evidence) -> Verdict | None:
    """Beyond the doubt that the mode allows."""
    return ("keep", sentences.paid(e)) if e.p >= e.bar(e.mode.keep) and pays(e) else None


def hopeless(e: Evidence) -> Verdict | None:
    """Another run would most likely change nothing."""
    return ("discard", sentences.shortfall(e)) if e.p <= e.mode.drop else None


def close(e: Evidence) -> Verdict | None:
    """In doubt, a further run is allowed, and it is worth more than a run on a new idea."""
    return None if e.last or worth(e) <= PACE * pace(e) else ("repeat", "too close to call, so it runs again")


def shown(e: Evidence) -> Verdict | None:
    """Where no run is left that would be worth it, less is asked than before."""
    return ("keep", sentences.paid(e)) if e.p >= e.bar(e.mode.last) and pays(e) else None


def not_shown(e: Evidence) -> Verdict | None:
    """Whatever is left."""
    return "discard", sentences.shortfall(e)


def worth(e: Evidence) -> float:
    """What another run is expected to bring: the knowledge gradient of a normal belief.

    The verdict earns the gain, less `FALSE_KEEP` where it is none. Source: Frazier, Powell and Dayanik 2008,
    section 3; the run's own noise counts as that of a pair.
    """
    change = e.sd**2 / math.sqrt(e.sd**2 + e.unit**2)  # sd of the gain's mean after one more run
    z = abs(e.gain - max(e.price, 0.0) - FALSE_KEEP * e.unit * (1 - e.p)) / change
    return change * (normal_density(z) - z * normal_cdf(-z))


def pace(e: Evidence) -> float:
    """What a run on a new idea is expected to bring: gains of middle and large size, as learned so far."""
    share = effects.shares(e.belief.regimes)
    mean_of_half_normal = math.sqrt(2 / math.pi)
    return mean_of_half_normal * e.unit * (share[2] * effects.SIZES[1] + share[3] * effects.SIZES[2])


def pays(e: Evidence) -> bool:
    """Whether what is to be believed of the gain is one, or for a shorter code within the slack."""
    return e.gain > min(0.0, e.price) or (e.noise.none and e.p == 1.0)


RULES: dict[str, Rule] = {
    "same": same,
    "noise first": noise_first,
    "clear": clear,
    "hopeless": hopeless,
    "close": close,
    "shown": shown,
    "not shown": not_shown,
}


def decide(facts: Facts) -> Decision:
    """Judge a candidate: by the posterior of its gain, or by the seed protocol's table."""
    bad = unusable(facts)
    if bad:
        return bad
    if facts.mode == SEED_TABLE:
        return table.judge(facts)
    e = weigh(facts)
    action, why = next(verdict for rule in RULES.values() if (verdict := rule(e)))
    half = normal_quantile((1 + facts.confidence) / 2) * e.sd
    return Decision(
        action=action,
        reason=f"{sentences.numbers(e)}; {why}.",
        p=e.p,
        gain=e.gain,
        interval=(e.gain - half, e.gain + half),
        sigma=e.noise.sigma,
        difference=e.difference,
        price=e.price,
        side=next_side(e) if action == "repeat" else "candidate",
    )


def next_side(e: Evidence) -> str:
    """Whose next run leaves the least doubt about the gain: the candidate's, or the incumbent's.

    The filter's variances do not depend on what the runs will show, so they can be worked out beforehand. A
    candidate's run on a seed that the incumbent lacks is worth little where the luck belongs to the seed, so
    there the question is what a pair would tell, against two runs of the candidate.
    """
    facts, known, seed = e.facts, e.belief, e.facts.next_seed
    asked = len(facts.incumbent) - (facts.belief.seen if facts.belief else len(facts.incumbent))
    if not facts.incumbent_may or asked >= SIDE_RUNS or len(facts.incumbent) >= SIDE_MOST:
        return "candidate"
    runs, loss = losses(facts, facts.candidate), known.level
    once, twice = [*runs, (seed, loss)], [*runs, (seed, loss), (None if seed is None else seed + 1, loss)]
    measured = ran(known, facts.incumbent_seed, loss, e.noise.sigma)
    if _doubt(e, measured, runs) < _doubt(e, known, once):
        return "incumbent"
    lacks = seed is not None and seed == facts.incumbent_seed
    return "incumbent" if lacks and _doubt(e, measured, once) < _doubt(e, known, twice) else "candidate"


def _doubt(e: Evidence, known: Belief, runs: list[tuple[int | None, float]]) -> float:
    """Expected variance of the gain's estimate, over the worlds."""
    for seed, _ in runs:
        known = with_seed(known, seed, e.noise.sigma)
    weighed = zip(e.belief.worlds, read(known, runs, e.noise), strict=True)
    return sum(world.weight * r.variance for world, r in weighed)


def settle(facts: Facts, verdict: str) -> Belief | None:
    """What is believed of the incumbent after a verdict; None where there was nothing to learn from."""
    if unusable(facts) or not facts.candidate:
        return facts.belief
    return settled(weigh(facts), verdict == "keep")


def opening(facts: Facts) -> Belief:
    """What the baseline's runs, given as `facts.incumbent`, let one believe."""
    return rounded(current(replace(facts, belief=None), trusted(facts)))
