"""Signs in the course of the loss: not finite, diverging, spiking, flat, slow, at chance, overfitting."""

from __future__ import annotations

import math
from statistics import median

from lab.diagnose.seen import FEW, Ran, Seen, Sign
from lab.diagnose.shapes import finite, head, noise, smooth, spearman, tail

FLAT = 0.025  # of the first loss: a smaller fall is none
LEAP = 1.6  # times the first loss
LESS = 0.25  # of what the compared run learned: less than the rest is a symptom
FACTOR = 8.0  # between two learning rates, to speak of too high or too low
CHANCE = 0.98  # of the loss of a guess: less than that was learned
PASSES = 10.0  # times the epochs of the compared run


def figure(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def not_finite(seen: Seen) -> Sign | None:
    """nan or inf: out of a calm run it is a bad number, out of a growing one the step was too large."""
    loss = seen.run.loss
    good = finite(loss)
    if len(good) == len(loss):
        return None
    where = f"the loss is {loss.y[len(good)]} from step {loss.x[len(good)]:g} on"
    y = good.y[-12:]
    norms = finite(seen.run.norm).y
    leapt = len(norms) > 6 and max(norms[-3:]) > 20 * median(norms)
    low = max(min(smooth(y, 3)), 1e-9) if y else 0.0
    grew = len(good) > 1 and (max(y[-3:]) > 2 * low + 4 * min(noise(good.y), low) or leapt)
    if len(good) < 3 or grew:
        said = f"{where}; before it {', '.join(map(figure, y[-4:])) or 'nothing'}: it had grown"
        return Sign("not finite", said, (("rate_high", 0.9), ("bad_number", 0.4), ("init_scale", 0.2)))
    said = f"{where}, out of a calm run: {', '.join(map(figure, y[-4:]))} before it"
    return Sign("not finite", said, (("bad_number", 0.9), ("bad_batch", 0.4), ("rate_high", 0.3)))


def diverged(seen: Seen) -> Sign | None:
    """The end above the start, or a leap in the first part far above the start."""
    y = finite(seen.run.loss).y
    if len(y) < FEW:
        return None
    start, end, top = y[0], tail(y), max(y[: max(3, len(y) // 3)])
    if end > 1.05 * abs(start) + 4 * noise(y):
        said = f"the loss ends at {figure(end)}, above its start of {figure(start)}"
        return Sign("diverged", said, (("rate_high", 0.85), ("bad_batch", 0.2), ("labels_wrong", 0.1)))
    if top > LEAP * abs(start) + 6 * noise(y):
        step = seen.run.loss.x[y.index(top)]
        said = f"the loss leapt from {figure(start)} to {figure(top)} by step {step:g}"
        return Sign("leap", said, (("rate_high", 0.85), ("init_scale", 0.2)))
    return None


def spikes(seen: Seen) -> Sign | None:
    """Single values far above their neighbours."""
    series = finite(seen.run.loss)
    y = series.y
    if len(y) < 16:
        return None
    calm, sigma = smooth(y, 7), noise(y)
    skip, least = max(3, len(y) // 8), 0.04 * (max(y[:3]) - min(calm))
    above = [
        i
        for i in range(skip, len(y))
        if y[i] - calm[i] > 9 * sigma and y[i] - calm[i] > max(0.15 * abs(calm[i]), least)
    ]
    if not above or len(above) > len(y) // 4:
        return None
    alone = [i for i in above if i + 1 not in above and i - 1 not in above]
    steps = ", ".join(f"{series.x[i]:g}" for i in above[:5])
    said = f"{len(above)} spikes (steps {steps}), the highest {figure(max(y[i] for i in above))}"
    said += f" over {figure(median(calm))}"
    if 2 * len(alone) > len(above):
        causes = (("bad_batch", 0.8), ("rate_high", 0.35), ("bad_number", 0.15))
        return Sign("spikes", f"{said}; gone after one line of the log", causes)
    return Sign("spikes", said, (("rate_high", 0.7), ("bad_batch", 0.4)))


def flat(seen: Seen) -> Sign | None:
    """A loss that does not fall from the start."""
    y = finite(seen.run.loss).y
    if len(y) < FEW or seen.run.outcome != "ok":
        return None
    start, end = head(y, 0.06), tail(y)
    fall = start - end
    if fall > FLAT * abs(start) or fall < -0.05 * abs(start) or max(y) > LEAP * abs(start) + 6 * noise(y):
        return None
    said = f"the loss stands at {figure(start)} from the first line to the last ({figure(end)})"
    if unmoved(seen.run):
        causes = (("frozen", 0.95), ("stale_metric", 0.2), ("rate_low", 0.2))
        return Sign("flat", f"{said}; the validation loss has the same digits at each evaluation", causes)
    if lower_rate(seen) or (falls(seen.run) and not usual_rate(seen)):
        return Sign("flat", said, (("rate_low", 0.8), ("labels_wrong", 0.3), ("frozen", 0.2)))
    return Sign(
        "flat", said, (("labels_wrong", 0.5), ("rate_low", 0.4), ("frozen", 0.35), ("rate_high", 0.1))
    )


def unmoved(run: Ran) -> bool:
    """Whether the validation loss never changed."""
    return len(run.val) >= 3 and len({f"{y:.4g}" for y in run.val.y}) == 1


def falls(run: Ran) -> bool:
    """Whether the validation loss falls at every evaluation, if only a little."""
    y = run.val.y
    return len(y) >= 4 and all(math.isfinite(v) for v in y) and spearman(range(len(y)), y) < -0.9


def ratio_of_rates(seen: Seen) -> float | None:
    """The highest learning rate over that of the compared run, where both logs say it."""
    if seen.best is None or not len(seen.run.rate) or not len(seen.best.rate):
        return None
    mine, theirs = max(seen.run.rate.y), max(seen.best.rate.y)
    return mine / theirs if mine > 0 and theirs > 0 else None


def lower_rate(seen: Seen) -> bool:
    ratio = ratio_of_rates(seen)
    return ratio is not None and ratio < 1 / FACTOR


def usual_rate(seen: Seen) -> bool:
    """Whether the learning rate is known to be near that of the compared run, so that it explains nothing."""
    ratio = ratio_of_rates(seen)
    return ratio is not None and 1 / FACTOR < ratio < FACTOR


def learned_less(seen: Seen) -> Sign | None:
    """A finished run that learned clearly less than the compared one, by the shape of how it did."""
    y, best = finite(seen.run.loss).y, finite(seen.best.loss).y if seen.best else ()
    if len(y) < FEW or len(best) < FEW or seen.run.outcome != "ok" or unmoved(seen.run):
        return None
    reached, theirs = tail(y, 0.15), tail(best, 0.15)
    learned = best[0] - theirs
    if learned <= 4 * noise(best) or reached - theirs < LESS * learned + 1.5 * noise(y):
        return None
    said = f"the training loss ends at {figure(reached)}; the compared run's at {figure(theirs)}"
    ratio = ratio_of_rates(seen)
    if ratio and not 1 / FACTOR < ratio < FACTOR:
        cause = "rate_high" if ratio > 1 else "rate_low"
        return Sign("learned less", f"{said}, with {figure(ratio)} times its learning rate", ((cause, 0.85),))
    third, rest = len(y) // 3, len(y) - len(y) // 3
    first = head(y, 0.06) - median(y[third - 2 : third + 3])
    last = median(y[rest - 2 : rest + 3]) - reached
    whole = head(y, 0.06) - reached
    if whole > 0 and last > 0.2 * whole and first < 0.6 * whole:
        return Sign("learned less", f"{said} and still falls", (("rate_low", 0.7), ("underfit", 0.3)))
    if noise(y) / max(abs(reached), 1e-9) > 2.5 * noise(best) / max(abs(theirs), 1e-9):
        causes = (("rate_high", 0.5), ("underfit", 0.4), ("bad_batch", 0.2))
        return Sign("learned less", f"{said}, and it is unsteady", causes)
    causes = (("underfit", 0.6), ("rate_low", 0.1 if usual_rate(seen) else 0.3), ("rate_high", 0.2))
    return Sign("learned less", f"{said}, and no longer falls", causes)


def rate_ends(seen: Seen) -> Sign | None:
    """A learning rate that is gone long before the run is."""
    rate, y = seen.run.rate, finite(seen.run.loss).y
    if len(rate) < FEW or len(y) < FEW or max(rate.y) <= 0:
        return None
    peak = rate.y.index(max(rate.y))
    gone = next((i for i in range(peak, len(rate)) if rate.y[i] < 0.02 * max(rate.y)), None)
    if gone is None or gone > 0.7 * len(rate) or any(v >= 0.02 * max(rate.y) for v in rate.y[gone:]):
        return None
    said = f"the learning rate is below 2 % of its peak from step {rate.x[gone]:g} of {rate.x[-1]:g} on"
    return Sign("rate ends", said, (("schedule_short", 0.93), ("rate_low", 0.3)))


def at_chance(seen: Seen) -> Sign | None:
    """The model knows nothing of the validation split, though its weights move."""
    val = finite(seen.run.val).y
    if len(val) < 4 or unmoved(seen.run) or seen.run.outcome != "ok":
        return None
    chance, end, least = seen.chance, tail(val), min(val)
    known = seen.best and len(seen.best.val) and tail(finite(seen.best.val).y or (math.inf,)) < 0.97 * end
    # Without a known number of classes the first evaluation, of an untrained model, stands for a guess.
    guess = chance if chance is not None else val[0]
    if least < CHANCE * guess or not (known or chance) or max(val) > 3 * abs(guess):
        return None
    y = finite(seen.run.loss).y
    slow = falls(seen.run) and len(y) >= FEW and head(y) - tail(y) < 0.1 * abs(head(y))
    if slow and not usual_rate(seen):
        return None  # it learns, if slowly
    said = f"the validation loss never gets below that of a guess ({figure(guess)}): least {figure(least)}"
    return Sign("at chance", said, (("labels_wrong", 0.75), ("overfit", 0.3), ("frozen", 0.1)))


def overfits(seen: Seen) -> Sign | None:
    """A validation loss that turns while the training loss goes on falling, or stays far above it."""
    loss, val = finite(seen.run.loss), finite(seen.run.val)
    if len(loss) < FEW or len(val) < 4 or seen.run.outcome != "ok":
        return None
    least = min(val.y)
    turn = val.y.index(least)
    rise, gap = val.y[-1] - least, val.y[-1] - tail(loss.y)
    rises = turn < 0.8 * (len(val) - 1) and rise > 0.04 * abs(least) + 2 * noise(val.y)
    wide = len(val) > 3 and gap > max(0.5 * abs(tail(loss.y)), 3 * max(_gap(seen.best), 0.0)) and rise >= 0
    never_learned = least >= CHANCE * (seen.chance or val.y[0])
    if not (rises or wide) or gap <= 4 * noise(loss.y) or never_learned:
        return None
    said = f"validation loss {figure(val.y[-1])} over a training loss of {figure(tail(loss.y))}"
    if rises:
        said += f"; it was {figure(least)} at step {val.x[turn]:g}"
    if repeated(seen):
        said += f"; {seen.run.epochs:g} epochs, the compared run {seen.best.epochs if seen.best else 0:g}"
        return Sign("gap", said, (("data_repeated", 0.9), ("overfit", 0.6)))
    return Sign("gap", said, (("overfit", 0.9), ("data_repeated", 0.35), ("labels_wrong", 0.15)))


def repeated(seen: Seen) -> bool:
    """Whether the data were gone through far more often than in the compared run."""
    mine, theirs = seen.run.epochs, seen.best.epochs if seen.best else None
    if mine is None:
        return False
    return mine >= PASSES * max(theirs, 1.0) if theirs is not None else mine >= 100


def _gap(run: Ran | None) -> float:
    if run is None or not len(finite(run.val)) or not len(finite(run.loss)):
        return 0.0
    return finite(run.val).y[-1] - tail(finite(run.loss).y)


def first_loss(seen: Seen) -> Sign | None:
    """A first loss far above that of a guess."""
    y = finite(seen.run.loss).y
    if not y:
        return None
    theirs = finite(seen.best.loss).y if seen.best else ()
    chance = seen.chance
    if chance is None and not theirs:
        return None
    usual = theirs[0] if theirs else chance or 0.0
    limit = 1.6 * max(chance or 0.0, usual) if chance else 4 * usual
    if y[0] <= limit:
        return None
    said = f"the first loss is {figure(y[0])}; a guess gives {figure(chance or usual)}"
    return Sign("first loss", said, (("init_scale", 0.92), ("rate_high", 0.25), ("labels_wrong", 0.1)))


def gradient_grows(seen: Seen) -> Sign | None:
    """A gradient that grows through the run."""
    y = finite(seen.run.norm).y
    if len(y) < 16 or head(y, 0.25) <= 0:
        return None
    theirs = finite(seen.best.norm).y if seen.best else ()
    usual = tail(theirs, 0.25) / max(head(theirs, 0.25), 1e-12) if len(theirs) >= 16 else 1.0
    growth = tail(y, 0.25) / head(y, 0.25)
    if growth < 20 * max(usual, 1.0):
        return None
    said = f"the gradient norm grows {figure(growth)}-fold, from {figure(head(y, 0.25))}"
    return Sign("gradient", said, (("rate_high", 0.5), ("bad_number", 0.15)))
