"""What went wrong in the programs this one grew from, one fact each: 11 defects, 20 gotchas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.nn.functional import logsigmoid

import lander.trainer
from examples.homework import ActionLists, judge, record
from lander.__main__ import parse
from lander.advantages import ADVANTAGES, gae
from lander.agent import Batch, Divergence, normalised, ppo_loss, value_error
from lander.checkpoint import load, save
from lander.config import PPOConfig, TrainConfig
from lander.distributions import Categorical
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.evaluation import Evaluation, evaluate
from lander.heads import BOX_HEADS, GaussianHead, bin_levels, make_head
from lander.policy import ActorCritic, make_policy
from lander.resolve import UnflyableWarning, resolve
from lander.rollout import Rollout
from lander.runner import Runner
from lander.seeds import CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED, seed_range
from lander.surrogates import Limits
from lander.trainer import Progress, TrainResult, train
from lander.vector import SerialVectorEnv

torch.set_num_threads(1)

TINY = {
    "env.id": "CartPole-v1",
    "env.num_envs": 2,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 32,
    "policy.hidden_sizes": (16,),
    "total_steps": 128,
    "checkpoints": 1,
    "eval_episodes": 2,
    "final_episodes": 2,
}
BOX = {"env.id": "Pendulum-v1"}
TWO_ENGINES = {"env.id": "LunarLanderContinuous-v3"}
SEED_REPO = BOX | {"env.bins": 10, "policy.trunk": "shared", "ppo.advantage_norm": "none"}
EPISODES = {"ppo.rollout_episodes": 4, "ppo.rollout_steps": 128}
NO_CRITIC = EPISODES | {"policy.critic": False, "ppo.advantage": "reward_to_go"}
STILL = {"ppo.learning_rate": 1e-30}
ALL_HEADS = {head: {} if head == "gaussian" else {"env.bins": 5} for head in BOX_HEADS}


def tiny(*values: Mapping[str, Any]) -> TrainConfig:
    merged = {name: value for more in (TINY, *values) for name, value in more.items()}
    return configure(merged, base=TrainConfig())


def run(*values: Mapping[str, Any]) -> TrainResult:
    return train(tiny(*values))


def followed(*values: Mapping[str, Any]) -> tuple[TrainResult, list[Progress]]:
    seen: list[Progress] = []
    return train(tiny(*values), on_update=seen.append), seen


def same(left: ActorCritic, right: ActorCritic) -> bool:
    others = dict(right.named_parameters())
    return all(torch.equal(others[name], weights) for name, weights in left.named_parameters())


def untrained(*values: Mapping[str, Any]) -> ActorCritic:
    return make_policy(resolve(tiny(*values)).config, generator=torch.Generator().manual_seed(1))


def make_runner(
    policy: ActorCritic, *values: Mapping[str, Any]
) -> tuple[Runner, SerialVectorEnv, torch.Generator]:
    """A runner, its environments and its random stream."""
    config, generator = resolve(tiny(*values)).config, torch.Generator().manual_seed(2)
    envs = SerialVectorEnv(config.env.id, config.env.num_envs, time_limit=config.env.time_limit)
    return Runner(envs, policy, config, generator=generator), envs, generator


@torch.no_grad()
def outputs(policy: ActorCritic, obs: Tensor) -> Tensor:
    """What the actor hands to its head."""
    result: Tensor = policy.actor(policy.actor_trunk(obs))
    return result


def batch_of(values: Sequence[float], returns: Sequence[float], policy: ActorCritic) -> Batch:
    """V_old and targets on CartPole; taken by the policy as it is, so every ratio is 1."""
    obs = torch.linspace(-1, 1, 4 * len(values)).view(-1, 4)
    pi, actions = policy.distribution(obs).detached(), torch.zeros(len(values), 1).long()
    old = torch.tensor(values)
    return Batch(obs, actions, pi.log_prob(actions), pi, old, old, torch.tensor(returns))


def scripted(monkeypatch: pytest.MonkeyPatch, *scores: float) -> list[dict[str, Tensor]]:
    """Let the checkpoints return these scores; the weights that each of them saw."""
    seen: list[dict[str, Tensor]] = []

    def score(policy: ActorCritic, *_: object, seeds: Sequence[int], **__: object) -> Evaluation:
        seen.append({name: weights.clone() for name, weights in policy.state_dict().items()})
        result = scores[min(len(seen), len(scores)) - 1]
        return Evaluation(tuple(seeds), (result,), (1,), (np.zeros(1, np.int64),))

    monkeypatch.setattr(lander.trainer, "evaluate", score)
    return seen


@pytest.mark.parametrize(
    "change", [{"ppo.clip_range": 0.01}, {"ppo.update_epochs": 3}, {"ppo.gamma": 0.9}]
)
def test_defect_01_what_is_configured_reaches_the_update(change: dict[str, Any]) -> None:
    assert not same(run().policy, run(change).policy)


def test_defect_02_the_best_weights_are_those_that_scored_best() -> None:
    """Only these fly the same flights again as the best checkpoint."""
    result = run({"total_steps": 640, "checkpoints": 10, "ppo.learning_rate": 0.05})
    scores = [checkpoint.return_mean for checkpoint in result.checkpoints]
    assert scores[-1] < max(scores)
    seeds = result.checkpoints[0].seeds
    assert evaluate(result.best_policy, "CartPole-v1", seeds=seeds).return_mean == max(scores)


def test_defect_03_a_time_limit_is_no_terminal_state() -> None:
    """A_t = r_t + gamma V(s_{t+1}) - V(s_t) of the state where a pendulum was stopped."""
    limit = {"env.time_limit": 3, "ppo.rollout_steps": 16}
    policy = untrained(BOX, limit)
    runner, envs, _ = make_runner(policy, BOX, limit, {"env.reward_scale": 1.0})
    starts = [flight.start for flight in envs.unfinished]
    rollout, _ = runner.collect()
    advantages = gae(rollout, gamma=0.9, gae_lambda=0.0)
    assert rollout.truncated[2].all()
    assert not rollout.terminated.any()
    for i, start in enumerate(starts):
        stock = gym.make("Pendulum-v1")
        assert isinstance(start, int)
        stock.reset(seed=start)
        for action in policy.head.to_env(rollout.actions[:3, i]).numpy():
            obs, reward, *_ = stock.step(action)
        with torch.no_grad():
            expected = float(reward) + 0.9 * policy.value(torch.tensor(obs)[None])[0]
        torch.testing.assert_close(advantages[2, i], expected - rollout.values[2, i])


def test_defect_04_only_actions_are_drawn() -> None:
    """Values, at a time limit too, leave the random stream alone."""
    policy = untrained()
    runner, _, generator = make_runner(policy, {"env.time_limit": 5})
    rollout, _ = runner.collect()
    assert int(rollout.truncated.sum()) == 12
    mine = torch.Generator().manual_seed(2)
    for obs, actions in zip(rollout.obs, rollout.actions, strict=True):
        assert torch.equal(policy.distribution(obs).sample(mine), actions)
    assert torch.equal(mine.get_state(), generator.get_state())


def test_defect_05_an_evaluation_between_two_rollouts_changes_nothing() -> None:
    def second_rollout(*, evaluated: bool) -> Rollout:
        policy = untrained()
        runner, _, _ = make_runner(policy)
        runner.collect()
        if evaluated:
            evaluate(policy, "CartPole-v1", seeds=range(3), generator=torch.Generator())
        return runner.collect()[0]

    before = torch.get_rng_state()
    with_, without = second_rollout(evaluated=True), second_rollout(evaluated=False)
    for name in ("obs", "actions", "rewards", "next_values", "terminated"):
        assert torch.equal(getattr(with_, name), getattr(without, name))
    assert torch.equal(torch.get_rng_state(), before)


def test_defect_06_value_clip_surrounds_the_old_value_larger_error_counts() -> None:
    """c = 0.2, V_old = 0, V = 1: of R = 2 (1^2 against 1.8^2), of R = -1 (2^2 against 1.2^2)."""
    batch = batch_of([0.0, 0.0], [2.0, -1.0], untrained())
    error = value_error(torch.tensor([1.0, 1.0]), batch, clip=0.2)
    assert error.tolist() == [pytest.approx(1.8**2 / 2), pytest.approx(2**2 / 2)]


def test_defect_07_returns_are_raw_whatever_the_reward_scale() -> None:
    """A pole earns 1 per step, so a return is a length."""
    result, seen = followed({"env.reward_scale": 0.01})
    for evaluation in (*result.checkpoints, result.final, result.final_sampled):
        assert evaluation.returns == evaluation.lengths
    curves = [progress.metrics for progress in seen]
    assert all(curve["train/return_mean"] == curve["train/length_mean"] for curve in curves)
    assert curves[-1]["eval/return_mean"] == result.checkpoints[-1].return_mean


def test_defect_08_without_a_critic_there_is_no_lambda_and_no_value_loss() -> None:
    with pytest.raises(ConfigError, match="gae needs a critic"):
        run(NO_CRITIC, {"ppo.advantage": "gae"})
    with pytest.raises(ConfigError, match="gae_lambda acts only with"):
        run(NO_CRITIC, {"ppo.gae_lambda": 0.5})
    result, seen = followed(NO_CRITIC)
    assert result.policy.critic is None
    assert not any(name.startswith(("loss/value", "value/")) for name in seen[0].metrics)


def test_defect_09_the_log_probability_is_that_of_the_unclipped_action() -> None:
    wide = BOX | {"policy.init_std": 3.0}
    policy = untrained(wide)
    rollout, _ = make_runner(policy, wide)[0].collect()
    normal: Any = torch.distributions.Normal(outputs(policy, rollout.obs), 3.0)
    torch.testing.assert_close(rollout.log_probs, normal.log_prob(rollout.actions).sum(-1))
    assert float(rollout.actions.abs().max()) > 3.0
    assert float(policy.head.to_env(rollout.actions.flatten(0, 1)).abs().max()) == 2.0


def test_defect_10_flights_are_those_of_the_stock_gymnasium_api() -> None:
    """reset(seed=...) gives a pair, step five values, a terminal state apart from a time limit."""
    flight = evaluate(untrained(), "CartPole-v1", seeds=[7])
    env = gym.make("CartPole-v1")
    _, info = env.reset(seed=7)
    assert info == {}
    steps = [env.step(action) for action in flight.actions[0]]
    assert [terminated for _, _, terminated, _, _ in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(truncated for _, _, _, truncated, _ in steps)
    assert sum(float(reward) for _, reward, *_ in steps) == flight.returns[0]


def test_defect_11_the_command_line_uses_the_defaults_of_the_config(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in vars(parse([])).items() if name.startswith("field:")}
    assert set(given.values()) == {None}
    monkeypatch.setenv("COLUMNS", "100000")
    with pytest.raises(SystemExit):
        parse(["--help"])
    help_ = capsys.readouterr().out
    for name, default in flatten(TrainConfig()).items():
        typed = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        shown = typed.lower() if default is None or isinstance(default, bool) else typed
        option = help_.split(f"\n  --{name.replace('_', '-')} X")[1]
        option = re.split(r"\n  --|\n\n", option)[0]
        assert option.rstrip().endswith(f"[{shown}]")


def test_g01_truncation_bootstraps_termination_does_not_both_cut() -> None:
    """r = 1, V = 2, V' = 4, gamma = lambda = 0.5: delta = 1, before a terminal state -1."""
    ends = torch.zeros(3, 4, dtype=torch.bool)
    terminated, truncated = ends.clone(), ends.clone()
    truncated[1, 1] = terminated[1, 2] = terminated[1, 3] = truncated[1, 3] = True
    ones, nothing = torch.ones(3, 4), torch.empty(3, 4, 0)
    rollout = Rollout(
        obs=nothing,
        actions=nothing,
        log_probs=ones,
        pi=Categorical(torch.zeros(12, 1, 2)),
        values=2 * ones,
        next_values=4 * ones,
        rewards=ones,
        terminated=terminated,
        truncated=truncated,
    )
    columns = gae(rollout, gamma=0.5, gae_lambda=0.5).T.tolist()
    never, time_limit, terminal, both = columns
    assert never == [1.3125, 1.25, 1.0]
    assert time_limit == [1.25, 1.0, 1.0]
    assert terminal == both == [0.75, -1.0, 1.0]


