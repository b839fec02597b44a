"""Evaluates a policy: seeded, whole episodes on Gymnasium, with unscaled returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lander.config import EnvConfig
from lander.env import AnyEnv, RenderMode, as_config, env_spec, is_builtin, make_whole, spaces
from lander.graph import GraphCache
from lander.interface import CheckedEnv, EnvFault, kind_of
from lander.lunar import LeanLander, Physics, under
from lander.policy import ActorCritic

TOGETHER: Final = 100
"""Episodes of an evaluation that step together, if there are as many."""


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
    """Time to play the episodes; 0 if unknown."""

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
        """Tensors and numbers from which `of` makes the evaluation again."""
        actions = [torch.from_numpy(episode) for episode in self.actions]
        return {"seeds": list(self.seeds), "returns": list(self.returns), "actions": actions}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """The evaluation that gave this state."""
        actions = tuple(episode.numpy() for episode in state["actions"])
        lengths = tuple(len(episode) for episode in actions)
        return cls(tuple(state["seeds"]), tuple(state["returns"]), lengths, actions)


ActFn = Callable[[NDArray[np.float32]], NDArray[np.generic]]
"""Observations (B, obs) -> what `env.step` takes, one row per episode."""


def nothing() -> None:
    """The default of a hook: no action."""


def evaluate(
    policy: ActorCritic,
    env: AnyEnv,
    *,
    seeds: Sequence[int],
    generator: torch.Generator | None = None,
    physics: Physics = "stock",
    check: Callable[[], None] = nothing,
) -> Evaluation:
    """Play one episode per reset seed: deterministic, or sampled if a generator is given.

    >>> from lander.config import EnvConfig, TrainConfig
    >>> from lander.policy import make_policy
    >>> from lander.resolve import resolve
    >>> config = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1"))).config
    >>> policy = make_policy(config, generator=torch.Generator().manual_seed(0))
    >>> evaluation = evaluate(policy, config.env, seeds=[7, 8])
    >>> evaluation.returns == tuple(map(float, evaluation.lengths))  # CartPole pays 1 per step
    True
    """
    act = policy_act_fn(policy, generator)
    return play(act, env, seeds=seeds, physics=physics, check=check)


def policy_act_fn(policy: ActorCritic, generator: torch.Generator | None = None) -> ActFn:
    """Chooses a policy's most probable actions, or samples them if a generator is given."""
    calls = GraphCache()

    @torch.no_grad()
    def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
        seen = torch.tensor(obs)  # in torch's memory: the last bit may depend on alignment
        if generator is None:
            return calls(policy.act, (seen,), constants="")[1].numpy()
        actions = policy.distribution(seen).sample(generator)
        return policy.head.to_env(actions).numpy()

    return act


def random_act_fn(env: AnyEnv, *, seed: int) -> ActFn:
    """Draws actions uniformly from the action space."""
    space = spaces(env)[1]
    space.seed(seed)
    return lambda obs: np.stack([space.sample() for _ in obs])


def play(
    act: ActFn,
    env: AnyEnv,
    *,
    seeds: Sequence[int],
    physics: Physics = "stock",
    check: Callable[[], None] = nothing,
) -> Evaluation:
    """One whole episode per reset seed, so that short ones do not count more often.

    The environments are new, one for each episode: some do not return to the same state on a reset.
    `check` is called before each step, and may raise to end it all.

    Raises:
        EnvFault: an environment that departs from Gymnasium's interface.
    """
    started = time.perf_counter()
    played: list[Played] = []
    size = at_once(as_config(env))
    for first in range(0, len(seeds), size):
        group = seeds[first : first + size]
        played += play_group(act, env, seeds=group, physics=physics, check=check)
    returns, actions = zip(*played, strict=True)
    return Evaluation(
        tuple(seeds),
        returns,
        tuple(len(episode) for episode in actions),
        actions,
        time.perf_counter() - started,
    )


def at_once(env: EnvConfig) -> int:
    """How many episodes step together, as one batch of the policy: its size decides the last bit.

    Of an environment that is not Gymnasium's own as many as train: each may need gigabytes, or a
    licence.
    """
    return TOGETHER if is_builtin(env) else env.num_envs


