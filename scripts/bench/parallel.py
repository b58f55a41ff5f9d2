"""What sixteen slots gain in a night, by what becomes of a win over an incumbent that was replaced meanwhile.

Simulated nights of 87 run-lengths. Each idea is made on the incumbent of that moment and runs while others
are kept; of two helpful changes that meet, 15 % overlap (only the larger one counts) and 5 % clash (neither
does). The real engine decides. Gains are true ones in sigma, the noise of one run; a false keep made the
branch no better at the moment it was kept. Picking takes a win over a former incumbent for one over the
present one: what it showed there is added to what is believed here, and nothing is measured.

    python3 scripts/bench/parallel.py [--nights 12] [--only WAY,…]
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "skills" / "autoresearch" / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from decision_nights import LEVEL, mixed

from lab.decide import Belief, Decision, Facts, Noise, decide, opening, pooled_noise, settle

RUN_LENGTHS = 87  # a night of 8 hours at 5.5 minutes
OVERLAP, CLASH = 0.15, 0.05
BASELINES = 3
NOISE_SURE = 60  # degrees of freedom from which sigma is worked out anew at each tenth result only
KINDS = {
    "10 % help": mixed(0.10, 2.0, 0.45, 2.0),
    "small gains": mixed(0.15, 0.8, 0.45, 1.5),
    "nothing helps": mixed(0.0, 1.0, 0.5, 1.0),
}


@dataclass(frozen=True)
class Way:
    """What a night does with its results."""

    slots: int = 16
    engine: bool = True  # False: one run that is lower than its parent's one run is a win
    pick: bool = False  # a win over a former incumbent goes on the branch unmeasured
    doubt: bool = True  # a stale result in doubt is combined, not run again beside the former incumbent
    combinations: int = 99


WAYS = {
    "1 slot, engine": Way(slots=1),
    "16, keep if lower, picked": Way(engine=False, pick=True),
    "16, engine, picked": Way(pick=True),
    "16, keep if lower, combined": Way(engine=False),
    "16, ours": Way(),
    "ours, one combination at a time": Way(combinations=1),
    "ours, doubt runs on": Way(doubt=False),
}


@dataclass
class Commit:
    """A commit with its runs; `kept` are the changes it stands on."""

    idea: int
    effect: float  # on the incumbent it was made on
    level: float  # true loss
    parent: Commit | None = None
    kept: tuple[int, ...] = ()
    combined: bool = False
    shown: float = 0.0  # the gain that a combination's winner had shown
    runs: list[tuple[int, float]] = field(default_factory=list)
    going: int = 0
    done: bool = False
    belief: Belief | None = None  # as an incumbent

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.runs]


@dataclass(frozen=True)
class Result:
    """One night, in sigma; `keeps` holds the true gain of each."""

    gain: float
    reported: float
    keeps: list[float]
    combined: int
    tries: int


class Night:
    """Slots that fill with repeats, combinations and new ideas, in the loop's order."""

    def __init__(self, kind: str, way: Way, number: int) -> None:
        self.kind, self.way, self.number = kind, way, number
        self.rng = random.Random(f"{kind}/{number}/noise")
        self.ideas = random.Random(f"{kind}/{number}/ideas")
        self.effects: list[float] = []
        self.now, self.working = 0.0, 0
        self.ends: list[tuple[float, int, Commit, int]] = []
        self.open: list[Commit] = []
        self.groups: list[list[float]] = []
        self.noise, self.told = Noise(None, 0, 0), 0
        self.keeps: list[float] = []
        self.combined = self.started = 0
        self.head = Commit(-1, 0.0, 0.0)
        for seed in range(BASELINES):
            self._measure(self.head, seed)
        self.first = self.head.runs[0][1]
        self.groups.append(self.head.values)
        self.head.belief = opening(self._facts(self.head, None))

    # --- the world ------------------------------------------------------------------------------------

    def _effect(self, idea: int) -> float:
        while len(self.effects) <= idea:
            self.effects.append(KINDS[self.kind](self.ideas, len(self.effects)))
        return self.effects[idea]

    def _on(self, idea: int, base: tuple[int, ...], head: Commit) -> float:
        """True gain of an idea on a head, whose changes beyond `base` it has not met before."""
        gain = self._effect(idea)
        for other in head.kept:
            if other not in base and self.effects[other] > 0 and gain > 0:
                u = random.Random(f"{self.kind}/{self.number}/{min(idea, other)}/{max(idea, other)}").random()
                if u < CLASH:
                    gain -= self._effect(idea) + self.effects[other]
                elif u < CLASH + OVERLAP:
                    gain -= min(self._effect(idea), self.effects[other])
        return gain

    def _measure(self, commit: Commit, seed: int) -> None:
        commit.runs.append((seed, LEVEL + commit.level + self.rng.gauss(0, 1)))

    # --- the slots ------------------------------------------------------------------------------------

    def long(self) -> Result:
        """Run the night."""
        while self.now < RUN_LENGTHS:
            while self.working < self.way.slots:
                self._start(*self._next())
            self.now, _, commit, seed = heapq.heappop(self.ends)
            self.working -= 1
            commit.going -= 1
            self._measure(commit, seed)
            for waiting in [c for c in self.open if c.runs and not c.going]:
                if not waiting.done:
                    self._judge(waiting)
            self.open = [c for c in self.open if not c.done]
        reported = self.first - self._level(self.head)
        if self.way.engine:
            assert self.head.belief
            reported = self.head.belief.gained
        return Result(-self.head.level, reported, self.keeps, self.combined, len(self.effects))

    def _start(self, commit: Commit, seed: int) -> None:
        commit.going += 1
        self.working += 1
        self.started += 1
        heapq.heappush(self.ends, (self.now + self.rng.uniform(0.95, 1.05), self.started, commit, seed))

    def _next(self) -> tuple[Commit, int]:
        """The run that starts next: a repeat, a combination, or a new idea."""
        for commit in self.open:
            if commit.runs and not commit.going:
                said = self._decide(commit)
                if said.side == "incumbent" and not commit.parent.going:  # type: ignore[union-attr]
                    return commit.parent, len(commit.parent.runs)  # type: ignore[union-attr,return-value]
                if said.side == "candidate":
                    return commit, len(commit.runs)
        begun = sum(c.combined and bool(c.runs or c.going) for c in self.open)
        waiting = [c for c in self.open if c.combined and not c.runs and not c.going]
        if waiting and begun < self.way.combinations:
            best = max(waiting, key=lambda c: c.shown)
            if best.parent is not self.head:
                self._rebase(best)
            return best, 0
        idea = len(self.effects)
        commit = Commit(
            idea, self._effect(idea), self.head.level - self._effect(idea), self.head, self.head.kept
        )
        commit.kept = (*commit.kept, idea)
        self.open.append(commit)
        return commit, 0

    def _rebase(self, commit: Commit) -> None:
        base = commit.kept
        commit.effect = self._on(commit.idea, base, self.head)
        commit.level, commit.parent = self.head.level - commit.effect, self.head
        commit.kept = (*self.head.kept, commit.idea)

    # --- verdicts -------------------------------------------------------------------------------------

    def _facts(self, incumbent: Commit, new: Commit | None) -> Facts:
        ran = {seed for seed, _ in incumbent.runs}
        return Facts(
            goal="min",
            candidate=tuple(new.runs) if new else (),
            incumbent=tuple(incumbent.runs),
            sigma=self._sigma().sigma,
            sigma_n=self.noise.n,
            sigma_df=self.noise.df,
            baseline_metric=self.first,
            added=0,
            removed=0,
            belief=incumbent.belief,
            next_seed=len(new.runs) if new else None,
            incumbent_seed=next(seed for seed in range(999) if seed not in ran),
            incumbent_may=True,
        )

    def _sigma(self) -> Noise:
        self.told += 1
        if self.noise.df < NOISE_SURE or self.told % 10 == 0:
            open_ = [c.values for c in [*self.open, self.head] if len(c.runs) > 1]
            self.noise = pooled_noise([*self.groups, *open_])
        return self.noise

    def _decide(self, commit: Commit) -> Decision:
        assert commit.parent
        if self.way.engine:
            return decide(self._facts(commit.parent, commit))
        gain = commit.parent.runs[0][1] - commit.runs[0][1]
        return Decision("keep" if gain > 0 else "discard", "", gain=gain, difference=gain)

    def _judge(self, commit: Commit) -> None:
        said = self._decide(commit)
        stale = commit.parent is not self.head
        if said.action == "repeat" and not (stale and self.way.doubt and not self.way.pick):
            return
        if said.action != "discard" and stale and not self.way.pick:
            self._combine(commit, said)
        elif said.action == "keep":
            self._keep(commit, stale)
        self._close(commit, said)

    def _close(self, commit: Commit, said: Decision) -> None:
        commit.done = True
        if self.way.engine and commit is not self.head:
            assert commit.parent
            commit.parent.belief = settle(self._facts(commit.parent, commit), "discard")
        if len(commit.runs) > 1:
            self.groups.append(commit.values)

    def _combine(self, commit: Commit, said: Decision) -> None:
        self.combined += 1
        twin = Commit(
            commit.idea, 0.0, 0.0, commit.parent, commit.kept, combined=True, shown=said.gain or 0.0
        )
        self._rebase(twin)
        self.open.append(twin)

    def _keep(self, commit: Commit, stale: bool) -> None:
        before, old = self.head.level, self.head
        if stale:
            assert commit.parent
            shift = self._level(self.head) - self._level(commit.parent)
            runs = [(seed, value + shift) for seed, value in commit.runs]
            commit = Commit(commit.idea, 0.0, 0.0, commit.parent, commit.kept, runs=runs)
            self._rebase(commit)
        self.keeps.append(before - commit.level)
        if self.way.engine:
            commit.belief = settle(self._facts(old, commit), "keep")
        self.head = commit

    def _level(self, commit: Commit) -> float:
        """What an incumbent is believed to give."""
        return commit.belief.level if commit.belief else commit.runs[0][1]


