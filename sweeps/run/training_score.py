"""What the score of a training is, by the keys of its study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lander.trainer import TrainResult
from sweeps.scores import mean
from sweeps.study.study import Study

PENALTY: Final = 2
"""A training that does not reach its target counts as one of so many budgets, as is usual where
times to a target are averaged (PAR2)."""


def training_score(result: TrainResult, steps: Sequence[int], study: Study) -> float:
    """The score of a training; `steps` are those at its checkpoints. More is always better.

    The final evaluation stands for the last checkpoint of several whose mean is the score: it flies
    the same policy on more episodes.
    """
    returns = [evaluation.return_mean for evaluation in result.checkpoints]
    match study.settings.training_score:
        case "area":
            return float(np.average(returns, weights=np.diff([0, *steps])))
        case "time_to_target":
            return -float(time_to_target(returns, steps, study))
        case _:
            before = returns[-study.settings.score_checkpoints : -1]
            return mean([*before, result.final.return_mean])


def time_to_target(returns: Sequence[float], steps: Sequence[int], study: Study) -> int:
    """Environment steps at the first checkpoint that returns the target."""
    target = study.target
    reached = [
        step
        for value, step in zip(returns, steps, strict=True)
        if target is not None and value >= target
    ]
    return min(reached, default=PENALTY * study.base.budget)