def test_g01_terminated_wins_where_both_are_set() -> None:
    """The limit is the step at which the pole falls."""

    def steps(time_limit: int | None) -> list[tuple[bool, bool]]:
        envs = SerialVectorEnv("CartPole-v1", 1, time_limit=time_limit)
        envs.reset([0])
        played = [envs.step(np.ones(1, np.int64)) for _ in range(12)]
        return [(bool(step.terminated[0]), bool(step.truncated[0])) for step in played]

    length = steps(None).index((True, False)) + 1
    assert steps(length)[length - 1] == (True, False)
    assert steps(length - 1)[length - 2] == (False, True)


def test_g02_no_step_of_a_reset_is_learnt_from() -> None:
    """It would pay 0 instead of 1; and the transitions are those of the episodes."""
    policy, scale = untrained(), {"env.reward_scale": 1.0}
    rollout, episodes = make_runner(policy, scale)[0].collect()
    assert len(episodes) == int((~rollout.continues).sum()) >= 2
    assert torch.equal(rollout.rewards, torch.ones(32, 2))
    rollout, episodes = make_runner(policy, scale, EPISODES)[0].collect()
    assert rollout.env_steps == sum(episode.length for episode in episodes)
    assert torch.equal(rollout.rewards, torch.ones(rollout.env_steps, 1))


