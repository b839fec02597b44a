"""Hands over to MLflow what trials that have ended could not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from lander.terminal import say
from sweeps.budget import WORKER
from sweeps.endings import Ending, ending
from sweeps.identity import is_alive, is_gone, this_worker
from sweeps.masking import one_line
from sweeps.recording import RUN_ID
from sweeps.spool import RECORDS, SPOOL, Spool, spool_of, spools
from sweeps.storage import Store

REFUSED = ".refused"
"""Behind the name of a record that MLflow does not take."""


def deliver_all(store: Store, *, now: bool = True) -> str:
    """Hand over the record of every trial that has ended; why not, if MLflow does not answer.

    Unless somebody waits for it `now`, MLflow is left alone for a while after a silence.
    """
    spool = spools(store)
    if not spool.exists():
        return ""
    with suppress(Timeout), FileLock(spool / ".lock", blocking=False):  # or somebody is at it
        for records in sorted(spool.glob(f"*/{RECORDS}")):
            silence = deliver(store, records.parent, now=now)
            if silence:
                return silence
    return ""


def hand_over(
    store: Store, *, seconds: float, later: str, check: Callable[[], None] = lambda: None
) -> bool:
    """The last of this host's records, which nobody else has; whether MLflow has all of them.

    Waits as long for one that does not answer, unless `check` raises; then says where they stay,
    and what hands them over `later`.
    """
    until, silence = time.monotonic() + seconds, deliver_all(store)
    if silence and seconds:
        say(f"sweeps: waiting for MLflow: {silence}", error=True)
    try:
        while silence and time.monotonic() < until:
            check()
            time.sleep(1)
            silence = deliver_all(store)
    finally:
        if silence:
            told = f"records stay in {store.folder / SPOOL}, as MLflow does not answer: {silence}"
            say(f"sweeps: warning: {told}; later: {later}", error=True)
    return not silence


def deliver(store: Store, folder: Path, *, now: bool) -> str:
    """Hand over a trial's record, if it is one and nobody writes it; why not, if it has to wait.

    One that MLflow refuses is set aside, with a warning.
    """
    study, _, number = folder.name.rpartition("-")
    trial = store.trials().find(study, int(number)) if number.isdecimal() else None
    if trial is None:
        return ""  # of another life of this folder, or set aside
    worker = str(trial.user_attrs.get(WORKER, ""))
    if trial.state == TrialState.RUNNING and not is_gone(worker):
        return ""
    if is_writing(trial):
        return ""
    spool = Spool(folder, store.runs(), link=partial(link, store, trial))
    try:
        arrived = spool.deliver(now=now)
    except MlflowException as error:
        aside = folder.rename(folder.with_name(folder.name + REFUSED))
        why = one_line(error)
        say(f"sweeps: warning: MLflow refuses a record, see {aside}: {why}", error=True)
        return ""
    if arrived:
        spool.remove()
    return spool.silence


def is_writing(trial: FrozenTrial) -> bool:
    """Whether a worker here has yet to notice that its trial was closed by others."""
    worker = str(trial.user_attrs.get(WORKER, ""))
    taken_away = ending(trial) in (Ending.LOST, Ending.RUNNING)
    return taken_away and is_alive(worker) and worker != this_worker()


def link(store: Store, trial: FrozenTrial, run_id: str) -> None:
    """Tell Optuna of the run of a trial, which may have ended before there was one."""
    if RUN_ID not in trial.user_attrs:
        store.trials().set_late_attr(trial, RUN_ID, run_id)


def close_run(
    store: Store, study: str, trial: FrozenTrial, *, tags: Mapping[str, str], status: str
) -> None:
    """End the record of a trial that lost its worker, behind what that has left in the spool.

    `deliver_all` hands it over.
    """
    folder, run_id = spool_of(store, study, trial.number), trial.user_attrs.get(RUN_ID)
    begun = (folder / RECORDS).exists()
    if (run_id is None and not begun) or is_writing(trial):
        return
    spool = Spool(folder, store.runs(), link=partial(link, store, trial))
    if not begun:
        spool.write("known_run", run_id=run_id)
    spool.write("batch", tags=dict(tags))
    spool.write("end", status=status, time=int(time.time() * 1000))
