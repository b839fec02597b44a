"""Heads: what the actor's outputs mean, and what reaches the environment."""

from __future__ import annotations

from math import log
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from lander.config import EnvConfig, PolicyConfig, PPOConfig, TrainConfig
from lander.distributions import DiagonalGaussian
from lander.env import spaces
from lander.errors import ConfigError
from lander.heads import (
    BOX_HEADS,
    CategoricalHead,
    DiscreteHead,
    GaussianHead,
    Head,
    JointHead,
    make_head,
)
from lander.options import CHOICES
from lander.policy import ActorCritic, DeterministicActor, make_policy
from lander.resolve import resolve
from lander.runner import Runner
from lander.trainer import train
from lander.vector import SerialVectorEnv, Step

HEADS = CHOICES["policy.head"]
UNBOUNDED = Box(-np.inf, np.inf, (1,), np.float32)
TINY = PPOConfig(rollout_steps=32, minibatch_size=64, update_epochs=1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(bins: int | None = None, **policy: Any) -> TrainConfig:
    return TrainConfig(env=EnvConfig(bins=bins), policy=PolicyConfig(**policy))


def unit(dims: int) -> Box:
    return Box(-1.0, 1.0, (dims,), np.float32)


def levels(head: CategoricalHead) -> list[list[float]]:
    """What each bin index means, one list per dimension."""
    bins = head.outputs // head.action_dims
    actions = torch.arange(bins).unsqueeze(-1).expand(bins, head.action_dims)
    rows: list[list[float]] = head.to_env(actions).T.tolist()
    return rows


def log_probs(head: Head, outputs: Tensor) -> Tensor:
    """(B, K): of every level, for a head of one dimension."""
    pi = head.distribution(outputs)
    actions = torch.arange(outputs.shape[-1]).unsqueeze(-1).unsqueeze(-1)
    return torch.stack([pi.log_prob(a.expand(len(outputs), 1)) for a in actions], -1)


# every head in the table


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3)])
@pytest.mark.parametrize(
    ("name", "squash"), [(name, False) for name in BOX_HEADS] + [("gaussian", True)]
)
def test_every_head_acts_within_a_lopsided_box(
    name: str, squash: bool, shape: tuple[int, ...]
) -> None:
    grid = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    space = Box(-1.1 - 0.7 * grid, 0.1 + 0.3 * grid, dtype=np.float32)
    bins = 3 if "env.bins" in HEADS[name].reads else None
    head = make_head(space, config(bins, head=name, squash=squash))
    for scale in (0.0, 1.0, 1e3):
        pi = head.distribution(scale * torch.randn(20, head.outputs, generator=rng()))
        for actions in (pi.sample(rng(1)), pi.mode()):
            assert actions.shape == (20, head.action_dims)
            assert actions.is_floating_point() == (name == "gaussian")
            assert pi.log_prob(actions).shape == pi.entropy().shape == pi.kl(pi).shape == (20,)
            sent = head.to_env(actions).detach()
            assert sent.shape == (20, *shape)
            assert all(space.contains(row) for row in sent.numpy())


@pytest.mark.parametrize("name", BOX_HEADS)
def test_every_head_is_chosen_by_its_name_and_can_be_exported(name: str) -> None:
    shape = config(3 if "env.bins" in HEADS[name].reads else None, head=name, init="torch")
    policy = ActorCritic(3, unit(2), shape, generator=rng())
    assert type(policy.head) is type(BOX_HEADS[name](unit(2), shape))
    actor, obs = DeterministicActor(policy), 9 * torch.randn(8, 3, generator=rng(1))
    rows = ({0: torch.export.Dim("rows")},)
    exported = torch.export.export(actor, (obs,), dynamic_shapes=rows).module()
    assert torch.equal(exported(obs[:5]), actor(obs[:5]))


