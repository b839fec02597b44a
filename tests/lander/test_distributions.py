"""Heads and distributions against torch.distributions, exact sums and counts."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from lander import ActorCritic, EnvConfig, PolicyConfig, TrainConfig, resolve
from lander.distributions import (
    CategoricalHead,
    Categorical,
    DiagonalGaussian,
    DiscreteHead,
    GaussianHead,
    make_head,
)
from lander.env import Step, VectorEnv, spaces
from lander.policy import make_policy
from lander.runner import Runner

UNIT = Box(-1.0, 1.0, (2,), np.float32)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_categorical_is_torchs_independent_categorical() -> None:
    logits = 3 * torch.randn(50, 2, 7, generator=rng())
    actions = torch.randint(7, (50, 2), generator=rng(1))
    ours = Categorical(logits)
    factors = torch.distributions.Categorical(logits=logits)
    theirs: Any = torch.distributions.Independent(factors, 1)
    assert ours.log_prob(actions).shape == (50,)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.mode(), logits.argmax(-1))


def test_gaussian_is_torchs_normal_summed_over_dimensions() -> None:
    mean = torch.randn(50, 3, generator=rng())
    log_std = torch.tensor([-1.0, 0.0, 0.5])
    actions = 2 * torch.randn(50, 3, generator=rng(1))
    ours = DiagonalGaussian(mean, log_std)
    theirs: Any = torch.distributions.Normal(mean, log_std.exp().expand(50, 3))
    assert ours.log_prob(actions).shape == (50,)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
    assert torch.equal(ours.mode(), mean)


def test_categorical_samples_each_level_as_often_as_its_probability() -> None:
    """Each count is binomial: within three standard deviations, for both dimensions."""
    n = 40_000
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    sampled = Categorical(probs.log().expand(n, 2, 5)).sample(rng())
    assert sampled.shape == (n, 2)
    for dim in range(2):
        for level in range(5):
            p = float(probs[dim, level])
            share = float((sampled[:, dim] == level).float().mean())
            assert abs(share - p) <= 3 * sqrt(p * (1 - p) / n)


def test_categorical_dimensions_are_sampled_independently() -> None:
    n = 40_000
    sampled = Categorical(torch.zeros(n, 2, 2)).sample(rng()).bool()
    both = float((sampled[:, 0] & sampled[:, 1]).float().mean())
    assert abs(both - 0.25) <= 3 * sqrt(0.25 * 0.75 / n)


def test_gaussian_samples_have_its_mean_and_std() -> None:
    n = 40_000
    pi = DiagonalGaussian(torch.tensor([[1.0, -2.0]]).expand(n, 2), torch.tensor([0.5, 2.0]).log())
    sampled = pi.sample(rng())
    for dim, (mean, std) in enumerate([(1.0, 0.5), (-2.0, 2.0)]):
        assert abs(float(sampled[:, dim].mean()) - mean) <= 3 * std / sqrt(n)
        assert abs(float(sampled[:, dim].std()) - std) <= 3 * std / sqrt(2 * n)


def test_entropy_is_minus_the_expected_log_prob() -> None:
    """Over all 3 * 3 joint actions for the categorical; over samples for the gaussian."""
    logits = torch.randn(1, 2, 3, generator=rng())
    joint = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    log_probs = Categorical(logits.expand(9, 2, 3)).log_prob(joint)
    assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    expected = float((log_probs.exp() * log_probs).sum())
    assert float(Categorical(logits).entropy()) + expected == pytest.approx(0.0, abs=1e-6)

    n = 40_000
    pi = DiagonalGaussian(torch.ones(n, 2), torch.tensor([-0.5, 0.3]))
    log_probs = pi.log_prob(pi.sample(rng()))
    # log p is a constant minus half a chi-square with 2 degrees: its standard deviation is 1
    assert abs(float(pi.entropy()[0] + log_probs.mean())) <= 3 / sqrt(n)


def levels(head: CategoricalHead, bins: int, dims: int) -> list[list[float]]:
    """What each bin index means, one list per dimension."""
    actions = torch.arange(bins).unsqueeze(-1).expand(bins, dims)
    return head.to_env(actions).T.tolist()


@pytest.mark.parametrize("bins", range(3, 32, 2))
@pytest.mark.parametrize("limit", [0.4, 1.0, 2.0])
def test_an_odd_number_of_bins_holds_both_ends_and_exactly_zero(bins: int, limit: float) -> None:
    values = levels(CategoricalHead(Box(-limit, limit, (2,), np.float32), bins), bins, 2)
    for column in values:
        assert column[0] == -float(np.float32(limit))
        assert column[bins // 2] == 0.0
        assert column[-1] == float(np.float32(limit))
        assert np.diff(column) == pytest.approx(2 * limit / (bins - 1), rel=1e-4)


def test_two_bins_are_the_ends() -> None:
    assert levels(CategoricalHead(UNIT, 2), 2, 2) == [[-1.0, 1.0], [-1.0, 1.0]]


def test_bins_follow_each_dimensions_own_range() -> None:
    low, high = np.array([0.0, -4.0], np.float32), np.array([1.0, 4.0], np.float32)
    head = CategoricalHead(Box(low, high), 5)
    assert levels(head, 5, 2) == [[0.0, 0.25, 0.5, 0.75, 1.0], [-4.0, -2.0, 0.0, 2.0, 4.0]]
    assert head.to_env(torch.tensor([[4, 0], [1, 3]])).tolist() == [[1.0, -4.0], [0.25, 2.0]]
    assert head.outputs == 10


def test_discrete_actions_begin_at_the_start_of_the_space() -> None:
    head = DiscreteHead(Discrete(3, start=5))
    assert head.outputs == 3
    assert head.to_env(torch.tensor([[0], [1], [2]])).tolist() == [5, 6, 7]
    assert head.distribution(torch.tensor([[0.0, 9.0, 0.0]])).mode().tolist() == [[1]]


def test_gaussian_output_1_is_pendulums_full_torque_and_more_is_clipped() -> None:
    _, space = spaces("Pendulum-v1")
    assert isinstance(space, Box)
    head = GaussianHead(space, 1.0)
    outputs = torch.tensor([[1.0], [-1.0], [0.5], [0.0], [3.0], [-9.0]])
    assert head.to_env(outputs)[:, 0].tolist() == [2.0, -2.0, 1.0, 0.0, 2.0, -2.0]


def test_gaussian_middle_of_a_lopsided_range_is_output_0() -> None:
    head = GaussianHead(Box(np.array([1.0], np.float32), np.array([5.0], np.float32)), 1.0)
    assert head.to_env(torch.tensor([[0.0], [0.5], [1.0]]))[:, 0].tolist() == [3.0, 4.0, 5.0]


def test_gaussian_outputs_pass_through_an_unbounded_space() -> None:
    head = GaussianHead(Box(-np.inf, np.inf, (1,), np.float32), 1.0)
    assert head.to_env(torch.tensor([[-50.0], [0.25]]))[:, 0].tolist() == [-50.0, 0.25]


def test_init_std_is_the_std_before_training() -> None:
    head = GaussianHead(UNIT, 0.5)
    assert head.log_std.tolist() == pytest.approx([log(0.5)] * 2)
    assert head.log_std.requires_grad


def test_log_prob_is_of_the_unclipped_action_and_the_environment_gets_the_clipped_one() -> None:
    received: list[NDArray[np.generic]] = []

    class Recorder(VectorEnv):
        def step(self, actions: NDArray[np.generic]) -> Step:
            received.append(actions.copy())
            return super().step(actions)

    config = resolve(
        TrainConfig(env=EnvConfig(id="Pendulum-v1"), policy=PolicyConfig(init_std=2.0))
    )
    policy: ActorCritic = make_policy(config, generator=rng())
    runner = Runner(Recorder(config.env.id, 2), policy, reward_scale=1.0, seed=0, generator=rng(1))
    rollout, _ = runner.collect(50)
    assert float(rollout.actions.abs().max()) > 2.0
    sent = torch.from_numpy(np.stack(received))
    assert torch.equal(sent, (2 * rollout.actions).clamp(-2, 2))
    with torch.no_grad():
        mean = policy.actor(policy.actor_trunk(rollout.obs))
    pi: Any = torch.distributions.Normal(mean, 2.0)
    torch.testing.assert_close(rollout.log_probs, pi.log_prob(rollout.actions).sum(-1))


@pytest.mark.parametrize(
    ("env", "kind", "outputs"),
    [
        (EnvConfig(id="LunarLander-v3"), DiscreteHead, 4),
        (EnvConfig(id="LunarLanderContinuous-v3"), GaussianHead, 2),
        (EnvConfig(id="LunarLanderContinuous-v3", bins=11), CategoricalHead, 22),
    ],
)
def test_the_head_fits_the_action_space(env: EnvConfig, kind: type, outputs: int) -> None:
    config = resolve(TrainConfig(env=env))
    _, space = spaces(env.id)
    head = make_head(space, config)
    assert type(head) is kind
    assert head.outputs == outputs
    policy = make_policy(config, generator=rng())
    flown = gym.make(env.id)
    with torch.no_grad():
        sampled = policy.distribution(torch.zeros(3, 8)).sample(rng())
    for action in policy.head.to_env(sampled).numpy():
        assert flown.action_space.contains(action)
    flown.close()
