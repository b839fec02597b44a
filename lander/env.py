"""Gymnasium environments side by side, and what the agent must know of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
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


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of N environments gave."""

    obs: NDArray[np.float32]
    """(N, obs): where an episode ended, already the first of the next one."""
    rewards: NDArray[np.float64]
    """(N,), raw."""
    terminated: NDArray[np.bool_]
    """(N,): a terminal state was reached."""
    truncated: NDArray[np.bool_]
    """(N,): the time limit cut an episode that was not over; never true where terminated is."""
    last_obs: list[NDArray[np.float32]]
    """The true s_{t+1} of each truncated episode, in the order of N."""


class VectorEnv:
    """N copies of an environment, stepped in this process.

    An ended episode is followed by the next one in the same step (Gymnasium's SAME_STEP), so every
    step of every copy is a transition that the agent can learn from. A plain loop is a third
    faster than `gymnasium.vector.SyncVectorEnv` and leaves no room for its bookkeeping.
    """

    def __init__(self, env_id: str, num_envs: int) -> None:
        self._envs = [make_env(env_id) for _ in range(num_envs)]

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream."""
        pairs = zip(self._envs, seeds, strict=True)
        return np.stack([env.reset(seed=seed)[0] for env, seed in pairs]).astype(np.float32)

    def step(self, actions: NDArray[np.generic]) -> Step:
        """One step of every copy with its row of `actions`, as `env.step` takes it."""
        obs: list[NDArray[np.float32]] = []
        rewards = np.empty(len(self))
        terminated = np.empty(len(self), dtype=np.bool_)
        truncated = np.empty(len(self), dtype=np.bool_)
        last_obs: list[NDArray[np.float32]] = []
        for i, env in enumerate(self._envs):
            row, reward, end, cut, _ = env.step(actions[i])
            rewards[i], terminated[i], truncated[i] = reward, end, cut and not end
            if truncated[i]:
                last_obs.append(row.copy())
            if end or cut:
                row, _ = env.reset()
            obs.append(row)
        return Step(np.stack(obs).astype(np.float32), rewards, terminated, truncated, last_obs)

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs:
            env.close()


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
    env = make_env(env_id)  # gym.spec does not know every id that can be made
    env.close()
    return env.spec.reward_threshold if env.spec is not None else None
