"""A recorded function gives what the function gives, to the bit."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import lander.graph
from lander.config import PPOConfig, TrainConfig
from lander.dotted import configure
from lander.graph import Function, GraphCache, Recorder, recorded, run
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
    """The shapes of the inputs of every recording, none of which has to pay for itself first."""
    monkeypatch.setattr(lander.graph, "PAID_AFTER", 0)
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
def test_a_training_is_the_same_to_the_bit_with_and_without_programs(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 3)
    programmed = tensors(state_after(values, updates=6))
    assert recordings
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 10**9)
    recordings.clear()
    plain = tensors(state_after(values, updates=6))
    assert not recordings
    assert len(plain) == len(programmed) > 20
    for one, other in zip(plain, programmed, strict=True):
        assert torch.equal(one, other)


def test_a_function_is_recorded_when_due_and_its_program_runs_from_then_on(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 3)
    calls: list[int] = []

    def triple(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(x))
        return 3 * x, x

    cache = GraphCache()
    for k in range(1, 7):
        result, _ = cache(triple, [torch.full((2,), float(k))], constants="triple")
        assert result.tolist() == [3.0 * k, 3.0 * k]
    assert calls == [2, 2, 2, 2]  # three times by itself, once to be recorded
    assert recordings == [[(2,)]]


def test_other_constants_or_shapes_are_another_function(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 2)
    cache = GraphCache()

    def called(factor: float, size: int) -> list[float]:
        result, _ = cache(lambda x: (factor * x, x), [torch.ones(size)], constants=factor)
        return [float(value) for value in result]

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
"""160 gradient steps an update: each is recorded by itself."""


@pytest.mark.parametrize(
    "changing",
    [
        {"ppo.clip_range_schedule": "linear"},
        {"ppo.surrogate": "kl_adaptive", "ppo.kl_target": 1e-9},
    ],
)
def test_what_changes_from_update_to_update_needs_no_program_of_its_own(
    changing: dict[str, Any], recordings: list[Any]
) -> None:
    assert lander.graph.RECORD_AFTER < 32 * 5
    config = resolve(configure(BASE | SHORT | changing, base=TrainConfig())).config
    with closing(make_vector_env(config.env)) as envs:
        training = Training(config, envs)
        for _ in range(10):
            training.update()
    gradient_steps = [shapes for shapes in recordings if len(shapes) > 2]  # the others act
    assert len(gradient_steps) == 1


@pytest.mark.parametrize("name", ["clip", "kl_fixed"])
def test_a_program_serves_every_clip_range_and_every_beta(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen, the program of one update would give its gradient in all that follow."""
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 5)
    cache = GraphCache()
    ratios = torch.linspace(0.5, 1.5, 9)

    def loss(*tensors: Tensor) -> tuple[Tensor, ...]:
        value = SURROGATES[name].objective(ratios, -ratios, lambda: ratios, Limits(*tensors))
        return value, value.sum()

    for step in range(20):
        limits = Limits.of(PPOConfig(clip_range=0.4 / (step + 1), kl_coef=float(step)))
        result, _ = cache(loss, limits.tensors, constants=name)
        assert torch.equal(result, loss(*limits.tensors)[0])
    assert len(cache._programs) == 1


def double(x: Tensor) -> tuple[Tensor, ...]:
    return 2 * x, x


def test_however_many_shapes_come_a_few_programs_are_held(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    """Rollouts of whole episodes give minibatches of many sizes; those used last stay."""
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 2)
    cache = GraphCache()
    sizes = range(1, 2 * lander.graph.MAX_PROGRAMS)
    for size in sizes:
        for _ in range(3):
            assert cache(double, [torch.ones(size)], constants="")[0].tolist() == [2.0] * size
        cache(double, [torch.ones(1)], constants="")
    assert len(recordings) == len(sizes)
    assert len(cache._programs) == lander.graph.MAX_PROGRAMS
    recordings.clear()
    for size in (1, sizes[-1], sizes[-2]):
        cache(double, [torch.ones(size)], constants="")
    assert not recordings


def test_shapes_that_never_recur_are_recorded_once_with_bounded_counts(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    """No function is recorded before the last program has paid for itself."""
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 2)
    monkeypatch.setattr(lander.graph, "PAID_AFTER", 400)
    monkeypatch.setattr(lander.graph, "MAX_COUNTS", 50)
    cache = GraphCache()
    for size in range(1, 200):
        for _ in range(3):
            cache(double, [torch.ones(size)], constants="")
        assert len(cache._calls) <= 51
    assert recordings == [[(1,)]]
    for _ in range(400):
        cache(double, [torch.ones(1)], constants="")
    for _ in range(2):
        cache(double, [torch.ones(7)], constants="")
    assert recordings == [[(1,)], [(7,)]]


