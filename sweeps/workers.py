"""Runs a sweep's waiting trials: in this process, or in N processes that it watches."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial

from lander.interruption import Interruption
from sweeps.objective import Objective
from sweeps.provenance import environment, source_tags
from sweeps.recording import trial_run
from sweeps.storage import NoTrialLeft, Store
from sweeps.sweep import Sweep, open_sweep
from sweeps.watch import Watch

POLL_SECONDS = 0.2
SHOW_SECONDS = 2.0
"""Between two looks at the trials: each is a query of the database that the workers write to."""


def work(store: Store, name: str, *, index: int, seconds: float | None) -> None:
    """Run waiting trials of a sweep one after another until none is left.

    After `seconds` no further trial is begun. An interruption ends the running trial as KILLED;
    the next `run` takes it up again.
    """
    torch.set_num_threads(1)  # before the first op; results depend on it
    with Interruption() as interruption, suppress(NoTrialLeft):
        earlier = len(open_sweep(store, name).trials)
        sampler_seed = int(np.random.SeedSequence((earlier, index)).generate_state(1)[0])
        sweep = open_sweep(store, name, sampler_seed=sampler_seed)
        objective = Objective(
            sweep.study,
            partial(
                trial_run,
                client=store.runs(),
                experiment_id=sweep.experiment_id,
                parent_run_id=sweep.run_id,
                role="confirm" if sweep.study.confirms else "trial",
                tags=environment() | source_tags(sys.argv[1:]),
            ),
            interruption.check,
        )
        gc.freeze()  # what is loaded by now stays: looking through it takes longer than the rest
        sweep.optuna.optimize(
            objective, timeout=seconds, catch=(Exception,), callbacks=[give_back_memory]
        )


def give_back_memory(_study: optuna.Study, _trial: FrozenTrial) -> None:
    """Between trials, or a worker grows by a tenth: cycles of garbage hold whole environments, and
    the C library keeps what is freed in between them."""
    gc.unfreeze()  # or cycles that were alive an hour ago would stay for ever
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def run_workers(sweep: Sweep, *, workers: int, seconds: float | None, watch: Watch) -> None:
    """Start worker processes, show their progress until all have ended.

    Raises:
        RuntimeError: every worker broke down; the message names a log.
        KeyboardInterrupt: after the workers have closed their trials.
    """
    with started(sweep, workers=workers, seconds=seconds) as processes:
        try:
            with watch:
                shown = float("-inf")
                while any(process.poll() is None for process, _ in processes):
                    if time.monotonic() - shown >= SHOW_SECONDS:
                        watch.update(sweep.counted)
                        shown = time.monotonic()
                    time.sleep(POLL_SECONDS)
                watch.update(sweep.counted)
        except KeyboardInterrupt:
            for process, _ in processes:
                process.send_signal(signal.SIGTERM)
            raise
    broken = [log for process, log in processes if process.returncode != 0]
    if len(broken) == len(processes):
        raise RuntimeError(f"every worker broke down, the last words are in {broken[0]}")


@contextmanager
def started(
    sweep: Sweep, *, workers: int, seconds: float | None
) -> Generator[list[tuple[subprocess.Popen[bytes], Path]]]:
    """Worker processes and their logs; on the way out they are waited for."""
    logs = sweep.store.folder / "logs"
    logs.mkdir(exist_ok=True)
    processes: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for index in range(workers):
            log = logs / f"{sweep.study.name}-worker-{index}.log"
            with log.open("ab") as output:
                command = worker_command(sweep, index=index, seconds=seconds)
                environ = os.environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}
                process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
            processes.append((process, log))
        yield processes
    finally:
        for process, _ in processes:
            process.wait()


def worker_command(sweep: Sweep, *, index: int, seconds: float | None) -> Sequence[str]:
    """The command line of one worker, the same that joins from elsewhere."""
    command = [sys.executable, "-m", "sweeps", "work", "--study", sweep.study.name]
    command += ["--store", str(sweep.store.folder), "--worker", str(index)]
    return command if seconds is None else [*command, "--hours", str(seconds / 3600)]
