"""Gymnasium wrappers that give another framework the rewards and actions of `lander`.

`lander.export.sb3` copies these classes into its scripts, so they need nothing of this package.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class ScaledReward(gym.RewardWrapper[Any, Any]):
    """(reward - cost) * scale: env.step_cost and env.reward_scale."""

    def __init__(self, env: gym.Env[Any, Any], scale: float = 1.0, cost: float = 0.0) -> None:
        super().__init__(env)
        self.scale, self.cost = scale, cost

    def reward(self, reward: Any) -> float:
        return (float(reward) - self.cost) * self.scale


class Bins(gym.ActionWrapper[Any, Any, Any]):
    """Each dimension of a Box cut into levels, both ends included: env.bins.

    One choice per dimension; with `joint` one choice among all combinations.
    """

    def __init__(self, env: gym.Env[Any, Any], bins: int, joint: bool = False) -> None:
        super().__init__(env)
        box: Any = env.action_space
        low, high = (end.ravel().astype(np.float64) for end in (box.low, box.high))
        self.shape, self.bins, self.joint = box.shape, bins, joint
        self.levels = np.linspace(low, high, bins).T.astype(np.float32)
        sizes = [bins] * len(low)
        many, one = gym.spaces.MultiDiscrete(sizes), gym.spaces.Discrete(bins ** len(low))
        self.action_space = one if joint else many

    def action(self, action: Any) -> Any:
        if self.joint:
            action = np.unravel_index(int(action), [self.bins] * len(self.levels))
        return self.levels[np.arange(len(self.levels)), action].reshape(self.shape)
