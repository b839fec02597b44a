"""Optuna sweeps over `lander.train`, every trial recorded in MLflow."""

import os

# before anything imports mlflow: nothing here reports to anyone, or draws bars for small files
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
