"""The figures of notebook 04, from its tables of flights and of their steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeps.charts.style import BLACK, COLOURS, GREY, STYLES, plain

ENDINGS = ("came to rest", "crashed", "flew away", "time limit")
FLAG = 0.2
"""Distance of the flags from the middle of the pad, in units of the observation."""
DRAWN = 30
"""Flights in one picture; more would hide each other."""


def paths(steps: pd.DataFrame, axes: Axes) -> Axes:
    """The way of each flight, up to `DRAWN` of them, coloured by how it ended, and the pad."""
    steps = steps[steps["flight"] < DRAWN]
    for kind, ending in enumerate(ENDINGS):
        colour, style, name = COLOURS[kind], STYLES[kind], ending
        for _, way in steps[steps["ending"] == ending].groupby("flight"):
            x, y = way["x"].to_numpy(), way["height"].to_numpy()
            axes.plot(x, y, color=colour, linestyle=style, linewidth=0.7, alpha=0.7, label=name)
            axes.plot(x[-1], y[-1], "o", color=colour, markersize=4)
            name = ""  # once in the legend
    axes.plot([-FLAG, FLAG], [0, 0], color=BLACK, linewidth=4, solid_capstyle="butt")
    axes.annotate("pad", (0, -0.04), ha="center", va="top", fontsize=8)
    axes.set_xlabel("x, in half widths of the frame")
    axes.set_ylabel("height above the pad, in half heights")
    axes.margins(y=0.08)
    if len(steps):
        axes.legend(fontsize=8, frameon=False)
    return axes


def descent(steps: pd.DataFrame, figure: Figure) -> Figure:
    """Height and velocity, both engines and the entropy of a flight, one above the other."""
    panels = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [2, 1, 1, 1.4]})
    height, main, side, spread = map(plain, panels)
    height.plot(steps["seconds"], steps["height"], color=COLOURS[0], label="height")
    height.plot(
        steps["seconds"],
        steps["velocity"],
        color=COLOURS[1],
        linestyle="--",
        label="vertical velocity",
    )
    height.axhline(0, color=GREY, linewidth=0.8)
    height.legend(fontsize=8, frameon=False)
    height.set_ylabel("as observed")
    for axes, name in ((main, "main"), (side, "side")):
        axes.fill_between(steps["seconds"], steps[name], step="post", color=COLOURS[2], linewidth=0)
        axes.set_ylabel(f"{name}\nengine")
        axes.set_yticks([0, 1] if axes is main else [-1, 0, 1])
        axes.set_ylim(-0.05 if axes is main else -1.1, 1.1)
    spread.plot(steps["seconds"], steps["entropy"], color=COLOURS[3])
    spread.set_ylabel("entropy, nats")
    spread.set_xlabel("seconds")
    return figure


def values(steps: pd.DataFrame, axes: Axes) -> Axes:
    """What the critic expected along a flight, and what came."""
    axes.plot(steps["expected"], color=COLOURS[0], label="V(s), expected")
    axes.plot(steps["came"], color=COLOURS[1], linestyle="--", label="G, what came")
    axes.set_xlabel("step")
    axes.legend(fontsize=8, frameon=False)
    return axes


def endings(flights: pd.DataFrame, axes: Axes) -> Axes:
    """A line per way to end, with a mark per return."""
    names = []
    for y, ending in enumerate(ENDINGS):
        returns = flights.loc[flights["ending"] == ending, "return"]
        axes.plot(returns, np.full(len(returns), y), "|", color=COLOURS[y], markersize=16, mew=1.5)
        names.append(f"{ending}: {len(returns)}")
    axes.set_yticks(range(len(ENDINGS)), names)
    axes.set_ylim(-0.6, len(ENDINGS) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel("return of one flight")
    return axes


def both_ways(flights: pd.DataFrame, axes: Axes) -> Axes:
    """The return of each start with the most probable actions over that with sampled ones."""
    columns = flights[["sampled_return", "return"]]
    axes.plot(*columns.to_numpy().T, "o", color=COLOURS[0], markersize=4, alpha=0.7)
    ends = [columns.min().min(), columns.max().max()]
    axes.plot(ends, ends, color=GREY, linewidth=0.8)
    axes.set_xlabel("return with sampled actions")
    axes.set_ylabel("return with the most probable actions")
    return axes
