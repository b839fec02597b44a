"""Gymnasium environments side by side, and what the agent must know of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.fields import ConfigError

ActionSpace = Box | Discrete


def make_env(env_id: str, *, frames: bool = False) -> gym.Env[Any, Any]:
    """One stock Gymnasium environment; `frames` asks for RGB rendering.

    Raises:
        ConfigError: `env_id` names no environment, or one whose packages are missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "version out of date": the id is the user's choice
            return gym.make(
                env_id, render_mode="rgb_array" if frames else None, disable_env_checker=True
            )
    except (gym.error.Error, ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f'env.id: cannot make "{env_id}": {reason}') from None


def make_vector_env(env_id: str, num_envs: int) -> SyncVectorEnv:
    """N copies of `env_id`, stepped in this process.

    Autoreset is same-step: when copy i finishes at step t, `step` already returns the next
    episode's first observation, and `infos["final_obs"][i]` holds the true s_{t+1}.
    """
    return SyncVectorEnv(
        [lambda: make_env(env_id) for _ in range(num_envs)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )


def final_observations(infos: dict[str, Any], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """True last observations of the copies in `where`, shape (where.sum(), obs)."""
    return np.stack(infos["final_obs"][where]).astype(np.float32)


def spaces(env_id: str) -> tuple[int, ActionSpace]:
    """Length of an observation vector, and the action space.

    Raises:
        ConfigError: an environment that `lander` cannot play.
    """
    env = make_env(env_id)
    env.close()
    obs_space, action_space = env.observation_space, env.action_space
    if not (isinstance(obs_space, Box) and len(obs_space.shape) == 1):
        raise ConfigError(f"env.id: {env_id} observes {obs_space}, a flat Box is needed")
    if not (
        isinstance(action_space, Discrete)
        or (isinstance(action_space, Box) and len(action_space.shape) == 1)
    ):
        raise ConfigError(f"env.id: {env_id} acts in {action_space}, Discrete or flat Box needed")
    return obs_space.shape[0], action_space


def resolve(config: TrainConfig) -> TrainConfig:
    """`config` with `policy.head` decided, after checking that environment and head agree.

    Raises:
        ConfigError: an environment that cannot be made or played, or a head that does not fit it.
    """
    env_id, bins, head = config.env.id, config.env.bins, config.policy.head
    _, action_space = spaces(env_id)
    box = isinstance(action_space, Box)
    if bins is not None and not box:
        raise ConfigError(f"env.bins cuts a Box action space, {env_id} has {action_space}: omit it")
    if bins is not None and head == "gaussian":
        raise ConfigError(f"env.bins = {bins} and policy.head = gaussian exclude each other")
    if bins is None and head == "categorical" and box:
        raise ConfigError(f"policy.head = categorical needs env.bins on {env_id}, for example 11")
    if head == "gaussian" and not box:
        raise ConfigError(f"policy.head = gaussian needs a Box: {env_id} has {action_space}")
    if bins is not None and isinstance(action_space, Box) and not action_space.is_bounded():
        raise ConfigError(f"env.bins needs a bounded action space, {env_id} has {action_space}")
    if head == "auto":
        head = "gaussian" if box and bins is None else "categorical"
    return replace(config, policy=replace(config.policy, head=head))


def solved_return(env_id: str) -> float | None:
    """The return at which Gymnasium calls the environment solved (200 for LunarLander)."""
    return gym.spec(env_id).reward_threshold
