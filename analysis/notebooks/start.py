"""The answers of notebook 00, from the table of `load_trials` and the ranks of the trials."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sweeps.scores import Ranked, promise

ENDED = ("COMPLETE", "PRUNED")


def outcome(trials: pd.DataFrame) -> str:
    """What came of it?"""
    counts = trials["state"].value_counts()
    ends = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    parts = [f"{counts[state]} {what}" for state, what in ends.items() if state in counts]
    if not parts:
        return "No trial has begun yet."
    finished = trials[trials["state"] == "COMPLETE"]["value"].dropna()
    if len(finished):
        parts[-1] += f"; the highest score is {finished.max():.1f}, of trial {finished.idxmax()}"
    return f"{', '.join(parts)}."


def promises(ranks: Sequence[Ranked]) -> pd.DataFrame:
    """A row per configuration, the highest expected return first: what its trainings returned, what
    to expect of it, with its standard error, and how many trainings that rests on."""
    rows = [(likely.promised, likely.value, likely.error, likely.trainings) for _, likely in ranks]
    numbers = pd.Index([trial.number for trial, _ in ranks], name="trial")
    return pd.DataFrame(rows, index=numbers, columns=["promised", "expected", "error", "trainings"])


def best_promise(ranks: Sequence[Ranked]) -> str:
    """What was promised, and what can be expected?"""
    if not ranks:
        return "No trial has finished, so nothing can be expected yet."
    trial, likely = ranks[0]
    return f"The best: {promise(trial.number, likely)}."


def quickest(trials: pd.DataFrame) -> int:
    """The trial that took the least time, of those that finished or were pruned at a checkpoint."""
    ended = trials[trials["state"].isin(ENDED)].dropna(subset=["seconds", "last_return"])
    return int(ended["seconds"].idxmin())
