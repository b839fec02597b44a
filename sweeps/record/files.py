"""The files of an outbox: which ones an entry may name, how they are kept, and set aside."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lander.terminal import say
from sweeps.hints import hint
from sweeps.store.mlflow_errors import Undeliverable

ASIDE = ".refused"
"""Appended to the name of an outbox that is set aside."""


def require_regular(path: Path) -> None:
    """Raise Undeliverable unless it is a file, and no link to one."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Undeliverable(f"{path.name} is no file")


def file_inside(folder: Path, name: str) -> Path:
    """The path of a file in an outbox.

    Raises:
        Undeliverable: it is missing, cannot be read, or is reached over a link.
    """
    path = inside(folder, name)
    require_readable(path)
    return path


def folder_inside(folder: Path, name: str) -> Path:
    """The path of a folder in an outbox, all of whose files can be read.

    Raises:
        Undeliverable: it is missing, cannot be read, or holds a link.
    """
    path = inside(folder, name)
    if not path.is_dir():
        raise Undeliverable(f"{name} is no folder")

    def unreadable(error: OSError) -> None:
        raise Undeliverable(f"{error.filename} cannot be read: {error.strerror}") from None

    for parent, folders, files in os.walk(path, onerror=unreadable):
        for entry in folders:
            if Path(parent, entry).is_symlink():
                raise Undeliverable(f"{Path(parent, entry).relative_to(folder)} is a link")
        for entry in files:
            require_readable(Path(parent, entry))
    return path


def inside(folder: Path, name: str) -> Path:
    """The path of a name in an outbox.

    Raises:
        Undeliverable: it does not exist, or leads out of the outbox or over a link.
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


def set_aside(path: Path, what: str, why: str) -> None:
    """Rename an outbox that cannot be delivered, and print one line about it.

    Raises:
        OSError: it cannot be renamed.
    """
    aside, store = free_name(path), path.parents[1]
    path.rename(aside)
    say(
        f"sweeps: warning: {what} cannot be delivered to MLflow ({why}): set aside as {aside}; "
        f"correct it and rename it to {path.name}, then {hint('doctor', store)} delivers it, or "
        "remove it",
        error=True,
    )


def free_name(path: Path) -> Path:
    """A path beside this one, with `ASIDE` behind its name, that does not exist yet."""
    endings = chain([ASIDE], (f"{ASIDE}.{number}" for number in count(2)))
    names = (path.with_name(path.name + ending) for ending in endings)
    return next(name for name in names if not os.path.lexists(name))


def sync(folder: Path, *, parents: int = 0) -> None:
    """Force a folder and everything in it onto the disk, so that no power cut loses it.

    `parents`: for so many folders above it, force its name as well.

    Raises:
        OSError: the disk is full, or fails.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink() and path.is_file():
                sync_path(path)
        sync_folder(Path(parent))
    for above in list(folder.absolute().parents)[:parents]:
        sync_folder(above)


def sync_path(path: Path) -> None:
    """Force one file, or the names in one folder, onto the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder onto the disk, where the file system can do that."""
    with suppress(OSError):  # some network file systems cannot; and names take no space
        sync_path(folder)


def local_folder(uri: str) -> Path | None:
    """The folder on this machine that the URI of artifacts stands for, if it is one."""
    parts = urlsplit(uri)
    if parts.scheme == "":
        return Path(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
