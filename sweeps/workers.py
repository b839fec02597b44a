"""Runs a sweep's trials, one after another, in this process."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from lander.interruption import Interruption
from sweeps.budget import NoTrialLeft
from sweeps.delivery import deliver_all, hand_over
from sweeps.disk import is_full, unless_full
from sweeps.failures import bug
from sweeps.hints import hint
from sweeps.objective import Objective
from sweeps.patience import PATIENCE
from sweeps.provenance import environment, source_tags
from sweeps.recording import TakenAway, trial_run
from sweeps.storage import Store
from sweeps.sweep import open_sweep, take_back


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

    def run_trials() -> None:
        earlier = len(open_sweep(store, name).trials)
        sampler_seed = int(np.random.SeedSequence((earlier, index)).generate_state(1)[0])
        sweep = open_sweep(store, name, sampler_seed=sampler_seed)
        take_back(sweep)
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

        def between_trials(study: optuna.Study, trial: FrozenTrial) -> None:
            check()
            take_back(sweep)
            if trial.state == TrialState.FAIL and bug(open_sweep(store, name).counted):
                study.stop()
            deliver_all(store, now=False)
            give_back_memory()

        gc.collect()
        gc.freeze()  # what is loaded by now stays: looking through it takes longer than all else
        check()
        until = None if seconds is None else time.monotonic() + seconds
        taken_away = True
        while taken_away:
            try:
                sweep.optuna.optimize(
                    unless_full(store.folder, objective),
                    timeout=until and until - time.monotonic(),
                    catch=(Exception,),
                    callbacks=[between_trials],
                )
                taken_away = False
            except TakenAway:
                check()

    def close(*, patience: float) -> None:
        if parent is None:  # who has started workers here sees to it when all of them have ended
            later = f"on this host, {hint('doctor', store.folder)}"
            hand_over(store, seconds=patience, later=later, check=check)

    with Interruption() as interruption:
        try:
            with suppress(NoTrialLeft):
                run_trials()
        except KeyboardInterrupt:
            close(patience=0)
            raise
        close(patience=PATIENCE)


def give_back_memory() -> None:
    """Between trials, or a worker grows by a tenth: cycles of garbage hold whole environments, and
    the C library keeps what is freed in between them."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
