"""Environments as users write them: sound ones off the beaten track, and some that break a rule.

Importing this module registers each as `odd/NAME-v0`.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

STEPS = 20
"""Length of an episode."""
FAULT_AT = 13
"""The step of an episode at which those that misbehave later do so."""

DRAWN: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}
NOT_DRAWN: dict[str, Any] = {"render_modes": []}


class Odd(gym.Env[Any, Any]):
    """Three random numbers, a reward of 1, 20 steps; every part can be exchanged."""

    metadata = DRAWN
    observation_space: gym.Space[Any] = Box(-np.inf, np.inf, (3,))
    action_space: gym.Space[Any] = Discrete(2)
    length = STEPS

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.t = 0

    def obs(self) -> Any:
        return self.np_random.normal(size=3).astype(np.float32)

    def reward(self, action: Any) -> Any:
        return 1.0

    def ends(self) -> tuple[Any, Any]:
        return self.t >= self.length, False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.obs(), self.reward(action), *self.ends(), {}

    def render(self) -> Any:
        return np.full((40, 60, 3), self.t, dtype=np.uint8)


class Plain(gym.Env[Any, Any]):
    """Takes no render_mode and cannot be drawn; actions from -1 to 1; observations of 64 bits."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space = Discrete(3, start=-1)

    def __init__(self, gravity: float = 1.0, wind: bool = False, name: str = "earth") -> None:
        if not gravity > 0:
            raise AssertionError(f"gravity must be above 0, got {gravity}")
        self.gravity, self.wind, self.name, self.t = gravity, wind, name, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=3), {"name": self.name}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.t += 1
        reward = float(self.gravity * (action == 1)) + self.wind
        return self.np_random.normal(size=3), reward, False, self.t >= STEPS, {}


class Endless(Odd):
    length = 10**12


class Inner(Odd):
    """Ended by a wrapper that its entry point puts around it."""

    length = 10**12


class Wide(Odd):
    """Best at 60 of +-100."""

    action_space = Box(-100, 100, (1,))

    def reward(self, action: Any) -> Any:
        return -abs(float(action[0]) - 60) / 100


class Mixed(Wide):
    action_space = Box(np.array([-100, -np.inf, 0], "f"), np.array([100, np.inf, np.inf], "f"))


class Doubles(Odd):
    """Everything in float64."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space = Box(-0.1, 0.1, (1,), np.float64)

    def obs(self) -> Any:
        return self.np_random.normal(size=3)


class Scalar(Odd):
    """One action without a dimension."""

    action_space = Box(-1, 1, ())

    def reward(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        assert isinstance(action, np.ndarray)
        return float(action)


class Item(Odd):
    def reward(self, action: Any) -> Any:
        assert isinstance(action, np.int64)
        return float(action.item())


class InPlace(Odd):
    """Changes the action that it was given, and reuses its observation."""

    action_space = Box(-1, 1, (2,))
    shared: NDArray[np.float32] = np.zeros(3, np.float32)

    def obs(self) -> Any:
        self.shared[:] = self.np_random.normal(size=3)
        return self.shared

    def reward(self, action: Any) -> Any:
        total = float(action.sum())
        action *= 0
        return total


class Legacy(Odd):
    """Random numbers as in the days of old Gym."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            generator: Any = np.random.RandomState(seed)
            self.np_random = generator
        self.t = 0
        return self.obs(), {}


