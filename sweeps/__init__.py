"""Optuna sweeps over `lander.trainer.train`, every trial recorded in MLflow."""

import os

# MLflow looks at this once, when it is imported; the rest is for `sweeps.cli` to set
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
