"""A whole night made by real processes: a small network really trained, and a scripted agent that edits it.

    python tests/night.py FOLDER

The noise is the training's own: the seed draws the data. Nothing is kept in the
repository but this script.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from world import Project, a_project

TRAIN = r'''"""Fit a small network to a curve by plain SGD."""
import json, math, os, random

LR = 0.02           # step size
MOMENTUM = 0.0
WIDTH = 6           # hidden units
BATCH = 8           # points a step
STEPS = 400
INIT = 0.5          # standard deviation of the first weights
DECAY = 0.0         # weight decay
WARMDOWN = 0.0      # share of the steps over which the rate falls to 0
CLIP = 100.0        # largest gradient

rng = random.Random(int(os.environ.get("SEED", "0")))
def target(x):
    return math.sin(3 * x) + 0.5 * x

first = random.Random(1)  # the same first weights in every run; SEED draws the data
a, b, c = ([first.gauss(0, INIT) for _ in range(WIDTH)] for _ in range(3))
d = 0.0
speed = [[0.0] * WIDTH for _ in range(3)] + [[0.0]]
curve = []


def predict(x):
    h = [math.tanh(ai * x + bi) for ai, bi in zip(a, b)]
    return h, sum(ci * hi for ci, hi in zip(c, h)) + d


def rate(step):
    left = 1 - step / STEPS
    return LR * (min(1.0, left / WARMDOWN) if WARMDOWN else 1.0)


for step in range(STEPS):
    ga, gb, gc, gd, loss = [0.0] * WIDTH, [0.0] * WIDTH, [0.0] * WIDTH, 0.0, 0.0
    for _ in range(BATCH):
        x = rng.uniform(-2, 2)
        h, y = predict(x)
        e = y - target(x) - rng.gauss(0, 0.3)
        loss += e * e / BATCH
        for i in range(WIDTH):
            gc[i] += e * h[i]
            s = e * c[i] * (1 - h[i] * h[i])
            ga[i] += s * x
            gb[i] += s
        gd += e
    for weights, gradient, v in ((a, ga, speed[0]), (b, gb, speed[1]), (c, gc, speed[2])):
        for i in range(WIDTH):
            g = max(-CLIP, min(CLIP, gradient[i] / BATCH + DECAY * weights[i]))
            v[i] = MOMENTUM * v[i] - rate(step) * g
            weights[i] += v[i]
    speed[3][0] = MOMENTUM * speed[3][0] - rate(step) * gd / BATCH
    d += speed[3][0]
    if step % 25 == 24:
        curve.append({"step": step + 1, "loss": round(loss, 5)})
        print(f"step {step + 1} loss {loss:.5f}", flush=True)

points = [i / 32 - 2 for i in range(129)]
value = sum((predict(x)[1] - target(x)) ** 2 for x in points) / len(points)
out = os.environ.get("AUTORESEARCH_RUN_DIR")
if out:
    with open(os.path.join(out, "curve.jsonl"), "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in curve)
print("---")
print(f"val_loss: {math.sqrt(value):.6f}")
'''


@dataclass(frozen=True)
class Move:
    """What the scripted agent does: constants it sets, or a text it replaces, and its words."""

    words: str
    values: dict[str, float] = field(default_factory=dict)
    swap: tuple[str, str] | None = None
    because: str = ""
    expect: str = ""
    flags: tuple[str, ...] = ()


HOSTILE = (
    "<script>document.title='owned'</script></svg></style><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m \u202egnihton\u202c {{ 7 * 7 }} & \"quoted\" 'words' | pipes\t\ttabs `ticks`",
    "long words " * 900,
)
MOVES = (
    Move("Raise the learning rate to 0.05", {"LR": 0.05}, because="the loss still falls", expect="-0.1"),
    Move("Double the width", {"WIDTH": 12}, because="six units look too few for two bends", expect="-0.05"),
    Move("Learning rate 0.1", {"LR": 0.1}, because="0.05 helped and nothing diverged", expect="-0.1"),
    Move("Learning rate 30", {"LR": 30.0}, because="see where it breaks", expect="diverges"),
    Move("Momentum 0.8", {"MOMENTUM": 0.8}, because="the gradient is noisy", expect="-0.05"),
    Move("Batch of 4", {"BATCH": 4}, because="more noise may help", expect="not worse, half the time"),
    Move("Larger first weights", {"INIT": 1.0}, because="tanh is almost linear at 0.5", expect="-0.05"),
    Move("Print nothing at the end", swap=('print(f"val_loss: {math.sqrt(value):.6f}")', "pass")),
    Move("Clip gradients at 1", {"CLIP": 1.0}, because="some steps are very large", expect="-0.01"),
    Move("Weight decay 0.01", {"DECAY": 0.01}, because="habit", expect="no change"),
    Move("Weight decay 0.1", {"DECAY": 0.1}, because="0.01 was too weak to see", expect="worse"),
    Move("Average the last weights", swap=("for step in range(STEPS):", "for step in range(STEP):")),
    Move("Warm-down over the last half", {"WARMDOWN": 0.5}, because="the end is noisy", expect="-0.02"),
    Move(HOSTILE[0], {"WIDTH": 7}, expect="</script><script>alert(2)</script>"),
    Move("Learning rate 0.2", {"LR": 0.2}, because="momentum leaves room", expect="-0.02"),
    Move("Learning rate 0.3", {"LR": 0.3}, because="further in the same direction", expect="-0.01"),
    Move("Double the width again", {"WIDTH": 12}, because="the new rate may carry it", expect="-0.03"),
    Move("Batch of 16", {"BATCH": 16}, because="less noise at the high rate", expect="-0.02"),
    Move("Momentum 0.9", {"MOMENTUM": 0.9}, because="0.8 helped", expect="-0.01"),
    Move("Momentum 0.95", {"MOMENTUM": 0.95}, because="further", expect="worse"),
    Move("First weights of 1.5", {"INIT": 1.5}, because="1.0 helped", expect="-0.01"),
    Move("First weights of 2", {"INIT": 2.0}, because="further", expect="worse"),
    Move("A table of a billion numbers", swap=("curve = []", "raise MemoryError('a billion')")),
    Move(HOSTILE[1], {"CLIP": 3.0}),
    Move("Warm-down over everything", {"WARMDOWN": 1.0}, because="half helped", expect="-0.01"),
    Move("Width 16", {"WIDTH": 16}, because="width pays when the rate is right", expect="-0.02"),
    Move("Width 24", {"WIDTH": 24}, because="further", expect="-0.01, slower"),
    Move("No first print", swap=("    if step % 25 == 24:", "    if step % 50 == 49:"), expect="no change"),
    Move("Clip gradients at 0.3", {"CLIP": 0.3}, because="1 did not hurt", expect="-0.01"),
    Move(HOSTILE[2], {"DECAY": 0.003}),
    Move("Batch of 32", {"BATCH": 32}, because="16 was close", expect="-0.01, slower"),
    Move("Learning rate 0.4", {"LR": 0.4}, because="with warm-down", expect="-0.01"),
    Move("Weight decay 0.001", {"DECAY": 0.001}, because="a tenth of what did nothing", expect="no change"),
    Move("A variable that is not there", swap=("    return LR * (", "    return LR * scale * (")),
    Move("The same, with its name mended", {"LR": 0.25}, flags=("--retry-of", "last")),
    Move("Clip gradients at 2", {"CLIP": 2.0}, because="1 and 3 bracket it", expect="-0.005"),
    Move("Learning rate 0.15", {"LR": 0.15}, because="perhaps we went too far", expect="-0.005"),
    Move("Momentum 0.85", {"MOMENTUM": 0.85}, because="between two good ones", expect="-0.005"),
    Move("First weights of 1.2", {"INIT": 1.2}, because="between two good ones", expect="-0.005"),
    Move("Width 20", {"WIDTH": 20}, because="16 helped", expect="-0.01"),
    Move("600 steps", {"STEPS": 600}, because="the budget allows it", expect="-0.02"),
    Move("800 steps", {"STEPS": 800}, because="more of the same", expect="-0.02"),
    Move("Batch of 6", {"BATCH": 6}, because="time for more steps", expect="no change"),
    Move("1000 steps", {"STEPS": 1000}, because="the budget allows it", expect="-0.01"),
    Move("Warm-down over the last fifth", {"WARMDOWN": 0.2}, because="the middle learns", expect="-0.01"),
    Move("Learning rate 0.5", {"LR": 0.5}, because="longer warm-down", expect="-0.01"),
    Move("Momentum 0.7", {"MOMENTUM": 0.7}, because="the rate is high now", expect="-0.01"),
    Move("Width 14", {"WIDTH": 14}, because="as good with less", expect="not worse"),
)  # fmt: skip


def edited(text: str, move: Move) -> str:
    """The training script after the move."""
    for name, value in move.values.items():
        text = re.sub(rf"(?m)^{name} = \S+", f"{name} = {value}", text)
    return text.replace(*move.swap) if move.swap else text


def a_night(folder: Path, moves: tuple[Move, ...] = MOVES, repeats: int = 3) -> Iterator[str]:
    """Run a campaign in `folder` through the command line, move by move; give a line on each.

    A move that changes nothing, or a candidate that was there before, is refused by the tool and left out.
    """
    project = a_project(folder, {"train.py": TRAIN, "README.md": "A small network.\n"})
    command = f"{sys.executable} train.py"
    project.ok("init", "--tag", "night", "--metric", "val_loss", "--goal", "min", "--edit", "train.py",
               "--command", command, "--budget", "30s")  # fmt: skip
    yield f"baseline {project.ok('baseline', '--repeats', str(repeats))['metric']:.4f}"
    for move in moves:
        text = edited(project.read("train.py"), move)
        if text != project.read("train.py"):
            project.write("train.py", text)
            yield _tried(project, move)


def _tried(project: Project, move: Move) -> str:
    words = {"--because": move.because, "--expect": move.expect}
    flags = [part for flag, text in words.items() if text for part in (flag, text)]
    flags += [word if word != "last" else _last(project) for word in move.flags]
    answer = project.run("--json", "try", *flags, "--", move.words)
    if answer.code in (4, 9):  # no change is left of it, or it was tried before
        project.write("train.py", project.git("show", "autoresearch/night:train.py") + "\n")
        return f"refused: {move.words[:60]!r}"
    assert answer.code == 0, f"{answer.out}\n{answer.err}"
    done = answer.json
    runs = f"{len(done['runs'])} runs"
    return f"{done['experiment']} {done['verdict']} {done['metric']} {runs}: {move.words[:60]!r}"


def _last(project: Project) -> str:
    return str(project.ok("show", "last")["experiment"])


if __name__ == "__main__":
    for said in a_night(Path(sys.argv[1])):
        print(said, flush=True)
