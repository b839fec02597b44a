"""The pictures of notebook 06: equal trials, and how far above their mean the best of them lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from analysis.experiments.equals import flattery
from analysis.experiments.landscape import Measured
from sweeps.charts.style import BLUE, GREY, ORANGE, SKY, whole_numbers
from sweeps.estimates import FEWEST
from sweeps.scores import mean

SIZES: Final = (4, 6, 8, 10, 12, 15, 20, 24)
"""Numbers of trials for which it is drawn."""


def table(equals: Sequence[Measured], sizes: Sequence[int]) -> pd.DataFrame:
    """A row per number of trials: what `curve` draws."""
    rows = [flattery(equals, size) for size in sizes]
    return pd.DataFrame(
        [(row.score, row.normal, row.estimate.value) for row in rows],
        index=pd.Index(sizes, name="trials"),
        columns=["its score", "if it were normal", "its expected return"],
    )


def strip(equals: Sequence[Measured], axes: Axes) -> Axes:
    """Each training by its score, in order, with the mean as a line."""
    finals = sorted(one.final for one in equals)
    axes.plot(range(1, len(finals) + 1), finals, "o", color=BLUE)
    axes.axhline(mean(finals), color=GREY, linestyle="--")
    axes.annotate("mean", (1, mean(finals)), xytext=(0, 4), textcoords="offset points", color=GREY)
    axes.set_xlabel("trainings in the order of their scores")
    axes.set_ylabel("score")
    axes.xaxis.set_major_locator(whole_numbers())
    return axes


def curve(equals: Sequence[Measured], axes: Axes) -> Axes:
    """What the best has above the mean, over the number of trials: its score, the same for normal
    scores, and its expected return."""
    sizes = [size for size in SIZES if FEWEST <= size <= len(equals)]
    rows = [flattery(equals, size) for size in sizes]
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(sizes, [row.score for row in rows], "o-", color=ORANGE, label="its score")
    axes.plot(
        sizes,
        [row.normal for row in rows],
        "--",
        color=SKY,
        label="its score, if scores were normal",
    )
    reach = [
        [row.estimate.value - row.estimate.low for row in rows],
        [row.estimate.high - row.estimate.value for row in rows],
    ]
    axes.errorbar(
        sizes,
        [row.estimate.value for row in rows],
        yerr=reach,
        marker="s",
        capsize=3,
        color=BLUE,
        label="its expected return",
    )
    axes.set_xlabel("equal trials in a sweep")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_ylabel("best trial, above the mean")
    axes.legend(fontsize=8)
    return axes
