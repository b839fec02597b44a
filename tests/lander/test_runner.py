"""What the runner hands to the update, in environments whose every number is known."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from lander.advantages import gae
from lander.config import EnvConfig, PPOConfig, TrainConfig
from lander.dotted import configure
from lander.env import make_env
from lander.policy import ActorCritic, make_policy
from lander.resolve import resolve
from lander.rollout import Rollout
from lander.runner import Episode, Runner
from lander.trainer import train
from lander.vector import EpisodeStart, SerialVectorEnv, Step


class Counter(gym.Env[NDArray[np.float32], np.int64]):
    """Reward 1 a step; observes (steps so far, length of this episode) / 10, or (1, 1) if blind."""

    def __init__(
        self,
        shortest: int,
        longest: int,
        end: tuple[bool, bool],
        blind: bool,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Discrete(2)
        self._shortest, self._longest = shortest, longest
        self._blind = blind
        self._end = end  # (terminated, truncated) of the last step

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._length = int(self.np_random.integers(self._shortest, self._longest + 1))
        self._steps = 0
        return self._obs(), {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        terminated, truncated = self._end if self._steps == self._length else (False, False)
        return self._obs(), 1.0, terminated, truncated, {}

    def _obs(self) -> NDArray[np.float32]:
        if self._blind:
            return np.ones(2, dtype=np.float32)
        return np.array([self._steps / 10, self._length / 10], dtype=np.float32)


def counter(**kwargs: Any) -> Counter:
    return Counter(**kwargs)


ENDS = {"truncated": (False, True), "terminated": (True, False), "both": (True, True)}
LENGTHS = {"three": (3, 3), "mixed": (1, 6), "eight": (8, 8)}
for ending, end in ENDS.items():
    for spread, (shortest, longest) in LENGTHS.items():
        gym.register(
            f"runner/{spread}-{ending}-v0",
            counter,
            max_episode_steps=100,
            kwargs={
                "shortest": shortest,
                "longest": longest,
                "end": end,
                "blind": spread == "eight",
            },
        )


def make_runner(
    env_id: str,
    *,
    num_envs: int,
    steps: int = 1,
    episodes: int | None = None,
    **more: Any,
) -> tuple[ActorCritic, Runner]:
    values = {
        "env.id": env_id if "-v" in env_id else f"runner/{env_id}-v0",
        "env.num_envs": num_envs,
        "env.reward_scale": 0.5,
        "ppo.rollout_steps": steps if episodes is None else 128,
        "ppo.rollout_episodes": episodes,
        "ppo.minibatch_size": num_envs * steps,
        "policy.hidden_sizes": (16,),
        "seed": 7,
    }
    config = resolve(configure(values | more, base=TrainConfig())).config
    policy = make_policy(config, generator=torch.Generator().manual_seed(1))
    envs = SerialVectorEnv(config.env.id, num_envs, time_limit=config.env.time_limit)
    return policy, Runner(envs, policy, config, generator=torch.Generator().manual_seed(2))


def collect(env_id: str, **settings: Any) -> tuple[ActorCritic, Rollout, list[Episode]]:
    policy, runner = make_runner(env_id, **settings)
    return policy, *runner.collect()


def training_seeds(num_envs: int) -> list[int]:
    state = np.random.SeedSequence(7).generate_state(num_envs)
    return [int(seed) | 2**31 for seed in state]


@torch.no_grad()
def value(policy: ActorCritic, *obs: tuple[float, float]) -> Tensor:
    return policy.value(torch.tensor(obs))


def test_rows_line_up_and_no_row_is_a_reset() -> None:
    _, rollout, episodes = collect("three-truncated", num_envs=2, steps=7)
    for i in range(2):
        steps = (rollout.obs[:, i, 0] * 10).round().tolist()
        assert steps == [0, 1, 2, 0, 1, 2, 0]
        assert rollout.truncated[:, i].tolist() == [False, False, True, False, False, True, False]
    assert not rollout.terminated.any()
    assert episodes == [Episode(3.0, 3)] * 4


def test_rewards_are_scaled_and_episode_returns_are_raw() -> None:
    scale = {"env.reward_scale": 0.25}
    _, rollout, episodes = collect("three-truncated", num_envs=2, steps=6, **scale)
    assert torch.equal(rollout.rewards, torch.full((6, 2), 0.25))
    assert [episode.total_reward for episode in episodes] == [3.0, 3.0, 3.0, 3.0]


def test_at_a_time_limit_the_next_value_is_of_the_true_last_observation() -> None:
    policy, rollout, _ = collect("three-truncated", num_envs=2, steps=6)
    one, two, last, first = value(policy, (0.1, 0.3), (0.2, 0.3), (0.3, 0.3), (0.0, 0.3))
    assert abs(float(last - first)) > 0.01  # else the two could be confused unnoticed
    expected = torch.stack([one, two, last, one, two, last])
    for i in range(2):
        torch.testing.assert_close(rollout.next_values[:, i], expected)


def test_episodes_of_mixed_lengths_bootstrap_from_their_own_end() -> None:
    policy, rollout, _ = collect("mixed-truncated", num_envs=5, steps=40)
    steps, lengths = (rollout.obs * 10).round().unbind(-1)
    assert torch.equal(rollout.truncated, steps + 1 == lengths)
    assert set(lengths.flatten().tolist()) == {1, 2, 3, 4, 5, 6}
    successors = torch.stack([steps + 1, lengths], -1) / 10
    with torch.no_grad():
        torch.testing.assert_close(rollout.next_values, policy.value(successors))
        torch.testing.assert_close(rollout.values, policy.value(rollout.obs))


def test_every_transition_belongs_to_an_episode() -> None:
    """The lengths of ended episodes and of those still going add up to T * N."""
    _, rollout, episodes = collect("mixed-terminated", num_envs=5, steps=40)
    ended = rollout.terminated | rollout.truncated
    going = torch.where(ended[-1], 0, (rollout.obs[-1, :, 0] * 10).round() + 1)
    assert len(episodes) == int(ended.sum())
    assert sum(episode.length for episode in episodes) + int(going.sum()) == 200
    assert all(episode.total_reward == episode.length for episode in episodes)


def test_episodes_go_on_across_rollouts() -> None:
    _, runner = make_runner("three-truncated", num_envs=1, steps=2)
    assert runner.collect()[1] == []
    rollout, episodes = runner.collect()
    assert (rollout.obs[:, 0, 0] * 10).round().tolist() == [2, 0]
    assert episodes == [Episode(3.0, 3)]


def test_terminated_wins_over_truncated() -> None:
    _, rollout, _ = collect("three-both", num_envs=2, steps=6)
    assert not rollout.truncated.any()
    assert rollout.terminated[:, 0].tolist() == [False, False, True, False, False, True]


def test_log_probs_are_those_of_the_policy_that_acted() -> None:
    policy, rollout, _ = collect("mixed-truncated", num_envs=5, steps=40)
    with torch.no_grad():
        logits = policy.actor(policy.actor_trunk(rollout.obs))
    pi: Any = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(rollout.log_probs, pi.log_prob(rollout.actions[..., 0]))


def test_training_seeds_lie_above_those_of_every_evaluation() -> None:
    class Recorder(SerialVectorEnv):
        def reset(self, seeds: Any) -> NDArray[np.float32]:
            seen.extend(seeds)
            return super().reset(seeds)

    seen: list[int] = []
    config = resolve(TrainConfig(env=EnvConfig(id="runner/three-truncated-v0"))).config
    policy = make_policy(config, generator=torch.Generator())
    for seed in range(20):
        envs = Recorder(config.env.id, 4)
        Runner(envs, policy, replace(config, seed=seed), generator=torch.Generator())
    assert len(set(seen)) == 80
    assert all(2**31 <= seed < 2**32 for seed in seen)


@pytest.mark.parametrize(("ending", "expected"), [("truncated", 10.0), ("terminated", 3.593)])
def test_a_blind_critic_learns_the_closed_form(ending: str, expected: float) -> None:
    """Reward 1, gamma 0.9, episodes of 8 steps, every state looks the same, lambda 1.

    A limit ends nothing: V = 1 / (1 - gamma) = 10. Before a terminal state, V is the mean over
    k = 1..8 steps left of (1 - 0.9^k) / 0.1, which is 10 - 10/8 * 0.9 (1 - 0.9^8) / 0.1 = 3.593.
    """
    config = TrainConfig(
        env=EnvConfig(id=f"runner/eight-{ending}-v0", num_envs=8, reward_scale=1.0),
        ppo=PPOConfig(
            rollout_steps=32, minibatch_size=256, learning_rate=1e-2, gamma=0.9, gae_lambda=1.0
        ),
        total_steps=60 * 8 * 32,
        checkpoints=1,
        eval_episodes=1,
        final_episodes=1,
    )
    learned = value(train(config).policy, (1.0, 1.0))
    assert float(learned) == pytest.approx(expected, abs=0.1)


def test_each_copy_plays_its_share_of_episodes_whatever_their_lengths() -> None:
    """Copy first, then time; the next rollout goes on in each copy's random stream."""
    policy, runner = make_runner("mixed-truncated", num_envs=3, episodes=12)
    drawn: list[list[int]] = []
    for seed in training_seeds(3):
        stream = np.random.default_rng(seed)
        drawn.append([int(stream.integers(1, 7)) for _ in range(8)])
    for first in (0, 4):
        expected = [length for copy in drawn for length in copy[first : first + 4]]
        rollout, episodes = runner.collect()
        steps, lengths = (rollout.obs * 10).round().unbind(-1)
        assert steps[:, 0].tolist() == [t for length in expected for t in range(length)]
        assert lengths[steps == 0].tolist() == expected
        assert torch.equal(rollout.truncated, steps + 1 == lengths)
        assert rollout.truncated[-1].all()
        assert rollout.env_steps == sum(expected)
        assert sorted(episode.length for episode in episodes) == sorted(expected)
        assert all(episode.total_reward == episode.length for episode in episodes)
        assert torch.equal(rollout.rewards, torch.full_like(rollout.rewards, 0.5))
        with torch.no_grad():  # where it was cut, of its own last observation
            values = policy.value(torch.stack([steps + 1, lengths], -1)[:, 0] / 10)
        torch.testing.assert_close(rollout.next_values[:, 0], values)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "LunarLanderContinuous-v3"])
