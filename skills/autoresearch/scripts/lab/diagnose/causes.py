"""What each cause means, and the cheapest test that could show it wrong; `{exp}` is the experiment's id."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A cause in words, what to do to test it, and the command for that."""

    means: str
    test: str
    command: str


RETRY = 'try "{test}" --retry-of {exp}'

CAUSES: dict[str, Cause] = {
    "rate_high": Cause(
        "the steps are too large: learning rate too high for this model, or gradients not clipped",
        "a tenth of the learning rate; if the symptom stays, it is not this",
        RETRY,
    ),
    "rate_low": Cause(
        "the steps are too small: learning rate too low, or a warm-up that never ends",
        "ten times the learning rate",
        RETRY,
    ),
    "schedule_short": Cause(
        "the schedule ends before the run: its total of steps is not the run's",
        "a constant learning rate",
        RETRY,
    ),
    "bad_number": Cause(
        "an operation that has no result for some input: division by 0, log of 0, overflow of half precision",
        "everything in float32, and an epsilon in each division, root and logarithm",
        RETRY,
    ),
    "bad_batch": Cause(
        "damaged or odd examples in single batches",
        "the same code once more: the same steps mean data, other steps the optimizer",
        'try "the same once more" --again',
    ),
    "frozen": Cause(
        "the weights do not move: not in the optimizer, detached, requires_grad off, or rate 0",
        "which parameters get a gradient and an update",
        "health {exp}",
    ),
    "labels_wrong": Cause(
        "inputs and labels do not belong together: shuffled, shifted by a row, or another encoding",
        "print ten examples with their labels as the loss sees them; then fit eight examples",
        'try "train on eight examples" --expect "training loss near 0"',
    ),
    "overfit": Cause(
        "it learns its training data by heart: more capacity or passes than the data bear",
        "stop at the best evaluation, or twice the weight decay or dropout",
        RETRY,
    ),
    "data_repeated": Cause(
        "the same few examples come again and again: a small or cut training set",
        "print how many different examples a run sees, and compare with the data on disk",
        RETRY,
    ),
    "underfit": Cause(
        "the model cannot do better: a bottleneck, too little capacity, too much regularisation",
        "twice the width; then no weight decay and no dropout",
        RETRY,
    ),
    "init_scale": Cause(
        "the first output is far too large: scale of the initial weights, unnormalised inputs, a summed loss",
        "the last layer's weights at a tenth; the first loss must be that of a guess",
        RETRY,
    ),
    "leak": Cause(
        "the answer is visible: target among the inputs, the future, or validation examples in training",
        "shuffled labels, causality and overlap of the splits",
        "verify-metric",
    ),
    "val_is_train": Cause(
        "the metric is computed on training data",
        "hash what is scored against what is trained on",
        "verify-metric",
    ),
    "stale_metric": Cause(
        "an old score is printed: cached, read from a file, or of a copy of the model",
        "the score of other weights must be another",
        "verify-metric",
    ),
    "polarity": Cause(
        "better and worse are exchanged: sign of the metric, or `goal:`",
        "shuffled labels must make it worse by `goal:`",
        "verify-metric",
    ),
    "change_unreached": Cause(
        "the changes do not reach what is measured: a switch nobody reads, another file or module is run",
        "print one value from inside the change; read `diff {exp}`",
        "diff {exp}",
    ),
    "noise_large": Cause(
        "the noise between equal runs is larger than the gains looked for",
        "the noise of the unchanged code; a larger evaluation set lowers it",
        "baseline --repeats 5",
    ),
    "contention": Cause(
        "another program took part of the machine",
        "the same once more on a quiet machine",
        'try "the same once more" --again',
    ),
    "data_stall": Cause(
        "the model waits for data",
        "a run that uses one batch again and again: if it is not faster, it is not the loader",
        RETRY,
    ),
    "costlier": Cause(
        "the change makes each step longer",
        "seconds a step in a profile of both codes; what is gained must pay for it",
        "diff {exp}",
    ),
    "memory_leak": Cause(
        "something is kept from each step: a loss with its graph, a list that grows, a cache",
        "detach or `.item()` what is stored for logging",
        RETRY,
    ),
    "too_big": Cause("the model or the batch does not fit", "half the batch, the idea as it is", RETRY),
    "crash_code": Cause(
        "a slip in the change: shape, name or type",
        "read the error's place in `show {exp}`, mend it",
        "restore {exp}",
    ),
    "crash_data": Cause(
        "a rare input or what comes late: an odd example, the last batch, the evaluation, the disk",
        "which batch it was: the same seed again must end at the same step",
        'try "the same once more" --again',
    ),
    "environment": Cause(
        "what all candidates share is broken: data, packages, memory, disk",
        "the checks of the machine, then the unchanged code",
        "doctor",
    ),
}
