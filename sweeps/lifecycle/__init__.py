"""Starts and resumes sweeps, and recovers their lost trials."""
