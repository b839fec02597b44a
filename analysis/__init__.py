"""Reads the records of sweeps back: figures, statistics, reports."""
