"""The defects of the program this one grew from, and the gotchas of its field: one test each.

What they are, in the order of the notes that list them; the closer look is in `tests/lander`.
"""

from __future__ import annotations

from math import log, pi
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from lander import (
    ActorCritic,
    ConfigError,
    Divergence,
    EnvConfig,
    Progress,
    TrainConfig,
    TrainResult,
    evaluate,
    resolve,
    train,
)
from lander.__main__ import main
from lander.advantages import gae, reward_to_go
from lander.agent import Batch, normalised, ppo_loss, value_error
from lander.checkpoint import load, save
from lander.distributions import Categorical, DiagonalGaussian, SquashedGaussian
from lander.env import VectorEnv, make_env
from lander.evaluation import CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED, replay
from lander.fields import configure
from lander.heads import BOX_HEADS
from lander.policy import make_policy
from lander.resolve import UnflyableWarning
from lander.rollout import Rollout
from lander.runner import Runner

SMALL = {
    "env.id": "Pendulum-v1",
    "env.num_envs": 2,
    "policy.hidden_sizes": (8,),
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 32,
    "total_steps": 128,
    "checkpoints": 1,
    "eval_episodes": 1,
    "final_episodes": 1,
}
# one trunk, a critic, advantages as they are: what the six parameters were swept on
SEED_DEFAULTS = SMALL | {"env.bins": 5, "policy.trunk": "shared", "ppo.advantage_norm": "none"}
NO_CRITIC = SMALL | {
    "env.id": "CartPole-v1",
    "policy.critic": False,
    "ppo.advantage": "reward_to_go",
    "ppo.rollout_episodes": 8,
    "ppo.rollout_steps": 128,
}


def made(values: dict[str, Any]) -> TrainConfig:
    return resolve(configure(values, base=TrainConfig()))


def run(values: dict[str, Any]) -> TrainResult:
    return train(made(values))


def weights(policy: ActorCritic) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def collected(values: dict[str, Any]) -> tuple[TrainConfig, ActorCritic, Rollout, list[int]]:
    """A rollout of an untrained policy, and the lengths of the episodes that ended in it."""
    config = made(values)
    policy = make_policy(config, generator=rng())
    envs = VectorEnv(config.env.id, config.env.num_envs, time_limit=config.env.time_limit)
    rollout, episodes = Runner(envs, policy, config, generator=rng(1)).collect()
    return config, policy, rollout, [episode.length for episode in episodes]


def one_step(*, reward: float, terminated: bool, truncated: bool) -> Rollout:
    """V(s_t) = 1, V(s_{t+1}) = 10, and a next row that does not belong to the episode."""
    return Rollout(
        obs=torch.zeros(2, 1, 1),
        actions=torch.zeros(2, 1, 1),
        log_probs=torch.zeros(2, 1),
        pi=Categorical(torch.zeros(2, 1, 2)),
        values=torch.tensor([[1.0], [0.0]]),
        next_values=torch.tensor([[10.0], [0.0]]),
        rewards=torch.tensor([[reward], [100.0]]),
        terminated=torch.tensor([[terminated], [True]]),
        truncated=torch.tensor([[truncated], [False]]),
    )


@pytest.fixture(scope="module")
def seed_run() -> TrainResult:
    return run(SEED_DEFAULTS)


# ------------------------------------------------------------------------------- its defects


@pytest.mark.parametrize(("field", "value"), [("ppo.clip_range", 0.05), ("ppo.update_epochs", 3)])
def test_defect_01_eps_and_k_reach_the_gradient(
    field: str, value: float, seed_run: TrainResult
) -> None:
    other = run(SEED_DEFAULTS | {field: value})
    assert not torch.equal(weights(other.policy), weights(seed_run.policy))


def test_defect_02_the_best_file_holds_the_best_checkpoint() -> None:
    result = run(SMALL | {"total_steps": 640, "checkpoints": 10, "ppo.learning_rate": 0.01})
    scores = [checkpoint.return_mean for checkpoint in result.checkpoints]
    seeds = result.checkpoints[0].seeds
    assert evaluate(result.best_policy, "Pendulum-v1", seeds=seeds).return_mean == max(scores)
    assert max(scores) > scores[-1]  # or the last file would pass too


def test_defect_03_a_time_limit_is_no_terminal_state() -> None:
    _, _, rollout, _ = collected(SMALL | {"env.time_limit": 8})
    assert rollout.truncated.sum() == 8
    assert not rollout.terminated.any()
    assert rollout.next_values[rollout.truncated].all()


def test_defect_04_a_bootstrap_value_draws_no_action() -> None:
    _, policy, rollout, _ = collected(SMALL)
    generator = rng(1)
    for t in range(32):  # 32 draws of 2 actions are all that the runner took
        actions = policy.distribution(rollout.obs[t]).sample(generator)
        assert torch.equal(actions, rollout.actions[t])


