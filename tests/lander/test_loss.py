"""The PPO objective against numbers worked out in numpy and by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import lander.agent
from lander.advantages import gae
from lander.agent import (
    Agent,
    Batch,
    Loss,
    approximate_kl,
    explained_variance,
    normalised,
    ppo_loss,
    value_error,
)
from lander.config import EnvConfig, PolicyConfig, PPOConfig, TrainConfig
from lander.distributions import Categorical
from lander.dotted import configure
from lander.policy import ActorCritic, make_policy
from lander.resolve import resolve
from lander.rollout import Rollout
from lander.runner import Runner
from lander.surrogates import Limits, clip_metrics
from lander.vector import SerialVectorEnv

Floats = NDArray[np.float64]
Norm = Literal["none", "batch", "minibatch"]

# eps = 0.2:  clipped above, clipped below, two inside, two outside that the min leaves unclipped
RATIOS = [1.5, 0.5, 1.1, 0.9, 0.7, 1.6]
ADVANTAGES = [1.0, -2.0, 3.0, -1.0, 2.0, -1.0]
SURROGATES = [1.2, -1.6, 3.3, -0.9, 1.4, -1.6]


def cartpole_policy() -> ActorCritic:
    config = resolve(
        TrainConfig(env=EnvConfig(id="CartPole-v1"), policy=PolicyConfig(activation="tanh"))
    ).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        policy.actor.weight.mul_(100)  # away from the uniform policy
    return policy


def by_numpy(policy: ActorCritic, obs: Tensor) -> tuple[Floats, Floats]:
    """(log-probabilities (B, 2), values (B,)) from the raw weights."""
    w = {name: tensor.double().numpy() for name, tensor in policy.state_dict().items()}

    def mlp(part: str) -> Floats:
        x: Floats = obs.double().numpy()
        for layer in (0, 2):
            x = np.tanh(x @ w[f"{part}_trunk.{layer}.weight"].T + w[f"{part}_trunk.{layer}.bias"])
        out: Floats = x @ w[f"{part}.weight"].T + w[f"{part}.bias"]
        return out

    logits = mlp("actor")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), mlp("critic")[:, 0]


def example() -> tuple[ActorCritic, Batch, Floats, Floats]:
    """A policy and a batch on which its ratios are RATIOS; numpy's log-probs and values."""
    policy = cartpole_policy()
    obs = torch.randn(6, 4, generator=torch.Generator().manual_seed(4))
    actions = torch.tensor([0, 1, 1, 0, 1, 0])
    log_probs, values = by_numpy(policy, obs)
    old = log_probs[np.arange(6), actions.numpy()] - np.log(RATIOS)
    batch = Batch(
        obs=obs,
        actions=actions.unsqueeze(-1),
        log_probs=torch.tensor(old, dtype=torch.float32),
        pi=Categorical(torch.zeros(6, 1, 2)),
        values=torch.zeros(6),
        advantages=torch.tensor(ADVANTAGES),
        returns=torch.tensor([1.0, -1.0, 2.0, 0.0, 0.5, -2.0]),
    )
    return policy, batch, log_probs, values


@cache
def lunar_rollout() -> tuple[dict[str, Tensor], Rollout]:
    """Weights and a rollout of 4 x 64 steps that they played."""
    policy = lunar_policy()
    config = configure(
        {"env.num_envs": 4, "ppo.rollout_steps": 64, "ppo.minibatch_size": 64}, base=TrainConfig()
    )
    generator = torch.Generator().manual_seed(0)
    rollout, _ = Runner(
        SerialVectorEnv("LunarLander-v3", 4), policy, config, generator=generator
    ).collect()
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}, rollout


def lunar_policy() -> ActorCritic:
    return make_policy(resolve(TrainConfig()).config, generator=torch.Generator().manual_seed(0))


def update(
    config: PPOConfig, *, learning_rate: float = 1e-3, rollout: Rollout | None = None
) -> tuple[ActorCritic, dict[str, float]]:
    """One update of the policy that played `lunar_rollout`."""
    weights, played = lunar_rollout()
    policy = lunar_policy()
    policy.load_state_dict(weights)
    metrics = Agent(policy, replace(config, learning_rate=learning_rate)).update(
        rollout or played, remaining=1.0, generator=torch.Generator().manual_seed(5)
    )
    return policy, metrics


