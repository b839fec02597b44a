"""Makes Gymnasium environments, and reads their spaces and limits for the agent."""

from __future__ import annotations

import inspect
import re
import warnings
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, Final, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from lander.config import EnvConfig
from lander.errors import ConfigError, nearest

ActionSpace = Box | Discrete
AnyEnv = EnvConfig | str
"""An environment as a config has it, or the id of one that takes no arguments."""
USUAL_FPS: Final = 50.0
"""Steps per second of an environment that does not say."""
RenderMode = Literal["rgb_array", "human"]
"""Gymnasium's names: frames as arrays, or a window."""
ENDLESS: Final = 100_000
"""Steps after which an evaluated episode ends if nothing else limits it."""


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """The properties of an environment that the agent needs before it plays."""

    obs_dim: int
    """Length of an observation vector."""
    obs_dtype: np.dtype[Any]
    """The type of observations as the environment gives them."""
    action_space: ActionSpace
    solved_return: float | None
    """The return at which Gymnasium calls it solved (200 for LunarLander); None if not defined."""
    max_episode_steps: int | None
    """Its own time limit."""
    fps: float
    """Steps per second, as it is drawn."""


_KNOWN: dict[tuple[str, str], tuple[object, EnvSpec]] = {}
"""By id and arguments: the entry of Gymnasium's registry, and the spec read from one copy."""


def as_config(env: AnyEnv) -> EnvConfig:
    """An environment's config; that of a bare id has the defaults."""
    return EnvConfig(id=env) if isinstance(env, str) else env


def make_env(
    env: AnyEnv, *, render: RenderMode | None = None, time_limit: int | None = None
) -> gym.Env[Any, Any]:
    """One stock Gymnasium environment.

    `time_limit` replaces its own limit, in steps.

    Raises:
        ConfigError: no such environment, missing packages, or arguments that it does not take.
    """
    config = as_config(env)
    given: dict[str, Any] = dict(config.kwargs)
    if render is not None:
        given["render_mode"] = render  # set only here: some take no such argument
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "version out of date": the id is the user's choice
            return gym.make(
                config.id, max_episode_steps=time_limit, disable_env_checker=True, **given
            )
    except Exception as error:  # whatever a constructor raises
        arguments = ", ".join(f"{name}={value!r}" for name, value in config.kwargs)
        named = f'"{config.id}"' + (f" with {arguments}" if arguments else "")
        why = f"{reason_of(error)}{near_argument(config, error)}"
        raise ConfigError(f"env.id: cannot make {named}: {why}") from None


def near_argument(config: EnvConfig, error: Exception) -> str:
    """The argument of the environment that was probably meant, if it refused one by its name."""
    refused = re.search(r"unexpected keyword argument '(\w+)'(?!.*[Dd]id you mean)", str(error))
    entry_point = gym.spec(config.id).entry_point if refused else None
    if refused is None or entry_point is None:
        return ""
    creator = resolve_name(entry_point) if isinstance(entry_point, str) else entry_point
    near = nearest(refused[1], list(inspect.signature(creator).parameters))
    return f": did you mean {near}?" if near else ""


def reason_of(error: Exception) -> str:
    """Why an environment cannot be made, in one line."""
    if isinstance(error, TypeError) and isinstance(error.__cause__, TypeError):
        error = error.__cause__  # whose text does not repeat all arguments
    text = " ".join(str(error).split())
    known = gym.error.Error | ImportError | ValueError | TypeError | AssertionError
    return text if text and isinstance(error, known) else f"{type(error).__name__}: {text}"


def make_whole(env: AnyEnv, *, render: RenderMode | None = None) -> gym.Env[Any, Any]:
    """An environment for whole episodes, as in evaluation: with its own time limit, or else with
    `env.time_limit`, so that every episode ends."""
    config = as_config(env)
    own = env_spec(config).max_episode_steps
    return make_env(config, render=render, time_limit=None if own else config.time_limit or ENDLESS)


