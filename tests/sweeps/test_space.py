"""From an Optuna trial to a config and back."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import optuna
import pytest

from lander.config import TrainConfig
from lander.dotted import flatten
from lander.errors import ConfigError
from lander.resolve import resolve
from sweeps.run.objective import training_seeds, trial_configs
from sweeps.schema import RETRY_OF
from sweeps.study.space import defaults, suggest
from sweeps.study.study import read_study
from tests.studies import CONDITIONS, MINI, changed, study_text

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
    seeds = [training_seeds(study, number)[0] for study in range(3) for number in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert training_seeds(2, 499)[0] == seeds[-1]


def test_a_retry_trains_under_the_seed_of_the_trial_that_was_lost() -> None:
    params = defaults(STUDY.space, STUDY.base)
    lost = optuna.trial.FixedTrial(params, number=4)
    retry = optuna.trial.FixedTrial(params, number=9)
    retry.set_user_attr(RETRY_OF, 4)
    assert trial_configs(retry, STUDY) == trial_configs(lost, STUDY)


def test_reading_a_study_makes_its_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = gym.make

    def counted(name: str, **options: Any) -> gym.Env[Any, Any]:
        made.append(name)
        return make(name, **options)

    monkeypatch.setattr("lander.env._KNOWN", {})
    monkeypatch.setattr(gym, "make", counted)
    assert read_study(MINI, source="mini.toml") == STUDY
    assert made == ["LunarLanderContinuous-v3"]


def test_a_field_that_does_nothing_in_a_trial_is_not_asked_for() -> None:
    study = read_study(CONDITIONS, source="heads.toml")

    def asked(params: dict[str, Any]) -> TrainConfig:
        fixed = optuna.trial.FixedTrial(params | {"ppo.value_clip": 0.5})
        config = resolve(suggest(fixed, study.space, study.base)).config
        assert fixed.distributions.keys() == fixed.params.keys()  # nothing was left over
        return config

    assert asked({"policy.head": "joint", "env.bins": 3}).env.bins == 3
    plain = asked({"policy.head": "gaussian", "policy.std": "learned"})
    assert plain.env.bins is None
    decayed = {"policy.head": "gaussian", "policy.std": "decayed", "policy.final_std": 0.2}
    assert asked(decayed).policy.final_std == 0.2
    assert defaults(study.space, study.base) == {"policy.head": "ordinal", "env.bins": 7}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gaussian"]', '"gausian"]', 'unknown policy.head "gausian": did you mean gaussian?'),
        ('"ppo.value_clip"', '"ppo.kl_target"', "ppo.kl_target acts only with ppo.surrogate"),
        ('"ppo.value_clip" =', '"ppo.advantage" = { choices = ["gae", "immediate"] } #', "critic"),
        ("{ low = 0.1, high = 1.0 }", "{ low = 0.0, high = 1.0 }", "ppo.value_clip: input should"),
        ('"ppo.value_clip"', '"policy.hidden_sizes"', "is not a number: search it by choices"),
    ],
)
def test_a_space_in_which_some_trial_would_fail_is_refused(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(changed(CONDITIONS, {old: new}), source="heads.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["low", "high", "step"])
@pytest.mark.parametrize("digits", ["9" * 400, "0x" + "f" * 9000])
def test_a_whole_number_that_no_float_holds_is_refused_in_one_line(key: str, digits: str) -> None:
    ends = {"low": "1", "high": "10", "step": "1"} | {key: digits}
    line = ", ".join(f"{end} = {value}" for end, value in ends.items())
    text = study_text("x", space=f'"ppo.update_epochs" = {{ {line} }}')
    with pytest.raises(ConfigError, match=f"update_epochs: {key} must be a finite number, got "):
        read_study(text, source="x.toml")
