"""Score against seconds, with the front and what was measured under fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from analysis.cost.front import Offer, front
from analysis.stats import Estimate
from lander.env import AnyEnv
from sweeps.charts.style import (
    BLUE,
    GREY,
    ORANGE,
    at_least,
    cut_off,
    floor_of,
    marker_size,
    new_axes,
    solved_line,
)
from sweeps.schema import SCORE
from sweeps.scores import are_returns

WIDE = 5
"""Seconds that differ by such a factor are drawn on a scale of their logarithm."""


def cost_front(every: Sequence[Offer], *, env: AnyEnv) -> Figure:
    """The expected return of each configuration over the seconds of a training, those on the front
    joined by a line, and the mean under fresh seeds of those that have one."""
    figure, axes = new_axes(9, 4.2)
    returns = are_returns([one.trial for one in every])
    values, took = [one.likely.value for one in every], [one.seconds.value for one in every]
    if max(took, default=0.0) > WIDE * min(took, default=0.0):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    floor, best = floor_of(values), front(every)
    others = [one for one in every if one not in best]
    size = marker_size(18, len(every))
    axes.scatter(
        [one.seconds.value for one in others],
        at_least(floor, [one.likely.value for one in others]),
        size,
        GREY,
        label=f"expected {'return' if returns else SCORE} of a configuration",
    )
    x = [one.seconds.value for one in best]
    y = at_least(floor, [one.likely.value for one in best])
    axes.plot(x, y, color=BLUE, linewidth=1, drawstyle="steps-post", zorder=1)
    axes.errorbar(
        x,
        y,
        yerr=reach([one.likely for one in best], y),
        xerr=reach([one.seconds for one in best], x),
        fmt="o",
        color=BLUE,
        capsize=2,
        linewidth=1,
        label="the front: none that is faster returns as much",
    )
    for one, across, up in zip(best, x, y, strict=True):
        axes.annotate(
            str(one.trial.number), (across, up), (4, 4), textcoords="offset points", fontsize=8
        )
    measured = [(one, fresh) for one in every if (fresh := one.measured) is not None]
    if measured and returns:
        x, y = [one.seconds.value for one, _ in measured], [fresh.value for _, fresh in measured]
        axes.errorbar(
            x,
            y,
            yerr=reach([fresh for _, fresh in measured], y),
            xerr=reach([one.seconds for one, _ in measured], x),
            fmt="D",
            color=ORANGE,
            capsize=2,
            linewidth=1,
            label="mean under fresh seeds",
        )
    if returns:
        solved_line(axes, env)
    high = axes.get_ylim()[1]
    axes.set_ylim(floor - 0.06 * (high - floor), high)
    axes.set_xlabel("seconds of a training")
    axes.set_ylabel(f"{'return' if returns else SCORE}{cut_off(floor, values)}")
    figure.legend(loc="outside upper left", fontsize=8, ncols=3, frameon=False)
    return figure


def reach(
    estimates: Sequence[Estimate], shown: Sequence[float]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """How far intervals reach below and above the marks, (2, n); 0 where there is none."""
    low = [value - one.low for one, value in zip(estimates, shown, strict=True)]
    high = [one.high - value for one, value in zip(estimates, shown, strict=True)]
    return np.asarray(np.maximum(np.nan_to_num([low, high]), 0.0))
