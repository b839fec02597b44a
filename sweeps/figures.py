"""The pictures a study leaves on its run: history, importances, slices, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.space import Range
from sweeps.sweep import Sweep

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # apart for colour-blind readers too
FLOOR = -400.0
"""Returns below are drawn here, so that one crash does not flatten the picture."""


@dataclass(frozen=True)
class Column:
    """One searched field over some trials, ready to be drawn."""

    label: str
    values: list[float]
    """Field values; choices by their index; NaN where the field did nothing."""
    log: bool
    names: list[str] | None
    """Of the choices, by index."""
    searched: tuple[float, float]
    """Both ends of the range."""

    @property
    def known(self) -> list[float]:
        """Values of the trials in which the field did something; the range if there are none."""
        return [value for value in self.values if not np.isnan(value)] or list(self.searched)


def write_figures(sweep: Sweep, folder: Path) -> list[Path]:
    """Every figure that the trials so far allow, as PNG files in `folder`."""
    trials = [trial for trial in sweep.trials if trial.params]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.values]
    ranges = list(sweep.study.space.values())
    figures = {"history": history(trials)}
    if len(complete) >= 2:
        figures["slices"] = slices(complete, ranges, pruned=pruned)
        figures["parallel_coordinates"] = parallel_coordinates(complete, ranges)
        importance = importances(sweep.optuna)
        if importance is not None:
            figures["importances"] = importance
    paths: list[Path] = []
    for name, figure in figures.items():
        figure.suptitle(f"{sweep.study.name}: {name.replace('_', ' ')}", fontsize=11)
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def history(trials: Sequence[FrozenTrial]) -> Figure:
    """Return by trial number, and the best so far."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.values]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    axes.scatter(
        [trial.number for trial in pruned],
        [max(FLOOR, trial.values[0]) for trial in pruned],
        marker="x",
        color=GREY,
        label="pruned, at its last checkpoint",
    )
    axes.scatter(
        [trial.number for trial in complete],
        [max(FLOOR, trial.values[0]) for trial in complete],
        color=BLUE,
        label="finished",
    )
    if failed:
        axes.scatter(
            [trial.number for trial in failed],
            [FLOOR] * len(failed),
            marker="v",
            color=ORANGE,
            label="failed",
        )
    if complete:
        best = np.maximum.accumulate([max(FLOOR, trial.values[0]) for trial in complete])
        numbers = [trial.number for trial in complete]
        axes.step(numbers, best, where="post", color=BLUE, linewidth=1, label="best so far")
    axes.axhline(200, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("trial (0: the defaults)")
    axes.set_ylabel("final/return_mean")
    axes.legend(loc="best", fontsize=8)
    return figure


def importances(study: optuna.Study) -> Figure | None:
    """How much of the spread of returns each parameter explains (PED-ANOVA); None if too few."""
    try:
        shares = optuna.importance.get_param_importances(study)
    except (RuntimeError, ValueError):
        return None
    figure = Figure(figsize=(7, 0.45 * len(shares) + 1.5), layout="constrained")
    axes = figure.subplots()
    names = list(reversed(shares))
    bars = axes.barh(names, [shares[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_xlim(0, 1.12 * max(shares.values(), default=1.0) or 1)
    axes.set_xlabel("importance (PED-ANOVA, finished trials)")
    return figure


def slices(
    trials: Sequence[FrozenTrial], ranges: Sequence[Range], *, pruned: Sequence[FrozenTrial]
) -> Figure:
    """Return over each searched field by itself; colour is the trial's number.

    Pruned trials stand behind in grey, with the return of their last checkpoint.
    """
    columns = min(3, len(ranges))
    rows = -(-len(ranges) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    returns = [max(FLOOR, trial.values[0]) for trial in trials]
    numbers = [trial.number for trial in trials]
    shown = None
    for axes, range_ in zip(grid.flat, ranges, strict=False):
        column = drawn(trials, range_)
        last = [max(FLOOR, trial.values[0]) for trial in pruned]
        axes.scatter(drawn(pruned, range_).values, last, marker="x", color=GREY, s=14, lw=0.8)
        shown = axes.scatter(column.values, returns, c=numbers, cmap="viridis", s=22)
        scale(axes, column)
        axes.set_xlabel(column.label)
        axes.axhline(200, color=GREY, linewidth=0.8, linestyle=":")
    for axes in grid.flat[len(ranges) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("final/return_mean")
    if shown is not None:
        figure.colorbar(shown, ax=grid, label="trial", pad=0.01)
    return figure


def parallel_coordinates(trials: Sequence[FrozenTrial], ranges: Sequence[Range]) -> Figure:
    """One line per finished trial across all fields; good trials are drawn last."""
    figure = Figure(figsize=(1.7 * (len(ranges) + 1) + 1.5, 4.8), layout="constrained")
    axes = figure.subplots()
    returns = np.array([max(FLOOR, trial.values[0]) for trial in trials])
    columns = [drawn(trials, range_) for range_ in ranges]
    columns.append(
        Column("final/return_mean", returns.tolist(), False, None, (FLOOR, returns.max()))
    )
    heights = np.stack([position(column, column.values) for column in columns], axis=1)
    norm = Normalize(float(returns.min()), float(returns.max()))
    colours = ScalarMappable(norm, "viridis")
    order = np.argsort(returns)
    lines = [np.column_stack([np.arange(len(columns)), heights[i]]) for i in order]
    axes.add_collection(
        LineCollection(
            # a line skips fields that did nothing
            [line[~np.isnan(line[:, 1])] for line in lines],
            colors=colours.to_rgba(returns[order]),
            linewidth=1.3,
            alpha=0.85,
        )
    )
    for x, column in enumerate(columns):
        axes.axvline(x, color="black", linewidth=0.8)
        for value, text in ticks(column):
            height = float(position(column, [value])[0])
            axes.annotate(
                text,
                (x, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
            )
    axes.set_xticks(range(len(columns)), [column.label for column in columns], fontsize=9)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.6)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def drawn(trials: Sequence[FrozenTrial], range_: Range) -> Column:
    """A field's values in `trials`, choices as indices; NaN in a trial in which it did nothing."""
    distribution = range_.distribution

    def value_in(trial: FrozenTrial) -> float:
        if range_.parameter not in trial.params:
            return float("nan")
        value = range_.to_field(trial.params[range_.parameter])
        if isinstance(distribution, CategoricalDistribution):
            return float(distribution.choices.index(value))
        return float(value)

    values = [value_in(trial) for trial in trials]
    if isinstance(distribution, CategoricalDistribution):
        names = [str(choice) for choice in distribution.choices]
        return Column(range_.field, values, False, names, (0.0, len(names) - 1.0))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = sorted((range_.to_field(distribution.low), range_.to_field(distribution.high)))
    log = distribution.log and not range_.one_minus
    return Column(range_.field, values, log, None, (low, high))


def scale(axes: Axes, column: Column) -> None:
    """The x axis that suits a column: the whole range that was searched."""
    if column.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = column.searched
    margin = (high / low) ** 0.05 if column.log else 0.05 * (high - low) or 0.5
    axes.set_xlim(*((low / margin, high * margin) if column.log else (low - margin, high + margin)))
    if column.names is not None:
        axes.set_xticks(range(len(column.names)), column.names)


def position(column: Column, values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Heights between 0 and 1 within the column's own span."""
    every = np.array(column.known if column.names is None else range(len(column.names)), float)
    at = np.asarray(values, float)
    if column.log:
        every, at = np.log(every), np.log(at)
    span = every.max() - every.min()
    return (at - every.min()) / span if span > 0 else np.where(np.isnan(at), at, 0.5)


def ticks(column: Column) -> list[tuple[float, str]]:
    """Where an axis is labelled: every choice, or both ends and the middle."""
    if column.names is not None:
        return [(float(i), name) for i, name in enumerate(column.names)]
    low, high = min(column.known), max(column.known)
    middle = float(np.sqrt(low * high)) if column.log else (low + high) / 2
    return [(value, f"{value:.3g}") for value in dict.fromkeys((low, middle, high))]
