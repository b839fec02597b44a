"""A config for other frameworks: every field is carried over, or named as not.

The slow ones train in Stable-Baselines3, which is in the extra `bench`.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml

from lander.config import TrainConfig
from lander.dotted import configure, flatten, to_toml
from lander.export import cleanrl, rl_zoo, sb3
from lander.export.fields import Limit
from lander.export.wrappers import Bins, ScaledReward
from lander.heads import bin_levels
from lander.resolve import Resolved, resolve
from tests.bench import elsewhere

LANDER = "LunarLanderContinuous-v3"
BINNED = {
    "env.id": LANDER,
    "env.bins": 5,
    "env.num_envs": 2,
    "env.reward_scale": 1e-05,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 16,
    "ppo.update_epochs": 3,
    "ppo.learning_rate": 1e-3,
    "ppo.clip_range": 0.1,
    "ppo.kl_stop": 0.3,
    "ppo.value_coef": 1.0,
    "policy.hidden_sizes": (16, 8),
    "total_steps": 150,
    "checkpoints": 1,
    "final_episodes": 2,
}
"""150 steps are two rollouts of 64."""


def made(values: Mapping[str, Any]) -> Resolved:
    return resolve(configure(values, base=TrainConfig()))


# Where the value of a field stands in the text of each framework.
OF_SB3 = {
    "env.id": "gym.make",
    "env.num_envs": "n_envs",
    "env.reward_scale": "ScaledReward",
    "env.bins": "Bins",
    "env.obs_norm": "VecNormalize",
    "env.obs_clip": "VecNormalize",
    "env.step_cost": "ScaledReward",
    "env.time_limit": "gym.make",
    "env.kwargs": "gym.make",
    "policy.head": "Bins",
    "policy.hidden_sizes": "net_arch",
    "policy.activation": "activation_fn",
    "policy.init": "ortho_init",
    "policy.init_std": "log_std_init",
    "ppo.rollout_steps": "n_steps",
    "ppo.minibatch_size": "batch_size",
    "ppo.update_epochs": "n_epochs",
    "ppo.learning_rate": "learning_rate",
    "ppo.learning_rate_schedule": "learning_rate",
    "ppo.gamma": "gamma",
    "ppo.gae_lambda": "gae_lambda",
    "ppo.advantage_norm": "normalize_advantage",
    "ppo.clip_range": "clip_range",
    "ppo.clip_range_schedule": "clip_range",
    "ppo.kl_stop": "target_kl",
    "ppo.value_coef": "vf_coef",
    "ppo.value_clip": "clip_range_vf",
    "ppo.entropy_coef": "ent_coef",
    "ppo.max_grad_norm": "max_grad_norm",
    "total_steps": "learn",
    "final_episodes": "fly",
    "seed": "seed",
}
OF_CLEANRL = {
    "env.id": "env-id",
    "env.num_envs": "num-envs",
    "ppo.rollout_steps": "num-steps",
    "ppo.minibatch_size": "num-minibatches",
    "ppo.update_epochs": "update-epochs",
    "ppo.learning_rate": "learning-rate",
    "ppo.learning_rate_schedule": "anneal-lr",
    "ppo.gamma": "gamma",
    "ppo.gae_lambda": "gae-lambda",
    "ppo.advantage_norm": "norm-adv",
    "ppo.clip_range": "clip-coef",
    "ppo.value_clip": "clip-vloss",
    "ppo.kl_stop": "target-kl",
    "ppo.value_coef": "vf-coef",
    "ppo.entropy_coef": "ent-coef",
    "ppo.max_grad_norm": "max-grad-norm",
    "total_steps": "total-timesteps",
    "seed": "seed",
}


@pytest.mark.parametrize(
    ("carried", "limits"),
    [
        (OF_SB3, sb3.LIMITS),
        (OF_SB3, rl_zoo.LIMITS),
        (OF_CLEANRL, cleanrl.LIMITS),
    ],
)
def test_no_field_is_dropped_without_a_word(
    carried: Mapping[str, str], limits: Mapping[str, Limit]
) -> None:
    fields = {*flatten(TrainConfig()), "env.kwargs"}
    assert fields - carried.keys() - limits.keys() == set()
    assert limits.keys() <= fields


ODD: Mapping[str, dict[str, object]] = {
    "final_policy": {"final_policy": "best"},
    "env.obs_norm": {"env.obs_norm": True},
    "env.reward_scale": {"env.reward_scale": "running"},
    "policy.head": {"policy.head": "ordinal"},
    "policy.trunk": {"policy.trunk": "shared"},
    "policy.explore": {"policy.explore": 0.1},
    "ppo.critic_learning_rate": {"ppo.critic_learning_rate": 0.01},
    "ppo.advantage": {"ppo.advantage": "n_step"},
    "ppo.advantage_norm": {"ppo.advantage_norm": "batch"},
    "ppo.surrogate": {"ppo.surrogate": "kl_adaptive", "ppo.clip_range": 0.2},
    "ppo.value_clip": {"ppo.value_clip": 0.2},
    "ppo.rollout_episodes": {"ppo.rollout_episodes": 4, "ppo.rollout_steps": 128},
}


@pytest.mark.parametrize("field", ODD)
def test_what_sb3_has_nothing_like_is_a_comment(field: str) -> None:
    line = f"# Not carried over: {field} = "
    assert line not in sb3.script(made(BINNED), title="x")
    assert line in sb3.script(made(BINNED | ODD[field]), title="x")


def test_a_field_that_does_nothing_is_not_mentioned() -> None:
    text = sb3.script(made(BINNED), title="x")
    assert text.startswith(
        "# x\n# Not carried over: checkpoints = 1, eval_episodes = 6, sampled_episodes = 4, "
        "final_seeds = tuning:\n#   the script evaluates once, at the end\n\n"
    )


# --- wrappers ---


def test_bins_send_the_levels_of_the_categorical_head() -> None:
    resolved = made(BINNED)
    env = gym.make(LANDER)
    box: Any = env.action_space
    levels = bin_levels(box, resolved.config).numpy()
    many, one = Bins(env, bins=5), Bins(env, bins=5, joint=True)
    assert many.action_space == gym.spaces.MultiDiscrete([5, 5])
    assert one.action_space == gym.spaces.Discrete(25)
    for first in range(5):
        for second in range(5):
            sent = np.array([levels[0, first], levels[1, second]])
            assert many.action(np.array([first, second])).tolist() == sent.tolist()
            assert one.action(5 * first + second).tolist() == sent.tolist()
            assert many.action(np.array([first, second])).dtype == np.float32
    env.close()


def test_a_scaled_reward_is_the_reward_minus_its_cost_times_the_scale() -> None:
    env = ScaledReward(gym.make("CartPole-v1"), scale=0.5, cost=0.25)
    env.reset(seed=0)
    assert env.step(0)[1] == (1.0 - 0.25) * 0.5
    env.close()


# --- Stable-Baselines3 ---


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a script defines."""
    path = tmp_path_factory.mktemp("sb3") / "train.py"
    path.write_text(sb3.script(made(BINNED), title="Trial 3."))
    return runpy.run_path(str(path))


