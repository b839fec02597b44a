"""Optuna sweeps over `lander.train`, every trial recorded in MLflow."""

import os

BEFORE_OTHERS = {
    # nothing here reports to anyone, draws bars for small files, or runs code that a store holds
    "MLFLOW_DISABLE_TELEMETRY": "true",
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
os.environ.update({name: value for name, value in BEFORE_OTHERS.items() if name not in os.environ})
