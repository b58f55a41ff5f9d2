"""One training process from its start to the death of its last descendant.

The loop turns at least every 50 ms and at once when output comes or a child ends, so that an instant
command costs no waiting. No turn blocks: each takes a bounded share of the output, so a gap between two
turns means that the machine slept or starved, and the number measured is worth nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from lab import clock, processes
from lab import early as ending_early
from lab.atomic import write_atomic
from lab.metrics import Scanner
from lab.result import Ending
from lab.runlog import RunLog
from lab.sandbox import limits
from lab.sandbox.box import Box
from lab.sandbox.policy import from_json, temporary
from lab.spec import Spec
from lab.steps import step

TURN_SECONDS = 0.05
SAMPLE_SECONDS = 0.5  # of the tree's memory
HEARTBEAT_SECONDS = 2.0
LOOK_SECONDS = 0.2  # at least, between two looks at the loss
LOOK_BYTES = 20_000  # of the output, for that
SIZE_SECONDS = 5.0  # between two looks at what the run has written
LEFTOVER_GRACE_SECONDS = 3.0  # for what a training process leaves running when it ends by itself
GIVE_UP_SECONDS = 30.0  # after the first KILL: what lives on hangs in the kernel
READ_BYTES, READS_A_TURN = 65_536, 16
KNOWN_KEPT = 256
KILLS_A_TURN = 200


class SandboxFailed(Exception):
    """The sandbox could not be put up around the process: it was not started."""


@dataclass
class Sweep:
    """An end under way: TERM to each process once, KILL to all that is left after the grace."""

    kill_at: float  # monotonic
    asked: set[tuple[int, str]] = field(default_factory=set)
    survivors: int = 0

    @property
    def killing(self) -> bool:
        """Whether the grace is over."""
        return time.monotonic() >= self.kill_at

    @property
    def hopeless(self) -> bool:
        """Whether what still lives will not be ended by a signal."""
        return time.monotonic() > self.kill_at + GIVE_UP_SECONDS

    def turn(self, alive: list[processes.Process]) -> None:
        """Signal what is alive."""
        killing = self.killing
        self.survivors = len(alive)
        for process in alive:
            if killing:
                processes.send(process, signal.SIGKILL)
            elif process.key not in self.asked:
                self.asked.add(process.key)
                processes.send(process, signal.SIGTERM)
                processes.send(process, signal.SIGCONT)  # a stopped process sees TERM only when it goes on


class Watch:
    """A training process being watched; `run` returns when it and everything it started is dead."""

    def __init__(
        self, run_dir: Path, spec: Spec, log: RunLog, scanner: Scanner, box: Box | None = None
    ) -> None:
        self.run_dir, self.spec, self.log, self.scanner = run_dir, spec, log, scanner
        self.box = box or Box({"kind": "off"})
        self.known: set[tuple[int, str]] = set()
        self.stopped: str | None = None
        self.detail = ""
        self.status: int | None = None
        self.seconds = 0.0
        self.rss_mb = self.peak_rss_mb = 0.0
        self.sweep: Sweep | None = None
        self.sandbox: dict[str, object] = {}  # what the training lives in
        self.output = -1  # the reading end of the training's stdout and stderr
        self._more = False  # whether the last turn left output behind
        self._next_sample = self._next_heartbeat = self._next_size = self._next_look = 0.0
        terms = ending_early.terms_of(spec.early)
        self.judge = ending_early.Judge(terms) if terms else None
        self.policy = from_json(spec.sandbox)

    def run(self, environment: dict[str, str]) -> Ending:
        """Start the training and see it to its end. Raises OSError when it cannot be started."""
        processes.adopt_orphans()
        oom_kills = processes.oom_kills()
        self._listen()
        try:
            self._spawn(environment)
            step("supervisor.spawned")
            while not self._turn():
                pass
            step("supervisor.tree_dead")
            for _ in range(4 * READS_A_TURN):
                if not self._pump():
                    break
        finally:
            self._close()
        assert self.status is not None
        survivors = self.sweep.survivors if self.sweep else 0
        return Ending(
            status=self.status,
            seconds=self.seconds,
            stopped=self.stopped,
            detail=self.detail,
            peak_rss_mb=self.peak_rss_mb,
            survivors=survivors,
            oom_kills=processes.oom_kills() - oom_kills,
        )

    def stop(self, reason: str, detail: str) -> None:
        """End the whole tree; the first reason counts."""
        if self.stopped is None and self.status is None:
            self.stopped, self.detail = reason, detail
            self.sweep = Sweep(time.monotonic() + self.spec.grace)

    # -- start and end ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Let a child's end and a signal to us wake the loop."""
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        # Handled and not ignored: what is ignored here would stay ignored in the training.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_end)

    def _asked_to_end(self, number: int, _frame: FrameType | None) -> None:
        if (self.run_dir / "cancel").exists():  # an engine ends a job by a signal
            self.stop("cancelled", "cancelled on request")
        self.stop("interrupted", f"the supervisor was asked to end by {signal.Signals(number).name}")

    def _spawn(self, environment: dict[str, str]) -> None:
        self.output, write_end = os.pipe()
        os.set_blocking(self.output, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, READ_BYTES * READS_A_TURN)
        me = os.getpid()
        self.first = self.last = clock.sample()
        try:
            self.child = subprocess.Popen(
                self.box.argv(self.spec.argv),
                cwd=self.spec.cwd,
                env=environment | self.box.variables,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                preexec_fn=lambda: self._become(me),
            )
        except subprocess.SubprocessError as error:
            raise SandboxFailed(str(error)) from error
        finally:
            os.close(write_end)
            self.sandbox = self.box.in_force()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wake, selectors.EVENT_READ)
        self.selector.register(self.output, selectors.EVENT_READ)

    def _become(self, parent: int) -> None:
        """In the child: enter the sandbox; then the tie to us, which a change of rights would undo."""
        if self.box.enter:
            self.box.enter()
        processes.die_with(parent)

    def _close(self) -> None:
        """Leave nothing running, whatever went wrong here."""
        if hasattr(self, "child"):
            for process in processes.of_run(os.getpid(), self.known, self.spec.cookie):
                processes.send(process, signal.SIGKILL)
            processes.kill_children()
        signal.set_wakeup_fd(-1)

    # -- one turn --------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what is due now; whether everything is over."""
        if not self._more:
            self.selector.select(TURN_SECONDS)
        now = clock.sample()
        self._pump()
        if self.status is None:
            self._judge(now)
            self._reap()
            self._observe(now.monotonic)
        else:
            self._reap()
        self.last = now
        return self._swept()

    def _pump(self) -> bool:
        """Take a bounded share of the output; whether there may be more at once."""
        self._drain_wake()
        self._more = False
        for _ in range(READS_A_TURN):
            if self.output < 0:
                return False
            try:
                data = os.read(self.output, READ_BYTES)
            except BlockingIOError:
                return False
            if data:
                self.log.write(data)
                self.scanner.feed(data)
            else:
                self.selector.unregister(self.output)
                os.close(self.output)
                self.output = -1
        self._more = True
        return True

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)

    def _judge(self, now: clock.ClockSample) -> None:
        """See whether the training has to end, and why; a frozen machine explains an overrun."""
        why = clock.interruption(self.first, self.last, now, self.spec.gap_seconds)
        if why:
            self.stop("interrupted", why)
        if (self.run_dir / "cancel").exists():
            self.stop("cancelled", "cancelled on request")
        if now.monotonic - self.first.monotonic > self.spec.kill_after:
            self.stop("timeout", f"still running after {self.spec.kill_after:g} s")

    def _reap(self) -> bool:
        """Bury every dead child, the adopted ones too, and note how the training ended; whether one lives.

        Since orphans are adopted, having no child is having no descendant (Linux).
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid != self.child.pid:
                continue
            self.seconds = time.monotonic() - self.first.monotonic
            self.status = self.child.returncode = status
            largest_mb = usage.ru_maxrss / (2**10 if processes.LINUX else 2**20)
            self.peak_rss_mb = max(self.peak_rss_mb, largest_mb)
            step("supervisor.child_ended")
            if self.sweep is None:
                self.sweep = Sweep(time.monotonic() + min(LEFTOVER_GRACE_SECONDS, self.spec.grace))

    def _swept(self) -> bool:
        if self.sweep is None:
            return False
        alive = processes.of_run(os.getpid(), self.known, self.spec.cookie)
        self.known.update(process.key for process in alive)
        self.sweep.turn(alive)
        children = self._reap()
        for _ in range(KILLS_A_TURN if self.sweep.killing else 0):
            if not children:
                break
            processes.kill_children()
            children = self._reap()
        if not (alive or children) and not processes.LINUX:  # a table may miss a process that just forked
            alive = processes.of_run(None, self.known, self.spec.cookie)
        if self.sweep.hopeless and self.status is None:  # it hangs in the kernel; nobody can say how it ends
            self.status, self.seconds = int(signal.SIGKILL), time.monotonic() - self.first.monotonic
        return self.sweep.hopeless or not (alive or children)

    # -- what others can see ---------------------------------------------------------------------------

    def _observe(self, now: float) -> None:
        """Sample the tree's memory and show signs of life, each when due."""
        spent = time.process_time()
        if now >= self._next_sample:
            alive = processes.of_run(os.getpid(), self.known)
            self.known = {process.key for process in alive}
            self.rss_mb = sum(process.rss_mb for process in alive)
            self.peak_rss_mb = max(self.peak_rss_mb, self.rss_mb)
            self._stop_over(limits.too_many(self.policy, len(alive)))
            cost = time.process_time() - spent  # and no moment in which this process was frozen
            self._next_sample = now + max(SAMPLE_SECONDS, 50 * cost)  # at most 2 % of a core
        if now >= self._next_size:
            folders = [self.spec.tree, self.run_dir, temporary(self.spec.cookie)]
            self._stop_over(limits.too_large(self.policy, folders))
            self._next_size = now + max(SIZE_SECONDS, 50 * (time.monotonic() - now))
        if self.judge and now >= self._next_look:
            self._look(self.judge, now)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            self._heartbeat(now)

    def _look(self, judge: ending_early.Judge, now: float) -> None:
        """End a run that is worth no more of its budget."""
        elapsed = now - self.first.monotonic
        outcome, reason = judge.look(self.log.tail(LOOK_BYTES), elapsed)
        if outcome:
            self.stop(outcome, reason)
        self._next_look = now + max(LOOK_SECONDS, judge.terms.seconds / ending_early.LOOKS)

    def _stop_over(self, limit: str) -> None:
        if limit:
            self.stop("limit", limit)

    def _heartbeat(self, now: float) -> None:
        beat = {
            "at": time.time(),
            "elapsed": round(now - self.first.monotonic, 3),
            "rss_mb": round(self.rss_mb, 1),
            "log_bytes": self.log.total,
            "last_line": self.scanner.last_line,
            # For `reap` after our own death: descendants whose environment no longer names the run.
            "tree": sorted(self.known)[:KNOWN_KEPT],
        }
        with contextlib.suppress(OSError):  # a full disk ends the heartbeat and not the run
            write_atomic(self.run_dir / "heartbeat.json", json.dumps(beat), durable=False)
