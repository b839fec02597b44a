"""The values of a searched field over some trials, with the scale and ticks of their axis.

For the charts of `sweeps.charts.search`, which draw every field, whatever its kind, in one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from lander.options import human
from sweeps.study.ranges import Range


@dataclass(frozen=True)
class Column:
    """The values of one field, or of the score, in the order of the trials."""

    field: str
    values: list[float]
    """Choices by their index; NaN where the field did nothing."""
    log: bool
    names: list[str] | None
    """Names of the choices, by index; None for numbers."""
    searched: tuple[float, float]
    """Both ends of the searched range."""

    @property
    def label(self) -> str:
        """The field's name for people, and as it is typed; of the score its name alone."""
        return f"{human(self.field)}\n{self.field}" if "." in self.field else self.field

    @property
    def known(self) -> list[float]:
        """Values of the trials in which the field did something; the range if there are none."""
        return [value for value in self.values if not np.isnan(value)] or list(self.searched)


def column_of(trials: Sequence[FrozenTrial], range_: Range) -> Column:
    """The values of a searched field in `trials`."""
    distribution = range_.distribution

    def value_in(trial: FrozenTrial) -> float:
        if range_.parameter not in trial.params:
            return float("nan")
        value = range_.to_field(trial.params[range_.parameter])
        if isinstance(distribution, CategoricalDistribution):
            return float(distribution.choices.index(value))
        return float(value)

    values = [value_in(trial) for trial in trials]
    if isinstance(distribution, CategoricalDistribution):
        names = [str(choice) for choice in distribution.choices]
        return Column(range_.field, values, False, names, (0.0, len(names) - 1.0))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = sorted((range_.to_field(distribution.low), range_.to_field(distribution.high)))
    log = distribution.log and not range_.one_minus
    return Column(range_.field, values, log, None, (low, high))


def set_x_axis(axes: Axes, column: Column, tried: Sequence[float]) -> None:
    """Give the x axis the column's scale, its choices as ticks, each with how many of the values in
    `tried` have it, and the whole searched range."""
    if column.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = column.searched
    margin = (high / low) ** 0.05 if column.log else 0.05 * (high - low) or 0.5
    axes.set_xlim(*((low / margin, high * margin) if column.log else (low - margin, high + margin)))
    if column.names is not None:
        counts = [sum(value == i for value in tried) for i in range(len(column.names))]
        names = [f"{name}\n({n})" for name, n in zip(column.names, counts, strict=True)]
        axes.set_xticks(range(len(names)), names)


def heights(column: Column, values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Where `values` lie between the least value of the column, 0, and its largest, 1."""
    every = np.array(column.known if column.names is None else range(len(column.names)), float)
    at = np.asarray(values, float)
    if column.log:
        every, at = np.log(every), np.log(at)
    span = every.max() - every.min()
    return (at - every.min()) / span if span > 0 else np.where(np.isnan(at), at, 0.5)


def ticks(column: Column) -> list[tuple[float, str]]:
    """Values to label, with their labels: every choice, or both ends and the middle."""
    if column.names is not None:
        return [(float(i), name) for i, name in enumerate(column.names)]
    low, high = min(column.known), max(column.known)
    middle = float(np.sqrt(low * high)) if column.log else (low + high) / 2
    return [(value, f"{value:.3g}") for value in dict.fromkeys((low, middle, high))]
