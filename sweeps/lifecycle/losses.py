"""Trials whose worker is gone: detected, closed, and queued again."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import root
from sweeps.record.delivery import close_run, deliver_all
from sweeps.schema import LOST, LOST_AGAIN, REASON, STATE, SUPERSEDED, WORKER, Ending
from sweeps.store.worker_id import is_gone
from sweeps.sweep import Sweep


def recover(sweep: Sweep) -> None:
    """Close the trials that lost their worker: whoever asks for a trial next tries them again.

    The store's lock must be held; `deliver_all` sends their last records, later.
    """
    before = {root(trial) for trial in sweep.trials if trial.user_attrs.get(REASON) == LOST}
    for trial in find_lost(sweep):
        reason = LOST_AGAIN if root(trial) in before else LOST
        before.add(root(trial))
        tags = {REASON: reason, STATE: "FAIL"}
        if reason == LOST:
            tags[SUPERSEDED] = Ending.LOST
        close_run(sweep.store, sweep.study.name, trial, tags=tags, status="FAILED")
        sweep.fail(trial, reason)


def requeue_lost(sweep: Sweep) -> None:
    """As `recover`, which needs the lock, if there is anything to do."""
    if find_lost(sweep):
        with sweep.store.lock:
            recover(sweep)
        deliver_all(sweep.store)


def find_lost(sweep: Sweep) -> list[FrozenTrial]:
    """Trials whose worker ended without closing them; without the lock it may just be at it.

    A reading: nothing is changed.
    """
    stale = sweep.store.trials()._get_stale_trial_ids(sweep.optuna._study_id)
    return [trial for trial in sweep.trials if is_lost(trial, stale=trial._trial_id in stale)]


def is_lost(trial: FrozenTrial, *, stale: bool) -> bool:
    """Nobody runs it, and nobody has said why it ended. `stale`: its heartbeats have stopped."""
    if trial.state == TrialState.FAIL:
        return REASON not in trial.user_attrs  # closed by another tool than ours
    worker = trial.user_attrs.get(WORKER)
    # without the name of a worker: it ended while it took the trial, with the lock we have now
    return trial.state == TrialState.RUNNING and (stale or worker is None or is_gone(worker))
