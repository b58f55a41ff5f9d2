"""The present of a campaign as facts: what runs, how it does against its parent, what was decided.

Only read, from journal and run folders. An agent's verbs move a campaign; being watched does not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab.campaign import Lab
from lab.live.devices import Device, cores, devices
from lab.live.readings import (
    TAIL_BYTES,
    Curve,
    Reading,
    at,
    curve_of_file,
    last_reading,
    read_curve,
    read_end,
)  # fmt: skip
from lab.model import Experiment, Record, Run, now
from lab.report.figures import Figures, said
from lab.report.story import Story

VERDICTS_SHOWN = 6
WORDS = 120
SILENT_SECONDS = 60.0  # without a heartbeat, which comes every few seconds: its supervisor may be gone
DEVICES_EVERY = 5.0  # seconds between two looks at the GPUs: a look takes up to half a second


@dataclass(frozen=True)
class Work:
    """A run at work; what its program does not show is None."""

    run: str
    experiment: str
    words: str
    seed: int | None
    elapsed: float | None  # seconds
    reading: Reading
    parent: str
    parent_loss: float | None  # at the same step
    left: float | None  # seconds
    left_by: str  # how that is known: the program, its progress, the budget
    silent: float | None  # seconds since the last heartbeat, where that is too long

    @property
    def against(self) -> float | None:
        """Its loss minus its parent's at the same step."""
        loss = self.reading.loss
        return None if loss is None or self.parent_loss is None else loss - self.parent_loss


@dataclass(frozen=True)
class Decided:
    """A verdict that was given."""

    experiment: str
    verdict: str
    metric: str
    gain: str
    words: str


@dataclass(frozen=True)
class Present:
    """One look."""

    campaign: str
    title: str
    state: str
    aim: str
    counts: dict[str, int]
    work: tuple[Work, ...]
    queue: tuple[tuple[str, str], ...]  # experiment, words
    verdicts: tuple[Decided, ...]  # the newest first
    machine: tuple[str, ...]
    finished: bool
    seq: int
    at: str

    def as_json(self) -> Record:
        """It for programs and for the page in the browser."""
        return {
            "campaign": self.campaign, "title": self.title, "state": self.state, "aim": self.aim,
            "experiments": self.counts, "work": [_work_json(w) for w in self.work],
            "queue": [{"experiment": name, "words": words} for name, words in self.queue],
            "verdicts": [vars(v) for v in self.verdicts], "machine": list(self.machine),
            "finished": self.finished, "seq": self.seq, "at": self.at,
        }  # fmt: skip


def _work_json(w: Work) -> Record:
    facts = {k: v for k, v in vars(w).items() if k != "reading"}
    return {**facts, **vars(w.reading), "left": w.left, "against": w.against}