def test_g03_reward_scale_cancels_in_normalised_advantages_sans_critic() -> None:
    """To the bit for a power of two; returns are raw for any."""
    for norm in ("none", "batch", "minibatch"):
        (one, curve), (four, other) = (
            followed(NO_CRITIC, {"ppo.advantage_norm": norm, "env.reward_scale": scale})
            for scale in (1.0, 4.0)
        )
        assert same(one.policy, four.policy) == (norm != "none")
        assert curve[0].metrics["train/return_mean"] == other[0].metrics["train/return_mean"]


def test_g04_constant_and_running_scale_are_options_statistics_are_saved(
    tmp_path: Path,
) -> None:
    running = run(BOX, {"env.reward_scale": "running", "env.obs_norm": True})
    assert run(BOX).policy.reward_moments is None
    save(tmp_path / "policy.pt", running.policy.state_dict(), running.config)
    loaded, _ = load(tmp_path / "policy.pt")
    for kept, moments in (
        (loaded.reward_moments, running.policy.reward_moments),
        (loaded.obs_moments, running.policy.obs_moments),
    ):
        assert kept is not None
        assert moments is not None
        assert float(kept.count) == pytest.approx(128, abs=1e-3)
        assert torch.equal(kept.mean, moments.mean)
        assert torch.equal(kept.variance, moments.variance)


