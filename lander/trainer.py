"""The training loop: collect, update, sometimes evaluate, tell the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from lander.agent import Agent, Divergence
from lander.config import TrainConfig
from lander.env import VectorEnv, resolve, solved_return
from lander.evaluation import CHECKPOINT_SEED, FINAL_SEED, Evaluation, evaluate, seed_range
from lander.policy import ActorCritic, make_policy
from lander.runner import Episode, Runner


@dataclass(frozen=True, slots=True)
class Progress:
    """What `train` tells its caller after each update."""

    env_steps: int
    """Environment steps so far, summed over the N copies."""
    checkpoint: int
    """Evaluations so far; the k-th is due at k/K of the budget, whatever the batch size."""
    metrics: Mapping[str, float]
    """This update's point of every curve, by its recorded name."""
    evaluation: Evaluation | None
    """The k-th evaluation, if this update reached it."""


UpdateHook = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run."""

    config: TrainConfig
    """Resolved: `train(result.config)` returns the same weights."""
    policy: ActorCritic
    """As it was at the end of the budget: what `final` describes."""
    best_policy: ActorCritic
    """As it was at the first of the best checkpoints."""
    checkpoints: tuple[Evaluation, ...]
    final: Evaluation
    """Deterministic, on seeds of its own."""
    final_sampled: Evaluation
    """The same episodes with sampled actions."""

    @property
    def metrics(self) -> dict[str, float]:
        """The final numbers by their recorded names."""
        metrics = {
            "final/return_mean": self.final.return_mean,
            "final/return_std": self.final.return_std,
            "final/return_sampled_mean": self.final_sampled.return_mean,
        }
        threshold = solved_return(self.config.env.id)
        if threshold is not None:
            metrics["final/success_rate"] = self.final.success_rate(threshold)
        return metrics


def ignore(progress: Progress) -> None:
    """Do nothing with it."""


def train(config: TrainConfig, *, on_update: UpdateHook = ignore) -> TrainResult:
    """Train a policy; call `on_update` after every update.

    To stop early, raise from `on_update`: the environments are closed and the exception reaches
    the caller unchanged.

    Raises:
        ConfigError: the environment cannot be made or played, or the head does not fit it.
        Divergence: a loss or a weight is no longer finite.
    """
    config = resolve(config)
    env_id, ppo = config.env.id, config.ppo
    generator = torch.Generator().manual_seed(config.seed)
    policy = make_policy(config, generator=generator)
    best_policy = snapshot(policy, config)
    checkpoints: list[Evaluation] = []
    with closing(VectorEnv(env_id, config.env.num_envs)) as envs:
        runner = Runner(
            envs,
            policy,
            reward_scale=config.env.reward_scale,
            seed=config.seed,
            generator=generator,
        )
        agent = Agent(policy, ppo)
        for update in range(1, config.num_updates + 1):
            started = time.perf_counter()
            rollout, episodes = runner.collect(ppo.rollout_steps)
            try:
                losses = agent.update(
                    rollout, learning_rate=config.learning_rate_at(update), generator=generator
                )
            except Divergence as error:
                raise Divergence(f"update {update}: {error}") from None
            seconds = time.perf_counter() - started
            evaluation = None
            if update in config.checkpoint_updates:
                evaluation = evaluate(
                    policy, env_id, seeds=seed_range(CHECKPOINT_SEED, config.eval_episodes)
                )
                if all(evaluation.return_mean > past.return_mean for past in checkpoints):
                    best_policy = snapshot(policy, config)
                checkpoints.append(evaluation)
            on_update(
                Progress(
                    env_steps=update * config.batch_size,
                    checkpoint=len(checkpoints),
                    metrics=episode_metrics(episodes)
                    | losses
                    | evaluation_metrics(evaluation)
                    | {"time/env_steps_per_second": config.batch_size / seconds},
                    evaluation=evaluation,
                )
            )
    seeds = seed_range(FINAL_SEED, config.final_episodes)
    return TrainResult(
        config,
        snapshot(policy, config),
        best_policy,
        tuple(checkpoints),
        final=evaluate(policy, env_id, seeds=seeds),
        final_sampled=evaluate(
            policy, env_id, seeds=seeds, generator=torch.Generator().manual_seed(FINAL_SEED)
        ),
    )


def snapshot(policy: ActorCritic, config: TrainConfig) -> ActorCritic:
    """A copy as it is now, in tensors of its own."""
    copy = make_policy(config, generator=torch.Generator())
    copy.load_state_dict(policy.state_dict())
    return copy


def episode_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """Mean return and length of the episodes that ended in a rollout; empty if none did."""
    if not episodes:
        return {}
    return {
        "train/return_mean": float(np.mean([episode.total_reward for episode in episodes])),
        "train/length_mean": float(np.mean([episode.length for episode in episodes])),
    }


def evaluation_metrics(evaluation: Evaluation | None) -> dict[str, float]:
    """Mean and standard deviation over the episodes of a checkpoint; empty between them."""
    if evaluation is None:
        return {}
    return {
        "eval/return_mean": evaluation.return_mean,
        "eval/return_std": evaluation.return_std,
    }
