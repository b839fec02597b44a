"""Evaluates a policy: seeded, whole episodes on stock Gymnasium, with unscaled returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lander.config import TrainConfig
from lander.env import ActionSpace, AnyEnv, as_config, env_spec, make_whole, spaces
from lander.interface import CheckedEnv, EnvFault, kind_of
from lander.policy import ActorCritic

REPORT_SEED = 10_000
"""Reset seeds of results that are quoted: nothing is ever chosen by them either."""
CHECKPOINT_SEED = 1_000_000
"""Reset seeds of the evaluations during training: they choose the best checkpoint, and prune."""
FINAL_SEED = 2_000_000
"""Reset seeds of the evaluation at the end: a sweep maximises its mean."""
FLIGHT_SEED = 3_000_000
"""Reset seeds of `python -m lander fly`: no training or sweep uses them."""
TEST_SEED = 4_000_000
"""Reset seeds on which a sweep's winner is confirmed: nothing is ever chosen by them."""


def seed_range(first: int, episodes: int) -> range:
    """Consecutive reset seeds, one per episode."""
    return range(first, first + episodes)


def checkpoint_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluations during training."""
    return seed_range(CHECKPOINT_SEED, config.eval_episodes)


def final_seeds(config: TrainConfig) -> range:
    """Reset seeds of the evaluation at the end."""
    first = {"tuning": FINAL_SEED, "test": TEST_SEED, "report": REPORT_SEED}[config.final_seeds]
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
    check: Callable[[], None] = nothing,
) -> Evaluation:
    """Play one episode per reset seed: deterministic, or sampled if a generator is given.

    No more copies of the environment are open at once than `env.num_envs`.

    >>> from lander.config import EnvConfig
    >>> from lander.policy import make_policy
    >>> from lander.resolve import resolve
    >>> config = resolve(TrainConfig(env=EnvConfig(id="CartPole-v1"))).config
    >>> policy = make_policy(config, generator=torch.Generator().manual_seed(0))
    >>> evaluation = evaluate(policy, config.env, seeds=[7, 8])
    >>> evaluation.returns == tuple(map(float, evaluation.lengths))  # CartPole pays 1 per step
    True
    """
    return play(
        policy_act_fn(policy, generator),
        env,
        seeds=seeds,
        copies=as_config(env).num_envs,
        rewind=nothing
        if generator is None
        else partial(generator.set_state, generator.get_state()),
        check=check,
    )


def policy_act_fn(policy: ActorCritic, generator: torch.Generator | None = None) -> ActFn:
    """Chooses a policy's most probable actions, or samples them if a generator is given."""

    @torch.no_grad()
    def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
        pi = policy.distribution(torch.from_numpy(obs))
        actions = pi.mode() if generator is None else pi.sample(generator)
        return policy.head.to_env(actions).numpy()

    return act


def random_act_fn(env: AnyEnv, *, seed: int) -> RandomActions:
    """Draws actions uniformly from the action space."""
    return RandomActions(spaces(env)[1], seed)


class RandomActions:
    """An `ActFn` that can draw the same actions once more."""

    def __init__(self, space: ActionSpace, seed: int) -> None:
        self._space, self._seed = space, seed
        self.rewind()

    def __call__(self, obs: NDArray[np.float32]) -> NDArray[np.generic]:
        return np.stack([self._space.sample() for _ in obs])

    def rewind(self) -> None:
        """Start again with the first action."""
        self._space.seed(self._seed)


def play(
    act: ActFn,
    env: AnyEnv,
    *,
    seeds: Sequence[int],
    copies: int | None = None,
    rewind: Callable[[], object] = nothing,
    check: Callable[[], None] = nothing,
) -> Evaluation:
    """One whole episode per reset seed, so that short ones do not count more often.

    The environments are new, one for each episode: some do not return to the same state on a reset.
    With `copies` no more of them are open at once; episodes are the same then, to the bit, if
    `rewind` returns the random stream of `act` to its start. `check` is called before each step,
    and may raise to end it all.

    Raises:
        EnvFault: an environment that departs from Gymnasium's interface.
    """
    started = time.perf_counter()
    played: list[Played] = []
    for first in range(0, len(seeds), copies or len(seeds)):
        rewind()
        rows = range(len(seeds))[first : first + (copies or len(seeds))]
        played += play_rows(act, env, seeds=seeds, rows=rows, check=check)
    returns, actions = zip(*played, strict=True)
    return Evaluation(
        tuple(seeds),
        returns,
        tuple(len(episode) for episode in actions),
        actions,
        time.perf_counter() - started,
    )


