"""Forces files onto the disk, so that a power cut does not lose what counts as written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def sync(folder: Path, *, parents: int = 0) -> None:
    """Every file and folder in it, and the entries that lead to it in so many `parents`.

    Raises:
        OSError: the disk is full, or fails.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink() and path.is_file():
                sync_path(path)
        sync_folder(Path(place))
    for parent in list(folder.absolute().parents)[:parents]:
        sync_folder(parent)


def sync_path(path: Path) -> None:
    """One file, or the names in one folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_folder(folder: Path) -> None:
    """The names in it, where the file system can do that."""
    with suppress(OSError):  # some network file systems cannot; and names need no room
        sync_path(folder)


def local_folder(uri: str) -> Path | None:
    """The folder on this machine that an address of artifacts stands for, if it is one."""
    parts = urlsplit(uri)
    if parts.scheme == "":
        return Path(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
