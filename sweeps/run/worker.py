"""python -m sweeps work: runs a sweep's trials, one after another, in this process, and helps with
those of others at the end; a worker of `sweeps run` then flies the best policies."""

from __future__ import annotations

import argparse
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
from optuna.trial import FrozenTrial, TrialState

from lander.signals import DeferredSignals
from lander.terminal import say
from sweeps.endings import ending
from sweeps.hints import hint
from sweeps.lifecycle.losses import requeue_lost
from sweeps.lifecycle.stopping import has_stopped
from sweeps.optuna_private import heartbeat, stored, study_id_of
from sweeps.publish.ahead import fly_ahead
from sweeps.publish.notes import trial_note
from sweeps.record.delivery import deliver_all, drain
from sweeps.record.provenance import environment, source_tags
from sweeps.record.trial_run import is_taken_away, trial_run
from sweeps.record.uncommitted import keep_changes
from sweeps.run.failures import repeated_failure
from sweeps.run.objective import Objective, alone
from sweeps.run.sharing import help_another, sharing
from sweeps.schema import Ending, Role
from sweeps.store.budget_storage import NoTrialLeft
from sweeps.store.disk import is_full, stopping_when_full
from sweeps.store.presence import require_recorded_if_reachable
from sweeps.store.retry import RETRY_SECONDS
from sweeps.store.store import Store
from sweeps.sweep import Sweep, open_sweep


def work(
    store: Store, name: str, *, index: int, seconds: float | None, parent: int | None = None
) -> bool:
    """Run waiting trials of a sweep one after another until none is left, nor a seed of the trials
    of other workers.

    Returns whether MLflow has all records of the trials that ran on this host; with a `parent`,
    which delivers them when its workers have ended, that is not waited for. For a `parent`, which
    then publishes the sweep, the worker flies the leading policies once it has no trial left.

    After `seconds` no further trial begins. An interruption, the end of the process `parent` or a
    full disk ends the running trial as KILLED; the next `run` retries it.
    """
    torch.set_num_threads(1)  # before the first op; results depend on it
    with DeferredSignals() as deferred:

        def check() -> None:
            deferred.check()
            if parent not in (None, os.getppid()) or is_full(store.folder):
                raise KeyboardInterrupt

        try:
            with suppress(NoTrialLeft):
                run_trials(store, name, index=index, seconds=seconds, check=check)
            if parent is not None:
                fly_ahead(open_sweep(store, name), check=check)
        except KeyboardInterrupt:
            if parent is None:
                deliver_rest(store, seconds=0, check=check)
            raise
        return parent is not None or deliver_rest(store, seconds=RETRY_SECONDS, check=check)


def run_worker(args: argparse.Namespace) -> int:
    """Work as one worker; 1, so that a job manager restarts it, if records stay on this host."""
    seconds = args.hours and args.hours * 3600
    store = Store(args.store)
    done = work(store, args.study, index=args.worker, seconds=seconds, parent=args.parent)
    return 0 if done else 1


def run_trials(
    store: Store, name: str, *, index: int, seconds: float | None, check: Callable[[], None]
) -> None:
    """Run trials until time is up, the sweep has stopped by its study, or all of the last ones
    failed for the same reason.

    Raises:
        NoTrialLeft: the budget is used up, and no other worker can be helped.
        KeyboardInterrupt: raised by `check`, between trials or inside of one.
    """
    sweep = open_for_worker(store, name, index=index)
    require_recorded_if_reachable(store, sweep.optuna)  # or every trial would fail
    requeue_lost(sweep)
    objective = stopping_when_full(store.folder, objective_of(sweep, check=check))
    sweep.read_trials()
    gc.collect()
    gc.freeze()  # what is loaded by now stays, and scanning it would take longer than all else
    check()
    until = math.inf if seconds is None else time.monotonic() + seconds
    while time.monotonic() < until and not has_stopped(sweep):
        trial = run_or_help(sweep, objective, check=check)
        check()
        requeue_lost(sweep)
        if trial is not None and ending(trial) in (Ending.FAILED, Ending.RETRIED):
            trials = open_sweep(store, name).read_trials()  # not those that Optuna has cached
            if repeated_failure(trials.all):
                return
        deliver_all(store, now=False)
        give_back_memory()