@dataclass
class Looker:
    """Looks again and again at one campaign; the journal is read anew only when it has changed."""

    lab: Lab
    _seen: tuple[int, int] = (-1, -1)
    _story: Story | None = None
    _curves: dict[str, Curve] = field(default_factory=dict)
    _devices: tuple[float, Sequence[Device]] = (-DEVICES_EVERY, ())

    def changed(self) -> bool:
        """Whether the journal has grown since the last look."""
        return self._stamp() != self._seen

    def look(self) -> Present:
        """The present."""
        told = self._read()
        lab, state = self.lab, self.lab.state
        decided = [e for e in state.experiments.values() if e.verdict]
        newest = sorted(decided, key=lambda e: (e.verdict_at, e.number))[-VERDICTS_SHOWN:]
        f = told.m.figures
        return Present(
            campaign=state.tag,
            title=told.title,
            state=told.present,
            aim=told.m.settings.aim,
            counts=state.counts(),
            work=tuple(self._work(e, run) for e, run in state.at_work()),
            queue=tuple((e.id, said(e.hypothesis, WORDS)) for e in state.open() if e.status == "queued"),
            verdicts=tuple(_decided(e, f) for e in reversed(newest)),
            machine=self._machine(lab),
            finished=bool(state.finished),
            seq=state.seq,
            at=now(),
        )

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self.lab.journal.path.stat()
        except OSError:
            return (0, 0)
        return found.st_size, found.st_mtime_ns

    def _read(self) -> Story:
        from lab import morning

        stamp = self._stamp()
        if stamp != self._seen or self._story is None:
            self.lab.read()
            self._story, self._seen = morning.story(self.lab, ""), stamp
        return self._story

    def _machine(self, lab: Lab) -> tuple[str, ...]:
        looked, found = self._devices
        if time.monotonic() - looked >= DEVICES_EVERY:
            found = devices()
            self._devices = time.monotonic(), found
        return (*(device.words for device in found), cores())

    # -- a run at work -----------------------------------------------------------------------------------

    def _work(self, e: Experiment, run: Run) -> Work:
        folder = self.lab.run_dir(run)
        beat = self.lab.runner.heartbeat(folder) or {}
        waits = beat.get("waits_for") or (not beat and self.lab.runner.place(folder))
        elapsed = _float(beat.get("elapsed"))
        age = None if not beat else max(0.0, time.time() - (_float(beat.get("at")) or 0.0))
        running = None if elapsed is None or age is None else elapsed + min(age, SILENT_SECONDS)
        reading = last_reading(_output(folder / "run.log", beat))
        # Its own curve where it writes one: on the axis, and of the loss, that its parent's curve has.
        own = curve_of_file(folder)
        place, loss = own[-1] if own else (reading.step, reading.loss)
        reading = replace(reading, loss=loss)
        parent = self._parent(e)
        theirs = self._curve(parent) if parent else ()
        left, by = time_left(reading, running, self.lab.settings.seconds)
        return Work(
            run=run.id,
            experiment=e.id,
            words=said(f"{waits}: {e.hypothesis}" if waits else e.hypothesis, WORDS),
            seed=run.seed,
            elapsed=running,
            reading=reading,
            parent=parent.id if parent else "",
            parent_loss=None if place is None else at(theirs, place),
            left=left,
            left_by=by,
            silent=age if age is not None and age > SILENT_SECONDS else None,
        )

    def _parent(self, e: Experiment) -> Experiment | None:
        """What the run is compared with: the experiment whose commit it stands on."""
        rows = self.lab.state.experiments.values()
        found = next((row for row in rows if row.commit == e.parent and row.runs and row is not e), None)
        best = self.lab.state.incumbent
        return found or (best if best is not e else None)

    def _curve(self, e: Experiment) -> Curve:
        """The curve of an experiment's first good run, which does not change any more."""
        run = next(iter(e.good_runs), None)
        if run is None:
            return ()
        if run.id not in self._curves:
            self._curves[run.id] = read_curve(self.lab.run_dir(run))
        return self._curves[run.id]


def time_left(reading: Reading, elapsed: float | None, budget: float) -> tuple[float | None, str]:
    """Seconds to the end of a run, and how that is known."""
    if reading.left is not None:
        return reading.left, "as the program says"
    if reading.share and elapsed is not None:
        return elapsed * (1 - reading.share) / reading.share, "by its progress"
    if elapsed is None:
        return None, ""
    return max(0.0, budget - elapsed), "of its budget"


def _decided(e: Experiment, f: Figures) -> Decided:
    gain = e.gain if e.shrunken is None else e.shrunken
    value = "crash" if e.verdict == "crash" else f.value(e.metric)
    return Decided(
        e.id, e.verdict or "", value, "" if gain is None else f.change(gain), said(e.hypothesis, WORDS)
    )


def _output(log: Path, beat: Record) -> bytes:
    """The end of the output; past the log file's bound only the supervisor has it."""
    end, last = read_end(log, TAIL_BYTES), beat.get("last_line")
    beyond = log.exists() and (_float(beat.get("log_bytes")) or 0.0) > log.stat().st_size
    return end + f"\n{last}\n".encode() if beyond and isinstance(last, str) else end


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
