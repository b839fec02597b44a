"""Decides the fields that a config leaves open, and refuses fields that do not go together.

The command line of `sweeps` imports this module with every study file. torch and Gymnasium take
seconds to load, so the functions that need them import them: `--help` and `status` do without.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from math import atanh, erfc, sqrt

from lander.config import TrainConfig
from lander.errors import ConfigError
from lander.options import CHOICES, idle_fields, require_known

LUNAR_LANDER = "LunarLanderContinuous"
"""Its main engine fires above 0, its side engines beyond +-0.5: in between is a dead zone."""
RARE = 0.01
"""Share of random actions below which an engine counts as unused."""


class UnflyableWarning(UserWarning):
    """A craft that cannot be flown well: an engine that can never fire, or never stop."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A config that can be trained."""

    config: TrainConfig
    """With `policy.head` decided."""
    idle: frozenset[str]
    """Dotted fields that do nothing in it; each stands at its default."""


def resolve(config: TrainConfig, *, named: Collection[str] = ()) -> Resolved:
    """Decide `policy.head`, after checking that everything goes together.

    `named` are the dotted fields that a person has set: one that would do nothing is refused even
    at its default.

    Raises:
        ConfigError: an environment that cannot be made or played, a head that does not fit it, or
            options that exclude each other or would do nothing.

    >>> from lander.config import EnvConfig
    >>> resolved = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1")))
    >>> resolved.config.policy.head
    'categorical'
    >>> sorted(name for name in resolved.idle if name.startswith("ppo."))
    ['ppo.baseline', 'ppo.kl_coef', 'ppo.kl_target', 'ppo.n_step']
    """
    # here: see the head of this file
    from lander.env import spaces
    from lander.envpool_env import require_pooled
    from lander.heads import head_for, make_head

    require_known(config)
    if config.env.backend == "envpool":
        if config.env.kwargs:
            raise ConfigError(
                "env.kwargs are for Gymnasium, env.backend = envpool takes none: leave one of them "
                "out"
            )
        require_pooled(config.env.id)
    _, space = spaces(config.env)
    config = replace(config, policy=replace(config.policy, head=head_for(space, config)))
    idle = idle_fields(config, named=named)
    require_agreement(config)
    make_head(space, config)  # refuses a head for which the space is too large or unbounded
    for trouble in dead_zones(config):
        warnings.warn(trouble, UnflyableWarning, stacklevel=2)
    return Resolved(config, idle)


def require_agreement(config: TrainConfig) -> None:
    """Refuse combinations in which an option could not have its effect."""
    policy, ppo = config.policy, config.ppo
    advantages = CHOICES["ppo.advantage"]
    advantage = advantages[ppo.advantage]
    if advantage.critic and not policy.critic:
        without = [name for name, other in advantages.items() if not other.critic]
        raise ConfigError(
            f"ppo.advantage = {ppo.advantage} needs a critic: with policy.critic = false take "
            f"{', '.join(without)}"
        )
    if policy.critic and not advantage.critic:
        raise ConfigError(
            f"ppo.advantage = {ppo.advantage} makes no use of a critic: set policy.critic = false"
        )
    if not policy.critic and ppo.rollout_episodes is None:
        raise ConfigError(
            "policy.critic = false needs whole episodes, as nothing stands in for the rewards "
            f"after a cut: set ppo.rollout_episodes, for example {config.env.num_envs}"
        )
    if ppo.baseline == "mean" and ppo.advantage_norm != "none":
        raise ConfigError(
            f"ppo.baseline = mean is undone by ppo.advantage_norm = {ppo.advantage_norm}, which "
            "subtracts the mean itself: set one of them to none"
        )
    entropy_stands_still = policy.head == "gaussian" and policy.std != "learned"
    given = ppo.entropy_coef != TrainConfig().ppo.entropy_coef
    if entropy_stands_still and not policy.squash and given:
        raise ConfigError(
            f"ppo.entropy_coef does nothing with policy.std = {policy.std}, whose entropy is not "
            "learned: leave it out"
        )


def dead_zones(config: TrainConfig) -> list[str]:
    """Engines of LunarLanderContinuous that its actions can never fire, or never stop."""
    # here: see the head of this file
    from gymnasium.spaces import Box

    from lander.env import spaces
    from lander.heads import bin_levels

    _, space = spaces(config.env)
    if not (isinstance(space, Box) and config.env.id.startswith(LUNAR_LANDER)):
        return []
    if config.policy.head == "gaussian":
        std = config.policy.init_std
        beyond = erfc((atanh(0.5) if config.policy.squash else 0.5) / std / sqrt(2))
        if beyond >= RARE:
            return []
        return [
            f"policy.init_std = {std:g}: the side engines fire beyond +-0.5, which an untrained "
            f"policy reaches in {beyond:.1g} of its actions: take 0.3 or more"
        ]
    if config.env.bins is None:
        return []
    main, side = bin_levels(space, config)
    troubles = {
        "the main engine can never fire": not (main > 0).any(),
        "the main engine can never stop": not (main <= 0).any(),
        "the side engines can never fire": not (side.abs() > 0.5).any(),
        "the side engines can never stop": not (side.abs() <= 0.5).any(),
    }
    bins = config.env.bins
    return [f"env.bins = {bins}: {trouble}" for trouble, true in troubles.items() if true]


def without_effect(config: TrainConfig) -> dict[str, str]:
    """Fields of a resolved config that act in it, and change nothing; and why."""
    # here: see the head of this file
    from lander.env import env_spec

    env, ppo = config.env, config.ppo
    fields: dict[str, str] = {}
    limit = env_spec(env).max_episode_steps
    if env.time_limit is not None and limit is not None and env.time_limit >= limit:
        fields["env.time_limit"] = f"episodes of {env.id} end after {limit} steps anyway"
    cancels = not config.policy.critic and ppo.advantage_norm != "none"
    if cancels and env.reward_scale != "running":
        fields["env.reward_scale"] = "without a critic, normalised advantages cancel a constant"
    one_step = ppo.update_epochs == 1 and ppo.minibatch_size >= config.rollout
    if one_step and ppo.rollout_episodes is None and ppo.surrogate == "clip":
        why = "with a single gradient step per rollout no ratio has left 1"
        fields |= {"ppo.clip_range": why, "ppo.clip_range_schedule": why}
    return fields
