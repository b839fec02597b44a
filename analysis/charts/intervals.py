"""Estimates drawn with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping

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
