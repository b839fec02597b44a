"""Reads the records of sweeps back: figures, statistics, reports."""

from sweeps import BEFORE_MLFLOW as BEFORE_MLFLOW  # set before a module here imports it
