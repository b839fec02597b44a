"""Texts of the code as Markdown: special characters are escaped, fields and papers linked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from lander.dotted import documented
from lander.explain import RUN

TOKEN: Final = re.compile(
    r"(?P<code>`[^`]+`)|(?P<field>(?<![\w./-])[a-z]+(?:[._]\w+)+)|(?P<paper>arXiv:[\d.]+\d)"
    r"|(?P<special>[\\*|<>\[\]])"
)


def marked_up(text: str) -> str:
    """A docstring or a help text for a page of docs/reference/.

    >>> marked_up("see arXiv:1506.02438 and |r|")
    'see [arXiv:1506.02438](https://arxiv.org/abs/1506.02438) and \\\\|r\\\\|'
    """
    return TOKEN.sub(token, " ".join(text.split()))


def token(match: re.Match[str]) -> str:
    """One word or character of a text."""
    word = match[0]
    match match.lastgroup:
        case "code":
            return field(word.strip("`"))
        case "field":
            return field(word) if page_of(word) else word
        case "paper":
            return f"[{word}](https://arxiv.org/abs/{word.partition(':')[2]})"
        case _:
            return f"\\{word}"


def field(word: str) -> str:
    """A word of code, which leads to the field of that name if there is one.

    >>> field("ppo.gamma"), field("env.kwargs.gravity"), field("sweeps")
    ('[`ppo.gamma`](ppo.md#ppo.gamma)', '[`env.kwargs.gravity`](env.md#env.kwargs)', '`sweeps`')
    """
    page = page_of(word)
    return f"[`{word}`]({page})" if page else f"`{word}`"


def page_of(word: str) -> str:
    """Page and anchor of a field, or of the argument of an environment; "" for other words."""
    name = ".".join(word.split(".")[:2])
    return f"{name.rpartition('.')[0] or RUN}.md#{name}" if name in documented() else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines), ""]
