"""A document of Markdown and pictures, written as one HTML page and as a file with a folder."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

import matplotlib as mpl
import mistune
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from mistune.plugins.table import table

from sweeps.charts.search import MARKS
from sweeps.publish.markdown import line

TEMPLATES = Path(__file__).parent
MOST_MARKS: Final = 2_000
"""A drawing with more marks is kept as pixels."""
DPI: Final = 160
MIME: Final = {"svg": "image/svg+xml", "png": "image/png", "gif": "image/gif"}
NUMBER: Final = re.compile(r"\(?[-+]?\d[\d,.:e%+-]*\)?( \[.*\]| \+- [\d.,]+)?|")
"""A number, with its interval if it has one, or in brackets, or nothing."""
LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
"""A link in Markdown; its group is what is shown."""
LONG: Final = 24
"""Characters above which a cell may break within a word."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file."""

    name: str
    """The name of the file, without its ending."""
    form: Literal["svg", "png", "gif"]
    data: bytes
    alt: str
    """Describes the picture to readers who cannot see it."""
    caption: str
    """Plain text."""
    still: Picture | None = None
    """Printed instead of a moving picture."""
    mp4: bytes | None = None
    """A moving picture once more, as a film to share."""

    @property
    def file(self) -> str:
        return f"{self.name}.{self.form}"

    @property
    def uri(self) -> str:
        """The file itself as a data URI, for a page that loads nothing."""
        return f"data:{MIME[self.form]};base64,{b64encode(self.data).decode()}"


Block = str | Picture
"""Markdown, or a picture."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a page says about a trial wherever a chart has a mark of it."""

    title: str
    """Plain text."""
    link: str | None
    """The trial's run, if it has one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A title, the question that is answered, and the answers."""

    title: str
    question: str
    sections: Mapping[str, Sequence[Block]]
    """By their headings."""
    written: str
    """The sentence that says when. Like title and question plain text."""
    marks: Mapping[int, Mark] = field(default_factory=dict)
    """By the numbers of trials."""

    @property
    def pictures(self) -> Iterator[Picture]:
        for blocks in self.sections.values():
            yield from (block for block in blocks if isinstance(block, Picture))


def drawing(figure: Figure, name: str, *, alt: str, caption: str) -> Picture:
    """A figure as vectors, sharp at any size; as pixels if it has very many marks."""
    if marks(figure) <= MOST_MARKS:
        with mpl.rc_context({"svg.hashsalt": name}):
            return Picture(name, "svg", saved(figure, "svg"), alt, caption)
    return Picture(name, "png", saved(figure, "png"), alt, caption)


def marks(figure: Figure) -> int:
    """How many dots and lines the figure is made of."""
    collections = [collection for axes in figure.axes for collection in axes.collections]
    dots = (max(len(np.asarray(c.get_offsets())), len(c.get_paths())) for c in collections)
    return sum(len(axes.lines) for axes in figure.axes) + sum(dots)


