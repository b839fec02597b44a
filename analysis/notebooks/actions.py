"""What notebook 03 asks of the ways to act: a figure and a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from optuna.distributions import CategoricalDistribution

from analysis.experiments.documents import order_sentence
from analysis.experiments.results import Results, read_results
from analysis.flight import best_policy, fly
from analysis.load import load_trials
from analysis.notebooks.answer import Answer
from analysis.notebooks.thrust import (
    ENGINES,
    MAIN,
    SIDE,
    has_engines,
    idle,
    levels_of,
    thrust,
    usage,
)
from analysis.stats import Estimate, mean_estimate
from lander.dotted import configure
from lander.errors import ConfigError
from lander.resolve import dead_zones, resolve
from sweeps.charts.style import (
    COLOURS,
    GREY,
    HEAT,
    WHITE,
    at_least,
    cut_off,
    floor_of,
    new_axes,
    new_figure,
    solved_line,
)
from sweeps.study.study import find_study
from sweeps.sweep import Sweep

CURVE = np.linspace(-1, 1, 81)
MARKERS = "os^Dv<>ph*"
FLIGHTS = 20
BINNED = ("categorical", "ordinal")
"""Heads whose actions are a level per engine."""


def bins_searched(sweep: Sweep) -> list[int]:
    """Every number of bins that the sweep chooses from, or that its trials had."""
    range_ = sweep.study.space.get("env.bins")
    base = sweep.study.base.env.bins
    if range_ is None:
        return [] if base is None else [base]
    if isinstance(range_.distribution, CategoricalDistribution):
        return sorted(choice for choice in range_.distribution.choices if isinstance(choice, int))
    return sorted(load_trials(sweep)["env.bins"].dropna().astype(int).unique().tolist())


def thrusts(sweep: Sweep) -> Answer:
    """Which thrust does each bin give?"""
    base, counts = sweep.study.base, bins_searched(sweep)
    if not has_engines(base) or not counts:
        return Answer(f"Study {sweep.study.name} cuts no engines into bins.")
    figure = new_figure(9, 4.6)
    panels = figure.subplots(1, 2)
    off_of: dict[tuple[int, int], int] = {}
    for engine, axes in zip((MAIN, SIDE), panels, strict=True):
        axes.plot(CURVE, thrust(base.env, engine, CURVE.tolist()), color=GREY, zorder=0)
        for row, bins in enumerate(counts):
            levels = levels_of(resolve(configure({"env.bins": bins}, base=base)).config)[engine]
            off = idle(levels, engine)
            height = -0.12 * (row + 1)
            colour = COLOURS[row % len(COLOURS)]
            axes.plot(levels[~off], np.full((~off).sum(), height), "o", color=colour)
            axes.plot(levels[off], np.full(off.sum(), height), "o", mfc="none", color=colour)
            axes.annotate(f"{bins} bins", (1.08, height), fontsize=8, va="center")
            off_of[engine, bins] = int(off.sum())
        axes.set_xlim(-1.1, 1.45)
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlabel(f"level of the {ENGINES[engine]}")
        axes.set_ylabel("share of full thrust, measured")
    parts = [
        f"{bins} bins leave the main engine off in {off_of[MAIN, bins]} of them and the side "
        f"engines in {off_of[SIDE, bins]}"
        for bins in counts
    ]
    warned = {
        trouble
        for bins in counts
        for trouble in dead_zones(configure({"env.bins": bins}, base=base))
    }
    sentence = "; ".join(parts) + "."
    return Answer(sentence + "".join(f" **{trouble}.**" for trouble in sorted(warned)), figure)


def estimates(results: Results) -> dict[str, Estimate]:
    """Mean return of each point, its interval over training seeds."""
    return {
        point: mean_estimate([outcome.return_mean for outcome in outcomes])
        for point, outcomes in results.items()
    }


def heads_and_bins() -> Answer:
    """Which head copes with how many bins?"""
    study = find_study("heads")
    results = read_results(study)
    by_point = estimates(results)
    figure, axes = new_axes(9, 4.4)
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
    solved_line(axes, study.base.env)
    axes.legend(fontsize=8, loc="lower left")
    return Answer(order_sentence(results), figure)


def tuned() -> Answer:
    """And when each is tuned?"""
    by_point = estimates(read_results(find_study("tuned")))
    figure, axes = new_axes(9, 0.9 + 0.45 * len(by_point))
    names = list(reversed(by_point))
    for y, name in enumerate(names):
        row = by_point[name]
        axes.errorbar(
            row.value,
            y,
            xerr=[[row.value - row.low], [row.high - row.value]],
            marker="o",
            capsize=4,
            color=COLOURS[0],
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("return on unseen episodes, 95 % interval over training seeds")
    second, best = sorted(by_point, key=lambda name: by_point[name].value)[-2:]
    return Answer(f"{best}: {by_point[best]}; next {second}: {by_point[second]}.", figure)


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


def used_bins(sweep: Sweep) -> Answer:
    """Which bins does the best policy use?"""
    try:
        pilot = best_policy(sweep)
    except ConfigError as error:
        return Answer(f"No policy to look at: {error}.")
    if not has_engines(pilot.config) or pilot.config.policy.head == "gaussian":
        return Answer(f"Trial {pilot.trial} does not act in bins of two engines.")
    levels = levels_of(pilot.config)
    flights = [usage(flight.actions.astype(np.float64), levels) for flight in fly(pilot, FLIGHTS)]
    counts = np.sum(flights, axis=0)
    shares = counts / counts.sum()
    figure = new_figure(9.5, 4.2)
    bars, heat = figure.subplots(1, 2)
    for engine, offset in ((MAIN, -0.2), (SIDE, 0.2)):
        share = shares.sum(axis=1 - engine)
        bars.bar(
            np.arange(len(share)) + offset,
            share,
            0.4,
            color=COLOURS[engine],
            hatch="//" if engine else None,
            edgecolor=WHITE,
            label=ENGINES[engine],
        )
    bars.set_xticks(range(levels.shape[1]), [f"{level:.2g}" for level in levels[MAIN]], fontsize=8)
    bars.set_xlabel("level")
    bars.set_ylabel("share of all steps")
    bars.legend(fontsize=8)
    shown = heat.imshow(shares, origin="lower", cmap=HEAT, aspect="auto")
    heat.set_xticks(range(levels.shape[1]), [f"{level:.2g}" for level in levels[SIDE]], fontsize=8)
    heat.set_yticks(range(levels.shape[1]), [f"{level:.2g}" for level in levels[MAIN]], fontsize=8)
    heat.set_xlabel("side level")
    heat.set_ylabel("main level")
    figure.colorbar(shown, ax=heat, label="share of all steps")
    off = [
        mean_estimate(
            [
                float(own.sum(axis=1 - engine)[idle(levels[engine], engine)].sum() / own.sum())
                for own in flights
            ]
        )
        for engine in (MAIN, SIDE)
    ]
    used = int((counts > 0).sum())
    return Answer(
        f"In {FLIGHTS} flights of trial {pilot.trial} on unseen seeds, {counts.sum():,} steps, the "
        f"{ENGINES[MAIN]} is off in {off[MAIN]:.0%} of a flight's steps, the {ENGINES[SIDE]} in "
        f"{off[SIDE]:.0%}; {used} of {counts.size} pairs of levels are ever used.",
        figure,
    )


def searched(sweep: Sweep, field: str) -> Answer:
    """In this sweep: which choices did well?"""
    trials = load_trials(sweep)
    if field not in trials.columns:
        return Answer(f"`{field}` was not searched in study {sweep.study.name}.")
    known = trials.dropna(subset=[field, "last_return"])
    groups = {
        str(choice): rows["last_return"].astype(float).tolist()
        for choice, rows in known.groupby(field)
    }
    if not groups:
        return Answer("No trial has a return yet.")
    figure, axes = new_axes(8, 4)
    every = [value for values in groups.values() for value in values]
    floor = floor_of(every)
    for x, values in enumerate(groups.values()):
        shown = at_least(floor, values)
        axes.plot(np.full(len(values), x), shown, "o", color=GREY, markersize=4)
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
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xlabel(field)
    axes.set_ylabel("score, of pruned trials the return so far" + cut_off(floor, every))
    solved_line(axes, sweep.study.base.env)
    # intervals of few trials are cut off
    margin = 0.1 * (max(every) - floor) or 1.0
    axes.set_ylim(floor - margin, max(every) + margin)
    axes.legend(fontsize=8)
    best = max(groups, key=lambda name: float(np.mean(groups[name])))
    estimate = mean_estimate(groups[best])
    return Answer(
        f"`{field} = {best}`: {estimate} over {len(groups[best])} trials, the highest mean. The "
        "sampler tried more where it saw success, so these are not fair samples.",
        figure,
    )
