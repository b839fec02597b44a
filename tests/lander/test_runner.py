"""What the runner hands to the update, in environments whose every number is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from lander import ActorCritic, EnvConfig, PPOConfig, TrainConfig, resolve, train
from lander.env import VectorEnv
from lander.policy import make_policy
from lander.rollout import Rollout
from lander.runner import Episode, Runner


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
            kwargs={
                "shortest": shortest,
                "longest": longest,
                "end": end,
                "blind": spread == "eight",
            },
        )


def collect(
    env_id: str, *, num_envs: int, steps: int, reward_scale: float = 0.5
) -> tuple[ActorCritic, Rollout, list[Episode]]:
    config = resolve(TrainConfig(env=EnvConfig(id=f"runner/{env_id}-v0")))
    policy = make_policy(config, generator=torch.Generator().manual_seed(1))
    runner = Runner(
        VectorEnv(config.env.id, num_envs),
        policy,
        reward_scale=reward_scale,
        seed=7,
        generator=torch.Generator().manual_seed(2),
    )
    return policy, *runner.collect(steps)


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
    _, rollout, episodes = collect("three-truncated", num_envs=2, steps=6, reward_scale=0.25)
    assert torch.equal(rollout.rewards, torch.full((6, 2), 0.25))
    assert [episode.total_reward for episode in episodes] == [3.0, 3.0, 3.0, 3.0]


def test_at_a_time_limit_the_next_value_is_that_of_the_true_last_observation() -> None:
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
    config = resolve(TrainConfig(env=EnvConfig(id="runner/three-truncated-v0")))
    policy = make_policy(config, generator=torch.Generator())
    envs = VectorEnv(config.env.id, 1)
    runner = Runner(envs, policy, reward_scale=1.0, seed=0, generator=torch.Generator())
    assert runner.collect(2)[1] == []
    rollout, episodes = runner.collect(2)
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
    class Recorder(VectorEnv):
        def reset(self, seeds: Any) -> NDArray[np.float32]:
            seen.extend(seeds)
            return super().reset(seeds)

    seen: list[int] = []
    config = resolve(TrainConfig(env=EnvConfig(id="runner/three-truncated-v0")))
    policy = make_policy(config, generator=torch.Generator())
    for seed in range(20):
        envs = Recorder(config.env.id, 4)
        Runner(envs, policy, reward_scale=1.0, seed=seed, generator=torch.Generator())
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
