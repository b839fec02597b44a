"""The figures of report and notebooks: data and Axes in, the Axes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from analysis.stats import mean_estimate
from lander.env import AnyEnv
from sweeps.style import COLOURS, GREY, STYLES, solved_line

if TYPE_CHECKING:
    from analysis.winner import Judgement

FEW: Final = 20
"""Points of a curve up to which each is marked."""


def confirmation(judgement: Judgement, axes: Axes, *, env: AnyEnv) -> Axes:
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
    solved_line(axes, env, upright=True)
    axes.set_yticks(range(len(order)), [row.name for row in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("return on the test episodes")
    axes.legend(fontsize=8, loc="best")
    return axes


def curves(tables: dict[str, pd.DataFrame], axes: Axes, *, label: str, points: int = 60) -> Axes:
    """Curves side by side, from tables of `load_curves`: mean over trainings, its 95 % interval.

    A training is a pair of trial and seed. Few points, as of checkpoints, are marked.
    """
    for i, (name, table) in enumerate(tables.items()):
        steps, values = averaged(table, points=points)
        if not len(steps):
            continue
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        marker = "o" if len(steps) <= FEW else ""
        mean = values.mean(axis=0)
        axes.plot(
            steps, mean, color=colour, linestyle=style, marker=marker, markersize=4, label=name
        )
        if len(values) > 1:
            bands = [mean_estimate(column.tolist()) for column in values.T]
            low, high = [band.low for band in bands], [band.high for band in bands]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("environment steps")
    axes.set_ylabel(label)
    axes.legend(fontsize=8, loc="best")
    return axes


def averaged(
    table: pd.DataFrame, *, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) and the values there (trainings, P), as far as every training of the table came.

    The recorded points themselves, wherever all trainings have theirs at about the same steps, as
    checkpoints are. Where rollouts differ in size: read at `points` equal steps.
    """
    known = table.dropna(subset=["env_steps", "value"])
    x, y = (known[name].to_numpy(dtype="float64") for name in ("env_steps", "value"))
    rows = known.groupby(["trial", "seed"]).indices.values()
    trainings = [(x[own], y[own]) for own in rows if len(own) > 1]
    if not trainings:
        return np.empty(0), np.empty((0, 0))
    common = min(len(steps) for steps, _ in trainings)
    each = np.stack([steps[:common] for steps, _ in trainings])
    if 2 * np.ptp(each, axis=0).max() <= np.diff(each).min():
        return each.mean(axis=0), np.stack([values[:common] for _, values in trainings])
    first = max(steps[0] for steps, _ in trainings)
    last = min(steps[-1] for steps, _ in trainings)
    steps = np.linspace(first, last, points)
    return steps, np.stack([np.interp(steps, *training) for training in trainings])
