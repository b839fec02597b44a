"""Stops a sweep while there is still room to write down how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import optuna

ROOM: Final = 10 * 2**20
"""Bytes. A trial takes a tenth of it or less, so every worker can close its own."""


def is_full(folder: Path) -> bool:
    """Less room than it takes to go on."""
    path = folder.resolve()
    there = next(path for path in (path, *path.parents) if path.exists())
    return shutil.disk_usage(there).free < ROOM


@contextmanager
def room(folder: Path) -> Generator[None]:
    """What fails inside on a full disk fails because of that.

    Raises:
        RuntimeError: it is full by now.
    """
    require_room(folder)
    try:
        yield
    except Exception as error:
        require_room(folder, cause=error)
        raise


def require_room(folder: Path, *, cause: Exception | None = None) -> None:
    """Raise RuntimeError if the disk is full."""
    if is_full(folder):
        raise RuntimeError(
            f"the disk of {folder} is full, less than {ROOM >> 20} MB are left: free some, then "
            "the same command takes the sweep up again"
        ) from cause


def unless_full(
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
            if is_full(folder):
                raise SystemExit(f"the disk of {folder} is full") from error
            raise

    return run
