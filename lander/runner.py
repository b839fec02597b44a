"""Plays the policy in the environments and returns what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lander.env import VectorEnv
from lander.policy import ActorCritic
from lander.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished training episode: undiscounted, unscaled return and number of steps."""

    total_reward: float
    length: int


class Runner:
    """Keeps N episodes going across rollouts."""

    def __init__(
        self,
        envs: VectorEnv,
        policy: ActorCritic,
        *,
        reward_scale: float,
        seed: int,
        generator: torch.Generator,
    ) -> None:
        self._envs = envs
        self._policy = policy
        self._reward_scale = reward_scale
        self._generator = generator
        # from 2^31 up, clear of the seeds of evaluation episodes, which lie below
        seeds = np.random.SeedSequence(seed).generate_state(len(envs)) | np.uint32(2**31)
        self._obs = torch.from_numpy(envs.reset(seeds.tolist()))
        self._returns = np.zeros(len(envs))
        self._lengths = np.zeros(len(envs), dtype=np.int64)

    @torch.no_grad()
    def collect(self, steps: int) -> tuple[Rollout, list[Episode]]:
        """Play `steps` steps in every copy; also the episodes that ended meanwhile."""
        policy, head, num_envs = self._policy, self._policy.head, len(self._envs)
        obs = torch.empty(steps + 1, num_envs, self._obs.shape[-1])
        actions = torch.empty(steps, num_envs, head.action_dims, dtype=head.action_dtype)
        rewards = np.empty((steps, num_envs), dtype=np.float32)
        terminated = np.empty((steps, num_envs), dtype=np.bool_)
        truncated = np.empty((steps, num_envs), dtype=np.bool_)
        last_obs: list[NDArray[np.float32]] = []
        episodes: list[Episode] = []
        for t in range(steps):
            obs[t] = self._obs
            actions[t] = policy.distribution(self._obs).sample(self._generator)
            step = self._envs.step(head.to_env(actions[t]).numpy())
            rewards[t] = step.rewards * self._reward_scale
            terminated[t], truncated[t] = step.terminated, step.truncated
            last_obs += step.last_obs
            episodes += self._finish(step.rewards, step.terminated | step.truncated)
            self._obs = torch.from_numpy(step.obs)
        obs[steps] = self._obs

        # the policy stood still meanwhile, so values and log-probabilities come in one batch
        values = policy.value(obs.flatten(0, 1)).view(steps + 1, num_envs)
        next_values = values[1:].clone()
        if last_obs:
            # at a time limit obs[t + 1] is already the next episode's: take the true successor
            cut = torch.as_tensor(np.stack(last_obs), dtype=torch.float32)
            next_values[torch.from_numpy(truncated)] = policy.value(cut)
        pi = policy.distribution(obs[:-1].flatten(0, 1))
        rollout = Rollout(
            obs=obs[:-1],
            actions=actions,
            log_probs=pi.log_prob(actions.flatten(0, 1)).view(steps, num_envs),
            values=values[:-1],
            next_values=next_values,
            rewards=torch.from_numpy(rewards),
            terminated=torch.from_numpy(terminated),
            truncated=torch.from_numpy(truncated),
        )
        return rollout, episodes

    def _finish(self, reward: NDArray[np.float64], done: NDArray[np.bool_]) -> list[Episode]:
        self._returns += reward
        self._lengths += 1
        episodes = [
            Episode(float(self._returns[i]), int(self._lengths[i])) for i in np.flatnonzero(done)
        ]
        self._returns[done] = 0.0
        self._lengths[done] = 0
        return episodes
