"""The figures of notebook 03, from its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.charts.intervals import whiskers
from analysis.stats import Estimate, mean_estimate
from sweeps.charts.style import COLOURS, GREY, HEAT, WHITE, at_least, cut_off, floor_of, plain

MARKERS = "os^Dv<>ph*"


def levels(measured: pd.DataFrame, of_bins: pd.DataFrame, axes: Axes) -> Axes:
    """The thrust of one engine over its level, and below it the levels of its bins, a line per
    number of bins; hollow circles leave the engine off."""
    axes.plot(measured["level"], measured["thrust"], color=GREY, zorder=0)
    for row, (bins, its) in enumerate(of_bins.groupby("bins")):
        height, colour = -0.12 * (row + 1), COLOURS[row % len(COLOURS)]
        for off, face in ((False, colour), (True, "none")):
            level = its.loc[its["off"] == off, "level"]
            axes.plot(level, np.full(len(level), height), "o", color=colour, mfc=face)
        axes.annotate(f"{bins} bins", (1.08, height), fontsize=8, va="center")
    axes.set_xlim(-1.1, 1.45)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("share of full thrust, measured")
    return axes


def heads_and_bins(by_point: Mapping[str, Estimate], axes: Axes) -> Axes:
    """The mean return of every head with every number of bins; points are "HEAD, BINS", or "HEAD"
    if it has none."""
    heads = list(dict.fromkeys(point.split(", ")[0] for point in by_point))
    bins = list(dict.fromkeys(point.split(", ")[1] for point in by_point if ", " in point))
    for i, head in enumerate(heads):
        rows = [by_point.get(f"{head}, {count}", by_point.get(head)) for count in bins]
        offset = 0.12 * (i - (len(heads) - 1) / 2)
        points = [(x + offset, row) for x, row in enumerate(rows) if row is not None]
        error_bars(
            axes,
            [x for x, _ in points],
            [row for _, row in points],
            label=head,
            colour=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
        )
    axes.set_xticks(range(len(bins)), bins)
    axes.set_xlabel("bins of each engine (the Gaussian head has none: the same in every column)")
    axes.set_ylabel("return on unseen episodes")
    axes.legend(fontsize=8, loc="lower left", frameon=False)
    return axes


def points(by_point: Mapping[str, Estimate], axes: Axes) -> Axes:
    """A line per point, the first on top: its mean return with its interval."""
    names = list(by_point)[::-1]
    for y, name in enumerate(names):
        whiskers(axes, by_point[name], y, colour=COLOURS[0])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("return on unseen episodes, 95 % interval over training seeds")
    return axes


def usage(shares: pd.DataFrame, figure: Figure) -> Figure:
    """How often each level of both engines was flown, and each pair of them."""
    if shares.empty:
        figure.subplots().set_axis_off()  # without Axes, a notebook would show it as text
        return figure
    bars, heat = figure.subplots(1, 2)
    plain(bars)
    main, side = ([f"{level:.2g}" for level in index] for index in (shares.index, shares.columns))
    for i, (name, share) in enumerate(
        ((shares.index.name, shares.sum(axis=1)), (shares.columns.name, shares.sum(axis=0)))
    ):
        bars.bar(
            np.arange(len(share)) + 0.4 * i - 0.2,
            share,
            0.4,
            color=COLOURS[i],
            hatch="//" if i else None,
            edgecolor=WHITE,
            label=name,
        )
    bars.set_xticks(range(len(main)), main, fontsize=8)
    bars.set_xlabel("level")
    bars.set_ylabel("share of all steps")
    bars.legend(fontsize=8, frameon=False)
    shown = heat.imshow(shares, origin="lower", cmap=HEAT, aspect="auto")
    heat.set_xticks(range(len(side)), side, fontsize=8)
    heat.set_yticks(range(len(main)), main, fontsize=8)
    heat.set_xlabel("side level")
    heat.set_ylabel("main level")
    figure.colorbar(shown, ax=heat, label="share of all steps")
    return figure


def choices(groups: Mapping[str, Sequence[float]], axes: Axes) -> Axes:
    """A point per trial over its choice, and the mean of each choice with its interval."""
    every = [value for values in groups.values() for value in values]
    floor = floor_of(every)
    for x, values in enumerate(groups.values()):
        axes.plot(np.full(len(values), x), at_least(floor, values), "o", color=GREY, markersize=4)
    rows = [mean_estimate(values) for values in groups.values()]
    several = [x for x, row in enumerate(rows) if np.isfinite(row.low)]
    error_bars(
        axes,
        [x + 0.15 for x in several],
        [rows[x] for x in several],
        label="mean and its 95 % interval over trials",
        colour=COLOURS[0],
        marker="D",
    )
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, max(len(groups), 1) - 0.5)
    axes.set_ylabel("score, of pruned trials the return so far" + cut_off(floor, every))
    # intervals of few trials are cut off
    top = max(every, default=floor)
    margin = 0.1 * (top - floor) or 1.0
    axes.set_ylim(floor - margin, top + margin)
    axes.legend(fontsize=8, loc="best", frameon=False)
    return axes


def error_bars(
    axes: Axes,
    positions: Sequence[float],
    rows: Sequence[Estimate],
    *,
    label: str,
    colour: str,
    marker: str,
) -> None:
    """Values with their intervals."""
    values = np.array([row.value for row in rows])
    ends = np.array([[row.low for row in rows], [row.high for row in rows]])
    axes.errorbar(
        positions,
        values,
        yerr=np.abs(ends - values),
        linestyle="none",
        marker=marker,
        capsize=3,
        color=colour,
        label=label,
    )
