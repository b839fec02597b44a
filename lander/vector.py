"""Vector environments with same-step autoreset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lander.env import AnyEnv, as_config, env_spec, make_env, random_state, set_random_state
from lander.errors import ConfigError
from lander.interface import CheckedEnv
from lander.lunar import Physics, under


@dataclass(frozen=True, slots=True)
class Step:
    """The results of one step of M environments."""

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
class EpisodeStart:
    """The start of an unfinished episode and its actions: enough to play it to the same state."""

    start: int | dict[str, Any] | None
    """The seed of its reset, or the state of the environment's generator before the reset; None
    where that state cannot be read."""
    actions: list[NDArray[np.generic] | np.generic] = field(default_factory=list)
    """One per step."""


class VectorEnv(Protocol):
    """N copies of an environment.

    An ended episode is followed by the next one in the same step (Gymnasium's SAME_STEP), so every
    step of every copy is a transition that the agent can learn from.
    """

    unfinished: list[EpisodeStart]
    """The unfinished episode of each copy; empty if it cannot be played again."""

    def __len__(self) -> int: ...

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream."""

    def restore(self, unfinished: Sequence[EpisodeStart], /) -> NDArray[np.float32]:
        """Observations (N, obs) after playing unfinished episodes again, action by action."""

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """One step of every copy, or of the M given `copies` only, with its row of `actions`."""

    def close(self) -> None:
        """Release the environments."""


class SerialVectorEnv:
    """Gymnasium environments, stepped in this process.

    With `physics` "lean", for `training_physics` to choose, they are LunarLanders whose steps
    `lander.lunar` computes. A plain loop is a third faster than `gymnasium.vector.SyncVectorEnv`.

    >>> envs = SerialVectorEnv("CartPole-v1", 3)
    >>> envs.reset([1, 2, 3]).shape
    (3, 4)
    >>> step = envs.step(np.array([0, 1, 1]))
    >>> step.rewards.tolist(), step.terminated.any()
    ([1.0, 1.0, 1.0], np.False_)
    """

    def __init__(
        self,
        env: AnyEnv,
        num_envs: int,
        *,
        time_limit: int | None = None,
        physics: Physics = "stock",
    ) -> None:
        name = as_config(env).id
        copies = [
            CheckedEnv(make_env(env, time_limit=time_limit), f"{name}, copy {copy}")
            for copy in range(num_envs)
        ]
        self._envs = [under(physics, copy) for copy in copies]
        self._name, self._obs_dim = name, env_spec(env).obs_dim
        self.unfinished: list[EpisodeStart] = []
        """The unfinished episode of each copy."""

    def __len__(self) -> int:
        return len(self._envs)

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream.

        Raises:
            EnvFault: an environment that departs from Gymnasium's interface, here as in `step`.
        """
        self.unfinished = [EpisodeStart(seed) for seed in seeds]
        obs = np.empty((len(self), self._obs_dim), dtype=np.float32)
        for i, (env, seed) in enumerate(zip(self._envs, seeds, strict=True)):
            obs[i] = env.reset(seed)
        self._require_finite(obs, range(len(self)))
        return obs

    def restore(self, unfinished: Sequence[EpisodeStart]) -> NDArray[np.float32]:
        """Observations (N, obs) after playing unfinished episodes again, action by action.

        Raises:
            ConfigError: an episode whose start is not known.
        """
        obs = np.empty((len(self), self._obs_dim), dtype=np.float32)
        for i, (env, episode) in enumerate(zip(self._envs, unfinished, strict=True)):
            if episode.start is None:
                raise ConfigError(
                    f"{self._name} keeps its random numbers in no np.random.Generator (PCG64) "
                    "called np_random, so unfinished episodes cannot be played again: train anew"
                )
            if isinstance(episode.start, int):
                obs[i] = env.reset(episode.start)
            else:
                set_random_state(env.stock, episode.start)
                obs[i] = env.reset()
            for action in episode.actions:
                obs[i], *_ = env.step(action)
        self.unfinished = [
            EpisodeStart(episode.start, list(episode.actions)) for episode in unfinished
        ]
        return obs

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """One step of every copy, or of the M given `copies` only, with its row of `actions`."""
        chosen = range(len(self)) if copies is None else copies.tolist()
        rows: list[NDArray[Any] | tuple[float, ...]] = []
        rewards: list[float] = []
        terminated, truncated = np.zeros((2, len(chosen)), dtype=np.bool_)
        last_obs: list[NDArray[np.float32]] = []
        for i, (copy, action) in enumerate(zip(chosen, actions, strict=True)):
            env = self._envs[copy]
            row, reward, end, cut = env.step(action)
            if end or cut:
                env.require_finite(row)
                terminated[i], truncated[i] = end, not end
                if not end:
                    last_obs.append(np.array(row, dtype=np.float32))
                self.unfinished[copy] = EpisodeStart(random_state(env.stock))
                row = env.reset()
            else:
                self.unfinished[copy].actions.append(action)
            rows.append(row)
            rewards.append(reward)
        obs = np.array(rows, dtype=np.float32)
        self._require_finite(obs, chosen)
        return Step(obs, np.array(rewards), terminated, truncated, last_obs)

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs:
            env.close()

    def _require_finite(self, obs: NDArray[np.float32], copies: Sequence[int]) -> None:
        """Refuse an observation that is not finite; one check of all copies is cheap."""
        if not np.isfinite(obs).all():
            for copy, row in zip(copies, obs, strict=True):
                self._envs[copy].require_finite(row)
