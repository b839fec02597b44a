"""What all charts share: colours, the line at which an environment is solved, where they end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lander.env import AnyEnv, solved_return
from lander.errors import ConfigError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, apart for colour-blind readers."""
BLUE, ORANGE, SKY = COLOURS[0], COLOURS[1], COLOURS[5]
GREY: Final = "#999999"
STYLES: Final = ("-", "--", "-.", ":")
"""Lines differ by more than their colour."""


def new_axes(width: float = 8, height: float = 4.2) -> tuple[Figure, Axes]:
    """A new figure, in inches, and its only Axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def solved_line(axes: Axes, env: AnyEnv, *, upright: bool = False) -> None:
    """A thin line at the return that solves the environment; none where it names no such return."""
    threshold = threshold_of(env)
    if threshold is not None:
        draw = axes.axvline if upright else axes.axhline
        draw(threshold, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def threshold_of(env: AnyEnv) -> float | None:
    """The return that solves an environment; None if it names none, or cannot be made here, as when
    the records came from another machine."""
    try:
        return solved_return(env)
    except ConfigError:
        return None


def floor_of(returns: Iterable[float]) -> float:
    """The lowest return to be drawn, so that the worst quarter takes at most half of a chart.

    The minimum, unless it lies further below the first quartile than that lies below the maximum.
    """
    known = np.array([value for value in returns if np.isfinite(value)])
    if not known.size:
        return 0.0
    quartile, most = float(np.percentile(known, 25)), float(known.max())
    lowest = float(known.min())
    return lowest if quartile == most else max(lowest, quartile - (most - quartile))


def at_least(floor: float, returns: Iterable[float]) -> list[float]:
    """Returns as they are drawn: none below the floor."""
    return [max(floor, value) for value in returns]


def cut_off(floor: float, returns: Iterable[float]) -> str:
    """A note for the axis: that lower returns stand at the floor; empty if there are none."""
    return f"; below {floor:.0f} drawn there" if any(value < floor for value in returns) else ""
