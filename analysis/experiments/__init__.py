"""Experiments whose results README quotes."""
