"""The figures of notebook 01 that a sweep does not leave on its run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.stats import Estimate
from sweeps.charts.style import COLOURS, GREY, WHITE
from sweeps.schema import Ending

HATCHES = ("", "//", "..", "xx", "--")
"""Bars differ by more than their colour."""
STATES = {
    "COMPLETE": (Ending.FINISHED, COLOURS[0]),
    "PRUNED": (Ending.PRUNED, COLOURS[4]),
    "FAIL": (Ending.FAILED, COLOURS[1]),
}
BINS = 20
"""Bars of a histogram, at most."""


def endings(trials: pd.DataFrame, axes: Axes, *, reports: int) -> Axes:
    """A histogram of the share of the budget at which trials of `load_trials` ended, with a bar per
    report up to `BINS`."""
    count = min(reports, BINS)
    edges = (np.arange(count + 2) - 0.5) * 100 / count  # the first bar: before any report
    below = np.zeros(count + 1)
    for (state, (name, colour)), hatch in zip(STATES.items(), HATCHES, strict=False):
        share = 100 * trials.loc[trials["state"] == state, "share"]
        height = np.histogram(share, edges)[0]
        if not height.any():
            continue
        middles = (edges[:-1] + edges[1:]) / 2
        width = min(80 / count, 10)  # with few reports, bars stay narrow
        axes.bar(
            middles, height, width, below, color=colour, hatch=hatch, edgecolor=WHITE, label=name
        )
        below += height
    axes.set_xlim(-8, 108)
    axes.set_xlabel("share of the budget at which a trial ended [%]")
    axes.set_ylabel("trials")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if below.any():
        axes.legend(fontsize=8, loc="best")
    return axes


def predictions(orders: Mapping[float, Estimate], axes: Axes) -> Axes:
    """Rank correlation with the final return, by the share of the budget (0 to 1) at which trials
    were compared."""
    values = np.array([estimate.value for estimate in orders.values()])
    low = np.array([estimate.low for estimate in orders.values()])
    high = np.array([estimate.high for estimate in orders.values()])
    reach = np.nan_to_num([values - low, high - values])
    axes.errorbar(
        100 * np.array(list(orders)), values, yerr=reach, marker="o", capsize=4, color=COLOURS[0]
    )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlim(0, 103)
    axes.set_xlabel("share of the budget [%]")
    axes.set_ylabel("rank correlation with the final return")
    return axes


def times(parts: pd.DataFrame, axes: Axes) -> Axes:
    """Stacked seconds: a row per trial, a column per part, the largest at the bottom."""
    below = np.zeros(len(parts))
    width = 0.85 if len(parts) <= 100 else 1.0
    for i, name in enumerate(parts):
        axes.bar(
            parts.index,
            parts[name],
            width,
            below,
            color=COLOURS[i % len(COLOURS)],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor=WHITE,
            linewidth=0 if len(parts) > 100 else 0.5,
            label=name,
        )
        below += parts[name].to_numpy()
    axes.set_xlabel("trial")
    axes.set_ylabel("time [s]")
    axes.set_ylim(0, 1.25 * below.max(initial=0) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="upper right", ncols=len(parts.columns))
    return axes
