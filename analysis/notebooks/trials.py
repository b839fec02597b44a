"""What notebook 02 asks of trials, answered from their records: a figure and a sentence each.

Of a search every trial is a candidate; of a confirmation those that it trains are, by their numbers
in the search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.charts import trials as trial_plots
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
    """Last return of each candidate whose trials ended in one of the states, the best first; mean
    over its trials."""
    trials = load_trials(sweep)
    over = trials[trials["state"].isin(states or ("COMPLETE", "PRUNED"))].dropna(
        subset="last_return"
    )
    return over.groupby("candidate")["last_return"].mean().sort_values(ascending=False)


def best_median_worst(sweep: Sweep) -> list[int]:
    """Candidates to look at first, the best first; fewer than three if there are fewer."""
    order = scores(sweep).index
    places = sorted({0, (len(order) - 1) // 2, len(order) - 1}) if len(order) else []
    return [int(order[place]) for place in places]


def learning(sweep: Sweep, candidates: Sequence[int], *, metric: str = METRIC) -> Answer:
    """How did they learn?"""
    points, ended = load_curves(sweep, metric), scores(sweep)
    tables = {
        f"trial {number}": own
        for number in dict.fromkeys(candidates)
        if len(own := points[points["candidate"] == number])
    }
    if not tables:
        return Answer(f"None of the trials {list(candidates)} has a point of `{metric}`.")
    figure, axes = new_axes(9, 4.4)
    trial_plots.learning(tables, axes, label=metric)
    if metric.endswith("return_mean"):
        solved_line(axes, sweep.study.base.env)
    one, other = candidates[0], candidates[-1]
    ahead = None if one == other else lead(load_episodes(sweep), one, other)
    if ahead is not None:
        told = f"Trial {one} ended {ahead.estimate} above trial {other}, over {ahead.over}."
        return Answer(told, figure)
    ends = [f"trial {number} at {ended[number]:.1f}" for number in candidates if number in ended]
    return Answer(
        f"They ended with these returns: {', '.join(ends) or 'none'}; there is no interval where "
        "one of them has no final episodes in the record.",
        figure,
    )


def explanations(sweep: Sweep) -> Answer:
    """Which metric explains a bad trial?"""
    order = scores(sweep).index
    third = len(order) // 3
    if third < 2:
        return Answer(f"Thirds to compare take six trials that ended, there are {len(order)}.")
    thirds = {GOOD: order[:third], BAD: order[-third:]}
    panels, found, last = {}, {}, 0
    for metric in telling(sweep):
        points = load_curves(sweep, metric)
        points = points[points["candidate"].isin(order[:third].union(order[-third:]))]
        if points["candidate"].nunique() < 2 * third:
            continue  # not recorded for some of them
        seen = int(points.groupby(["trial", "seed"])["env_steps"].max().min())
        points = points[points["env_steps"] <= seen]
        groups = {name: points[points["candidate"].isin(third)] for name, third in thirds.items()}
        means = {
            name: own.groupby("candidate")["value"].mean().tolist() for name, own in groups.items()
        }
        if all(means.values()) and np.ptp(means[GOOD] + means[BAD]) > 0:
            panels[metric], last = groups, max(last, seen)
            found[metric] = probability_better(means[GOOD], means[BAD])
    if not found:
        return Answer("No metric differs in what the good and the bad third both have seen.")
    names = sorted(found, key=lambda name: -abs(found[name].value - 0.5))
    notes = {name: f"P(good > bad) = {found[name]:.2f}" for name in names}
    figure = trial_plots.metric_panels({name: panels[name] for name in names[:PANELS]}, notes=notes)
    return Answer(
        f"In the first {last:,} steps, which all of these {2 * third} trials have seen, "
        f"`{names[0]}` tells most: its mean is higher in a trial of the good third than in one of "
        f"the bad third with probability {found[names[0]]:.2f}, the clearest of "
        f"{len(names)} metrics.",
        figure,
    )


def telling(sweep: Sweep) -> list[str]:
    """Curves that could say why; a return would only say that."""
    names = [name for name in CURVES if name.startswith(("policy/", "value/"))]
    names.append(TRAIN_LENGTH)
    if "env.reward_scale" not in sweep.study.space:  # it is the unit of this one
        names.append(VALUE_LOSS)
    return names


def noise(sweep: Sweep) -> Answer:
    """How noisy is a score?"""
    order, episodes = scores(sweep, "COMPLETE").index, load_episodes(sweep)
    if len(order) < 2:
        return Answer(f"Two trials to compare must have finished, there are {len(order)}.")
    one, other = (int(number) for number in order[:2])
    ahead = lead(episodes, one, other)
    if ahead is None:
        return Answer("The returns of single episodes are not recorded in this sweep.")
    best, second = (
        by_training(episodes, number).mean(axis="columns").rename(f"trial {number}")
        for number in (one, other)
    )
    figure, axes = new_axes(9, 4.2)
    trial_plots.paired_episodes(best, second, axes)
    return Answer(
        f"The best, trial {one}, lies {ahead.estimate} above the second, trial {other}, over "
        f"{ahead.over}; {seeds_told(sweep, episodes)}.",
        figure,
    )


def seeds_told(sweep: Sweep, episodes: pd.DataFrame) -> str:
    """What another training seed changes, from the sweep itself or from its confirmation."""
    where, found, name = "", seed_spread(episodes), sweep.study.name + CONFIRM_SUFFIX
    if found is None and name in sweep.store.study_names():
        where, found = (
            "of the confirmation",
            seed_spread(load_episodes(open_sweep(sweep.store, name))),
        )
    if found is None:
        return (
            "what another training seed would change, only several trainings of a trial can show: "
            f"`{hint('confirm', sweep.store.folder, study=sweep.study.settings.name)}`"
        )
    deviation, count = found
    who = " ".join(filter(None, [f"{count} trial{'s' if count > 1 else ''}", where]))
    return f"another training seed moves a score by a standard deviation of {deviation} ({who})"
