"""The style of all charts: colours, new figures, the line of the solved return, the lowest return.

`sweeps.charts` and `analysis` draw with it; a test holds that neither has colours of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lander.env import AnyEnv, solved_return
from lander.errors import ConfigError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
BLUE, ORANGE, SKY, BLACK = COLOURS[0], COLOURS[1], COLOURS[5], COLOURS[6]
GREY: Final = "#999999"
SOFT: Final = "#5C5C5C"
"""Colour of notes within a chart."""
PALE: Final = "#E4E4E4"
"""Colour of lines that only guide the eye."""
WHITE: Final = "#FFFFFF"
GRADIENT: Final = ListedColormap(colormaps["viridis"](np.linspace(0.9, 0.0, 256)), "gradient")
"""Colour map of values that have an order, such as the numbers of trials: the largest are dark, as
those that matter most must be legible on white."""
HEAT: Final = "cividis"
"""Colour map of the cells of a table."""
STYLES: Final = ("-", "--", "-.", ":")
"""Lines differ in style as well as in colour."""
MANY: Final = 250
"""Number of marks above which each is drawn smaller, so that they do not cover each other."""
DPI: Final = 110
"""Resolution of a chart among the artifacts of a run."""


def new_figure(width: float, height: float) -> Figure:
    """A new figure without Axes; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = 8, height: float = 4.2) -> tuple[Figure, Axes]:
    """A new figure and its only Axes; sizes are in inches."""
    figure = new_figure(width, height)
    return figure, plain(figure.subplots())


def plain(axes: Axes) -> Axes:
    """The same Axes without a box: no line above and on the right, and pale ones elsewhere."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(color=GREY)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def marker_size(usual: float, count: int) -> float:
    """The area of a marker in square points where `count` of them share a chart."""
    return usual if count <= MANY else max(2.0, usual * MANY / count)


def whole_numbers() -> MaxNLocator:
    """Ticks of an axis of trial numbers."""
    return MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10])


def solved_line(axes: Axes, env: AnyEnv, *, upright: bool = False, named: bool = True) -> None:
    """Draw a thin line at the return that solves the environment, if it has one, with its name.

    `upright`: returns are on the x axis.
    """
    threshold = threshold_of(env)
    if threshold is None:
        return
    draw = axes.axvline if upright else axes.axhline
    draw(threshold, color=GREY, linewidth=1, linestyle=":", zorder=0)
    if not named:
        return
    end = (threshold, 1.0) if upright else (1.0, threshold)
    axes.annotate(
        f"solved: {threshold:g}",
        end,
        (0, 2) if upright else (4, 0),
        xycoords=axes.get_xaxis_transform() if upright else axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="center" if upright else "left",
        va="bottom" if upright else "center",
        fontsize=8,
        color=SOFT,
        annotation_clip=True,  # without the line no name, which would take room far outside
    )


def threshold_of(env: AnyEnv) -> float | None:
    """The return that solves an environment.

    None if it names no such return, or cannot be made on this machine, as when the records come
    from another one.
    """
    try:
        return solved_return(env)
    except ConfigError:
        return None


def floor_of(returns: Iterable[float]) -> float:
    """The lowest return to draw, so that the worst quarter fills at most half of a chart.

    The minimum, unless it lies further below the first quartile than that lies below the maximum.
    """
    finite = np.array([value for value in returns if np.isfinite(value)])
    if not finite.size:
        return 0.0
    quartile, most = float(np.percentile(finite, 25)), float(finite.max())
    lowest = float(finite.min())
    return lowest if quartile == most else max(lowest, quartile - (most - quartile))


def at_least(floor: float, returns: Iterable[float]) -> list[float]:
    """Returns with those below the floor raised to it."""
    return [max(floor, value) for value in returns]


def cut_off(floor: float, returns: Iterable[float]) -> str:
    """A note for the axis that lower returns are drawn at the floor; empty if there are none."""
    return f"; below {floor:.0f} drawn there" if any(value < floor for value in returns) else ""