@pytest.mark.slow
def test_a_script_trains_with_the_numbers_of_the_config(script: dict[str, Any]) -> None:
    model = script["train"](7)
    assert model.num_timesteps == 128  # whole rollouts, as lander
    assert (model.n_envs, model.n_steps, model.batch_size, model.n_epochs) == (2, 32, 16, 3)
    assert (model.gamma, model.gae_lambda) == (0.999, 0.98)
    assert model.vf_coef == 0.5  # ours is half a mean square, theirs a whole one
    assert model.target_kl == pytest.approx(0.2)  # which acts beyond 1.5 times that
    assert (model.ent_coef, model.max_grad_norm) == (0.001, 0.5)
    assert model.clip_range(1.0) == 0.1
    # the first of two updates, and the last: theirs counts the rollout that was just collected
    assert model.lr_schedule(1 - 64 / 128) == pytest.approx(1e-3)
    assert model.lr_schedule(0.0) == pytest.approx(1e-3 / 2)
    assert model.action_space == gym.spaces.MultiDiscrete([5, 5])
    shapes = [tuple(part.shape) for part in model.policy.mlp_extractor.policy_net.parameters()]
    assert shapes == [(16, 8), (16,), (8, 16), (8,)]
    assert isinstance(model.policy.mlp_extractor.policy_net[1], torch.nn.ReLU)
    assert model.policy.optimizer.defaults["eps"] == 1e-5
    returns = script["fly"](model, episodes=2, first=10_000)
    assert len(returns) == 2
    assert max(map(abs, returns)) > 1  # raw, not 1e-5 of it


