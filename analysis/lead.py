"""How far one trial is ahead of another, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats import Estimate, difference, mean_estimate
from sweeps.scores import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Lead:
    """The difference of two final returns."""

    estimate: Estimate
    over: str
    """What was averaged, in words: trainings if each has several, or else episodes, and then the
    interval is about two policies and not about what they were trained with."""


def lead(episodes: pd.DataFrame, one: int, other: int) -> Lead | None:
    """Candidate `one` minus candidate `other`, from `load_episodes`; None if one of them has none.

    Of one training each, episodes of equal number make a pair.
    """
    mine, theirs = (by_training(episodes, candidate) for candidate in (one, other))
    if mine.empty or theirs.empty:
        return None
    if min(mine.shape[1], theirs.shape[1]) > 1:
        count = f"{mine.shape[1]} and {theirs.shape[1]}"
        count = str(mine.shape[1]) if mine.shape[1] == theirs.shape[1] else count
        means = mine.mean().tolist(), theirs.mean().tolist()
        return Lead(difference(*means), f"{count} trainings each")
    apart = (mine.iloc[:, 0] - theirs.iloc[:, 0]).dropna()
    over = f"{len(apart)} paired episodes of one training each"
    return Lead(mean_estimate(apart.tolist()), over)


def by_training(episodes: pd.DataFrame, candidate: int) -> pd.DataFrame:
    """A row per episode, a column per training of the candidate."""
    own = episodes[episodes["candidate"] == candidate]
    return own.pivot(index="episode", columns=["trial", "seed"], values="return")


def seed_spread(episodes: pd.DataFrame) -> tuple[Estimate, int] | None:
    """By how much a score moves when only the training seed changes: the standard deviation within
    candidates, pooled, with its chi-square interval; and how many candidates tell. None if no
    candidate has two trainings.

    s^2 = sum of squares / d, sigma^2 in [d s^2 / chi2(0.975, d), d s^2 / chi2(0.025, d)]
    """
    scores = episodes.groupby(["candidate", "trial", "seed"])["return"].mean()
    groups = [own.to_numpy() for _, own in scores.groupby("candidate") if len(own) > 1]
    if not groups:
        return None
    squares = sum(float(np.sum((own - own.mean()) ** 2)) for own in groups)
    freedom = sum(len(own) - 1 for own in groups)
    tail = (1 - CONFIDENCE) / 2
    low, high = stats.chi2.ppf([1 - tail, tail], freedom)
    found = Estimate(*(float(np.sqrt(squares / by)) for by in (freedom, low, high)))
    return found, len(groups)