def test_whole_episodes_are_what_the_environment_makes_of_their_actions(env_id: str) -> None:
    policy, rollout, episodes = collect(env_id, num_envs=2, episodes=4, **{"env.reward_scale": 1.0})
    actions = policy.head.to_env(rollout.actions[:, 0]).numpy()
    t = 0
    played: list[Episode] = []
    for seed in training_seeds(2):
        env = make_env(env_id)
        obs, _ = env.reset(seed=seed)
        for _ in range(2):
            start, total, over = t, 0.0, False
            while not over:
                assert np.array_equal(rollout.obs[t, 0].numpy(), obs)
                obs, reward, terminated, truncated, _ = env.step(actions[t])
                assert rollout.rewards[t, 0] == np.float32(reward)
                assert rollout.terminated[t, 0] == terminated
                assert rollout.truncated[t, 0] == truncated
                total, over, t = total + float(reward), terminated or truncated, t + 1
            played.append(Episode(total, t - start))
            obs, _ = env.reset()
    assert t == rollout.env_steps
    assert {(e.total_reward, e.length) for e in played} == {
        (e.total_reward, e.length) for e in episodes
    }
    with torch.no_grad():
        pi = policy.distribution(rollout.obs[:, 0])
        torch.testing.assert_close(rollout.log_probs[:, 0], pi.log_prob(rollout.actions[:, 0]))
        torch.testing.assert_close(rollout.values[:, 0], policy.value(rollout.obs[:, 0]))