def test_the_installed_torch_still_records() -> None:
    try:
        result = run(recorded(double, [torch.ones(2)]), [torch.full((2,), 3.0)])
    except Exception as error:
        pytest.fail(
            f"torch {torch.__version__} has changed what lander/graph.py records with: training "
            f"falls back to plain calls, {error!r}"
        )
    assert result[0].tolist() == [6.0, 6.0]


def test_a_program_reads_like_the_operations_that_it_stands_for() -> None:
    """A constant is a tensor that lies elsewhere, and so are views of it."""
    weight = torch.tensor([[1.0, 2.0]], requires_grad=True)

    def gradient(x: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad((x @ weight.T).exp().sum(), weight)
        return slope, x

    inputs = (torch.tensor([[0.5, -1.0]]),)
    with Recorder(inputs) as recorder:
        outputs = gradient(*inputs)
    assert recorder.source(outputs).splitlines()[:4] == [
        "def program(input_0, constant_0):",
        "    result_0 = torch.ops.aten.mm(input_0, constant_0)",
        "    result_1 = torch.ops.aten.exp(result_0)",
        "    result_2 = torch.ops.aten.sum(result_1)",
    ]
    assert len(recorder.constants) == 1


def test_a_program_follows_tensors_that_change_where_they_lie() -> None:
    """The weights between two gradient steps, for example."""
    weight, other = torch.tensor([2.0]), torch.tensor([5.0])
    program = recorded(lambda x: (x * weight.view(1, 1), x - other), [torch.ones(1)])
    weight.fill_(3.0)
    other.fill_(7.0)
    product, difference = run(program, [torch.full((1,), 10.0)])
    assert product.tolist() == [[30.0]]
    assert difference.tolist() == [3.0]


def test_numbers_lists_types_and_infinity_keep_their_meaning() -> None:
    def every(x: Tensor) -> tuple[Tensor, ...]:
        parts = x.split([1, 2])
        capped = torch.where(x > 0, float("inf"), 0.1).clamp(None, 1e30)
        return torch.cat([parts[1], parts[0]]), capped.double().sum((0,), keepdim=True), x.clone()

    x = torch.tensor([-1.0, 2.0, 3.0])
    for ours, plain in zip(run(recorded(every, [x]), [x]), every(x), strict=True):
        assert ours.dtype == plain.dtype
        assert torch.equal(ours, plain)


def test_what_torchscript_cannot_write_is_called_as_it_is(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 2)
    generator = torch.Generator().manual_seed(1)

    def drawn(x: Tensor) -> tuple[Tensor, ...]:
        generator.manual_seed(1)
        return torch.empty_like(x).normal_(generator=generator), x

    cache = GraphCache()
    results = [cache(drawn, [torch.ones(3)], constants="")[0] for _ in range(4)]
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(recordings) == 1  # tried once


def test_neither_training_nor_recording_imports_torchs_compiler() -> None:
    """It costs a second and 80 MB in each worker."""
    values = {"total_steps": 2048, "checkpoints": 1, "eval_episodes": 1, "final_episodes": 1}
    script = (
        "import sys, lander.graph as graph\n"
        "from lander.config import TrainConfig\n"
        "from lander.dotted import configure\n"
        "from lander.trainer import train\n"
        "made, spied = [], graph.recorded\n"
        "graph.recorded = lambda *given: made.append(1) or spied(*given)\n"
        f"train(configure({values | {'env.id': 'CartPole-v1'}}, base=TrainConfig()))\n"
        "heavy = {'sympy', 'torch._dynamo', 'torch.fx.experimental.symbolic_shapes'}\n"
        "print(len(made) > 0, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True []\n", done.stderr


def another_result(_source: str) -> Any:
    return SimpleNamespace(program=lambda x: (3 * x, x))


def missing(*_: object) -> Any:
    raise AttributeError


@pytest.fixture(params=["no TorchScript", "no source", "another result", "no recorder"])
def changed_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of torch that has changed what recording needs."""
    match request.param:
        case "no TorchScript":
            monkeypatch.delattr(torch.jit, "CompilationUnit")
        case "no source":
            monkeypatch.setattr(torch.jit, "CompilationUnit", missing)
        case "another result":
            monkeypatch.setattr(torch.jit, "CompilationUnit", another_result)
        case _:
            monkeypatch.setattr(Recorder, "__enter__", missing)


@pytest.mark.usefixtures("changed_torch")
def test_where_torch_has_changed_a_function_is_called_as_it_is(
    monkeypatch: pytest.MonkeyPatch, recordings: list[Any]
) -> None:
    monkeypatch.setattr(lander.graph, "RECORD_AFTER", 2)
    cache = GraphCache()
    for k in range(1, 6):
        result, _ = cache(double, [torch.full((2,), float(k))], constants="")
        assert result.tolist() == [2.0 * k, 2.0 * k]
    assert len(recordings) == 1  # tried once