def saved(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """The figure as a file, without a date: equal records give equal files."""
    buffer = BytesIO()
    undated = {"Date": None} if form == "svg" else None
    figure.savefig(buffer, format=form, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def as_markdown(document: Document, *, files: str) -> str:
    """The document as Markdown; its pictures are in the folder `files` beside it."""
    parts = [f"# {line(document.title)}", line(document.question), line(document.written)]
    for title, blocks in document.sections.items():
        parts.append(f"## {line(title)}")
        for block in blocks:
            if isinstance(block, Picture):
                parts.append(f"![{line(block.alt)}]({files}/{block.file})")
                parts.append(line(block.caption))
            else:
                parts.append(block)
    return "\n\n".join(parts) + "\n"


def as_html(document: Document) -> str:
    """The same as one page that loads nothing and runs only its own script, known by its hash."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["html"] = html
    environment.filters["line"] = line
    environment.filters["drawn"] = lambda picture: drawn(picture, document.marks)
    return environment.get_template("report.html.j2").render(
        document=document, script=Markup(script), digest=digest
    )


def drawn(picture: Picture, marks: Mapping[int, Mark]) -> Markup:
    """A chart as part of the page: every mark of a trial has its title and leads to its run.

    Of an SVG matplotlib wrote; its ids get the name of the picture before them, as a page has more
    than one.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(picture.data)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib |= {"role": "img", "aria-label": picture.alt, "class": "chart"}
    root.set("viewBox", f"0 0 {width} {height}")
    for element in root.iter():
        rename_ids(element, f"{picture.name}-")
        if element.get("id", "").startswith(f"{picture.name}-{MARKS}"):
            name_marks(element, marks)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def rename_ids(element: ElementTree.Element, prefix: str) -> None:
    """Put a prefix before the element's id and before those that it refers to."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, prefix + value)
        elif name == f"{{{XLINK}}}href":
            element.set(name, value.replace("#", f"#{prefix}", 1))
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))


def name_marks(group: ElementTree.Element, marks: Mapping[int, Mark]) -> None:
    """Wrap each mark of a group, whose id lists the trials in the order of their marks, in a link
    with a title."""
    _, *numbers = group.attrib.pop("id").partition(MARKS)[2].split("-")
    shapes = {f"{{{SVG}}}use", f"{{{SVG}}}path"}
    parents = [(parent, child) for parent in group.iter() for child in parent]
    drawn_shapes = [
        (parent, child)
        for parent, child in parents
        if child.tag in shapes and parent.tag != f"{{{SVG}}}defs"
    ]
    for (parent, child), number in zip(drawn_shapes, numbers, strict=False):
        mark = marks.get(int(number))
        if mark is None:
            continue
        link = ElementTree.Element(f"{{{SVG}}}a", {"class": "mark", "data-trial": number})
        if mark.link is not None:
            link.attrib |= {"href": mark.link, "target": "_blank", "rel": "noopener"}
        ElementTree.SubElement(link, f"{{{SVG}}}title").text = mark.title
        parent[list(parent).index(child)] = link
        link.append(child)


def html(markdown: str) -> Markup:
    """Markdown as HTML, for the page's template."""
    render = mistune.Markdown(Renderer(), plugins=[table])
    render.before_render_hooks.append(align_numbers)
    return Markup(render(markdown))


class Renderer(mistune.HTMLRenderer):
    """Renders what the page's style sheet has a class for; everything else as mistune does."""

    def codespan(self, text: str) -> str:
        """A word that may break after a dot, a slash or an underscore."""
        pieces = re.split(r"(?<=[._/])(?=\w)", mistune.escape(text))
        return f"<code>{'<wbr>'.join(pieces)}</code>"

    def block_quote(self, text: str) -> str:
        return f'<div class="box">\n{text}</div>\n'

    def table(self, text: str) -> str:
        return f'<div class="wide"><table>\n{text}</table></div>\n'

    def table_head(self, text: str) -> str:
        """Nothing, if every cell is empty."""
        row = f"<thead><tr>\n{text}</tr></thead>\n"
        return row if Markup(row).striptags() else ""

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        tag, is_long = "th" if head else "td", len(Markup(text).striptags()) > LONG
        kind = ' class="number"' if align else ' class="long"' if is_long and not head else ""
        return f"<{tag}{kind}>{text}</{tag}>\n"


def align_numbers(_: mistune.Markdown, state: mistune.BlockState) -> None:
    """Align columns to the right that hold numbers only, and undo the escapes of bars in cells."""
    for token in (token for token in state.tokens if token["type"] == "table"):
        head, body = token["children"]
        for column in zip(*(row["children"] for row in (head, *body["children"])), strict=True):
            for cell in column:
                cell["text"] = cell["text"].replace(r"\|", "|")
            texts = [LINK.sub(r"\1", cell["text"]) for cell in column[1:]]
            if any(texts) and all(map(NUMBER.fullmatch, texts)):
                for cell in column:
                    cell["attrs"]["align"] = "right"
