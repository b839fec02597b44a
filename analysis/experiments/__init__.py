"""Experiments whose results README and docs show."""
