"""Output that cannot control a terminal: names, reasons and messages may be anybody's text."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, Final, TextIO, cast

LABEL: Final = 10
"""Columns of the labels in front of rows."""


def program(name: str) -> str:
    """A program of this installation as its user can type it: by its name where the PATH leads to
    it, else by its path; `python -m NAME` if it has no script."""
    script = shutil.which(name, path=str(Path(sys.executable).parent))
    if script is None:
        return f"python -m {name}"
    if shutil.which(name) == script:
        return name
    path, here = Path(script), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def printable(text: object) -> str:
    """One line in which unprintable characters are escaped: a line feed is \\n, ESC is \\x1b.

    >>> print(printable("red: \\x1b[31m"))
    red: \\x1b[31m
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(escaped, line))


def escaped(character: str) -> str:
    """A printable character itself, any other as Python writes it."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def say(text: object, *, error: bool = False) -> None:
    """Print one line, flushed; with `error` to stderr."""
    print(printable(text), file=sys.stderr if error else sys.stdout, flush=True)


def say_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print rows of a label and a text, the texts one below the other."""
    for label, text in rows:
        say(f"{label:<{LABEL}}{text}")


def drop_output() -> None:
    """Write nothing more to stdout: its reader has seen enough, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(label: str, items: Iterable[str], *, end: str = "") -> Iterator[tuple[str, str]]:
    """A row with a list; several where the terminal is too narrow for it, with no item cut."""
    width = shutil.get_terminal_size().columns - LABEL if sys.stdout.isatty() else inf
    line = ""
    for item in items:
        if line and len(line) + len(item) + len(", ,") > width:
            yield label, f"{line},"
            label, line = "", ""
        line += f", {item}" if line else item
    if len(line) + len(end) > width:
        yield label, line
        label, line, end = "", end.lstrip(), ""
    yield label, line + end


class Filter:
    """A text stream that escapes every character that is neither printable nor a line feed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def filtered() -> Generator[None]:
    """Filter stdout and stderr inside the block, except for writers on `unfiltered` streams."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Filter(unfiltered(stream))) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unfiltered(stream: TextIO) -> TextIO:
    """The stream without its filter, for colours and bars; not for the text of other people."""
    return stream.stream if isinstance(stream, Filter) else stream
