"""The reports and notebook pages of a store, for a browser: read, never written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lander.errors import ConfigError
from lander.files import inside
from sweeps.store.store import Store

REPORTS: Final = "reports"
"""The folder in a store, and the path in an address."""
NOTEBOOKS: Final = "notebooks"
"""Its folder for pages of notebooks."""
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
}
"""What is served, by the end of its name."""
POLICY: Final = "; ".join(
    [
        "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox allow-downloads",
        "default-src 'none'",
        "img-src 'self' data:",
        "media-src 'self' data:",
        "style-src 'unsafe-inline'",
        "script-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""What a page may do: a store may come from somebody else, and its pages share their address with
programs that can change it. In the sandbox a script has no access to them."""


def reports_of(store: Store) -> Path:
    """The folder of the reports.

    Raises:
        ConfigError: it is a link that leads out of the store.
    """
    return inside(store.folder, store.folder / REPORTS)


def find_file(store: Store, path: str) -> Path | None:
    """The file under the reports that an address names; None if it names no such file."""
    parts = path.split("/")
    if any(part.startswith(".") or "\0" in part or part == "" for part in parts):
        return None
    try:
        folder = reports_of(store)
        file = inside(folder, folder.joinpath(*parts))
    except (ConfigError, OSError):
        return None
    return file if file.suffix in TYPES and file.is_file() else None


def report_page(store: Store, study: str) -> str:
    """The address of a sweep's report; empty until it is written."""
    name = f"{study}.html"
    return "" if find_file(store, name) is None else f"/{REPORTS}/{quote(name)}"


def notebook_pages(store: Store) -> Iterator[tuple[str, str]]:
    """Name and address of every page of a notebook."""
    try:
        folder = reports_of(store) / NOTEBOOKS
        names = sorted(path.name for path in folder.glob("*.html"))
    except (ConfigError, OSError):
        return
    for name in names:
        if find_file(store, f"{NOTEBOOKS}/{name}") is not None:
            yield name.removesuffix(".html"), f"/{REPORTS}/{NOTEBOOKS}/{quote(name)}"
