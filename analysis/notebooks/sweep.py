"""The answers of notebook 01, from a sweep's records: what mattered, what was pruned, where did the
time go?"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analysis.charts import sweep as charts
from analysis.charts.intervals import forest
from analysis.confirm.judgement import judgement_of
from analysis.confirm.words import verdict
from analysis.load import load_checkpoints, load_episodes, load_trials
from analysis.notebooks.answer import Answer
from analysis.stats import (
    Estimate,
    Floats,
    bootstrap_estimate,
    lead,
    mean_estimate,
    rank_correlation,
)
from lander.errors import ConfigError
from sweeps.charts.importance import BEST_SHARE, FEWEST, importances, with_last_return
from sweeps.charts.search import finished, history, importance_dots, parallel_coordinates, slices
from sweeps.charts.style import new_axes
from sweeps.endings import root
from sweeps.hints import hint
from sweeps.schema import CONFIRM_SUFFIX, SECONDS, WORKER, TimePart
from sweeps.scores import last_return
from sweeps.sweep import Sweep, trial_runs


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
    score = f"The best of {len(begun)} trials, trial {best.number}, scored {best.values[0]:.1f}"
    comparison = against_defaults(sweep, best, first)
    return Answer(f"{score}, {comparison}; {confirmed(sweep)}.", figure)


def against_defaults(sweep: Sweep, best: FrozenTrial, first: FrozenTrial | None) -> str:
    """How the best trial compares with trial 0, the defaults."""
    if first is None:
        return "and the defaults have not been tried yet"
    if best.params == first.params:
        return "and has the parameters of the defaults: the search did not improve on them"
    if first.state != TrialState.COMPLETE:
        ends = {TrialState.PRUNED: "were pruned", TrialState.FAIL: "failed"}
        last = last_return(first)
        at = "" if last is None else f" at {last:.1f}"
        return f"and the defaults {ends.get(first.state, 'are still running')}{at}"
    gain = lead(load_episodes(sweep), best.number, first.number)
    if gain is not None:
        return f"{gain.estimate} above the defaults over {gain.over}"
    difference = best.values[0] - first.values[0]
    return f"{difference:.1f} above the defaults, without an interval as no episodes are recorded"


def confirmed(sweep: Sweep) -> str:
    """The verdict of the confirmation, or the command that starts one."""
    name = sweep.study.settings.name
    if name + CONFIRM_SUFFIX not in sweep.store.study_names():
        remedy = hint("confirm", sweep.store.folder, study=name)
        return f"to see how much of it is luck, run `{remedy}`"
    try:
        judgement = judgement_of(sweep.store, name)
    except ConfigError as error:
        return str(error)
    missing = f" ({judgement.waiting} trainings are missing)" if judgement.waiting else ""
    return f"on fresh seeds **{verdict(judgement).rstrip('.')}**{missing}"


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
        f"`{name}` has the largest share, {weight:.2f}, and comes first in "
        f"{row['first']:.0%} of the resamples of {count} trials{sure}.",
        importance_dots(table),
    )


def too_few(count: int) -> str:
    """Why there is no best quarter."""
    return f"A best quarter needs {FEWEST} trials that ended with a return; there are {count}."


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
    """How a field's values differ between the good trials and the rest, in words."""
    if good.empty or rest.empty:
        return "acts in all trials, and in the others in none" if rest.empty else "does nothing"
    if is_measured(good):
        middle, other = (bootstrap_estimate(values.tolist(), median) for values in (good, rest))
        return f"has the median {middle:.3g}, in the others {other:.3g}"
    most = good.mode().iloc[0]
    same = [(values == most).astype(float).tolist() for values in (good, rest)]
    share, other = map(mean_estimate, same)
    return f"is {most} in a share of {share:.2f} of the trials, in the others in {other:.2f}"


def is_measured(values: pd.Series) -> bool:
    """Whether a column holds numbers, which have an order and a median."""
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def median(samples: Floats) -> Floats:
    """The median, as a statistic for `bootstrap_estimate`."""
    return np.asarray(np.median(samples, axis=-1))


def together(sweep: Sweep) -> Answer:
    """How do values go together?"""
    complete = finished(sweep.read_trials().counted)
    if len(complete) < 2:
        return Answer(f"A comparison needs two finished trials; there are {len(complete)}.")
    figure = parallel_coordinates(complete, list(sweep.study.space.values()))
    trials = load_trials(sweep).loc[[trial.number for trial in complete]]
    names = [name for name in sweep.study.space if is_measured(trials[name])]
    every = {pair: correlated(trials, *pair) for pair in combinations(names, 2)}
    pairs = {pair: rho for pair, rho in every.items() if np.isfinite(rho.low)}
    if not pairs:
        return Answer("No two numeric fields act together in four finished trials.", figure)
    one, other = max(pairs, key=lambda pair: abs(pairs[pair].value))
    return Answer(
        f"Over {len(complete)} finished trials `{one}` and `{other}` go together most, rank "
        f"correlation {pairs[one, other]:.2f}, the largest of {len(pairs)} pairs (one pair in "
        "twenty excludes zero by chance).",
        figure,
    )


def correlated(trials: pd.DataFrame, one: str, other: str) -> Estimate:
    """Rank correlation of two columns, over the rows where both have a value."""
    rows = trials[[one, other]].dropna()
    return rank_correlation(rows[one].tolist(), rows[other].tolist())


