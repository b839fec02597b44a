"""Serves optuna-dashboard over the database that a sweep writes to."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from lander.fields import ConfigError
from sweeps.hints import hint, in_checkout
from sweeps.publish import HOST
from sweeps.storage import Store


class Server(ThreadingMixIn, WSGIServer):
    """A thread per connection: browsers open some before they need them."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Tells of errors only: a page asks every few seconds, the link should stay in sight."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


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
        server = make_server(HOST, port, application, Server, Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot serve on port {port}: {error.strerror}: choose another with --port"
        ) from None
    with server, suppress(KeyboardInterrupt):
        for name in store.study_names():
            study = trials.get_study_id_from_name(name)
            print(f"{name}: http://{HOST}:{port}/dashboard/studies/{study}", flush=True)
        server.serve_forever()