def env_spec(env: AnyEnv) -> EnvSpec:
    """Spaces and limits of an environment, read once from one copy; the space is a copy.

    Raises:
        ConfigError: an environment that cannot be made, or that `lander` cannot play.

    >>> spec = env_spec("CartPole-v1")
    >>> spec.obs_dim, spec.action_space, spec.solved_return, spec.max_episode_steps
    (4, Discrete(2), 475.0, 500)
    """
    config = as_config(env)
    key = config.id, repr(config.kwargs)
    registered = config.id.rpartition(":")[2]
    entry, spec = _KNOWN.get(key, (None, None))
    if spec is None or entry is not gym.registry.get(registered):  # registered anew meanwhile
        spec = read_spec(config)
        _KNOWN[key] = gym.registry.get(registered), spec
    return replace(spec, action_space=deepcopy(spec.action_space))


def read_spec(config: EnvConfig) -> EnvSpec:
    """Spaces and limits, read from a new copy of the environment."""
    with closing(make_env(config)) as env:
        obs_space = getattr(env, "observation_space", None)
        action_space = getattr(env, "action_space", None)
        if not (isinstance(obs_space, Box) and len(obs_space.shape) == 1 and obs_space.shape[0]):
            raise ConfigError(
                f"env.id: {config.id} observes {obs_space}, a flat Box is needed: register it "
                "under an id of its own with gymnasium.wrappers.FlattenObservation around it"
            )
        if not (
            isinstance(action_space, Discrete)
            or (
                isinstance(action_space, Box)
                and np.issubdtype(action_space.dtype, np.floating)
                and np.prod(action_space.shape) > 0
            )
        ):
            raise ConfigError(
                f"env.id: {config.id} acts in {action_space}, Discrete or a Box of floats is "
                "needed: register it under an id of its own with a wrapper around it that turns "
                "such actions into its own (gymnasium.wrappers.TransformAction)"
            )
        return EnvSpec(
            obs_space.shape[0],
            obs_space.dtype,
            deepcopy(action_space),
            env.spec.reward_threshold if env.spec is not None else None,
            time_limit_of(env),
            drawn_fps(env),
        )


def drawn_fps(env: gym.Env[Any, Any]) -> float:
    """Steps per second, as its drawings are meant to play."""
    fps = (getattr(env, "metadata", None) or {}).get("render_fps")
    return float(fps) if isinstance(fps, int | float) and 0 < fps < np.inf else USUAL_FPS


def time_limit_of(env: gym.Env[Any, Any]) -> int | None:
    """The steps after which an environment ends every episode, as far as Gymnasium knows."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return env.spec.max_episode_steps
    layer: object = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):  # added by the environment's entry point
            limit: int | None = getattr(layer, "_max_episode_steps", None)  # it has no public name
            return limit
        layer = layer.env
    return None


def is_builtin(env: EnvConfig) -> bool:
    """Whether the environment is one of Gymnasium's own."""
    spec = gym.registry.get(env.id.rpartition(":")[2])
    return spec is not None and str(spec.entry_point).startswith("gymnasium.envs.")


def require_limit(env: EnvConfig) -> None:
    """Refuse an environment whose episodes may never end.

    Raises:
        ConfigError: names the option that sets a limit.
    """
    if env_spec(env).max_episode_steps is None and env.time_limit is None:
        raise ConfigError(
            f"env.id: {env.id} has no time limit of its own, so an evaluation might never end: "
            "set env.time_limit (--env.time-limit), for example 1000"
        )


def spaces(env: AnyEnv) -> tuple[int, ActionSpace]:
    """Length of an observation vector, and the action space.

    Raises:
        ConfigError: an environment that `lander` cannot play.
    """
    spec = env_spec(env)
    return spec.obs_dim, spec.action_space


def solved_return(env: AnyEnv) -> float | None:
    """The return at which Gymnasium calls the environment solved (200 for LunarLander)."""
    return env_spec(env).solved_return


def random_state(env: gym.Env[Any, Any]) -> dict[str, Any] | None:
    """State of an environment's generator, as a dict of plain numbers; None if it has none that
    `set_random_state` could set."""
    try:
        state = dict(env.unwrapped.np_random.bit_generator.state)
    except AttributeError:  # for example a RandomState, as in old Gym
        return None
    return state if state["bit_generator"] == "PCG64" else None


def set_random_state(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    """Set an environment's generator to an earlier state."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    env.unwrapped.np_random = generator
