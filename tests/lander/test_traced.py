"""A recorded function gives what the function gives, to the bit."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import torch
from torch import Tensor

import lander.traced
from lander import TrainConfig, resolve
from lander.fields import configure
from lander.traced import Function, Tracer, recorded
from lander.trainer import Training, make_vector_env

BASE = {
    "total_steps": 10_240,
    "env.num_envs": 8,
    "ppo.rollout_steps": 64,
    "ppo.minibatch_size": 128,
    "ppo.update_epochs": 4,
}
CONTINUOUS = {"env.id": "LunarLanderContinuous-v3"}


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of the inputs of every recording that is made."""
    made: list[Any] = []

    def spy(function: Function, inputs: Any) -> Function:
        made.append([tuple(part.shape) for part in inputs])
        return recorded(function, inputs)

    monkeypatch.setattr(lander.traced, "recorded", spy)
    return made


def state_after(values: dict[str, Any], *, updates: int) -> dict[str, Any]:
    """Everything that a training is, by name."""
    config = resolve(configure(BASE | values, base=TrainConfig()))
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        for _ in range(updates):
            training.update()
        return training.state()


def tensors(tree: Any) -> list[Tensor]:
    """All of a state's tensors, in its own order."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [found for part in parts for found in tensors(part)]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"policy.trunk": "shared", "policy.activation": "tanh", "ppo.value_clip": 0.2},
        {"ppo.critic_learning_rate": 1e-3, "ppo.max_grad_norm": 0.05},
        {"env.obs_norm": True, "env.reward_scale": "running", "policy.explore": 0.1},
        {"ppo.surrogate": "kl_fixed", "ppo.advantage_norm": "none"},
        {"ppo.surrogate": "kl_adaptive"},
        {"ppo.surrogate": "none", "ppo.kl_stop": 0.02, "ppo.advantage_norm": "batch"},
        CONTINUOUS,
        CONTINUOUS | {"policy.squash": True},
        CONTINUOUS | {"policy.std": "decayed", "ppo.surrogate": "kl_fixed"},
        CONTINUOUS | {"env.bins": 5},
        CONTINUOUS | {"env.bins": 5, "policy.head": "ordinal"},
        CONTINUOUS | {"env.bins": 5, "policy.head": "joint"},
    ],
)
def test_a_training_is_the_same_to_the_bit_with_and_without_records(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.traced, "HOT", 3)
    replayed = tensors(state_after(values, updates=6))
    assert recordings
    monkeypatch.setattr(lander.traced, "HOT", 10**9)
    recordings.clear()
    plain = tensors(state_after(values, updates=6))
    assert not recordings
    assert len(plain) == len(replayed) > 20
    for one, other in zip(plain, replayed, strict=True):
        assert torch.equal(one, other)


def test_a_record_is_made_of_the_call_that_pays_and_used_from_then_on(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.traced, "HOT", 3)
    calls: list[int] = []

    def triple(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(x))
        return 3 * x, x

    tracer = Tracer()
    for k in range(1, 7):
        found, _ = tracer(triple, [torch.full((2,), float(k))], constants="triple")
        assert found.tolist() == [3.0 * k, 3.0 * k]
    assert calls == [2, 2, 2]  # twice by itself, once to be recorded
    assert recordings == [[(2,)]]


def test_other_constants_or_shapes_are_another_function(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.traced, "HOT", 2)
    tracer = Tracer()

    def called(factor: float, size: int) -> list[float]:
        found, _ = tracer(lambda x: (factor * x, x), [torch.ones(size)], constants=factor)
        return [float(value) for value in found]

    for _ in range(3):
        assert called(2.0, 1) == [2.0]
        assert called(3.0, 1) == [3.0]
        assert called(3.0, 2) == [3.0, 3.0]
    assert recordings == [[(1,)], [(1,)], [(2,)]]


def test_an_adaptive_beta_and_a_clip_range_in_decline_are_never_frozen(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    """They change from update to update: a record of one update must not serve the next."""
    monkeypatch.setattr(lander.traced, "HOT", 20)
    steps = 64 * 8 // 128 * 4
    assert steps < 20
    state_after({"ppo.clip_range_schedule": "linear"}, updates=4)
    assert not recordings
    state_after({}, updates=4)
    assert len(recordings) == 1
