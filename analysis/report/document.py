"""A document of text, tables and pictures, written as one HTML page and as Markdown with files.

Text is plain, with one mark: what stands between backticks is a word of the program. Everything
else is escaped in both forms, wherever it came from.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar, Final, Literal

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.markdown import markdown
from lander.terminal import printable

TEMPLATES = Path(__file__).parent
MOST_MARKS: Final = 2_000
"""A drawing of more is kept as pixels."""
DPI: Final = 160
MIME: Final = {"svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
CODE: Final = re.compile(r"`([^`]+)`")
SPECIAL: Final = re.compile(r"[\\`*_~<&]|(?<=\])\(")
"""What Markdown would read as a mark: emphasis, code, HTML, a link."""
NUMBER: Final = re.compile(r"[-+]?\d[\d,.:e%+-]*( \[.*\])?|")
"""A number, with its interval if it has one, or nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells."""

    kind: ClassVar = "table"
    rows: Sequence[Sequence[str]]
    """The head first."""

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only."""
        columns = zip(*self.rows[1:], strict=True)
        return [any(column) and all(map(NUMBER.fullmatch, column)) for column in columns]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file."""

    kind: ClassVar = "picture"
    name: str
    """Of the file, without its ending."""
    form: Literal["svg", "png", "gif"]
    data: bytes
    alt: str
    """What it shows, for who cannot see it."""
    caption: str
    still: Picture | None = None
    """Takes its place on paper."""

    @property
    def file(self) -> str:
        return f"{self.name}.{self.form}"

    @property
    def uri(self) -> str:
        """The file itself, as a link to it."""
        return f"data:{MIME[self.form]};base64,{b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Box:
    """What a reader in a hurry should see."""

    kind: ClassVar = "box"
    headline: str
    blocks: Sequence[Text | Code]


Block = Text | Code | Table | Picture | Box


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Document:
    """A title, the question that is answered, and the answers."""

    title: str
    question: str
    sections: Sequence[Section]
    written: str
    """When."""

    @property
    def pictures(self) -> Iterator[Picture]:
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Picture))


def drawing(figure: Figure, name: str, *, alt: str, caption: str) -> Picture:
    """A figure, sharp at any size; of very many marks, as pixels."""
    if marks(figure) <= MOST_MARKS:
        with mpl.rc_context({"svg.hashsalt": name}):
            return Picture(name, "svg", saved(figure, "svg"), alt, caption)
    return Picture(name, "png", saved(figure, "png"), alt, caption)


def marks(figure: Figure) -> int:
    """How many dots and lines it is made of."""
    found = (drawn for axes in figure.axes for drawn in axes.collections)
    counts = (max(len(np.asarray(drawn.get_offsets())), len(drawn.get_paths())) for drawn in found)
    return sum(len(axes.lines) for axes in figure.axes) + sum(counts)


def saved(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """The figure as a file, without a date: equal records give equal files."""
    buffer = BytesIO()
    undated = {"Date": None} if form == "svg" else None
    figure.savefig(buffer, format=form, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def as_html(document: Document) -> str:
    """One page that loads nothing and runs nothing."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline_html
    return environment.get_template("report.html.j2").render(document=document)


def inline_html(text: str) -> Markup:
    """Escaped, words of the program set as code."""
    parts = CODE.split(printable(" ".join(text.split())))
    return Markup("").join(code_html(part) if i % 2 else part for i, part in enumerate(parts))


def code_html(word: str) -> Markup:
    """May break after a dot, a slash or an underscore."""
    pieces = re.split(r"(?<=[._/])(?=\w)", word)
    return Markup("<code>{}</code>").format(Markup("<wbr>").join(pieces))


def inline_markdown(text: str) -> str:
    """The same for Markdown, in one line."""
    parts = CODE.split(printable(" ".join(text.split())))
    parts[::2] = [SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)


def as_markdown(document: Document, *, files: str) -> str:
    """The same text and tables; pictures are in the folder `files` beside it."""
    head = (document.question, document.written)
    parts = [f"# {inline_markdown(document.title)}", *map(inline_markdown, head)]
    for section in document.sections:
        parts.append(f"## {inline_markdown(section.title)}")
        parts += [block_markdown(block, files=files) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def block_markdown(block: Block, *, files: str) -> str:
    """One block."""
    match block:
        case Text(text):
            return inline_markdown(text)
        case Code(text):
            return f"```\n{text}\n```"
        case Table(rows):
            # a bar would end the cell, in code as well
            cells = [[inline_markdown(cell).replace("|", r"\|") for cell in row] for row in rows]
            return markdown(cells)
        case Picture():
            caption = inline_markdown(block.caption)
            return f"![{inline_markdown(block.alt)}]({files}/{block.file})\n\n{caption}"
        case Box(headline, blocks):
            parts = [f"**{inline_markdown(headline)}**"]
            parts += [block_markdown(inner, files=files) for inner in blocks]
            return "\n".join(f"> {line}".rstrip() for line in "\n\n".join(parts).splitlines())
