"""The importance of each searched field with its interval: PED-ANOVA over resampled trials.

The only module that computes it, for the chart on MLflow's page, the report and notebook 01.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.scores import CONFIDENCE, last_return
from sweeps.study.space import Space

BEST_SHARE = 0.25
"""The share of the trials that count as good."""
FEWEST = 4
"""Fewer trials than this have no best quarter."""
MOST = 500
"""The most trials that are used; of a larger sweep, this many drawn at random."""
RESAMPLES = 200
OVER_ALL = 10_000
"""The most trials over all resamples: large sweeps need fewer resamples, and get fewer."""


def with_last_return(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that finished, or were pruned after a checkpoint."""
    return [
        trial
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and last_return(trial) is not None
    ]


def importances(
    trials: Sequence[FrozenTrial], space: Space, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """A row per searched field, the most important first: `share` of the importance, the ends `low`
    and `high` of its percentile bootstrap interval, and `first`, the share of resamples in which no
    field matters more.

    Importance (Watanabe et al. 2023, arXiv:2304.10255): how far the values in the best quarter of
    the ended trials, or of `MOST` among them, lie from those in all. Empty below `FEWEST` of them.
    """
    known = with_last_return(trials)
    if len(known) < FEWEST:
        return pd.DataFrame(columns=["share", "low", "high", "first"], dtype="float64")
    rng = np.random.default_rng(seed)
    if len(known) > MOST:
        known = [known[i] for i in sorted(rng.choice(len(known), MOST, replace=False))]
    known = [
        create_trial(params=trial.params, distributions=trial.distributions, value=returned)
        for trial in known
        if (returned := last_return(trial)) is not None
    ]
    count = max(20, min(resamples, OVER_ALL // len(known)))
    draws = rng.integers(len(known), size=(count, len(known)))
    drawn = pd.DataFrame([shares([known[i] for i in draw], space) for draw in draws])
    tail = (1 - CONFIDENCE) / 2
    table = pd.DataFrame(
        {
            "share": shares(known, space),
            "low": drawn.quantile(tail),
            "high": drawn.quantile(1 - tail),
            "first": drawn.idxmax(axis="columns").value_counts(normalize=True),
        }
    )
    return table.fillna(0.0).sort_values("share", ascending=False, kind="stable")


def shares(trials: Sequence[FrozenTrial], space: Space) -> pd.Series:
    """Each searched field's share of the importance; 0 if it does nothing in these trials."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of a resample in which all are equally good
        by_parameter = get_param_importances(study, evaluator=evaluator)
    values = {name: by_parameter.get(range_.parameter, 0.0) for name, range_ in space.items()}
    return pd.Series(values, dtype="float64")
