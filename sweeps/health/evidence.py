"""What the checks of a sweep look at: its configurations, how they ended, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.health.finding import TooLittle
from sweeps.scores import expected, last_return, parameters, seed_scores, with_last_return
from sweeps.store.trials import Trials
from sweeps.study.ranges import Range
from sweeps.study.study import Study

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Equal parameters, whose trials have finished or were pruned."""

    number: int
    """Of its first trial."""
    params: Mapping[str, Any]
    """By Optuna's names."""
    worth: float
    """The expected return; of one that no trial finished, the return at its last checkpoint."""
    scores: Sequence[float]
    """Of all trainings that finished."""


@dataclass(frozen=True)
class Evidence:
    """A sweep at one moment, and what its policies returned with sampled actions."""

    study: Study
    trials: Trials
    folder: Path
    """Of its store, which commands name."""
    sampled: Mapping[str, float] | None = None
    """By the ids of runs; None if MLflow did not answer."""

    @cached_property
    def configurations(self) -> list[Configuration]:
        """Those that have returned something, in the order of their first trials."""
        likely = {parameters(trial): one.value for trial, one in expected(self.trials.counted)}
        same: dict[object, list[FrozenTrial]] = {}
        for trial in with_last_return(self.trials.counted):
            if np.isfinite(last_return(trial) or 0.0):
                same.setdefault(parameters(trial), []).append(trial)
        return [
            Configuration(
                number=trials[0].number,
                params=trials[0].params,
                worth=likely.get(parameters(trials[0]), last_return(trials[-1]) or 0.0),
                scores=[
                    score
                    for trial in trials
                    if trial.state == TrialState.COMPLETE
                    for score in seed_scores(trial) or trial.values
                ],
            )
            for trials in same.values()
        ]

    def searched(self, *, at_least: int) -> list[Configuration]:
        """The configurations of a search.

        Raises:
            TooLittle: nothing is searched, or too few configurations have returned anything.
        """
        if self.study.points:
            raise TooLittle("its points are named, nothing is searched")
        if len(self.configurations) < at_least:
            raise TooLittle(f"it takes {at_least} configurations, {counted(self.configurations)}")
        return self.configurations

    @property
    def numbers(self) -> list[Range]:
        """The fields that are searched by a range of numbers."""
        return [range_ for range_ in self.study.space.values() if not is_choice(range_)]

    @property
    def choices(self) -> list[Range]:
        """The fields that are searched by choices."""
        return [range_ for range_ in self.study.space.values() if is_choice(range_)]


def counted(configurations: Sequence[Configuration]) -> str:
    """How many have returned something, in words."""
    count = len(configurations)
    return f"{count} {'has' if count == 1 else 'have'} returned something"


def is_choice(range_: Range) -> bool:
    """Whether a field is searched by choices, which have no order."""
    return isinstance(range_.distribution, CategoricalDistribution)


def acting(range_: Range, configurations: Sequence[Configuration]) -> list[Configuration]:
    """The configurations in which a field has an effect."""
    return [one for one in configurations if range_.parameter in one.params]


def worths(configurations: Sequence[Configuration]) -> Floats:
    """(N,): what they are worth."""
    return np.array([one.worth for one in configurations])


def positions(range_: Range, configurations: Sequence[Configuration]) -> Floats:
    """(N,): where a number of each lies in its range, 0 to 1 in the order of the field's values;
    NaN where the field does nothing."""
    return np.array([position(range_, one.params.get(range_.parameter)) for one in configurations])


def position(range_: Range, value: Any) -> float:
    """The same of one of Optuna's values."""
    if value is None:
        return float("nan")
    return 1 - range_.share(value) if range_.one_minus else range_.share(value)
