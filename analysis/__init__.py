"""Reads the records of sweeps back: figures, statistics, reports."""

from sweeps import BEFORE_OTHERS as BEFORE_OTHERS  # set before a module here imports MLflow
