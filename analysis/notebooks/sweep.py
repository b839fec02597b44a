"""What notebook 01 asks of a search, answered from its records: a figure and a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analysis.charts.intervals import forest
from analysis.judgement import judgement_of
from analysis.load import load_episodes, load_trials
from analysis.notebooks.answer import Answer
from analysis.stats import Estimate, bootstrap_estimate, lead, mean_estimate, rank_correlation
from lander.errors import ConfigError
from sweeps.charts.importance import BEST_SHARE, FEWEST, importances, with_last_return
from sweeps.charts.search import finished, history, importance_bars, parallel_coordinates, slices
from sweeps.charts.style import new_axes
from sweeps.endings import root
from sweeps.hints import hint
from sweeps.schema import CONFIRM_SUFFIX
from sweeps.scores import last_return
from sweeps.sweep import Sweep


def with_return(sweep: Sweep) -> pd.DataFrame:
    """The rows of `load_trials` that ended with a return: finished, or pruned at a checkpoint."""
    numbers = [trial.number for trial in with_last_return(sweep.read_trials().counted)]
    return load_trials(sweep).loc[numbers]


def progress(sweep: Sweep) -> Answer:
    """Did the search get anywhere?"""
    trials = sweep.read_trials()
    begun = [trial for trial in trials.counted if trial.params]
    if not begun:
        return Answer("No trial has begun yet.")
    figure, best = history(begun, env=sweep.study.base.env), trials.best
    if best is None:
        return Answer(f"None of {len(begun)} trials has finished, so there is no best one.", figure)
    first = next((trial for trial in begun if root(trial) == 0), None)
    told = f"The best of {len(begun)} trials, trial {best.number}, scored {best.values[0]:.1f}"
    ahead = against_defaults(sweep, best, first)
    return Answer(f"{told}, {ahead}; {confirmed(sweep)}.", figure)


def against_defaults(sweep: Sweep, best: FrozenTrial, first: FrozenTrial | None) -> str:
    """The best trial beside trial 0."""
    if first is None:
        return "and the defaults have not been tried yet"
    if best.params == first.params:
        return "and has the parameters of the defaults: the search has found nothing better"
    if first.state != TrialState.COMPLETE:
        how = {TrialState.PRUNED: "were pruned", TrialState.FAIL: "failed"}.get(first.state)
        last = last_return(first)
        at = "" if last is None else f" at {last:.1f}"
        return f"and the defaults {how or 'are under way'}{at}"
    gain = lead(load_episodes(sweep), best.number, first.number)
    if gain is not None:
        return f"{gain.estimate} above the defaults over {gain.over}"
    more = best.values[0] - first.values[0]
    return f"{more:.1f} above the defaults, without an interval as no episodes are recorded"


def confirmed(sweep: Sweep) -> str:
    """What fresh seeds say, if they were asked."""
    name = sweep.study.settings.name
    if name + CONFIRM_SUFFIX not in sweep.store.study_names():
        remedy = hint("confirm", sweep.store.folder, study=name)
        return f"how much of it is luck: `{remedy}`"
    try:
        judgement = judgement_of(sweep.store, name)
    except ConfigError as error:
        return str(error)
    missing = f" ({judgement.waiting} trainings are missing)" if judgement.waiting else ""
    return f"on fresh seeds **{judgement.verdict.rstrip('.')}**{missing}"


def importance(sweep: Sweep) -> Answer:
    """Which parameter matters?"""
    counted = sweep.read_trials().counted
    count = len(with_last_return(counted))
    table = importances(counted, sweep.study.space)
    if table.empty:
        return Answer(too_few(count))
    name, row = table.index[0], table.iloc[0]
    weight = Estimate(row["share"], row["low"], row["high"])
    sure = "" if row["first"] >= 0.95 else ", so the order is not certain"
    return Answer(
        f"`{name}` has the largest share, {weight.shown('.2f')}, and comes first in "
        f"{row['first']:.0%} of the resamples of {count} trials{sure}.",
        importance_bars(table),
    )


def too_few(count: int) -> str:
    """Why a quarter of them says nothing."""
    return (
        "Too few trials have ended with a return to speak of the best quarter: "
        f"{count}, and it takes {FEWEST}."
    )


def good_values(sweep: Sweep) -> Answer:
    """Where are good values?"""
    trials = with_return(sweep)
    if trials.empty:
        return Answer("No trial has ended with a return.")
    study, counted = sweep.study, sweep.read_trials().counted
    figure = slices(counted, list(study.space.values()), env=study.base.env)
    if len(trials) < FEWEST:
        return Answer(too_few(len(trials)), figure)
    name = str(importances(counted, study.space).index[0])
    order = trials.sort_values("last_return", ascending=False)[name]
    size = int(np.ceil(BEST_SHARE * len(order)))
    good, rest = order.iloc[:size].dropna(), order.iloc[size:].dropna()
    return Answer(
        f"In the best quarter of {len(order)} trials `{name}`, which matters most, "
        f"{apart(good, rest)}.",
        figure,
    )


def apart(good: pd.Series, rest: pd.Series) -> str:
    """A field's values in two groups of trials, told in words."""
    if good.empty or rest.empty:
        return "acts in all trials, and in the others in none" if rest.empty else "does nothing"
    if is_measured(good):
        here, there = (bootstrap_estimate(v.tolist(), median) for v in (good, rest))
        return f"has the median {here.shown('.3g')}, in the others {there.shown('.3g')}"
    most = good.mode().iloc[0]
    here, there = (mean_estimate((v == most).astype(float).tolist()) for v in (good, rest))
    return (
        f"is {most} in a share of {here.shown('.2f')} of the trials, in the others in "
        f"{there.shown('.2f')}"
    )


