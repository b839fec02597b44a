"""Delivers to MLflow the records of trials that have ended, for every outbox of a store."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from lander.terminal import say
from sweeps.endings import ending
from sweeps.errors import one_line
from sweeps.record.entries import KnownRun
from sweeps.record.files import ASIDE, set_aside
from sweeps.record.outbox import OUTBOXES, REASONS, RECORDS, Outbox, outbox_path, outboxes_path
from sweeps.schema import RUN_ID, WORKER, Ending
from sweeps.store.mlflow_errors import Undeliverable
from sweeps.store.store import Store
from sweeps.store.worker_id import is_alive, is_gone, this_worker

LOCK = ".lock"
"""File beside the outboxes, locked by the one process of this host that delivers them."""


def deliver_all(store: Store, *, now: bool = True) -> str:
    """Deliver the record of every trial that has ended; the obstacle if one has to wait.

    An MLflow that failed to answer lately is called only if the caller waits for it `now`.
    """
    folder = outboxes_path(store)
    if not folder.exists():
        return ""
    first = ""
    with suppress(Timeout), FileLock(folder / LOCK, blocking=False):  # or another process does it
        for path, study, trial in ended_records(store):
            obstacle, outage = deliver(store, path, study, trial, now=now)
            first = first or obstacle
            if outage:
                break  # each further attempt would wait as long
    return first


def undelivered(store: Store) -> list[Path]:
    """The outboxes of trials that have ended, whichever process is to deliver them."""
    return [path for path, _, _ in ended_records(store)]


def strays(store: Store) -> Iterator[tuple[Path, str]]:
    """Everything else among the outboxes, with what it is and what to do about it."""
    studies = set(store.study_names())
    for path in contents(store):
        if path.name == LOCK or trial_of(store, path.name, studies) is not None:
            continue
        if ASIDE not in path.name:
            yield path, "belongs to no trial of this store: move it elsewhere, or remove it"
            continue
        reason = ""
        with suppress(OSError, UnicodeDecodeError):
            if not path.is_symlink() and not (path / REASONS).is_symlink():
                reason = (path / REASONS).read_text(encoding="utf-8").partition("\n")[0]
        name = path.name.partition(ASIDE)[0]
        yield (
            path,
            f"was set aside, as it cannot be delivered to MLflow{f' ({reason})' if reason else ''}"
            f": correct it and rename it to {name}, or remove it",
        )


def drain(
    store: Store, *, seconds: float, later: str, check: Callable[[], None] = lambda: None
) -> bool:
    """Deliver the last records that this host alone has; whether none of them is left.

    Waits this long for MLflow to answer, unless `check` raises; then prints where the records are
    kept, and the command that delivers them `later`.
    """
    until, obstacle = time.monotonic() + seconds, deliver_all(store)
    if obstacle and seconds:
        say(f"sweeps: waiting for MLflow: {obstacle}", error=True)
    try:
        while undelivered(store) and time.monotonic() < until:
            check()
            time.sleep(1)
            obstacle = deliver_all(store)
    finally:
        left = bool(undelivered(store))
        if left:
            why = obstacle or "another process is delivering them"
            path = store.folder / OUTBOXES
            say(
                f"sweeps: warning: undelivered records are kept in {path} ({why}); to deliver them "
                f"later: {later}",
                error=True,
            )
    return not left


def ended_records(store: Store) -> Iterator[tuple[Path, str, FrozenTrial]]:
    """The outbox, study and trial of every record to which no process writes any more."""
    paths = [path for path in contents(store) if path.name != LOCK]
    studies = set(store.study_names()) if paths else set()
    for path in paths:
        owner = trial_of(store, path.name, studies)
        if owner is None:
            continue
        study, trial = owner
        worker = str(trial.user_attrs.get(WORKER, ""))
        abandoned = trial.state == TrialState.RUNNING and is_gone(worker)
        over = (trial.state.is_finished() or abandoned) and not is_writing(trial)
        if over and holds_record(path):
            yield path, study, trial


def contents(store: Store) -> list[Path]:
    """Everything among the outboxes of a store."""
    folder = outboxes_path(store)
    return sorted(folder.iterdir()) if folder.exists() else []


def holds_record(path: Path) -> bool:
    """Whether there is something to deliver, or to set aside."""
    try:
        (path / RECORDS).lstat()
    except FileNotFoundError:  # all of it may have arrived just now
        return path.is_symlink()
    except OSError:  # it is no folder, or cannot be read
        return True
    return True


def trial_of(store: Store, name: str, studies: set[str]) -> tuple[str, FrozenTrial] | None:
    """The study and the trial whose outbox has this name; None if there is no such trial."""
    study, _, number = name.rpartition("-")
    if study not in studies or not number.isascii() or not number.isdecimal() or len(number) > 9:
        return None
    if outbox_path(store, study, int(number)).name != name:
        return None
    trial = store.trials().find(study, int(number))
    return None if trial is None else (study, trial)


def open_outbox(store: Store, study: str, trial: FrozenTrial) -> Outbox:
    """The outbox of a trial; one that cannot be read is set aside, and an empty one opened.

    Raises:
        OSError: it cannot be renamed either.
    """
    path = outbox_path(store, study, trial.number)
    outbox = partial(
        Outbox,
        path,
        store.runs(),
        link=partial(link, store, trial),
        run_id=str(trial.user_attrs.get(RUN_ID, "")),
    )
    if path.is_symlink():
        set_aside(path, path.name, "it is a link")
    try:
        return outbox()
    except (OSError, Undeliverable) as error:
        set_aside(path, path.name, one_line(error))
    return outbox()


def deliver(
    store: Store, path: Path, study: str, trial: FrozenTrial, *, now: bool
) -> tuple[str, bool]:
    """Deliver a trial's record; the obstacle, and whether all others would meet it as well."""
    try:
        outbox = open_outbox(store, study, trial)
        if outbox.is_empty:  # because it could not be read and was set aside
            outbox.remove()
        elif outbox.deliver(now=now):
            outbox.clean_up()
        return outbox.obstacle, outbox.outage
    except OSError as error:  # on the disk of the outbox itself
        return f"{path}: {one_line(error)}", False
    except sqlite3.OperationalError as error:  # another program has locked MLflow's database
        return one_line(error), True


def is_writing(trial: FrozenTrial) -> bool:
    """Whether a worker on this host has yet to notice that another process closed its trial."""
    worker = str(trial.user_attrs.get(WORKER, ""))
    taken_away = ending(trial) in (Ending.LOST, Ending.RUNNING)
    return taken_away and is_alive(worker) and worker != this_worker()


def link(store: Store, trial: FrozenTrial, run_id: str) -> None:
    """Note a trial's run in Optuna; the trial may have ended before it had one."""
    if RUN_ID not in trial.user_attrs:
        store.trials().set_late_attr(trial, RUN_ID, run_id)


def close_run(store: Store, study: str, trial: FrozenTrial, *, reason: str) -> None:
    """End the record of a trial that lost its worker, behind what the worker left in its outbox.

    `deliver_all` delivers it.
    """
    run_id = trial.user_attrs.get(RUN_ID)
    begun = os.path.lexists(outbox_path(store, study, trial.number))
    if (run_id is None and not begun) or is_writing(trial):
        return
    outbox = open_outbox(store, study, trial)
    if outbox.is_empty:
        if run_id is None:
            outbox.remove()
            return
        outbox.write(KnownRun(run_id))
    outbox.end(TrialState.FAIL, reason)
