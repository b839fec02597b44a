"""What an update does with its options: stops, schedules, two learning rates, no critic."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

import lander.agent
from lander.advantages import ADVANTAGES
from lander.agent import Agent, Batch, Divergence, Loss, approximate_kl, ppo_loss
from lander.config import PPOConfig, TrainConfig
from lander.dotted import configure
from lander.heads import BOX_HEADS
from lander.metrics import CURVES
from lander.policy import ActorCritic, make_policy
from lander.resolve import resolve
from lander.rollout import Rollout
from lander.runner import Runner
from lander.surrogates import Limits
from lander.trainer import train
from lander.vector import SerialVectorEnv

BASE = {
    "env.id": "CartPole-v1",
    "env.num_envs": 4,
    "env.reward_scale": 1.0,
    "policy.hidden_sizes": (16,),
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 32,
    "ppo.update_epochs": 4,
    "ppo.learning_rate": 0.01,
    "total_steps": 256,
    "checkpoints": 1,
    "eval_episodes": 1,
    "final_episodes": 1,
}
NO_CRITIC = {
    "policy.critic": False,
    "ppo.advantage": "reward_to_go",
    "ppo.rollout_episodes": 8,
    "ppo.rollout_steps": PPOConfig().rollout_steps,
}


def made(values: dict[str, Any]) -> TrainConfig:
    return resolve(configure(BASE | values, base=TrainConfig())).config


@cache
def played(trunk: str = "separate") -> tuple[ActorCritic, Rollout]:
    """A policy and 4 x 32 steps of it; not to be changed."""
    config = made({"policy.trunk": trunk})
    generator = torch.Generator().manual_seed(0)
    policy = make_policy(config, generator=generator)
    rollout, _ = Runner(
        SerialVectorEnv("CartPole-v1", 4), policy, config, generator=generator
    ).collect()
    return policy, rollout


def updated(
    values: dict[str, Any] | None = None,
    *,
    remaining: float = 1.0,
    trunk: str = "separate",
    rewards: Tensor | None = None,
) -> tuple[ActorCritic, dict[str, float]]:
    """A copy of that policy after one update on that rollout."""
    policy, rollout = played(trunk)
    policy = deepcopy(policy)
    if rewards is not None:
        rollout = replace(rollout, rewards=rewards)
    config = made({"policy.trunk": trunk} | (values or {})).ppo
    generator = torch.Generator().manual_seed(1)
    return policy, Agent(policy, config).update(rollout, remaining=remaining, generator=generator)


@dataclass(frozen=True)
class Asked:
    """How near the loss was asked to keep the policy, and the ratio before the step."""

    limits: Limits
    ratio: Tensor
    approx_kl: float


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Of every gradient step, also of one that `kl_stop` then refuses."""
    calls: list[Asked] = []

    def spy(policy: ActorCritic, batch: Batch, config: PPOConfig, limits: Limits) -> Loss:
        with torch.no_grad():
            ratio = (policy(batch.obs).pi.log_prob(batch.actions) - batch.log_probs).exp()
        loss = ppo_loss(policy, batch, config, limits)
        calls.append(Asked(limits, ratio, float(approximate_kl(loss.log_ratio))))
        return loss

    monkeypatch.setattr(lander.agent, "ppo_loss", spy)
    return calls


def same(left: ActorCritic, right: ActorCritic) -> bool:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def moved(policy: ActorCritic, part: str, *, trunk: str = "separate") -> float:
    """The largest step of a weight of one part."""
    before = dict(played(trunk)[0].named_parameters())
    return max(
        float((weight - before[name]).detach().abs().max())
        for name, weight in policy.named_parameters()
        if name.startswith(part)
    )


def test_kl_stop_ends_an_update_before_the_step_that_would_go_too_far() -> None:
    free, metrics = updated()
    assert "policy/gradient_steps" not in metrics
    stopped, metrics = updated({"ppo.kl_stop": 1e-3})
    steps = metrics["policy/gradient_steps"]
    assert 1 <= steps < 16
    assert not same(stopped, free)
    loose, metrics = updated({"ppo.kl_stop": 1e6})
    assert metrics["policy/gradient_steps"] == 16
    assert same(loose, free)