def test_g05_the_value_clip_is_off_and_has_an_epsilon_of_its_own() -> None:
    policy = untrained()
    batch = batch_of([5.0, -5.0], [0.0, 1.0], policy)

    def error(**changes: Any) -> float:
        config = PPOConfig(**changes)
        return float(ppo_loss(policy, batch, config, Limits.of(config)).terms[1])

    assert PPOConfig().value_clip is None
    assert error() == error(clip_range=0.01) != error(value_clip=0.1)
    assert error(value_clip=0.1) == error(value_clip=0.1, clip_range=0.01)


def test_g06_advantages_are_normalised_per_batch_minibatch_or_not_at_all() -> None:
    kinds = [run({"ppo.advantage_norm": kind}).policy for kind in ("none", "batch", "minibatch")]
    assert not any(same(one, other) for one, other in combinations(kinds, 2))
    assert normalised(torch.tensor([5.0])).tolist() == [5.0]
    assert normalised(torch.tensor([5.0, 5.0])).tolist() == [0.0, 0.0]
    tiny_spread = normalised(torch.tensor([0.0, 2e-8], dtype=torch.float64))  # std 1.414e-8
    assert tiny_spread.tolist() == pytest.approx([-1 / 2.414214, 1 / 2.414214])


def test_g07_without_a_critic_rewards_to_go_come_from_whole_episodes() -> None:
    """Reward 1, gamma 0.9: G_t = (1 - 0.9^(L - t)) / 0.1 of an episode of L steps."""
    with pytest.raises(ConfigError, match="needs whole episodes"):
        run(NO_CRITIC, {"ppo.rollout_episodes": None, "ppo.rollout_steps": 32})
    config = {"env.reward_scale": 1.0, "ppo.gamma": 0.9}
    runner, _, _ = make_runner(untrained(), EPISODES, config)
    rollout, _ = runner.collect()
    ends = (~rollout.continues[:, 0]).nonzero().flatten().tolist()
    lengths = [end - start for start, end in pairwise([-1, *ends])]
    assert (len(lengths), ends[-1]) == (4, rollout.env_steps - 1)
    left = [length - t for length in lengths for t in range(length)]
    returns = (1 - 0.9 ** torch.tensor(left)) / 0.1
    steps = torch.tensor([t for length in lengths for t in range(length)])
    means = torch.stack([returns[steps == t].mean() for t in steps])
    for baseline, expected in (
        ("none", returns),
        ("mean", returns - returns.mean()),
        ("time", returns - means),
    ):
        ppo = PPOConfig(gamma=0.9, baseline=baseline)
        estimated = ADVANTAGES["reward_to_go"](rollout, ppo)[:, 0]
        torch.testing.assert_close(estimated, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ALL_HEADS)
