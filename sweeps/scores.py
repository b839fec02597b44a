"""The score of a trial over its training seeds, and the best of many trials.

The objective, status, charts and analysis all rank trials by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import numpy as np
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from sweeps.endings import NEVER, ended
from sweeps.schema import POINT, RETURNS

CONFIDENCE: Final = 0.95
"""Level of every interval that is shown."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(values))


def iqm(values: Sequence[float]) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the values, each
    rounded down to whole values (Agarwal et al. 2021, arXiv:2108.13264)."""
    cut = len(values) // 4  # not scipy's trim_mean: a bootstrap calls this ten thousand times
    return mean(sorted(values)[cut : len(values) - cut])


def median_index(scores: Sequence[float]) -> int:
    """Where the median of some trainings' scores is, the lower of two: which training to show.

    A better one would show luck, not what to expect.
    """
    order = sorted(range(len(scores)), key=scores.__getitem__)
    return order[(len(scores) - 1) // 2]


SCORES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"mean": mean, "iqm": iqm}
"""How the scores of training seeds become one, by the value of `score` in a study file."""


def seed_scores(trial: FrozenTrial) -> list[float]:
    """The mean final return under each training seed that has finished."""
    return [mean(returns) for returns in trial.user_attrs.get(RETURNS, [])]


def last_return(trial: FrozenTrial) -> float | None:
    """The score of a finished trial, the return so far of a pruned one, or None."""
    if trial.state == TrialState.PRUNED and RETURNS in trial.user_attrs:
        return mean(seed_scores(trial))
    return trial.values[0] if trial.values else None


def ranked(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Finished trials, the best first; equal scores in the order of their numbers.

    Of trials with the same parameters only the last to finish: its score includes all of them.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    finished.sort(key=lambda trial: (ended_at(trial), trial.number))
    last = {parameters(trial): trial for trial in finished}
    return sorted(last.values(), key=lambda trial: (-trial.values[0], trial.number))


def best_so_far(trials: Iterable[FrozenTrial]) -> list[float]:
    """The score of `best_of` after each finished trial, in the order of their numbers.

    It falls when the best parameters are trained again and score less.
    """
    last: dict[tuple[tuple[str, object], ...], FrozenTrial] = {}
    best, bests = -np.inf, list[float]()
    for trial in sorted(trials, key=lambda trial: trial.number):
        key = parameters(trial)
        before = last.get(key)
        if before is None or ended_at(before) <= ended_at(trial):
            last[key] = trial
        if before is not None and before.values[0] == best:
            best = max(other.values[0] for other in last.values())
        best = max(best, last[key].values[0])
        bests.append(best)
    return bests


def ended_at(trial: FrozenTrial) -> datetime:
    """When a finished trial ended, in UTC; `NEVER` if that is unknown."""
    return ended(trial) or NEVER


def parameters(trial: BaseTrial) -> tuple[tuple[str, object], ...]:
    """A key that is equal for trials of the same named point, or else of the same parameters."""
    point = trial.user_attrs.get(POINT)
    # in a confirmation it is a number; a point that is older than others may lack a parameter
    return ((POINT, point),) if isinstance(point, str) else tuple(sorted(trial.params.items()))


def best_of(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """The best finished trial; None if none has finished."""
    return next(iter(ranked(trials)), None)
