"""Detects the trials that lost their worker, and closes them so that they are retried."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import root
from sweeps.optuna_private import id_of, study_id_of
from sweeps.record.delivery import close_run, deliver_all
from sweeps.schema import REASON, WORKER, Reason
from sweeps.store.worker_id import is_gone
from sweeps.sweep import Sweep


def recover(sweep: Sweep) -> None:
    """Close the trials that lost their worker: the next worker that asks for a trial retries them.

    The caller holds the store's lock, and calls `deliver_all` later to deliver their last records.

    Not Optuna's `RetryHeartbeatStaleTrialCallback`: its retry has a new number, hence other
    seeds; it copies the run and the worker of the lost trial, and ignores the lock on the budget.
    """
    trials = sweep.read_trials().all
    before = {root(trial) for trial in trials if trial.user_attrs.get(REASON) == Reason.LOST}
    for trial in find_lost(sweep):
        reason = Reason.LOST_AGAIN if root(trial) in before else Reason.LOST
        before.add(root(trial))
        close_run(sweep.store, sweep.study.name, trial, reason=reason)
        sweep.fail(trial, reason)


def requeue_lost(sweep: Sweep) -> None:
    """Take the lock and `recover`, but only if a trial is lost: workers call this after every trial
    and the supervisor at every look."""
    if not find_lost(sweep):
        return
    with sweep.store.lock:
        recover(sweep)
    deliver_all(sweep.store)


def find_lost(sweep: Sweep) -> list[FrozenTrial]:
    """Trials whose worker ended without closing them; this changes nothing.

    Unless the caller holds the store's lock, a worker may be closing one of them just now.
    """
    storage, study_id = sweep.store.trials(), study_id_of(sweep.optuna)
    unclosed = storage.read_unclosed(study_id)
    stale = storage.stale_trial_ids(study_id) if unclosed else []
    return [trial for trial in unclosed if is_lost(trial, stale=id_of(trial) in stale)]


def is_lost(trial: FrozenTrial, *, stale: bool) -> bool:
    """Whether no worker runs a trial and none recorded its end. `stale`: its heartbeats stopped."""
    if trial.state == TrialState.FAIL:
        return REASON not in trial.user_attrs  # closed by another tool than ours
    worker = trial.user_attrs.get(WORKER)
    # unsigned: its worker ended while it took the trial, under the lock that the caller holds
    return trial.state == TrialState.RUNNING and (stale or worker is None or is_gone(worker))