# --- telling -------------------------------------------------------------------------------------------


def play(job: tuple[str, str, int]) -> tuple[str, str, Result]:
    """One night."""
    kind, way, number = job
    return kind, way, Night(kind, WAYS[way], number).long()


def main() -> None:
    options = _options()
    names = [name for name in WAYS if not options.only or name in options.only.split(",")]
    jobs = [(kind, way, n) for kind in KINDS for way in names for n in range(options.nights)]
    os.nice(5)
    with Pool(os.cpu_count()) as pool:
        results = pool.map(play, jobs, chunksize=4)
    for kind in KINDS:
        print(f"\n{kind}: {options.nights} nights of {RUN_LENGTHS} run-lengths, in sigma\n")
        print("| way | true gain | reported - true | keeps | false | combined | ideas |")
        print("|---|---|---|---|---|---|---|")
        for name in names:
            print(_row(name, [r for k, w, r in results if (k, w) == (kind, name)]))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n{spent.ru_utime + spent.ru_stime:.0f} s of processor time")


def _row(name: str, nights: list[Result]) -> str:
    def mean(of: Callable[[Result], float]) -> str:
        values = [of(night) for night in nights]
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return f"{fmean(values):.1f} ± {error:.1f}"

    columns: list[Callable[[Result], float]] = [
        lambda r: r.gain,
        lambda r: r.reported - r.gain,
        lambda r: len(r.keeps),
        lambda r: sum(gain <= 0 for gain in r.keeps),
        lambda r: r.combined,
        lambda r: r.tries,
    ]
    return f"| {name} | {' | '.join(mean(column) for column in columns)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=12, help="of each cell")
    parser.add_argument("--only", default="", help="ways, by comma")
    return parser.parse_args()


if __name__ == "__main__":
    main()