def test_surrogate_value_entropy_and_total_match_numpy() -> None:
    policy, batch, log_probs, values = example()
    config = PPOConfig(
        clip_range=0.2, value_coef=0.7, entropy_coef=0.03, advantage_norm="none", minibatch_size=6
    )
    with torch.no_grad():
        loss = ppo_loss(policy, batch, config, Limits.of(config))
    value = 0.5 * np.mean((values - batch.returns.numpy()) ** 2)
    entropy = np.mean(-(np.exp(log_probs) * log_probs).sum(-1))
    assert sum(SURROGATES) / 6 == pytest.approx(0.3)
    assert loss.terms.tolist() == [
        pytest.approx(-0.3, abs=1e-5),
        pytest.approx(value, rel=1e-5),
        pytest.approx(entropy, rel=1e-5),
    ]
    assert float(loss.total) == pytest.approx(-0.3 + 0.7 * value - 0.03 * entropy, abs=1e-5)
    recorded = clip_metrics(loss.log_ratio, PPOConfig(clip_range=0.2))
    assert recorded == {"policy/clip_fraction": pytest.approx(4 / 6)}
    kl = np.mean([ratio - 1 - np.log(ratio) for ratio in RATIOS])
    assert float(approximate_kl(loss.log_ratio)) == pytest.approx(kl, abs=1e-5)


def test_the_penalty_is_the_divergence_of_the_new_policy_from_the_old() -> None:
    """KL(old || new), not the other way round; here the old policy is the uniform one."""
    policy, batch, log_probs, _ = example()
    config = PPOConfig(surrogate="kl_fixed", kl_coef=2.0, advantage_norm="none")
    with torch.no_grad():
        loss = ppo_loss(policy, batch, config, Limits.of(config))
    kl = (0.5 * (np.log(0.5) - log_probs)).sum(-1).mean()
    gained = np.mean(np.array(RATIOS) * np.array(ADVANTAGES))
    assert kl > 0.01
    assert float(loss.terms[0]) == pytest.approx(-(gained - 2 * kl), abs=1e-5)


@pytest.mark.parametrize(
    ("index", "moves"),
    [(0, False), (1, False), (2, True), (3, True), (4, True), (5, True)],
)
def test_only_a_clipped_sample_stops_pushing_the_policy(index: int, moves: bool) -> None:
    policy, batch, _, _ = example()
    one = batch.rows(slice(index, index + 1))
    config = PPOConfig(clip_range=0.2, value_coef=0.0, entropy_coef=0.0, advantage_norm="none")
    torch.autograd.backward(ppo_loss(policy, one, config, Limits.of(config)).total)
    gradient = policy.actor.weight.grad
    assert gradient is not None
    assert bool(gradient.any()) == moves


def test_the_ratio_is_1_before_the_first_step() -> None:
    _, metrics = update(PPOConfig(minibatch_size=256, update_epochs=1))
    assert metrics["policy/clip_fraction"] == 0.0
    assert abs(metrics["policy/approx_kl"]) < 1e-6


def test_the_ratio_moves_after_the_first_step() -> None:
    _, metrics = update(PPOConfig(minibatch_size=256, update_epochs=5), learning_rate=0.01)
    assert metrics["policy/approx_kl"] > 1e-4


def test_normalised_1_2_3_is_minus_1_0_1() -> None:
    torch.testing.assert_close(
        normalised(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-1.0, 0.0, 1.0])
    )


def test_minibatch_norm_normalises_inside_the_loss_and_the_others_do_not() -> None:
    policy, batch, _, _ = example()
    raw = np.array(ADVANTAGES)
    scaled = (raw - raw.mean()) / raw.std(ddof=1)
    ratios = np.array(RATIOS)
    cases: dict[Norm, Floats] = {"none": raw, "batch": raw, "minibatch": scaled}
    for kind, advantages in cases.items():
        config = replace(PPOConfig(clip_range=0.2), advantage_norm=kind)
        expected = np.minimum(ratios * advantages, ratios.clip(0.8, 1.2) * advantages).mean()
        with torch.no_grad():
            loss = ppo_loss(policy, batch, config, Limits.of(config))
        assert float(loss.terms[0]) == pytest.approx(-expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["none", "batch", "minibatch"])
