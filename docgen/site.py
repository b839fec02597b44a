"""Checks the built site: every link leads somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

FETCHED: Final = {
    ("audio", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("link", "href"),
    ("script", "src"),
    ("source", "src"),
    ("video", "poster"),
    ("video", "src"),
}
"""What a browser fetches by itself; a link is only followed by a reader."""
IN_STYLES: Final = re.compile(r"""(?:url\(|@import )["']?((?:https?:)?//[^"')\s]+)""")
SCRIPTED: Final = ("__skip", "__comments")
"""Anchors of the theme that its script makes, or that need none."""


@dataclass
class Links(HTMLParser):
    """The anchors of a page, and the links of it that lead into the site or fetch something."""

    text: str
    anchors: set[str] = field(default_factory=set)
    local: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        addresses = ("rel", "canonical") in attrs  # only says where the page is
        for name, value in [] if addresses else attrs:
            if name == "class" and "mermaid" in (value or "").split():
                self.foreign.append("the script that draws mermaid")
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value or "")
            fetched = (tag, name) in FETCHED
            if value and (fetched or (tag, name) == ("a", "href")):
                self._add(value, fetched=fetched)

    def _add(self, link: str, *, fetched: bool) -> None:
        parts = urlsplit(link)
        if not (parts.scheme or parts.netloc):
            self.local.append(link)
        elif fetched and parts.scheme != "data":
            self.foreign.append(link)


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with the site in a folder, one line each."""
    pages = {path: Links(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(folder)
        yield from (f"{name} fetches {link}" for link in page.foreign)
        # links of the page for wrong addresses begin at the root of a server
        links = [] if name.name == "404.html" else page.local
        yield from (f"{name} links to {link}" for link in links if not leads(path, link, pages))
    for path in sorted(folder.rglob("*.css")):
        for link in IN_STYLES.findall(path.read_text()):
            yield f"{path.relative_to(folder)} fetches {link}"


def leads(path: Path, link: str, pages: dict[Path, Links]) -> bool:
    """Whether a link of a page leads to a file, and to an anchor that it has."""
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    anchor = unquote(parts.fragment)
    if not anchor or anchor.startswith(SCRIPTED) or target not in pages:
        return target.is_file()
    return anchor in pages[target].anchors
