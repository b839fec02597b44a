"""The figures of notebook 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.charts.curves import curves
from analysis.charts.intervals import whiskers
from analysis.stats import mean_estimate
from sweeps.charts.style import COLOURS, GREY, STYLES, new_figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def learning(tables: Mapping[str, pd.DataFrame], axes: Axes, *, label: str) -> Axes:
    """Learning curves; a training that ended after its first point is drawn as that point."""
    curves(dict(tables), axes, label=label)
    restyle(axes)
    for i, (name, table) in enumerate(tables.items()):
        if len(table) and table.groupby(["trial", "seed"]).size().max() == 1:
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            steps, values = table["env_steps"], table["value"]
            axes.scatter(steps, values, color=colour, marker=marker, label=name)
    if axes.get_legend_handles_labels()[0]:  # else matplotlib warns
        axes.legend(fontsize=8, loc="best")
    return axes


def restyle(axes: Axes) -> None:
    """Give lines different styles, so that they differ in grey too."""
    for i, line in enumerate(axes.get_lines()):
        line.set_linestyle(STYLES[i % len(STYLES)])


def metric_panels(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], *, notes: Mapping[str, str]
) -> Figure:
    """One panel per metric with a note above it; in it, per group of trials, the mean of its tables
    of `load_curves` with the 95 % interval."""
    if not panels:
        figure = new_figure(3.4, 0.4)
        figure.subplots().set_axis_off()  # without Axes, a notebook would show it as text
        return figure
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.4 * columns, 2.9 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (metric, groups) in zip(grid.flat, panels.items(), strict=False):
        curves(dict(groups), axes, label=metric)
        restyle(axes)
        axes.get_legend().remove()
        axes.set_title(notes[metric], fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=9)
    return figure


def paired_episodes(pair: pd.DataFrame, axes: Axes) -> Axes:
    """Returns of two candidates, the columns, in the same episodes, sorted by the first one's, with
    their means as lines."""
    axes.set_ylabel("return")
    if len(pair.columns) < 2:
        return axes
    one, other = pair.iloc[:, 0], pair.iloc[:, 1]
    order = one.sort_values().index
    x = np.arange(len(order))
    for i, values in enumerate((one[order], other[order])):
        colour, marker = COLOURS[i], MARKERS[i]
        face = colour if i == 0 else "none"
        axes.plot(x, values, marker, color=colour, markerfacecolor=face, label=values.name)
        axes.axhline(values.mean(), color=colour, linestyle=STYLES[i], linewidth=1)
    axes.vlines(x, one[order], other[order], color=GREY, linewidth=0.7, zorder=0)
    axes.set_xlabel(f"episode, in the order of the returns of {one.name}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="best")
    return axes


def disagreements(groups: Mapping[str, Mapping[str, Sequence[float]]], axes: Axes) -> Axes:
    """One line per setup, the first on top; on it, per comparison, each value and their mean with
    its 95 % interval."""
    setups = list(groups)[::-1]
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    for y, setup in enumerate(setups):
        for i, name in enumerate(names):
            values = groups[setup].get(name, [])
            at = y + 0.16 * (1 - 2 * i)
            axes.plot(values, np.full(len(values), at), "|", color=GREY, markersize=8)
            if len(values):
                whiskers(
                    axes,
                    mean_estimate(values),
                    at,
                    colour=COLOURS[i],
                    marker=MARKERS[i],
                    label=name if y == 0 else None,
                )
    axes.set_yticks(range(len(setups)), setups)
    axes.set_ylim(-0.6, len(setups) - 0.4)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel("share of actions that differ")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(names))
    return axes
