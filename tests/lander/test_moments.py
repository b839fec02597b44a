"""Running statistics: exact, part of the policy, and moved by training alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lander import checkpoint as files
from lander.agent import Batch, Loss, ppo_loss
from lander.config import EnvConfig, PolicyConfig, PPOConfig, TrainConfig
from lander.evaluation import evaluate
from lander.policy import ActorCritic, DeterministicActor, make_policy
from lander.resolve import resolve
from lander.rollout import Rollout
from lander.runner import Runner
from lander.running_stats import RunningMeanStd
from lander.seeds import CHECKPOINT_SEED
from lander.surrogates import Limits
from lander.trainer import Training, TrainResult, train
from lander.vector import SerialVectorEnv, Step

CONFIG = TrainConfig(
    EnvConfig(id="Pendulum-v1", num_envs=2, obs_norm=True, obs_clip=1.5, reward_scale="running"),
    PolicyConfig(hidden_sizes=(16,), init="torch"),
    PPOConfig(rollout_steps=32, minibatch_size=64, update_epochs=1),
    total_steps=192,
    checkpoints=3,
    eval_episodes=1,
    final_episodes=1,
)
OBS = 3 * torch.randn(40, 3, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def trained() -> TrainResult:
    return train(CONFIG)


def moments(policy: ActorCritic) -> RunningMeanStd:
    assert policy.obs_moments is not None
    return policy.obs_moments


def with_prior(samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of samples and of a ten-thousandth of one with mean 0, variance 1."""
    count = len(samples) + 1e-4
    mean = samples.sum(0) / count
    return mean, (1e-4 + (samples**2).sum(0)) / count - mean**2


# the sums