def test_kl_stop_is_the_largest_divergence_that_still_steps(asked: list[Asked]) -> None:
    updated()
    seen = [call.approx_kl for call in asked]
    # a minibatch past the first epoch that goes further than all before it
    far = next(k for k in range(5, 16) if seen[k] > 1.02 * max(seen[:k]))
    for limit, steps in ((0.99 * seen[far], far), (1.01 * max(seen[:far]), far)):
        asked.clear()
        _, metrics = updated({"ppo.kl_stop": limit})
        assert metrics["policy/gradient_steps"] == steps
        assert len(asked) == steps + 1  # nothing is tried after it


def test_kl_stop_leaves_what_so_many_steps_make() -> None:
    """Four minibatches an epoch: a stop within the second epoch is one epoch and some steps."""
    stopped, metrics = updated({"ppo.kl_stop": 1e-3})
    steps = int(metrics["policy/gradient_steps"])
    policy, rollout = played()
    plain = deepcopy(policy)
    agent = Agent(plain, made({}).ppo)
    batch = batch_of(rollout)
    generator = torch.Generator().manual_seed(1)
    epochs = agent._epochs(batch, made({}).ppo, generator=generator)
    for _ in range(steps):
        next(epochs)
    assert same(stopped, plain)


def test_an_update_stopped_before_its_first_step_changes_nothing() -> None:
    """The policy is off the one that played by ratios of e^0.5 from the start."""
    policy, rollout = played()
    rollout = replace(rollout, log_probs=rollout.log_probs - 0.5)
    after = deepcopy(policy)
    generator = torch.Generator().manual_seed(1)
    agent = Agent(after, made({"ppo.kl_stop": 0.1}).ppo)
    metrics = agent.update(rollout, remaining=1.0, generator=generator)
    assert same(after, policy)
    assert metrics["policy/gradient_steps"] == 0
    assert metrics["policy/approx_kl"] == pytest.approx(math.exp(0.5) - 1.5, abs=1e-5)


def test_approx_kl_counts_the_minibatch_that_ended_the_update(asked: list[Asked]) -> None:
    _, metrics = updated({"ppo.kl_stop": 1e-3})
    assert asked[-1].approx_kl > 1e-3
    expected = sum(call.approx_kl for call in asked) / len(asked)
    assert metrics["policy/approx_kl"] == pytest.approx(expected, rel=1e-4)
    assert metrics["policy/gradient_steps"] == len(asked) - 1


def batch_of(rollout: Rollout) -> Batch:
    """As `Agent.update` makes it at the defaults."""
    config = made({}).ppo
    advantages = ADVANTAGES[config.advantage](rollout, config)
    returns = advantages + rollout.values
    return Batch.of(rollout, config, advantages=advantages, returns=returns)


def test_a_penalty_of_no_weight_is_no_surrogate() -> None:
    none, _ = updated({"ppo.surrogate": "none"})
    free, _ = updated({"ppo.surrogate": "kl_fixed", "ppo.kl_coef": 0.0})
    bound, _ = updated({"ppo.surrogate": "kl_fixed", "ppo.kl_coef": 10.0})
    assert same(none, free)
    assert not same(none, bound)


@pytest.mark.parametrize(
    ("surrogate", "recorded"),
    [
        ("clip", {"policy/clip_fraction"}),
        ("none", set()),
        ("kl_fixed", set()),
        ("kl_adaptive", {"policy/kl_coef"}),
    ],
)
def test_what_only_some_surrogates_record(surrogate: str, recorded: set[str]) -> None:
    _, metrics = updated({"ppo.surrogate": surrogate})
    assert metrics.keys() & {"policy/clip_fraction", "policy/kl_coef"} == recorded


def betas(values: dict[str, Any], updates: int) -> list[float]:
    policy, rollout = played()
    agent = Agent(deepcopy(policy), made({"ppo.surrogate": "kl_adaptive"} | values).ppo)
    generator = torch.Generator().manual_seed(1)
    metrics = [agent.update(rollout, remaining=1.0, generator=generator) for _ in range(updates)]
    return [each["policy/kl_coef"] for each in metrics if "policy/kl_coef" in each]