def test_g08_log_probs_are_summed_over_dimensions_and_ratios_begin_at_1(
    head: str,
) -> None:
    values = TWO_ENGINES | {"policy.head": head} | ALL_HEADS[head]
    policy = untrained(values)
    rollout, _ = make_runner(policy, values)[0].collect()
    obs, actions = rollout.obs.flatten(0, 1), rollout.actions.flatten(0, 1)
    logits = outputs(policy, obs).view(64, 2 if head in {"categorical", "ordinal"} else 1, -1)
    oracle: Any = torch.distributions.Categorical(
        logits=logits.cumsum(-1) if head == "ordinal" else logits
    )
    if head == "gaussian":
        oracle = torch.distributions.Normal(outputs(policy, obs), torch.ones(2))
    with torch.no_grad():
        pi = policy.distribution(obs)
        log_probs, entropy = pi.log_prob(actions), pi.entropy()
    assert log_probs.shape == entropy.shape == (64,)
    torch.testing.assert_close(log_probs, oracle.log_prob(actions).sum(-1))
    torch.testing.assert_close(entropy, oracle.entropy().sum(-1))
    ratios = (log_probs - rollout.log_probs.flatten()).exp()
    assert float((ratios - 1).abs().max()) < 1e-6


def test_g09_the_environment_gets_the_clipped_action() -> None:
    policy = untrained(BOX)
    torque = policy.head.to_env(torch.tensor([[-3.0], [-0.5], [0.25], [1.5]]))
    assert torque.tolist() == [[-2.0], [-1.0], [0.5], [2.0]]


def test_g09_a_squashed_log_probability_has_the_log_determinant() -> None:
    """log N(u) - sum log(1 - tanh(u)^2)."""
    policy = untrained(TWO_ENGINES, {"policy.squash": True})
    mean, u = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.8, -1.1]])
    normal: Any = torch.distributions.Normal(mean, 1.0)
    expected = (normal.log_prob(u) - (1 - u.tanh() ** 2).log()).sum(-1)
    torch.testing.assert_close(policy.head.distribution(mean).log_prob(u), expected)
    torch.testing.assert_close(policy.head.to_env(u), u.tanh())


def test_g10_the_standard_deviation_is_trained_per_dimension() -> None:
    for std in (1.0, 0.6, 0.5):
        values = BOX | {"policy.init_std": std, "ppo.entropy_coef": 0.0}
        before, after = (
            dict(run(values, more).policy.named_parameters())["head.log_std"]
            for more in (STILL, {})
        )
        assert before.exp().tolist() == pytest.approx([std])
        assert not torch.equal(before, after)
    decayed = untrained(TWO_ENGINES, {"policy.std": "decayed", "policy.final_std": 0.2}).head
    for remaining, std in ((1.0, 1.0), (0.5, 0.6), (0.0, 0.2)):
        assert isinstance(decayed, GaussianHead)
        decayed.anneal(remaining)
        assert decayed.log_std.exp().tolist() == pytest.approx([std, std])