def test_moments_of_batches_are_those_of_all_samples() -> None:
    samples = np.random.default_rng(0).normal([0.5, -2.0, 30.0], [1.0, 0.1, 7.0], (261, 3))
    running = RunningMeanStd(3)
    for batch in np.split(samples, [1, 8, 108, 111, 161]):
        running.update(torch.from_numpy(batch))
    mean, variance = with_prior(samples)
    np.testing.assert_allclose(running.mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(running.variance.numpy(), variance, rtol=1e-9)
    np.testing.assert_allclose(running.mean.numpy(), samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(running.variance.numpy(), samples.var(0), rtol=1e-3)
    assert float(running.count) == pytest.approx(261.0001, abs=1e-9)


def test_moments_of_single_numbers_have_no_dimension() -> None:
    running = RunningMeanStd()
    running.update(torch.tensor([1.0, 2.0, 6.0]))
    running.update(torch.tensor([7.0]))
    assert running.mean.shape == running.std.shape == ()
    assert float(running.mean) == pytest.approx(4.0, rel=1e-4)
    assert float(running.variance) == pytest.approx(6.5, rel=1e-4)


def test_normalised_samples_are_shifted_scaled_and_clipped() -> None:
    running = RunningMeanStd(2)
    running.mean.copy_(torch.tensor([1.0, -2.0]))
    running.variance.copy_(torch.tensor([4.0, 0.25]))
    samples = torch.tensor([[1.0, -2.0], [3.0, -3.0], [99.0, -99.0], [-9.0, 0.0]])
    expected = [[0.0, 0.0], [1.0, -2.0], [3.0, -3.0], [-3.0, 3.0]]
    assert running.normalise(samples, clip=3.0).tolist() == [
        pytest.approx(row, abs=1e-6) for row in expected
    ]


def test_before_the_first_sample_nothing_is_changed_but_clipped() -> None:
    normalised = RunningMeanStd(3).normalise(OBS, clip=5.0)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, OBS.clamp(-5, 5))


def test_a_number_that_never_changes_stays_finite() -> None:
    """1e-8 is added to the variance: the smallest std is 1e-4."""
    running = RunningMeanStd(1)
    for _ in range(100):
        running.update(torch.full((1000, 1), 0.25))
    assert float(running.variance) == pytest.approx(1.0625e-9)
    assert float(running.std) == pytest.approx(1.0518e-4, rel=1e-4)
    assert running.normalise(torch.tensor([[0.25], [9.0]]), clip=10.0).tolist() == [
        pytest.approx([0.0], abs=1e-4),
        [10.0],
    ]


# observations: part of the policy


def test_an_unnormalised_policy_has_no_statistics_and_raw_observations() -> None:
    config = resolve(replace(CONFIG, env=EnvConfig(id="Pendulum-v1", num_envs=2))).config
    policy = make_policy(config, generator=torch.Generator())
    assert not [name for name in policy.state_dict() if "moments" in name]
    assert policy.normalise(OBS) is OBS


def test_the_policys_statistics_are_saved_with_its_weights(
    trained: TrainResult, tmp_path: Path
) -> None:
    weights = trained.policy.state_dict()
    for name in ("mean", "variance", "count"):
        assert {f"obs_moments.{name}", f"reward_moments.{name}"} <= weights.keys()
    files.save(tmp_path / "policy.pt", weights, trained.config)
    loaded, _ = files.load(tmp_path / "policy.pt")
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == weights[name].dtype
        assert torch.equal(tensor, weights[name])
    assert torch.equal(DeterministicActor(loaded)(OBS), DeterministicActor(trained.policy)(OBS))


@pytest.mark.parametrize("generator", [None, torch.Generator()], ids=["deterministic", "sampled"])
def test_evaluation_leaves_the_statistics_alone(
    trained: TrainResult, generator: torch.Generator | None
) -> None:
    before = {name: tensor.clone() for name, tensor in trained.policy.state_dict().items()}
    evaluate(trained.policy, "Pendulum-v1", seeds=[1, 2], generator=generator)
    for name, tensor in trained.policy.state_dict().items():
        assert torch.equal(tensor, before[name])


def by_hand(policy: ActorCritic, obs: Tensor) -> Tensor:
    """The mean torque for raw observations."""
    mean, variance = moments(policy).mean.numpy(), moments(policy).variance.numpy()
    seen = np.clip((obs.numpy() - mean) / np.sqrt(variance + 1e-8), -1.5, 1.5)
    outputs: Tensor = policy.actor(policy.actor_trunk(torch.from_numpy(seen).float()))
    return 2 * outputs.clamp(-1, 1)


@torch.no_grad()
def test_the_deterministic_actor_takes_raw_observations(trained: TrainResult) -> None:
    actions = DeterministicActor(trained.policy)(OBS)
    assert float(actions.std()) > 0.01
    torch.testing.assert_close(actions, by_hand(trained.policy, OBS), rtol=0, atol=1e-5)
    raw = 2 * trained.policy.actor(trained.policy.actor_trunk(OBS)).clamp(-1, 1)
    assert float((actions - raw).abs().max()) > 0.01


@torch.no_grad()
def test_the_critic_sees_normalised_observations_too(trained: TrainResult) -> None:
    policy = trained.policy
    assert policy.critic is not None
    assert policy.critic_trunk is not None
    expected = policy.critic(policy.critic_trunk(policy.normalise(OBS))).squeeze(-1)
    assert torch.equal(policy.value(OBS), expected)
    assert torch.equal(policy(OBS).values, expected)
    assert torch.equal(policy(OBS).pi.mode(), policy.distribution(OBS).mode())


def test_an_exported_actor_holds_the_statistics(trained: TrainResult) -> None:
    actor = DeterministicActor(trained.policy).eval()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(actor, (OBS,), dynamic_shapes=({0: batch},)).module()
    for obs in (OBS, OBS + 5, OBS[:3]):
        assert torch.equal(exported(obs), actor(obs))


def test_the_best_policy_flies_with_the_statistics_of_its_checkpoint(trained: TrainResult) -> None:
    best = max(trained.checkpoints, key=lambda evaluation: evaluation.return_mean)
    again = evaluate(trained.best_policy, "Pendulum-v1", seeds=[CHECKPOINT_SEED])
    assert again.returns == best.returns
    updates = 1 + trained.checkpoints.index(best)
    assert float(moments(trained.best_policy).count) == pytest.approx(64 * updates, abs=1e-3)


# observations: moved once per update, behind the agent


def test_statistics_include_a_rollout_after_the_agent_has_learned_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[float] = []
    seen: list[Tensor] = []

    @torch.no_grad()
    def watched(policy: ActorCritic, batch: Batch, config: PPOConfig, limits: Limits) -> Loss:
        """Before the only gradient step of each update the policy is still the one that flew."""
        counts.append(float(moments(policy).count))
        seen.append(batch.obs)
        prediction = policy(batch.obs)
        ratio = (prediction.pi.log_prob(batch.actions) - batch.log_probs).exp()
        assert float((ratio - 1).abs().max()) < 1e-5
        assert prediction.values is not None
        torch.testing.assert_close(prediction.values, batch.values)
        with torch.enable_grad():
            return ppo_loss(policy, batch, config, limits)

    monkeypatch.setattr("lander.agent.ppo_loss", watched)
    config = resolve(CONFIG).config
    with closing(SerialVectorEnv("Pendulum-v1", 2)) as envs:
        training = Training(config, envs)
        for _ in range(3):
            training.update()
        policy = training.result().policy
    assert counts == pytest.approx([0.0001, 64.0001, 128.0001], abs=1e-9)
    mean, variance = with_prior(torch.cat(seen).double().numpy())
    np.testing.assert_allclose(moments(policy).mean.numpy(), mean, rtol=1e-9)
    np.testing.assert_allclose(moments(policy).variance.numpy(), variance, rtol=1e-9)


# rewards


class Heavy(SerialVectorEnv):
    """Rewards with heavy tails, the same in every instance."""

    def __init__(self) -> None:
        super().__init__("CartPole-v1", 2, time_limit=15)
        self._noise = np.random.default_rng(0)

    def step(self, actions: NDArray[np.generic], copies: NDArray[np.intp] | None = None) -> Step:
        step = super().step(actions, copies)
        return replace(step, rewards=self._noise.standard_cauchy(len(step.rewards)))


def rollouts(reward_scale: float | Literal["running"], ppo: PPOConfig) -> Iterator[Rollout]:
    """Two in succession; whatever the scale, of the same flights."""
    env = EnvConfig(id="CartPole-v1", num_envs=2, time_limit=15)
    config = resolve(TrainConfig(replace(env, reward_scale=reward_scale), ppo=ppo)).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(0))
    with closing(Heavy()) as envs:
        runner = Runner(envs, policy, config, generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            yield runner.collect()[0]


STEPS = PPOConfig(rollout_steps=100, minibatch_size=200, gamma=0.5)
EPISODES = PPOConfig(rollout_episodes=14, gamma=0.5)


@pytest.mark.parametrize("ppo", [STEPS, EPISODES], ids=["steps", "episodes"])
def test_running_scale_is_the_std_of_the_discounted_return_so_far(ppo: PPOConfig) -> None:
    """The sum R_t = r_t + R_{t-1} / 2 begins anew with each episode, and not with a rollout."""
    sums: list[float] = []
    discounted: NDArray[np.float64] = np.zeros(1)
    clipped = 0
    for raw, scaled in zip(rollouts(1.0, ppo), rollouts("running", ppo), strict=True):
        assert torch.equal(raw.actions, scaled.actions)
        assert raw.terminated.any()
        assert raw.truncated.any()
        rewards = raw.rewards.double().numpy()
        for reward, continues in zip(rewards, raw.continues.numpy(), strict=True):
            discounted = reward + 0.5 * discounted
            sums += discounted.tolist()
            discounted = discounted * continues
        _, variance = with_prior(np.array(sums))
        expected = np.clip(rewards / np.sqrt(variance + 1e-8), -10, 10)
        np.testing.assert_allclose(scaled.rewards.numpy(), expected, rtol=2e-6)
        clipped += int((np.abs(expected) == 10).sum())
    assert clipped > 0


def test_running_scale_does_not_shift_rewards() -> None:
    """Each rollout's rewards keep their signs and ratios: they are divided, nothing more."""
    for raw, scaled in zip(rollouts(1.0, STEPS), rollouts("running", STEPS), strict=True):
        inside = scaled.rewards.abs() < 10
        factors = (scaled.rewards / raw.rewards)[inside]
        torch.testing.assert_close(factors, factors[:1].expand_as(factors))
        assert factors[0] > 0