def test_defect_05_evaluating_does_not_change_training() -> None:
    few, many = (run(SMALL | {"checkpoints": 2, "eval_episodes": n}) for n in (1, 4))
    assert torch.equal(weights(few.policy), weights(many.policy))


def test_defect_06_value_clipping_is_around_the_old_value_and_takes_the_larger_error() -> None:
    batch = batch_with(values=[10.0, 0.0], returns=[11.0, 0.0])
    error = value_error(torch.tensor([10.5, 3.0]), batch, clip=0.25)
    # 10.25 against 11; 3 against 0, not 0.25 against 0
    assert float(error) == 0.5 * (0.75**2 + 3.0**2) / 2


def batch_with(*, values: list[float], returns: list[float]) -> Batch:
    count = len(values)
    return Batch(
        obs=torch.zeros(count, 3),
        actions=torch.zeros(count, 1, dtype=torch.int64),
        log_probs=torch.zeros(count),
        pi=Categorical(torch.zeros(count, 1, 2)),
        values=torch.tensor(values),
        advantages=torch.zeros(count),
        returns=torch.tensor(returns),
    )


def test_defect_07_returns_are_reported_in_raw_units() -> None:
    still = SMALL | {"ppo.learning_rate": 1e-30}
    small, large = (run(still | {"env.reward_scale": scale}) for scale in (0.01, 10.0))
    assert small.final.returns == large.final.returns
    flown = replay(
        "Pendulum-v1", seed=small.final.seeds[0], actions=small.final.actions[0]
    ).total_reward
    assert small.final.returns[0] == flown


def test_defect_08_lambda_without_a_critic_is_an_error_and_no_value_loss_is_logged() -> None:
    with pytest.raises(ConfigError, match=r"\Appo.gae_lambda acts only with ppo.advantage = gae"):
        made(NO_CRITIC | {"ppo.gae_lambda": 0.9})
    seen: list[Progress] = []
    train(made(NO_CRITIC), on_update=seen.append)
    assert not any("value" in name for name in seen[0].metrics)


def test_defect_09_the_unclipped_action_is_kept_and_the_clipped_one_flown() -> None:
    _, policy, rollout, _ = collected(SMALL | {"policy.init_std": 3.0})
    assert (rollout.actions.abs() > 1).any()
    assert policy.head.to_env(rollout.actions.flatten(0, 1)).abs().max() == 2.0
    mean = policy.distribution(rollout.obs.flatten(0, 1)).mode().detach()
    z = (rollout.actions.flatten(0, 1) - mean) / 3.0
    normal = -0.5 * z.square().sum(-1) - log(3.0) - 0.5 * log(2 * pi)
    torch.testing.assert_close(rollout.log_probs.flatten(), normal)


def test_defect_10_environments_are_stock_gymnasium_of_today() -> None:
    env = make_env("LunarLander-v3")
    assert isinstance(env, gym.Env)
    assert len(env.reset(seed=0)) == 2
    assert len(env.step(0)) == 5
    env.close()


def test_defect_11_every_default_is_that_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, default in (
        ("ppo.learning-rate", TrainConfig().ppo.learning_rate),
        ("ppo.update-epochs", TrainConfig().ppo.update_epochs),
        ("env.reward-scale", TrainConfig().env.reward_scale),
    ):
        explained = shown.rpartition(f"--{name} X ")[2].partition(" --")[0]
        assert explained.endswith(f"[{default}]")


# ------------------------------------------------------------------------------- gotchas


@pytest.mark.parametrize(
    ("terminated", "truncated", "advantage"),
    [
        (False, True, 2 + 0.5 * 10 - 1),  # bootstraps, and the 100 of the next row stays out
        (True, False, 2 - 1),
        (True, True, 2 - 1),  # terminated wins
        (False, False, 2 + 0.5 * 10 - 1 + 0.5 * 100),  # no end: the next row belongs to it
    ],
)
def test_g01_truncation_bootstraps_and_termination_does_not(
    terminated: bool, truncated: bool, advantage: float
) -> None:
    rollout = one_step(reward=2.0, terminated=terminated, truncated=truncated)
    assert float(gae(rollout, gamma=0.5, gae_lambda=1.0)[0]) == advantage


def test_g02_no_dummy_row_of_a_reset_enters_the_batch() -> None:
    _, _, rollout, lengths = collected(
        SMALL | {"env.id": "CartPole-v1", "ppo.rollout_episodes": 8, "ppo.rollout_steps": 128}
    )
    assert rollout.env_steps == sum(lengths)
    assert set(rollout.rewards.flatten().tolist()) == {float(np.float32(0.03))}  # a reset: 0


