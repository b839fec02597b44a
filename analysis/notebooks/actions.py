"""The answers of notebook 03: what the ways to act can do, which is worth how much."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from analysis.experiments.results import Results
from analysis.flight import fly
from analysis.load import load_trials
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
from lander.resolve import dead_zones, resolve
from sweeps.publish.policies import TrainedPolicy
from sweeps.sweep import Sweep

CURVE = np.linspace(-1, 1, 81)
FLIGHTS = 20


def bins_searched(sweep: Sweep) -> list[int]:
    """Every number of bins that the sweep chooses from, or that its trials had."""
    range_ = sweep.study.space.get("env.bins")
    base = sweep.study.base.env.bins
    if range_ is None:
        return [] if base is None else [base]
    if isinstance(range_.distribution, CategoricalDistribution):
        return sorted(choice for choice in range_.distribution.choices if isinstance(choice, int))
    return sorted(load_trials(sweep)["env.bins"].dropna().astype(int).unique().tolist())


def thrust_table(sweep: Sweep) -> pd.DataFrame:
    """A row per engine and level: the share of full thrust that was measured. Without rows if the
    environment has no engines."""
    base = sweep.study.base
    rows = [
        (ENGINES[engine], level, share)
        for engine in ((MAIN, SIDE) if has_engines(base) else ())
        for level, share in zip(CURVE, thrust(base.env, engine, CURVE.tolist()), strict=True)
    ]
    return pd.DataFrame(rows, columns=["engine", "level", "thrust"])


def levels_table(sweep: Sweep) -> pd.DataFrame:
    """A row per number of bins, engine and bin: the bin's level, and whether that leaves the engine
    off. Without rows if the sweep cuts no engines into bins."""
    base = sweep.study.base
    rows = [
        (bins, ENGINES[engine], float(level), bool(off))
        for bins in (bins_searched(sweep) if has_engines(base) else [])
        for engine, levels in enumerate(
            levels_of(resolve(configure({"env.bins": bins}, base=base)).config)
        )
        for level, off in zip(levels, idle(levels, engine), strict=True)
    ]
    return pd.DataFrame(rows, columns=["bins", "engine", "level", "off"])


def thrusts(levels: pd.DataFrame, sweep: Sweep) -> str:
    """Which thrust does each bin give?"""
    base = sweep.study.base
    if levels.empty:
        return f"Study {sweep.study.name} cuts no engines into bins."
    off = levels.groupby(["bins", "engine"])["off"].sum()
    counts = levels["bins"].unique().tolist()
    parts = [
        f"{bins} bins leave the main engine off in {off[bins, ENGINES[MAIN]]} of them and the side "
        f"engines in {off[bins, ENGINES[SIDE]]}"
        for bins in counts
    ]
    warned = {
        trouble
        for bins in counts
        for trouble in dead_zones(configure({"env.bins": bins}, base=base))
    }
    sentence = "; ".join(parts) + "."
    return sentence + "".join(f" **{trouble}.**" for trouble in sorted(warned))


def estimates(results: Results) -> dict[str, Estimate]:
    """Mean return of each point, its interval over training seeds."""
    return {
        point: mean_estimate([outcome.return_mean for outcome in outcomes])
        for point, outcomes in results.items()
    }


def two_best(by_point: dict[str, Estimate]) -> str:
    """And when each is tuned?"""
    second, best = sorted(by_point, key=lambda name: by_point[name].value)[-2:]
    return f"{best}: {by_point[best]}; next {second}: {by_point[second]}."


def bins_flown(trained: TrainedPolicy) -> list[NDArray[np.int64]]:
    """(bins, bins) for each of some flights of a policy: how often each pair of levels was flown.
    Empty if the policy does not act in bins of two engines."""
    if not has_engines(trained.config) or trained.config.policy.head == "gaussian":
        return []
    levels = levels_of(trained.config)
    return [usage(flight.actions.astype(np.float64), levels) for flight in fly(trained, FLIGHTS)]


def usage_table(trained: TrainedPolicy, flown: list[NDArray[np.int64]]) -> pd.DataFrame:
    """The share of all steps at each pair of levels: a row per level of the main engine, a column
    per level of the side engines."""
    if not flown:
        return pd.DataFrame()
    counts = np.sum(flown, axis=0)
    main, side = (pd.Index(levels.round(3)) for levels in levels_of(trained.config))
    return pd.DataFrame(
        counts / counts.sum(), index=main.rename(ENGINES[MAIN]), columns=side.rename(ENGINES[SIDE])
    )


def used_bins(trained: TrainedPolicy, flown: list[NDArray[np.int64]]) -> str:
    """Which bins does the best policy use?"""
    if not flown:
        return f"Trial {trained.trial} does not act in bins of two engines."
    levels, counts = levels_of(trained.config), np.sum(flown, axis=0)
    off = [
        mean_estimate(
            [
                float(own.sum(axis=1 - engine)[idle(levels[engine], engine)].sum() / own.sum())
                for own in flown
            ]
        )
        for engine in (MAIN, SIDE)
    ]
    used = int((counts > 0).sum())
    return (
        f"In {FLIGHTS} flights of trial {trained.trial} on unseen seeds, {counts.sum():,} steps, "
        f"the {ENGINES[MAIN]} is off in {off[MAIN]:.0%} of a flight's steps, the {ENGINES[SIDE]} "
        f"in {off[SIDE]:.0%}; {used} of {counts.size} pairs of levels are ever used."
    )


def choices(trials: pd.DataFrame, field: str) -> dict[str, list[float]]:
    """The last return of each trial, by its value of a field; empty if that was not searched."""
    if field not in trials.columns:
        return {}
    known = trials.dropna(subset=[field, "last_return"])
    return {
        str(choice): rows["last_return"].astype(float).tolist()
        for choice, rows in known.groupby(field)
    }


def best_choice(groups: dict[str, list[float]], field: str) -> str:
    """In this sweep: which choice did well?"""
    if not groups:
        return f"`{field}` was not searched, or no trial has a return yet."
    best = max(groups, key=lambda name: float(np.mean(groups[name])))
    return (
        f"`{field} = {best}`: {mean_estimate(groups[best])} over {len(groups[best])} trials, the "
        "highest mean. The sampler tried more where it saw success, so these are not fair samples."
    )
