"""Runs a sweep's waiting trials: in this process, or in N processes that it watches."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from lander.interruption import Interruption
from sweeps.delivery import deliver_all
from sweeps.disk import is_full, require_room, unless_full
from sweeps.failures import bug
from sweeps.objective import Objective
from sweeps.provenance import environment, source_tags
from sweeps.recording import trial_run
from sweeps.storage import NoTrialLeft, Store
from sweeps.sweep import Sweep, open_sweep, recover
from sweeps.watch import Watch

POLL_SECONDS = 0.2
SHOW_SECONDS = 2.0
"""Between two looks at the trials: each is a query of the database that the workers write to."""


def work(
    store: Store, name: str, *, index: int, seconds: float | None, parent: int | None = None
) -> None:
    """Run waiting trials of a sweep one after another until none is left.

    After `seconds` no further trial is begun. An interruption ends the running trial as KILLED, as
    does the end of the process `parent`, or a full disk; the next `run` takes it up again.
    """
    torch.set_num_threads(1)  # before the first op; results depend on it

    def check() -> None:
        interruption.check()
        if parent not in (None, os.getppid()) or is_full(store.folder):
            raise KeyboardInterrupt

    def between_trials(study: optuna.Study, trial: FrozenTrial) -> None:
        check()
        if trial.state == TrialState.FAIL and bug(open_sweep(store, name).counted):
            study.stop()
        deliver_all(store, now=False)
        give_back_memory()

    with Interruption() as interruption, suppress(NoTrialLeft):
        earlier = len(open_sweep(store, name).trials)
        sampler_seed = int(np.random.SeedSequence((earlier, index)).generate_state(1)[0])
        sweep = open_sweep(store, name, sampler_seed=sampler_seed)
        objective = Objective(
            sweep.study,
            partial(
                trial_run,
                store=store,
                experiment_id=sweep.experiment_id,
                parent_run_id=sweep.run_id,
                role="confirm" if sweep.study.confirms else "trial",
                tags=environment() | source_tags(sys.argv[1:]),
            ),
            check,
        )
        gc.freeze()  # what is loaded by now stays: looking through it takes longer than the rest
        check()
        sweep.optuna.optimize(
            unless_full(store.folder, objective),
            timeout=seconds,
            catch=(Exception,),
            callbacks=[between_trials],
        )


def give_back_memory() -> None:
    """Between trials, or a worker grows by a tenth: cycles of garbage hold whole environments, and
    the C library keeps what is freed in between them."""
    gc.unfreeze()  # or cycles that were alive an hour ago would stay for ever
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def run_workers(sweep: Sweep, *, workers: int, seconds: float | None, watch: Watch) -> bool:
    """Start worker processes, show their progress until all have ended; False if interrupted.

    A trial whose worker died is tried again, once, by another worker. The first Ctrl-C lets the
    workers close their trials, the second kills them.

    Raises:
        RuntimeError: trials are left because the disk is full or the workers broke down.
        KeyboardInterrupt: interrupted twice.
    """
    crew = Crew(sweep, workers, seconds)
    told = 0
    with Interruption() as interruption:
        try:
            with watch:
                shown = float("-inf")
                while True:
                    if interruption.signals > told:
                        if told:
                            crew.send(signal.SIGKILL)
                            raise KeyboardInterrupt
                        told = interruption.signals  # some senders say it twice at once
                        crew.send(signal.SIGTERM)
                        print("\nclosing the running trials; Ctrl-C again kills", file=sys.stderr)
                    ended = not crew.alive
                    if ended or time.monotonic() - shown >= SHOW_SECONDS:
                        if not told and not is_full(sweep.store.folder):
                            crew.replenish()
                        watch.update(sweep.counted)
                        shown = time.monotonic()
                    if ended and not crew.alive:
                        break
                    time.sleep(POLL_SECONDS)
        finally:
            crew.send(signal.SIGTERM)
            crew.wait()
    if told:
        return False
    broken = [log for process, log in crew.processes if process.returncode]
    if broken and sweep.waiting and not crew.time_is_up and not bug(sweep.counted):
        require_room(sweep.store.folder)
        raise RuntimeError(f"the workers broke down, the last words of one are in {broken[-1]}")
    return True


@dataclass
class Crew:
    """The worker processes of a sweep and their logs, those that have ended among them."""

    sweep: Sweep
    size: int
    """How many are to work at the same time."""
    seconds: float | None
    processes: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)
    _retries: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> int:
        return sum(process.poll() is None for process, _ in self.processes)

    @property
    def time_is_up(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._started >= self.seconds

    def replenish(self) -> None:
        """Take back the trials of workers that died; start whom the waiting trials need.

        One worker for each retry besides the first `size`: one that cannot even begin is not
        started for ever.
        """
        with self.sweep.store.lock:
            self._retries += recover(self.sweep)
        allowed = self.size + self._retries - len(self.processes)
        wanted = min(len(self.sweep.waiting), self.size - self.alive, allowed)
        for _ in range(0 if self.time_is_up else wanted):
            self._start()

    def _start(self) -> None:
        index = len(self.processes)
        left = self.seconds and self.seconds - (time.monotonic() - self._started)
        folder = self.sweep.store.folder / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{self.sweep.study.name}-worker-{index}.log"
        with log.open("ab") as output:
            command = worker_command(self.sweep, index=index, seconds=left)
            environ = os.environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
        self.processes.append((process, log))

    def send(self, number: signal.Signals) -> None:
        for process, _ in self.processes:
            process.send_signal(number)  # nothing to one that has ended

    def wait(self) -> None:
        for process, _ in self.processes:
            process.wait()


def worker_command(sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
    """The command line of one worker; without --parent the same that joins from elsewhere."""
    command = [sys.executable, "-m", "sweeps", "work", "--study", sweep.study.name]
    command += ["--store", str(sweep.store.folder), "--worker", str(index)]
    command += ["--parent", str(os.getpid())]
    return command if seconds is None else [*command, "--hours", str(seconds / 3600)]
