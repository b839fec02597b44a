"""EnvPool: environments in C++ that step faster than Python ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lander.errors import ConfigError
from lander.vector import EpisodeStart, Step


class EnvPoolVectorEnv:
    """N copies of an environment in EnvPool, on one thread; steps as `SerialVectorEnv` does.

    EnvPool by itself spends a step of an ended copy on its reset, which gives a row without a
    transition. This class resets ended copies at once, so every row is a transition.
    """

    def __init__(self, env_id: str, num_envs: int, *, time_limit: int | None = None) -> None:
        require_pooled(env_id)
        self._env_id, self._num_envs = env_id, num_envs
        self._limit = {} if time_limit is None else {"max_episode_steps": time_limit}
        self._pool: Any = None
        self.unfinished: list[EpisodeStart] = []
        """Always empty: the random state of an episode cannot be read."""

    def __len__(self) -> int:
        return self._num_envs

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """First observations (N, obs); later episodes continue each copy's random stream."""
        self.close()
        self._pool = import_module("envpool").make_gymnasium(
            self._env_id,
            num_envs=len(self),
            num_threads=1,
            seed=[seed % 2**31 for seed in seeds],  # int32
            **self._limit,
        )
        obs, info = self._pool.reset()
        return np.asarray(obs, dtype=np.float32)[rows_of(np.arange(len(self)), info)]

    def restore(self, _unfinished: Sequence[EpisodeStart], /) -> NoReturn:
        """Not possible with EnvPool.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "env.backend = envpool cannot play an unfinished episode again: train anew, or with "
            "env.backend = gymnasium"
        )

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        """One step of every copy, or of the M given `copies` only, with its row of `actions`."""
        chosen = np.arange(len(self)) if copies is None else copies
        if np.issubdtype(actions.dtype, np.integer):
            actions = actions.astype(np.int32)
        *results, info = self._pool.step(actions, chosen.astype(np.int32))
        order = rows_of(chosen, info)
        rows, rewards, terminated, cut = (result[order] for result in results)
        obs, truncated = np.array(rows, dtype=np.float32), cut & ~terminated
        last_obs = list(obs[truncated])
        ended = np.flatnonzero(terminated | cut)
        if len(ended):
            first, info = self._pool.reset(chosen[ended].astype(np.int32))
            obs[ended] = first[rows_of(chosen[ended], info)]
        return Step(obs, rewards.astype(np.float64), terminated, truncated, last_obs)

    def close(self) -> None:
        """Release the environments."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def rows_of(copies: NDArray[np.intp], info: Mapping[str, Any]) -> NDArray[np.intp]:
    """The row of each of `copies` in a result: EnvPool orders rows by who finishes first."""
    by_copy = np.argsort(info["env_id"])
    return by_copy[np.searchsorted(info["env_id"], copies, sorter=by_copy)]


def require_pooled(env_id: str) -> None:
    """Refuse an environment that EnvPool cannot play here.

    Raises:
        ConfigError: EnvPool is not installed, or has no such environment.
    """
    try:
        known = import_module("envpool").list_all_envs()
    except ImportError:
        raise ConfigError(
            "env.backend = envpool needs the extra [fast]: make install EXTRAS=fast, or omit it"
        ) from None
    if env_id not in known:
        raise ConfigError(f"env.backend = envpool has no {env_id}: take env.backend = gymnasium")
