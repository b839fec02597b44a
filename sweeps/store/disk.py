"""Stops a sweep while there is still room to write down how far it is."""

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
"""Bytes. A trial takes a tenth of it or less, so every worker can close its own."""
MIN_FREE_FILES: Final = 500
"""How many new files must fit. A trial makes some thirty, copies among them."""
NO_ROOM: Final = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full for this user: the quota is used up",
    errno.EFBIG: "takes no larger file: see ulimit -f",
}
NO_WRITE: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""What SQLite makes of these."""


def is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Less room than it takes to go on, as measured or as an error says."""
    return bool(shortage_on(folder) or (error and shortage_in(error, folder)))


def shortage_on(folder: Path) -> str:
    """What the disk of a folder has too little of, measured; empty if nothing.

    A file system without a fixed number of files reports none at all.
    """
    path = folder.resolve()
    there = next(path for path in (path, *path.parents) if path.exists())
    disk = os.statvfs(there)
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
    """Bytes of a file; none if it is missing."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def shortage_in(error: BaseException, folder: Path) -> str:
    """The same as an error, or what caused it, met it; empty if it is about something else."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in NO_ROOM:
            return f"the disk of {seen.filename or writes_to(folder)} {NO_ROOM[seen.errno]}"
        if getattr(seen, "sqlite_errorcode", None) in NO_WRITE:
            return f"the disk of {folder} cannot be written, as if it were full"
        original = getattr(seen, "orig", None)  # of SQLAlchemy's errors
        seen = original or seen.__cause__ or seen.__context__
    return ""


def writes_to(folder: Path) -> Path:
    """Of a store and the folder for temporary files, the one whose disk is full."""
    temporary = Path(tempfile.gettempdir())
    return temporary if shortage_on(temporary) and not shortage_on(folder) else folder


@contextmanager
def requiring_space(folder: Path) -> Generator[None]:
    """Refuse to begin on a full disk; an error inside that comes of one is reported as that.

    Raises:
        RuntimeError: it is full by now.
    """
    require_space(folder)
    with reporting_full_disk(folder):
        yield


@contextmanager
def reporting_full_disk(folder: Path) -> Generator[None]:
    """Report an error inside that comes of a full disk as that, and nothing of its own.

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
    """Raise RuntimeError if the disk is full."""
    lack = shortage_on(folder)
    if not lack and cause is not None:  # a quota, or another disk, which the error names
        lack = shortage_in(cause, folder)
    if lack:
        raise RuntimeError(f"{lack}: make room, then run the same command to resume") from cause


def stopping_when_full(
    folder: Path, objective: Callable[[optuna.Trial], float]
) -> Callable[[optuna.Trial], float]:
    """An objective whose failure on a full disk ends the worker, not the trial.

    Optuna would write off the trial as failed, for which there may even be room; left as it is, it
    is closed and tried again as that of any worker that ended.
    """

    def run(trial: optuna.Trial) -> float:
        try:
            return objective(trial)
        except Exception as error:
            if is_full(folder, error):
                raise SystemExit(shortage_on(folder) or shortage_in(error, folder)) from error
            raise

    return run
