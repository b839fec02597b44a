"""Reads the records of sweeps back: figures, statistics, reports."""

import sweeps as sweeps  # switches MLflow's telemetry off before a module here imports MLflow
