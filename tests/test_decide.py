"""The verdict: what is kept, what is not, and how often noise is taken for a gain."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab.decide import (
    MODES,
    NAMES,
    RULES,
    Facts,
    as_json,
    character,
    decide,
    from_json,
    new_constants,
    opening,
    pooled_noise,
    settle,
    student_cdf,
    student_quantile,
    surprise,
    weigh,
)
from lab.decide.belief import restarted
from lab.decide.effects import shares
from lab.decide.statistics import normal_cdf, positive_part

SEEDS = (42, 1337, 2024)
SIGMA = 0.0005


def runs(*metrics):
    return tuple(zip((*SEEDS, 7), metrics, strict=False))


def facts(*candidate, **changes):
    """A candidate against three baseline runs around 0.9979, noise well known, +5 lines."""
    plain = Facts(
        goal="min",
        candidate=runs(*candidate),
        incumbent=runs(0.9979, 0.9979, 0.9979),
        sigma=SIGMA,
        sigma_n=31,
        sigma_df=30,
        baseline_metric=0.9979,
        added=8,
        removed=3,
    )
    return replace(plain, **changes)


def action(*candidate, **changes):
    return decide(facts(*candidate, **changes)).action


# --- single verdicts ------------------------------------------------------------------------------


def test_a_clearly_worse_first_run_is_discarded_at_once():
    assert action(0.9990) == "discard"


def test_a_clear_win_is_kept_at_once():
    assert action(0.9979 - 8 * SIGMA) == "keep"


def test_a_close_one_runs_again_until_the_runs_are_spent():
    close = 0.9979 - 2 * SIGMA
    assert action(close) == "repeat"
    assert action(close, max_runs=1) in ("keep", "discard")
    assert action(close, close, close) == "keep"
    assert action(close, 0.9979, 0.9979 + SIGMA) == "discard"


def test_each_mode_asks_for_more_than_the_one_before():
    kept = {
        mode: sum(action(0.9979 - n * SIGMA / 10, mode=mode) == "keep" for n in range(80))
        for mode in ("fast", "balanced", "strict")
    }
    assert kept["fast"] >= kept["balanced"] > kept["strict"] > 0
    assert MODES["fast"].runs < MODES["balanced"].runs < MODES["strict"].runs


def test_an_equal_result_is_kept_only_when_the_code_gets_shorter():
    equal = (0.99791, 0.99789, 0.9979)
    assert action(*equal, added=0, removed=10) == "keep"
    assert action(*equal, added=5, removed=5) == "discard"
    assert action(*equal, added=9, removed=0) == "discard"


def test_shorter_code_does_not_excuse_a_real_loss():
    worse = (0.9979 + 2 * SIGMA,) * 3
    assert action(*worse, added=0, removed=50) == "discard"


def test_a_change_that_does_nothing_is_discarded_however_lucky_the_incumbent_was():
    lucky = runs(0.9979)
    facts_ = facts(0.9979, incumbent=lucky)
    believed = settle(facts(0.9960, incumbent=runs(0.9979, 0.9980, 0.9978)), "keep")
    again = replace(facts_, candidate=runs(0.9960), incumbent=runs(0.9960), belief=believed)
    assert decide(again).action == "discard"
    assert "does nothing" in decide(again).reason


def test_a_metric_without_noise_is_never_repeated():
    still = {"sigma": 0.0, "sigma_df": 2, "sigma_n": 3}
    assert action(0.9900, **still) == "keep"
    assert action(0.9960, added=10, removed=0, **still) == "keep"
    assert action(0.9975, added=40, removed=0, **still) == "discard"
    assert action(0.9978, **still) == "discard"
    assert action(0.9979, added=0, removed=3, **still) == "keep"
    assert action(0.99790001, added=0, removed=3, **still) == "discard"
    assert action(0.9979, added=0, removed=0, **still) == "discard"


def test_one_run_is_no_proof_while_the_noise_is_only_assumed():
    unknown = {"sigma": None, "sigma_df": 0, "sigma_n": 0, "incumbent": runs(0.9979)}
    decision = decide(facts(0.4, **unknown))
    assert decision.action == "repeat"
    assert "assumed" in decision.reason
    assert decide(facts(1.2, **unknown)).action == "discard"
    three = pooled_noise([[0.4, 0.401, 0.399]])
    known = {"sigma": three.sigma, "sigma_df": three.df, "sigma_n": three.n, "incumbent": runs(0.9979)}
    assert decide(facts(0.4, 0.401, 0.399, **known)).action == "keep"


@pytest.mark.parametrize("seeds", [(None, None, None), (1, 2, 3)])
def test_without_shared_seeds_the_means_are_compared(seeds):
    candidate = tuple(zip(seeds, (0.9957, 0.9959, 0.9958), strict=True))
    decision = decide(facts(candidate=candidate, incumbent=((42, 0.9979), (7, 0.9981))))
    assert decision.action == "keep"
    assert decision.difference == pytest.approx(0.9980 - 0.9958)


def test_shared_seeds_take_their_luck_out_of_the_comparison():
    lucky = facts(
        candidate=((42, 0.9950), (7, 0.9990)),
        incumbent=((42, 0.9979), (7, 1.0019), (8, 0.9940)),
    )
    assert decide(lucky).difference == pytest.approx(0.0029)


def test_what_is_to_be_believed_is_less_than_what_was_measured():
    decision = decide(facts(0.9979 - 4 * SIGMA))
    assert 0 < decision.gain < decision.difference
    low, high = decision.interval
    assert low < decision.gain < high
    wide = decide(facts(0.9979 - 4 * SIGMA, confidence=0.99)).interval
    assert wide[1] - wide[0] > high - low


def test_the_reason_is_one_sentence_with_the_numbers():
    reason = decide(facts(0.9979 - 8 * SIGMA)).reason
    for part in ("0.997900 -> 0.993900", "better by 0.004", "8 sigma", "noise 0.0005", "+5 lines", "1 run)"):
        assert part in reason
    assert "to be believed" in reason
    assert reason.endswith(".")
    assert "\n" not in reason


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("goal", ["min", "max"])
def test_what_is_not_a_number_is_never_kept(metric, goal):
    for mode in NAMES:
        for candidate in ((metric,), (0.5, metric), (0.5, 0.5, metric)):
            decision = decide(facts(*candidate, goal=goal, added=0, removed=9, mode=mode))
            assert decision.action == "discard"
            assert decision.p is None


def test_without_a_finished_run_there_is_nothing_to_keep():
    assert action() == "repeat"
    assert action(0.5, incumbent=()) == "discard"
    assert action(0.5, incumbent=runs(math.nan)) == "discard"


# --- prices ---------------------------------------------------------------------------------------


def price(**changes):
    return decide(facts(0.9970, **changes)).price / weigh(facts(0.9970)).unit


def test_twenty_lines_ask_two_sigma_and_no_number_of_lines_more_than_four():
    assert price(added=20, removed=0) == pytest.approx(2)
    assert price(added=9, removed=9) == 0
    assert price(added=900, removed=0) == pytest.approx(4)
    assert price(added=0, removed=5) == pytest.approx(-0.5)
    assert price(added=0, removed=500) == pytest.approx(-1)


def test_a_quarter_more_memory_asks_one_sigma():
    assert price(added=0, removed=0, memory_gb=10.0, incumbent_memory_gb=8.0) == pytest.approx(1)
    assert price(added=0, removed=0, memory_gb=16.0, incumbent_memory_gb=8.0) == pytest.approx(4)
    assert price(added=0, removed=0, memory_gb=0.4, incumbent_memory_gb=0.1) == 0
    assert price(added=0, removed=9, memory_gb=16.0, incumbent_memory_gb=8.0) > 3


def test_a_new_constant_is_one_more_thing_to_know():
    assert price(added=2, removed=1, constants=1) == pytest.approx(0.2)
    assert new_constants("+LR = 0.1\n-LR = 0.2\n+WARM_UP: int = 3\n+if X == 2:\n+lower = 3\n") == 1


def test_the_user_sets_the_price_and_the_smallest_effect():
    def asked(**changes):
        return decide(facts(0.9970, **changes)).price

    assert asked(price=1e-5, added=7, removed=0) == pytest.approx(7e-5)
    assert asked(min_effect=0.01) == 0.01
    assert asked(min_effect=1e-9, added=20, removed=0) == pytest.approx(asked(added=20, removed=0))
    six = (0.9979 - 6 * SIGMA,) * 3
    assert action(*six) == "keep"
    assert action(*six, min_effect=0.01) == "discard"


def test_a_gain_under_its_price_is_discarded_and_the_reason_says_what_it_asks():
    runs = (0.9979 - 2 * SIGMA,) * 3
    assert action(*runs, added=3, removed=0) == "keep"
    decision = decide(facts(*runs, added=60, removed=0))
    assert decision.action == "discard"
    assert "its lines" in decision.reason


# --- the belief -----------------------------------------------------------------------------------


def baseline(*metrics, sigma=SIGMA):
    plain = facts(incumbent=runs(*metrics) if len(metrics) <= 3 else tuple(enumerate(metrics)))
    return opening(replace(plain, sigma=sigma))


def test_the_level_of_a_lucky_keep_is_drawn_back():
    tried = facts(0.9979 - 3.5 * SIGMA, belief=baseline(0.9979, 0.9980, 0.9978))
    after = settle(tried, "keep")
    assert 0.9979 - 3.5 * SIGMA < after.level < 0.9979
    assert after.gained == pytest.approx(decide(tried).gain, abs=SIGMA / 3)
    assert after.seen == 1


def test_a_discard_tells_about_the_incumbent_too():
    before = baseline(0.9979, 0.9979, 0.9979)
    tried = facts(0.9979 + 0.5 * SIGMA, belief=before)
    after = settle(tried, "discard")
    assert after.error < before.error
    assert after.level != before.level
    assert after.seen == before.seen == 3


def test_a_campaign_learns_how_often_changes_gain():
    def gains_expected(every):
        rng, belief = random.Random(3), baseline(0.9979, 0.9980, 0.9978)
        for n in range(30):
            gain = 3 * SIGMA if every and n % every == 0 else 0.0
            tried = facts(rng.gauss(belief.level - gain, SIGMA), belief=belief)
            belief = settle(tried, decide(replace(tried, max_runs=1)).action)
        return sum(shares(belief.regimes)[3:5])  # of 5 sigma and more

    assert gains_expected(0) < 0.7 * gains_expected(2)


def test_pairs_that_agree_make_the_next_pair_count_more():
    rng = random.Random(4)
    luck = {seed: rng.gauss(0, SIGMA) for seed in SEEDS}
    belief = opening(facts(incumbent=tuple((s, 0.9979 + luck[s]) for s in SEEDS)))
    before = belief.pairing
    for _ in range(12):
        candidate = tuple((s, 0.9981 + luck[s] + rng.gauss(0, SIGMA / 5)) for s in SEEDS)
        incumbent = tuple((s, 0.9979 + luck[s]) for s in SEEDS)
        belief = settle(facts(candidate=candidate, incumbent=incumbent, belief=belief), "discard")
    assert belief.pairing > max(before, 0.7)
    apart = opening(facts(incumbent=tuple((s, 0.9979 + luck[s]) for s in SEEDS)))
    for _ in range(12):
        candidate = tuple((s, 0.9981 + rng.gauss(0, SIGMA)) for s in SEEDS)
        incumbent = tuple((s, 0.9979 + luck[s]) for s in SEEDS)
        apart = settle(facts(candidate=candidate, incumbent=incumbent, belief=apart), "discard")
    assert apart.worlds[-1].weight < 0.02 < belief.worlds[-1].weight


def test_a_belief_survives_the_journal_bit_for_bit():
    belief = settle(facts(0.9973, 0.9971, belief=baseline(0.9979, 0.9981, 0.9978)), "keep")
    assert from_json(json.loads(json.dumps(as_json(belief)))) == belief


def test_a_belief_of_a_release_with_other_worlds_is_not_used():
    record = as_json(baseline(0.9979, 0.9981, 0.9978))
    assert from_json({**record, "worlds": record["worlds"][:1]}) is None


def test_the_incumbent_far_off_its_belief_is_noticed_and_the_bar_restarts():
    belief = settle(facts(0.9940, belief=baseline(0.9979, 0.9980, 0.9978)), "keep")
    assert abs(surprise(belief, 42, 0.9941, SIGMA)) < 1.5
    assert surprise(belief, 42, 0.9940 + 8 * SIGMA, SIGMA) > 3
    moved = restarted(belief, [(42, 0.9980), (42, 0.9982)], SIGMA)
    assert moved.level == pytest.approx(0.9981, abs=SIGMA / 2)
    assert moved.gained == pytest.approx(belief.gained, abs=1e-6)
    assert moved.regimes == belief.regimes


def test_the_incumbent_runs_first_on_a_seed_it_lacks_when_luck_belongs_to_the_seed():
    rng = random.Random(4)
    luck = {seed: rng.gauss(0, SIGMA) for seed in SEEDS}
    belief = opening(facts(incumbent=tuple((s, 0.9979 + luck[s]) for s in SEEDS)))
    for _ in range(12):
        candidate = tuple((s, 0.9981 + luck[s] + rng.gauss(0, SIGMA / 9)) for s in SEEDS)
        incumbent = tuple((s, 0.9979 + luck[s]) for s in SEEDS)
        belief = settle(facts(candidate=candidate, incumbent=incumbent, belief=belief), "discard")
    kept = facts(0.9979 - 9 * SIGMA, belief=belief, added=0, removed=0)
    belief = settle(kept, "keep")
    close = replace(
        kept, belief=belief, incumbent=kept.candidate, next_seed=7, incumbent_seed=7, incumbent_may=True
    )
    sides = set()
    for n in range(40):
        decision = decide(replace(close, candidate=((42, kept.candidate[0][1] - n * SIGMA / 20),)))
        if decision.action == "repeat":
            sides.add(decision.side)
    assert sides == {"incumbent"}
    assert decide(replace(close, incumbent_may=False)).side == "candidate"


# --- contract: any facts --------------------------------------------------------------------------

# Quarters are exact in binary, so that shifting and scaling by powers of two rounds nothing.
QUARTERS = st.integers(-80, 80).map(lambda n: n / 4)
SEEDED = st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), QUARTERS), min_size=1, max_size=4).map(tuple)
ANY_FACTS = st.builds(
    Facts,
    goal=st.sampled_from(["min", "max"]),
    candidate=SEEDED,
    incumbent=SEEDED,
    sigma=st.sampled_from([None, 0.0, 0.25, 1.0, 4.0]),
    sigma_n=st.just(9),
    sigma_df=st.sampled_from([0, 1, 2, 5, 20, 400]),
    baseline_metric=st.sampled_from([-64.0, 0.0, 1.0, 512.0]),
    added=st.integers(0, 60),
    removed=st.integers(0, 60),
    memory_gb=st.sampled_from([None, 1.0, 9.0]),
    incumbent_memory_gb=st.sampled_from([None, 1.0, 8.0]),
    max_runs=st.sampled_from([None, 1, 2, 4]),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
    min_effect=st.sampled_from([None, 0.5]),
    mode=st.sampled_from(NAMES),
    incumbent_may=st.booleans(),
    next_seed=st.sampled_from([None, 1, 5]),
    incumbent_seed=st.sampled_from([None, 5]),
)


def moved(given, change):
    return replace(
        given,
        candidate=tuple((seed, change(x)) for seed, x in given.candidate),
        incumbent=tuple((seed, change(x)) for seed, x in given.incumbent),
    )


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_a_metric_to_maximise_is_the_mirror_image(given):
    mirror = moved(replace(given, goal="max" if given.goal == "min" else "min"), lambda x: -x)
    one, other = decide(given), decide(mirror)
    assert (one.action, one.side) == (other.action, other.side)
    assert (one.gain, one.p, one.interval) == (other.gain, other.p, other.interval)


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS, st.integers(-50, 50))
def test_a_shift_of_the_metric_changes_nothing(given, shift):
    one, other = decide(given), decide(moved(given, lambda x: x + shift))
    assert one.action == other.action
    assert one.gain == pytest.approx(other.gain, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS, st.sampled_from([2.0**-20, 0.5, 2.0, 2.0**20]))
def test_the_unit_of_the_metric_changes_nothing(given, unit):
    scaled = replace(
        moved(given, lambda x: x * unit),
        sigma=None if given.sigma is None else given.sigma * unit,
        baseline_metric=given.baseline_metric * unit,
        min_effect=None if given.min_effect is None else given.min_effect * unit,
    )
    one, other = decide(given), decide(scaled)
    assert one.action == other.action
    assert one.p == pytest.approx(other.p, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_an_equal_candidate_is_never_kept_for_nothing(given):
    assume(given.added >= given.removed)
    equal = replace(given, candidate=given.incumbent)
    assert decide(equal).action != "keep"


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_a_keep_that_does_not_shorten_is_believed_to_gain(given):
    assume(given.added >= given.removed)
    decision = decide(given)
    assert not (decision.action == "keep" and decision.gain <= 0)


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_no_more_runs_are_asked_for_than_allowed(given):
    assume(len(given.candidate) >= (given.max_runs or 4))
    assert decide(given).action != "repeat"


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_every_verdict_is_explained_and_its_gain_lies_in_its_interval(given):
    decision = decide(given)
    assert decision.action in ("keep", "discard", "repeat")
    assert 0 <= decision.p <= 1
    low, high = decision.interval
    assert low <= decision.gain <= high
    assert decision.reason.count("\n") == 0


@settings(max_examples=40, deadline=None)
@given(ANY_FACTS)
def test_every_verdict_leaves_a_belief_that_the_journal_can_hold(given):
    for verdict in ("keep", "discard"):
        belief = settle(given, verdict)
        assert from_json(json.loads(json.dumps(as_json(belief)))) == belief
        assert math.isfinite(belief.level) and math.isfinite(belief.error)
        assert sum(world.weight for world in belief.worlds) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_the_one_that_decides(name):
    cases = {
        "same": facts(0.9979),
        "noise first": facts(0.9, sigma=None, sigma_df=0, sigma_n=0),
        "clear": facts(0.9),
        "hopeless": facts(1.1),
        "close": facts(0.9979 - 2 * SIGMA),
        "shown": facts(*_between("last", "keep")),
        "not shown": facts(*_between("drop", "last")),
    }
    evidence = weigh(cases[name])
    assert next(rule for rule in RULES if RULES[rule](evidence)) == name


def _between(low, high):
    """Three equal runs whose P lies between two thresholds of the default mode."""
    mode = MODES["balanced"]
    for n in range(400):
        three = (0.9979 - n * SIGMA / 100,) * 3
        if getattr(mode, low) < decide(facts(*three)).p < getattr(mode, high):
            return three
    raise AssertionError("no such gain")


# --- noise and statistics -------------------------------------------------------------------------


def test_noise_is_pooled_within_commits_not_between_them():
    noise = pooled_noise([[1.0, 1.2], [5.0, 5.2, 5.1], [9.0], []])
    assert (noise.df, noise.n) == (3, 5)
    assert noise.sigma == pytest.approx(math.sqrt((0.02 + 0.02) / 3))


def test_equal_runs_give_exactly_no_noise_and_single_runs_none():
    assert pooled_noise([[0.1 + 0.2] * 3, [0.7]]).sigma == 0
    assert pooled_noise([[1.0], []]) == pooled_noise([])
    assert pooled_noise([[1.0]]).sigma is None


def test_one_run_on_a_busy_machine_does_not_blind_the_campaign():
    rng = random.Random(5)
    quiet = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(20)]
    hit = [*quiet, [0.0, 60.0]]
    assert pooled_noise(hit).sigma < 1.6 * pooled_noise(quiet).sigma
    assert pooled_noise([[0.0, 1.0, math.nan]]).df == 1


def test_noise_is_taken_from_commits_at_the_level_that_is_asked_about():
    loud, quiet = [0.60, 0.62, 0.58], [0.030, 0.031, 0.029]
    assert pooled_noise([loud, quiet]).sigma == pytest.approx(0.0142, abs=1e-4)
    near = pooled_noise([loud, quiet], near=0.03)
    assert near.sigma == pytest.approx(0.001, rel=0.2)
    assert near.df == 2
    # A level a few percent away counts almost fully, so that usual campaigns pool as before.
    same = pooled_noise([[1.00, 1.01], [0.97, 0.98]], near=0.97)
    assert same.df == 2
    assert same.sigma == pytest.approx(0.01 / 2**0.5, rel=0.02)
    # Signs differ: a ratio means nothing, all count alike.
    assert pooled_noise([loud, [-1.0, -1.1]], near=-1.05) == pooled_noise([loud, [-1.0, -1.1]])


def test_noise_that_follows_the_level_is_brought_to_it_and_noise_that_does_not_is_left():
    in_proportion = [[x * level for x in (0.99, 1.0, 1.01, 1.0)] for level in (1.0, 4.0, 16.0)]
    constant = [[x + level for x in (-0.01, 0.0, 0.01, 0.0)] for level in (1.0, 4.0, 16.0)]
    assert pooled_noise(in_proportion, near=2.0).sigma == pytest.approx(0.0163, rel=0.1)
    assert pooled_noise(constant, near=2.0).sigma == pytest.approx(0.00816, rel=0.1)


def test_a_loss_that_halved_is_judged_with_the_noise_of_its_own_level():
    # Eight fresh seeds gave 0.0271 before and 0.0118 after; one noise for both called it 1.9 sigma.
    base, tried = (0.0271, 0.0345, 0.0197), (0.0118, 0.0125, 0.0112)
    one = pooled_noise([base, tried], near=0.0271)
    own = pooled_noise([base, tried], near=0.0118)
    assert own.sigma < one.sigma / 1.8
    decision = decide(
        facts(
            *tried,
            incumbent=runs(*base),
            sigma=one.sigma,
            sigma_n=one.n,
            sigma_df=one.df,
            candidate_sigma=own.sigma,
            baseline_metric=0.0271,
        )
    )
    assert decision.action == "keep"


def test_the_character_of_the_noise_is_named():
    assert character(pooled_noise([[1.0] * 3]), 1.0) == "none"
    assert character(pooled_noise([[1.0] * 2]), 1.0) == "not measured"
    assert character(pooled_noise([[1.0, 1.5, 0.6]]), 1.0) == "mostly noise"
    assert character(pooled_noise([[1.0, 1.001, 0.999]]), 1.0) == "usual"
    assert character(pooled_noise([]), 1.0) == "not measured"


@pytest.mark.parametrize(
    ("p", "df", "t"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.99, 4, 3.7469), (0.95, 7, 1.8946), (0.995, 30, 2.7500)],
)
def test_student_quantiles_are_those_of_the_tables(p, df, t):
    assert student_quantile(p, df) == pytest.approx(t, abs=1e-4)
    assert student_cdf(-t, df) == pytest.approx(1 - p, abs=1e-5)


@pytest.mark.parametrize(("mean", "sd"), [(1.0, 2.0), (-1.5, 1.0), (0.0, 0.3), (-40.0, 1.0)])
def test_a_truncated_normal_has_the_moments_of_its_integral(mean, sd):
    share, centre, variance = positive_part(mean, sd)
    step = sd / 2000
    if mean < -30:
        step = sd * sd / -mean / 400
    grid = [step * (i + 0.5) for i in range(20000)]
    weights = [math.exp(-0.5 * ((x - mean) / sd) ** 2 + 0.5 * (min(mean, 0) / sd) ** 2) for x in grid]
    total = sum(weights)
    expected = sum(w * x for w, x in zip(weights, grid, strict=True)) / total
    assert centre == pytest.approx(expected, rel=2e-3)
    spread = sum(w * (x - expected) ** 2 for w, x in zip(weights, grid, strict=True)) / total
    assert variance == pytest.approx(spread, rel=5e-3)
    assert share == pytest.approx(normal_cdf(mean / sd), abs=1e-12)


# --- how often it is wrong ------------------------------------------------------------------------


def share_kept(gain, tries, seed, spread=1.0, level=2000.0, mode="balanced"):
    """Keeps among `tries`, sigma from three fresh baseline runs each time, every look included."""
    rng = random.Random(seed)
    kept = 0
    for _ in range(tries):
        base = [level + rng.gauss(0, spread) for _ in SEEDS]
        runs_so_far = []
        verdict = "repeat"
        while verdict == "repeat":
            runs_so_far.append(level - gain * spread + rng.gauss(0, spread))
            noise = pooled_noise([base, runs_so_far])
            given = Facts(
                "min", runs(*runs_so_far), runs(*base), noise.sigma, noise.n, noise.df, base[0], 3, 3
            )
            verdict = decide(replace(given, mode=mode)).action
        kept += verdict == "keep"
    return kept / tries


@pytest.mark.slow
def test_the_first_try_keeps_noise_in_few_of_a_hundred():
    assert share_kept(0.0, 1500, seed=20) <= 0.04
    assert share_kept(0.0, 1500, seed=20, mode="strict") <= 0.03
    assert share_kept(0.0, 1500, seed=20, mode="seed-table") <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.01, 200.0])
def test_the_error_rate_does_not_depend_on_what_was_assumed_of_the_noise(spread):
    assert share_kept(0.0, 1000, seed=21, spread=spread) <= 0.05


def test_a_gain_of_six_sigma_is_found_with_three_baseline_runs():
    assert share_kept(6.0, 100, seed=22) >= 0.9