def directions(sweep: Sweep) -> Answer:
    """Which way does each field pull?"""
    trials = with_return(sweep)
    names = [name for name in sweep.study.space if is_measured(trials[name])]
    every = {name: correlated(trials, name, "last_return") for name in names}
    fields = {name: rho for name, rho in every.items() if np.isfinite(rho.value)}
    if not fields:
        return Answer("No numeric field has several values in trials that ended with a return.")
    figure, axes = new_axes(8, 1.2 + 0.4 * len(fields))
    label = "rank correlation with the trial's last return, and its 95 % interval"
    forest(fields, axes, label=label, middle=0.0)
    axes.set_xlim(-1, 1)
    name = max(fields, key=lambda name: abs(fields[name].value))
    clear = sum(rho.low > 0 or rho.high < 0 for rho in fields.values())
    return Answer(
        f"`{name}` pulls most, rank correlation {fields[name]:.2f} over {len(trials)} trials; "
        f"the interval excludes zero for {clear} of {len(fields)} numeric fields.",
        figure,
    )


def pruning(sweep: Sweep) -> Answer:
    """What was pruned, and when?"""
    trials = load_trials(sweep)
    done = trials[trials["state"].isin(list(charts.STATES))]
    if done.empty:
        return Answer("No trial has ended yet.")
    figure, axes = new_axes()
    charts.endings(done, axes, reports=sweep.study.reports)
    pruned = done["state"] == "PRUNED"
    if not pruned.any():
        return Answer(f"None of the {len(done)} trials was pruned.", figure)
    saved = mean_estimate((100 * (1 - done["share"]).where(pruned, 0.0)).tolist())
    return Answer(
        f"{pruned.sum()} of {len(done)} trials were pruned, which saved {saved:.0f} % of "
        "the environment steps.",
        figure,
    )


def foresight(sweep: Sweep) -> Answer:
    """Was it right?"""
    trials, points = load_trials(sweep), load_checkpoints(sweep)
    final = trials.loc[trials["state"] == "COMPLETE", "value"]
    points = points[points["trial"].isin(final.index)]
    if sweep.study.settings.pruner == "wilcoxon":  # its reports are single episodes
        so_far = points.groupby("trial")["return_mean"].expanding().mean()
        points = points.assign(return_mean=so_far.to_numpy())
    every = {
        int(checkpoint): rank_correlation(
            rows["return_mean"].tolist(), final[rows["trial"]].tolist()
        )
        for checkpoint, rows in points.groupby("checkpoint")
    }
    by_checkpoint = {k: rho for k, rho in every.items() if np.isfinite(rho.value)}
    if not by_checkpoint:
        return Answer(
            "A rank correlation needs two finished trials with different returns; there are "
            f"{len(final)} finished."
        )
    figure, axes = new_axes()
    reports = sweep.study.reports
    shares = [k / reports for k in by_checkpoint]
    charts.predictions(shares, list(by_checkpoint.values()), axes)
    pruned = trials.loc[trials["state"] == "PRUNED", "share"]
    k = min(by_checkpoint)
    if len(pruned):  # the checkpoint nearest to the first pruning
        k = min(by_checkpoint, key=lambda k: abs(k / reports - pruned.min()))
    moment = "where pruning began" if len(pruned) else "the first report"
    return Answer(
        f"At {k / reports:.0%} of the budget, {moment}, the order of the {len(final)} trials that "
        f"finished had a rank correlation of {by_checkpoint[k]:.2f} with the final order; what "
        "the pruned trials would have reached is unknown.",
        figure,
    )


def times(sweep: Sweep) -> Answer:
    """Where did the time go?"""
    trials = load_trials(sweep)
    trials = trials[trials["seconds"].notna()]
    if trials.empty:
        return Answer("No trial has ended yet.")
    parts = seconds_by_part(sweep, trials)
    figure, axes = new_axes(9, 4.2)
    charts.times(parts, axes)
    busy = f"workers were busy for {busy_share(sweep, trials):.0%} of their time"
    if "training" not in parts:
        return Answer(f"How a trial's time divides is not recorded; {busy}.", figure)
    total = parts.sum(axis="columns")
    training = mean_estimate((100 * parts["training"] / total).tolist())
    rest = parts.drop(columns="training").sum() / total.sum()
    return Answer(
        f"Training took {training:.0f} % of a trial's time; {rest.idxmax()}, the largest of the "
        f"rest, took {rest.max():.0%}; {busy}.",
        figure,
    )


def seconds_by_part(sweep: Sweep, trials: pd.DataFrame) -> pd.DataFrame:
    """A row per trial and a column per part of its time, training first; a single column if the
    parts are not recorded."""
    recorded = recorded_parts(sweep)
    rows = {number: recorded[run] for number, run in trials["run_id"].items() if run in recorded}
    if not rows:
        return trials[["seconds"]].rename(columns={"seconds": "whole trial"})
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(TimePart))
    training = trials["seconds"].loc[table.index] - table.sum(axis="columns")
    table.insert(0, "training", training.clip(lower=0))
    return table


def recorded_parts(sweep: Sweep) -> dict[str, list[float]]:
    """Seconds of each `TimePart` by MLflow run, of the runs that have all of them."""
    seconds: dict[str, list[float]] = {}
    for run in trial_runs(sweep):
        tags = [run.data.tags.get(f"{SECONDS}.{part}", "nan") for part in TimePart]
        if "nan" not in tags:
            seconds[run.info.run_id] = [float(tag) for tag in tags]
    return seconds


def busy_share(sweep: Sweep, trials: pd.DataFrame) -> float:
    """Share of the workers' time that they spent in trials; a worker's time runs from its first
    trial to the end of its last."""
    counted = sweep.read_trials().counted
    worker = {trial.number: trial.user_attrs.get(WORKER, "") for trial in counted}
    total = 0.0
    for _, rows in trials.groupby(trials.index.map(worker)):
        total += (rows["started"] + rows["seconds"]).max() - rows["started"].min()
    return float(trials["seconds"].sum() / total) if total else 1.0
