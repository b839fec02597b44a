"""Gymnasium environments side by side, and what the agent must know of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from lander.fields import ConfigError

ActionSpace = Box | Discrete


def make_env(
    env_id: str, *, frames: bool = False, time_limit: int | None = None
) -> gym.Env[Any, Any]:
    """One stock Gymnasium environment; `frames` asks for RGB rendering.

    `time_limit` takes the place of its own limit, in steps.

    Raises:
        ConfigError: `env_id` names no environment, or one whose packages are missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "version out of date": the id is the user's choice
            return gym.make(
                env_id,
                render_mode="rgb_array" if frames else None,
                max_episode_steps=time_limit,
                disable_env_checker=True,
            )
    except (gym.error.Error, ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f'env.id: cannot make "{env_id}": {reason}') from None


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of M environments gave."""

    obs: NDArray[np.float32]
    """(M, obs): where an episode ended, already the first of the next one."""
    rewards: NDArray[np.float64]
    """(M,), raw."""
    terminated: NDArray[np.bool_]
    """(M,): a terminal state was reached."""
    truncated: NDArray[np.bool_]
    """(M,): the time limit cut an episode that was not over; never true where terminated is."""
    last_obs: list[NDArray[np.float32]]
    """The true s_{t+1} of each truncated episode, in the order of M."""


@dataclass(slots=True)
class Flight:
    """How an unfinished episode came about: enough to fly it again to the same state."""

    start: int | dict[str, Any]
    """The seed of its reset, or the state of the environment's generator before it."""
    actions: list[NDArray[np.generic] | int] = field(default_factory=list)
    """As `env.step` took them."""


class Envs(Protocol):
    """N copies of an environment, whoever steps them.

    An ended episode is followed by the next one in the same step (Gymnasium's SAME_STEP), so every
    step of every copy is a transition that the agent can learn from.
    """

    flights: list[Flight]
    """The unfinished episode of each copy; empty if it cannot be flown again."""

    def __len__(self) -> int: ...

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream."""

    def restore(self, flights: Sequence[Flight], /) -> NDArray[np.float32]:
        """Observations (N, obs) after flying unfinished episodes again, action by action."""

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """One step of every copy, or of the M given `copies` only, with its row of `actions`."""

    def close(self) -> None:
        """Release the environments."""


class VectorEnv:
    """Stock Gymnasium environments, stepped in this process.

    A plain loop is a third faster than `gymnasium.vector.SyncVectorEnv` and leaves no room for its
    bookkeeping.
    """

    def __init__(self, env_id: str, num_envs: int, *, time_limit: int | None = None) -> None:
        self._envs = [make_env(env_id, time_limit=time_limit) for _ in range(num_envs)]
        self._obs_shape = self._envs[0].observation_space.shape or ()
        self.flights: list[Flight] = []
        """The unfinished episode of each copy."""

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream."""
        self.flights = [Flight(seed) for seed in seeds]
        pairs = zip(self._envs, seeds, strict=True)
        return np.stack([env.reset(seed=seed)[0] for env, seed in pairs]).astype(np.float32)

    def restore(self, flights: Sequence[Flight]) -> NDArray[np.float32]:
        """Observations (N, obs) after flying unfinished episodes again, action by action."""
        rows = []
        for env, flight in zip(self._envs, flights, strict=True):
            if isinstance(flight.start, int):
                row, _ = env.reset(seed=flight.start)
            else:
                set_random_state(env, flight.start)
                row, _ = env.reset()
            for action in flight.actions:
                row, *_ = env.step(action)
            rows.append(row)
        self.flights = [Flight(flight.start, list(flight.actions)) for flight in flights]
        return np.stack(rows).astype(np.float32)

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """One step of every copy, or of the M given `copies` only, with its row of `actions`."""
        chosen = range(len(self)) if copies is None else copies.tolist()
        # Gymnasium checks a Python int four times faster than a NumPy one
        rows = actions.tolist() if actions.ndim == 1 else actions
        obs = np.empty((len(chosen), *self._obs_shape), dtype=np.float32)
        rewards = np.empty(len(chosen))
        terminated = np.empty(len(chosen), dtype=np.bool_)
        truncated = np.empty(len(chosen), dtype=np.bool_)
        last_obs: list[NDArray[np.float32]] = []
        for i, (copy, action) in enumerate(zip(chosen, rows, strict=True)):
            env = self._envs[copy]
            row, reward, end, cut, _ = env.step(action)
            rewards[i], terminated[i], truncated[i] = reward, end, cut and not end
            if truncated[i]:
                last_obs.append(row.copy())
            if end or cut:
                self.flights[copy] = Flight(random_state(env))
                row, _ = env.reset()
            else:
                self.flights[copy].actions.append(action)
            obs[i] = row
        return Step(obs, rewards, terminated, truncated, last_obs)

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
        or (isinstance(action_space, Box) and np.issubdtype(action_space.dtype, np.floating))
    ):
        raise ConfigError(f"env.id: {env_id} acts in {action_space}, Discrete or Box needed")
    return obs_space.shape[0], action_space


def random_state(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """State of an environment's generator, as a dict of plain numbers."""
    return dict(env.unwrapped.np_random.bit_generator.state)


def set_random_state(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    """Put an environment's generator where it was."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    env.unwrapped.np_random = generator


def solved_return(env_id: str) -> float | None:
    """The return at which Gymnasium calls the environment solved (200 for LunarLander)."""
    env = make_env(env_id)  # gym.spec does not know every id that can be made
    env.close()
    return env.spec.reward_threshold if env.spec is not None else None
