"""Recorded action lists, and the judge that flies them: HW12 of Hung-yi Lee's course, 2023.

The environment is reset once with a seed; the episodes that follow continue its random stream. The
judge plays the recorded actions in the same way, so nobody has to trust the pilot.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from lander.config import EnvConfig, Kwargs, TrainConfig
from lander.dotted import KWARGS, configure, read_text
from lander.env import AnyEnv, as_config, env_spec, make_env, make_whole
from lander.errors import ConfigError
from lander.evaluation import policy_pilot
from lander.files import replacing
from lander.interface import CheckedEnv, handed
from lander.policy import ActorCritic
from lander.trust import Origin

SEED: Final = 2023
EPISODES: Final = 5
TIERS: Final = ("none", "simple", "medium", "strong", "boss")
"""By the mean return: below 0, from 0, from 110, from 180, above 275."""


@dataclass(frozen=True, slots=True)
class ActionLists:
    """What a pilot did in consecutive episodes after one `reset(seed=seed)`."""

    env_id: str
    seed: int
    actions: tuple[NDArray[np.generic], ...]
    """Per episode (length,) or (length, *shape), as `env.step` took them."""
    kwargs: Kwargs = ()
    """Arguments of the environment."""
    time_limit: int | None = None
    """Where it has none of its own."""

    @property
    def env(self) -> EnvConfig:
        """The environment in which they were flown."""
        return EnvConfig(id=self.env_id, kwargs=self.kwargs, time_limit=self.time_limit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge saw."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def tier(self) -> int:
        """Points of the homework, 0 to 4; `TIERS` names them."""
        mean = self.return_mean
        return sum((mean >= 0, mean >= 110, mean >= 180, mean > 275))


def record(policy: ActorCritic, env: AnyEnv, *, seed: int, episodes: int) -> ActionLists:
    """Fly consecutive episodes, deterministically.

    Raises:
        EnvFault: an environment that departs from Gymnasium's interface.
    """
    pilot, config = policy_pilot(policy), as_config(env)
    lists: list[NDArray[np.generic]] = []
    with closing(CheckedEnv(make_whole(config), config.id)) as one:
        obs = one.reset(seed)
        for episode in range(episodes):
            if episode > 0:
                obs = one.reset()
            actions: list[NDArray[np.generic]] = []
            over = False
            while not over:
                one.require_finite(obs)
                actions.append(pilot(np.asarray(obs, dtype=np.float32)[None])[0])
                obs, _, terminated, truncated = one.step(handed(actions[-1]))
                over = terminated or truncated
            lists.append(np.stack(actions))
    limit = config.time_limit if env_spec(config).max_episode_steps is None else None
    return ActionLists(config.id, seed, tuple(lists), config.kwargs, limit)


def judge(lists: ActionLists) -> Verdict:
    """Fly the recorded actions; each list must end exactly where its episode does.

    Raises:
        ConfigError: a list too short or too long, or an action that is none.
    """
    returns: list[float] = []
    with closing(CheckedEnv(make_whole(lists.env), lists.env_id)) as env:
        env.reset(lists.seed)
        for episode, actions in enumerate(lists.actions, 1):
            if episode > 1:
                env.reset()
            returns.append(fly_list(env, actions, f"episode {episode}"))
    return Verdict(tuple(returns), tuple(len(actions) for actions in lists.actions))


def fly_list(env: CheckedEnv, actions: NDArray[np.generic], name: str) -> float:
    """Return of one episode, from its actions."""
    total, over = 0.0, False
    for t, action in enumerate(map(handed, actions), 1):
        if over:
            raise ConfigError(f"{name} is over after {t - 1} of its {len(actions)} actions")
        space = env.stock.action_space
        if not space.contains(action):
            raise ConfigError(f"{name}: action {t} is {action}, not one of {space}")
        _, reward, terminated, truncated = env.step(action)
        total += reward
        over = terminated or truncated
    if not over:
        raise ConfigError(f"{name} is not over after its {len(actions)} actions")
    return total


def write(path: Path, lists: ActionLists) -> None:
    """As JSON: every number reads back to the bit."""
    document: dict[str, Any] = {
        "env_id": lists.env_id,
        "seed": lists.seed,
        "actions": [episode.tolist() for episode in lists.actions],
    }
    if lists.kwargs:
        document["env_kwargs"] = dict(lists.kwargs)
    if lists.time_limit is not None:
        document["time_limit"] = lists.time_limit
    with replacing(path) as aside:
        aside.write_text(json.dumps(document))


def read(path: Path) -> ActionLists:
    """Action lists from a file that `write`, or another program, wrote.

    Raises:
        ConfigError: not such a file, a list whose entries cannot be actions, or an environment
            that would import a module nobody has agreed to.
    """
    try:
        document = json.loads(read_text(path))
        env_id, seed, lists = document["env_id"], document["seed"], document["actions"]
        kwargs, time_limit = document.get("env_kwargs", {}), document.get("time_limit")
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refusal(path, " ".join(str(error).split())[:200]) from None
    if type(seed) is not int or seed < 0 or not isinstance(lists, list) or not lists:
        raise refusal(path, "want a seed from 0 up and at least one episode")
    if not isinstance(kwargs, dict):
        raise refusal(path, "want env_kwargs by name")
    values = {"env.id": str(env_id), "env.time_limit": time_limit}
    values |= {f"{KWARGS}.{name}": value for name, value in kwargs.items()}
    try:
        Origin.folder(path.parent).require(values)
        config = configure(values, base=TrainConfig()).env
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    with closing(make_env(config)) as env:
        space = env.action_space
    numbered = enumerate(lists, 1)
    actions = tuple(to_actions(path, k, episode, space) for k, episode in numbered)
    return ActionLists(config.id, seed, actions, config.kwargs, config.time_limit)


def to_actions(
    path: Path, number: int, episode: object, space: gym.Space[Any]
) -> NDArray[np.generic]:
    """One episode's list as what `env.step` takes."""
    try:
        raw = np.array(episode)
    except ValueError:  # lists of unlike length
        raw = np.array(None)
    shape = space.shape or ()
    if raw.dtype.kind not in "if" or raw.shape[1:] != shape or raw.ndim != len(shape) + 1:
        raise refusal(path, f"episode {number} is no list of actions of {space}")
    with np.errstate(over="ignore", invalid="ignore"):
        actions = raw.astype(space.dtype)
    if actions.dtype.kind == "i" and not np.array_equal(actions, raw):
        raise refusal(path, f"episode {number} holds numbers that are none of {space}")
    return actions


def refusal(path: Path, reason: str) -> ConfigError:
    """What a file of action lists is, and why this is none."""
    return ConfigError(
        f"{path} holds no action lists, JSON with env_id, seed and actions: {reason}"
    )
