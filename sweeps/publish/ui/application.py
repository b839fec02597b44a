"""Everything that shows a store, at one address: start page, reports, MLflow, Optuna's dashboard.

MLflow's own pages and interface are at the addresses where `mlflow server` has them, so that the
address also serves as MLFLOW_TRACKING_URI; ours and Optuna's are at addresses that it leaves free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sweeps.publish.page import RUNS
from sweeps.publish.ui.files import POLICY, REPORTS, TYPES, find_file
from sweeps.publish.ui.server import HEALTH, SAFE
from sweeps.publish.ui.start_page import START, runs_page, start_page
from sweeps.store.store import Store

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

DASHBOARD: Final = ("dashboard", "static", "csv", "artifacts")
"""First parts of Optuna's addresses; also api, where MLflow's go on with a version."""
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Page:
    """An answer of our own."""

    body: bytes
    kind: str = HTML
    status: str = "200 OK"
    policy: str = "frame-ancestors 'self'"
    """Of the page's content."""


NOT_FOUND: Final = Page(b"not found\n", TEXT, "404 Not Found")
READ_ONLY: Final = Page(b"this page can only be read\n", TEXT, "405 Method Not Allowed")


@dataclass(frozen=True)
class Application:
    """The pages of a store."""

    store: Store
    mlflow: WSGIApplication | None = None
    """None: a tracking server shows the runs."""
    dashboard: WSGIApplication | None = None
    """None: the package is not installed."""

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        if self.dashboard is not None and is_dashboards(path):
            return self.dashboard(environ, start)
        page = self.page(path)
        if page is None and self.mlflow is not None:
            return self.mlflow(environ, start)
        if environ.get("REQUEST_METHOD") not in SAFE:
            page = READ_ONLY
        return answered(page or NOT_FOUND, start)

    def page(self, path: str) -> Page | None:
        """The page of ours at an address; None if the address is none of ours."""
        if path == HEALTH:
            return Page(b"OK", TEXT)
        if path == START:
            return Page(start_page(self.store, dashboard=self.dashboard is not None).encode())
        if path.startswith(RUNS):
            text = runs_page(self.store, path.removeprefix(RUNS))
            return NOT_FOUND if text is None else Page(text.encode())
        if path.startswith(f"/{REPORTS}/"):
            return self.file(path.removeprefix(f"/{REPORTS}/"))
        return None

    def file(self, path: str) -> Page:
        """A file among the reports."""
        file = find_file(self.store, path)
        if file is None:
            return NOT_FOUND
        return Page(file.read_bytes(), TYPES[file.suffix], policy=POLICY)


def is_dashboards(path: str) -> bool:
    """Whether an address is one of Optuna's dashboard."""
    first, _, rest = path.removeprefix("/").partition("/")
    return first in DASHBOARD or (first == "api" and not rest[:1].isdigit())


def answered(page: Page, start: StartResponse) -> Iterable[bytes]:
    """A page as an answer."""
    headers = {
        "Content-Type": page.kind,
        "Content-Length": str(len(page.body)),
        "Content-Security-Policy": page.policy,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    start(page.status, list(headers.items()))
    return [page.body]
