"""Dotted names, files and refusals: every bad input is one line that names its field."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import gymnasium as gym
import pydantic
import pytest

from lander.config import EnvConfig, PolicyConfig, PPOConfig, TrainConfig
from lander.dotted import configure, fields_of, flatten, from_toml, to_toml
from lander.env import time_limit_of
from lander.errors import ConfigError
from lander.resolve import resolve
from tests.lander import odd_envs

CONFIGS = [
    TrainConfig(),
    TrainConfig(env=EnvConfig(id="LunarLanderContinuous-v3", bins=7)),
    TrainConfig(
        env=EnvConfig(id="CartPole-v1", num_envs=8, reward_scale=1e-3),
        policy=PolicyConfig(hidden_sizes=(32,), activation="relu", trunk="shared", init="torch"),
        ppo=PPOConfig(
            learning_rate_schedule="constant",
            learning_rate=3.0000000000000004e-4,
            critic_learning_rate=1e-3,
            advantage_norm="none",
        ),
        seed=12,
    ),
    TrainConfig(
        env=EnvConfig(reward_scale="running", obs_norm=True, time_limit=300),
        policy=PolicyConfig(critic=False),
        ppo=PPOConfig(rollout_episodes=32, advantage="reward_to_go", kl_stop=0.02),
    ),
]


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        configure(values, base=TrainConfig())
    message = str(caught.value)
    assert "\n" not in message
    return message


def unresolved(env: EnvConfig, head: str = "auto") -> str:
    config = TrainConfig(env=env, policy=PolicyConfig(head=head))
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_flat_and_toml_unchanged(config: TrainConfig) -> None:
    assert configure(flatten(config), base=TrainConfig()) == config
    assert from_toml(to_toml(config), source="file") == config


def test_configure_replaces_only_what_is_named() -> None:
    config = configure(
        {"ppo.learning_rate": 0.01, "env.bins": 5, "policy.hidden_sizes": [8, 9]},
        base=TrainConfig(seed=4),
    )
    expected = TrainConfig(
        env=EnvConfig(bins=5),
        policy=PolicyConfig(hidden_sizes=(8, 9)),
        ppo=PPOConfig(learning_rate=0.01),
        seed=4,
    )
    assert config == expected


def test_toml_takes_tables_and_dotted_keys_alike() -> None:
    expected = TrainConfig(ppo=PPOConfig(gamma=0.9))
    assert from_toml("[ppo]\ngamma = 0.9", source="file") == expected
    assert from_toml("ppo.gamma = 0.9", source="file") == expected
    assert from_toml('"ppo.gamma" = 0.9', source="file") == expected


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("ppo.learning_rat", "ppo.learning_rate"),
        ("learning_rate", "ppo.learning_rate"),
        ("env.bin", "env.bins"),
        ("total_step", "total_steps"),
    ],
)
def test_an_unknown_field_names_the_nearest_one(wrong: str, nearest: str) -> None:
    assert refusal({wrong: 1}) == f'unknown field "{wrong}": did you mean {nearest}?'


def test_an_unknown_field_near_nothing_lists_them_all() -> None:
    message = refusal({"zzzz": 1})
    assert all(name in message for name in flatten(TrainConfig()))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("ppo.learning_rate", float("nan")),
        ("ppo.learning_rate", "nan"),
        ("ppo.learning_rate", float("inf")),
        ("ppo.learning_rate", -1e-3),
        ("ppo.learning_rate", 0),
        ("ppo.learning_rate", "fast"),
        ("ppo.gamma", 1.01),
        ("ppo.gae_lambda", -0.1),
        ("ppo.clip_range", 0.0),
        ("ppo.max_grad_norm", float("inf")),
        ("ppo.entropy_coef", -0.01),
        ("ppo.update_epochs", 0),
        ("ppo.update_epochs", 1.5),
        ("ppo.minibatch_size", 1),
        ("ppo.advantage_norm", "both"),
        ("ppo.learning_rate_schedule", "perhaps"),
        ("ppo.clip_range_schedule", "cosine"),
        ("ppo.critic_learning_rate", 0.0),
        ("ppo.rollout_episodes", 0),
        ("ppo.n_step", 0),
        ("ppo.kl_coef", -1.0),
        ("ppo.kl_target", 0.0),
        ("ppo.kl_stop", 0.0),
        ("ppo.value_clip", 0.0),
        ("env.bins", 1),
        ("env.bins", "many"),
        ("env.num_envs", 0),
        ("env.reward_scale", 0.0),
        ("env.reward_scale", float("nan")),
        ("env.reward_scale", "jogging"),
        ("env.obs_norm", "perhaps"),
        ("env.obs_clip", 0.0),
        ("env.step_cost", -0.1),
        ("env.time_limit", 0),
        ("policy.hidden_sizes", ()),
        ("policy.activation", "gelu"),
        ("policy.critic", "perhaps"),
        ("policy.explore", 1.0),
        ("policy.std", "large"),
        ("policy.init_std", -1.0),
        ("policy.final_std", 0.0),
        ("seed", -1),
        ("total_steps", 0),
    ],
)
def test_a_bad_value_is_refused_under_its_dotted_name(field: str, bad: object) -> None:
    message = refusal({field: bad})
    assert message.startswith(f"{field}: ")
    assert repr(bad) in message


def test_a_bad_layer_width_is_refused_under_its_field() -> None:
    assert refusal({"policy.hidden_sizes": (64, 0)}).startswith("policy.hidden_sizes")


def test_a_minibatch_that_does_not_divide_the_rollout_names_both_numbers() -> None:
    message = refusal({"ppo.minibatch_size": 100})
    assert message.startswith("ppo.minibatch_size")
    assert "100" in message
    assert "2048" in message


def test_a_budget_below_one_rollout_is_refused() -> None:
    message = refusal({"total_steps": 2047})
    assert message.startswith("total_steps")
    assert "2048" in message
    assert "2047" in message
    assert configure({"total_steps": 2048, "checkpoints": 1}, base=TrainConfig()).budget == 2048


def test_more_checkpoints_than_updates_are_refused() -> None:
    message = refusal({"total_steps": 4096, "checkpoints": 3})
    assert message.startswith("checkpoints")
    assert "3" in message
    assert "2" in message
    assert configure({"total_steps": 4096, "checkpoints": 2}, base=TrainConfig()).budget == 4096


@pytest.mark.parametrize("text", ["ppo = [", "ppo.gamma = ", "[ppo]\ngamma = 2.0", "gama = 1"])
def test_a_bad_file_is_refused_in_one_line_that_names_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\Asome\.toml: [^\n]+\Z"):
        from_toml(text, source="some.toml")


def test_bins_do_not_go_with_discrete_actions() -> None:
    message = unresolved(EnvConfig(id="LunarLander-v3", bins=7))
    assert message.startswith("env.bins")
    assert "LunarLander-v3" in message


def test_gaussian_does_not_go_with_discrete_actions() -> None:
    message = unresolved(EnvConfig(id="LunarLander-v3"), "gaussian")
    assert message.startswith("policy.head = gaussian")


def test_gaussian_does_not_go_with_bins() -> None:
    message = unresolved(EnvConfig(id="LunarLanderContinuous-v3", bins=7), "gaussian")
    assert message.startswith("env.bins acts only with policy.head = categorical")


@pytest.mark.parametrize("head", ["categorical", "ordinal", "joint"])
def test_levels_on_a_box_need_bins(head: str) -> None:
    message = unresolved(EnvConfig(id="LunarLanderContinuous-v3"), head)
    assert message.startswith(f"policy.head = {head} needs env.bins")


def test_a_joint_head_of_too_many_outputs_is_refused() -> None:
    message = unresolved(EnvConfig(id="BipedalWalker-v3", bins=9), "joint")
    assert message.startswith("policy.head = joint needs 9 ** 4 = 6561 outputs")
    assert resolve(
        TrainConfig(env=EnvConfig(id="BipedalWalker-v3", bins=8), policy=PolicyConfig(head="joint"))
    ).config


@pytest.mark.parametrize(
    "env_id",
    ["LunarLander-v99", "NoSuchEnv-v0", "no spaces allowed", "", "no_such_module:Env-v0"],
)
def test_an_environment_that_cannot_be_made_is_refused(env_id: str) -> None:
    message = unresolved(EnvConfig(id=env_id))
    assert message.startswith(f'env.id: cannot make "{env_id}"')


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_an_environment_without_vectors_is_refused(env_id: str) -> None:
    assert unresolved(EnvConfig(id=env_id)).startswith(f"env.id: {env_id} observes ")


@pytest.mark.parametrize(
    ("env", "head"),
    [
        (EnvConfig(id="LunarLander-v3"), "categorical"),
        (EnvConfig(id="LunarLanderContinuous-v3"), "gaussian"),
        (EnvConfig(id="LunarLanderContinuous-v3", bins=7), "categorical"),
    ],
)
def test_auto_becomes_the_head_that_fits(env: EnvConfig, head: str) -> None:
    resolved = resolve(TrainConfig(env=env)).config
    assert resolved.policy.head == head
    assert resolved == TrainConfig(env=env, policy=PolicyConfig(head=head))
    assert resolve(resolved).config == resolved


def test_the_installed_pydantic_shows_the_parts_without_a_public_name() -> None:
    changed = f"pydantic {pydantic.VERSION} has changed what lander/dotted.py reads: "
    for table in (TrainConfig, EnvConfig, PolicyConfig, PPOConfig):
        names = [field.name for field in fields(cast(Any, table))]
        assert list(fields_of(table)) == names, changed + "the fields of a dataclass"
        assert all(field.description for field in fields_of(table).values()), changed + "docstrings"
    for name, value in (("env.bins", 1.5), ("env.reward_scale", -1.0), ("policy.trunk", "both")):
        with pytest.raises(ConfigError) as caught:
            configure({name: value}, base=TrainConfig())
        assert str(caught.value).startswith(f"{name}: "), changed + "the location of an error"


def test_the_installed_gymnasium_shows_the_limit_of_a_wrapper() -> None:
    limit = time_limit_of(gym.wrappers.TimeLimit(odd_envs.Odd(), 7))
    assert limit == 7, f"gymnasium {gym.__version__} has renamed TimeLimit._max_episode_steps"


def test_budget_is_the_whole_rollouts_in_total_steps() -> None:
    assert TrainConfig(total_steps=5 * 2048 + 2047).budget == 5 * 2048
    assert TrainConfig(total_steps=5 * 2048).budget == 5 * 2048


def test_with_whole_episodes_budget_is_total_steps_and_any_minibatch_goes() -> None:
    ppo = PPOConfig(rollout_episodes=32, minibatch_size=100)
    config = TrainConfig(ppo=ppo, total_steps=1000, checkpoints=7)
    assert config.budget == 1000


def test_rollout_episodes_must_be_a_multiple_of_the_copies() -> None:
    assert refusal({"ppo.rollout_episodes": 17}) == (
        "ppo.rollout_episodes must be a multiple of env.num_envs: 17 is none of 16"
    )
    assert configure({"ppo.rollout_episodes": 16}, base=TrainConfig()).ppo.rollout_episodes == 16


def test_checkpoints_are_due_at_k_of_k_of_the_budget() -> None:
    def due(updates: int, checkpoints: int) -> list[int]:
        config = TrainConfig(total_steps=updates * 2048 + 100, checkpoints=checkpoints)
        counts = [config.checkpoint_at(update * 2048) for update in range(updates + 1)]
        return [counts.index(k) for k in range(1, checkpoints + 1)]

    assert due(10, 4) == [3, 5, 8, 10]
    assert due(10, 1) == [10]
    assert due(3, 3) == [1, 2, 3]
    assert due(7, 3) == [3, 5, 7]


def test_checkpoints_of_whole_episodes_count_steps_and_end_with_the_last() -> None:
    config = TrainConfig(ppo=PPOConfig(rollout_episodes=16), total_steps=1000, checkpoints=4)
    counts = [config.checkpoint_at(steps) for steps in (0, 249, 250, 749, 750, 999, 1000, 1700)]
    assert counts == [0, 0, 1, 2, 3, 3, 4, 4]
