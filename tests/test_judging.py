"""From the journal to the facts of a verdict: replayed bit for bit, drift noticed, old journals taken up."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from world import Project, a_project

from lab import judging
from lab.account import account, account_lines
from lab.campaign import measured_noise
from lab.changes import apply
from lab.decide import Decision, decide
from lab.model import Record, State
from lab.settings import Settings, load

SETTINGS = Settings("python train.py", "val_bpb", "min", seed_env="SEED", edit=("train.py",))
SIGMA = 0.0005


class Paper:
    """A campaign without processes: the loop's records, with numbers drawn in place of runs."""

    def __init__(self, settings: Settings = SETTINGS, seed: int = 1, belief: bool = True) -> None:
        self.settings, self.with_belief = settings, belief
        self.rng = random.Random(seed)
        self.state, self.records = State(), [{}]
        self.records.clear()
        self.shift = 0.0  # of the machine
        self.levels: dict[str, float] = {}
        self.decided: dict[str, Decision] = {}
        self.add("campaign_started", tag="t", branch="b", base="c0", head="c0", frozen={})
        self.propose("e000", 0.98, repeats=3)
        for seed_ in (42, 43, 44):
            self.run("e000", seed_)
        self.verdict("e000", "keep", None)

    def add(self, event: str, **fields: object) -> None:
        record: Record = {
            "seq": len(self.records) + 1,
            "at": f"2026-11-21T00:{len(self.records) % 60:02d}",
            "event": event,
        }
        record |= fields
        self.records.append(json.loads(json.dumps(record)))
        apply(self.state, record)

    def propose(self, name: str, level: float, **fields: object) -> None:
        self.levels[name] = level
        words = {"commit": f"c{name}", "tree": f"t{name}", "parent": "c0", "hypothesis": name, **fields}
        self.add("proposed", experiment=name, **words)

    def run(self, name: str, seed: int | None) -> None:
        experiment = self.state.experiments[name]
        run = f"{name}.{len(experiment.runs) + 1}"
        self.add("run_started", experiment=name, run=run, seed=seed, nonce="n", commit=experiment.commit)
        value = self.levels[name] + self.shift + self.rng.gauss(0, SIGMA)
        self.add("run_ended", experiment=name, run=run, outcome="ok", metric=value, memory_gb=1.0)

    def verdict(self, name: str, verdict: str, decision: Decision | None) -> None:
        experiment = self.state.experiments[name]
        numbers = [run.metric or 0.0 for run in experiment.good_runs]
        belief = judging.belief_after(self.state, self.settings, experiment, verdict)
        fields: dict[str, object] = {"metric": sum(numbers) / len(numbers), "reason": "the start"}
        if self.with_belief:
            fields["belief"] = belief
        if decision:
            self.decided[name] = decision
            fields |= {"reason": decision.reason, "p": decision.p, "shrunken": decision.gain}
            fields |= {"gain": decision.difference, "sigma": decision.sigma, "price": decision.price}
            fields["interval"] = list(decision.interval or ())
        self.add("verdict", experiment=name, verdict=verdict, against=self.state.incumbent_id, **fields)

    def look_for_drift(self) -> None:
        """What the loop does before an experiment begins."""
        while True:
            found = judging.drift_of(self.state, self.settings)
            if found:
                self.add("drift", **found)
            elif judging.suspicious(self.state, self.settings) or judging.sentinel_due(self.state):
                self.run(self.state.incumbent_id, 42)
            else:
                return

    def try_(self, gain: float, **fields: object) -> Decision:
        self.look_for_drift()
        name = f"e{self.state.next_number():03d}"
        self.propose(name, self.levels[self.state.incumbent_id] - gain, **fields)
        experiment = self.state.experiments[name]
        self.run(name, 42)
        while True:
            facts = judging.facts_of(self.state, self.settings, experiment)
            decision = decide(facts)
            if decision.action != "repeat":
                self.verdict(name, decision.action, decision)
                return decision
            if decision.side == "incumbent":
                self.run(self.state.incumbent_id, facts.incumbent_seed)
            else:
                self.run(name, facts.next_seed)


