"""Environment variables of MLflow and Optuna that the user's shell may have set.

A variable without an effect here is removed with a warning, one that contradicts the store is an
error; every command calls `clean_environment` first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from lander.errors import ConfigError
from lander.terminal import say
from sweeps.errors import redacted
from sweeps.store.database import TRACKING_ENV
from sweeps.store.database_files import MLFLOW_FILE
from sweeps.store.store import Store

UNUSED: Final = {
    "MLFLOW_RUN_ID": "every trial has a run of its own",
    "MLFLOW_EXPERIMENT_ID": "every study has an experiment of its own",
    "MLFLOW_EXPERIMENT_NAME": "every study has an experiment of its own",
    "MLFLOW_ACTIVE_MODEL_ID": "every trial has a model of its own",
    "MLFLOW_RUN_CONTEXT": "a run has the tags that the reference names",
    "MLFLOW_REGISTRY_URI": "models are registered where runs are recorded",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "records are on disk before they are sent",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "a run has the metrics that the reference names",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "no pickle is loaded",
    "OPTUNA_STORAGE": "SWEEPS_STORAGE names the server of the trials",
}
"""Variable whose choice is made elsewhere -> why it has no effect, as the warning says it."""
UNSERVED: Final = (
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_ARTIFACTS_ONLY",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_ENABLE_WORKSPACES",
    "MLFLOW_GUNICORN_OPTS",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
    "MLFLOW_STATIC_PREFIX",
    "MLFLOW_UVICORN_OPTS",
    "MLFLOW_WORKSPACE_STORE_URI",
)
"""Variables of a shared server; the server that `ui` starts serves one store to this machine."""
ALLOWED_HOSTS: Final = "MLFLOW_SERVER_ALLOWED_HOSTS"
OFF: Final = ("", "0", "false")
"""Values of a variable that is set and has no effect."""
NO_PICKLE: Final = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


def clean_environment(store: Store) -> None:
    """Remove variables that have no effect here, with a warning each, for this process and its
    children; forbid pickles.

    Raises:
        ConfigError: a variable contradicts the store, or another one.
    """
    remove_with_warning(
        {name: why for name, why in UNUSED.items() if name != NO_PICKLE or is_set(name)}
    )
    os.environ[NO_PICKLE] = "false"
    uri = os.environ.get(TRACKING_ENV, "")
    if uri.startswith("sqlite:"):
        file = Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve()
        if file != store.file(MLFLOW_FILE):
            raise ConfigError(
                f"{TRACKING_ENV} must be http://HOST:PORT or https://HOST of an MLflow server, got "
                f"{redacted(uri)!r}: runs are recorded in {store.folder}, unset it"
            )
    if is_set("MLFLOW_TRACKING_INSECURE_TLS") and is_set("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        raise ConfigError(
            "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each "
            "other: unset one"
        )


def clean_server_environment(*, hosts: str) -> None:
    """Remove variables of a shared server before `ui` starts one; it answers to `hosts` unless the
    shell names others, and runs no jobs."""
    remove_with_warning(dict.fromkeys(UNSERVED, "one store is served, to this machine"))
    os.environ.setdefault(ALLOWED_HOSTS, hosts)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


def remove_with_warning(reasons: dict[str, str]) -> None:
    """Remove variables from the environment, with a warning for each that was in effect."""
    for name, why in reasons.items():
        if is_set(name):
            say(f"sweeps: warning: {name} has no effect here: {why}", error=True)
        os.environ.pop(name, None)


def is_set(name: str) -> bool:
    """Whether the shell holds a variable with a value that has an effect."""
    return os.environ.get(name, "").lower() not in OFF


def unreadable_variable(error: Exception) -> str:
    """One line about a variable that MLflow cannot read; empty for any other error."""
    line = " ".join(str(error).split())
    return redacted(line)[:300] if isinstance(error, ValueError) and "MLFLOW_" in line else ""
