"""The figure of a confirmation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.charts.intervals import seeds_and_mean
from analysis.confirm.judgement import Judgement
from analysis.stats import Estimate, mean_estimate
from lander.env import AnyEnv
from sweeps.charts.style import COLOURS, new_axes, solved_line
from sweeps.estimates import Expected


@dataclass(frozen=True, slots=True)
class Line:
    """A candidate under choice seeds, or a finalist under report seeds."""

    name: str
    scores: list[float]
    mean: Estimate
    promise: Expected | None


def confirmation_figure(judgement: Judgement, *, env: AnyEnv) -> Figure:
    """`draw_confirmation` on a figure of its own."""
    figure, axes = new_axes(8, 1.9 + 0.4 * len(list(lines_of(judgement))))
    draw_confirmation(judgement, axes, env=env)
    return figure


def draw_confirmation(judgement: Judgement, axes: Axes, *, env: AnyEnv) -> Axes:
    """A line per finalist under report seeds, then one per candidate under choice seeds, the best
    on top: each training, the mean with its interval, what the sweep expected."""
    lines = list(lines_of(judgement))[::-1]
    for y, line in enumerate(lines):
        label = "one training seed" if y == 0 else None
        seeds_and_mean(axes, line.scores, line.mean, y, seed_label=label)
    promises = [(line.promise, y) for y, line in enumerate(lines) if line.promise is not None]
    if promises:
        axes.errorbar(
            [promise.value for promise, _ in promises],
            [y for _, y in promises],
            xerr=[promise.known_error or 0.0 for promise, _ in promises],
            linestyle="none",
            marker="D",
            markerfacecolor="none",
            color=COLOURS[1],
            label="expected by the sweep, with its standard error",
        )
    solved_line(axes, env, upright=True)
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlabel("mean return of a training's final episodes")
    axes.figure.legend(loc="outside lower left", fontsize=8, ncols=3, frameon=False)
    return axes


def lines_of(judgement: Judgement) -> Iterator[Line]:
    """What is drawn, the first on top."""
    final = judgement.final
    for one in [] if final is None else [final.rival, final.base]:
        mean = mean_estimate(one.scores)
        yield Line(f"{one.name}, report", one.scores, mean, one.standing.promise)
    for row in judgement.standings:
        if row.mean is not None:
            scores = [training.score for training in row.trainings]
            yield Line(f"{row.name}, choice", scores, row.mean, row.promise)
