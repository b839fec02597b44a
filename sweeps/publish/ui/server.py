"""A WSGI server for this machine: a free port, no log, closed to other pages, ended by Ctrl-C."""

from __future__ import annotations

import errno
import socket
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from lander.errors import ConfigError
from sweeps.publish.page import HOST

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SAFE: Final = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
HEALTH: Final = "/health"
"""Answers as soon as the server does."""
TRIES: Final = 20
"""How many ports are tried, the one asked for and those above it."""
SECONDS: Final = 60
"""In which it must answer."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread per connection: browsers open some before they need them."""

    daemon_threads = True

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(WSGIRequestHandler):
    """Logs errors only: pages ask every few seconds, and the printed link should stay visible."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no successful request."""


def bound(port: int) -> Server:
    """A server on this port, or on the next one above it that is free.

    Requests wait until it serves an application.

    Raises:
        ConfigError: none of them is free.
    """
    for candidate in range(port, min(port + TRIES, 2**16)):
        if is_used(candidate):
            continue
        try:
            return Server((HOST, candidate), Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"cannot serve on port {candidate}: {error.strerror}") from None
    raise ConfigError(
        f"ports {port} to {port + TRIES - 1} are all in use: choose another with --port"
    )


def is_used(port: int) -> bool:
    """Whether something answers there; on macOS another program may, on all addresses at once, and
    the port could be bound all the same."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def serve(
    server: Server, application: WSGIApplication, *, hosts: Sequence[str], ready: Callable[[], None]
) -> None:
    """Serve an application until Ctrl-C; call `ready` once it answers."""
    warnings.simplefilter("ignore")  # of the libraries that make the pages
    server.set_app(guarded(application, hosts=hosts))
    thread = Thread(target=server.serve_forever, daemon=True)
    with server, suppress(KeyboardInterrupt):
        thread.start()
        urlopen(f"http://{HOST}:{server.port}{HEALTH}", timeout=SECONDS).close()
        ready()
        thread.join()


def own_hosts(port: int) -> list[str]:
    """The names by which a browser on this machine reaches it."""
    return [f"{name}:{port}" for name in (HOST, "localhost")]


def guarded(application: WSGIApplication, *, hosts: Sequence[str]) -> WSGIApplication:
    """The application, closed to pages of other sites; `hosts` are patterns of its own names.

    Such a page may send a form, or let its own host name resolve to this machine (DNS rebinding);
    both show in the names of host and origin that the browser sends.
    """

    def is_own(host: str) -> bool:
        return any(fnmatchcase(host.lower(), pattern.lower()) for pattern in hosts)

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        allowed = is_own(environ.get("HTTP_HOST", ""))
        origin = environ.get("HTTP_ORIGIN", "")
        if origin:
            scheme, _, host = origin.partition("://")
            allowed &= scheme in ("http", "https") and is_own(host)
        if environ.get("REQUEST_METHOD") not in SAFE:
            allowed &= environ.get("HTTP_SEC_FETCH_SITE", "same-origin") in ("same-origin", "none")
        if allowed:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"this server answers to {' and '.join(hosts)} only\n".encode()]

    return guard
