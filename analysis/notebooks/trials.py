"""The answers of notebook 02, from the records of trials.

In a search every trial is a candidate; in a confirmation the candidates are the trials of the
search that it trains again, under their numbers there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.load import load_curves, load_episodes, load_trials
from analysis.stats import Estimate, by_training, lead, probability_better, seed_spread
from lander.metrics import CURVES, TRAIN_LENGTH, VALUE_LOSS
from sweeps.hints import hint
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.sweep import Sweep, open_sweep

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


def learning(sweep: Sweep, candidates: Sequence[int]) -> str:
    """How did they learn?"""
    if not candidates:
        return "No trial has ended yet."
    one, other = candidates[0], candidates[-1]
    ahead = None if one == other else lead(load_episodes(sweep), one, other)
    if ahead is not None:
        return f"Trial {one} ended {ahead.estimate} above trial {other}, over {ahead.over}."
    returns = scores(sweep)
    ends = [f"trial {each} at {returns[each]:.1f}" for each in candidates if each in returns]
    return (
        f"They ended with these returns: {', '.join(ends) or 'none'}; an interval needs recorded "
        "final episodes of both trials."
    )


@dataclass(frozen=True, slots=True)
class Thirds:
    """The good and the bad third of the trials, compared by every metric that differs."""

    ended: int
    """Trials that ended."""
    size: int
    """Trials in a third."""
    steps: int
    """Environment steps that all of them reached."""
    panels: Mapping[str, Mapping[str, pd.DataFrame]]
    """By metric, the clearest first: curves of each third."""
    better: Mapping[str, Estimate]
    """By metric, the clearest first: how probably a good trial's mean lies above a bad one's."""

    @property
    def drawn(self) -> dict[str, Mapping[str, pd.DataFrame]]:
        """The clearest panels."""
        return {name: self.panels[name] for name in list(self.panels)[:PANELS]}

    @property
    def notes(self) -> dict[str, str]:
        """What stands above a panel."""
        return {name: f"P(good > bad) = {p.value:.2f}" for name, p in self.better.items()}


def thirds(sweep: Sweep) -> Thirds:
    """Compare the good and the bad third of the trials, over the steps that all of them reached."""
    order = scores(sweep).index
    third = len(order) // 3
    if third < 2:
        return Thirds(len(order), third, 0, {}, {})
    groups_of = {GOOD: order[:third], BAD: order[-third:]}
    panels, better, last = {}, {}, 0
    for metric in explaining_metrics(sweep):
        points = load_curves(sweep, metric)
        points = points[points["candidate"].isin(order[:third].union(order[-third:]))]
        if points["candidate"].nunique() < 2 * third:
            continue  # not recorded for some of them
        common = int(points.groupby(["trial", "seed"])["env_steps"].max().min())
        points = points[points["env_steps"] <= common]
        groups = {name: points[points["candidate"].isin(some)] for name, some in groups_of.items()}
        means = {
            name: rows.groupby("candidate")["value"].mean().tolist()
            for name, rows in groups.items()
        }
        if all(means.values()) and np.ptp(means[GOOD] + means[BAD]) > 0:
            panels[metric], last = groups, max(last, common)
            better[metric] = probability_better(means[GOOD], means[BAD])
    names = sorted(better, key=lambda name: -abs(better[name].value - 0.5))
    return Thirds(
        len(order),
        third,
        last,
        {name: panels[name] for name in names},
        {name: better[name] for name in names},
    )


def explanation(compared: Thirds) -> str:
    """Which metric explains a bad trial?"""
    if compared.size < 2:
        return f"Comparing thirds needs six ended trials; there are {compared.ended}."
    if not compared.better:
        return "No metric differs over the steps that the good and the bad third share."
    name, p = next(iter(compared.better.items()))
    return (
        f"In the first {compared.steps:,} steps, which all of these {2 * compared.size} trials "
        f"reached, `{name}` says most: its mean is higher in a trial of the good third than in one "
        f"of the bad third with probability {p:.2f}, the clearest of {len(compared.better)} "
        "metrics."
    )


def explaining_metrics(sweep: Sweep) -> list[str]:
    """Curves that could explain a return; returns themselves are left out."""
    names = [name for name in CURVES if name.startswith(("policy/", "value/"))]
    names.append(TRAIN_LENGTH)
    if "env.reward_scale" not in sweep.study.space:  # the reward scale is the unit of this loss
        names.append(VALUE_LOSS)
    return names


def best_pair(sweep: Sweep) -> pd.DataFrame:
    """A row per episode, a column for each of the two best finished candidates: its mean return,
    over its trainings. Without columns if there is no such pair, or no episodes are recorded."""
    order, episodes = scores(sweep, "COMPLETE").index, load_episodes(sweep)
    returns = {
        f"trial {number}": by_training(episodes, int(number)).mean(axis="columns")
        for number in order[:2]
    }
    whole = len(returns) == 2 and not any(column.empty for column in returns.values())
    return pd.DataFrame(returns if whole else {})


def noise(sweep: Sweep) -> str:
    """How noisy is a score?"""
    order, episodes = scores(sweep, "COMPLETE").index, load_episodes(sweep)
    if len(order) < 2:
        return f"A comparison needs two finished trials; there are {len(order)}."
    one, other = (int(number) for number in order[:2])
    ahead = lead(episodes, one, other)
    if ahead is None:
        return "The returns of single episodes are not recorded in this sweep."
    return (
        f"The best, trial {one}, lies {ahead.estimate} above the second, trial {other}, over "
        f"{ahead.over}; {seed_noise(sweep, episodes)}."
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
