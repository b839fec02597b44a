"""What notebook 01 asks about the budget: what was pruned, was it right, where did time go?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.charts import sweep as sweep_plots
from analysis.load import load_checkpoints, load_trials
from analysis.notebooks.answer import Answer
from analysis.stats import mean_estimate, rank_correlation
from sweeps.charts.style import new_axes
from sweeps.schema import SECONDS, WORKER, TimePart
from sweeps.sweep import Sweep, trial_runs


def pruning(sweep: Sweep) -> Answer:
    """What was pruned, and when?"""
    trials = load_trials(sweep)
    over = trials[trials["state"].isin(list(sweep_plots.STATES))]
    if over.empty:
        return Answer("No trial has ended yet.")
    figure, axes = new_axes()
    sweep_plots.endings(over, axes, reports=sweep.study.reports)
    pruned = over["state"] == "PRUNED"
    if not pruned.any():
        return Answer(f"None of the {len(over)} trials was pruned.", figure)
    saved = mean_estimate((100 * (1 - over["share"]).where(pruned, 0.0)).tolist())
    return Answer(
        f"{pruned.sum()} of {len(over)} trials were pruned, which saved {saved.shown('.0f')} % of "
        "the environment steps.",
        figure,
    )


def foresight(sweep: Sweep) -> Answer:
    """Was it right?"""
    trials, points = load_trials(sweep), load_checkpoints(sweep)
    final = trials.loc[trials["state"] == "COMPLETE", "value"]
    points = points[points["trial"].isin(final.index)]
    if sweep.study.settings.pruner == "wilcoxon":  # it is told single episodes
        so_far = points.groupby("trial")["return_mean"].expanding().mean()
        points = points.assign(return_mean=so_far.to_numpy())
    found = {
        int(checkpoint): rank_correlation(
            there["return_mean"].tolist(), final[there["trial"]].tolist()
        )
        for checkpoint, there in points.groupby("checkpoint")
    }
    found = {k: rho for k, rho in found.items() if np.isfinite(rho.value)}
    if not found:
        return Answer(f"An order takes two finished trials that differ, of {len(final)}.")
    figure, axes = new_axes()
    reports = sweep.study.reports
    sweep_plots.predictions([k / reports for k in found], list(found.values()), axes)
    early = trials.loc[trials["state"] == "PRUNED", "share"]
    k = min(found)
    if len(early):  # the first report at which there was pruning
        k = min(found, key=lambda k: abs(k / reports - early.min()))
    where = "where pruning began" if len(early) else "the first report"
    return Answer(
        f"At {k / reports:.0%} of the budget, {where}, the order of the {len(final)} trials that "
        f"finished had a rank correlation of {found[k].shown('.2f')} with the final one; what the "
        "pruned ones would have reached nobody knows.",
        figure,
    )


def times(sweep: Sweep) -> Answer:
    """Where did the time go?"""
    trials = load_trials(sweep)
    trials = trials[trials["seconds"].notna()]
    if trials.empty:
        return Answer("No trial has ended yet.")
    parts = seconds(sweep, trials)
    figure, axes = new_axes(9, 4.2)
    sweep_plots.times(parts, axes)
    busy = f"workers were busy for {busy_share(sweep, trials):.0%} of their time"
    if "training" not in parts:
        return Answer(f"What the time of a trial went into is not recorded; {busy}.", figure)
    total = parts.sum(axis="columns")
    training = mean_estimate((100 * parts["training"] / total).tolist())
    rest = parts.drop(columns="training").sum() / total.sum()
    return Answer(
        f"Training took {training.shown('.0f')} % of a trial's time, {rest.idxmax()} as the "
        f"largest of the rest {rest.max():.0%}; {busy}.",
        figure,
    )


def seconds(sweep: Sweep, trials: pd.DataFrame) -> pd.DataFrame:
    """A row per trial and a column per part of its time, training first; one column only where the
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
    """Share of the time, from each worker's first trial to the end of its last, in trials."""
    counted = sweep.read_trials().counted
    worker = {trial.number: trial.user_attrs.get(WORKER, "") for trial in counted}
    there = 0.0
    for _, own in trials.groupby(trials.index.map(worker)):
        there += (own["started"] + own["seconds"]).max() - own["started"].min()
    return float(trials["seconds"].sum() / there) if there else 1.0
