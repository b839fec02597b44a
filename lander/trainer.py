"""The training loop: collect, update, evaluate at checkpoints, report to the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from lander.agent import Agent, Divergence, require_finite
from lander.config import EnvConfig, TrainConfig
from lander.dotted import flatten
from lander.env import solved_return
from lander.envpool_env import EnvPoolVectorEnv
from lander.errors import ConfigError
from lander.evaluation import Evaluation, evaluate, nothing
from lander.lunar import training_physics
from lander.policy import ActorCritic, make_policy
from lander.resolve import Resolved, resolve
from lander.runner import Episode, Runner
from lander.seeds import FINAL_SEED, checkpoint_seeds, final_seeds, sampled_seeds
from lander.vector import SerialVectorEnv, VectorEnv

LARGE = 1000.0
"""Size of scaled rewards from which they are the likely cause of a divergence."""

State = dict[str, Any]
"""The state of an unfinished training: tensors, numbers and words only, no pickled code."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The report of `train` to its caller after each update."""

    env_steps: int
    """Environment steps so far, summed over the N copies."""
    checkpoint: int
    """k of the last evaluation, which was due at k/K of the budget, whatever the batch size."""
    metrics: Mapping[str, float]
    """This update's point of every curve, by its recorded name."""
    evaluation: Evaluation | None
    """The k-th evaluation, if this update reached it."""
    state: Callable[[], State] = field(repr=False, compare=False)
    """Returns the state from which `train(config, state=...)` resumes; call it before the next
    update."""
    policy: ActorCritic = field(repr=False, compare=False)
    """The policy as it is now: the next update changes it."""