class Mersenne(Odd):
    """A generator whose state is no plain number."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.np_random = np.random.Generator(np.random.MT19937(seed))
        self.t = 0
        return self.obs(), {}


class NoSeed(Odd):
    """Ignores its seed: each episode is longer than the one before, and refuses steps beyond."""

    resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=0)
        NoSeed.resets += 1
        self.t, self.length = 0, 5 + NoSeed.resets % 20
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        assert self.t < self.length, "step after the end of the episode"
        return super().step(action)


class Signals(Odd):
    """Sends its process a signal in the middle of an evaluation, and counts its steps after it."""

    number: signal.Signals | None = None
    steps_after = 0
    evaluated = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.evaluated = 10**6 <= seed < 2**31
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        if self.evaluated and self.number is not None:
            if self.t == FAULT_AT - 1:
                Signals.steps_after = 0
                os.kill(os.getpid(), self.number)
            elif self.t >= FAULT_AT:
                Signals.steps_after += 1
        return super().step(action)


class Huge(Odd):
    def reward(self, action: Any) -> Any:
        return 1e9


class Counted(Odd):
    """Counts how many copies are made, and how many are open at once."""

    made = opened = most = 0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        Counted.made += 1
        Counted.opened += 1
        Counted.most = max(Counted.most, Counted.opened)

    def close(self) -> None:
        Counted.opened -= 1


class NoPicture(Odd):
    metadata = NOT_DRAWN

    def render(self) -> Any:
        raise NotImplementedError


class NoFrame(Odd):
    def render(self) -> Any:
        return None


class NoMode(Odd):
    def __init__(self, render_mode: str | None = None) -> None:
        assert render_mode in (None, "human")
        super().__init__(render_mode)


class BaseRender(Odd):
    def render(self) -> Any:
        return super(Odd, self).render()


class NanReward(Odd):
    def reward(self, action: Any) -> Any:
        return float("nan") if self.t == FAULT_AT else 1.0


class NoReward(Odd):
    def reward(self, action: Any) -> Any:
        return None


class ListReward(Odd):
    def reward(self, action: Any) -> Any:
        return np.ones(1)


class InfObs(Odd):
    def obs(self) -> Any:
        row = super().obs()
        row[1] = np.inf if self.t == FAULT_AT else row[1]
        return row


class NanStart(Odd):
    def obs(self) -> Any:
        return np.array([0.0, 0.0, np.nan]) if self.t == 0 else super().obs()


class TupleObs(Odd):
    def obs(self) -> Any:
        return tuple(super().obs())


class LongObs(Odd):
    def obs(self) -> Any:
        return np.zeros(4, np.float32)


class LaterLongObs(Odd):
    def obs(self) -> Any:
        return np.zeros(1 if self.t == FAULT_AT else 3, np.float32)


class WordObs(Odd):
    def obs(self) -> Any:
        return np.array(["a", "b", "c"])


class NumberEnds(Odd):
    def ends(self) -> tuple[Any, Any]:
        return int(self.t >= STEPS), False


class NoTruncated(Odd):
    def ends(self) -> tuple[Any, Any]:
        return self.t >= STEPS, None


class FourValues(Odd):
    def step(self, action: Any) -> Any:
        obs, reward, done, _, info = super().step(action)
        return obs, reward, done, info


class ObsOnly(Odd):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


def bare_reset(env: Odd) -> Any:
    """As in old Gym: no seed, no options."""
    return Odd.reset(env)


NoSeedArgument = type("NoSeedArgument", (Odd,), {"reset": bare_reset})


class Raises(Odd):
    def reward(self, action: Any) -> Any:
        raise ValueError("the simulator's licence has expired")


class Whole(Odd):
    action_space = Box(0, 5, (1,), np.int64)


class Many(Odd):
    action_space = gym.spaces.MultiDiscrete([2, 3])


class Nothing(Odd):
    action_space = Box(-1, 1, (0,))


class Blind(Odd):
    observation_space = Box(-1, 1, (0,))


class Broken(Odd):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        raise KeyError("ROBOT")


class Typed(Odd):
    """Observes as many numbers as the type of its argument says."""

    def __init__(self, value: object, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        dims = {int: 1, bool: 2, float: 3}[type(value)]
        self.observation_space = Box(-1, 1, (dims,))


class Spaceless(gym.Env[Any, Any]):
    """Forgot to say what it observes."""


def inner() -> gym.Env[Any, Any]:
    """An environment that is limited before Gymnasium gets it."""
    return gym.wrappers.TimeLimit(Inner(), STEPS)


def register() -> None:
    """All of them, with a limit far beyond their ends where one does not show a rule."""
    unlimited = {Endless, Inner, FourValues}
    kinds = [*Odd.__subclasses__(), Plain, Mixed, Spaceless]
    for kind in kinds:
        limit = None if kind in unlimited else 200
        entry: Any = inner if kind is Inner else kind
        gym.register(f"odd/{kind.__name__}-v0", entry, max_episode_steps=limit)
    four: Any = FourValues
    gym.register("odd/FourLimited-v0", four, max_episode_steps=200)


register()
