"""Hands over to MLflow what trials that have ended could not."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from sweeps.masking import one_line
from sweeps.recording import RUN_ID
from sweeps.spool import RECORDS, SPOOL, Spool, spool_of
from sweeps.storage import WORKER, Store, is_gone

REFUSED = ".refused"
"""Behind the name of a record that MLflow does not take."""


def deliver_all(store: Store, *, now: bool = True) -> str:
    """Hand over the record of every trial that has ended; why not, if MLflow does not answer.

    Unless somebody waits for it `now`, MLflow is left alone for a while after a silence.
    """
    spool = store.folder / SPOOL
    if not spool.exists():
        return ""
    with suppress(Timeout), FileLock(spool / ".lock", blocking=False):  # or somebody is at it
        for records in sorted(spool.glob(f"*/{RECORDS}")):
            silence = deliver(store, records.parent, now=now)
            if silence:
                return silence
    return ""


def deliver(store: Store, folder: Path, *, now: bool) -> str:
    """Hand over a trial's record, if it is one and nobody writes it; why not, if it has to wait.

    One that MLflow refuses is set aside, with a warning.
    """
    study, _, number = folder.name.rpartition("-")
    if study not in store.study_names() or not number.isdecimal():
        return ""  # of another life of this folder, or set aside
    trials = store.load_study(study).get_trials(deepcopy=False)
    if int(number) >= len(trials):
        return ""
    trial = trials[int(number)]
    if trial.state == TrialState.RUNNING and not is_gone(trial.user_attrs.get(WORKER, "")):
        return ""
    spool = Spool(folder, store.runs(), link=partial(link, store, study, trial))
    try:
        arrived = spool.deliver(now=now)
    except MlflowException as error:
        aside = folder.rename(folder.with_name(folder.name + REFUSED))
        why = one_line(error)
        print(f"sweeps: warning: MLflow refuses a record, see {aside}: {why}", file=sys.stderr)
        return ""
    if arrived:
        spool.remove()
    return spool.silence


def link(store: Store, study: str, trial: FrozenTrial, run_id: str) -> None:
    """Tell Optuna of the run of a trial, which may have ended before there was one."""
    if RUN_ID not in trial.user_attrs:
        trials = store.trials()
        study_id = trials.get_study_id_from_name(study)
        trial_id = trials.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        trials.set_late_attr(trial_id, RUN_ID, run_id)


def close_run(
    store: Store, study: str, trial: FrozenTrial, *, tags: Mapping[str, str], status: str
) -> None:
    """End the record of a trial that lost its worker, behind what that has left in the spool.

    `deliver_all` hands it over.
    """
    folder, run_id = spool_of(store, study, trial.number), trial.user_attrs.get(RUN_ID)
    begun = (folder / RECORDS).exists()
    if run_id is None and not begun:
        return
    spool = Spool(folder, store.runs(), link=partial(link, store, study, trial))
    if not begun:
        spool.write("known_run", run_id=run_id)
    spool.write("batch", tags=dict(tags))
    spool.write("end", status=status, time=int(time.time() * 1000))