def test_an_adaptive_beta_holds_from_the_next_update_on() -> None:
    still = {"ppo.learning_rate": 1e-30, "ppo.kl_coef": 4.0}
    assert betas(still, 3) == [4.0, 2.0, 1.0]
    far = {"ppo.learning_rate": 0.1, "ppo.kl_coef": 0.01, "ppo.kl_target": 1e-6}
    assert betas(far, 3) == [0.01, 0.02, 0.04]


def test_an_adaptive_beta_is_what_the_loss_of_the_next_update_uses(asked: list[Asked]) -> None:
    betas({"ppo.learning_rate": 1e-30, "ppo.kl_coef": 4.0, "ppo.update_epochs": 1}, 3)
    assert [float(call.limits.kl_coef) for call in asked] == [4.0] * 4 + [2.0] * 4 + [1.0] * 4
    asked.clear()
    betas({"ppo.learning_rate": 1e-30, "ppo.kl_coef": 4.0, "ppo.surrogate": "kl_fixed"}, 2)
    assert {float(call.limits.kl_coef) for call in asked} == {4.0}


def test_beta_follows_the_exact_mean_divergence_after_the_update() -> None:
    policy, rollout = played()
    after, _ = updated({"ppo.surrogate": "kl_adaptive"})
    with torch.no_grad():
        seen = rollout.obs.flatten(0, 1)
        old, new = (Categorical(logits=p.actor(p.actor_trunk(seen))) for p in (policy, after))
        kl = float(kl_divergence(old, new).mean())
    for target, beta in (
        (kl / 1.501, 2.0),
        (kl / 1.499, 1.0),
        (kl * 1.499, 1.0),
        (kl * 1.501, 0.5),
    ):
        assert betas({"ppo.kl_target": target}, 2) == [1.0, beta]


def test_an_adaptive_beta_changes_what_is_learned() -> None:
    still = {"ppo.surrogate": "kl_adaptive", "total_steps": 512}
    tight, loose = (train(made(still | {"ppo.kl_target": target})).policy for target in (1e-9, 1e9))
    assert not same(tight, loose)


@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_the_clip_range_follows_what_is_left_of_the_budget_or_stays(
    kind: str, asked: list[Asked]
) -> None:
    values = {"ppo.clip_range": 0.4, "ppo.clip_range_schedule": kind, "ppo.update_epochs": 1}
    updated(values, remaining=0.25)
    eps = 0.1 if kind == "linear" else 0.4
    assert {float(call.limits.low) for call in asked} == {1 - eps}
    assert {float(call.limits.high) for call in asked} == {1 + eps}


def test_the_learning_rate_falls_linearly_or_stays() -> None:
    """Adam's first step moves a weight by its learning rate, whatever the gradient."""
    one = {"ppo.update_epochs": 1, "ppo.minibatch_size": 128, "ppo.learning_rate": 1e-3}
    for remaining, kind, rate in (
        (1.0, "linear", 1e-3),
        (0.25, "linear", 0.25e-3),
        (0.25, "constant", 1e-3),
    ):
        policy, _ = updated(one | {"ppo.learning_rate_schedule": kind}, remaining=remaining)
        for part in ("actor", "critic"):
            assert moved(policy, part) == pytest.approx(rate, rel=0.02)


def test_the_critic_may_have_a_learning_rate_of_its_own() -> None:
    one = {"ppo.update_epochs": 1, "ppo.minibatch_size": 128, "ppo.learning_rate": 1e-3}
    own = {"ppo.critic_learning_rate": 5e-3}
    policy, _ = updated(one | own, remaining=0.5)
    for part, rate in (("actor.", 0.5e-3), ("critic.", 2.5e-3), ("critic_trunk", 2.5e-3)):
        assert moved(policy, part) == pytest.approx(rate, rel=0.02)
    # a shared trunk serves the actor too, and goes with it
    policy, _ = updated(one | own, trunk="shared")
    assert moved(policy, "actor_trunk", trunk="shared") == pytest.approx(1e-3, rel=0.02)
    assert moved(policy, "actor.", trunk="shared") == pytest.approx(1e-3, rel=0.02)
    assert moved(policy, "critic.", trunk="shared") == pytest.approx(5e-3, rel=0.02)


