"""Watches over the workers of a sweep, wherever they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from lander.files import inside
from lander.signals import DeferredSignals
from lander.trust import inherited
from sweeps.endings import SUPERSEDING, ending
from sweeps.lifecycle.losses import requeue_lost
from sweeps.run.cores import usable_cores
from sweeps.run.failures import bug
from sweeps.run.progress import ProgressTable
from sweeps.store.disk import is_full, require_space
from sweeps.store.snapshot import Trials
from sweeps.sweep import Sweep

POLL_SECONDS = 0.2
SHOW_SECONDS = 2.0
"""Between two looks at the trials: each is a query of the database that the workers write to."""


class Worker(Protocol):
    """A worker that was started."""

    @property
    def ended(self) -> bool:
        """It is over, well or not."""

    @property
    def trouble(self) -> str:
        """Where to read why it broke down; empty if it did not."""

    def interrupt(self) -> None:
        """Let it close its trial. Nothing to one that has ended."""

    def kill(self) -> None:
        """At once. Nothing to one that has ended."""


class Launcher(Protocol):
    """Starts workers."""

    elsewhere: bool
    """On other hosts, which can be lost: only heartbeats tell what was running there."""

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Worker:
        """One that begins no trial after `seconds`."""

    @property
    def places(self) -> int:
        """How many workers there is room for."""


class Process:
    """A worker on this machine."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        """`environ` is added to the environment of this process."""
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=os.environ | environ
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def trouble(self) -> str:
        return f"see {self._log}" if self._process.returncode else ""

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()


class LocalLauncher:
    """Starts workers on this machine."""

    elsewhere = False

    @property
    def places(self) -> int:
        return usable_cores()

    def start(self, sweep: Sweep, *, index: int, seconds: float | None) -> Worker:
        """Its log is STORE/logs/STUDY-worker-INDEX.log."""
        folder = inside(sweep.store.folder, sweep.store.folder / "logs")
        folder.mkdir(exist_ok=True)
        log = inside(folder, folder / f"{sweep.study.name}-worker-{index}.log")
        command = worker_command(sweep, index=index, seconds=seconds)
        return Process(command, log, {"OMP_NUM_THREADS": "1"} | inherited(sweep.store.origin))


HERE: Final = LocalLauncher()


def worker_command(sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
    """The command line of one worker; without --parent the same that joins from elsewhere."""
    command = [sys.executable, "-m", "sweeps", "work", "--study", sweep.study.name]
    command += ["--store", str(sweep.store.folder), "--worker", str(index)]
    command += ["--parent", str(os.getpid())]
    return command if seconds is None else [*command, "--hours", str(seconds / 3600)]


@dataclass
class Supervisor:
    """The workers of a sweep, those that have ended among them."""

    sweep: Sweep
    launcher: Launcher
    size: int
    """How many are to work at the same time; 0 to leave it to those who join from elsewhere."""
    seconds: float | None
    workers: list[Worker] = field(default_factory=list)
    _superseded_before: int = field(init=False)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._superseded_before = superseded(self.sweep.read_trials())

    @property
    def alive(self) -> int:
        return sum(not worker.ended for worker in self.workers)

    @property
    def troubles(self) -> list[str]:
        """What workers that broke down have left."""
        return [worker.trouble for worker in self.workers if worker.ended and worker.trouble]

    @property
    def time_is_up(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._started >= self.seconds

    def over(self, trials: Trials) -> bool:
        """Whether nothing is left to do or to wait for."""
        if self.alive:
            return False
        if self.size and not (self.launcher.elsewhere and self.troubles):
            return True
        if self.size or self.time_is_up:
            return not trials.running
        return not trials.running and not trials.left

    def restart_missing(self) -> Trials:
        """Take back the trials of workers that died; start whom the trials that are left need.

        One worker for each trial that was lost or interrupted, besides the first `size`: one that
        cannot even begin is not started for ever.
        """
        trials = requeue_lost(self.sweep)
        more = superseded(trials) - self._superseded_before
        allowed = self.size + more - len(self.workers)
        wanted = min(trials.left, self.size - self.alive, allowed)
        for _ in range(0 if self.time_is_up else wanted):
            left = self.seconds and self.seconds - (time.monotonic() - self._started)
            index = len(self.workers)
            self.workers.append(self.launcher.start(self.sweep, index=index, seconds=left))
        return trials

    def interrupt(self) -> None:
        for worker in self.workers:
            worker.interrupt()

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


def superseded(trials: Trials) -> int:
    """How many trials were lost or interrupted, each to be retried once more."""
    return sum(ending(trial) in SUPERSEDING for trial in trials.all)


def run_workers(crew: Supervisor, *, watch: ProgressTable) -> bool:
    """Start workers, show their progress until all have ended; False if interrupted.

    A trial whose worker died is tried again, once, by another worker. The first Ctrl-C lets the
    workers close their trials, the second kills them.

    Raises:
        RuntimeError: trials are left because the disk is full or the workers broke down.
        KeyboardInterrupt: interrupted twice.
    """
    sweep = crew.sweep
    told = 0
    with DeferredSignals() as interruption:
        try:
            with watch:
                shown = float("-inf")
                while True:
                    if interruption.signals > told:
                        if told:
                            crew.kill()
                            raise KeyboardInterrupt
                        told = interruption.signals  # some senders say it twice at once
                        crew.interrupt()
                        print("\nclosing the running trials; Ctrl-C again kills", file=sys.stderr)
                    ended = not crew.alive
                    if ended or time.monotonic() - shown >= SHOW_SECONDS:
                        if told or is_full(sweep.store.folder):
                            trials = sweep.read_trials()
                        else:
                            trials = crew.restart_missing()
                        watch.update(trials.counted)
                        shown = time.monotonic()
                        if ended and not crew.alive and (told or crew.over(trials)):
                            break
                    time.sleep(POLL_SECONDS)
        finally:
            crew.interrupt()
            while crew.alive:
                time.sleep(POLL_SECONDS)
    if told:
        return False
    if crew.troubles and trials.left and not crew.time_is_up and not bug(trials.counted):
        require_space(sweep.store.folder)
        raise RuntimeError(f"the workers broke down: {crew.troubles[-1]}")
    return True