@pytest.mark.parametrize(
    ("std", "fires"), [(1.0, 0.62), (0.5, 0.32), (0.37, 0.18), (0.135, 0.0002)]
)
def test_g10_a_narrow_gaussian_hardly_fires_the_side_engines(std: float, fires: float) -> None:
    config = tiny(TWO_ENGINES, {"policy.init_std": std, "policy.head": "gaussian"})
    if fires < 0.01:
        with pytest.warns(UnflyableWarning, match="side engines"):
            resolve(config)
    else:
        resolve(config)
    assert erfc(0.5 / std / sqrt(2)) == pytest.approx(fires, rel=0.1)
    head = make_head(Box(-1, 1, (2,)), config)
    pi = head.distribution(torch.zeros(20_000, 2))
    sideways = head.to_env(pi.sample(torch.Generator().manual_seed(0)))[:, 1]
    share = float((sideways.abs() > 0.5).float().mean())
    assert share == pytest.approx(fires, abs=0.01)


def test_g11_weights_begin_orthogonal_or_as_torch_makes_them() -> None:
    gains = {"actor_trunk.0": sqrt(2), "critic_trunk.0": sqrt(2), "actor": 0.01, "critic": 1.0}
    ours = untrained({"policy.init": "orthogonal"}).state_dict()
    torchs = untrained({"policy.init": "torch"}).state_dict()
    for layer, gain in gains.items():
        singular = torch.linalg.svdvals(ours[f"{layer}.weight"])
        torch.testing.assert_close(singular, torch.full_like(singular, gain))
        assert not ours[f"{layer}.bias"].any()
        bound = torchs[f"{layer}.weight"].shape[1] ** -0.5
        for part in ("weight", "bias"):
            assert 0 < float(torchs[f"{layer}.{part}"].abs().max()) <= bound


