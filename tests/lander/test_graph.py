"""A captured function gives what the function gives, to the bit."""

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
from lander.graph import Function, GraphCache, captured, replayed
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
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The shapes of the inputs of every capture, none of which has to pay for itself first."""
    monkeypatch.setattr(lander.graph, "PAID_AFTER", 0)
    made: list[Any] = []

    def spy(function: Function, inputs: Any) -> Function:
        made.append([tuple(part.shape) for part in inputs])
        return captured(function, inputs)

    monkeypatch.setattr(lander.graph, "captured", spy)
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
    return [leaf for part in parts for leaf in tensors(part)]


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
def test_a_training_is_the_same_to_the_bit_with_and_without_graphs(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 3)
    replayed = tensors(state_after(values, updates=6))
    assert captures
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 10**9)
    captures.clear()
    plain = tensors(state_after(values, updates=6))
    assert not captures
    assert len(plain) == len(replayed) > 20
    for one, other in zip(plain, replayed, strict=True):
        assert torch.equal(one, other)


def test_a_function_is_captured_when_due_and_replayed_from_then_on(
    monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 3)
    calls: list[int] = []

    def triple(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(x))
        return 3 * x, x

    cache = GraphCache()
    for k in range(1, 7):
        result, _ = cache(triple, [torch.full((2,), float(k))], constants="triple")
        assert result.tolist() == [3.0 * k, 3.0 * k]
    assert calls == [2, 2, 2, 2]  # three times by itself, once to be captured
    assert captures == [[(2,)]]


def test_other_constants_or_shapes_are_another_function(
    monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 2)
    cache = GraphCache()

    def called(factor: float, size: int) -> list[float]:
        result, _ = cache(lambda x: (factor * x, x), [torch.ones(size)], constants=factor)
        return [float(value) for value in result]

    for _ in range(3):
        assert called(2.0, 1) == [2.0]
        assert called(3.0, 1) == [3.0]
        assert called(3.0, 2) == [3.0, 3.0]
    assert captures == [[(1,)], [(1,)], [(2,)]]


SHORT = {
    "env.id": "CartPole-v1",
    "env.num_envs": 2,
    "ppo.rollout_steps": 32,
    "ppo.minibatch_size": 2,
    "ppo.update_epochs": 5,
    "policy.hidden_sizes": (4,),
    "total_steps": 64 * 20,
}
"""160 gradient steps an update: each is captured by itself."""


@pytest.mark.parametrize(
    "changing",
    [
        {"ppo.clip_range_schedule": "linear"},
        {"ppo.surrogate": "kl_adaptive", "ppo.kl_target": 1e-9},
    ],
)
def test_what_changes_from_update_to_update_needs_no_graph_of_its_own(
    changing: dict[str, Any], captures: list[Any]
) -> None:
    assert lander.graph.CAPTURE_AFTER < 32 * 5
    config = resolve(configure(BASE | SHORT | changing, base=TrainConfig())).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        for _ in range(10):
            training.update()
    assert len(captures) == 1


@pytest.mark.parametrize("name", ["clip", "kl_fixed"])
def test_a_graph_serves_every_clip_range_and_every_beta(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen, a graph of one update would give its gradient in all that follow."""
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 5)
    cache = GraphCache()
    ratios = torch.linspace(0.5, 1.5, 9)

    def loss(*tensors: Tensor) -> tuple[Tensor, ...]:
        value = SURROGATES[name].objective(ratios, -ratios, lambda: ratios, Limits(*tensors))
        return value, value.sum()

    for step in range(20):
        limits = Limits.of(PPOConfig(clip_range=0.4 / (step + 1), kl_coef=float(step)))
        result, _ = cache(loss, limits.tensors, constants=name)
        assert torch.equal(result, loss(*limits.tensors)[0])
    assert len(cache._graphs) == 1


def double(x: Tensor) -> tuple[Tensor, ...]:
    return 2 * x, x


def test_however_many_shapes_come_a_few_graphs_are_held(
    monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    """Rollouts of whole episodes give minibatches of many sizes; those used last stay."""
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 2)
    cache = GraphCache()
    sizes = range(1, 2 * lander.graph.MAX_GRAPHS)
    for size in sizes:
        for _ in range(3):
            assert cache(double, [torch.ones(size)], constants="")[0].tolist() == [2.0] * size
        cache(double, [torch.ones(1)], constants="")
    assert len(captures) == len(sizes)
    assert len(cache._graphs) == lander.graph.MAX_GRAPHS
    captures.clear()
    for size in (1, sizes[-1], sizes[-2]):
        cache(double, [torch.ones(size)], constants="")
    assert not captures


def test_shapes_that_never_recur_are_captured_once_with_bounded_counts(
    monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    """No graph is captured before the last one has paid for itself."""
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 2)
    monkeypatch.setattr(lander.graph, "PAID_AFTER", 400)
    monkeypatch.setattr(lander.graph, "MAX_COUNTS", 50)
    cache = GraphCache()
    for size in range(1, 200):
        for _ in range(3):
            cache(double, [torch.ones(size)], constants="")
        assert len(cache._calls) <= 51
    assert captures == [[(1,)]]
    for _ in range(400):
        cache(double, [torch.ones(1)], constants="")
    for _ in range(2):
        cache(double, [torch.ones(7)], constants="")
    assert captures == [[(1,)], [(7,)]]


def test_the_private_parts_of_the_installed_torch_still_capture() -> None:
    try:
        result = replayed(captured(double, [torch.ones(2)]), [torch.full((2,), 3.0)])
    except Exception as error:
        pytest.fail(
            f"torch {torch.__version__} has changed what lander/graph.py captures with: training "
            f"falls back to plain calls, {error!r}"
        )
    assert result[0].tolist() == [6.0, 6.0]


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
    monkeypatch: pytest.MonkeyPatch, captures: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "CAPTURE_AFTER", 2)
    cache = GraphCache()
    for k in range(1, 6):
        result, _ = cache(double, [torch.full((2,), float(k))], constants="")
        assert result.tolist() == [2.0 * k, 2.0 * k]
    assert len(captures) == 1  # tried once


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
    monkeypatch.setattr(lander.agent, "GraphCache", again.GraphCache)
    plain = tensors(state_after(SHORT, updates=2))
    assert all(map(torch.equal, plain, expected))
