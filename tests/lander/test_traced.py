"""A recorded function gives what the function gives, to the bit."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
import torch
from torch import Tensor

import lander.agent
import lander.graph
from lander.config import PPOConfig, TrainConfig
from lander.dotted import configure
from lander.graph import Function, Tracer, recorded
from lander.resolve import resolve
from lander.surrogates import SURROGATES, Limits
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
    """The shapes of the inputs of every recording that is made, of each as soon as it is hot."""
    monkeypatch.setattr(lander.graph, "PAID", 0)
    made: list[Any] = []

    def spy(function: Function, inputs: Any) -> Function:
        made.append([tuple(part.shape) for part in inputs])
        return recorded(function, inputs)

    monkeypatch.setattr(lander.graph, "recorded", spy)
    return made


def state_after(values: dict[str, Any], *, updates: int) -> dict[str, Any]:
    """Everything that a training is, by name."""
    config = resolve(configure(BASE | values, base=TrainConfig())).config
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
        {"ppo.clip_range_schedule": "linear"},
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
    monkeypatch.setattr(lander.graph, "HOT", 3)
    replayed = tensors(state_after(values, updates=6))
    assert recordings
    monkeypatch.setattr(lander.graph, "HOT", 10**9)
    recordings.clear()
    plain = tensors(state_after(values, updates=6))
    assert not recordings
    assert len(plain) == len(replayed) > 20
    for one, other in zip(plain, replayed, strict=True):
        assert torch.equal(one, other)


def test_a_record_is_made_of_the_call_that_pays_and_used_from_then_on(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "HOT", 3)
    calls: list[int] = []

    def triple(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(x))
        return 3 * x, x

    tracer = Tracer()
    for k in range(1, 7):
        found, _ = tracer(triple, [torch.full((2,), float(k))], constants="triple")
        assert found.tolist() == [3.0 * k, 3.0 * k]
    assert calls == [2, 2, 2, 2]  # three times by itself, once to be recorded
    assert recordings == [[(2,)]]


def test_other_constants_or_shapes_are_another_function(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "HOT", 2)
    tracer = Tracer()

    def called(factor: float, size: int) -> list[float]:
        found, _ = tracer(lambda x: (factor * x, x), [torch.ones(size)], constants=factor)
        return [float(value) for value in found]

    for _ in range(3):
        assert called(2.0, 1) == [2.0]
        assert called(3.0, 1) == [3.0]
        assert called(3.0, 2) == [3.0, 3.0]
    assert recordings == [[(1,)], [(1,)], [(2,)]]


SHORT = {
    "env.id": "CartPole-v1",
    "env.num_envs": 2,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 2,
    "ppo.update_epochs": 5,
    "policy.hidden_sizes": (4,),
    "total_steps": 64 * 20,
}
"""160 gradient steps an update: each is hot by itself."""


@pytest.mark.parametrize(
    "changing",
    [
        {"ppo.clip_range_schedule": "linear"},
        {"ppo.surrogate": "kl_adaptive", "ppo.kl_target": 1e-9},
    ],
)
def test_what_changes_from_update_to_update_needs_no_record_of_its_own(
    changing: dict[str, Any], recordings: list[Any]
) -> None:
    assert lander.graph.CAPTURE_AFTER < 32 * 5
    config = resolve(configure(BASE | SHORT | changing, base=TrainConfig())).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        for _ in range(10):
            training.update()
    assert len(recordings) == 1


@pytest.mark.parametrize("name", ["clip", "kl_fixed"])
def test_a_record_serves_every_clip_range_and_every_beta(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen, a record of one update would give its gradient in all that follow."""
    monkeypatch.setattr(lander.graph, "HOT", 5)
    tracer = Tracer()
    ratios = torch.linspace(0.5, 1.5, 9)

    def loss(*tensors: Tensor) -> tuple[Tensor, ...]:
        value = SURROGATES[name].objective(ratios, -ratios, lambda: ratios, Limits(*tensors))
        return value, value.sum()

    for step in range(20):
        limits = Limits.of(PPOConfig(clip_range=0.4 / (step + 1), kl_coef=float(step)))
        found, _ = tracer(loss, limits.tensors, constants=name)
        assert torch.equal(found, loss(*limits.tensors)[0])
    assert len(tracer._records) == 1


def double(x: Tensor) -> tuple[Tensor, ...]:
    return 2 * x, x


def test_however_many_shapes_come_a_few_records_are_held(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    """Rollouts of whole episodes give minibatches of many sizes; those used last stay."""
    monkeypatch.setattr(lander.graph, "HOT", 2)
    tracer = Tracer()
    sizes = range(1, 2 * lander.graph.KEPT)
    for size in sizes:
        for _ in range(3):
            assert tracer(double, [torch.ones(size)], constants="")[0].tolist() == [2.0] * size
        tracer(double, [torch.ones(1)], constants="")
    assert len(recordings) == len(sizes)
    assert len(tracer._records) == lander.graph.KEPT
    recordings.clear()
    for size in (1, sizes[-1], sizes[-2]):
        tracer(double, [torch.ones(size)], constants="")
    assert not recordings


def test_shapes_that_never_come_again_are_recorded_once_and_their_counts_are_bounded(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    """A record that has not paid for itself is the last: time does not go into the next one."""
    monkeypatch.setattr(lander.graph, "HOT", 2)
    monkeypatch.setattr(lander.graph, "PAID", 400)
    monkeypatch.setattr(lander.graph, "COUNTED", 50)
    tracer = Tracer()
    for size in range(1, 200):
        for _ in range(3):
            tracer(double, [torch.ones(size)], constants="")
        assert len(tracer._calls) <= 51
    assert recordings == [[(1,)]]
    for _ in range(400):
        tracer(double, [torch.ones(1)], constants="")
    for _ in range(2):
        tracer(double, [torch.ones(7)], constants="")
    assert recordings == [[(1,)], [(7,)]]


def another_result(*_: object) -> Function:
    return lambda x: (3 * x, x)


@pytest.fixture(params=["no make_fx", "no trace", "no function", "another result", "other error"])
def changed_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of torch whose private parts are not those of today."""
    match request.param:
        case "no make_fx":
            monkeypatch.setitem(sys.modules, "torch.fx.experimental.proxy_tensor", None)
        case "no trace":
            monkeypatch.delattr(torch.jit._trace, "_get_trace_graph")
        case "no function":
            monkeypatch.delattr(torch._C, "_create_function_from_graph")
        case "another result":
            monkeypatch.setattr(torch._C, "_create_function_from_graph", another_result)
        case _:
            monkeypatch.setattr(torch._C, "_create_function_from_graph", lambda graph: graph)


@pytest.mark.usefixtures("changed_torch")
def test_without_torchs_private_parts_a_function_is_called_as_it_is(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "HOT", 2)
    tracer = Tracer()
    for k in range(1, 6):
        found, _ = tracer(double, [torch.full((2,), float(k))], constants="")
        assert found.tolist() == [2.0 * k, 2.0 * k]
    assert len(recordings) == 1  # tried once


def test_without_torchs_private_parts_a_training_is_the_same_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = tensors(state_after(SHORT, updates=2))
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.proxy_tensor", None)
    monkeypatch.setitem(sys.modules, "torch.jit._trace", None)
    spec = spec_from_file_location("traced_again", lander.graph.__file__)
    assert spec is not None
    assert spec.loader is not None
    again = module_from_spec(spec)
    spec.loader.exec_module(again)  # its import does without them
    monkeypatch.setattr(lander.agent, "Tracer", again.Tracer)
    found = tensors(state_after(SHORT, updates=2))
    assert all(map(torch.equal, found, expected))
