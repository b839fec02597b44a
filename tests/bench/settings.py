"""The settings that are compared, and their translation for Stable-Baselines3."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn

from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.policy import ACTIVATIONS
from sweeps.study.study import find_study

# ours is coef * mean((V - R)^2) / 2, theirs without the half: ours 1.0 is their 0.5
PLAIN: Final[dict[str, Any]] = {
    "env.id": "LunarLander-v3",
    "policy.hidden_sizes": (64, 64),
    "policy.activation": "tanh",
    "ppo.learning_rate_schedule": "constant",
    "ppo.clip_range": 0.2,
    "ppo.clip_range_schedule": "constant",
    "ppo.value_coef": 1.0,
}

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    # rl-baselines3-zoo, hyperparams/ppo.yml, LunarLander-v3; the rest are SB3's defaults
    "rl-zoo": PLAIN
    | {
        "env.num_envs": 16,
        "env.reward_scale": 1.0,
        "policy.trunk": "separate",
        "policy.init": "orthogonal",
        "ppo.rollout_steps": 1024,
        "ppo.minibatch_size": 64,
        "ppo.update_epochs": 4,
        "ppo.learning_rate": 3e-4,
        "ppo.gamma": 0.999,
        "ppo.gae_lambda": 0.98,
        "ppo.advantage_norm": "minibatch",
        "ppo.entropy_coef": 0.01,
        "ppo.max_grad_norm": 0.5,
    },
    # github.com/ljmzt/reinforcement_learning_2 as its full-run.ipynb starts it (lr 1e-3, 64 hidden
    # units, reward scale 0.01): agent.py, PPOAgent(batch_size=1024, K=10, eps=0.2), no entropy
    # bonus, no gradient clipping, no advantage normalisation; runner.py, Runner(gamma=.99,
    # lam=.95), one environment; policy.py, tanh, share=True, PyTorch's initial weights.
    # Its rollouts are ten whole episodes, 2,600 to 5,000 steps (1.3 to 2.5 million in 500 epochs);
    # Stable-Baselines3 collects a fixed number of steps, so here both take 4,096.
    "seed": PLAIN
    | {
        "env.num_envs": 1,
        "env.reward_scale": 0.01,
        "policy.trunk": "shared",
        "policy.init": "torch",
        "ppo.rollout_steps": 4096,
        "ppo.minibatch_size": 1024,
        "ppo.update_epochs": 10,
        "ppo.learning_rate": 1e-3,
        "ppo.gamma": 0.99,
        "ppo.gae_lambda": 0.95,
        "ppo.advantage_norm": "none",
        "ppo.entropy_coef": 0.0,
        "ppo.max_grad_norm": 1e9,  # never reached
    },
    "ours": {},
    # every version has its own defaults; of the study this version's base is taken for all
    "study": tomllib.loads(find_study("lander").text)["base"],
}

UNMATCHED: Final[dict[str, Any]] = {
    "env.bins": None,
    "env.obs_norm": False,
    "policy.critic": True,
    "policy.explore": 0.0,
    "ppo.rollout_episodes": None,
    "ppo.critic_learning_rate": None,
    "ppo.advantage": "gae",
    "ppo.surrogate": "clip",
}
"""Fields that Stable-Baselines3 does not have, with the value that switches each off."""


def values(name: str, *, quick: bool = False) -> dict[str, Any]:
    """The fields of a setting by which it differs from the defaults; short rollouts if quick."""
    fields = SETTINGS[name]
    if not quick:
        return fields
    config, steps = configure(fields, base=TrainConfig()), 32
    size = min(config.ppo.minibatch_size, config.env.num_envs * steps)
    return fields | {"ppo.rollout_steps": steps, "ppo.minibatch_size": size}


def setting(name: str, *, quick: bool = False) -> TrainConfig:
    """The config of a setting."""
    return configure(values(name, quick=quick), base=TrainConfig())


def rollout_size(config: TrainConfig) -> int:
    """Environment steps per update."""
    return config.env.num_envs * config.ppo.rollout_steps


def describe(config: TrainConfig) -> str:
    """What decides the speed of a setting, in words."""
    policy, ppo = config.policy, config.ppo
    layers = "-".join(map(str, policy.hidden_sizes))
    return (
        f"{config.env.num_envs} x {ppo.rollout_steps} steps, minibatches of {ppo.minibatch_size}, "
        f"{ppo.update_epochs} epochs, {policy.trunk} {layers} {policy.activation}"
    )


def unmatched(config: TrainConfig) -> dict[str, Any]:
    """The fields of a config that Stable-Baselines3 has nothing like."""
    flat = flatten(config)
    return {field: flat[field] for field, off in UNMATCHED.items() if flat[field] != off}


def stable_baselines(config: TrainConfig, *, seed: int) -> Any:
    """Stable-Baselines3's PPO on stock Gymnasium with the same numbers.

    Its rewards stay unscaled, which costs it nothing.

    Raises:
        ConfigError: it has no such option.
    """
    env, ppo = config.env, config.ppo
    for field, value in unmatched(config).items():
        raise ConfigError(f"{field} = {value}: Stable-Baselines3 has nothing like it")
    sb3 = import_module("stable_baselines3")
    make_vec_env = import_module("stable_baselines3.common.env_util").make_vec_env
    # as ours: without the checker that gym.make adds for authors of environments
    made = {"disable_env_checker": True, "max_episode_steps": env.time_limit}
    return sb3.PPO(
        "MlpPolicy",
        make_vec_env(env.id, n_envs=env.num_envs, env_kwargs=made),  # a DummyVecEnv
        learning_rate=scheduled(ppo.learning_rate, ppo.learning_rate_schedule),
        n_steps=ppo.rollout_steps,
        batch_size=ppo.minibatch_size,
        n_epochs=ppo.update_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=scheduled(ppo.clip_range, ppo.clip_range_schedule),
        clip_range_vf=ppo.value_clip,
        normalize_advantage=ppo.advantage_norm != "none",
        ent_coef=ppo.entropy_coef,
        vf_coef=ppo.value_coef / 2,
        max_grad_norm=ppo.max_grad_norm,
        target_kl=None if ppo.kl_stop is None else ppo.kl_stop / 1.5,
        policy_kwargs=network(config),
        seed=seed,
        device="cpu",
    )


def scheduled(value: float, schedule: str) -> float | Callable[[float], float]:
    """A number, or a function of the share of the budget that is left."""
    return value if schedule == "constant" else lambda remaining: value * remaining


def network(config: TrainConfig) -> dict[str, Any]:
    """The `policy_kwargs` of the same networks."""
    policy = config.policy
    sizes, activation = list(policy.hidden_sizes), ACTIVATIONS[policy.activation]
    given = {"activation_fn": activation, "ortho_init": policy.init == "orthogonal"}
    if policy.trunk == "separate":
        return given | {"net_arch": {"pi": sizes, "vf": sizes}}
    shared = {"sizes": sizes, "activation": activation}
    return given | {
        "net_arch": [],
        "features_extractor_class": SharedTrunk,
        "features_extractor_kwargs": shared,
    }


class SharedTrunk(nn.Module):
    """Hidden layers for actor and critic both: what Stable-Baselines3 calls a feature extractor."""

    def __init__(self, space: Any, *, sizes: list[int], activation: type[nn.Module]) -> None:
        super().__init__()
        self.features_dim = sizes[-1]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise((space.shape[0], *sizes)):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: Tensor) -> Tensor:
        """(B, obs) -> (B, features)."""
        features: Tensor = self.layers(obs.to(torch.float32))
        return features
