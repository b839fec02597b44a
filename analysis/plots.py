"""The figures of report and notebooks: data and Axes in, the Axes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from analysis.stats import mean_estimate

if TYPE_CHECKING:
    from analysis.winner import Judgement

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, apart for colour-blind readers."""
STYLES: Final = ("-", "--", "-.", ":")
"""Lines differ by more than their colour."""
GREY: Final = "#999999"


def new_axes(width: float = 8, height: float = 4.2) -> tuple[Figure, Axes]:
    """A new figure, in inches, and its only Axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def solved_line(axes: Axes, threshold: float | None, *, upright: bool = False) -> None:
    """A thin line where the environment counts as solved."""
    if threshold is not None:
        draw = axes.axvline if upright else axes.axhline
        draw(threshold, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def confirmation(judgement: Judgement, axes: Axes, *, threshold: float | None = None) -> Axes:
    """A line per candidate, the best on top: every seed, mean with interval, the sweep's score."""
    order = list(reversed(judgement.standings))
    for y, row in enumerate(order):
        scores = row.candidate.scores
        axes.plot(
            scores,
            np.full(len(scores), y),
            linestyle="none",
            marker="|",
            markersize=12,
            color=GREY,
            label="one test seed" if y == 0 else None,
        )
        axes.errorbar(
            row.mean.value,
            y,
            xerr=np.nan_to_num([[row.mean.value - row.mean.low], [row.mean.high - row.mean.value]]),
            marker="o",
            capsize=4,
            color=COLOURS[0],
            label="mean and its 95 % interval" if y == 0 else None,
        )
        if row.candidate.sweep_score is not None:
            axes.plot(
                row.candidate.sweep_score,
                y,
                linestyle="none",
                marker="D",
                markerfacecolor="none",
                color=COLOURS[1],
            )
    axes.plot(
        [],
        [],
        linestyle="none",
        marker="D",
        markerfacecolor="none",
        color=COLOURS[1],
        label="what the sweep thought",
    )
    solved_line(axes, threshold, upright=True)
    axes.set_yticks(range(len(order)), [row.name for row in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("return on the test episodes")
    axes.legend(fontsize=8, loc="best")
    return axes


def curves(tables: dict[str, pd.DataFrame], axes: Axes, *, label: str, points: int = 60) -> Axes:
    """Curves side by side, from tables of `load_curves`: mean over trainings, its 95 % interval.

    A training is a pair of trial and seed. Each curve is read at `points` equal steps, so that
    trainings with other rollouts can be averaged.
    """
    for i, (name, table) in enumerate(tables.items()):
        steps, values = resampled(table, points=points)
        if not len(steps):
            continue
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        axes.plot(steps, values.mean(axis=0), color=colour, linestyle=style, label=name)
        if len(values) > 1:
            bands = [mean_estimate(column.tolist()) for column in values.T]
            low, high = [band.low for band in bands], [band.high for band in bands]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("environment steps")
    axes.set_ylabel(label)
    axes.legend(fontsize=8, loc="best")
    return axes


def resampled(
    table: pd.DataFrame, *, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) between which every training of the table was under way, and the values there
    (trainings, P)."""
    known = table.dropna(subset=["env_steps", "value"])
    x, y = (known[name].to_numpy(dtype="float64") for name in ("env_steps", "value"))
    places = known.groupby(["trial", "seed"]).indices.values()
    trainings = [(x[place], y[place]) for place in places if len(place) > 1]
    if not trainings:
        return np.empty(0), np.empty((0, 0))
    first = max(steps[0] for steps, _ in trainings)
    last = min(steps[-1] for steps, _ in trainings)
    steps = np.linspace(first, last, points)
    return steps, np.stack([np.interp(steps, *training) for training in trainings])