@pytest.mark.parametrize(("norm", "same"), [("minibatch", True), ("batch", True), ("none", False)])
def test_g03_reward_scale_cancels_out_under_normalised_advantages_only(
    norm: str, same: bool
) -> None:
    small, large = (
        run(NO_CRITIC | {"ppo.advantage_norm": norm, "env.reward_scale": scale})
        for scale in (0.01, 1.0)
    )
    assert torch.allclose(weights(small.policy), weights(large.policy), atol=1e-3) == same


def test_g04_statistics_of_the_running_scale_are_saved_with_the_policy(tmp_path: Path) -> None:
    result = run(SMALL | {"env.reward_scale": "running", "env.obs_norm": True})
    save(tmp_path / "policy.pt", result.policy.state_dict(), result.config)
    policy, _ = load(tmp_path / "policy.pt")
    for mine, theirs in (
        (policy.reward_moments, result.policy.reward_moments),
        (policy.obs_moments, result.policy.obs_moments),
    ):
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine.variance, theirs.variance)
        assert float(mine.count) > 100
    assert not any("moments" in name for name in run(SMALL).policy.state_dict())


def test_g05_value_clipping_is_off_by_default() -> None:
    assert TrainConfig().ppo.value_clip is None
    batch = batch_with(values=[0.0], returns=[2.0])
    assert float(value_error(torch.tensor([1.0]), batch, clip=None)) == 0.5


def test_g06_a_minibatch_of_one_is_left_as_it_is() -> None:
    assert normalised(torch.tensor([7.0])).tolist() == [7.0]
    with pytest.raises(ConfigError):
        made(SMALL | {"ppo.minibatch_size": 1})


def test_g07_rewards_to_go_are_of_whole_episodes() -> None:
    with pytest.raises(ConfigError, match="needs whole episodes"):
        made(NO_CRITIC | {"ppo.rollout_episodes": None, "total_steps": 256})
    _, _, rollout, _ = collected(NO_CRITIC)
    first = int(rollout.terminated.flatten().nonzero()[0])
    togo = reward_to_go(rollout, gamma=1.0, baseline="none").flatten()
    assert float(togo[0]) == pytest.approx(0.03 * (first + 1), rel=1e-5)
    assert float(togo[first]) == pytest.approx(0.03)


@pytest.mark.parametrize("head", BOX_HEADS)
def test_g08_one_log_probability_per_state_and_a_ratio_of_1_before_the_first_step(
    head: str,
) -> None:
    bins = {} if head == "gaussian" else {"env.bins": 3}
    lander = SMALL | {"env.id": "LunarLanderContinuous-v3", "policy.head": head} | bins
    config, policy, rollout, _ = collected(lander)
    batch = Batch(
        obs=rollout.obs.flatten(0, 1),
        actions=rollout.actions.flatten(0, 1),
        log_probs=rollout.log_probs.flatten(),
        pi=rollout.pi,
        values=rollout.values.flatten(),
        advantages=torch.zeros(64),
        returns=rollout.values.flatten(),
    )
    with torch.no_grad():
        new = policy(batch.obs).pi
        assert new.entropy().shape == new.log_prob(batch.actions).shape == (64,)
        ratio = (new.log_prob(batch.actions) - batch.log_probs).exp()
        assert float((ratio - 1).abs().max()) < 1e-6
        assert float(ppo_loss(policy, batch, config.ppo).approx_kl) == pytest.approx(0, abs=1e-6)


def test_g09_a_squashed_gaussian_subtracts_the_log_determinant() -> None:
    mean, log_std = torch.zeros(1, 2), torch.zeros(2)
    u = torch.tensor([[0.5, -1.0]])
    plain = DiagonalGaussian(mean, log_std).log_prob(u)
    squashed = SquashedGaussian(mean, log_std).log_prob(u)
    torch.testing.assert_close(squashed, plain - (1 - u.tanh() ** 2).log().sum(-1))


def test_g10_the_initial_std_is_that_of_the_config_and_a_small_one_is_warned_of() -> None:
    assert TrainConfig().policy.init_std == 1.0
    policy = make_policy(made(SMALL | {"policy.init_std": 0.6}), generator=rng())
    parameter = dict(policy.named_parameters())["head.log_std"]
    assert parameter.tolist() == pytest.approx([log(0.6)])
    with pytest.warns(UnflyableWarning, match="side engines"):
        made({"env.id": "LunarLanderContinuous-v3", "policy.init_std": 0.135})


