"""What is said before a sweep starts."""

from __future__ import annotations

import pytest

from lander import EnvConfig, PPOConfig, TrainConfig
from sweeps.watch import clock
from sweeps.workers import measure_speed


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_the_speed_of_even_the_shortest_training_is_a_positive_number(updates: int) -> None:
    config = TrainConfig(
        env=EnvConfig(id="CartPole-v1", num_envs=2),
        ppo=PPOConfig(rollout_steps=16, minibatch_size=32),
        total_steps=32 * updates,
        checkpoints=1,
        eval_episodes=1,
        final_episodes=1,
    )
    assert measure_speed(config) > 0


def test_times_are_written_as_on_a_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3599, 3661)] == [
        "0:00",
        "1:00",
        "1:01",
        "59:59",
        "1:01:01",
    ]