def run_or_help(
    sweep: Sweep, objective: Callable[[optuna.Trial], float], *, check: Callable[[], None]
) -> FrozenTrial | None:
    """Run the next trial and return it; without one left, help another worker with its trial.

    Raises:
        NoTrialLeft: there is nothing to help with either.
        KeyboardInterrupt: interrupted.
    """
    try:
        return run_next(sweep.optuna, objective)
    except NoTrialLeft:
        if help_another(sweep, check=check):
            return None
        raise


def open_for_worker(store: Store, name: str, *, index: int) -> Sweep:
    """A sweep whose sampler draws other points than those of its other workers."""
    sweep = open_sweep(store, name)
    trials = store.trials().count_trials(study_id_of(sweep.optuna))
    words = (sweep.study.settings.seed, trials, index)
    return open_sweep(
        store, name, sampler_seed=int(np.random.SeedSequence(words).generate_state(1)[0])
    )


def objective_of(sweep: Sweep, *, check: Callable[[], None]) -> Objective:
    """The objective of a sweep, each of whose trials is recorded in an MLflow run of its own."""
    tags, warnings = environment() | source_tags(sys.argv[1:]), list[str]()
    tags |= keep_changes(sweep.store.runs(), sweep.run_id, tags, warnings)
    for warning in warnings:
        say(f"sweeps: warning: {warning}", error=True)
    open_record = partial(
        trial_run,
        store=sweep.store,
        experiment_id=sweep.experiment_id,
        parent_run_id=sweep.run_id,
        role=Role.CONFIRMATION_TRIAL if sweep.study.confirms else Role.TRIAL,
        tags=tags,
        describe=partial(trial_note, sweep, None),
        retries=sweep.study.settings.retries,
    )
    several = sweep.study.settings.seeds_per_trial > 1
    share = partial(sharing, store=sweep.store) if several else alone
    return Objective(sweep.study, open_record, check, share=share)


def deliver_rest(store: Store, *, seconds: float, check: Callable[[], None]) -> bool:
    """Deliver the records of this host that MLflow does not have; whether it has all now."""
    later = f"on this host, {hint('doctor', store.folder)}"
    return drain(store, seconds=seconds, later=later, check=check)


def run_next(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> FrozenTrial:
    """Run the next trial and close it, unless another process has closed it meanwhile.

    Not Optuna's `optimize`, which ends with an error if another process closed its trial, and
    whose time limit follows the wall clock.

    Raises:
        NoTrialLeft: the budget is used up.
        KeyboardInterrupt: interrupted; the trial is closed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats without `optimize`: sent below
        trial = study.ask()
    value: float | None = None
    state: TrialState | None = None
    try:
        with heartbeat(trial):
            value = objective(trial)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except Exception:
        state = TrialState.FAIL  # its record says why
    except KeyboardInterrupt:
        close(study, trial, None, TrialState.FAIL)
        raise
    close(study, trial, value, state)
    return stored(trial)


def close(
    study: optuna.Study, trial: optuna.Trial, value: float | None, state: TrialState | None
) -> None:
    """Tell Optuna how a trial ended, unless another process has."""
    if is_taken_away(trial):
        return
    try:
        study.tell(trial, value, state=state)
    except UpdateFinishedTrialError:
        pass  # another process closed it just now
    except ValueError as error:
        if not str(error).startswith("Cannot tell a "):  # the same, in other words
            raise


def give_back_memory() -> None:
    """Free the memory of the last trial: without this a worker grows by a tenth.

    Cycles of garbage hold whole environments, and the C library keeps the gaps between them.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
