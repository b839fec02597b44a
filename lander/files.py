"""Writes files as a whole, and keeps links of other people within their folder."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Final

from lander.errors import ConfigError

ORDINARY: Final = 0o666
"""Permissions that a new file asks for; the user's mask takes some away."""


def inside(folder: Path, path: Path) -> Path:
    """The path, if it lies in the folder with all links followed.

    Raises:
        ConfigError: it leads out of the folder.
    """
    target, root = path.resolve(), folder.resolve()
    if target == root or root in target.parents:
        return path
    raise ConfigError(
        f"{path} leads out of {folder}, to {target}: nothing is read or written there"
    )


@contextmanager
def write_aside(path: Path) -> Generator[Path]:
    """A new file beside `path`, which replaces `path` when the block ends.

    The new file cannot be a link, and no reader sees half of it.
    """
    handle, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(ORDINARY & ~mask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file, so that no reader sees half of it."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def mask() -> int:
    """The umask of this process, which can only be read by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current
