"""Experiments, statistics and tables."""
