"""How fast this machine trains a config, measured on a few rollouts."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Final

import torch

from lander.agent import Agent
from lander.config import TrainConfig
from lander.env import env_spec
from lander.policy import make_policy
from lander.runner import Runner
from lander.trainer import make_vector_env

WARM_STEPS: Final = 100
"""Gradient steps, and steps of the environments, before the clock counts: `lander.graph` records
what is called often, and is faster from then on."""
SHORT_EPISODE: Final = 100
"""Steps of an episode of a policy that fails at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """CPU seconds of the parts of a training."""

    step: float
    """For a step of one environment in a rollout."""
    gradient: float
    """For a gradient step."""

    def training(self, config: TrainConfig) -> float:
        """Seconds of the rollouts and updates of a training."""
        batch = rollout_steps(config)
        minibatches = ceil(batch / config.ppo.minibatch_size)
        updates = config.budget / batch
        gradients = updates * config.ppo.update_epochs * minibatches
        return config.budget * self.step + gradients * self.gradient

    def evaluation(self, config: TrainConfig) -> tuple[float, float]:
        """Seconds of all evaluated episodes, if each ends soon, and if each lasts to the limit."""
        episodes = config.checkpoints * config.eval_episodes
        episodes += config.final_episodes + config.sampled_episodes
        limit = env_spec(config.env).max_episode_steps or config.env.time_limit or SHORT_EPISODE
        ends = min(SHORT_EPISODE, limit), limit
        least, most = (episodes * steps * self.step for steps in ends)
        return least, most


def rollout_steps(config: TrainConfig) -> int:
    """Environment steps between two updates; of whole episodes a guess."""
    episodes = config.ppo.rollout_episodes
    if episodes is None:
        return config.rollout
    limit = config.env.time_limit or env_spec(config.env).max_episode_steps or 10 * SHORT_EPISODE
    return episodes * min(limit, 3 * SHORT_EPISODE)


def pace_of(config: TrainConfig, *, seconds: float = inf) -> Pace:
    """Measure a resolved config, for about so many CPU seconds or until it is warm; CPU time, so
    that what else runs on the machine does not count.

    The fastest rollout and update count: whatever disturbs them makes them slower.
    """
    generator = torch.Generator().manual_seed(config.seed)
    batch = rollout_steps(config)
    per_epoch = ceil(batch / config.ppo.minibatch_size)
    ppo = replace(config.ppo, update_epochs=max(1, min(config.ppo.update_epochs, 8)), kl_stop=None)
    short = replace(config, ppo=ppo)
    step = gradient = inf
    steps = gradients = 0
    end = time.process_time() + seconds
    with closing(make_vector_env(config.env)) as envs:
        policy = make_policy(short, generator=generator)
        runner = Runner(envs, policy, short, generator=generator)
        agent = Agent(policy, ppo)
        while True:
            before = time.process_time()
            rollout, _ = runner.collect()
            collected = time.process_time()
            agent.update(rollout, remaining=1.0, generator=generator)
            updated = time.process_time()
            step = min(step, (collected - before) / rollout.env_steps)
            gradient = min(gradient, (updated - collected) / (ppo.update_epochs * per_epoch))
            steps += rollout.env_steps // config.env.num_envs
            gradients += ppo.update_epochs * per_epoch
            warm = min(steps, gradients) >= 2 * WARM_STEPS
            if warm or time.process_time() >= end:
                return Pace(step, gradient)