Played = tuple[float, NDArray[np.generic]]
"""Return and actions of an episode."""


def play_group(
    act: ActFn,
    env: AnyEnv,
    *,
    seeds: Sequence[int],
    physics: Physics,
    check: Callable[[], None],
) -> list[Played]:
    """Episodes side by side."""
    obs = np.empty((len(seeds), env_spec(env).obs_dim), dtype=np.float32)
    returns, lengths = [0.0] * len(seeds), [0] * len(seeds)
    chosen: list[NDArray[np.generic]] = []
    with ExitStack() as stack:
        envs: list[CheckedEnv | LeanLander] = []
        for i, seed in enumerate(seeds):
            envs.append(stack.enter_context(closing(under(physics, whole_episode(env, seed)))))
            obs[i] = envs[i].reset(seed)
        require_finite(obs, envs)
        playing = list(range(len(seeds)))
        while playing:
            check()
            # of the whole group, ended episodes included: its size changes the last bit
            actions = np.array(act(obs))
            still_playing: list[int] = []
            for i in playing:
                obs[i], reward, terminated, truncated = envs[i].step(actions[i])
                returns[i] += reward
                lengths[i] += 1
                if not (terminated or truncated):
                    still_playing.append(i)
            require_finite(obs, envs)
            chosen.append(actions)
            playing = still_playing
    stacked = np.stack(chosen)
    return [(returns[i], stacked[: lengths[i], i].copy()) for i in range(len(seeds))]


def require_finite(obs: NDArray[np.float32], envs: Sequence[CheckedEnv | LeanLander]) -> None:
    """Refuse an observation that is not finite; one check of all rows is cheap."""
    if not np.isfinite(obs).all():
        for row, env in zip(obs, envs, strict=True):
            env.require_finite(row)


def whole_episode(env: AnyEnv, seed: int, *, render: RenderMode | None = None) -> CheckedEnv:
    """A new copy for the episode after a reset with `seed`."""
    name = f"{as_config(env).id}, evaluation episode of reset seed {seed}"
    return CheckedEnv(make_whole(env, render=render), name)


@dataclass(frozen=True, slots=True)
class Moment:
    """An episode after so many steps."""

    step: int
    total_reward: float
    """So far."""
    obs: NDArray[np.generic]
    picture: NDArray[np.uint8] | None = field(repr=False)
    """RGB (H, W, 3); None if this moment is not drawn."""


def replay(
    env: AnyEnv,
    *,
    seed: int,
    actions: NDArray[np.generic],
    every: int | None = None,
    render: RenderMode = "rgb_array",
) -> Generator[Moment]:
    """Hand recorded actions to a stock environment reset with `seed`: the moment after the reset,
    and after each step, to the last action or the end of the episode.

    Most seeded environments are deterministic, so the return is the recorded one, to the bit. Each
    `every`-th moment and the last one are drawn; none by default. In a window (`render` is "human")
    the environment draws itself, in real time.

    >>> evaluation = play(random_act_fn("CartPole-v1", seed=0), "CartPole-v1", seeds=[7])
    >>> *_, last = replay("CartPole-v1", seed=7, actions=evaluation.actions[0])
    >>> last.total_reward == evaluation.returns[0]
    True
    """
    drawn = every is not None or render == "human"
    with closing(whole_episode(env, seed, render=render if drawn else None)) as one:
        obs, total_reward, over = one.reset(seed), 0.0, False
        for step in range(len(actions) + 1):
            over = over or step == len(actions)
            is_drawn = every is not None and (over or step % every == 0)
            picture = rgb(one.stock.render()).copy() if is_drawn else None
            yield Moment(step, total_reward, np.array(obs), picture)
            if over:
                return
            obs, reward, terminated, truncated = one.step(actions[step])
            total_reward += reward
            over = terminated or truncated


def rgb(frame: object) -> NDArray[np.uint8]:
    """A rendered frame.

    Raises:
        EnvFault: not a picture (H, W, 3) of bytes.
    """
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,):
        return frame
    raise EnvFault(f"render gave {kind_of(frame)}, want an array of uint8, shape (H, W, 3)")
