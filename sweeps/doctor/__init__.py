"""Compares what the two databases say of a store, and repairs it."""
