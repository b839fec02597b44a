"""Seeded episodes: the same twice, and the same again from their recorded actions."""

from __future__ import annotations

from itertools import combinations, pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch

from lander.config import EnvConfig, TrainConfig
from lander.evaluation import Evaluation, play, random_act_fn, replay
from lander.evaluation import evaluate as evaluate_policy
from lander.policy import ActorCritic, DeterministicActor, make_policy
from lander.resolve import resolve
from lander.seeds import CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED, seed_range

ENVS = [
    EnvConfig(id="LunarLander-v3"),
    EnvConfig(id="LunarLanderContinuous-v3"),
    EnvConfig(id="LunarLanderContinuous-v3", bins=5),
    EnvConfig(id="CartPole-v1"),
]
SEEDS = seed_range(500, 3)


def policy_for(env: EnvConfig) -> ActorCritic:
    """Untrained, but with actions that depend on what it sees."""
    policy = make_policy(
        resolve(TrainConfig(env=env)).config, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        policy.actor.weight.mul_(50)
    return policy


def fly(env: EnvConfig, *, sampled: bool) -> Evaluation:
    generator = torch.Generator().manual_seed(9) if sampled else None
    return evaluate_policy(policy_for(env), env.id, seeds=SEEDS, generator=generator)


def hand_made(*returns: float) -> Evaluation:
    count = len(returns)
    return Evaluation(tuple(range(count)), returns, (1,) * count, (np.zeros(1),) * count)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("env", ENVS)
def test_flights_repeat_and_replay_to_the_bit(env: EnvConfig, sampled: bool) -> None:
    flights, again = fly(env, sampled=sampled), fly(env, sampled=sampled)
    assert flights.returns == again.returns
    assert flights.lengths == again.lengths
    assert flights.seeds == (500, 501, 502)
    assert len(set(flights.returns)) == 3 or env.id == "CartPole-v1"
    for i in range(3):
        moments = list(replay(env.id, seed=flights.seeds[i], actions=flights.actions[i]))
        assert moments[-1].total_reward == flights.returns[i]
        assert [moment.step for moment in moments] == list(range(flights.lengths[i] + 1))
        assert flights.lengths[i] == len(flights.actions[i])
        assert all(moment.picture is None for moment in moments)


@pytest.mark.parametrize("env", ENVS)
def test_an_episode_is_played_to_its_end_on_the_stock_environment(env: EnvConfig) -> None:
    """Gymnasium alone, one episode: the last action is the one that ends it."""
    flights = fly(env, sampled=True)
    stock = gym.make(env.id)
    stock.reset(seed=flights.seeds[1])
    total = 0.0
    ends = []
    for action in flights.actions[1]:
        _, reward, terminated, truncated, _ = stock.step(action)
        total += float(reward)
        ends.append(terminated or truncated)
    stock.close()
    assert total == flights.returns[1]
    assert ends == [False] * (len(ends) - 1) + [True]


def test_a_time_limit_ends_an_episode() -> None:
    """A pole takes more than 5 steps to fall."""
    env = EnvConfig(id="evaluation/Brief-v0")
    gym.register(env.id, "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=5)
    flights = fly(env, sampled=False)
    assert flights.lengths == (5, 5, 5)
    assert flights.returns == (5.0, 5.0, 5.0)


def test_deterministic_flights_take_the_actions_of_the_deterministic_actor() -> None:
    env = ENVS[0]
    flights = fly(env, sampled=False)
    actor = DeterministicActor(policy_for(env))
    stock = gym.make(env.id)
    obs, _ = stock.reset(seed=flights.seeds[0])
    for action in flights.actions[0]:
        with torch.no_grad():
            assert int(actor(torch.as_tensor(obs).unsqueeze(0))[0]) == int(action)
        obs, *_ = stock.step(int(action))
    stock.close()


def test_sampled_and_deterministic_flights_differ() -> None:
    assert fly(ENVS[0], sampled=True).returns != fly(ENVS[0], sampled=False).returns


def test_frames_leave_the_return_as_it_was() -> None:
    flights = fly(ENVS[0], sampled=True)
    moments = list(replay("LunarLander-v3", seed=500, actions=flights.actions[0], every=40))
    assert moments[-1].total_reward == flights.returns[0]
    length = flights.lengths[0]
    assert [m.step for m in moments if m.picture is not None] == [*range(0, length, 40), length]
    frames = [moment.picture for moment in moments if moment.picture is not None]
    assert {frame.shape for frame in frames} == {(400, 600, 3)}
    for before, after in pairwise(frames):
        assert not np.array_equal(before, after)


def test_the_random_act_fn_repeats_and_draws_from_the_whole_space() -> None:
    first = play(random_act_fn("LunarLander-v3", seed=1), "LunarLander-v3", seeds=SEEDS)
    again = play(random_act_fn("LunarLander-v3", seed=1), "LunarLander-v3", seeds=SEEDS)
    other = play(random_act_fn("LunarLander-v3", seed=2), "LunarLander-v3", seeds=SEEDS)
    assert first.returns == again.returns != other.returns
    assert set(np.concatenate(first.actions).tolist()) == {0, 1, 2, 3}


def test_mean_and_population_std_of_the_returns() -> None:
    flights = hand_made(100.0, 200.0, 300.0, 400.0)
    assert flights.return_mean == 250.0
    assert flights.return_std == pytest.approx(12500**0.5)
    assert hand_made(5.0, 5.0).return_std == 0.0


@pytest.mark.parametrize("env", ENVS)
def test_an_evaluation_is_the_same_again_from_its_state(env: EnvConfig) -> None:
    flights = fly(env, sampled=False)
    again = Evaluation.of(flights.state())
    assert (again.seeds, again.returns) == ((500, 501, 502), flights.returns)
    assert again.lengths == flights.lengths
    for ours, theirs in zip(flights.actions, again.actions, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_success_is_to_reach_the_threshold() -> None:
    flights = hand_made(199.9, 200.0, 250.0, -300.0)
    assert flights.success_rate(200.0) == 0.5
    assert flights.success_rate(-300.0) == 1.0
    assert flights.success_rate(250.1) == 0.0


def test_the_three_seed_ranges_stay_apart_for_100_000_episodes() -> None:
    ranges = [seed_range(first, 100_000) for first in (CHECKPOINT_SEED, FINAL_SEED, FLIGHT_SEED)]
    assert all(len(seeds) == 100_000 and seeds[-1] < 2**31 for seeds in ranges)
    for one, other in combinations(ranges, 2):
        assert not set(one) & set(other)