def test_batch_norm_covers_the_whole_rollout_the_others_hand_on_gae(
    kind: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def spy(policy: ActorCritic, batch: Batch, config: PPOConfig, limits: Limits) -> Loss:
        seen.append(batch.advantages)
        return ppo_loss(policy, batch, config, limits)

    monkeypatch.setattr(lander.agent, "ppo_loss", spy)
    config = replace(PPOConfig(minibatch_size=64, update_epochs=1), advantage_norm=kind)
    update(config)
    raw = gae(lunar_rollout()[1], gamma=config.gamma, gae_lambda=config.gae_lambda).flatten()
    expected = (raw - raw.mean()) / raw.std() if kind == "batch" else raw
    assert [len(advantages) for advantages in seen] == [64, 64, 64, 64]
    torch.testing.assert_close(torch.cat(seen).sort().values, expected.sort().values)
    # the minibatches are not centred one by one here
    assert max(abs(float(part.mean())) for part in seen) > 0.01


def numbered(count: int) -> Batch:
    """Transition k has k, 2k, ... in its columns."""
    column = torch.arange(float(count))
    logits = torch.stack((column, torch.zeros(count)), -1).unsqueeze(1)
    return Batch(
        obs=column.unsqueeze(-1),
        actions=torch.zeros(count, 1, dtype=torch.int64),
        log_probs=column,
        pi=Categorical(logits),
        values=4 * column,
        advantages=2 * column,
        returns=3 * column,
    )


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(12, 4, [4, 4, 4]), (10, 4, [3, 3, 4]), (5, 4, [2, 3]), (3, 8, [3]), (5, 2, [1, 2, 2])],
)
def test_minibatches_hold_every_transition_once_in_like_shares(
    count: int, size: int, sizes: list[int]
) -> None:
    parts = list(numbered(count).minibatches(size, generator=torch.Generator().manual_seed(1)))
    assert sorted(len(part.obs) for part in parts) == sizes
    order = torch.cat([part.log_probs for part in parts])
    assert not torch.equal(order, torch.arange(float(count)))
    assert torch.equal(order.sort().values, torch.arange(float(count)))
    for part in parts:
        assert torch.equal(part.advantages, 2 * part.log_probs)
        assert torch.equal(part.returns, 3 * part.log_probs)
        assert torch.equal(part.values, 4 * part.log_probs)
        assert torch.equal(part.obs[:, 0], part.log_probs)
        # log sigmoid(k), the probability of the first action
        assert part.pi is not None
        first = part.pi.log_prob(part.actions)
        torch.testing.assert_close(first, part.log_probs.sigmoid().log())


@pytest.mark.parametrize("kind", ["none", "batch", "minibatch"])
@pytest.mark.parametrize("value_clip", [None, 1e-3])
def test_the_critic_is_fitted_to_raw_advantage_plus_value(
    kind: Norm, value_clip: float | None
) -> None:
    """With no step made V = V_old and the error is -A: half the mean square of GAE."""
    config = replace(
        PPOConfig(minibatch_size=256, update_epochs=1), advantage_norm=kind, value_clip=value_clip
    )
    _, metrics = update(config, learning_rate=1e-30)
    raw = gae(lunar_rollout()[1], gamma=config.gamma, gae_lambda=config.gae_lambda)
    assert metrics["loss/value"] == pytest.approx(0.5 * float(raw.square().mean()), rel=1e-4)


def plain_update(config: PPOConfig, *, rollout: Rollout) -> ActorCritic:
    """The same update, written with torch's own Adam and norm on tensors of their own."""
    policy = lunar_policy()
    policy.load_state_dict(lunar_rollout()[0])
    advantages = gae(rollout, gamma=config.gamma, gae_lambda=config.gae_lambda)
    batch = Batch.of(rollout, config, advantages=advantages, returns=advantages + rollout.values)
    critic = [p for name, p in policy.named_parameters() if name.startswith("critic")]
    actor = [p for name, p in policy.named_parameters() if not name.startswith("critic")]
    rate = config.critic_learning_rate or 1e-3
    groups: list[dict[str, Any]] = [{"params": actor}, {"params": critic, "lr": rate}]
    adam = torch.optim.Adam(groups, lr=1e-3, eps=1e-5)
    generator = torch.Generator().manual_seed(5)
    for _ in range(config.update_epochs):
        for minibatch in batch.minibatches(config.minibatch_size, generator=generator):
            adam.zero_grad()
            torch.autograd.backward(ppo_loss(policy, minibatch, config, Limits.of(config)).total)
            torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)
            adam.step()
    return policy