Played = tuple[float, NDArray[np.generic]]
"""Return and actions of an episode."""


def play_rows(
    act: ActFn, env: AnyEnv, *, seeds: Sequence[int], rows: range, check: Callable[[], None]
) -> list[Played]:
    """The episodes of some of the seeds, side by side."""
    # always the whole batch: its size and its random numbers change the last bit
    obs = np.zeros((len(seeds), env_spec(env).obs_dim), dtype=np.float32)
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    chosen: list[NDArray[np.generic]] = []
    with ExitStack() as stack:
        envs = {i: stack.enter_context(closing(whole_episode(env, seeds[i]))) for i in rows}
        for i, one in envs.items():
            obs[i] = one.reset(seeds[i])
        require_finite(obs, envs)
        playing = list(rows)
        while playing:
            check()
            chosen.append(np.array(act(obs)))
            still_playing: list[int] = []
            for i in playing:
                obs[i], reward, terminated, truncated = envs[i].step(chosen[-1][i])
                returns[i] += reward
                lengths[i] += 1
                if not (terminated or truncated):
                    still_playing.append(i)
            require_finite(obs, envs)
            playing = still_playing
    actions = np.stack(chosen)
    return [(float(returns[i]), actions[: lengths[i], i].copy()) for i in rows]


def require_finite(obs: NDArray[np.float32], envs: Mapping[int, CheckedEnv]) -> None:
    """Refuse an observation that is not finite; one check of all rows is cheap."""
    if not np.isfinite(obs).all():
        for i, env in envs.items():
            env.require_finite(obs[i])


def whole_episode(env: AnyEnv, seed: int, *, frames: bool = False) -> CheckedEnv:
    """A new copy for the episode after a reset with `seed`."""
    name = f"{as_config(env).id}, evaluation episode of reset seed {seed}"
    return CheckedEnv(make_whole(env, frames=frames), name)


@dataclass(frozen=True, slots=True)
class Replay:
    """An episode played again from its actions."""

    total_reward: float
    length: int
    """Fewer than the actions if the episode ends before them."""
    frames: list[NDArray[np.uint8]] = field(repr=False)
    """RGB (H, W, 3), every `every`-th and the last; empty when none were asked for."""
    fps: float


def replay(
    env: AnyEnv,
    *,
    seed: int,
    actions: NDArray[np.generic],
    every: int | None = None,
    shrink: int = 1,
) -> Replay:
    """Hand recorded actions to a stock environment reset with `seed`.

    Most seeded environments are deterministic, so the return is the recorded one, to the bit. Of
    each `every`-th frame one pixel in `shrink` is kept along both axes.

    >>> evaluation = play(random_act_fn("CartPole-v1", seed=0), "CartPole-v1", seeds=[7])
    >>> replayed = replay("CartPole-v1", seed=7, actions=evaluation.actions[0])
    >>> replayed.total_reward == evaluation.returns[0]
    True
    """
    frames: list[NDArray[np.uint8]] = []
    total_reward, length, over = 0.0, 0, False

    def picture() -> NDArray[np.uint8]:
        # copied at once: the whole frames of a long episode are a hundred megabytes
        return rgb(one.stock.render())[::shrink, ::shrink].copy()

    with closing(whole_episode(env, seed, frames=every is not None)) as one:
        fps = float(one.stock.metadata.get("render_fps") or 50)
        one.reset(seed)
        while length < len(actions) and not over:
            if every is not None and length % every == 0:
                frames.append(picture())
            _, reward, terminated, truncated = one.step(actions[length])
            total_reward += reward
            length += 1
            over = terminated or truncated
        if every is not None:
            frames.append(picture())
    return Replay(total_reward, length, frames, fps)


def rgb(frame: object) -> NDArray[np.uint8]:
    """A rendered frame.

    Raises:
        EnvFault: not a picture (H, W, 3) of bytes.
    """
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,):
        return frame
    raise EnvFault(f"render gave {kind_of(frame)}, want an array of uint8, shape (H, W, 3)")
