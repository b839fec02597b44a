"""The answers of notebook 02, from the records of trials.

In a search every trial is a candidate; in a confirmation the candidates are the trials of the
search that it trains again, under their numbers there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.charts import trials as charts
from analysis.load import load_curves, load_episodes, load_trials
from analysis.notebooks.answer import Answer
from analysis.stats import by_training, lead, probability_better, seed_spread
from lander.metrics import CURVES, EVAL_RETURN, TRAIN_LENGTH, VALUE_LOSS
from sweeps.charts.style import new_axes, solved_line
from sweeps.hints import hint
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.sweep import Sweep, open_sweep

METRIC = EVAL_RETURN
PANELS = 6
GOOD, BAD = "good third", "bad third"


def scores(sweep: Sweep, *states: str) -> pd.Series:
    """Mean last return of each candidate over its trials in one of the states, the best first."""
    trials = load_trials(sweep).dropna(subset="last_return")
    ended = trials[trials["state"].isin(states or ("COMPLETE", "PRUNED"))]
    return ended.groupby("candidate")["last_return"].mean().sort_values(ascending=False)


def best_median_worst(sweep: Sweep) -> list[int]:
    """The candidates to look at first, the best first; fewer than three if there are fewer."""
    order = scores(sweep).index
    ranks = sorted({0, (len(order) - 1) // 2, len(order) - 1}) if len(order) else []
    return [int(order[rank]) for rank in ranks]


def learning(sweep: Sweep, candidates: Sequence[int], *, metric: str = METRIC) -> Answer:
    """How did they learn?"""
    points, ended = load_curves(sweep, metric), scores(sweep)
    tables = {
        f"trial {number}": rows
        for number in dict.fromkeys(candidates)
        if len(rows := points[points["candidate"] == number])
    }
    if not tables:
        return Answer(f"None of the trials {list(candidates)} has a point of `{metric}`.")
    figure, axes = new_axes(9, 4.4)
    charts.learning(tables, axes, label=metric)
    if metric.endswith("return_mean"):
        solved_line(axes, sweep.study.base.env)
    one, other = candidates[0], candidates[-1]
    ahead = None if one == other else lead(load_episodes(sweep), one, other)
    if ahead is not None:
        sentence = f"Trial {one} ended {ahead.estimate} above trial {other}, over {ahead.over}."
        return Answer(sentence, figure)
    ends = [f"trial {number} at {ended[number]:.1f}" for number in candidates if number in ended]
    return Answer(
        f"They ended with these returns: {', '.join(ends) or 'none'}; an interval needs recorded "
        "final episodes of both trials.",
        figure,
    )


def explanations(sweep: Sweep) -> Answer:
    """Which metric explains a bad trial?"""
    order = scores(sweep).index
    third = len(order) // 3
    if third < 2:
        return Answer(f"Comparing thirds needs six ended trials; there are {len(order)}.")
    thirds = {GOOD: order[:third], BAD: order[-third:]}
    panels, estimates, last = {}, {}, 0
    for metric in explaining_metrics(sweep):
        points = load_curves(sweep, metric)
        points = points[points["candidate"].isin(order[:third].union(order[-third:]))]
        if points["candidate"].nunique() < 2 * third:
            continue  # not recorded for some of them
        common = int(points.groupby(["trial", "seed"])["env_steps"].max().min())
        points = points[points["env_steps"] <= common]
        groups = {name: points[points["candidate"].isin(third)] for name, third in thirds.items()}
        means = {
            name: rows.groupby("candidate")["value"].mean().tolist()
            for name, rows in groups.items()
        }
        if all(means.values()) and np.ptp(means[GOOD] + means[BAD]) > 0:
            panels[metric], last = groups, max(last, common)
            estimates[metric] = probability_better(means[GOOD], means[BAD])
    if not estimates:
        return Answer("No metric differs over the steps that the good and the bad third share.")
    names = sorted(estimates, key=lambda name: -abs(estimates[name].value - 0.5))
    notes = {name: f"P(good > bad) = {estimates[name]:.2f}" for name in names}
    figure = charts.metric_panels({name: panels[name] for name in names[:PANELS]}, notes=notes)
    return Answer(
        f"In the first {last:,} steps, which all of these {2 * third} trials reached, "
        f"`{names[0]}` says most: its mean is higher in a trial of the good third than in one of "
        f"the bad third with probability {estimates[names[0]]:.2f}, the clearest of "
        f"{len(names)} metrics.",
        figure,
    )


def explaining_metrics(sweep: Sweep) -> list[str]:
    """Curves that could explain a return; returns themselves are left out."""
    names = [name for name in CURVES if name.startswith(("policy/", "value/"))]
    names.append(TRAIN_LENGTH)
    if "env.reward_scale" not in sweep.study.space:  # the reward scale is the unit of this loss
        names.append(VALUE_LOSS)
    return names


def noise(sweep: Sweep) -> Answer:
    """How noisy is a score?"""
    order, episodes = scores(sweep, "COMPLETE").index, load_episodes(sweep)
    if len(order) < 2:
        return Answer(f"A comparison needs two finished trials; there are {len(order)}.")
    one, other = (int(number) for number in order[:2])
    ahead = lead(episodes, one, other)
    if ahead is None:
        return Answer("The returns of single episodes are not recorded in this sweep.")
    best, second = (
        by_training(episodes, number).mean(axis="columns").rename(f"trial {number}")
        for number in (one, other)
    )
    figure, axes = new_axes(9, 4.2)
    charts.paired_episodes(best, second, axes)
    return Answer(
        f"The best, trial {one}, lies {ahead.estimate} above the second, trial {other}, over "
        f"{ahead.over}; {seed_noise(sweep, episodes)}.",
        figure,
    )


def seed_noise(sweep: Sweep, episodes: pd.DataFrame) -> str:
    """How much another training seed changes a score, from the sweep or from its confirmation."""
    spread, origin, name = seed_spread(episodes), "", sweep.study.name + CONFIRM_SUFFIX
    if spread is None and name in sweep.store.study_names():
        confirmation = open_sweep(sweep.store, name)
        spread, origin = seed_spread(load_episodes(confirmation)), " of the confirmation"
    if spread is None:
        return (
            "only several trainings of a trial show what another training seed would change: "
            f"`{hint('confirm', sweep.store.folder, study=sweep.study.settings.name)}`"
        )
    deviation, count = spread
    trials = f"{count} trial{'s' if count > 1 else ''}{origin}"
    return f"another training seed moves a score by a standard deviation of {deviation} ({trials})"
