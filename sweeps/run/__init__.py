"""Runs the trials of a sweep: its workers, their launchers and their supervisor."""
