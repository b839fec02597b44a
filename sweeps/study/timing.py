"""Predicts how long a trial takes, from its parameters and the trials before it.

The logarithm of its seconds is a line over the searched fields, each on the scale on which it is
searched: epochs, minibatches and steps multiply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.endings import seconds
from sweeps.study.ranges import Range
from sweeps.study.space import Space

Floats = NDArray[np.float64]

FEWEST: Final = 8
"""Fewer finished trials predict nothing."""
RIDGE: Final = 0.1
"""Draws each slope towards 0, by as much as a tenth of a trial at the end of its range."""


def columns(params: Mapping[str, Any], space: Space) -> list[float]:
    """Parameters as numbers: from -0.5 to 0.5 across a range, 0 where a field has no effect, and
    one column for each choice."""
    return [value for range_ in space.values() for value in columns_of(range_, params)]


def columns_of(range_: Range, params: Mapping[str, Any]) -> list[float]:
    """The columns of one field."""
    distribution, known = range_.distribution, range_.parameter in params
    if isinstance(distribution, CategoricalDistribution):
        own = params.get(range_.parameter)
        return [float(known and own == choice) for choice in distribution.choices]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not known or distribution.single():
        return [0.0]
    value, low, high = float(params[range_.parameter]), distribution.low, distribution.high
    if distribution.log:
        return [(log(value) - log(low)) / (log(high) - log(low)) - 0.5]
    return [(value - low) / (high - low) - 0.5]


@dataclass(frozen=True)
class Timing:
    """How long trials of a sweep take."""

    space: Space
    middle: Floats
    """(columns,): means over the trials behind it."""
    slopes: Floats
    """(columns,): of the logarithm of seconds."""
    level: float
    """Mean logarithm of their seconds."""
    error: float
    """How far predictions of left-out trials are off, root mean square, as a logarithm."""
    explained: float
    """The share of the variance of left-out logarithms that it predicts; below 0: it misleads."""

    def seconds(self, params: Mapping[str, Any]) -> float:
        """Of a trial of these parameters that runs to its end."""
        return exp(self.level + float((columns(params, self.space) - self.middle) @ self.slopes))

    def importances(self) -> dict[str, float]:
        """By what factor the seconds change across the range of each field, or between its choices:
        at least 1."""
        factors, first = dict[str, float](), 0
        for name, range_ in self.space.items():
            count = len(columns_of(range_, {}))
            own = self.slopes[first : first + count]
            factors[name] = exp(abs(own[0]) if count == 1 else float(np.ptp(own)))
            first += count
        return dict(sorted(factors.items(), key=lambda item: -item[1]))


def timing_of(trials: Sequence[FrozenTrial], space: Space) -> Timing | None:
    """How long trials take, by the finished ones; None if they are too few."""
    timed = [
        (trial, took)
        for trial in trials
        if trial.state == TrialState.COMPLETE and (took := seconds(trial))
    ]
    if len(timed) < FEWEST:
        return None
    design = np.array([columns(trial.params, space) for trial, _ in timed])
    logs = np.log([took for _, took in timed])
    count, middle, level = len(timed), design.mean(axis=0), float(logs.mean())
    apart = design - middle
    inverse = np.linalg.inv(apart.T @ apart + RIDGE * np.eye(apart.shape[1]))
    slopes = inverse @ apart.T @ (logs - level)
    # each left out in turn, by the hat matrix (Allen 1974, doi:10.1080/00401706.1974.10489157)
    leverage = np.einsum("ij,jk,ik->i", apart, inverse, apart) + 1 / count
    left_out = (logs - level - apart @ slopes) / np.maximum(1 - leverage, 1e-9)
    squares = float(left_out @ left_out)
    alone = float(np.sum(((logs - level) * count / (count - 1)) ** 2))
    return Timing(
        space=space,
        middle=middle,
        slopes=slopes,
        level=level,
        error=(squares / count) ** 0.5,
        explained=1 - squares / alone if alone else 0.0,
    )


def seconds_left(
    known: Timing, trials: Sequence[FrozenTrial], *, total: int, elapsed: Mapping[int, float]
) -> float:
    """Seconds of work until `total` trials have ended, for one worker.

    `elapsed`: how long each running trial runs already, by its number. A trial that has not begun
    takes as long as the ended ones did in relation to what is predicted for them: some are pruned.
    """
    ended = [trial for trial in trials if trial.state.is_finished() and seconds(trial)]
    whole = [known.seconds(trial.params) for trial in ended]
    kept = sum(seconds(trial) or 0.0 for trial in ended) / sum(whole) if ended else 1.0
    usual = float(np.mean(whole)) if whole else exp(known.level)
    left = 0.0
    for trial in trials:
        if trial.number in elapsed:
            left += max(0.0, kept * known.seconds(trial.params) - elapsed[trial.number])
        elif trial.state == TrialState.WAITING and trial.params:
            left += kept * known.seconds(trial.params)
    begun = sum(trial.state != TrialState.WAITING or bool(trial.params) for trial in trials)
    return left + max(0, total - begun) * kept * usual
