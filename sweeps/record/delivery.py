"""Delivers to MLflow what trials that have ended could not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from lander.terminal import say
from sweeps.endings import ending
from sweeps.errors import one_line
from sweeps.record.files import ASIDE, set_aside
from sweeps.record.outbox import REASONS, RECORDS, SPOOL, Outbox, spool_of, spools
from sweeps.schema import RUN_ID, WORKER, Ending
from sweeps.store.mlflow_errors import Undeliverable
from sweeps.store.store import Store
from sweeps.store.worker_id import is_alive, is_gone, this_worker

LOCK = ".lock"
"""File in the folder of spools: held by the one process of this host that delivers from there."""


def deliver_all(store: Store, *, now: bool = True) -> str:
    """Deliver the record of every trial that has ended; why not, if one has to wait.

    Unless somebody waits for it `now`, MLflow is left alone for a while after it gave no answer.
    """
    spool = spools(store)
    if not spool.exists():
        return ""
    waiting = ""
    with suppress(Timeout), FileLock(spool / LOCK, blocking=False):  # or somebody is at it
        for folder, study, trial in records_of(store):
            why, outage = deliver(store, folder, study, trial, now=now)
            waiting = waiting or why
            if outage:
                break  # each further attempt would wait as long
    return waiting


def undelivered(store: Store) -> list[Path]:
    """Folders with the record of a trial that has ended, whoever is to deliver it."""
    return [folder for folder, _, _ in records_of(store)]


def strays(store: Store) -> Iterator[tuple[Path, str]]:
    """What else is in the folder of spools, and what it is."""
    known = set(store.study_names())
    for path in entries(store):
        if path.name == LOCK or trial_of(store, path.name, known) is not None:
            continue
        if ASIDE not in path.name:
            yield path, "belongs to no trial of this store: move it elsewhere, or remove it"
            continue
        why = ""
        with suppress(OSError, UnicodeDecodeError):
            if not path.is_symlink() and not (path / REASONS).is_symlink():
                why = (path / REASONS).read_text(encoding="utf-8").partition("\n")[0]
        name = path.name.partition(ASIDE)[0]
        yield (
            path,
            f"was set aside, as MLflow cannot be given it{f' ({why})' if why else ''}: correct it "
            f"and rename it to {name}, or remove it",
        )


def drain(
    store: Store, *, seconds: float, later: str, check: Callable[[], None] = lambda: None
) -> bool:
    """The last of this host's records, which nobody else has; whether none of them waits any more.

    Waits as long for an MLflow that does not answer, unless `check` raises; then says where they
    stay, and what delivers them `later`.
    """
    until, waiting = time.monotonic() + seconds, deliver_all(store)
    if waiting and seconds:
        say(f"sweeps: waiting for MLflow: {waiting}", error=True)
    try:
        while undelivered(store) and time.monotonic() < until:
            check()
            time.sleep(1)
            waiting = deliver_all(store)
    finally:
        rest = bool(undelivered(store))
        if rest:
            why = waiting or "another process is delivering them"
            text = f"records stay in {store.folder / SPOOL}: {why}"
            say(f"sweeps: warning: {text}; later: {later}", error=True)
    return not rest


def records_of(store: Store) -> Iterator[tuple[Path, str, FrozenTrial]]:
    """Every record of a trial that has ended, with its study: nobody writes to it any more."""
    known = set(store.study_names())
    for folder in entries(store):
        found = trial_of(store, folder.name, known)
        if found is None:
            continue
        study, trial = found
        worker = str(trial.user_attrs.get(WORKER, ""))
        gone = trial.state == TrialState.RUNNING and is_gone(worker)
        over = (trial.state.is_finished() or gone) and not is_writing(trial)
        if over and holds_record(folder):
            yield folder, study, trial


def entries(store: Store) -> list[Path]:
    """What is in the folder of spools."""
    spool = spools(store)
    return sorted(spool.iterdir()) if spool.exists() else []


def holds_record(folder: Path) -> bool:
    """There is something to deliver, or to set aside; not if all of it has just arrived."""
    try:
        (folder / RECORDS).lstat()
    except FileNotFoundError:
        return folder.is_symlink()
    except OSError:  # it is no folder, or cannot be read
        return True
    return True


def trial_of(store: Store, name: str, known: set[str]) -> tuple[str, FrozenTrial] | None:
    """The study and the trial whose record a folder of this name is; None if it is of another
    database, or a copy, or was set aside."""
    study, _, number = name.rpartition("-")
    if study not in known or not number.isascii() or not number.isdecimal() or len(number) > 9:
        return None
    if spool_of(store, study, int(number)).name != name:
        return None
    trial = store.trials().find(study, int(number))
    return None if trial is None else (study, trial)


def open_spool(store: Store, study: str, trial: FrozenTrial) -> Outbox:
    """The record of a trial; what cannot be read in its stead is set aside, with a warning.

    Raises:
        OSError: nor can that be renamed.
    """
    folder = spool_of(store, study, trial.number)
    spool = partial(
        Outbox,
        folder,
        store.runs(),
        link=partial(link, store, trial),
        run_id=str(trial.user_attrs.get(RUN_ID, "")),
    )
    if folder.is_symlink():
        set_aside(folder, folder.name, "it is a link")
    try:
        return spool()
    except (OSError, Undeliverable) as error:
        set_aside(folder, folder.name, one_line(error))
    return spool()


def deliver(
    store: Store, folder: Path, study: str, trial: FrozenTrial, *, now: bool
) -> tuple[str, bool]:
    """Deliver a trial's record; why it has to wait, and whether all others have to wait too."""
    try:
        spool = open_spool(store, study, trial)
        if spool.is_empty:  # what was there is set aside
            spool.remove()
        elif spool.deliver(now=now):
            spool.settle()
        return spool.silence, spool.outage
    except OSError as error:  # of the spool's own disk
        return f"{folder}: {one_line(error)}", False


def is_writing(trial: FrozenTrial) -> bool:
    """Whether a worker here has yet to notice that its trial was closed by others."""
    worker = str(trial.user_attrs.get(WORKER, ""))
    taken_away = ending(trial) in (Ending.LOST, Ending.RUNNING)
    return taken_away and is_alive(worker) and worker != this_worker()


def link(store: Store, trial: FrozenTrial, run_id: str) -> None:
    """Note at Optuna the run of a trial, which may have ended before there was one."""
    if RUN_ID not in trial.user_attrs:
        store.trials().set_late_attr(trial, RUN_ID, run_id)


def close_run(
    store: Store, study: str, trial: FrozenTrial, *, tags: Mapping[str, str], status: str
) -> None:
    """End the record of a trial that lost its worker, behind what that has left in the spool.

    `deliver_all` delivers it.
    """
    run_id = trial.user_attrs.get(RUN_ID)
    begun = os.path.lexists(spool_of(store, study, trial.number))
    if (run_id is None and not begun) or is_writing(trial):
        return
    spool = open_spool(store, study, trial)
    if spool.is_empty:
        if run_id is None:
            spool.remove()
            return
        spool.write("known_run", run_id=run_id)
    spool.write("batch", tags=dict(tags))
    spool.write("end", status=status, time=int(time.time() * 1000))
