"""How good is a policy? Seeded episodes on stock Gymnasium, whole and unscaled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.env import make_env, spaces
from lander.policy import ActorCritic

CHECKPOINT_SEED = 1_000_000
"""Reset seeds of the evaluations along the way: they choose the best checkpoint, and prune."""
FINAL_SEED = 2_000_000
"""Reset seeds of the evaluation at the end: a sweep maximises its mean."""
FLIGHT_SEED = 3_000_000
"""Reset seeds of `python -m lander fly`: episodes that no training or sweep has looked at."""
TEST_SEED = 4_000_000
"""Reset seeds on which a sweep's choice is confirmed: nothing is ever chosen by them."""


def seed_range(first: int, episodes: int) -> range:
    """Consecutive reset seeds, one per episode."""
    return range(first, first + episodes)


def checkpoint_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluations along the way."""
    return seed_range(CHECKPOINT_SEED, config.eval_episodes)


def final_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluation at the end."""
    first = TEST_SEED if config.final_seeds == "test" else FINAL_SEED
    return seed_range(first, config.final_episodes)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes of one policy; episode i was reset with `seeds[i]`."""

    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    """Undiscounted, in raw environment units."""
    lengths: tuple[int, ...]
    actions: tuple[NDArray[np.generic], ...] = field(repr=False)
    """What `env.step` received: (length,) or (length, A) per episode."""
    seconds: float = field(default=0.0, compare=False)
    """How long the episodes took to play; 0 where that is not known."""

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Population standard deviation over episodes."""
        return float(np.std(self.returns))

    def success_rate(self, threshold: float) -> float:
        """Share of episodes that return at least `threshold`."""
        return float(np.mean([episode >= threshold for episode in self.returns]))

    def state(self) -> dict[str, Any]:
        """As tensors and numbers; `of` reads it back."""
        actions = [torch.from_numpy(episode) for episode in self.actions]
        return {"seeds": list(self.seeds), "returns": list(self.returns), "actions": actions}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """The evaluation that gave this state."""
        actions = tuple(episode.numpy() for episode in state["actions"])
        lengths = tuple(len(episode) for episode in actions)
        return cls(tuple(state["seeds"]), tuple(state["returns"]), lengths, actions)


Pilot = Callable[[NDArray[np.float32]], NDArray[np.generic]]
"""Observations (B, obs) -> what `env.step` takes, one row per episode."""


def evaluate(
    policy: ActorCritic,
    env_id: str,
    *,
    seeds: Sequence[int],
    generator: torch.Generator | None = None,
) -> Evaluation:
    """Play one episode per reset seed: deterministic, or sampled if a generator is given."""
    return play(policy_pilot(policy, generator), env_id, seeds=seeds)


def policy_pilot(policy: ActorCritic, generator: torch.Generator | None = None) -> Pilot:
    """A policy's most probable actions, or sampled ones if a generator is given."""

    @torch.no_grad()
    def pilot(obs: NDArray[np.float32]) -> NDArray[np.generic]:
        pi = policy.distribution(torch.from_numpy(obs))
        actions = pi.mode() if generator is None else pi.sample(generator)
        return policy.head.to_env(actions).numpy()

    return pilot


def random_pilot(env_id: str, *, seed: int) -> Pilot:
    """Actions drawn uniformly from the action space."""
    _, action_space = spaces(env_id)
    action_space.seed(seed)
    return lambda obs: np.stack([action_space.sample() for _ in obs])


def play(pilot: Pilot, env_id: str, *, seeds: Sequence[int]) -> Evaluation:
    """One whole episode per reset seed, so that short ones do not count more often.

    The environments are new, so nothing here touches training.
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        envs = [stack.enter_context(closing(make_env(env_id))) for _ in seeds]
        rows = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
        obs = np.stack(rows).astype(np.float32)
        returns = np.zeros(len(seeds))
        actions: list[list[NDArray[np.generic]]] = [[] for _ in seeds]
        playing = list(range(len(seeds)))
        while playing:
            chosen = pilot(obs)  # always the whole batch, so that its size is the same every time
            still_playing: list[int] = []
            for i in playing:
                obs[i], reward, terminated, truncated, _ = envs[i].step(chosen[i])
                returns[i] += float(reward)
                actions[i].append(chosen[i])
                if not (terminated or truncated):
                    still_playing.append(i)
            playing = still_playing
    return Evaluation(
        tuple(seeds),
        tuple(returns.tolist()),
        tuple(len(episode) for episode in actions),
        tuple(np.stack(episode) for episode in actions),
        time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class Replay:
    """An episode played again from its actions."""

    total_reward: float
    length: int
    frames: list[NDArray[np.uint8]] = field(repr=False)
    """RGB (H, W, 3), every `every`-th and the last; empty when none were asked for."""
    fps: float


def replay(
    env_id: str,
    *,
    seed: int,
    actions: NDArray[np.generic],
    every: int | None = None,
    shrink: int = 1,
) -> Replay:
    """Hand recorded actions to a stock environment reset with `seed`.

    Seeded environments are deterministic, so the return is the recorded one, to the bit. Of each
    `every`-th frame one pixel in `shrink` is kept along both axes.
    """
    frames: list[NDArray[np.uint8]] = []
    total_reward = 0.0

    def picture() -> NDArray[np.uint8]:
        # a copy at once: whole frames of a long flight would be a hundred megabytes
        return np.asarray(env.render())[::shrink, ::shrink].copy()

    with closing(make_env(env_id, frames=every is not None)) as env:
        fps = float(env.metadata.get("render_fps", 50))
        env.reset(seed=seed)
        for t, action in enumerate(actions):
            if every is not None and t % every == 0:
                frames.append(picture())
            _, reward, _, _, _ = env.step(action)
            total_reward += float(reward)
        if every is not None:
            frames.append(picture())
    return Replay(total_reward, len(actions), frames, fps)
