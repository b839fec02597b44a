"""Learning curves: mean over trainings with its 95 % interval."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from analysis.stats import mean_estimate
from sweeps.charts.style import COLOURS, STYLES

FEW: Final = 20
"""Number of points up to which a curve has a marker on each."""


def curves(tables: dict[str, pd.DataFrame], axes: Axes, *, label: str, points: int = 60) -> Axes:
    """Draw one curve per table of `load_curves`: the mean over trainings, with its 95 % interval.

    A training is a pair of trial and seed.
    """
    for i, (name, table) in enumerate(tables.items()):
        steps, values = averaged(table, points=points)
        if not len(steps):
            continue
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        marker = "o" if len(steps) <= FEW else ""
        mean = values.mean(axis=0)
        axes.plot(
            steps, mean, color=colour, linestyle=style, marker=marker, markersize=4, label=name
        )
        if len(values) > 1:
            bands = [mean_estimate(column.tolist()) for column in values.T]
            low, high = [band.low for band in bands], [band.high for band in bands]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("environment steps")
    axes.set_ylabel(label)
    if axes.get_legend_handles_labels()[0]:  # else matplotlib warns
        axes.legend(fontsize=8, loc="best", frameon=False)
    return axes


def averaged(
    table: pd.DataFrame, *, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) and the values at them (trainings, P), up to the shortest training of the table.

    The points are the recorded ones if all trainings have as many, as they have checkpoints, or
    have theirs at about the same steps: the k-th value of each, at the mean of their steps.
    Otherwise, as when rollouts differ in size, values are interpolated at `points` equal steps.
    """
    known = table.dropna(subset=["env_steps", "value"])
    x, y = (known[name].to_numpy(dtype="float64") for name in ("env_steps", "value"))
    rows = known.groupby(["trial", "seed"]).indices.values()
    trainings = [(x[index], y[index]) for index in rows if len(index) > 1]
    if not trainings:
        return np.empty(0), np.empty((0, 0))
    counts = {len(steps) for steps, _ in trainings}
    common = min(counts)
    each = np.stack([steps[:common] for steps, _ in trainings])
    if len(counts) == 1 or 2 * np.ptp(each, axis=0).max() <= np.diff(each).min():
        return each.mean(axis=0), np.stack([values[:common] for _, values in trainings])
    first = max(steps[0] for steps, _ in trainings)
    last = min(steps[-1] for steps, _ in trainings)
    steps = np.linspace(first, last, points)
    return steps, np.stack([np.interp(steps, *training) for training in trainings])
