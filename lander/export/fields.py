"""Which fields of a config another framework takes, and a line for each that it does not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gymnasium.spaces import Box

from lander.config import TrainConfig
from lander.dotted import flatten, is_kwarg
from lander.env import spaces
from lander.resolve import Resolved

WIDTH: Final = 100
"""Columns of a comment."""
MEASURES: Final = ("checkpoints", "eval_episodes", "sampled_episodes", "final_seeds")
"""Fields that say how `lander` measures a training: they change no weight of it."""

Carries = Callable[[TrainConfig], bool]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a framework makes of a field that it knows in part or not at all."""

    carries: Carries
    """Whether it has the value of a config."""
    otherwise: str
    """What it does where it does not."""


def is_off(field: str, *values: object) -> Carries:
    """Whether a field has one of these values, with which a framework agrees."""
    return lambda config: flatten(config)[field] in values


def never(_: TrainConfig) -> bool:
    """For a field that a framework does not have: where it acts, it is not carried over."""
    return False


def departures(resolved: Resolved, limits: Mapping[str, Limit]) -> Iterator[str]:
    """FIELD = VALUE, ..: what happens instead; for all fields that act and are not carried over."""
    fields: dict[str, list[str]] = {}
    for name, value in flatten(resolved.config).items():
        limit = limits.get("env.kwargs" if is_kwarg(name) else name)
        if limit is not None and name not in resolved.idle and not limit.carries(resolved.config):
            text = f"{name} = {'none' if value is None else value}"
            fields.setdefault(limit.otherwise, []).append(text)
    for otherwise, texts in fields.items():
        yield f"{', '.join(texts)}: {otherwise}"


def comments(resolved: Resolved, limits: Mapping[str, Limit], *, title: str) -> str:
    """The head of an exported text: its title, and what is not carried over."""
    lines = [title, *(f"Not carried over: {line}" for line in departures(resolved, limits))]
    wrapped = (
        textwrap.wrap(line, WIDTH, initial_indent="# ", subsequent_indent="#   ") for line in lines
    )
    return "\n".join(line for lines in wrapped for line in lines) + "\n"


def is_continuous(config: TrainConfig) -> bool:
    """Whether the actor of a resolved config acts in a Box that is not cut into bins."""
    return config.policy.head == "gaussian"


def is_binned(config: TrainConfig) -> bool:
    """Whether it acts in a Box that is cut into bins."""
    return isinstance(spaces(config.env)[1], Box) and not is_continuous(config)


def unit_box(config: TrainConfig) -> bool:
    """Whether the actions are already in the units of `policy.init_std`: in +-1, or unbounded."""
    space: Any = spaces(config.env)[1]
    unit = (space.low == -1) & (space.high == 1)
    free = ~(space.bounded_below & space.bounded_above)
    return bool((unit | free).all())


def bounded(config: TrainConfig) -> bool:
    """Whether every dimension of the actions has a range."""
    space: Any = spaces(config.env)[1]
    return bool(space.is_bounded())


def env_arguments(config: TrainConfig) -> dict[str, Any]:
    """What `gym.make` is given in training."""
    limit = config.env.time_limit
    return dict(config.env.kwargs) | ({} if limit is None else {"max_episode_steps": limit})


def has_scaled_reward(config: TrainConfig) -> bool:
    """Whether the agent learns from other rewards than the environment gives, by a constant."""
    return config.env.step_cost != 0 or config.env.reward_scale not in (1, "running")


def constant_scale(config: TrainConfig) -> float:
    """The factor of the rewards; 1 with a running scale, which the framework applies."""
    scale = config.env.reward_scale
    return 1.0 if isinstance(scale, str) else scale