@pytest.mark.slow
def test_initial_weights_have_the_gains_of_lander() -> None:
    policy = (
        import_module("stable_baselines3")
        .PPO(
            "MlpPolicy",
            gym.make("LunarLander-v3"),
            policy_kwargs=eval(sb3.network(made({}).config), {"nn": torch.nn}),
            device="cpu",
            seed=1,
        )
        .policy
    )
    norms = [
        policy.mlp_extractor.policy_net[0].weight,
        policy.action_net.weight,
        policy.value_net.weight,
    ]
    gains = [float(torch.linalg.matrix_norm(weight.detach(), 2)) for weight in norms]
    assert gains == pytest.approx([2**0.5, 0.01, 1.0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"policy.head": "gaussian", "env.bins": None, "policy.init_std": 0.5}, "log_std_init="),
        ({"env.obs_norm": True}, "VecNormalize(envs, norm_obs=True, norm_reward=False"),
        ({"env.reward_scale": "running"}, "norm_reward=True, clip_obs=10.0, clip_reward=10.0"),
        ({"policy.head": "joint"}, "Bins(env, bins=5, joint=True)"),
        ({"ppo.clip_range_schedule": "linear"}, "clip_range=linear(0.1)"),
        ({"ppo.learning_rate_schedule": "constant"}, "learning_rate=0.001,"),
        ({"env.time_limit": 50, "env.kwargs.gravity": -5.0}, "max_episode_steps=50"),
    ],
)
def test_every_kind_of_script_trains(values: dict[str, object], line: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    text = sb3.script(made(BINNED | values), title="x")
    assert line in text
    path.write_text(text)
    script = runpy.run_path(str(path))
    assert script["train"](1, steps=64).num_timesteps == 64


# --- rl-baselines3-zoo ---


def read_as_the_zoo(text: str) -> tuple[str, dict[str, Any]]:
    """The entry as rl_zoo3.exp_manager prepares it: schedules, wrappers, evaluated texts."""
    ((env_id, values),) = yaml.safe_load(text).items()
    for name in ("learning_rate", "clip_range"):
        if isinstance(values[name], str):
            word, start = values[name].split("_")
            assert word == "lin"
            values[name] = lambda remaining, start=float(start): remaining * start
    values["policy_kwargs"] = eval(values["policy_kwargs"], {"nn": torch.nn})
    return env_id, values


def test_an_entry_of_the_zoo_holds_plain_numbers() -> None:
    text = rl_zoo.entry(made(BINNED), title="Trial 3.")
    ((env_id, values),) = yaml.safe_load(text).items()
    assert env_id == LANDER
    assert values["env_wrapper"] == [
        {"lander.export.wrappers.Bins": {"bins": 5}},
        {"lander.export.wrappers.ScaledReward": {"scale": 1e-05, "cost": 0.0}},
    ]
    assert values["learning_rate"] == "lin_0.001"
    assert (values["n_timesteps"], values["n_envs"], values["policy"]) == (128, 2, "MlpPolicy")
    assert "# Not carried over: ppo.learning_rate_schedule = linear: lin_ falls" in text
    small = rl_zoo.entry(
        made(BINNED | {"ppo.learning_rate": 1e-05, "ppo.learning_rate_schedule": "constant"}),
        title="x",
    )
    assert yaml.safe_load(small)[LANDER]["learning_rate"] == 1e-05


@pytest.mark.slow
def test_an_entry_of_the_zoo_trains() -> None:
    env_id, values = read_as_the_zoo(rl_zoo.entry(made(BINNED), title="x"))

    def wrapped(env: Any) -> Any:
        for wrapper in values["env_wrapper"]:
            ((name, arguments),) = wrapper.items()
            module, _, kind = name.rpartition(".")
            env = getattr(import_module(module), kind)(env, **arguments)
        return env

    make_vec_env = import_module("stable_baselines3.common.env_util").make_vec_env
    envs = make_vec_env(env_id, n_envs=values["n_envs"], seed=1, wrapper_class=wrapped)
    given = {
        name: value
        for name, value in values.items()
        if name not in ("n_envs", "n_timesteps", "env_wrapper", "normalize")
    }
    model = import_module("stable_baselines3").PPO(env=envs, seed=1, device="cpu", **given)
    assert model.learn(values["n_timesteps"]).num_timesteps == 128
    assert (model.batch_size, model.n_epochs, model.vf_coef) == (16, 3, 0.5)


# --- CleanRL ---

SHARED: Mapping[str, type] = {
    "env-id": str,
    "seed": int,
    "total-timesteps": int,
    "learning-rate": float,
    "num-envs": int,
    "num-steps": int,
    "anneal-lr": bool,
    "gamma": float,
    "gae-lambda": float,
    "num-minibatches": int,
    "update-epochs": int,
    "norm-adv": bool,
    "clip-coef": float,
    "clip-vloss": bool,
    "ent-coef": float,
    "vf-coef": float,
    "max-grad-norm": float,
    "target-kl": float,
}
"""The arguments that ppo.py and ppo_continuous_action.py of CleanRL share, and their types."""


def options_of(text: str) -> dict[str, str]:
    """The options of the command in a text, and what follows each."""
    words = " ".join(line.rstrip("\\") for line in text.splitlines() if line[:1] != "#")
    return dict(re.findall(r"--([\w-]+)(?: (?!--)(\S+))?", words))


def test_the_command_of_cleanrl_has_only_arguments_that_it_takes() -> None:
    text = cleanrl.command(made(BINNED), title="x")
    assert "python cleanrl/ppo.py " in text
    options = options_of(text)
    for name, value in options.items():
        kind = SHARED[name.removeprefix("no-")]
        assert (value == "") == (kind is bool), name
        kind(value)
    assert options["num-minibatches"] == "4"  # 64 / 16
    assert options["total-timesteps"] == "128"
    assert {"anneal-lr", "norm-adv", "no-clip-vloss"} <= options.keys()
    assert (options["vf-coef"], options["target-kl"]) == ("1.0", "0.3")
    assert OF_CLEANRL.keys() == OF_CLEANRL.keys() - cleanrl.LIMITS.keys() | {
        "ppo.advantage_norm",
        "ppo.value_clip",
        "ppo.kl_stop",
    }
    assert set(OF_CLEANRL.values()) == SHARED.keys()


def test_a_gaussian_head_is_trained_by_the_script_for_continuous_actions() -> None:
    text = cleanrl.command(made({"env.id": LANDER, "policy.init_std": 0.5}), title="x")
    assert "python cleanrl/ppo_continuous_action.py " in text
    assert "policy.init_std = 0.5: 1, in the environment's own units" in text
    assert "policy.activation = relu: tanh" in text


@pytest.mark.slow
def test_a_gain_is_measured_by_the_scripts_and_continues(tmp_path: Path) -> None:
    paths = [tmp_path / "base.toml", tmp_path / "best.toml"]
    for path, rate in zip(paths, (1e-3, 2e-3), strict=True):
        path.write_text(to_toml(made(BINNED | {"ppo.learning_rate": rate}).config))
    results = tmp_path / "results.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elsewhere, "EPISODES", 1)
        elsewhere.main([str(results), "1", *map(str, paths)])
        elsewhere.main([str(results), "1", *map(str, paths)])  # has all of it
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["config"], row["seed"], row["fields"]) for row in rows] == [
        ("base", 1, {}),
        ("best", 1, {"ppo.learning_rate": 2e-3}),
    ]
    assert [len(row["returns"]) for row in rows] == [1, 1]
