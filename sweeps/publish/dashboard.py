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
from sweeps.hints import hint, in_checkout
from sweeps.publish.publish import HOST
from sweeps.store.store import Store

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SAFE: Final = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread per connection: browsers open some before they need them."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Tells of errors only: a page asks every few seconds, the link should stay in sight."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


def guarded(application: WSGIApplication, *, port: int) -> WSGIApplication:
    """The application for pages of its own only.

    A page of another site may have its host name lead here (DNS rebinding), or send a form: the
    names that a browser gives, of who is asked and of whose page asks, tell.
    """
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        own = environ.get("HTTP_HOST", "").lower() in hosts
        asking = environ.get("HTTP_ORIGIN", "")
        if asking:
            own &= asking.lower() in {f"http://{host}" for host in hosts}
        if environ.get("REQUEST_METHOD") not in SAFE:
            own &= environ.get("HTTP_SEC_FETCH_SITE", "same-origin") in ("same-origin", "none")
        if own:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"this dashboard answers to http://{HOST}:{port} only\n".encode()]

    return guard


def serve(store: Store, *, port: int) -> None:
    """The dashboard of all sweeps of a store, until Ctrl-C; it can also change what it shows.

    Raises:
        ConfigError: the package is missing, or the port is taken.
    """
    if find_spec("optuna_dashboard") is None:
        if in_checkout():  # its target installs what it needs
            remedy = f"{hint('dashboard', store.folder)} installs and starts it"
        else:
            remedy = "install the extra dashboard, or optuna-dashboard with pip"
        raise ConfigError(f"optuna-dashboard is missing: {remedy}")
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
