"""Runs a sweep's trials, one after another, in this process."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from lander.signals import DeferredSignals
from sweeps.endings import ending
from sweeps.hints import hint
from sweeps.lifecycle.losses import requeue_lost
from sweeps.record.delivery import deliver_all, drain
from sweeps.record.provenance import environment, source_tags
from sweeps.record.recorder import is_taken_away, trial_run
from sweeps.run.failures import bug
from sweeps.run.objective import Objective
from sweeps.schema import Ending, Role
from sweeps.store.disk import is_full, stopping_when_full
from sweeps.store.presence import require_recorded_if_reachable
from sweeps.store.retry import RETRY_SECONDS
from sweeps.store.store import Store
from sweeps.store.trials import NoTrialLeft
from sweeps.sweep import open_sweep


def work(
    store: Store, name: str, *, index: int, seconds: float | None, parent: int | None = None
) -> bool:
    """Run waiting trials of a sweep one after another until none is left.

    False if records of trials that ran on this host still wait for MLflow; with a `parent`, which
    delivers them, that is not looked at.

    After `seconds` no further trial is begun. An interruption ends the running trial as KILLED, as
    does the end of the process `parent`, or a full disk; the next `run` takes it up again.
    """
    torch.set_num_threads(1)  # before the first op; results depend on it

    def check() -> None:
        interruption.check()
        if parent not in (None, os.getppid()) or is_full(store.folder):
            raise KeyboardInterrupt

    def run_trials() -> None:
        so_far = open_sweep(store, name)
        words = (so_far.study.settings.seed, len(so_far.read_trials().all), index)
        sampler_seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        sweep = open_sweep(store, name, sampler_seed=sampler_seed)
        require_recorded_if_reachable(store, sweep.optuna)  # or every trial would fail
        requeue_lost(sweep)
        objective = Objective(
            sweep.study,
            partial(
                trial_run,
                store=store,
                experiment_id=sweep.experiment_id,
                parent_run_id=sweep.run_id,
                role=Role.CONFIRMATION_TRIAL if sweep.study.confirms else Role.TRIAL,
                tags=environment() | source_tags(sys.argv[1:]),
            ),
            check,
        )

        gc.collect()
        gc.freeze()  # what is loaded by now stays: looking through it takes longer than all else
        check()
        until = math.inf if seconds is None else time.monotonic() + seconds
        while time.monotonic() < until:
            trial = run_next(sweep.optuna, stopping_when_full(store.folder, objective))
            check()
            requeue_lost(sweep)
            if ending(trial) == Ending.FAILED and bug(
                open_sweep(store, name).read_trials().counted
            ):
                return
            deliver_all(store, now=False)
            give_back_memory()

    def finish(*, patience: float) -> bool:
        if parent is not None:  # sees to it when all workers that it started have ended
            return True
        later = f"on this host, {hint('doctor', store.folder)}"
        return drain(store, seconds=patience, later=later, check=check)

    with DeferredSignals() as interruption:
        try:
            with suppress(NoTrialLeft):
                run_trials()
        except KeyboardInterrupt:
            finish(patience=0)
            raise
        return finish(patience=RETRY_SECONDS)


def run_next(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> FrozenTrial:
    """Run the next trial and close it, unless others have by then.

    Not Optuna's `optimize`, which ends with an error where a trial was taken away from it, and
    whose time limit follows the wall clock.

    Raises:
        NoTrialLeft: there is none.
        KeyboardInterrupt: interrupted; the trial is closed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats without `optimize`: see below
        trial = study.ask()
    value: float | None = None
    state: TrialState | None = None
    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):
            value = objective(trial)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except Exception:
        state = TrialState.FAIL  # its record says why
    except KeyboardInterrupt:
        close(study, trial, None, TrialState.FAIL)
        raise
    close(study, trial, value, state)
    return study._storage.get_trial(trial._trial_id)


def close(
    study: optuna.Study, trial: optuna.Trial, value: float | None, state: TrialState | None
) -> None:
    """Tell Optuna how a trial ended, unless others have."""
    if is_taken_away(trial):
        return
    try:
        study.tell(trial, value, state=state)
    except UpdateFinishedTrialError:
        pass  # just now
    except ValueError as error:
        if not str(error).startswith("Cannot tell a "):  # likewise
            raise


def give_back_memory() -> None:
    """Between trials, or a worker grows by a tenth: cycles of garbage hold whole environments, and
    the C library keeps what is freed in between them."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