UpdateHook = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run."""

    config: TrainConfig
    """Resolved: `train(result.config)` returns the same weights."""
    env_steps: int
    """Steps trained on."""
    policy: ActorCritic
    """The one that `final` evaluates: that of the end of the budget, unless `final_policy` says
    otherwise."""
    best_policy: ActorCritic
    """The policy at the first of the best checkpoints."""
    checkpoints: tuple[Evaluation, ...]
    final: Evaluation
    """Deterministic, on seeds of its own."""
    final_sampled: Evaluation
    """The first of the same episodes, with sampled actions."""

    @property
    def metrics(self) -> dict[str, float]:
        """The final numbers by their recorded names."""
        metrics = {
            "final/return_mean": self.final.return_mean,
            "final/return_std": self.final.return_std,
            "final/return_sampled_mean": self.final_sampled.return_mean,
        }
        threshold = solved_return(self.config.env)
        if threshold is not None:
            metrics["final/success_rate"] = self.final.success_rate(threshold)
        return metrics


def ignore(progress: Progress) -> None:
    """The default of `on_update`: ignore the progress."""


def train(
    config: TrainConfig | Resolved,
    *,
    on_update: UpdateHook = ignore,
    check: Callable[[], None] = nothing,
    state: State | None = None,
) -> TrainResult:
    """Train a policy; call `on_update` after every update, `check` before every step of evaluation.

    To stop early, raise from either: the environments are closed and the exception reaches the
    caller unchanged. With the `state` of an earlier `Progress` of this config, training resumes
    from there, with the same result to the bit. A config that is resolved is not checked again.

    Raises:
        ConfigError: the environment cannot be made or played, or options that exclude each other.
        EnvFault: the environment departs from Gymnasium's interface, or gives what is not finite.
        Divergence: a loss, a weight or an action is no longer finite, or a loss has exploded.

    >>> from lander.dotted import configure
    >>> values = {"env.id": "CartPole-v1", "env.num_envs": 2, "ppo.rollout_steps": 32}
    >>> values |= {"ppo.minibatch_size": 32, "total_steps": 128, "checkpoints": 2}
    >>> config = configure(values | {"eval_episodes": 1, "final_episodes": 3}, base=TrainConfig())
    >>> result = train(config, on_update=lambda progress: print(progress.env_steps))
    64
    128
    >>> len(result.checkpoints), len(result.final.returns), result.config.policy.head
    (2, 3, 'categorical')
    """
    config = (config if isinstance(config, Resolved) else resolve(config)).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs, check=check)
        if state is not None:
            training.restore(state)
        while training.env_steps < config.budget:
            on_update(training.update())
    return training.result()


def make_vector_env(env: EnvConfig) -> VectorEnv:
    """The training environments of a config.

    Raises:
        ConfigError: the environment cannot be made.
    """
    if env.backend == "envpool":
        return EnvPoolVectorEnv(env.id, env.num_envs, time_limit=env.time_limit)
    physics = training_physics(env)
    return SerialVectorEnv(env, env.num_envs, time_limit=env.time_limit, physics=physics)


class Training:
    """A training in progress: everything that changes from update to update."""

    def __init__(
        self, config: TrainConfig, envs: VectorEnv, *, check: Callable[[], None] = nothing
    ) -> None:
        self.env_steps = 0
        self._config = config
        self._check = check
        self._largest = 0.0
        """Largest scaled reward of the last rollout, without its sign."""
        self._generator = torch.Generator().manual_seed(config.seed)
        self._policy = make_policy(config, generator=self._generator)
        self._best_policy = snapshot(self._policy, config)
        self._checkpoint = 0
        self._evaluations: list[Evaluation] = []
        self._runner = Runner(envs, self._policy, config, generator=self._generator)
        self._agent = Agent(self._policy, config.ppo)
        self._updates = 0

    def update(self) -> Progress:
        """Collect a rollout, learn from it, evaluate where a checkpoint is due."""
        self._updates += 1
        try:
            progress = self._update()
            require_finite(progress.metrics)
        except Divergence as error:
            raise Divergence(f"update {self._updates}: {error}{self._hint()}") from None
        return progress

    def _hint(self) -> str:
        """The likely remedy for a divergence, if one is known."""
        if self._largest < LARGE:
            return ""
        scale = self._config.env.reward_scale
        return f"; scaled rewards reach {self._largest:.3g}: lower env.reward_scale, now {scale}"

    def _update(self) -> Progress:
        config, policy = self._config, self._policy
        started = time.perf_counter()
        remaining = 1 - self.env_steps / config.budget
        policy.head.anneal(remaining)
        rollout, episodes = self._runner.collect()
        self._largest = float(rollout.rewards.abs().max())
        losses = self._agent.update(rollout, remaining=remaining, generator=self._generator)
        # only now: the rollout's log-probabilities and values hold for the statistics before it
        if policy.obs_moments is not None:
            policy.obs_moments.update(rollout.obs.flatten(0, 1))
        seconds = time.perf_counter() - started
        self.env_steps += rollout.env_steps
        evaluation = self._evaluate()
        return Progress(
            env_steps=self.env_steps,
            checkpoint=self._checkpoint,
            metrics=episode_metrics(episodes)
            | losses
            | evaluation_metrics(evaluation)
            | {"time/env_steps_per_second": rollout.env_steps / seconds},
            evaluation=evaluation,
            state=self.state,
            policy=policy,
        )

    def _evaluate(self) -> Evaluation | None:
        config, due = self._config, self._config.checkpoint_at(self.env_steps)
        if due == self._checkpoint:
            return None
        self._checkpoint = due
        evaluation = evaluate(
            self._policy,
            config.env,
            seeds=checkpoint_seeds(config),
            physics=training_physics(config.env),
            check=self._check,
        )
        if all(evaluation.return_mean > past.return_mean for past in self._evaluations):
            self._best_policy = snapshot(self._policy, config)
        self._evaluations.append(evaluation)
        return evaluation

    def result(self) -> TrainResult:
        """The trained policy, evaluated on seeds that training has not used."""
        config = self._config
        policy = self._best_policy if config.final_policy == "best" else self._policy
        play = partial(evaluate, policy, config.env, check=self._check)
        sampling = torch.Generator().manual_seed(FINAL_SEED)
        result = TrainResult(
            config,
            self.env_steps,
            snapshot(policy, config),
            self._best_policy,
            tuple(self._evaluations),
            final=play(seeds=final_seeds(config)),
            final_sampled=play(seeds=sampled_seeds(config), generator=sampling),
        )
        require_finite(result.metrics)
        return result

    def state(self) -> State:
        """The whole state, copied, so that later updates do not change it."""
        state = {
            "config": flatten(self._config),
            "env_steps": self.env_steps,
            "updates": self._updates,
            "checkpoint": self._checkpoint,
            "generator": self._generator.get_state(),
            "policy": self._policy.state_dict(),
            "best_policy": self._best_policy.state_dict(),
            "evaluations": [evaluation.state() for evaluation in self._evaluations],
            "runner": self._runner.state(),
            "agent": self._agent.state(),
        }
        return deepcopy(state)

    def restore(self, state: State) -> None:
        """Continue the training that gave this state.

        Raises:
            ConfigError: the state of another config, or an environment that does not repeat itself.
        """
        if state.get("config") != flatten(self._config):
            raise ConfigError("this state belongs to a training with another config")
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"this state was written by another version: {error!r}") from None

    def _restore(self, state: State) -> None:
        self.env_steps = int(state["env_steps"])
        self._updates = int(state["updates"])
        self._checkpoint = int(state["checkpoint"])
        self._policy.load_state_dict(state["policy"])
        self._best_policy.load_state_dict(state["best_policy"])
        self._evaluations = [Evaluation.of(evaluation) for evaluation in state["evaluations"]]
        self._runner.restore(state["runner"])
        self._agent.restore(state["agent"])
        self._generator.set_state(state["generator"])


def snapshot(policy: ActorCritic, config: TrainConfig) -> ActorCritic:
    """A copy of the policy in its own tensors."""
    copy = make_policy(config, generator=torch.Generator())
    copy.load_state_dict(policy.state_dict())
    return copy


def may_evaluate(config: TrainConfig, progress: Progress) -> bool:
    """Whether an evaluation may be due after the next update."""
    if config.ppo.rollout_episodes is not None:
        return True  # of unknown length
    batch_size = config.env.num_envs * config.ppo.rollout_steps
    return config.checkpoint_at(progress.env_steps + batch_size) > progress.checkpoint


def frozen(progress: Progress) -> Progress:
    """The progress with its present state, to be kept beyond the next update."""
    state = progress.state()
    return replace(progress, state=lambda: state)


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
