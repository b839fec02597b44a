"""The commands `ui` and `dashboard`: both start one server, and print other links."""

from __future__ import annotations

import argparse
import os
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import quote

from lander.errors import ConfigError
from lander.terminal import say
from sweeps.hints import no_sweep
from sweeps.publish.page import HOST, RUNS, experiment_path, server_of
from sweeps.publish.ui.application import Application
from sweeps.publish.ui.dashboard import (
    dashboard_application,
    is_installed,
    require_installed,
    study_path,
)
from sweeps.publish.ui.server import bound, own_hosts, serve
from sweeps.publish.ui.start_page import START
from sweeps.schema import EXPERIMENT_ID
from sweeps.store.environment import ALLOWED_HOSTS, clean_server_environment
from sweeps.store.mlflow_private import server_application
from sweeps.store.store import Store

EVERYTHING: Final = "everything"
"""What the link to the start page is called."""


def ui(args: argparse.Namespace) -> int:
    """Serve all that shows a store, unless a tracking server has its runs: then print links to
    that."""
    store = Store(args.store)
    recorded = {
        name: experiment
        for name in require_sweeps(store)
        if (experiment := store.load_study(name).user_attrs.get(EXPERIMENT_ID)) is not None
    }  # a sweep without one was only partly created, and has no page
    if store.tracked_remotely:
        for name, experiment in recorded.items():
            say(f"{name}: {server_of(store)}{experiment_path(str(experiment))}")
        return 0
    paths = {name: RUNS + quote(name) for name in recorded} | {EVERYTHING: START}
    return serve_store(store, port=args.port, paths=paths, browse=args.open)


def dashboard(args: argparse.Namespace) -> int:
    """Serve the same, and print links to Optuna's dashboard."""
    store = Store(args.store)
    names = require_sweeps(store)
    require_installed()
    paths = {name: study_path(store, name) for name in names}
    return serve_store(store, port=args.port, paths=paths, browse=args.open)


def require_sweeps(store: Store) -> list[str]:
    """Names of the sweeps in a store, at least one.

    Raises:
        ConfigError: there is none.
    """
    names = store.study_names()
    if not names:
        raise ConfigError(no_sweep(store.folder))
    return names


def serve_store(store: Store, *, port: int, paths: Mapping[str, str], browse: bool) -> int:
    """Serve a store on this port or the next free one until Ctrl-C; the exit code.

    Raises:
        ConfigError: no port is free.
    """
    with suppress(KeyboardInterrupt):
        server = bound(port)
        clean_server_environment(hosts=",".join(own_hosts(server.port)))
        mlflow = None
        if not store.tracked_remotely:
            mlflow = server_application(store.tracking_uri, artifacts=store.artifacts_uri)
        trials = dashboard_application(store) if is_installed() else None
        serve(
            server,
            Application(store, mlflow, trials),
            hosts=os.environ[ALLOWED_HOSTS].split(","),
            ready=partial(announce, paths, port=server.port, asked=port, browse=browse),
        )
    return 0


def announce(paths: Mapping[str, str], *, port: int, asked: int, browse: bool) -> None:
    """Print a link for each path, and open the last one in a browser if that is wanted."""
    links = {name: f"http://{HOST}:{port}{path}" for name, path in paths.items()}
    for name, link in links.items():
        say(f"{name}: {link}")
    elsewhere = f"port {asked} is in use; " if port != asked else ""
    say(f"{elsewhere}Ctrl-C stops the server")
    if browse:
        webbrowser.open(list(links.values())[-1])


FUNCTIONS: Final = {"ui": ui, "dashboard": dashboard}