@pytest.mark.parametrize("critic_rate", [None, 4e-3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_an_update_is_plain_adam_with_a_clipped_global_norm(
    scale: float, critic_rate: float | None
) -> None:
    """The flat tensor of weights is a matter of speed alone; small gradients stay as they are."""
    _, played = lunar_rollout()
    played = replace(played, rewards=played.rewards * scale)
    config = PPOConfig(
        minibatch_size=64,
        update_epochs=2,
        advantage_norm="none",
        critic_learning_rate=critic_rate,
    )
    ours, _ = update(config, rollout=played)
    plain = plain_update(config, rollout=played)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-2, atol=1e-5)


def global_norm(policy: ActorCritic) -> float:
    squares = [
        float(parameter.grad.square().sum())
        for parameter in policy.parameters()
        if parameter.grad is not None
    ]
    assert len(squares) == 12
    return float(np.sqrt(sum(squares)))


def test_the_gradient_is_cut_to_the_global_norm_and_left_alone_below_it() -> None:
    _, played = lunar_rollout()
    steep = replace(played, rewards=played.rewards * 100)
    config = PPOConfig(minibatch_size=256, update_epochs=1)
    free, _ = update(replace(config, max_grad_norm=1e6), rollout=steep)
    cut, _ = update(replace(config, max_grad_norm=0.5), rollout=steep)
    assert global_norm(free) > 1.0
    assert global_norm(cut) == pytest.approx(0.5, abs=1e-5)
    ratio = 0.5 / global_norm(free)
    for whole, part in zip(free.parameters(), cut.parameters(), strict=True):
        assert whole.grad is not None
        torch.testing.assert_close(part.grad, whole.grad * ratio)


def test_one_step_of_adam_moves_every_weight_by_at_most_the_learning_rate() -> None:
    policy, _ = update(PPOConfig(minibatch_size=256, update_epochs=1), learning_rate=1e-3)
    weights, _ = lunar_rollout()
    moved = {
        name: float((tensor - weights[name]).abs().max())
        for name, tensor in policy.state_dict().items()
    }
    assert all(0 < step <= 1.001e-3 for step in moved.values()), moved


def test_explained_variance_is_1_for_a_perfect_critic_and_0_for_a_constant() -> None:
    returns = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((3,), 9.0), returns) == pytest.approx(0.0, abs=1e-6)
    # Var[R - V] = 2.333 * 4, Var[R] = 2.333
    assert explained_variance(3 * returns, returns) == pytest.approx(-3.0)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-5, 1.0, 1e6])
def test_explained_variance_is_the_plain_quotient_at_any_scale_of_returns(size: float) -> None:
    """A critic that has 1, 2, 3, 4 backwards: Var[R - V] = 4 Var[R]."""
    returns = size * torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns.flip(0), returns) == pytest.approx(-3.0)


@pytest.mark.parametrize("size", [0.0, 1e-5, 0.1, 1e6])
def test_explained_variance_is_not_said_of_constant_returns(size: float) -> None:
    values = torch.tensor([0.1, 0.2, 0.3])
    constant = torch.full((3,), size)
    assert explained_variance(values, constant) is None
    rounded = constant + size * torch.tensor([0.0, 1.2e-7, -1.2e-7])
    assert explained_variance(values, rounded) is None
    assert explained_variance(values[:1], constant[:1]) is None


def test_an_update_on_constant_returns_records_no_explained_variance() -> None:
    rollout = lunar_rollout()[1]
    still = replace(
        rollout,
        rewards=torch.ones_like(rollout.rewards),
        terminated=torch.ones_like(rollout.terminated),
        truncated=torch.zeros_like(rollout.truncated),
    )
    _, metrics = update(PPOConfig(minibatch_size=64), rollout=still)
    assert "loss/value" in metrics
    assert "value/explained_variance" not in metrics


def test_a_single_advantage_is_not_normalised() -> None:
    assert torch.equal(normalised(torch.tensor([3.0])), torch.tensor([3.0]))


def test_value_clipping_takes_the_larger_error_with_an_epsilon_of_its_own() -> None:
    """c = 1, V_old = 0.

    V = 3, R = 4: plain 1, clipped to 1: 9       -> 9
    V = 3, R = 0: plain 9, clipped to 1: 1       -> 9
    V = -2, R = -1: plain 1, clipped to -1: 0    -> 1
    V = 0.5, R = 2: plain 2.25, not clipped      -> 2.25
    """
    batch = replace(numbered(4), values=torch.zeros(4), returns=torch.tensor([4.0, 0.0, -1.0, 2.0]))
    values = torch.tensor([3.0, 3.0, -2.0, 0.5])
    assert value_error(values, batch, clip=1.0).tolist() == [4.5, 4.5, 0.5, 1.125]
    assert value_error(values, batch, clip=None).tolist() == [0.5, 4.5, 0.5, 1.125]


def test_value_clipping_is_around_the_old_value() -> None:
    """V_old = 10, V = 10.5, c = 0.25: near is 10.25, not 10 + clip(0.5, 1 - c, 1 + c) = 10.75."""
    batch = replace(numbered(1), values=torch.tensor([10.0]), returns=torch.tensor([11.0]))
    error = value_error(torch.tensor([10.5]), batch, clip=0.25)
    assert float(error) == 0.5 * 0.75**2


def test_value_clipping_is_off_by_default_and_reaches_the_loss() -> None:
    policy, batch, _, values = example()
    wide, tight = (replace(PPOConfig(), value_clip=clip) for clip in (1e6, 1e-3))
    assert PPOConfig().value_clip is None
    plain = 0.5 * np.mean((values - batch.returns.numpy()) ** 2)
    with torch.no_grad():
        for config in (PPOConfig(), wide):
            loss = ppo_loss(policy, batch, config, Limits.of(config))
            assert float(loss.terms[1]) == pytest.approx(plain, rel=1e-5)
        assert float(ppo_loss(policy, batch, tight, Limits.of(tight)).terms[1]) > plain