def a_night(paper: Paper, tries: int) -> Paper:
    for _ in range(tries):
        paper.try_(paper.rng.choice((0.0, 0.0, 1.5, -1.0, 4.0)) * SIGMA, added=3, removed=1)
    return paper


def replayed(records: list[Record], settings: Settings) -> Iterator[tuple[Record, Decision, Record | None]]:
    """Each journaled verdict of a candidate, decided again from the records before it alone."""
    state = State()
    for record in records:
        if record["event"] == "verdict" and record["experiment"] != "e000" and record["verdict"] != "crash":
            experiment = state.experiments[str(record["experiment"])]
            again = decide(judging.facts_of(state, settings, experiment))
            yield record, again, judging.belief_after(state, settings, experiment, str(record["verdict"]))
        apply(state, record)


def assert_the_same(record: Record, again: Decision, belief: Record | None) -> None:
    assert (again.action, again.reason) == (record["verdict"], record["reason"])
    assert (again.p, again.gain, again.sigma) == (record["p"], record["shrunken"], record["sigma"])
    assert list(again.interval or ()) == record["interval"]
    assert (again.difference, again.price) == (record["gain"], record["price"])
    assert json.loads(json.dumps(belief)) == record["belief"]


@pytest.mark.parametrize("goal", ["min", "max"])
@pytest.mark.parametrize("mode", ["fast", "balanced", "strict", "seed-table"])
def test_every_decision_of_a_journal_replays_bit_for_bit(mode: str, goal: str) -> None:
    settings = replace(SETTINGS, decision_mode=mode, goal=goal)
    paper = a_night(Paper(settings), 12)
    seen = [assert_the_same(*one) for one in replayed(paper.records, settings)]
    assert len(seen) == 12


def test_a_journal_of_a_release_without_belief_goes_on() -> None:
    paper = a_night(Paper(belief=False), 4)
    assert paper.state.belief == {}
    paper.with_belief = True
    assert paper.try_(9 * SIGMA).action == "keep"
    assert paper.state.belief


def test_runs_of_a_confirmation_never_reach_a_decision() -> None:
    paper = a_night(Paper(), 2)
    best = paper.state.get(paper.state.incumbent_id)
    before = judging.facts_of(paper.state, SETTINGS, best)
    paper.add(
        "confirm_started", confirmation="c1", experiment=best.id, commit=best.commit, base="e000",
        base_commit="ce000", pairs=5, heldout="", env={},
    )  # fmt: skip
    paper.add(
        "run_started", experiment=best.id, run="c1.1", seed=7, nonce="n", commit=best.commit, role="confirm",
        confirmation="c1", pair=1,
    )  # fmt: skip
    paper.add("run_ended", experiment=best.id, run="c1.1", confirmation="c1", outcome="ok", metric=0.5)
    assert judging.facts_of(paper.state, SETTINGS, best) == before


# --- drift ------------------------------------------------------------------------------------------------


def test_the_incumbent_is_measured_again_after_twenty_five_verdicts() -> None:
    paper = Paper()
    for _ in range(25):
        assert not judging.sentinel_due(paper.state)
        paper.try_(-12 * SIGMA)
    assert judging.sentinel_due(paper.state)
    paper.look_for_drift()
    assert not judging.sentinel_due(paper.state)
    assert len(paper.state.get("e000").runs) == 4
    assert paper.state.drifts == []


def test_a_machine_that_jumped_moves_the_bar_and_is_told() -> None:
    paper = Paper()
    for _ in range(25):
        paper.try_(-12 * SIGMA)
    paper.shift = 20 * SIGMA
    assert paper.try_(8 * SIGMA).action == "keep"
    assert len(paper.state.drifts) == 1
    told = account_lines(account(paper.state, measured_noise(paper.state), "min"))
    assert any("machine has changed" in line for line in told)
    belief = judging.believed(paper.state)
    assert belief and belief.gained == pytest.approx(8 * SIGMA, abs=3 * SIGMA)
    noise = measured_noise(paper.state).sigma
    assert noise and noise < 3 * SIGMA


