"""Prepares a process of ours, a command or a worker; who imports this package keeps their own."""

from __future__ import annotations

import os
from typing import Final

VARIABLES: Final = {
    # nothing here reports to anyone, draws bars for small files, or runs code that a store holds
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # a server that does not answer must not hold training up; `sweeps.spool` asks again, and knows
    # what has arrived
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "SDL_VIDEODRIVER": "dummy",  # pictures are drawn without a screen
}


def prepare_process() -> None:
    """Set the environment of this process and its children; what is set already stays."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
