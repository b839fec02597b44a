"""Which files a record may name, and where goes what cannot be delivered."""

from __future__ import annotations

import os
import stat
from itertools import chain, count
from pathlib import Path

from lander.terminal import say
from sweeps.store.mlflow_errors import Undeliverable

ASIDE = ".refused"
"""Behind the name of what was set aside."""


def require_record(path: Path) -> None:
    """Raise Undeliverable unless it is a file, and no link to one."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Undeliverable(f"{path.name} is no file")


def file_inside(folder: Path, name: str) -> Path:
    """The file of that name in a record's folder.

    Raises:
        Undeliverable: there is none that can be read, or a link leads to it.
    """
    path = inside(folder, name)
    require_readable(path)
    return path


def folder_inside(folder: Path, name: str) -> Path:
    """The folder of that name in a record's folder, of files that can be read, without links.

    Raises:
        Undeliverable: there is none.
    """
    path = inside(folder, name)
    if not path.is_dir():
        raise Undeliverable(f"{name} is no folder")

    def unreadable(error: OSError) -> None:
        raise Undeliverable(f"{error.filename} cannot be read: {error.strerror}") from None

    for place, folders, files in os.walk(path, onerror=unreadable):
        for entry in folders:
            if Path(place, entry).is_symlink():
                raise Undeliverable(f"{Path(place, entry).relative_to(folder)} is a link")
        for entry in files:
            require_readable(Path(place, entry))
    return path


def inside(folder: Path, name: str) -> Path:
    """The path of that name in a record's folder.

    Raises:
        Undeliverable: nothing is there, or the name or a link leads elsewhere.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve(strict=True)
    except FileNotFoundError:
        raise Undeliverable(f"{name} is missing") from None
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name with a NUL
        raise Undeliverable(f"{name!r} cannot be read: {error}") from None
    if path != root / name or not path.is_relative_to(root) or path == root:
        raise Undeliverable(f"{name} leads out of the record's folder, or over a link")
    return path


def require_readable(path: Path) -> None:
    """Raise Undeliverable unless it is a file that can be read, and no link to one."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Undeliverable(f"{path.name} is a link, or no file")
        path.open("rb").close()
    except OSError as error:
        raise Undeliverable(f"{path.name} cannot be read: {error.strerror}") from None


def set_aside(path: Path, what: str, why: str) -> Path:
    """Rename what cannot be delivered, and say so in one line; its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = free_name(path)
    path.rename(aside)
    say(
        f"sweeps: warning: {what} cannot be delivered to MLflow ({why}): set aside as {aside}; "
        f"correct it and rename it to {path.name}, then python -m sweeps doctor delivers it, or "
        "remove it",
        error=True,
    )
    return aside


def free_name(path: Path) -> Path:
    """A name beside it that nothing has."""
    endings = chain([ASIDE], (f"{ASIDE}.{number}" for number in count(2)))
    names = (path.with_name(path.name + ending) for ending in endings)
    return next(name for name in names if not os.path.lexists(name))
