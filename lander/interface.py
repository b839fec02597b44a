"""A stock environment whose answers are checked as they arrive.

Gymnasium's own checker only warns, once, and costs more. Here an answer that departs from the
interface or is not finite ends the run in one line that names the environment, the copy, the step
and the value, instead of a traceback from inside torch or a loss that is NaN minutes later.
"""

from __future__ import annotations

from math import isfinite
from traceback import walk_tb
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

NUMBERS: Final = (float, int, np.floating, np.integer, np.bool_)
BOOLEANS: Final = (bool, np.bool_)
WRAPPERS: Final = ("gymnasium.wrappers", "gymnasium.core", "lander.")
"""Modules that only pass on the environment's answers: an error raised there is about an answer."""


class EnvFault(Exception):
    """An environment departs from Gymnasium's interface, or gives numbers that are not finite.

    The message is one line that begins with the environment's id.
    """


class CheckedEnv:
    """One copy of a stock environment."""

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        self.stock = env
        self._name = name
        """Which environment and which copy of it, for messages."""
        self._shape = env.observation_space.shape
        self.steps = 0
        """Steps in this episode."""

    def reset(self, seed: int | None = None) -> NDArray[Any]:
        """The first observation of an episode.

        Raises:
            EnvFault: not Gymnasium's (observation, info).
        """
        self.steps = 0
        try:
            answer: Any = self.stock.reset(seed=seed)
        except (TypeError, ValueError) as error:
            raise self._explained(error, "reset(seed=...)") from None
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise self.fault(f"reset gave {kind_of(answer)}, want (observation, info)")
        row: NDArray[Any] = answer[0]
        if not self._is_vector(row):
            raise self.fault(self._unlike_vector(row))
        return row

    def step(self, action: NDArray[Any] | np.generic) -> tuple[NDArray[Any], float, bool, bool]:
        """Observation, reward, terminated, truncated.

        Raises:
            EnvFault: not Gymnasium's five values, or a reward that is not finite.
        """
        self.steps += 1
        try:
            answer: Any = self.stock.step(handed(action))
        except (TypeError, ValueError) as error:
            raise self._explained(error, "step(action)") from None
        try:
            row, reward, terminated, truncated, _ = answer
            sound = (
                self._is_vector(row)
                and isinstance(reward, NUMBERS)
                and isfinite(reward)
                and isinstance(terminated, BOOLEANS)
                and isinstance(truncated, BOOLEANS)
            )
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise self.fault(self._unlike_step(answer))
        return row, float(reward), bool(terminated), bool(truncated)

    def require_finite(self, row: NDArray[Any] | tuple[float, ...]) -> None:
        """Refuse an observation of the present step that holds NaN or infinity.

        Raises:
            EnvFault: names the number.
        """
        wrong = np.flatnonzero(~np.isfinite(row))
        if len(wrong):
            raise self.fault(f"observation[{wrong[0]}] is {row[wrong[0]]}, want finite numbers")

    def close(self) -> None:
        """Release the environment."""
        self.stock.close()

    def _is_vector(self, row: object) -> bool:
        return isinstance(row, np.ndarray) and row.shape == self._shape and row.dtype.kind in "fiub"

    def _unlike_vector(self, row: object) -> str:
        return f"the observation is {kind_of(row)}, want an array of numbers of shape {self._shape}"

    def _unlike_step(self, answer: object) -> str:
        """What is wrong with the answer to a step."""
        if not (isinstance(answer, tuple) and len(answer) == 5):
            want = "(observation, reward, terminated, truncated, info)"
            return f"step gave {kind_of(answer)}, want {want}"
        row, reward, *flags, _ = answer
        if not self._is_vector(row):
            return self._unlike_vector(row)
        for name, flag in zip(("terminated", "truncated"), flags, strict=True):
            if not isinstance(flag, BOOLEANS):
                return f"{name} is {kind_of(flag)}, want True or False"
        return f"the reward is {kind_of(reward)}, want a finite number"

    def _explained(self, error: Exception, call: str) -> Exception:
        """The error itself if the environment's own code raised it, else an EnvFault about it."""
        *_, (frame, _) = walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__", "")).startswith(WRAPPERS):
            return error
        return self.fault(f"{call}: {error}")

    def fault(self, what: str) -> EnvFault:
        """An error about the present step."""
        when = f"step {self.steps}" if self.steps else "reset"
        return EnvFault(" ".join(f"{self._name}, {when}: {what}".split()))


def handed(action: NDArray[Any] | np.generic) -> NDArray[Any] | np.generic:
    """An action in the form of `action_space.sample()`: np.int64 for Discrete; for Box an array,
    copied, so that the environment cannot change the recorded one."""
    return action if isinstance(action, np.integer) else np.array(action)


def kind_of(value: object) -> str:
    """A value in few words: a number or a word itself, an array by type and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return str(value) if not isinstance(value, str) else repr(value[:50])
    return f"a {type(value).__name__}"
