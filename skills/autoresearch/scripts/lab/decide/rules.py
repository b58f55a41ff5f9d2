"""Keep, discard or repeat: the first rule of `RULES` that has an opinion gives the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lab.decide import sentences, table
from lab.decide.belief import Belief, ran, rounded, with_seed
from lab.decide.facts import Decision, Facts, unusable
from lab.decide.modes import SEED_TABLE
from lab.decide.noise import trusted
from lab.decide.posterior import read
from lab.decide.statistics import normal_quantile
from lab.decide.weighing import Evidence, current, losses, settled, weigh

NOISE_DF = 4  # degrees of freedom, the prior's among them, up to which a keep needs two runs
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
    """While few runs tell the noise, one run is no proof of anything good, and another tells both."""
    if e.noise.df > NOISE_DF or e.last or e.p <= e.mode.drop or len(e.facts.candidate) > 1:
        return None
    known = "known from few runs" if e.noise.measured else "only assumed"
    return "repeat", f"the noise is {known}, so it runs again before it can be kept"


def clear(e: Evidence) -> Verdict | None:
    """Beyond the doubt that the mode allows."""
    return ("keep", sentences.paid(e)) if e.p >= e.mode.keep and pays(e) else None


def hopeless(e: Evidence) -> Verdict | None:
    """Another run would most likely change nothing."""
    return ("discard", sentences.shortfall(e)) if e.p <= e.mode.drop else None


def close(e: Evidence) -> Verdict | None:
    """In doubt, and a further run is allowed."""
    return None if e.last else ("repeat", "too close to call, so it runs again")


def shown(e: Evidence) -> Verdict | None:
    """At the last look less is asked than before: nobody can ask again."""
    return ("keep", sentences.paid(e)) if e.p >= e.mode.last and pays(e) else None


def not_shown(e: Evidence) -> Verdict | None:
    """Whatever is left at the last look."""
    return "discard", sentences.shortfall(e)


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
