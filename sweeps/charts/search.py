"""The charts that a study leaves on its run: history, importances, slices, parallel coordinates.

The report and notebook 01 show the same charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from lander.env import AnyEnv
from lander.options import human
from sweeps.charts.columns import Column, column_of, heights, set_x_axis, ticks
from sweeps.charts.importance import importances
from sweeps.charts.style import (
    BLUE,
    DPI,
    GRADIENT,
    GREY,
    ORANGE,
    PALE,
    SKY,
    WHITE,
    at_least,
    cut_off,
    floor_of,
    marker_size,
    new_axes,
    new_figure,
    plain,
    solved_line,
    whole_numbers,
)
from sweeps.schema import POINT, SCORE, Chart, Ending
from sweeps.scores import (
    are_returns,
    best_of,
    best_so_far,
    last_return,
    with_last_return,
)
from sweeps.study.ranges import Range
from sweeps.study.study import Study

CROSSES = "pruned: return at its last checkpoint"
MARKS: Final = "trials"
"""Begins the id of a group of marks."""
LINES: Final = 500
"""The most lines of parallel coordinates; more would cover each other."""
TOP_LINES: Final = 100
"""How many of them are the best trials, if there are more trials than lines."""


def figures_of(study: Study, trials: Sequence[FrozenTrial]) -> dict[str, Figure]:
    """Every chart for which there are enough trials, by the name of its file."""
    trials, env = [trial for trial in trials if trial.params], study.base.env
    ranges = list(study.space.values())
    figures: dict[str, Figure] = {Chart.HISTORY: history(trials, env=env)}
    if len(finished(trials)) >= 2:
        figures[Chart.SLICES] = slices(trials, ranges, env=env)
        figures[Chart.PARALLEL_COORDINATES] = parallel_coordinates(trials, ranges)
    table = importances(trials, study.space)
    if not table.empty:
        figures[Chart.IMPORTANCES] = importance_dots(table)
    return figures


def write_figures(study: Study, trials: Sequence[FrozenTrial], folder: Path) -> list[Path]:
    """Write the charts of a study as PNG files to `folder`."""
    paths: list[Path] = []
    for name, figure in figures_of(study, trials).items():
        figure.suptitle(f"{study.name}: {name.replace('_', ' ')}", fontsize=11)
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=DPI)
    return paths


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The finished trials."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def pruned(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The pruned trials that have a return so far."""
    return [trial for trial in with_last_return(trials) if trial.state == TrialState.PRUNED]


def returns_of(trials: Sequence[FrozenTrial]) -> list[float]:
    """The score of each finished trial, and the return so far of each pruned one."""
    return [value for trial in trials if (value := last_return(trial)) is not None]


def score_label(trials: Sequence[FrozenTrial]) -> str:
    """What an axis of scores is called."""
    return f"{SCORE}: mean return" if are_returns(trials) else SCORE


def history(trials: Sequence[FrozenTrial], *, env: AnyEnv) -> Figure:
    """The score of each trial by its number, and the highest at that time; the defaults and the
    trial with the highest expected return are named."""
    figure, axes = new_axes(9, 4.2)
    complete, early = finished(trials), pruned(trials)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    returns = returns_of([*complete, *early])
    floor, size = floor_of(returns), marker_size(36, len(trials))
    for group, marker, colour, label in (
        (early, "x", GREY, CROSSES),
        (complete, "o", BLUE, Ending.FINISHED),
    ):
        numbers, drawn = [trial.number for trial in group], at_least(floor, returns_of(group))
        dots = axes.scatter(numbers, drawn, size, marker=marker, color=colour, label=label)
        dots.set_gid(marks_of(group))
    if failed:
        numbers, drawn = [trial.number for trial in failed], [floor] * len(failed)
        label = "failed, without a score"
        dots = axes.scatter(numbers, drawn, size, marker="v", color=ORANGE, label=label)
        dots.set_gid(marks_of(failed))
    if complete:
        best = at_least(floor, best_so_far(complete))
        numbers = sorted(trial.number for trial in complete)
        axes.step(
            numbers, best, where="post", color=BLUE, linewidth=1, label="highest at that time"
        )
    for trial, name in named(complete):
        (height,) = at_least(floor, returns_of([trial]))
        right = trial.number > 0.8 * len(trials)
        axes.annotate(
            f"{name}: {returns_of([trial])[0]:.1f}",
            (trial.number, height),
            xytext=(-7 if right else 7, 7),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9,
            fontweight="bold",
        )
    if are_returns(trials):
        solved_line(axes, env)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_xlabel("trial, in the order in which they began")
    axes.set_ylabel(score_label(trials) + cut_off(floor, returns))
    figure.legend(loc="outside lower left", fontsize=8, ncols=4, frameon=False)
    return figure


def named(complete: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, str]]:
    """The finished trials that a chart names: the best, and the defaults."""
    best = best_of(complete)
    first = next((t for t in complete if t.number == 0 and POINT not in t.user_attrs), None)
    if best is None or first is None or best.number == 0:
        return [] if best is None else [(best, f"best, trial {best.number}")]
    return [(first, "defaults"), (best, f"best, trial {best.number}")]


def marks_of(trials: Sequence[FrozenTrial]) -> str:
    """The id of a group of marks, one per trial: a page finds each trial's mark by it."""
    return "-".join([MARKS, *(str(trial.number) for trial in trials)])