@pytest.mark.parametrize("name", [n for n, h in HEADS.items() if "env.bins" in h.reads])
def test_a_head_of_bins_needs_their_number_and_a_bounded_space(name: str) -> None:
    with pytest.raises(ConfigError, match=f"policy.head = {name} needs env.bins on LunarLander"):
        make_head(unit(2), config(None, head=name))
    with pytest.raises(ConfigError, match=r"env\.bins needs a bounded action space"):
        make_head(UNBOUNDED, config(5, head=name))


@pytest.mark.parametrize("name", [n for n, h in HEADS.items() if "policy.explore" in h.reads])
def test_explore_leaves_every_level_its_share(name: str) -> None:
    outputs = torch.tensor([[0.0, 40.0, -80.0, 0.0]])  # a certain choice of all these heads
    certain = log_probs(BOX_HEADS[name](unit(1), config(4, head=name)), outputs)
    mixed = log_probs(BOX_HEADS[name](unit(1), config(4, head=name, explore=0.4)), outputs)
    assert sorted(certain.exp().tolist()[0]) == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert sorted(mixed.exp().tolist()[0]) == pytest.approx([0.1, 0.1, 0.1, 0.7])


# bins


@pytest.mark.parametrize("bins", range(3, 32, 2))
@pytest.mark.parametrize("limit", [0.4, 1.0, 2.0])
def test_an_odd_number_of_bins_holds_both_ends_and_exactly_zero(bins: int, limit: float) -> None:
    head = CategoricalHead(Box(-limit, limit, (2,), np.float32), config(bins, head="categorical"))
    for column in levels(head):
        assert len(column) == bins
        assert column[0] == -float(np.float32(limit))
        assert column[bins // 2] == 0.0
        assert column[-1] == float(np.float32(limit))
        assert np.diff(column) == pytest.approx(2 * limit / (bins - 1), rel=1e-4)


def test_two_bins_are_the_ends() -> None:
    assert levels(CategoricalHead(unit(2), config(2))) == [[-1.0, 1.0], [-1.0, 1.0]]


def test_bins_follow_each_dimensions_own_range() -> None:
    low, high = np.array([0.0, -4.0], np.float32), np.array([1.0, 4.0], np.float32)
    head = CategoricalHead(Box(low, high), config(5))
    assert levels(head) == [[0.0, 0.25, 0.5, 0.75, 1.0], [-4.0, -2.0, 0.0, 2.0, 4.0]]
    assert head.to_env(torch.tensor([[4, 0], [1, 3]])).tolist() == [[1.0, -4.0], [0.25, 2.0]]
    assert head.outputs == 10


@pytest.mark.parametrize("name", ["categorical", "gaussian"])
@pytest.mark.parametrize(
    "space",
    [
        Box(0.0, 0.1, (2,), np.float64),
        Box(-1 / 3, 1 / 3, (2,), np.float64),
        Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,), np.float32),
    ],
)
def test_the_ends_of_a_box_that_float32_does_not_hold_lie_inside_it(space: Box, name: str) -> None:
    binned = name == "categorical"
    head = BOX_HEADS[name](space, config(3 if binned else None, head=name))
    for end in (0, 2) if binned else (-5.0, 0.0, 5.0):
        assert space.contains(head.to_env(torch.full((1, 2), end))[0].numpy())


def test_the_mode_of_bins_is_the_likeliest_of_each_dimension() -> None:
    """Not the mean of the levels, which can fall into a dead zone."""
    head = CategoricalHead(unit(2), config(3))
    mode = head.distribution(torch.tensor([[2.0, -9.0, 1.9, 0.0, 0.1, 0.2]])).mode()
    assert mode.tolist() == [[0, 2]]
    assert head.to_env(mode).tolist() == [[-1.0, 1.0]]


# ordinal


