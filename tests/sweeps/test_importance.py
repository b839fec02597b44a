"""Importances of all resamples at once are those of Optuna's evaluator, one sample at a time."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.charts.importance import BEST_SHARE, importances, shares
from sweeps.study.ranges import Range
from sweeps.study.space import Space

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "ppo.clip_range": FloatDistribution(0.05, 0.4),
    "ppo.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "ppo.update_epochs": IntDistribution(2, 12),
    "ppo.minibatch_size": IntDistribution(64, 512, step=64),
    "ppo.rollout_steps": IntDistribution(1, 500, log=True),
    "env.bins": CategoricalDistribution([3, 5, 7]),
    "env.obs_norm": CategoricalDistribution([True]),
    "ppo.gamma": FloatDistribution(0.99, 0.99),
}
SPACE: Space = {name: Range(name, distribution) for name, distribution in DISTRIBUTIONS.items()}


def trial_of(value: float, **params: Any) -> FrozenTrial:
    distributions = {name: DISTRIBUTIONS[name] for name in params}
    return create_trial(params=params, distributions=distributions, value=value)


def trials(count: int, seed: int) -> list[FrozenTrial]:
    """Random trials, among them equal scores; the bins act in two of three."""
    rng = np.random.default_rng(seed)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    made = []
    for i in range(count):
        names = [name for name in DISTRIBUTIONS if name != "env.bins" or i % 3]
        params = study.ask({name: DISTRIBUTIONS[name] for name in names}).params
        score = 1e4 * params["ppo.learning_rate"] + float(rng.integers(20))
        made.append(trial_of(score, **params))
    return made


def by_optuna(some: list[FrozenTrial]) -> dict[str, float]:
    """The shares of the importance in one sample of trials."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(some)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        return get_param_importances(study, evaluator=evaluator)


@pytest.mark.parametrize("count", [4, 5, 40, 101])
def test_shares_are_those_of_optuna_in_every_resample(count: int) -> None:
    some = trials(count, seed=count)
    draws = np.random.default_rng(0).integers(count, size=(6, count))
    table = shares(some, SPACE, draws)
    assert list(table) == list(DISTRIBUTIONS)
    for (_, row), draw in zip(table.iterrows(), draws, strict=True):
        expected = by_optuna([some[i] for i in draw])
        assert row.to_dict() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def everything(some: list[FrozenTrial]) -> NDArray[np.int64]:
    """The one sample that has each trial once."""
    return np.arange(len(some))[None]


def test_equal_trials_give_equal_shares_to_the_fields_they_have() -> None:
    same = [trial_of(1.0, **{"ppo.clip_range": 0.1, "env.bins": 3}) for _ in range(4)]
    (row,) = shares(same, SPACE, everything(same)).to_dict("records")
    assert row == dict.fromkeys(DISTRIBUTIONS, 0.0) | {"ppo.clip_range": 0.5, "env.bins": 0.5}
    assert by_optuna(same) == {"ppo.clip_range": 0.5, "env.bins": 0.5}


def test_a_score_that_is_not_finite_is_left_out() -> None:
    some = trials(12, seed=1)
    odd = [trial_of(float("-inf"), **trial.params) for trial in some[:3]]
    assert importances([*odd, *some], SPACE).equals(importances(some, SPACE))


def test_pruned_trials_count_with_their_return_so_far() -> None:
    some = trials(12, seed=1)
    table = importances(some, SPACE)
    for trial in some[::2]:
        trial.state = TrialState.PRUNED
    assert importances(some, SPACE).equals(table)


def test_one_field_that_decides_the_score_is_first_in_every_resample() -> None:
    rates = np.geomspace(1e-4, 1e-2, 40)
    some = [
        trial_of(rate, **{"ppo.learning_rate": float(rate), "env.bins": (3, 5, 7)[i % 3]})
        for i, rate in enumerate(rates)
    ]
    table = importances(some, {name: SPACE[name] for name in ("env.bins", "ppo.learning_rate")})
    assert table.index.tolist() == ["ppo.learning_rate", "env.bins"]
    assert table["first"].tolist() == [1.0, 0.0]
    assert table["share"].sum() == pytest.approx(1.0, abs=1e-12)
    assert (table["low"] <= table["high"]).all()
