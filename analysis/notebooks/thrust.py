"""The thrust of the craft's engines for an action, measured on the environment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Final

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.env import AnyEnv, make_env, spaces
from lander.heads import bin_levels
from lander.resolve import LUNAR_LANDER

MAIN, SIDE = 0, 1
"""Dimensions of an action of LunarLanderContinuous."""
ENGINES: Final = ("main engine", "side engines")
SEED: Final = 0


def has_engines(config: TrainConfig) -> bool:
    """Whether the environment is LunarLander, which has a main and two side engines."""
    return config.env.id.startswith(LUNAR_LANDER)


def thrust(env: AnyEnv, engine: int, levels: Sequence[float]) -> NDArray[np.float64]:
    """(levels,): share of an engine's full thrust that each level gives.

    It is measured as the change of velocity in one step from the same state, against coasting,
    divided by the change at full level (full left for side levels below 0). The environment draws
    the same noise for every action, so the noise cancels.
    """
    coasting = velocity(env, [0.0, 0.0])

    def push(level: float) -> float:
        moved = velocity(env, action_of(engine, level)) - coasting
        return float(np.linalg.norm(moved))

    left = -1.0 if engine == SIDE else 1.0
    full = {False: push(1.0), True: push(left)}
    return np.array([push(level) / full[level < 0] for level in levels])


def action_of(engine: int, level: float) -> list[float]:
    """The action that sets one engine to a level and leaves the other one off."""
    action = [0.0, 0.0]
    action[engine] = level
    return action


def velocity(env: AnyEnv, action: Sequence[float]) -> NDArray[np.float64]:
    """(2,): horizontal and vertical velocity after one step from a seeded start."""
    with closing(make_env(env)) as craft:
        craft.reset(seed=SEED)
        craft.step(np.array(action, dtype=np.float32))
        moving = craft.get_wrapper_attr("lander").linearVelocity
        return np.array([moving.x, moving.y])


def levels_of(config: TrainConfig) -> NDArray[np.float64]:
    """(2, bins): the level that each bin of each engine passes to the environment."""
    _, space = spaces(config.env)
    assert isinstance(space, Box)
    return np.asarray(bin_levels(space, config).double().numpy())


def engines(actions: NDArray[np.generic]) -> NDArray[np.float64]:
    """(T, 2): share of full thrust of main and side engines, side below 0 for the left one, from
    actions of LunarLander (T,) or of its continuous form (T, 2)."""
    if actions.ndim == 1:
        main, side = actions == 2, actions.astype(np.int64) - 2
        return np.stack([main, np.where(np.abs(side) == 1, side, 0)], axis=1).astype(np.float64)
    levels = actions.astype(np.float64).clip(-1, 1)
    thrusts = np.stack([(levels[:, MAIN] + 1) / 2, levels[:, SIDE]], axis=1)
    off = np.stack([idle(levels[:, engine], engine) for engine in (MAIN, SIDE)], axis=1)
    return np.where(off, 0.0, thrusts)


def idle(levels: NDArray[np.float64], engine: int) -> NDArray[np.bool_]:
    """Whether a level leaves its engine off: main up to 0, side up to 0.5 either way."""
    return levels <= 0 if engine == MAIN else np.abs(levels) <= 0.5


def usage(actions: NDArray[np.generic], levels: NDArray[np.float64]) -> NDArray[np.int64]:
    """(bins, bins): how often each pair of main and side level was flown, from actions (T, 2)."""
    counts = np.zeros((levels.shape[1], levels.shape[1]), dtype=np.int64)
    nearest = [
        np.abs(actions[:, engine, None] - levels[engine]).argmin(axis=1) for engine in (MAIN, SIDE)
    ]
    np.add.at(counts, tuple(nearest), 1)
    return counts
