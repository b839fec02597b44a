"""Plays the policy in the environments and returns rollouts and finished episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lander.config import TrainConfig
from lander.errors import ConfigError
from lander.graph import GraphCache
from lander.policy import ActorCritic
from lander.rollout import Rollout
from lander.vector import EpisodeStart, VectorEnv

REWARD_CLIP = 10.0
"""Bound of rewards divided by the running std of the return, as in baselines' VecNormalize."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished training episode: undiscounted, unscaled return and number of steps."""

    total_reward: float
    length: int


class Runner:
    """Collects rollouts from N environments; episodes continue from one rollout to the next."""

    def __init__(
        self,
        envs: VectorEnv,
        policy: ActorCritic,
        config: TrainConfig,
        *,
        generator: torch.Generator,
    ) -> None:
        self._envs = envs
        self._policy = policy
        self._config = config
        self._generator = generator
        self._calls = GraphCache()
        # from 2^31 up, clear of the seeds of evaluation episodes, which lie below
        seeds = np.random.SeedSequence(config.seed).generate_state(len(envs)) | np.uint32(2**31)
        self._obs = torch.from_numpy(envs.reset(seeds.tolist()))
        self._returns = np.zeros(len(envs))
        self._lengths = np.zeros(len(envs), dtype=np.int64)
        self._discounted = torch.zeros(1)
        """(N,) or all zero: rewards so far of each column's unfinished episode, older ones
        discounted more."""

    @torch.no_grad()
    def collect(self) -> tuple[Rollout, list[Episode]]:
        """Play T steps in every copy, or every copy's share of whole episodes; also the episodes
        that ended meanwhile.

        >>> from lander.config import EnvConfig, PPOConfig
        >>> from lander.policy import make_policy
        >>> from lander.resolve import resolve
        >>> from lander.vector import SerialVectorEnv
        >>> env = EnvConfig(id="CartPole-v1", num_envs=2)
        >>> ppo = PPOConfig(rollout_steps=64, minibatch_size=64)
        >>> config = resolve(TrainConfig(env=env, ppo=ppo)).config
        >>> generator = torch.Generator().manual_seed(0)
        >>> policy = make_policy(config, generator=generator)
        >>> runner = Runner(SerialVectorEnv(env, 2), policy, config, generator=generator)
        >>> rollout, episodes = runner.collect()
        >>> tuple(rollout.obs.shape), tuple(rollout.actions.shape), len(episodes) > 0
        ((64, 2, 4), (64, 2, 1), True)
        """
        episodes = self._config.ppo.rollout_episodes
        if episodes is None:
            return self._collect_steps(self._config.ppo.rollout_steps)
        return self._collect_episodes(episodes // len(self._envs))

    def _collect_steps(self, steps: int) -> tuple[Rollout, list[Episode]]:
        policy, num_envs = self._policy, len(self._envs)
        obs = torch.empty(steps + 1, num_envs, self._obs.shape[-1])
        actions: list[Tensor] = []
        rewards = np.empty((steps, num_envs))
        terminated = np.empty((steps, num_envs), dtype=np.bool_)
        truncated = np.empty((steps, num_envs), dtype=np.bool_)
        last_obs: list[NDArray[np.float32]] = []
        noise = policy.distribution(self._obs).noise(steps, self._generator)
        for t, (seen, draw) in enumerate(zip(obs[:steps], noise, strict=True)):
            seen.copy_(self._obs)
            chosen, sent = self._calls(policy.act, (seen, draw), constants="")
            actions.append(chosen)
            step = self._envs.step(sent.numpy())
            rewards[t], terminated[t], truncated[t] = step.rewards, step.terminated, step.truncated
            last_obs += step.last_obs
            self._obs = torch.from_numpy(step.obs)
        obs[steps] = self._obs
        rollout = self._rollout(
            obs,
            torch.stack(actions),
            torch.from_numpy(rewards).float(),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
            last_obs,
        )
        return rollout, self._finished(rewards, terminated | truncated)

    def _collect_episodes(self, share: int) -> tuple[Rollout, list[Episode]]:
        """Collect `share` episodes from each copy; taking the first to finish would favour short
        episodes."""
        policy, head, num_envs = self._policy, self._policy.head, len(self._envs)
        left = np.full(num_envs, share)
        played: list[tuple[NDArray[np.intp], Tensor, Tensor, Any]] = []
        last_obs: list[list[NDArray[np.float32]]] = [[] for _ in range(num_envs)]
        while left.any():
            copies = np.flatnonzero(left)
            obs = self._obs[copies]
            actions = policy.distribution(obs).sample(self._generator)
            step = self._envs.step(head.to_env(actions).numpy(), copies)
            played.append((copies, obs, actions, step))
            for copy, row in zip(copies[step.truncated], step.last_obs, strict=True):
                last_obs[copy].append(row)
            left[copies] -= step.terminated | step.truncated
            self._obs[copies] = torch.from_numpy(step.obs)
        # reorder from time first to copy first: the episodes of a copy follow one another
        order = np.argsort(np.concatenate([copies for copies, *_ in played]), kind="stable")

        def column(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts)[order].unsqueeze(1)

        obs = column([obs for _, obs, _, _ in played])
        rewards = column([torch.from_numpy(step.rewards) for *_, step in played])
        terminated = column([torch.from_numpy(step.terminated) for *_, step in played])
        truncated = column([torch.from_numpy(step.truncated) for *_, step in played])
        rollout = self._rollout(
            torch.cat((obs, obs[-1:])),  # a successor that no episode reaches
            column([actions for _, _, actions, _ in played]),
            rewards.float(),
            terminated,
            truncated,
            [row for rows in last_obs for row in rows],
        )
        return rollout, self._finished(rewards.numpy(), (terminated | truncated).numpy())

    def _rollout(
        self,
        obs: Tensor,
        actions: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        last_obs: list[NDArray[np.float32]],
    ) -> Rollout:
        """A rollout from obs (T + 1, N, obs), raw rewards (T, N) and the last observation of each
        truncated episode."""
        policy, shape = self._policy, rewards.shape
        # the policy has not changed meanwhile, so values and log-probabilities come in one batch
        values = policy.value(obs.flatten(0, 1)).view(len(obs), -1)
        next_values = values[1:].clone()
        if last_obs:
            # at a time limit obs[t + 1] is already the next episode's: take the true successor
            ends = policy.value(torch.as_tensor(np.stack(last_obs), dtype=torch.float32))
            next_values[truncated] = ends
        pi = policy.distribution(obs[:-1].flatten(0, 1)).detached()
        return Rollout(
            obs=obs[:-1],
            actions=actions,
            log_probs=pi.log_prob(actions.flatten(0, 1)).view(shape),
            pi=pi,
            values=values[:-1],
            next_values=next_values,
            rewards=self._scaled(rewards, terminated | truncated),
            terminated=terminated,
            truncated=truncated,
        )

    def _scaled(self, rewards: Tensor, done: Tensor) -> Tensor:
        """Raw rewards (T, N) as the agent learns from them."""
        scale, moments = self._config.env.reward_scale, self._policy.reward_moments
        rewards = rewards - self._config.env.step_cost
        if scale != "running":
            return rewards * scale
        assert moments is not None
        # as in VecNormalize the sum is over the past: R_t = r_t + gamma R_{t-1}
        discounted = torch.empty_like(rewards)
        for t, reward in enumerate(rewards):
            discounted[t] = reward + self._config.ppo.gamma * self._discounted
            self._discounted = discounted[t] * ~done[t]
        moments.update(discounted.flatten())
        return (rewards / moments.std).clamp(-REWARD_CLIP, REWARD_CLIP)

    def _finished(self, rewards: NDArray[np.float64], done: NDArray[np.bool_]) -> list[Episode]:
        """The episodes that ended in a rollout, in order, from raw rewards and ends (T, N); what is
        unfinished counts in the next one."""
        episodes: list[Episode] = []
        starts = [0] * done.shape[1]
        for last, copy in np.argwhere(done).tolist():
            self._count(copy, rewards[starts[copy] : last + 1, copy])
            episodes.append(Episode(float(self._returns[copy]), int(self._lengths[copy])))
            self._returns[copy], self._lengths[copy], starts[copy] = 0.0, 0, last + 1
        for copy, start in enumerate(starts):
            self._count(copy, rewards[start:, copy])
        return episodes

    def _count(self, copy: int, rewards: NDArray[np.float64]) -> None:
        """Add steps to a copy's unfinished episode, one after another: `sum` would add pairs, and
        round differently."""
        self._returns[copy] = np.append(self._returns[copy], rewards).cumsum()[-1]
        self._lengths[copy] += len(rewards)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to continue the same unfinished episodes."""
        return {
            "flights": [  # the word in the files of all versions
                {"start": episode.start, "actions": torch.from_numpy(np.array(episode.actions))}
                for episode in self._envs.unfinished
            ],
            "obs": self._obs.clone(),
            "returns": self._returns.tolist(),
            "lengths": self._lengths.tolist(),
            "discounted": self._discounted,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Play every unfinished episode again from its start.

        Raises:
            ConfigError: this environment does not repeat itself.
        """
        unfinished = [
            EpisodeStart(episode["start"], list(episode["actions"].numpy()))
            for episode in state["flights"]
        ]
        obs = torch.from_numpy(self._envs.restore(unfinished))
        if not torch.equal(obs, state["obs"]):
            raise ConfigError(
                f"{self._config.env.id} does not repeat its episodes here: cannot continue them"
            )
        self._obs = obs
        self._returns = np.array(state["returns"])
        self._lengths = np.array(state["lengths"], dtype=np.int64)
        self._discounted = state["discounted"]
