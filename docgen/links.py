"""Links that lead out of docs/: in the repository to a file, in the site to the page of that file.

A page of docs/ links to any file of the tree relatively, as viewers of repositories resolve it:
`../lander/agent.py`. The site has a page for each file that is linked, and copies each picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import join, normpath, relpath

DOCS = "docs"
SHARED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the top level that are pages of the site."""
PAGES = {"README.md": "index.md", **SHARED}
SOURCE = "source"
PICTURES = {".gif", ".jpg", ".mp4", ".png", ".svg", ".webp"}
ALONE = """---
hide: [navigation, toc]
search:
  exclude: true
---
"""
"""Begins a page that is reached by links only."""
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
CODE = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,}).*?^ *(?P=fence)|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.M | re.S,
)
LINK = re.compile(r"""(?<=\]\()[^()\s]+|(?<=\bsrc=")[^"]+|(?<=\bhref=")[^"]+""")


@dataclass(frozen=True)
class Tree:
    """The files of a checkout, and where each of them is in the site."""

    root: Path

    def linked(self, uri: str, markdown: str) -> Iterator[str]:
        """The files out of docs/ that a page needs in the site."""
        for link in links(markdown):
            path = self.resolved(uri, link)
            if path and self.site_uri(path).startswith(f"{SOURCE}/"):
                yield path

    def redirected(self, uri: str, markdown: str) -> str:
        """A page whose links to files of the tree point at what they are in the site."""

        def moved(hit: re.Match[str]) -> str:
            path, (_, *anchor) = self.resolved(uri, hit[0]), hit[0].partition("#")
            if path is None:
                return hit[0]
            return "".join([relpath(self.site_uri(path), PurePosixPath(uri).parent), *anchor])

        return outside_code(markdown, lambda text: LINK.sub(moved, text))

    def resolved(self, uri: str, link: str) -> str | None:
        """The file of the tree that a link of a page means, or None if there is no such file."""
        page = {shared: path for path, shared in SHARED.items()}.get(uri, join(DOCS, uri))
        path = normpath(join(PurePosixPath(page).parent, link.partition("#")[0]))
        known = not path.startswith(("..", "/")) and (self.root / path).is_file()
        return path if known else None

    def site_uri(self, path: str) -> str:
        """Where a file of the tree is in the site."""
        if path.startswith(f"{DOCS}/"):
            return path.removeprefix(f"{DOCS}/")
        suffix = "" if PurePosixPath(path).suffix in PICTURES else ".md"
        return PAGES.get(path, f"{SOURCE}/{path}{suffix}")

    def code_page(self, path: str) -> str:
        """A file of the tree as a page of code with numbered lines, as wide as the window."""
        language = LANGUAGES.get(PurePosixPath(path).suffix, "text")
        code = (self.root / path).read_text()
        return f"{ALONE}# {path}\n\n`````{{.{language} linenums=1}}\n{code}\n`````\n"


def links(markdown: str) -> list[str]:
    """Every link of a page, and what it shows, with their anchors."""
    return LINK.findall(CODE.sub("", markdown))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """A page with the parts between its code changed."""
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])
