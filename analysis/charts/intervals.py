"""Estimates drawn with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis.stats import Estimate
from sweeps.charts.style import COLOURS, GREY


def forest(estimates: Mapping[str, Estimate], axes: Axes, *, label: str, middle: float) -> Axes:
    """One line per estimate, the first on top; `middle` is the value of no effect."""
    axes.axvline(middle, color=GREY, linewidth=0.8)
    names = list(estimates)[::-1]
    for y, name in enumerate(names):
        estimate = estimates[name]
        clear = estimate.low > middle or estimate.high < middle
        whiskers(axes, estimate, y, colour=COLOURS[0] if clear else GREY)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(estimates) - 0.4)
    axes.set_xlabel(label)
    return axes


def whiskers(
    axes: Axes,
    estimate: Estimate,
    y: float,
    *,
    colour: str,
    marker: str = "o",
    label: str | None = None,
) -> None:
    """A value and its interval as a horizontal line."""
    reach = np.nan_to_num([[estimate.value - estimate.low], [estimate.high - estimate.value]])
    axes.errorbar(
        estimate.value, y, xerr=reach, marker=marker, capsize=4, color=colour, label=label
    )


def seeds_and_mean(
    axes: Axes, scores: Sequence[float], mean: Estimate, y: float, *, seed_label: str | None
) -> None:
    """The score of each seed as a tick, and their mean with its interval; in the legend if the
    ticks have a label."""
    axes.plot(
        scores,
        np.full(len(scores), y),
        linestyle="none",
        marker="|",
        markersize=12,
        color=GREY,
        label=seed_label,
    )
    mean_label = None if seed_label is None else "mean and its 95 % interval"
    whiskers(axes, mean, y, colour=COLOURS[0], label=mean_label)