def equation_4(outputs: Tensor) -> Tensor:
    """log p of Tang and Agrawal (2020): logit_i = sum_{j<=i} log s_j + sum_{j>i} log(1 - s_j)."""
    on, off = torch.nn.functional.logsigmoid(outputs), torch.nn.functional.logsigmoid(-outputs)
    bins = outputs.shape[-1]
    logits = [on[..., : i + 1].sum(-1) + off[..., i + 1 :].sum(-1) for i in range(bins)]
    return torch.stack(logits, -1).log_softmax(-1)


@pytest.mark.parametrize("bins", range(2, 16))
def test_ordinal_is_equation_4(bins: int) -> None:
    outputs = 3 * torch.randn(50, 2 * bins, dtype=torch.float64, generator=rng(bins))
    actions = torch.randint(bins, (50, 2), generator=rng(1))
    pi = CategoricalHead(unit(2), config(bins), ordered=True).distribution(outputs)
    table = equation_4(outputs.view(50, 2, bins))
    expected = table.gather(-1, actions.unsqueeze(-1)).sum((-2, -1))
    torch.testing.assert_close(pi.log_prob(actions), expected, rtol=0, atol=1e-6)
    assert torch.equal(pi.mode(), table.argmax(-1))


@pytest.mark.parametrize(
    ("outputs", "probs"),
    [
        ([2.0, 1.0, 0.0, -1.0, -2.0], [0.1321, 0.3590, 0.3590, 0.1321, 0.0179]),
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_ordinal_probabilities_by_hand(outputs: list[float], probs: list[float]) -> None:
    head = CategoricalHead(unit(1), config(5), ordered=True)
    assert log_probs(head, torch.tensor([outputs])).exp()[0].tolist() == pytest.approx(
        probs, abs=5e-5
    )


def test_the_first_output_of_ordinal_does_nothing() -> None:
    head = CategoricalHead(unit(1), config(7), ordered=True)
    outputs = torch.randn(20, 7, dtype=torch.float64, generator=rng(), requires_grad=True)
    for level in log_probs(head, outputs).unbind(-1):
        (gradient,) = torch.autograd.grad(level.sum(), outputs, retain_graph=True)
        assert float(gradient[:, 0].abs().max()) < 1e-12
        assert float(gradient[:, 1:].abs().min()) > 0


@pytest.mark.parametrize("pattern", [[1.0], [-1.0], [1.0, -1.0], [0.0, -1.0, 1.0]])
def test_ordinal_is_finite_far_from_zero(pattern: list[float]) -> None:
    head = CategoricalHead(unit(1), config(15), ordered=True)
    outputs = 1e4 * torch.tensor([(pattern * 15)[:15]]).requires_grad_()
    pi = head.distribution(outputs)
    for value in (*log_probs(head, outputs)[0], pi.entropy()[0], pi.kl(pi)[0]):
        (gradient,) = torch.autograd.grad(value, outputs, retain_graph=True)
        assert value.isfinite()
        assert gradient.isfinite().all()


# joint


@pytest.mark.parametrize(("bins", "dims"), [(2, 1), (5, 1), (2, 2), (3, 2), (11, 2), (4, 3)])
def test_joint_levels_are_the_product_of_each_dimensions(bins: int, dims: int) -> None:
    """Index k to the base `bins`, first dimension first, is one bin per dimension."""
    low = np.arange(dims, dtype=np.float32)
    space = Box(low, 2 * low + 1, dtype=np.float32)
    joint, factors = JointHead(space, config(bins)), CategoricalHead(space, config(bins))
    assert joint.outputs == bins**dims
    assert joint.action_dims == 1
    indices = torch.arange(joint.outputs)
    digits = torch.stack([indices // bins**d % bins for d in reversed(range(dims))], -1)
    assert torch.equal(joint.to_env(indices.unsqueeze(-1)), factors.to_env(digits))
    assert len({tuple(row) for row in joint.to_env(indices.unsqueeze(-1)).tolist()}) == bins**dims


def test_joint_dimensions_may_depend_on_each_other() -> None:
    head = JointHead(unit(2), config(2))
    outputs = torch.tensor([[9.0, -9.0, -9.0, 9.0]]).expand(100, 4)
    sent = head.to_env(head.distribution(outputs).sample(rng()))
    assert {tuple(row) for row in sent.tolist()} == {(-1.0, -1.0), (1.0, 1.0)}


def test_a_joint_head_too_large_is_refused_with_its_size_and_the_limit() -> None:
    walker = TrainConfig(
        env=EnvConfig(id="BipedalWalker-v3", bins=11), policy=PolicyConfig(head="joint")
    )
    with pytest.raises(ConfigError, match=r"11 \*\* 4 = 14641 outputs here, at most 4096"):
        resolve(walker)
    assert JointHead(unit(4), config(8)).outputs == 4096


# gaussian


def test_gaussian_output_1_is_pendulums_full_torque_and_more_is_clipped() -> None:
    _, space = spaces("Pendulum-v1")
    assert isinstance(space, Box)
    head = GaussianHead(space, config())
    outputs = torch.tensor([[1.0], [-1.0], [0.5], [0.0], [3.0], [-9.0]])
    assert head.to_env(outputs)[:, 0].tolist() == [2.0, -2.0, 1.0, 0.0, 2.0, -2.0]


def test_gaussian_middle_of_a_lopsided_range_is_output_0() -> None:
    space = Box(np.array([1.0], np.float32), np.array([5.0], np.float32))
    plain, squashed = GaussianHead(space, config()), GaussianHead(space, config(squash=True))
    assert plain.to_env(torch.tensor([[0.0], [0.5], [1.0]]))[:, 0].tolist() == [3.0, 4.0, 5.0]
    sent = squashed.to_env(torch.tensor([[0.0], [np.arctanh(0.5)], [99.0], [-99.0]]))
    assert sent[:, 0].tolist() == pytest.approx([3.0, 4.0, 5.0, 1.0])
    expected = DiagonalGaussian(torch.zeros(1, 1), squashed.log_std, squashed=True).entropy()
    assert torch.equal(squashed.distribution(torch.zeros(1, 1)).entropy(), expected)


def test_gaussian_outputs_pass_through_an_unbounded_space_unless_squashed() -> None:
    head = GaussianHead(UNBOUNDED, config())
    assert head.to_env(torch.tensor([[-50.0], [0.25]]))[:, 0].tolist() == [-50.0, 0.25]
    with pytest.raises(ConfigError, match=r"policy\.squash needs a bounded action space"):
        GaussianHead(UNBOUNDED, config(squash=True))


@pytest.mark.parametrize("std", ["learned", "fixed", "decayed"])
def test_only_a_learned_std_is_a_parameter_and_every_one_is_saved(std: str) -> None:
    head = GaussianHead(unit(2), config(std=std, init_std=0.5))
    assert head.log_std.tolist() == pytest.approx([log(0.5)] * 2)
    assert [name for name, _ in head.named_parameters()] == ["log_std"] * (std == "learned")
    assert "log_std" in head.state_dict()


@pytest.mark.parametrize(
    ("std", "stds"), [("learned", [0.8] * 3), ("fixed", [0.8] * 3), ("decayed", [0.8, 0.5, 0.2])]
)
def test_only_a_decayed_std_falls_linearly_over_the_budget(std: str, stds: list[float]) -> None:
    head = GaussianHead(unit(2), config(std=std, init_std=0.8, final_std=0.2))
    for remaining, expected in zip([1.0, 0.5, 0.0], stds, strict=True):
        head.anneal(remaining)
        assert head.log_std.exp().tolist() == pytest.approx([expected] * 2)


def test_the_last_of_four_rollouts_is_flown_a_quarter_above_the_final_std() -> None:
    shape = PolicyConfig(std="decayed", init_std=0.8, final_std=0.2, hidden_sizes=(16,))
    env = EnvConfig(id="Pendulum-v1", num_envs=2)
    run = TrainConfig(env, shape, TINY, 256, checkpoints=1, eval_episodes=1, final_episodes=1)
    head = train(run).policy.head
    assert isinstance(head, GaussianHead)
    assert head.log_std.exp().item() == pytest.approx(0.2 + 0.6 / 4)


@pytest.mark.parametrize("squash", [False, True])
def test_log_prob_is_of_the_unclipped_action_the_env_gets_the_bounded_one(
    squash: bool,
) -> None:
    received: list[NDArray[np.generic]] = []

    class Recorder(SerialVectorEnv):
        def step(
            self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None
        ) -> Step:
            received.append(actions.copy())
            return super().step(actions, copies)

    env, shape = EnvConfig(id="Pendulum-v1", num_envs=2), PolicyConfig(init_std=2.0, squash=squash)
    run = resolve(TrainConfig(env, shape, TINY)).config
    policy = make_policy(run, generator=rng())
    rollout, _ = Runner(Recorder(env.id, 2), policy, run, generator=rng(1)).collect()
    assert rollout.actions.shape == (32, 2, 1)
    assert float(rollout.actions.abs().max()) > 2.0
    sent = torch.from_numpy(np.stack(received))
    bounded = rollout.actions.tanh() if squash else rollout.actions.clamp(-1, 1)
    assert torch.equal(sent, 2 * bounded)
    with torch.no_grad():
        mean = policy.actor(policy.actor_trunk(rollout.obs))
    pi: Any = torch.distributions.Normal(mean, 2.0)
    expected = pi.log_prob(rollout.actions).sum(-1)
    if squash:
        expected -= (1 - rollout.actions.double().tanh().square()).log().sum(-1).float()
    torch.testing.assert_close(rollout.log_probs, expected, rtol=1e-4, atol=1e-4)


# which head


def test_discrete_actions_begin_at_the_start_of_the_space() -> None:
    head = DiscreteHead(Discrete(3, start=5), config())
    assert head.outputs == 3
    assert head.to_env(torch.tensor([[0], [1], [2]])).tolist() == [5, 6, 7]
    assert head.distribution(torch.tensor([[0.0, 9.0, 0.0]])).mode().tolist() == [[1]]


@pytest.mark.parametrize(
    ("env", "head", "kind", "outputs"),
    [
        (EnvConfig(id="LunarLander-v3"), "auto", DiscreteHead, 4),
        (EnvConfig(id="LunarLanderContinuous-v3"), "auto", GaussianHead, 2),
        (EnvConfig(id="LunarLanderContinuous-v3", bins=11), "auto", CategoricalHead, 22),
        (EnvConfig(id="LunarLanderContinuous-v3", bins=11), "ordinal", CategoricalHead, 22),
        (EnvConfig(id="LunarLanderContinuous-v3", bins=11), "joint", JointHead, 121),
    ],
)
def test_the_head_fits_the_action_space(
    env: EnvConfig, head: str, kind: type, outputs: int
) -> None:
    policy = make_policy(
        resolve(TrainConfig(env=env, policy=PolicyConfig(head=head))).config, generator=rng()
    )
    assert type(policy.head) is kind
    assert policy.head.outputs == outputs
    with torch.no_grad():
        sampled = policy.distribution(torch.zeros(3, 8)).sample(rng())
    flown = gym.make(env.id)
    for action in policy.head.to_env(sampled).numpy():
        assert flown.action_space.contains(action)
    flown.close()


def test_a_joint_head_over_too_many_dimensions_is_refused_in_one_line() -> None:
    """Python prints no number of more than 4300 digits, as 4096 ** 2000 has."""
    wide = Box(-1, 1, (2000,))
    for bins in (2, 4096):
        config = TrainConfig(env=EnvConfig(bins=bins), policy=PolicyConfig(head="joint"))
        with pytest.raises(
            ConfigError, match=rf"needs {bins} \*\* 2000 outputs here, at most 4096"
        ):
            make_head(wide, config)
