"""Markdown from plain text: lines, code, tables, boxes.

Plain text has one mark: a word of the program stands between backticks. Everything else in it is
escaped, wherever it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from lander.terminal import printable

CODE: Final = re.compile(r"`([^`]+)`")
SPECIAL: Final = re.compile(r"[\\`*_~<&]|(?<=\])\(")
"""What Markdown would read as a mark anywhere: emphasis, code, HTML, a link."""
FIRST: Final = re.compile(r"^(\d*)([#+.)-](?=\s|$)|>|-(?=--)|\[(?=.*\]:))")
"""What it would read as a mark at the start of a line: a heading, a list, a quotation, a rule."""


def line(text: str) -> str:
    """Plain text, in one line."""
    parts = CODE.split(printable(" ".join(text.split())))
    parts[::2] = [SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2]]
    parts[0] = FIRST.sub(r"\1\\\2", parts[0])
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)


def code(text: str) -> str:
    """Lines to copy."""
    return f"```\n{text}\n```"


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown; the first row is its head."""
    head, *body = rows
    rule = "|---" * len(head) + "|"
    lines = (f"| {' | '.join(row)} |" for row in (head, *body))
    return "\n".join([next(lines), rule, *lines])


def plain_table(rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are plain text."""
    return table([[cell(text) for text in row] for row in rows])


def cell(text: str) -> str:
    r"""Plain text for a cell, which a bar would end, in code as well.

    Code cannot hold `\|` in a table: such text loses its marks.
    """
    return line(text.replace("`", "'") if r"\|" in text else text).replace("|", r"\|")


def box(headline: str, blocks: Iterable[str]) -> str:
    """A headline in plain text and blocks of Markdown, set off from the rest."""
    lines = "\n\n".join([f"**{line(headline)}**", *blocks]).splitlines()
    return "\n".join(f"> {text}".rstrip() for text in lines)