def importance_dots(table: pd.DataFrame) -> Figure:
    """The table of `importances` as dots with intervals, the most important field on top."""
    figure, axes = new_axes(9, 0.42 * len(table) + 1)
    table = table.iloc[::-1]
    heights = np.arange(len(table))
    low, high = table["low"], table["high"]
    # the interval need not contain the share
    axes.hlines(heights, low, high, color=SKY, linewidth=4)
    axes.scatter(table["share"], heights, 48, color=BLUE, zorder=3)
    axes.set_yticks(heights, [f"{human(field)}\n{field}" for field in table.index])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_xlabel("share of the importance (PED-ANOVA), with its 95 % interval")
    return figure


def slices(trials: Sequence[FrozenTrial], ranges: Sequence[Range], *, env: AnyEnv) -> Figure:
    """The score over each searched field, coloured by the trial's number.

    Pruned trials are grey crosses behind them, at their last checkpoint. Under a choice stands the
    number of trials that had it: an untried choice is not a bad one.
    """
    columns = min(3, len(ranges))
    rows = -(-len(ranges) // columns)
    figure = new_figure(3.6 * columns, 3.2 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    complete, early = finished(trials), pruned(trials)
    returns = returns_of([*complete, *early])
    floor = floor_of(returns)
    small, large = (marker_size(usual, len(trials)) for usual in (16, 28))
    points = None
    for axes, range_ in zip(grid.flat, ranges, strict=False):
        plain(axes)
        column = column_of([*complete, *early], range_)
        set_x_axis(axes, column, column.values)
        drawn, x, y = acting(early, range_, floor)
        crosses = axes.scatter(x, y, small, marker="x", color=GREY, lw=0.8)
        crosses.set_gid(marks_of(drawn))
        drawn, x, y = acting(complete, range_, floor)
        numbers = [trial.number for trial in drawn]
        points = axes.scatter(x, y, large, c=numbers, cmap=GRADIENT, vmin=0, vmax=last(complete))
        points.set_gid(marks_of(drawn))
        axes.set_xlabel(column.label)
        if are_returns(trials):
            solved_line(axes, env, named=axes is grid[0, -1])
        if early and axes is grid.flat[0]:
            figure.legend([crosses], [CROSSES], loc="outside upper left", fontsize=8, frameon=False)
    for axes in grid.flat[len(ranges) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel((score_label(trials) + cut_off(floor, returns)).replace("; ", "\n"))
    if points is not None and complete:
        bar = figure.colorbar(points, ax=grid, label="trial", pad=0.01, ticks=whole_numbers())
        bar.outline.set_visible(False)
    return figure


def acting(
    trials: Sequence[FrozenTrial], range_: Range, floor: float
) -> tuple[list[FrozenTrial], list[float], list[float]]:
    """The trials in which a field did something, its values and their returns."""
    values = column_of(trials, range_).values
    drawn = [(t, x) for t, x in zip(trials, values, strict=True) if not np.isnan(x)]
    some = [trial for trial, _ in drawn]
    return some, [x for _, x in drawn], at_least(floor, returns_of(some))


def last(trials: Sequence[FrozenTrial]) -> int:
    """The highest number of a trial, at least 1."""
    return max([1, *(trial.number for trial in trials)])


def parallel_coordinates(trials: Sequence[FrozenTrial], ranges: Sequence[Range]) -> Figure:
    """A line per finished trial across all fields; the best are drawn on top, and dark."""
    figure, axes = new_axes(1.35 * (len(ranges) + 1) + 1, 4.4)
    axes.grid(visible=False)
    complete = finished(trials)
    if not complete:
        return figure
    floor = floor_of(returns_of(complete))
    scores = np.array(at_least(floor, returns_of(complete)))
    label = SCORE + cut_off(floor, returns_of(complete)).replace("; ", "\n")
    columns = [column_of(complete, range_) for range_ in ranges]
    columns.append(Column(label, scores.tolist(), False, None, (floor, float(scores.max()))))
    across = np.stack([heights(column, column.values) for column in columns], axis=1)
    norm = Normalize(float(scores.min()), float(scores.max()))
    colours = ScalarMappable(norm, GRADIENT)
    order = drawn_lines(scores)
    lines = [np.column_stack([np.arange(len(columns)), across[i]]) for i in order]
    # a line skips fields that did nothing
    drawn = LineCollection(
        [line[~np.isnan(line[:, 1])] for line in lines],
        colors=colours.to_rgba(scores[order]),
        linewidth=1.5 if len(order) == len(complete) else 0.8,
        alpha=0.85,
    )
    drawn.set_gid(marks_of([complete[i] for i in order]))
    axes.add_collection(drawn)
    axes.set_title(thinned(len(complete)), fontsize=9)
    for x, column in enumerate(columns):
        axes.axvline(x, color=GREY, linewidth=0.8)
        for value, text in ticks(column):
            height = float(heights(column, [value])[0])
            axes.annotate(
                text,
                (x, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=9,
                va="center",
                zorder=4,
                bbox={"boxstyle": "round,pad=0.15", "fc": WHITE, "ec": "none", "alpha": 0.9},
            )
    axes.set_xticks(range(len(columns)), [column.label for column in columns], fontsize=9)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.6)
    axes.set_ylim(-0.06, 1.06)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def drawn_lines(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The trials whose lines are drawn, the best last: all, or `LINES` of them, namely the best and
    some of the others, evenly by score."""
    order = np.argsort(scores)
    if len(order) <= LINES:
        return order
    others, best = order[:-TOP_LINES], order[-TOP_LINES:]
    evenly = np.linspace(0, len(others) - 1, LINES - TOP_LINES).round().astype(int)
    return np.concatenate([others[evenly], best])


def thinned(count: int) -> str:
    """Which of `count` finished trials have a line, if not all; else empty."""
    if count <= LINES:
        return ""
    return f"Drawn are {LINES} of {count:,}: the best {TOP_LINES}, and others evenly by score"
