"""The answers of notebook 01, from tables of a sweep's records: what mattered, what was pruned,
where did the time go?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analysis.charts.sweep import STATES
from analysis.confirm.judgement import judgement_of
from analysis.confirm.words import verdict
from analysis.load import load_checkpoints, load_episodes, load_trials
from analysis.stats import (
    Estimate,
    Floats,
    bootstrap_estimate,
    lead,
    mean_estimate,
)
from lander.errors import ConfigError
from sweeps.charts.importance import BEST_SHARE, FEWEST
from sweeps.endings import root
from sweeps.hints import hint
from sweeps.intervals import rank_correlation
from sweeps.schema import CONFIRM_SUFFIX, SECONDS, WORKER, TimePart
from sweeps.scores import last_return
from sweeps.sweep import Sweep, trial_runs

ENDED = ("COMPLETE", "PRUNED")


def with_return(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of `load_trials` that ended with a return: finished, or pruned at a checkpoint."""
    return trials[trials["state"].isin(ENDED)].dropna(subset="last_return")


def progress(sweep: Sweep) -> str:
    """Did the search get anywhere?"""
    trials = sweep.read_trials()
    begun = [trial for trial in trials.counted if trial.params]
    if not begun:
        return "No trial has begun yet."
    best = trials.best
    if best is None:
        return f"None of {len(begun)} trials has finished, so there is no best one."
    first = next((trial for trial in begun if root(trial) == 0), None)
    score = f"The best of {len(begun)} trials, trial {best.number}, scored {best.values[0]:.1f}"
    return f"{score}, {against_defaults(sweep, best, first)}; {confirmed(sweep)}."


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
        return f"{gain.estimate:+.1f} against the defaults over {gain.over}"
    difference = best.values[0] - first.values[0]
    return (
        f"{difference:+.1f} against the defaults, without an interval as no episodes are recorded"
    )


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


def importance(table: pd.DataFrame, ended: pd.DataFrame) -> str:
    """Which parameter matters? By the table of `importances` of the ended trials."""
    if table.empty:
        return too_few(ended)
    name, row = table.index[0], table.iloc[0]
    weight = Estimate(row["share"], row["low"], row["high"])
    sure = "" if row["first"] >= 0.95 else ", so the order is not certain"
    return (
        f"`{name}` has the largest share, {weight:.2f}, and comes first in "
        f"{row['first']:.0%} of the resamples of {len(ended)} trials{sure}."
    )


def too_few(ended: pd.DataFrame) -> str:
    """Why there is no best quarter."""
    return f"A best quarter needs {FEWEST} trials that ended with a return; there are {len(ended)}."


def best_quarter(ended: pd.DataFrame) -> pd.DataFrame:
    """The trials with the highest returns, the best first."""
    order = ended.sort_values("last_return", ascending=False)
    return order.head(int(np.ceil(BEST_SHARE * len(order))))


