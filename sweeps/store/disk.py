"""Stops a sweep while its disk still has room to record how far it got."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import optuna

from lander.errors import ConfigError
from sweeps.store.database_files import MLFLOW_FILE, OPTUNA_FILE

MIN_FREE_BYTES: Final = 10 * 2**20
"""A trial takes a tenth of it or less, so every worker can close its own."""
MIN_FREE_FILES: Final = 500
"""How many new files must fit. A trial makes some thirty, copies among them."""
FULL: Final = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full for this user: the quota is used up",
    errno.EFBIG: "takes no larger file: see ulimit -f",
}
"""Error number of a failed write -> what is wrong with the disk."""
SQLITE_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""SQLite's codes for the same errors."""


def is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Whether a disk has too little room to continue, as measured or as an error says."""
    return bool(shortage_on(folder) or (error and shortage_in(error, folder)))


def shortage_on(folder: Path) -> str:
    """One line about what the disk of a folder lacks, measured; empty if it lacks nothing.

    A file system without a fixed number of files reports none at all.
    """
    path = folder.resolve()
    existing = next(path for path in (path, *path.parents) if path.exists())
    disk = os.statvfs(existing)
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
        return f"the disk of {folder} is full, less than {MIN_FREE_BYTES >> 20} MB are left"
    if disk.f_files and disk.f_favail < MIN_FREE_FILES:
        return (
            f"the disk of {folder} is full, less than {MIN_FREE_FILES} files more fit on it (df -i)"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(size(path / name) for name in (OPTUNA_FILE, MLFLOW_FILE))
    if limit != resource.RLIM_INFINITY and limit - largest < MIN_FREE_BYTES:
        return f"files in {folder} may not grow beyond {limit >> 10} kB (ulimit -f)"
    return ""


def size(path: Path) -> int:
    """Bytes in a file; 0 if it is missing."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def shortage_in(error: BaseException, folder: Path) -> str:
    """One line about the full disk that an error, or its cause, reports; empty for another error.

    `folder` is named if the error names no file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return f"the disk of {cause.filename or full_one_of(folder)} {FULL[cause.errno]}"
        if getattr(cause, "sqlite_errorcode", None) in SQLITE_FULL:
            return f"the disk of {folder} cannot be written, as if it were full"
        original = getattr(cause, "orig", None)  # SQLAlchemy's errors
        cause = original or cause.__cause__ or cause.__context__
    return ""


def full_one_of(folder: Path) -> Path:
    """The folder for temporary files if only its disk is full; else `folder`."""
    temporary = Path(tempfile.gettempdir())
    return temporary if shortage_on(temporary) and not shortage_on(folder) else folder


@contextmanager
def requiring_space(folder: Path) -> Generator[None]:
    """Refuse to begin on a full disk, then do as `reporting_full_disk`; for commands that train.

    Raises:
        RuntimeError: the disk is full, before the block or because of it.
    """
    require_space(folder)
    with reporting_full_disk(folder):
        yield


@contextmanager
def reporting_full_disk(folder: Path) -> Generator[None]:
    """If the block fails and the disk is full, report the full disk instead.

    Raises:
        RuntimeError: it is full.
    """
    try:
        yield
    except (ConfigError, BrokenPipeError):
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a worker interrupts itself
        require_space(folder, cause=error)
        raise


def require_space(folder: Path, *, cause: BaseException | None = None) -> None:
    """Raise RuntimeError if the disk is full, as measured or as `cause` says."""
    shortage = shortage_on(folder)
    if not shortage and cause is not None:  # a quota, or another disk, which the error names
        shortage = shortage_in(cause, folder)
    if shortage:
        raise RuntimeError(f"{shortage}: make room, then run the same command to resume") from cause


def stopping_when_full(
    folder: Path, objective: Callable[[optuna.Trial], float]
) -> Callable[[optuna.Trial], float]:
    """An objective whose failure on a full disk ends the worker instead of the trial.

    Optuna would record the trial as failed, for which there may even be room. Left open, it is
    closed and tried again, as any trial whose worker ended.
    """

    def run(trial: optuna.Trial) -> float:
        try:
            return objective(trial)
        except Exception as error:
            if is_full(folder, error):
                raise SystemExit(shortage_on(folder) or shortage_in(error, folder)) from error
            raise

    return run