@pytest.mark.parametrize("ending", ["truncated", "terminated"])
def test_gae_of_whole_episodes_is_that_of_each_alone(ending: str) -> None:
    _, rollout, episodes = collect(f"mixed-{ending}", num_envs=5, episodes=15)
    together = gae(rollout, gamma=0.9, gae_lambda=0.8)
    ends = (~rollout.continues[:, 0]).nonzero().flatten().tolist()
    assert len(ends) == len(episodes) == 15
    start = 0
    for end in ends:
        names = ("values", "next_values", "rewards", "terminated", "truncated")
        parts: dict[str, Any] = {n: getattr(rollout, n)[start : end + 1] for n in names}
        alone = gae(replace(rollout, **parts), gamma=0.9, gae_lambda=0.8)
        assert torch.equal(together[start : end + 1], alone)
        start = end + 1
    assert start == rollout.env_steps


def test_a_time_limit_truncates_training_and_leaves_evaluation_whole() -> None:
    limit = {"env.time_limit": 2}
    policy, rollout, episodes = collect("three-terminated", num_envs=2, steps=4, **limit)
    one, last = value(policy, (0.1, 0.3), (0.2, 0.3))
    for i in range(2):
        assert rollout.truncated[:, i].tolist() == [False, True, False, True]
        torch.testing.assert_close(rollout.next_values[:, i], torch.stack([one, last, one, last]))
    assert not rollout.terminated.any()
    assert episodes == [Episode(2.0, 2)] * 4
    config = TrainConfig(
        env=EnvConfig(id="runner/three-terminated-v0", num_envs=2, time_limit=2),
        ppo=PPOConfig(rollout_steps=4, minibatch_size=8),
        total_steps=8,
        checkpoints=1,
        eval_episodes=2,
        final_episodes=2,
    )
    result = train(config)
    evaluations = (*result.checkpoints, result.final, result.final_sampled)
    assert [evaluation.lengths for evaluation in evaluations] == [(3, 3)] * 3