@pytest.mark.parametrize(
    "change",
    [
        {"ppo.clip_range": 0.05},
        {"ppo.update_epochs": 7},
        {"ppo.gae_lambda": 0.9},
        {"ppo.learning_rate": 1e-3},
        {"env.reward_scale": 0.01},
        {"env.bins": 9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_g12_each_swept_parameter_changes_the_weights(change: dict[str, Any]) -> None:
    """With a shared trunk, a critic and advantages as they are; of the trunk, whatever the bins."""
    one, again, other = (
        run(SEED_REPO, more).policy.actor_trunk.state_dict() for more in ({}, {}, change)
    )
    for name, weights in one.items():
        assert torch.equal(weights, again[name])
        assert not torch.equal(weights, other[name])


@pytest.mark.parametrize(("scores", "best"), [((1.0, 2.0, 3.0), 2), ((3.0, 2.0, 1.0), 0)])
def test_g13_rising_scores_keep_the_last_falling_ones_the_first(
    scores: tuple[float, ...], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scripted(monkeypatch, *scores)
    kept = run({"total_steps": 192, "checkpoints": 3}).best_policy.state_dict()
    for k in range(3):
        assert all(torch.equal(kept[name], seen[k][name]) for name in kept) == (k == best)


def test_g13_a_saved_policy_flies_the_same_flights(tmp_path: Path) -> None:
    result = run()
    save(tmp_path / "best.pt", result.best_policy.state_dict(), result.config)
    policy, config = load(tmp_path / "best.pt")
    again = evaluate(policy, config.env.id, seeds=result.checkpoints[0].seeds)
    assert again.returns == result.checkpoints[0].returns


def test_g14_evaluating_more_trains_the_same_weights() -> None:
    more = {"checkpoints": 2, "eval_episodes": 5, "final_episodes": 3}
    assert same(run().policy, run(more).policy)


def test_g15_bins_include_both_ends_and_a_single_one_is_refused() -> None:
    box = Box(np.array([-1, -2], np.float32), np.array([1, 4], np.float32))
    config = tiny({"policy.head": "categorical", "env.bins": 5})
    assert bin_levels(box, config).tolist() == [[-1, -0.5, 0, 0.5, 1], [-2, -0.5, 1, 2.5, 4]]
    with pytest.raises(ConfigError, match=r"env\.bins"):
        tiny({"env.bins": 1})


def test_g15_a_joint_index_is_one_combination_of_bins_and_back() -> None:
    box = Box(-1, 1, (2,))
    config = tiny({"policy.head": "joint", "env.bins": 5})
    pairs = make_head(box, config).to_env(torch.arange(25)[:, None])
    first, second = ((pairs + 1) / 0.5).round().long().unbind(-1)
    assert (first * 5 + second).tolist() == list(range(25))


def test_g16_a_running_sum_is_the_ordinal_distribution() -> None:
    """Tang and Agrawal's eq. 4: logit_i = sum_{j <= i} log s_j + sum_{j > i} log(1 - s_j)."""
    head = make_head(Box(-1, 1, (1,)), tiny({"policy.head": "ordinal", "env.bins": 5}))

    def log_probs(outputs: Tensor) -> Tensor:
        return head.distribution(outputs.expand(5, 5)).log_prob(torch.arange(5)[:, None])

    for seed in range(5):
        drawn = torch.randn(5, generator=torch.Generator().manual_seed(seed))
        below = torch.ones(5, 5).tril()
        eq_4 = below @ logsigmoid(drawn) + (1 - below) @ logsigmoid(-drawn)
        torch.testing.assert_close(log_probs(drawn), eq_4.log_softmax(-1))
    named = log_probs(torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])).exp()
    assert named.tolist() == pytest.approx([0.1321, 0.3590, 0.3590, 0.1321, 0.0179], abs=1e-4)
    for size in (1.0, 1e4, -1e4):
        leaf = torch.full((5,), size, requires_grad=True)
        torch.autograd.backward(log_probs(leaf)[2])
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert abs(float(leaf.grad[0])) < 1e-6


def test_g17_the_budget_is_counted_in_steps_however_long_episodes_are() -> None:
    for limit in (3, 30, None):
        result, seen = followed({"env.time_limit": limit})
        assert result.env_steps == result.config.budget == 128
        assert [progress.env_steps for progress in seen] == [64, 128]


def test_g18_training_checkpoints_final_and_flights_have_their_own_seeds() -> None:
    ranges = [seed_range(first, 100_000) for first in (CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED)]
    assert not any(set(one) & set(other) for one, other in combinations(ranges, 2))
    result = run()
    assert result.checkpoints[0].seeds == (CHECKPOINT_SEED, CHECKPOINT_SEED + 1)
    assert result.final.seeds == result.final_sampled.seeds == (FINAL_SEED, FINAL_SEED + 1)
    for seed in range(20):
        _, envs, _ = make_runner(result.policy, {"seed": seed})
        for flight in envs.unfinished:
            assert isinstance(flight.start, int)
            assert flight.start >= 2**31 > max(map(max, ranges))


def test_g19_what_is_not_finite_ends_training_by_name() -> None:
    with pytest.raises(Divergence, match=r"\Aupdate 1: \S[^\n]+\Z"):
        run({"ppo.learning_rate": 1e38, "ppo.max_grad_norm": 1e30})


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "LunarLanderContinuous-v3"])
def test_g20_recorded_actions_fly_the_same_flights_again(env_id: str) -> None:
    policy = untrained({"env.id": env_id})
    lists = record(policy, env_id, seed=2023, episodes=2)
    alone = evaluate(policy, env_id, seeds=[2023])
    verdict = judge(lists)
    assert verdict == judge(lists)
    assert verdict.returns[0] == alone.returns[0]
    assert verdict.lengths == tuple(len(actions) for actions in lists.actions)
    assert np.array_equal(lists.actions[0], alone.actions[0])
    whole, after = lists.actions
    for wrong in (whole[:-1], np.concatenate((whole, whole[-1:]))):
        with pytest.raises(ConfigError, match="episode 1 is"):
            judge(ActionLists(env_id, 2023, (wrong, after)))
