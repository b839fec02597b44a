"""Optuna's dashboard of the trials of a store."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import optuna

from lander.errors import ConfigError
from sweeps.hints import with_extra
from sweeps.publish.page import run_path, server_of
from sweeps.schema import EXPERIMENT_ID, RUN_ID
from sweeps.store.store import Store

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def is_installed() -> bool:
    """Whether the package is."""
    return find_spec("optuna_dashboard") is not None


def require_installed() -> None:
    """Raise ConfigError, with the remedy, if it is not."""
    if not is_installed():
        raise ConfigError(f"optuna-dashboard is missing: {with_extra('dashboard')}")


def study_path(store: Store, name: str) -> str:
    """The address of a sweep on its pages, without that of the server."""
    return f"/dashboard/studies/{store.trials().get_study_id_from_name(name)}"


def dashboard_application(store: Store) -> WSGIApplication:
    """Its pages; it can also change the sweeps. Each study's note leads to its run in MLflow."""
    package, trials = import_module("optuna_dashboard"), store.trials()
    for name in store.study_names():
        study = optuna.load_study(study_name=name, storage=trials)
        if RUN_ID in study.user_attrs and not package.get_note(study):
            run = run_path(str(study.user_attrs[EXPERIMENT_ID]), str(study.user_attrs[RUN_ID]))
            package.save_note(study, f"[{name} in MLflow]({server_of(store)}{run})")
    application: WSGIApplication = package.wsgi(trials)
    return application