def test_a_step_cost_lowers_the_learnt_reward_not_the_recorded_return() -> None:
    _, rollout, episodes = collect("three-truncated", num_envs=2, steps=3, **{"env.step_cost": 0.4})
    torch.testing.assert_close(rollout.rewards, torch.full((3, 2), 0.5 * (1 - 0.4)))
    assert episodes == [Episode(3.0, 3)] * 2


def random_actions(env_id: str, stream: np.random.Generator, rows: int) -> NDArray[np.generic]:
    if env_id.startswith("LunarLanderContinuous"):
        return stream.uniform(-1, 1, (rows, 2)).astype(np.float32)
    return stream.integers(0, 4, rows)


def assert_same_step(left: Step, right: Step) -> None:
    for name in ("obs", "rewards", "terminated", "truncated"):
        assert np.array_equal(getattr(left, name), getattr(right, name)), name
    assert np.array_equal(left.last_obs, right.last_obs)


def test_a_step_of_some_copies_leaves_the_others_where_they_were() -> None:
    env_id, seeds = "runner/mixed-truncated-v0", (11, 12, 13)
    together = SerialVectorEnv(env_id, 3)
    alone = [SerialVectorEnv(env_id, 1) for _ in seeds]
    together.reset(seeds)
    for envs, seed in zip(alone, seeds, strict=True):
        envs.reset([seed])
    stream = np.random.default_rng(0)
    for copies in [[2, 0]] * 20 + [[1]] * 9 + [[0, 1, 2]] * 20:
        actions = random_actions(env_id, stream, len(copies))
        step = together.step(actions, np.array(copies))
        ones = [alone[copy].step(actions[i : i + 1]) for i, copy in enumerate(copies)]
        for name in ("obs", "rewards", "terminated", "truncated"):
            expected = np.concatenate([getattr(one, name) for one in ones])
            assert np.array_equal(getattr(step, name), expected)
        assert np.array_equal(step.last_obs, [row for one in ones for row in one.last_obs])


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "LunarLanderContinuous-v3"])
def test_restored_flights_stand_where_they_were_and_have_the_same_future(env_id: str) -> None:
    stream = np.random.default_rng(3)
    envs, other = SerialVectorEnv(env_id, 8), SerialVectorEnv(env_id, 8)
    obs = envs.reset(range(21, 29))
    for _ in range(80):
        obs = envs.step(random_actions(env_id, stream, 8)).obs
    flights: list[EpisodeStart] = deepcopy(envs.unfinished)
    assert {type(flight.start) for flight in flights} == {int, dict}  # first episodes and later
    assert np.array_equal(other.restore(flights), obs)
    ends = 0
    for _ in range(50):
        actions = random_actions(env_id, stream, 8)
        step = envs.step(actions)
        assert_same_step(step, other.step(actions))
        ends += int(step.terminated.sum())
    assert ends > 0
    for one, two in zip(envs.unfinished, other.unfinished, strict=True):
        assert one.start == two.start
        assert np.array_equal(np.array(one.actions), np.array(two.actions))
