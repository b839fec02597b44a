"""What a gradient step climbs: each surrogate by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lander.config import PPOConfig
from lander.surrogates import BETA_MAX, BETA_MIN, SURROGATES, Limits, adapted

RATIOS = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 0.9])
ADVANTAGES = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0, -2.0])
KL = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0, 0.5])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [1.5, -1.5, 0.5, -0.5, 2.2, -1.8]),
        # only a ratio that has already gone where its advantage pushes is cut, at 1 +- 0.2
        ("clip", [1.2, -1.5, 0.5, -0.8, 2.2, -1.8]),
        ("kl_fixed", [1.3, -1.9, -0.1, -1.3, 2.2, -2.8]),
        ("kl_adaptive", [1.3, -1.9, -0.1, -1.3, 2.2, -2.8]),
    ],
)
def test_each_surrogate_by_hand(name: str, expected: list[float]) -> None:
    config = PPOConfig(clip_range=0.2, kl_coef=2.0)
    value = SURROGATES[name].objective(RATIOS, ADVANTAGES, lambda: KL, Limits.of(config))
    torch.testing.assert_close(value, torch.tensor(expected))


def test_clipping_gains_at_most_1_plus_eps_and_spares_at_most_1_minus_eps() -> None:
    """A > 0: min(r, 1.2) A. A < 0: max(r, 0.8) A."""
    ratio, gain = np.meshgrid([0.1, 0.7, 0.9, 1.0, 1.1, 1.3, 4.0], [-2.0, -0.5, 0.0, 0.5, 2.0])
    expected = np.where(gain > 0, np.minimum(ratio, 1.2), np.maximum(ratio, 0.8)) * gain
    tensors = (torch.from_numpy(ratio), torch.from_numpy(gain))
    value = SURROGATES["clip"].objective(*tensors, lambda: KL, Limits.of(PPOConfig(clip_range=0.2)))
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)


def test_clipping_is_equation_7_to_the_bit_and_so_is_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    limits = Limits.of(PPOConfig(clip_range=0.2))
    ratio = torch.rand(4000, generator=generator) * 2
    ratio[:6] = torch.cat((limits.low.float().expand(3), limits.high.float().expand(3)))
    gain = torch.randn(4000, generator=generator)
    gain[:6] = torch.tensor([-1.5, 0.0, 1.5, -1.5, 0.0, 1.5])
    ours, plain = ratio.clone().requires_grad_(), ratio.clone().requires_grad_()
    value = SURROGATES["clip"].objective(ours, gain, lambda: KL, limits)
    expected = torch.min(plain * gain, plain.clamp(limits.low, limits.high) * gain)
    assert torch.equal(value, expected)
    slopes = (*torch.autograd.grad(value.sum(), ours), *torch.autograd.grad(expected.sum(), plain))
    assert torch.equal(*slopes)
    assert 0 < int((slopes[0] == 0).sum()) < 4000


@pytest.mark.parametrize("name", ["none", "clip"])
def test_the_divergence_is_not_computed_where_it_is_not_needed(name: str) -> None:
    def kl() -> Tensor:
        raise AssertionError

    SURROGATES[name].objective(RATIOS, ADVANTAGES, kl, Limits.of(PPOConfig()))


@pytest.mark.parametrize(
    ("kl", "beta"),
    [(0.0199, 1.5), (0.0201, 3.0), (0.03, 3.0), (0.0449, 3.0), (0.0451, 6.0), (9.0, 6.0)],
)
def test_beta_halves_below_two_thirds_of_the_target_doubles_above_1_5(
    kl: float, beta: float
) -> None:
    assert adapted(3.0, kl, PPOConfig(kl_target=0.03)) == beta


def test_beta_stays_where_it_can_come_back_from() -> None:
    assert adapted(BETA_MIN, 0.0, PPOConfig()) == BETA_MIN > 0
    assert adapted(BETA_MAX, 1.0, PPOConfig()) == BETA_MAX < float("inf")


@pytest.mark.parametrize("first", [0.0, 1e-30, 2.0**-12, 1e30])
def test_any_first_beta_is_within_the_bounds_after_one_change(first: float) -> None:
    for kl in (0.0, 1.0):
        assert BETA_MIN <= adapted(first, kl, PPOConfig()) <= BETA_MAX


def test_only_the_adaptive_surrogate_adapts() -> None:
    adaptive = [name for name, surrogate in SURROGATES.items() if surrogate.adapt is not None]
    assert adaptive == ["kl_adaptive"]