def good_values(ended: pd.DataFrame, table: pd.DataFrame) -> str:
    """Where are good values? Of the first field in the table of `importances`."""
    if table.empty:
        return too_few(ended)
    name, best = str(table.index[0]), best_quarter(ended)
    good, rest = best[name].dropna(), ended.drop(best.index)[name].dropna()
    return (
        f"In the best quarter of {len(ended)} trials `{name}`, which matters most, "
        f"{apart(good, rest)}."
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


def correlations(trials: pd.DataFrame, fields: Collection[str]) -> dict[tuple[str, str], Estimate]:
    """Rank correlation of each pair of numeric fields that act together in four trials or more."""
    names = [name for name in fields if is_measured(trials[name])]
    every = {pair: correlated(trials, *pair) for pair in combinations(names, 2)}
    return {pair: rho for pair, rho in every.items() if np.isfinite(rho.low)}


def together(pairs: Mapping[tuple[str, str], Estimate], finished: pd.DataFrame) -> str:
    """How do values go together? By the correlations of the finished trials."""
    if len(finished) < 2:
        return f"A comparison needs two finished trials; there are {len(finished)}."
    if not pairs:
        return "No two numeric fields act together in four finished trials."
    one, other = max(pairs, key=lambda pair: abs(pairs[pair].value))
    return (
        f"Over {len(finished)} finished trials `{one}` and `{other}` go together most, rank "
        f"correlation {pairs[one, other]:.2f}, the largest of {len(pairs)} pairs (one pair in "
        "twenty excludes zero by chance)."
    )


def correlated(trials: pd.DataFrame, one: str, other: str) -> Estimate:
    """Rank correlation of two columns, over the rows where both have a value."""
    rows = trials[[one, other]].dropna()
    return rank_correlation(rows[one].tolist(), rows[other].tolist())


def directions(ended: pd.DataFrame, fields: Collection[str]) -> dict[str, Estimate]:
    """Rank correlation of each numeric field that has several values with the last return."""
    names = [name for name in fields if is_measured(ended[name])]
    every = {name: correlated(ended, name, "last_return") for name in names}
    return {name: rho for name, rho in every.items() if np.isfinite(rho.value)}


def strongest(pulls: Mapping[str, Estimate], ended: pd.DataFrame) -> str:
    """Which way does each field pull? By the correlations of the ended trials."""
    if not pulls:
        return "No numeric field has several values in trials that ended with a return."
    name = max(pulls, key=lambda name: abs(pulls[name].value))
    clear = sum(rho.low > 0 or rho.high < 0 for rho in pulls.values())
    return (
        f"`{name}` pulls most, rank correlation {pulls[name]:.2f} over {len(ended)} trials; "
        f"the interval excludes zero for {clear} of {len(pulls)} numeric fields."
    )


def pruning(trials: pd.DataFrame) -> str:
    """What was pruned, and when?"""
    done = trials[trials["state"].isin(list(STATES))]
    if done.empty:
        return "No trial has ended yet."
    pruned = done["state"] == "PRUNED"
    if not pruned.any():
        return f"None of the {len(done)} trials was pruned."
    saved = mean_estimate((100 * (1 - done["share"]).where(pruned, 0.0)).tolist())
    return (
        f"{pruned.sum()} of {len(done)} trials were pruned, which saved {saved:.0f} % of "
        "the environment steps."
    )


def agreement(sweep: Sweep) -> dict[float, Estimate]:
    """Rank correlation of the finished trials' returns at a checkpoint with their scores, by the
    share of the budget at that checkpoint."""
    trials, points = load_trials(sweep), load_checkpoints(sweep)
    final = trials.loc[trials["state"] == "COMPLETE", "value"]
    points = points[points["trial"].isin(final.index)]
    if sweep.study.settings.pruner == "wilcoxon":  # its reports are single episodes
        so_far = points.groupby("trial")["return_mean"].expanding().mean()
        points = points.assign(return_mean=so_far.to_numpy())
    every = {
        int(checkpoint) / sweep.study.reports: rank_correlation(
            rows["return_mean"].tolist(), final[rows["trial"]].tolist()
        )
        for checkpoint, rows in points.groupby("checkpoint")
    }
    return {share: rho for share, rho in every.items() if np.isfinite(rho.value)}


def foresight(orders: Mapping[float, Estimate], trials: pd.DataFrame) -> str:
    """Was it right? By the agreement of the order at each share of the budget."""
    finished = (trials["state"] == "COMPLETE").sum()
    if not orders:
        return (
            "A rank correlation needs two finished trials with different returns; there are "
            f"{finished} finished."
        )
    pruned = trials.loc[trials["state"] == "PRUNED", "share"]
    share, moment = min(orders), "the first report"
    if len(pruned):  # the checkpoint nearest to the first pruning
        share = min(orders, key=lambda share: abs(share - pruned.min()))
        moment = "where pruning began"
    return (
        f"At {share:.0%} of the budget, {moment}, the order of the {finished} trials that "
        f"finished had a rank correlation of {orders[share]:.2f} with the final order; what "
        "the pruned trials would have reached is unknown."
    )


def times(parts: pd.DataFrame, busy: float) -> str:
    """Where did the time go? By the seconds of each part, and the share of their time in which
    workers were busy."""
    if parts.empty:
        return "No trial has ended yet."
    workers = f"workers were busy for {busy:.0%} of their time"
    if "training" not in parts:
        return f"How a trial's time divides is not recorded; {workers}."
    total = parts.sum(axis="columns")
    training = mean_estimate((100 * parts["training"] / total).tolist())
    rest = parts.drop(columns="training").sum() / total.sum()
    return (
        f"Training took {training:.0f} % of a trial's time; {rest.idxmax()}, the largest of the "
        f"rest, took {rest.max():.0%}; {workers}."
    )


def seconds_by_part(sweep: Sweep) -> pd.DataFrame:
    """A row per ended trial and a column per part of its time, training first; a single column if
    the parts are not recorded."""
    trials = ended_at(load_trials(sweep))
    recorded = recorded_parts(sweep) if len(trials) else {}
    rows = {number: recorded[run] for number, run in trials["run_id"].items() if run in recorded}
    if not rows:
        return trials[["seconds"]].rename(columns={"seconds": "whole trial"})
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(TimePart))
    training = trials["seconds"].loc[table.index] - table.sum(axis="columns")
    table.insert(0, "training", training.clip(lower=0))
    return table.rename_axis("trial")


def ended_at(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that have ended, however."""
    return trials[trials["seconds"].notna()]


def recorded_parts(sweep: Sweep) -> dict[str, list[float]]:
    """Seconds of each `TimePart` by MLflow run, of the runs that have all of them."""
    seconds: dict[str, list[float]] = {}
    for run in trial_runs(sweep):
        tags = [run.data.tags.get(f"{SECONDS}.{part}", "nan") for part in TimePart]
        if "nan" not in tags:
            seconds[run.info.run_id] = [float(tag) for tag in tags]
    return seconds


def busy_share(sweep: Sweep) -> float:
    """Share of the workers' time that they spent in trials; a worker's time runs from its first
    trial to the end of its last."""
    trials = ended_at(load_trials(sweep))
    counted = sweep.read_trials().counted
    worker = {trial.number: trial.user_attrs.get(WORKER, "") for trial in counted}
    total = 0.0
    for _, rows in trials.groupby(trials.index.map(worker)):
        total += (rows["started"] + rows["seconds"]).max() - rows["started"].min()
    return float(trials["seconds"].sum() / total) if total else 1.0