def is_measured(values: pd.Series) -> bool:
    """Numbers, on a scale."""
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def median(values: Sequence[float]) -> float:
    """Of numbers."""
    return float(np.median(values))


def together(sweep: Sweep) -> Answer:
    """How do values go together?"""
    complete = finished(sweep.read_trials().counted)
    if len(complete) < 2:
        return Answer(f"Lines to compare take two finished trials, there are {len(complete)}.")
    figure = parallel_coordinates(complete, list(sweep.study.space.values()))
    trials = load_trials(sweep).loc[[trial.number for trial in complete]]
    names = [name for name in sweep.study.space if is_measured(trials[name])]
    found = {pair: correlated(trials, *pair) for pair in combinations(names, 2)}
    known = {pair: rho for pair, rho in found.items() if np.isfinite(rho.low)}
    if not known:
        return Answer("No two numeric fields act together in four finished trials.", figure)
    one, other = max(known, key=lambda pair: abs(known[pair].value))
    return Answer(
        f"Over {len(complete)} finished trials `{one}` and `{other}` go together most, rank "
        f"correlation {known[one, other].shown('.2f')}, the largest of {len(known)} pairs (of "
        "twenty, one leaves out zero by chance).",
        figure,
    )


def correlated(trials: pd.DataFrame, one: str, other: str) -> Estimate:
    """Rank correlation of two columns, where both have a value."""
    there = trials[[one, other]].dropna()
    return rank_correlation(there[one].tolist(), there[other].tolist())


def directions(sweep: Sweep) -> Answer:
    """Which way does each field pull?"""
    trials = with_return(sweep)
    names = [name for name in sweep.study.space if is_measured(trials[name])]
    found = {name: correlated(trials, name, "last_return") for name in names}
    found = {name: rho for name, rho in found.items() if np.isfinite(rho.value)}
    if not found:
        return Answer("No numeric field has several values in trials that ended with a return.")
    figure, axes = new_axes(8, 1.2 + 0.4 * len(found))
    label = "rank correlation with the trial's last return, and its 95 % interval"
    forest(found, axes, label=label, middle=0.0)
    axes.set_xlim(-1, 1)
    name = max(found, key=lambda name: abs(found[name].value))
    clear = sum(rho.low > 0 or rho.high < 0 for rho in found.values())
    return Answer(
        f"`{name}` pulls most, rank correlation {found[name].shown('.2f')} over {len(trials)} "
        f"trials; {clear} of {len(found)} numeric fields have an interval that leaves out zero.",
        figure,
    )
