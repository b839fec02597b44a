"""Shares the training seeds of one trial among the workers of this host that have no trial left.

The owner of a trial shares its seeds in a folder of the trial's outbox, a file for each. Whoever
has locked a file trains under that seed; the system releases the locks of a process that dies. The
owner goes through the seeds in order and keeps each lock until the trial ends: its seeds are shared
for as long as the first is locked. A helper takes the last seed that nobody has begun, so that the
owner rarely has to wait for one, and writes beside the file what came of it. Once the owner gets
the lock, it replays that; if nothing is written, it trains under the seed itself.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from lander.checkpoint import read, write
from lander.errors import ConfigError
from lander.resolve import resolve
from lander.terminal import say
from lander.trainer import State
from sweeps.optuna_private import id_of
from sweeps.record.outbox import outbox_path
from sweeps.record.provenance import environment, source_tags
from sweeps.run.handover import trained
from sweeps.run.objective import Claim, trial_configs
from sweeps.schema import WORKER
from sweeps.store.store import Store
from sweeps.store.worker_id import is_gone, parse_worker
from sweeps.sweep import Sweep

FOLDER: Final = "seeds"
"""Folder of an outbox with a file for each training seed of its trial: 0, 1, .."""
ENDED: Final = "seeds-ended"
"""Its name while it is removed, so that a helper cannot write into it any more."""
POLL_SECONDS: Final = 0.1
"""Between two looks at what another worker does."""


class NotShared(Exception):
    """The trial has ended, or its owner has."""


@contextmanager
def sharing(trial: optuna.Trial, seeds: int, *, store: Store) -> Generator[Claim]:
    """Share the seeds of a trial inside the block; its function waits until a seed is this
    process's, and returns what a helper has trained under it, or None if it is still to be trained.
    """
    folder = folder_of(store, trial.study.study_name, trial.number)
    folder.mkdir()
    for seed in range(seeds):
        (folder / str(seed)).write_bytes(code())
    with ExitStack() as locks:

        def claim(seed: int, check: Callable[[], None]) -> State | None:
            path = folder / str(seed)
            while (lock := locked(path)) is None:
                check()
                time.sleep(POLL_SECONDS)
            locks.enter_context(lock)
            return outcome(path)

        try:
            yield claim
        finally:
            with suppress(OSError):  # or it goes with the outbox
                shutil.rmtree(folder.rename(folder.with_name(ENDED)))


def help_another(sweep: Sweep, *, check: Callable[[], None]) -> bool:
    """Train under one seed of a trial that another worker of this host runs; False if none is left.

    Waits for trials that have begun and will share their seeds in a moment.

    Raises:
        KeyboardInterrupt: raised by `check`.
    """
    while sweep.study.settings.seeds_per_trial > 1:
        beginning = False
        for trial in running_here(sweep):
            folder = folder_of(sweep.store, sweep.study.name, trial.number)
            if not is_shared(folder):
                beginning = True
            elif help_with(sweep, trial, folder, check=check):
                return True
        if not beginning:
            break
        check()
        time.sleep(POLL_SECONDS)
    return False


def help_with(sweep: Sweep, trial: FrozenTrial, folder: Path, *, check: Callable[[], None]) -> bool:
    """Train under the last seed of a trial that nobody has begun; False if there is none."""
    for seed in range(sweep.study.settings.seeds_per_trial - 1, 0, -1):
        path = folder / str(seed)
        try:
            lock = locked(path)
        except FileNotFoundError:
            return False  # it ended just now
        if lock is None:
            continue
        with lock:
            if result_path(path).exists() or lock.read() != code():
                continue
            train_for_owner(sweep, trial, seed, path, check=check)
            return True
    return False


def train_for_owner(
    sweep: Sweep, trial: FrozenTrial, seed: int, path: Path, *, check: Callable[[], None]
) -> None:
    """Train under a seed whose file is locked, and write what came of it for the owner."""

    def check_both() -> None:
        check()
        if not is_shared(path.parent):
            raise NotShared

    try:
        begun = sweep.store.trials().get_trial(id_of(trial))  # it may have got its parameters since
        done = trained(resolve(trial_configs(begun, sweep.study)[seed]), check=check_both)
    except NotShared:
        return
    except Exception:
        done = {}  # the owner meets the same error, and its record says so
    with suppress(FileNotFoundError):  # the trial ended just now
        write(result_path(path), done)
        how = "trained" if done else "failed to train"
        say(f"{sweep.study.name}: {how} under seed {seed} of trial {trial.number}, for its worker")


def running_here(sweep: Sweep) -> list[FrozenTrial]:
    """The trials that other workers of this host run, as far as can be known."""
    running = sweep.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    workers = {trial.number: str(trial.user_attrs.get(WORKER, "")) for trial in running}
    return [
        trial
        for trial in running
        if parse_worker(workers[trial.number]).host == socket.gethostname()
        and not is_gone(workers[trial.number])
    ]


def folder_of(store: Store, study: str, number: int) -> Path:
    """The folder with the seeds of a trial, which need not exist."""
    return outbox_path(store, study, number) / FOLDER


def is_shared(folder: Path) -> bool:
    """Whether the owner of a trial shares its seeds there now."""
    try:
        lock = locked(folder / "0", fcntl.LOCK_SH)  # others who look do not count
    except FileNotFoundError:
        return False
    if lock is not None:
        lock.close()
    return lock is None


def locked(path: Path, how: int = fcntl.LOCK_EX) -> BinaryIO | None:
    """The file, locked until it is closed; None if somebody else has locked it.

    Not a `FileLock`, which would create it again after the trial has ended.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = path.open("r+b")
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def result_path(path: Path) -> Path:
    """Where a helper writes what came of its training."""
    return path.with_suffix(".pt")


def outcome(path: Path) -> State | None:
    """What a helper has trained; None if nobody did, or it came to an error."""
    file = result_path(path)
    try:
        return (read(file) or None) if file.is_file() else None
    except ConfigError:  # damaged
        return None


@cache
def code() -> bytes:
    """The host, the processor, the versions and the commit: a trial is trained with one of each."""
    tags = environment() | source_tags(())
    return json.dumps({"host": socket.gethostname(), **tags}, sort_keys=True).encode()