@pytest.mark.parametrize(("init", "largest"), [("orthogonal", 0.01), ("torch", 8**-0.5)])
def test_g11_both_initialisations_are_there(init: str, largest: float) -> None:
    policy = make_policy(made(SMALL | {"policy.init": init, "env.bins": 3}), generator=rng())
    assert 0 < float(policy.actor.weight.detach().abs().max()) <= largest
    assert bool(policy.actor.bias.any()) == (init == "torch")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ppo.learning_rate", 1e-3),
        ("ppo.update_epochs", 7),
        ("ppo.clip_range", 0.05),
        ("ppo.gae_lambda", 0.9),
        ("env.reward_scale", 0.05),
        ("env.bins", 7),
    ],
)
def test_g12_each_of_the_six_parameters_changes_the_weights(
    field: str, value: float, seed_run: TrainResult
) -> None:
    mine, theirs = weights(run(SEED_DEFAULTS | {field: value}).policy), weights(seed_run.policy)
    assert mine.shape != theirs.shape or not torch.equal(mine, theirs)


def test_g13_the_best_file_flies_as_it_did_at_its_checkpoint(tmp_path: Path) -> None:
    result = run(SMALL | {"total_steps": 320, "checkpoints": 5, "ppo.learning_rate": 0.01})
    save(tmp_path / "best.pt", result.best_policy.state_dict(), result.config)
    policy, _ = load(tmp_path / "best.pt")
    best = max(result.checkpoints, key=lambda checkpoint: checkpoint.return_mean)
    assert evaluate(policy, "Pendulum-v1", seeds=best.seeds).returns == best.returns


def test_g14_training_is_the_same_with_and_without_evaluation() -> None:
    one, four = (run(SMALL | {"total_steps": 256, "checkpoints": n}) for n in (1, 4))
    assert torch.equal(weights(one.policy), weights(four.policy))


def test_g15_bins_hold_both_ends_and_one_bin_is_none() -> None:
    with pytest.raises(ConfigError, match=r"\Aenv.bins: input should be greater"):
        made(SMALL | {"env.bins": 1})
    lander = {"env.id": "LunarLanderContinuous-v3", "env.bins": 3, "policy.head": "joint"}
    joint = make_policy(made(lander), generator=rng()).head
    pairs = joint.to_env(torch.arange(9).unsqueeze(-1)).tolist()
    assert pairs == [[a, b] for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)]


def test_g16_ordinal_is_equation_4_and_finite_everywhere() -> None:
    head = make_policy(
        made(SMALL | {"policy.head": "ordinal", "env.bins": 5}), generator=rng()
    ).head
    outputs = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]], requires_grad=True)
    actions = torch.arange(5).unsqueeze(-1)
    log_probs = head.distribution(outputs.expand(5, 5)).log_prob(actions)
    expected = torch.tensor([0.1321, 0.3590, 0.3590, 0.1321, 0.0179])
    torch.testing.assert_close(log_probs.exp(), expected, atol=1e-4, rtol=0)
    (gradient,) = torch.autograd.grad(log_probs[3], outputs)
    assert float(gradient[0, 0]) == pytest.approx(0.0, abs=1e-7)
    far = torch.tensor([[1e4, -1e4, 1e4, -1e4, 1e4]], requires_grad=True)
    torch.autograd.backward(head.distribution(far).log_prob(torch.tensor([[0]])).sum())
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_g17_the_budget_is_in_environment_steps_whatever_the_episodes() -> None:
    seen: list[Progress] = []
    result = train(made(NO_CRITIC | {"total_steps": 700}), on_update=seen.append)
    assert seen[-2].env_steps < 700 <= seen[-1].env_steps == result.env_steps


def test_g18_seeds_of_checkpoints_finals_and_flights_are_disjoint() -> None:
    starts = sorted((CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED))
    assert min(np.diff(starts)) >= 1_000_000
    result = run(SMALL | {"eval_episodes": 3, "final_episodes": 3})
    assert set(result.checkpoints[0].seeds).isdisjoint(result.final.seeds)


def test_g19_a_loss_that_is_not_finite_is_a_divergence() -> None:
    with pytest.raises(Divergence, match=r"\Aupdate 1: "):
        run(SMALL | {"ppo.learning_rate": 1e38, "ppo.max_grad_norm": 1e30})


@pytest.mark.parametrize(
    "env", [EnvConfig(id="LunarLander-v3"), EnvConfig(id="LunarLanderContinuous-v3", bins=4)]
)
def test_g20_recorded_actions_replay_to_the_same_return_and_length(env: EnvConfig) -> None:
    config = resolve(TrainConfig(env=env))
    policy = make_policy(config, generator=rng())
    flown = evaluate(policy, env.id, seeds=[2023], generator=rng())
    again = replay(env.id, seed=2023, actions=flown.actions[0])
    assert (again.total_reward, again.length) == (flown.returns[0], flown.lengths[0])
