"""The flat Adam beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lander.adam import ALIGNED, EPSILON, FlatAdam, padded

SHAPES = [(64, 8), (64,), (3, 64), (3,), (1,)]


def parameters() -> list[nn.Parameter]:
    """Some stored row by row, the first column by column, as a first layer's weights are."""
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    made[0].data = made[0].data.T.contiguous().T
    return made


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1 + step)
    return [10.0 ** (step % 5 - 3) * torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("split", [None, 2])
def test_the_weights_are_those_of_torchs_adam(split: int | None) -> None:
    """Of a flat tensor to the bit; of each by itself up to rounding, which depends on position."""
    ours, theirs = parameters(), parameters()
    groups = [ours] if split is None else [ours[:split], ours[split:]]
    adam = FlatAdam(groups)
    ends = [sum(map(padded, group)) for group in groups]
    flat = [nn.Parameter(part.clone()) for part in adam.weights.split(ends)]
    separate = [theirs] if split is None else [theirs[:split], theirs[split:]]
    for step in range(50):
        rates = [0.01 / (step + 1), 0.3][: len(groups)]
        adam.gradient.copy_(adam.flattened(gradients(step)))
        for part, gradient in zip(flat, adam.gradient.split(ends), strict=True):
            part.grad = gradient
        for parameter, gradient in zip(theirs, gradients(step), strict=True):
            parameter.grad = gradient
        if step == 0:
            whole = torch.optim.Adam([{"params": [part]} for part in flat], eps=EPSILON, fused=True)
            plain = torch.optim.Adam([{"params": part} for part in separate], eps=EPSILON)
        for oracle in (whole, plain):
            for group, rate in zip(oracle.param_groups, rates, strict=True):
                group["lr"] = rate
            oracle.step()
        adam.step(rates)
        assert torch.equal(adam.weights, torch.cat([part.detach() for part in flat]))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_parameters_and_their_gradients_are_views_that_begin_at_64_bytes() -> None:
    ours, before = parameters(), parameters()
    adam = FlatAdam([ours])
    adam.gradient.copy_(adam.flattened(gradients(0)))
    for parameter, old, gradient in zip(ours, before, gradients(0), strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
        assert parameter.stride() == parameter.grad.stride() == old.stride()
        assert parameter.untyped_storage().data_ptr() == adam.weights.untyped_storage().data_ptr()
        assert parameter.storage_offset() % ALIGNED == 0
    assert adam.weights.data_ptr() % 64 == 0
    assert float(adam.weights.square().sum()) == pytest.approx(
        sum(float(parameter.detach().square().sum()) for parameter in before)
    )


def test_from_its_state_it_continues_the_same() -> None:
    ours, again = parameters(), parameters()
    adam, other = FlatAdam([ours]), FlatAdam([again])
    for step in range(3):
        adam.gradient.copy_(adam.flattened(gradients(step)))
        adam.step([0.1])
    other.weights.copy_(adam.weights)
    other.restore(adam.state())
    for each in (adam, other):
        each.gradient.copy_(each.flattened(gradients(3)))
        each.step([0.1])
    assert torch.equal(adam.weights, other.weights)


def test_a_step_beyond_float32_is_infinite() -> None:
    adam = FlatAdam([parameters()])
    adam.gradient.fill_(1.0)
    adam.step([1e38])  # 1e39 with the correction of the first step
    assert adam.weights.isinf().all()