def test_one_run_that_is_far_off_moves_nothing() -> None:
    paper = Paper()
    for _ in range(25):
        paper.try_(-12 * SIGMA)
    paper.shift = 20 * SIGMA
    paper.run("e000", 42)
    assert judging.suspicious(paper.state, SETTINGS)
    paper.shift = 0.0
    paper.look_for_drift()
    assert paper.state.drifts == []
    assert len(paper.state.get("e000").runs) == 5


# --- what is reported -------------------------------------------------------------------------------------


def test_the_account_counts_false_keeps_and_names_clear_ones() -> None:
    paper = Paper()
    paper.try_(30 * SIGMA)
    paper.try_(30 * SIGMA)
    facts = account(paper.state, measured_noise(paper.state), "min")
    assert facts["clear"] == ["e001", "e002"]
    assert facts["expected_false_keeps"] == pytest.approx(0, abs=1e-3)
    assert facts["gain"] == pytest.approx(60 * SIGMA, abs=4 * SIGMA)
    assert facts["level"] == pytest.approx(paper.levels["e002"], abs=4 * SIGMA)
    assert facts["noise"] == "usual"
    assert 0 < facts["seed_share"] < 1
    assert any("false keeps expected" in line for line in account_lines(facts))


def test_the_share_of_the_seed_is_told_once_pairs_have_shown_it() -> None:
    paper = Paper()
    luck = {42 + n: paper.rng.gauss(0, 10 * SIGMA) for n in range(40)}
    plain = Paper.run

    def run(name: str, seed: int | None) -> None:
        paper.shift = luck[seed or 0]
        plain(paper, name, seed)

    for seed in (42, 43, 44):  # what the machine adds is a tenth of what the seed does
        paper.state.get("e000").runs[seed - 42].metric = 0.98 + luck[seed]
    paper.state.belief = {}
    paper.run = run  # type: ignore[method-assign]
    for _ in range(12):
        paper.try_(-3 * SIGMA)
    facts = account(paper.state, measured_noise(paper.state), "min")
    assert facts["seed_share_known"] and float(str(facts["seed_share"])) > 0.85
    assert any("belongs to the seed" in line for line in account_lines(facts))


# --- a real campaign --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_campaigns_decisions_replay_from_its_journal(tmp_path: Path) -> None:
    world = a_project(tmp_path / "project")
    world.edit("NOISE = 0.0", "NOISE = 0.001")
    world.edit("random.Random(seed)", "random.Random(f'{seed} {LR}')")
    world.commit("noisy")
    world.begin(repeats=3)
    rate = "1.00"
    for new in ("1.010", "0.998", "0.990", "0.9885", "0.970"):
        world.edit(f"LR = {rate}", f"LR = {new}")
        tried = world.ok("try", f"rate {new}")
        rate = new if tried["verdict"] == "keep" else rate
    lines = world.read(".autoresearch/journal.jsonl").splitlines()
    settings = load(world.root / "autoresearch.yaml")
    seen = [assert_the_same(*one) for one in replayed([json.loads(line) for line in lines], settings)]
    assert len(seen) == 5
    shown = world.ok("status")["belief"]
    assert shown["gain"] == pytest.approx(0.03, abs=0.004)
    assert "to be believed" in world.run("show", "e003").out


@pytest.mark.slow
def test_a_campaign_notices_that_the_machine_changed(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.write_text("0.0")
    world: Project = a_project(tmp_path / "project")
    world.edit("NOISE = 0.0", "NOISE = 0.001")
    world.edit("import os, random", f"import os, random\nSHIFT = float(open({str(machine)!r}).read())")
    world.edit("value = LR", "value = SHIFT + LR")
    world.commit("noisy")
    world.begin(repeats=3)
    for n in range(25):
        world.edit("LR = 1.00", f"LR = 1.{n + 11}")
        assert world.ok("try", f"worse {n}")["verdict"] == "discard"
    machine.write_text("5.0")
    world.edit("LR = 1.00", "LR = 0.50")
    assert world.ok("try", "better on another machine")["verdict"] == "keep"
    assert '"event":"drift"' in world.read(".autoresearch/journal.jsonl")
    assert "machine has changed" in world.run("status").out
