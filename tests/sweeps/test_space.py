"""From an Optuna trial to a config and back."""

from __future__ import annotations

import optuna

from lander.fields import flatten
from sweeps.objective import training_seed, trial_config
from sweeps.recording import RETRY_OF
from sweeps.space import defaults, suggest
from sweeps.study import read_study
from tests.sweeps.conftest import MINI

STUDY = read_study(MINI, source="mini.toml")


def test_every_suggested_value_reaches_its_field_and_nothing_else_changes() -> None:
    params = {
        "ppo.learning_rate": 0.005,
        "ppo.update_epochs": 3,
        "ppo.clip_range": 0.3,
        "1 - ppo.gae_lambda": 0.0625,
        "env.reward_scale": 0.5,
        "env.bins": 5,
        "policy.trunk": "shared",
    }
    config = suggest(optuna.trial.FixedTrial(params), STUDY.space, STUDY.base)
    expected = flatten(STUDY.base) | params | {"ppo.gae_lambda": 0.9375}
    del expected["1 - ppo.gae_lambda"]
    assert flatten(config) == expected


def test_trial_0_is_the_base_itself() -> None:
    fixed = optuna.trial.FixedTrial(defaults(STUDY.space, STUDY.base))
    assert suggest(fixed, STUDY.space, STUDY.base) == STUDY.base


def test_training_seeds_differ_by_trial_and_by_study_and_come_back() -> None:
    seeds = [training_seed(study, number) for study in range(3) for number in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert training_seed(2, 499) == seeds[-1]


def test_a_retry_trains_under_the_seed_of_the_trial_that_was_lost() -> None:
    params = defaults(STUDY.space, STUDY.base)
    lost = optuna.trial.FixedTrial(params, number=4)
    retry = optuna.trial.FixedTrial(params, number=9)
    retry.set_user_attr(RETRY_OF, 4)
    assert trial_config(retry, STUDY) == trial_config(lost, STUDY)
