"""Serves optuna-dashboard over the database that a sweep writes to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from lander.errors import ConfigError
from lander.terminal import say
from sweeps.hints import with_extra
from sweeps.publish.page import HOST
from sweeps.store.store import Store

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SAFE: Final = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread per connection: browsers open some before they need them."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Logs errors only: pages ask every few seconds, and the printed link should stay visible."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no successful request."""


def guarded(application: WSGIApplication, *, port: int) -> WSGIApplication:
    """The application, closed to pages of other sites.

    Such a page may send a form, or let its own host name resolve to this machine (DNS rebinding);
    both show in the names of host and origin that the browser sends.
    """
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        allowed = environ.get("HTTP_HOST", "").lower() in hosts
        origin = environ.get("HTTP_ORIGIN", "")
        if origin:
            allowed &= origin.lower() in {f"http://{host}" for host in hosts}
        if environ.get("REQUEST_METHOD") not in SAFE:
            allowed &= environ.get("HTTP_SEC_FETCH_SITE", "same-origin") in ("same-origin", "none")
        if allowed:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"this dashboard answers to http://{HOST}:{port} only\n".encode()]

    return guard


def serve(store: Store, *, port: int) -> None:
    """Serve the dashboard of all sweeps of a store until Ctrl-C; it can also change them.

    Raises:
        ConfigError: the package is missing, or the port is taken.
    """
    if find_spec("optuna_dashboard") is None:
        raise ConfigError(f"optuna-dashboard is missing: {with_extra('dashboard')}")
    trials = store.trials()
    application = import_module("optuna_dashboard").wsgi(trials)
    try:
        server = make_server(HOST, port, guarded(application, port=port), Server, Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot serve on port {port}: {error.strerror}: choose another with --port"
        ) from None
    with server, suppress(KeyboardInterrupt):
        for name in store.study_names():
            study = trials.get_study_id_from_name(name)
            say(f"{name}: http://{HOST}:{port}/dashboard/studies/{study}")
        server.serve_forever()
