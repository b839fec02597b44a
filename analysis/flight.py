"""A policy's flights, step by step: where it was, what it did, what it expected, how it ended."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from lander.checkpoint import load
from lander.config import TrainConfig
from lander.env import AnyEnv
from lander.errors import ConfigError
from lander.evaluation import FLIGHT_SEED, evaluate, seed_range, whole_episode
from lander.interface import handed
from lander.policy import ActorCritic
from sweeps.schema import POLICY_FILE, RUN_ID, seed_folder
from sweeps.scores import median_index, seed_scores
from sweeps.store.trials import find_trial
from sweeps.sweep import Sweep

LANDER: Final = "LunarLander"
"""How the names of the environments begin whose observations are understood here."""


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """A trained policy and where it is from."""

    policy: ActorCritic
    config: TrainConfig
    trial: int
    training: int
    """Of the trial's, from 0."""

    @property
    def is_lander(self) -> bool:
        return self.config.env.id.startswith(LANDER)


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode on the stock environment."""

    seed: int
    obs: NDArray[np.float32]
    """(T + 1, obs): s_0 to s_T."""
    actions: NDArray[np.generic]
    """(T,) or (T, A): as `env.step` took them."""
    rewards: NDArray[np.float64]
    """(T,), raw."""
    terminated: bool
    """The episode was over; otherwise the time limit cut it."""

    @property
    def total_reward(self) -> float:
        return float(self.rewards.sum())

    @property
    def ending(self) -> str:
        """How LunarLander ended it: its last reward says so, +-100 in place of everything else."""
        if not self.terminated:
            return "time limit"
        if self.rewards[-1] == 100:
            return "came to rest"
        return "flew away" if abs(self.obs[-1, 0]) >= 1 else "crashed"


def best_pilot(sweep: Sweep) -> TrainedPolicy:
    """The policy of the best trial, or of the confirmed winner.

    Raises:
        ConfigError: no trial has finished, or its weights are gone.
    """
    return pilot_of(sweep, find_trial(sweep.optuna, "best"))


def pilot_of(sweep: Sweep, trial: FrozenTrial) -> TrainedPolicy:
    """The policy of a finished trial; of several trainings that of the median one.

    Raises:
        ConfigError: the weights are missing, or not those of this program.
    """
    training = median_index(seed_scores(trial) or [0.0])
    name = seed_folder(training, of=sweep.study.settings.seeds_per_trial) + POLICY_FILE
    with TemporaryDirectory() as folder:
        try:
            run_id = str(trial.user_attrs[RUN_ID])
            path = Path(sweep.store.runs().download_artifacts(run_id, name, folder))
        except Exception as error:  # MLflow raises many kinds for a missing artifact
            raise ConfigError(f"trial {trial.number} has no {name}: {error}") from None
        try:
            policy, config = load(path, origin=sweep.store.origin)
        except ConfigError as error:  # the folder is gone when that is read
            raise ConfigError(str(error).replace(str(path), name)) from None
    return TrainedPolicy(policy, config, trial.number, training)


def fly(pilot: TrainedPolicy, episodes: int, *, sampled: bool = False) -> list[Episode]:
    """Flights on reset seeds that nothing has been chosen by, those of `python -m lander fly`."""
    seeds = seed_range(FLIGHT_SEED, episodes)
    generator = torch.Generator().manual_seed(FLIGHT_SEED) if sampled else None
    flown = evaluate(pilot.policy, pilot.config.env, seeds=seeds, generator=generator)
    pairs = zip(flown.seeds, flown.actions, strict=True)
    return [retrace(pilot.config.env, seed, actions) for seed, actions in pairs]


def retrace(env: AnyEnv, seed: int, actions: NDArray[np.generic]) -> Episode:
    """Fly recorded actions again and keep every step: the same episode, to the bit, unless the
    environment does not repeat itself."""
    obs: list[NDArray[np.float32]] = []
    rewards: list[float] = []
    terminated = truncated = False
    with closing(whole_episode(env, seed)) as one:
        obs.append(np.array(one.reset(seed), dtype=np.float32))
        for action in actions:
            if terminated or truncated:
                break
            row, reward, terminated, truncated = one.step(handed(action))
            obs.append(np.array(row, dtype=np.float32))
            rewards.append(reward)
    return Episode(seed, np.stack(obs), actions[: len(rewards)], np.array(rewards), terminated)


def expected(pilot: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): V(s_t) in raw units of reward."""
    return raw_values(pilot, flight.obs[:-1])


@torch.no_grad()
def raw_values(pilot: TrainedPolicy, obs: NDArray[np.float32]) -> NDArray[np.float64]:
    """V of states in raw units of reward: the critic speaks of scaled ones.

    With a running scale, of the scale that training ended with.
    """
    scale = pilot.config.env.reward_scale
    if scale == "running":
        moments = pilot.policy.reward_moments
        assert moments is not None
        scale = 1 / float(moments.std)
    values = pilot.policy.value(torch.from_numpy(obs))
    return np.asarray(values.double().numpy() / scale)


def realised(pilot: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): G_t = sum_k gamma^k (r_{t+k} - step_cost), what V(s_t) should have been.

    A time limit hides what would have followed: V(s_T) stands for it there, as in training.
    """
    gamma, step_cost = pilot.config.ppo.gamma, pilot.config.env.step_cost
    found = np.zeros(len(flight.rewards))
    ahead = 0.0 if flight.terminated else float(raw_values(pilot, flight.obs[-1:])[0])
    for t in reversed(range(len(found))):
        ahead = flight.rewards[t] - step_cost + gamma * ahead
        found[t] = ahead
    return found


@torch.no_grad()
def entropies(pilot: TrainedPolicy, flight: Episode) -> NDArray[np.float64]:
    """(T,): entropy of pi(.|s_t), nats."""
    pi = pilot.policy.distribution(torch.from_numpy(flight.obs[:-1]))
    return np.asarray(pi.entropy().double().numpy())