def test_equal_learning_rates_in_two_groups_are_one_and_the_norm_is_global() -> None:
    one, _ = updated({"ppo.max_grad_norm": 0.05})
    two, _ = updated({"ppo.max_grad_norm": 0.05, "ppo.critic_learning_rate": 0.01})
    for left, right in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    squares = sum(float(p.grad.square().sum()) for p in two.parameters() if p.grad is not None)
    assert squares**0.5 == pytest.approx(0.05, rel=1e-3)


def test_without_a_critic_nothing_is_said_of_one() -> None:
    config = made(NO_CRITIC)
    generator = torch.Generator().manual_seed(0)
    policy = make_policy(config, generator=generator)
    assert not any("critic" in name for name, _ in policy.named_parameters())
    rollout, _ = Runner(
        SerialVectorEnv("CartPole-v1", 4), policy, config, generator=generator
    ).collect()
    assert not rollout.values.any()
    assert not rollout.next_values.any()
    metrics = Agent(policy, config.ppo).update(rollout, remaining=1.0, generator=generator)
    assert not [name for name in metrics if "value" in name]
    with torch.no_grad():
        loss = ppo_loss(policy, batch_of(rollout), config.ppo, Limits.of(config.ppo))
    surrogate, value, entropy = loss.terms.tolist()
    assert float(loss.total) == pytest.approx(surrogate - config.ppo.entropy_coef * entropy)
    assert value == 0.0


def weights(values: dict[str, Any]) -> Tensor:
    policy = train(made(NO_CRITIC | values)).policy
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


@pytest.mark.parametrize("norm", ["batch", "minibatch"])
def test_reward_scale_cancels_without_critic_in_normalised_advantages(norm: str) -> None:
    kind = {"ppo.advantage_norm": norm}
    small, large = (weights(kind | {"env.reward_scale": scale}) for scale in (0.01, 1.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-3)


def test_reward_scale_matters_under_advantages_as_they_are() -> None:
    kind = {"ppo.advantage_norm": "none"}
    small, large = (weights(kind | {"env.reward_scale": scale}) for scale in (0.01, 1.0))
    assert float((small - large).abs().max()) > 0.01


@pytest.mark.parametrize("head", [*BOX_HEADS, "discrete"])
def test_the_ratio_is_1_on_the_first_minibatch_with_every_head(
    head: str, asked: list[Asked]
) -> None:
    values: dict[str, Any] = {"env.id": "LunarLander-v3"}
    if head != "discrete":
        values = {"env.id": "LunarLanderContinuous-v3", "policy.head": head}
    if head not in {"discrete", "gaussian"}:
        values["env.bins"] = 5
    config = made(values)
    generator = torch.Generator().manual_seed(2)
    policy = make_policy(config, generator=generator)
    rollout, _ = Runner(
        SerialVectorEnv(config.env.id, 4), policy, config, generator=generator
    ).collect()
    Agent(policy, config.ppo).update(rollout, remaining=1.0, generator=generator)
    assert asked[0].ratio.shape == (32,)
    assert float((asked[0].ratio - 1).abs().max()) < 1e-6
    assert float((asked[1].ratio - 1).abs().max()) > 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_a_divergence_that_names_a_metric(bad: float) -> None:
    rewards = played()[1].rewards.clone()
    rewards[10, 1] = bad
    with pytest.raises(Divergence) as caught:
        updated(rewards=rewards)
    name, value = str(caught.value).split(" = ")
    assert name in CURVES
    assert value in {"nan", "inf", "-inf"}


def test_a_weight_that_is_not_finite_is_a_divergence() -> None:
    """After the last step, when every loss was still finite."""
    with pytest.raises(Divergence, match="a weight is not finite"):
        updated({"ppo.minibatch_size": 128, "ppo.update_epochs": 1, "ppo.learning_rate": 1e39})
