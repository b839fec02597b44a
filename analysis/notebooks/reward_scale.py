"""Where the reward scale acts: the same short training under two scales, in several setups.

Rewards times s make advantages times s. Normalised, advantages are the same for every s, and
without a critic nothing else depends on s: the actor cannot know the scale. A critic starts with
values of its own size, whatever s is, and enters every advantage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from analysis.stats import mean_estimate
from lander.config import TrainConfig
from lander.distributions import Distribution
from lander.dotted import configure, flatten, is_kwarg
from lander.env import AnyEnv, make_whole
from lander.policy import make_policy
from lander.resolve import resolve
from lander.trainer import Progress, train

WITHOUT: Final = "no critic, normalised"
SEPARATE: Final = "separate trunks, normalised"
SHARED: Final = "shared trunk, not normalised"
SETUPS: Final[Mapping[str, Mapping[str, Any]]] = {
    WITHOUT: {
        "policy.critic": False,
        "ppo.advantage": "reward_to_go",
        "ppo.rollout_episodes": 8,
    },
    SEPARATE: {},
    "separate trunks, not normalised": {"ppo.advantage_norm": "none"},
    "shared trunk, normalised": {"policy.trunk": "shared"},
    SHARED: {"policy.trunk": "shared", "ppo.advantage_norm": "none"},
}
KEPT: Final = ("env.id", "env.bins", "policy.head")
"""Fields taken from the study; `SHORT` and the setup set others, the rest are defaults."""
SHORT: Final[Mapping[str, Any]] = {
    "env.num_envs": 8,
    "env.time_limit": 128,
    "ppo.learning_rate_schedule": "constant",
    "checkpoints": 1,
}
SMALL, LARGE = 1 / 64, 1.0
"""Two reward scales, powers of two: products with them are exact, so that equal policies are equal
to the bit."""
BY_SCALE: Final = "reward scale 1/64 and 1, one seed"
BY_SEED: Final = "reward scale 1, two seeds"
STATES, DRAWS = 512, 8
OTHER_SEEDS = 1000
"""Added to a seed to get another seed."""


class Enough(Exception):
    """Raised to end a training that has had its steps."""


def sentence(measured: Mapping[str, Mapping[str, Sequence[float]]], *, steps: int) -> str:
    """Where does the reward scale act?"""
    share = {
        (setup, which): f"{mean_estimate(values):.2f}"
        for setup, group in measured.items()
        for which, values in group.items()
    }
    same = "equal to the bit" if max(measured[WITHOUT][BY_SCALE]) == 0 else "float error grows"
    return (
        f"After {steps:,} steps, policies that learned from rewards times 1/64 and times 1 differ "
        f"in a share of {share[WITHOUT, BY_SCALE]} of their actions without a critic ({same}), "
        f"{share[SEPARATE, BY_SCALE]} with separate trunks and normalised advantages, and "
        f"{share[SHARED, BY_SCALE]} with a shared trunk and plain advantages. Policies of two "
        f"seeds differ in {share[SEPARATE, BY_SEED]} with separate trunks and in "
        f"{share[SHARED, BY_SEED]} with a shared one."
    )


def measure(base: TrainConfig, *, steps: int, seeds: int = 3) -> dict[str, dict[str, list[float]]]:
    """Per setup, how much policies disagree that differ in scale, or in seed: a value per seed."""
    obs = random_states(base.env)
    measured = {}
    for setup, options in SETUPS.items():
        groups: dict[str, list[float]] = {BY_SCALE: [], BY_SEED: []}
        for seed in range(seeds):
            small, large, other = (
                policy_after(short(base, options, scale=scale, seed=its_seed), steps, obs)
                for scale, its_seed in ((SMALL, seed), (LARGE, seed), (LARGE, seed + OTHER_SEEDS))
            )
            groups[BY_SCALE].append(disagreement(small, large))
            groups[BY_SEED].append(disagreement(other, large))
        measured[setup] = groups
    return measured


def short(base: TrainConfig, options: Mapping[str, Any], *, scale: float, seed: int) -> TrainConfig:
    """The configuration of a quick training in one of the setups, in the environment of a study."""
    flat = flatten(base)
    kept = {name: value for name, value in flat.items() if name in KEPT or is_kwarg(name)}
    varied = {"env.reward_scale": scale, "seed": seed}
    return resolve(configure({**kept, **SHORT, **options, **varied}, base=TrainConfig())).config


def policy_after(config: TrainConfig, steps: int, obs: Tensor) -> Distribution:
    """pi(.|s) in the given states, after the update in which the training reaches `steps`."""
    policy = make_policy(config, generator=torch.Generator())

    def on_update(progress: Progress) -> None:
        if progress.env_steps >= steps:
            policy.load_state_dict(progress.state()["policy"])
            raise Enough

    # a budget far beyond `steps`, so that no time is spent on an evaluation at its end
    with suppress(Enough):
        train(configure({"total_steps": 2 * steps + 10**6}, base=config), on_update=on_update)
    with torch.no_grad():
        return policy.distribution(obs)


def random_states(env: AnyEnv) -> Tensor:
    """(STATES, obs): states that random actions lead to."""
    rows = []
    with closing(make_whole(env)) as craft:
        craft.action_space.seed(0)
        obs, _ = craft.reset(seed=0)
        for _ in range(STATES):
            rows.append(np.array(obs, np.float32))
            obs, _, terminated, truncated, _ = craft.step(craft.action_space.sample())
            if terminated or truncated:
                obs, _ = craft.reset()
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def disagreement(pi: Distribution, other: Distribution) -> float:
    """The share of actions in which two policies must at least differ, averaged over states.

    Their total variation, E_{a ~ other}[max(0, 1 - pi(a|s) / other(a|s))]: exactly 0 for equal
    policies, 1 for policies that have no action in common.
    """
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(DRAWS):
        actions = other.sample(generator)
        ratio = (pi.log_prob(actions) - other.log_prob(actions)).exp()
        shares.append(float((1 - ratio).clamp(min=0).mean()))
    return float(np.mean(shares))
