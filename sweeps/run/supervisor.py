"""Supervises the workers of a sweep, on this machine or on others, until the sweep is over."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from optuna.trial import TrialState

from lander.signals import DeferredSignals
from lander.terminal import say
from sweeps.endings import SUPERSEDING, ending
from sweeps.hints import hint
from sweeps.lifecycle.losses import requeue_lost
from sweeps.publish.page import sweep_url
from sweeps.run.failures import repeated_failure
from sweeps.run.fork_server import ForkServer
from sweeps.run.local import LocalLauncher
from sweeps.run.progress import ProgressTable, clock, tally
from sweeps.store.disk import is_full, require_space
from sweeps.store.trials import Trials
from sweeps.sweep import Sweep

POLL_SECONDS = 0.2
"""Between two looks at the workers."""
LOOK_SECONDS = 2.0
"""Between two looks at the trials: each queries the database that the workers write to."""
PUBLISHED_WITH = ("sweeps.charts.search", "sweeps.health.examination")
"""Modules that publishing needs, whose imports take seconds."""


class Worker(Protocol):
    """A worker that a launcher has started."""

    @property
    def ended(self) -> bool:
        """Whether it has ended, well or not."""

    @property
    def failure(self) -> str:
        """Why a worker that has ended broke down, or where to read that; empty if it did not."""

    def interrupt(self) -> None:
        """Let it close its trial and end; without effect on one that has ended."""

    def kill(self) -> None:
        """End it at once; without effect on one that has ended."""


class Launcher(Protocol):
    """Starts workers."""

    remote: bool
    """Whether they run on other hosts, where only heartbeats show which trials still run."""

    @property
    def slots(self) -> int:
        """How many workers can run at the same time."""

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Worker:
        """Start a worker that begins no trial after `seconds`."""


@dataclass
class Supervisor:
    """Starts the workers of a sweep, replaces those that died, and interrupts them on Ctrl-C."""

    sweep: Sweep
    launcher: Launcher
    size: int
    """How many workers to keep running; 0: start none, only watch those of other commands."""
    seconds: float | None
    """Start no worker after this time."""
    workers: list[Worker] = field(default_factory=list)
    """All that were started, including those that have ended."""
    _superseded_before: int = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _signals: int = 0

    def __post_init__(self) -> None:
        self._superseded_before = superseded(self.sweep.read_trials())

    @property
    def alive(self) -> int:
        return sum(not worker.ended for worker in self.workers)

    @property
    def failures(self) -> list[str]:
        """Why workers broke down, in the order in which they were started."""
        return [worker.failure for worker in self.workers if worker.ended and worker.failure]

    @property
    def time_is_up(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._started >= self.seconds

    @property
    def interrupted(self) -> bool:
        return self._signals > 0

    def heed(self, signals: int) -> bool:
        """Interrupt the workers if a first signal has arrived by now; whether it just has.

        Raises:
            KeyboardInterrupt: a second one has arrived; the workers are killed.
        """
        if signals <= self._signals:
            return False
        if self._signals:
            self.kill()
            raise KeyboardInterrupt
        self._signals = signals  # some senders send two at once: they count as one
        self.interrupt()
        running = self.sweep.read_trials().running
        doing = "closing the running trials" if running else "ending the workers"
        print(f"\n{doing}; press Ctrl-C again to kill them", file=sys.stderr)
        return True

    def look(self) -> Trials:
        """Read the trials, queue the lost ones again, and start the workers that are missing."""
        if self.interrupted or is_full(self.sweep.store.folder):
            return self.sweep.read_trials()
        requeue_lost(self.sweep)
        trials = self.sweep.read_trials()
        self._start_missing(trials)
        return trials

    def _start_missing(self, trials: Trials) -> None:
        """Start a worker for each training left, as far as `size` allows: one that gets no trial
        helps with the seeds of another's.

        Besides the first `size` workers one more may start for each trial that was lost or
        interrupted: workers that cannot even begin a trial are not restarted forever.
        """
        more = superseded(trials) - self._superseded_before
        allowed = self.size + more - len(self.workers)
        left = trials.left * self.sweep.study.settings.seeds_per_trial
        missing = min(left, self.size - self.alive, allowed)
        for _ in range(0 if self.time_is_up or trials.stopped else missing):
            seconds = self.seconds and self.seconds - (time.monotonic() - self._started)
            index = len(self.workers)
            self.workers.append(self.launcher.start(self.sweep, index=index, seconds=seconds))

    def over(self, trials: Trials) -> bool:
        """Whether nothing is left to do or to wait for."""
        if self.alive:
            return False
        if self.interrupted or (self.size and not (self.launcher.remote and self.failures)):
            return True
        return not trials.running and (self.size > 0 or self.time_is_up or trials.over)

    def interrupt(self) -> None:
        for worker in self.workers:
            worker.interrupt()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


def superseded(trials: Trials) -> int:
    """How many trials another one retries."""
    return sum(ending(trial) in SUPERSEDING for trial in trials.all)


def run_workers(supervisor: Supervisor, *, table: ProgressTable) -> bool:
    """Run workers and show their progress until the sweep is over; False if interrupted.

    A trial whose worker died is retried once, by another worker. The first Ctrl-C lets the workers
    close their trials, the second kills them.

    Raises:
        RuntimeError: trials are left because the disk is full or the workers broke down.
        KeyboardInterrupt: interrupted twice.
    """
    with DeferredSignals() as deferred:
        try:
            with table:
                trials = supervise(supervisor, table=table, deferred=deferred)
        finally:
            supervisor.interrupt()
            while supervisor.alive:
                time.sleep(POLL_SECONDS)
    if supervisor.interrupted:
        return False
    stopped = supervisor.time_is_up or trials.stopped or repeated_failure(trials.all)
    if supervisor.failures and trials.left and not stopped:
        require_space(supervisor.sweep.store.folder)
        raise RuntimeError(f"the workers broke down: {supervisor.failures[-1]}")
    return True


def supervise(supervisor: Supervisor, *, table: ProgressTable, deferred: DeferredSignals) -> Trials:
    """Look at workers and trials until the sweep is over; the trials at the last look."""
    due, idle = float("-inf"), True
    while True:
        if supervisor.heed(deferred.signals) or (not idle and not supervisor.alive):
            due = float("-inf")
        if time.monotonic() >= due:
            idle = not supervisor.alive  # before the trials: a worker closes its trial, then ends
            trials = supervisor.look()
            table.update(trials.counted)
            if idle and supervisor.over(trials):
                return trials
            due, idle = time.monotonic() + LOOK_SECONDS, not supervisor.alive
            if not trials.left:
                for module in PUBLISHED_WITH:  # now, or publishing would wait for them
                    import_module(module)
        time.sleep(POLL_SECONDS)


def run_trials_left(
    sweep: Sweep,
    *,
    launcher: Launcher | None = None,
    workers: int | None,
    seconds: float | None = None,
) -> bool:
    """Run the trials that are left with so many workers, or one per slot; False if interrupted.

    Without a launcher the workers run on this machine.
    """
    if launcher is None:
        with ForkServer() as server:
            local = LocalLauncher(server)
            return run_trials_left(sweep, launcher=local, workers=workers, seconds=seconds)
    study, trials = sweep.study, sweep.read_trials()
    trainings = trials.left * study.settings.seeds_per_trial
    workers = min(launcher.slots if workers is None else workers, trainings)
    begun = f"starting {study.name}: {trials.total} trials to go"
    if any(trial.state != TrialState.WAITING for trial in trials.all):
        done = trials.total - trials.left - trials.running
        begun = f"resuming {study.name}: {done} of {trials.total} done, {trials.left} to go"
    print(f"{begun}, workers: {workers}", flush=True)
    table = ProgressTable(study, trials=trials.total, look=where_to_look(sweep))
    finished = run_workers(Supervisor(sweep, launcher, workers, seconds), table=table)
    say(f"{study.name}: {outcome(sweep.read_trials(), finished=finished, seconds=table.elapsed)}")
    if not finished:
        rest = "publish it" if sweep.read_trials().over else "resume"
        print(f"interrupted; run the same command to {rest}", file=sys.stderr)
    return finished


def where_to_look(sweep: Sweep) -> str:
    """How to look at the trials in MLflow while they run."""
    if sweep.store.tracked_remotely:
        return sweep_url(sweep)
    return f"{hint('ui', sweep.store.folder)}  (trials appear while they run)"


def outcome(trials: Trials, *, finished: bool, seconds: float) -> str:
    """How it came to an end after so many seconds, and how all trials ended until now."""
    left = trials.left + trials.running
    word = ("stopped after" if left else "done in") if finished else "interrupted after"
    return f"{word} {clock(seconds)}; {tally(trials.all)}" + (f", {left} left" if left else "")
