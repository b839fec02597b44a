"""Flights of a recorded policy, step by step: states, actions, expected and realised returns."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lander.env import AnyEnv
from lander.evaluation import evaluate, whole_episode
from lander.seeds import FLIGHT_SEED, seed_range
from sweeps.publish.policies import TrainedPolicy, policy_of
from sweeps.store.best_policy import recorded_policy
from sweeps.store.trials import find_trial
from sweeps.sweep import Sweep, open_sweep

LANDER: Final = "LunarLander"
"""The prefix of the ids of the environments whose observations are understood here."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode on the stock environment."""

    seed: int
    obs: NDArray[np.float32]
    """(T + 1, obs): s_0 to s_T."""
    actions: NDArray[np.generic]
    """(T,) or (T, A): the actions passed to `env.step`."""
    rewards: NDArray[np.float64]
    """(T,), raw."""
    terminated: bool
    """Whether the episode reached a terminal state; otherwise the time limit cut it."""

    @property
    def total_reward(self) -> float:
        return float(self.rewards.sum())

    @property
    def ending(self) -> str:
        """How LunarLander ended the episode, by its last reward: +100, -100 or any other."""
        if not self.terminated:
            return "time limit"
        if self.rewards[-1] == 100:
            return "came to rest"
        return "flew away" if abs(self.obs[-1, 0]) >= 1 else "crashed"


def best_policy(sweep: Sweep) -> TrainedPolicy:
    """The policy of models:/NAME@best; before one is registered, that of the best trial.

    Raises:
        ConfigError: no trial has finished, or its weights are missing.
    """
    best = recorded_policy(sweep.optuna)
    if best is None:
        return policy_of(sweep, find_trial(sweep.optuna, "best"))
    owner = sweep if best.study == sweep.study.name else open_sweep(sweep.store, best.study)
    return policy_of(owner, owner.read_trials().all[best.trial], training=best.training)


def is_lander(trained: TrainedPolicy) -> bool:
    """Whether its environment's observations are those of LunarLander."""
    return trained.config.env.id.startswith(LANDER)


def fly(trained: TrainedPolicy, episodes: int, *, sampled: bool = False) -> list[Episode]:
    """Flights on the reset seeds of `python -m lander fly`, by which nothing was ever chosen."""
    seeds = seed_range(FLIGHT_SEED, episodes)
    generator = torch.Generator().manual_seed(FLIGHT_SEED) if sampled else None
    flown = evaluate(trained.policy, trained.config.env, seeds=seeds, generator=generator)
    pairs = zip(flown.seeds, flown.actions, strict=True)
    return [retrace(trained.config.env, seed, actions) for seed, actions in pairs]


def retrace(env: AnyEnv, seed: int, actions: NDArray[np.generic]) -> Episode:
    """Replay recorded actions and keep every step: the same episode to the bit, if the environment
    is deterministic."""
    obs: list[NDArray[np.float32]] = []
    rewards: list[float] = []
    terminated = truncated = False
    with closing(whole_episode(env, seed)) as one:
        obs.append(np.array(one.reset(seed), dtype=np.float32))
        for action in actions:
            if terminated or truncated:
                break
            row, reward, terminated, truncated = one.step(action)
            obs.append(np.array(row, dtype=np.float32))
            rewards.append(reward)
    return Episode(seed, np.stack(obs), actions[: len(rewards)], np.array(rewards), terminated)


def expected(trained: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): V(s_t) in raw units of reward."""
    return raw_values(trained, flight.obs[:-1])


@torch.no_grad()
def raw_values(trained: TrainedPolicy, obs: NDArray[np.float32]) -> NDArray[np.float64]:
    """V of states in raw units of reward: the critic's output divided by the reward scale.

    A running scale counts with its value at the end of training.
    """
    scale = trained.config.env.reward_scale
    if scale == "running":
        moments = trained.policy.reward_moments
        assert moments is not None
        scale = 1 / float(moments.std)
    values = trained.policy.value(torch.from_numpy(obs))
    return np.asarray(values.double().numpy() / scale)


def realised(trained: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): G_t = sum_k gamma^k (r_{t+k} - step_cost), the return that V(s_t) estimates.

    After a time limit V(s_T) stands in for the rewards that would have followed, as in training.
    """
    gamma, step_cost = trained.config.ppo.gamma, trained.config.env.step_cost
    returns = np.zeros(len(flight.rewards))
    ahead = 0.0 if flight.terminated else float(raw_values(trained, flight.obs[-1:])[0])
    for t in reversed(range(len(returns))):
        ahead = flight.rewards[t] - step_cost + gamma * ahead
        returns[t] = ahead
    return returns


@torch.no_grad()
def entropies(trained: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): entropy of pi(.|s_t), nats."""
    pi = trained.policy.distribution(torch.from_numpy(flight.obs[:-1]))
    return np.asarray(pi.entropy().double().numpy())
