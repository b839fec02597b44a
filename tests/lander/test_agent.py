"""What an update does with its options: stops, schedules, two learning rates, no critic."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import lander.agent
from lander import ActorCritic, PPOConfig, TrainConfig, resolve, train
from lander.advantages import ADVANTAGES
from lander.agent import Agent, Batch, Loss, ppo_loss
from lander.env import VectorEnv
from lander.fields import configure
from lander.policy import make_policy
from lander.rollout import Rollout
from lander.runner import Runner

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
    return resolve(configure(BASE | values, base=TrainConfig()))


@cache
def played(trunk: str = "separate") -> tuple[ActorCritic, Rollout]:
    """A policy and 4 x 32 steps of it; not to be changed."""
    config = made({"policy.trunk": trunk})
    generator = torch.Generator().manual_seed(0)
    policy = make_policy(config, generator=generator)
    rollout, _ = Runner(VectorEnv("CartPole-v1", 4), policy, config, generator=generator).collect()
    return policy, rollout


def updated(
    values: dict[str, Any] | None = None, *, remaining: float = 1.0, trunk: str = "separate"
) -> tuple[ActorCritic, dict[str, float]]:
    """A copy of that policy after one update on that rollout."""
    policy, rollout = played(trunk)
    policy = deepcopy(policy)
    config = made({"policy.trunk": trunk} | (values or {})).ppo
    generator = torch.Generator().manual_seed(1)
    return policy, Agent(policy, config).update(rollout, remaining=remaining, generator=generator)


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


def test_kl_stop_leaves_what_so_many_steps_make() -> None:
    """Four minibatches an epoch: a stop within the second epoch is one epoch and some steps."""
    stopped, metrics = updated({"ppo.kl_stop": 1e-3})
    steps = int(metrics["policy/gradient_steps"])
    policy, rollout = played()
    plain = deepcopy(policy)
    agent = Agent(plain, made({}).ppo)
    batch = batch_of(rollout)
    generator = torch.Generator().manual_seed(1)
    agent._scheduled(1.0)
    epochs = agent._epochs(batch, made({}).ppo, generator=generator)
    for _ in range(steps):
        next(epochs)
    assert same(stopped, plain)


def batch_of(rollout: Rollout) -> Batch:
    """As `Agent.update` makes it at the defaults."""
    config = made({}).ppo
    advantages = ADVANTAGES[config.advantage].estimate(rollout, config)
    return Batch.of(rollout, advantages=advantages, returns=advantages + rollout.values)


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
    return [
        agent.update(rollout, remaining=1.0, generator=generator)["policy/kl_coef"]
        for _ in range(updates)
    ]


def test_an_adaptive_beta_holds_from_the_next_update_on() -> None:
    still = {"ppo.learning_rate": 1e-30, "ppo.kl_coef": 4.0}
    assert betas(still, 3) == [4.0, 2.0, 1.0]
    far = {"ppo.learning_rate": 0.1, "ppo.kl_coef": 0.01, "ppo.kl_target": 1e-6}
    assert betas(far, 3) == [0.01, 0.02, 0.04]


def test_an_adaptive_beta_changes_what_is_learned() -> None:
    still = {"ppo.surrogate": "kl_adaptive", "total_steps": 512}
    tight, loose = (train(made(still | {"ppo.kl_target": target})).policy for target in (1e-9, 1e9))
    assert not same(tight, loose)


@pytest.mark.parametrize("kind", ["linear", "constant"])
def test_schedules_follow_what_is_left_of_the_budget(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[PPOConfig] = []

    def spy(policy: ActorCritic, batch: Batch, config: PPOConfig) -> Loss:
        seen.append(config)
        return ppo_loss(policy, batch, config)

    monkeypatch.setattr(lander.agent, "ppo_loss", spy)
    values = {"ppo.clip_range": 0.4, "ppo.clip_range_schedule": kind, "ppo.update_epochs": 1}
    updated(values, remaining=0.25)
    assert {config.clip_range for config in seen} == {0.1 if kind == "linear" else 0.4}


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
    assert moved(policy, "actor") == pytest.approx(0.5e-3, rel=0.02)
    assert moved(policy, "critic") == pytest.approx(2.5e-3, rel=0.02)
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
    rollout, _ = Runner(VectorEnv("CartPole-v1", 4), policy, config, generator=generator).collect()
    assert not rollout.values.any()
    assert not rollout.next_values.any()
    metrics = Agent(policy, config.ppo).update(rollout, remaining=1.0, generator=generator)
    assert not [name for name in metrics if "value" in name]
    with torch.no_grad():
        loss = ppo_loss(policy, batch_of(rollout), config.ppo)
    expected = float(loss.policy) - config.ppo.entropy_coef * float(loss.entropy)
    assert float(loss.total) == pytest.approx(expected)
    assert float(loss.value) == 0.0


def weights(values: dict[str, Any]) -> Tensor:
    policy = train(made(NO_CRITIC | values)).policy
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


@pytest.mark.parametrize("norm", ["batch", "minibatch"])
def test_reward_scale_cancels_out_without_critic_under_normalised_advantages(norm: str) -> None:
    kind = {"ppo.advantage_norm": norm}
    small, large = (weights(kind | {"env.reward_scale": scale}) for scale in (0.01, 1.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-3)


def test_reward_scale_matters_under_advantages_as_they_are() -> None:
    kind = {"ppo.advantage_norm": "none"}
    small, large = (weights(kind | {"env.reward_scale": scale}) for scale in (0.01, 1.0))
    assert float((small - large).abs().max()) > 0.01
