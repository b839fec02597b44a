"""Simulated sweeps: which search finds the best configuration, and which rule recognises it."""
