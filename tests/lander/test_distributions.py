"""Distributions against torch.distributions, exact sums, integrals and counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import e, exp, log, pi, sqrt
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from lander.distributions import Categorical, DiagonalGaussian, Distribution

TORCH: Any = torch.distributions
INDEX = torch.tensor([4, 0, 0])

SquashedGaussian = partial(DiagonalGaussian, squashed=True)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussians(seed: int) -> tuple[Tensor, Tensor]:
    """Means (50, 3) and log-stds (3,)."""
    return torch.randn(50, 3, generator=rng(seed)), 0.5 * torch.randn(3, generator=rng(seed + 100))


def theirs(mean: Tensor, log_std: Tensor) -> Any:
    return TORCH.Independent(TORCH.Normal(mean, log_std.exp().expand_as(mean)), 1)


def test_categorical_is_torchs_independent_categorical() -> None:
    logits = 3 * torch.randn(50, 2, 7, generator=rng())
    actions = torch.randint(7, (50, 2), generator=rng(1))
    ours = Categorical(logits)
    factors = TORCH.Independent(TORCH.Categorical(logits=logits), 1)
    assert ours.log_prob(actions).shape == ours.entropy().shape == (50,)
    torch.testing.assert_close(ours.log_prob(actions), factors.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), factors.entropy())
    assert torch.equal(ours.mode(), logits.argmax(-1))


def test_gaussian_is_torchs_normal_summed_over_dimensions() -> None:
    mean, log_std = gaussians(0)
    actions = 2 * torch.randn(50, 3, generator=rng(1))
    ours = DiagonalGaussian(mean, log_std)
    assert ours.log_prob(actions).shape == ours.entropy().shape == (50,)
    torch.testing.assert_close(ours.log_prob(actions), theirs(mean, log_std).log_prob(actions))
    torch.testing.assert_close(ours.entropy(), theirs(mean, log_std).entropy())
    assert torch.equal(ours.mode(), mean)


def test_kl_is_torchs_summed_over_dimensions() -> None:
    logits, other = (3 * torch.randn(50, 2, 7, generator=rng(seed)) for seed in (0, 1))
    factors = [TORCH.Independent(TORCH.Categorical(logits=part), 1) for part in (logits, other)]
    ours = Categorical(logits).kl(Categorical(other))
    assert ours.shape == (50,)
    torch.testing.assert_close(ours, TORCH.kl_divergence(*factors))

    (mean, log_std), (other_mean, other_log_std) = gaussians(0), gaussians(1)
    expected = TORCH.kl_divergence(theirs(mean, log_std), theirs(other_mean, other_log_std))
    for kind in (DiagonalGaussian, SquashedGaussian):
        kl = kind(mean, log_std).kl(kind(other_mean, other_log_std))
        assert kl.shape == (50,)
        torch.testing.assert_close(kl, expected)


def test_kl_of_a_distribution_with_itself_is_0() -> None:
    logits = torch.randn(50, 2, 7, generator=rng())
    mean, log_std = gaussians(0)
    assert torch.equal(Categorical(logits).kl(Categorical(logits)), torch.zeros(50))
    gaussian = DiagonalGaussian(mean, log_std)
    torch.testing.assert_close(gaussian.kl(gaussian), torch.zeros(50))


def test_a_share_of_the_choices_is_made_by_a_fair_die() -> None:
    probs = torch.tensor([[[0.5, 0.25, 0.25, 0.0]]])
    mixed = Categorical(probs.log(), uniform=0.2)
    for action, p in enumerate([0.45, 0.25, 0.25, 0.05]):
        assert mixed.log_prob(torch.tensor([[action]])).exp().item() == pytest.approx(p)
    expected = TORCH.Categorical(probs=torch.tensor([0.45, 0.25, 0.25, 0.05]))
    torch.testing.assert_close(mixed.entropy()[0], expected.entropy())
    assert mixed.mode().tolist() == [[0]]


EVERY: list[Distribution] = [
    Categorical(2 * torch.randn(6, 2, 5, generator=rng())),
    Categorical(2 * torch.randn(6, 2, 5, generator=rng()), uniform=0.3),
    DiagonalGaussian(torch.randn(6, 2, generator=rng()), torch.tensor([-0.5, 0.3])),
    SquashedGaussian(torch.randn(6, 2, generator=rng()), torch.tensor([-0.5, 0.3])),
]
NAMES = ["categorical", "with a die", "gaussian", "squashed"]


@pytest.mark.parametrize("pi", EVERY, ids=NAMES)
def test_entropy_is_minus_the_expected_log_prob(pi: Distribution) -> None:
    """|H + E log p| below three standard errors, in 60 000 samples of one state."""
    n = 60_000
    row = pi.rows(torch.full((n,), 2))
    log_probs = row.log_prob(row.sample(rng(5)))
    error = 3 * float(log_probs.std()) / sqrt(n)
    assert 0 < error < 0.03
    assert abs(float(row.entropy()[0] + log_probs.mean())) < error


@pytest.mark.parametrize("pi", EVERY, ids=NAMES)
def test_kl_is_the_expected_difference_of_log_probs(pi: Distribution) -> None:
    n = 60_000
    first, second = (pi.rows(torch.full((n,), state)) for state in (2, 3))
    actions = first.sample(rng(5))
    differences = first.log_prob(actions) - second.log_prob(actions)
    error = 3 * float(differences.std()) / sqrt(n)
    assert 0 < error < 0.1
    assert abs(float(first.kl(second)[0] - differences.mean())) < error


@pytest.mark.parametrize("pi", EVERY, ids=NAMES)
@pytest.mark.parametrize("index", [INDEX, slice(1, 4)], ids=["tensor", "slice"])
def test_rows_are_the_distribution_in_these_states(pi: Distribution, index: Tensor | slice) -> None:
    actions, chosen = pi.sample(rng(1)), pi.rows(index)
    assert type(chosen) is type(pi)
    same = torch.testing.assert_close  # an exp of three numbers and of six may differ in a bit
    same(chosen.log_prob(actions[index]), pi.log_prob(actions)[index])
    same(chosen.entropy(), pi.entropy()[index])
    assert torch.equal(chosen.mode(), pi.mode()[index])
    other = pi.rows(torch.arange(6).flip(0))
    same(chosen.kl(other.rows(index)), pi.kl(other)[index])


@pytest.mark.parametrize(
    "make",
    [
        lambda weight, log_std: Categorical(1 * weight),
        lambda weight, log_std: DiagonalGaussian(1 * weight[..., 0], log_std),
        lambda weight, log_std: SquashedGaussian(1 * weight[..., 0], log_std),
    ],
)
def test_detached_stays_as_it_is_when_the_parameters_change(
    make: Callable[[Tensor, Tensor], Distribution],
) -> None:
    weight, log_std = (torch.zeros(shape, requires_grad=True) for shape in ((6, 2, 5), (2,)))
    live = make(weight, log_std)
    frozen = live.detached()
    assert type(frozen) is type(live)
    actions = live.sample(rng(1)).detach()
    before = live.log_prob(actions)
    assert before.requires_grad
    assert torch.equal(frozen.log_prob(actions), before)
    assert not frozen.log_prob(actions).requires_grad
    with torch.no_grad():
        weight[..., 0] += 1.0
        log_std += 1.0
    assert torch.equal(frozen.log_prob(actions), before)


def test_categorical_samples_each_level_as_often_as_its_probability() -> None:
    """Each count is binomial: within three standard deviations, for both dimensions."""
    n = 40_000
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    sampled = Categorical(probs.log().expand(n, 2, 5)).sample(rng())
    assert sampled.shape == (n, 2)
    for dim in range(2):
        for level in range(5):
            p = float(probs[dim, level])
            share = float((sampled[:, dim] == level).float().mean())
            assert abs(share - p) <= 3 * sqrt(p * (1 - p) / n)


def test_categorical_dimensions_are_sampled_independently() -> None:
    n = 40_000
    sampled = Categorical(torch.zeros(n, 2, 2)).sample(rng()).bool()
    both = float((sampled[:, 0] & sampled[:, 1]).float().mean())
    assert abs(both - 0.25) <= 3 * sqrt(0.25 * 0.75 / n)


@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedGaussian])
def test_gaussian_samples_have_its_mean_and_std(
    kind: Callable[[Tensor, Tensor], DiagonalGaussian],
) -> None:
    n = 40_000
    sampled = kind(torch.tensor([[1.0, -2.0]]).expand(n, 2), torch.tensor([0.5, 2.0]).log()).sample(
        rng()
    )
    for dim, (mean, std) in enumerate([(1.0, 0.5), (-2.0, 2.0)]):
        assert abs(float(sampled[:, dim].mean()) - mean) <= 3 * std / sqrt(n)
        assert abs(float(sampled[:, dim].std()) - std) <= 3 * std / sqrt(2 * n)


def test_categorical_probabilities_of_all_actions_sum_to_1() -> None:
    """Over all 3 * 3 joint actions, and their entropy is the exact sum."""
    logits = torch.randn(1, 2, 3, generator=rng())
    joint = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    log_probs = Categorical(logits.expand(9, 2, 3)).log_prob(joint)
    assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    expected = float((log_probs.exp() * log_probs).sum())
    assert float(Categorical(logits).entropy()) + expected == pytest.approx(0.0, abs=1e-6)


def test_squashed_log_prob_is_torchs_tanh_transform() -> None:
    mean, log_std = (part.double() for part in gaussians(0))
    u = mean + log_std.exp() * torch.randn(50, 3, generator=rng(2)).double()
    flat = TORCH.TransformedDistribution(theirs(mean, log_std), [TORCH.TanhTransform()])
    ours = SquashedGaussian(mean, log_std)
    torch.testing.assert_close(ours.log_prob(u), flat.log_prob(u.tanh()))


@pytest.mark.parametrize("u", [50.0, -50.0])
def test_squashed_log_prob_is_finite_where_tanh_is_1(u: float) -> None:
    """1 - tanh(u)^2 = 4 exp(-2 |u|) there, which underflows in float32."""
    mean = torch.zeros(1, 1, requires_grad=True)
    log_std = torch.zeros(1, requires_grad=True)
    log_prob = SquashedGaussian(mean, log_std).log_prob(torch.tensor([[u]]))
    expected = -0.5 * u * u - 0.5 * log(2 * pi) - (2 * log(2) - 2 * abs(u))
    assert log_prob.item() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(log_prob)
    assert mean.grad is not None
    assert log_std.grad is not None
    assert mean.grad.item() == pytest.approx(u)
    assert log_std.grad.item() == pytest.approx(u * u - 1)


def integrated_entropy(mean: float, std: float) -> float:
    """Of tanh(u), u normal, by adaptive quadrature of -p log p over actions in (-1, 1)."""
    normal = TORCH.Normal(torch.tensor(mean).double(), std)
    squashed = TORCH.TransformedDistribution(normal, [TORCH.TanhTransform()])

    def integrand(z: float) -> float:
        action = torch.tensor(mean + std * z).double().tanh()
        return exp(-0.5 * z * z) / sqrt(2 * pi) * -float(squashed.log_prob(action))

    entropy: float = quad(integrand, -7, 7, epsabs=1e-7)[0]
    return entropy


@pytest.mark.parametrize("mean", [0.0, 0.7, -1.5])
@pytest.mark.parametrize("std", [0.05, 0.5, 1.0])
def test_squashed_entropy_is_the_integral(mean: float, std: float) -> None:
    ours = SquashedGaussian(torch.tensor([[mean]]), torch.tensor([std]).log()).entropy()
    assert ours.shape == (1,)
    assert ours.item() == pytest.approx(integrated_entropy(mean, std), abs=2e-5)


@pytest.mark.parametrize("mean", [0.0, 1.0, -3.0])
def test_squashed_entropy_of_a_wide_normal_is_near_that_of_its_samples(mean: float) -> None:
    n = 400_000
    pi = SquashedGaussian(torch.full((n, 1), mean), torch.tensor([2.0]).log())
    log_probs = pi.log_prob(pi.sample(rng()))
    error = 3 * float(log_probs.std()) / sqrt(n)
    assert abs(float(pi.rows(slice(1)).entropy() + log_probs.mean())) < error + 2e-3


@pytest.mark.parametrize("mean", [0.0, 0.7, -2.0])
def test_squashed_entropy_of_a_narrow_normal_is_its_own_plus_log_slope(mean: float) -> None:
    """H -> log(std sqrt(2 pi e)) + log(1 - tanh(mean)^2) as std -> 0."""
    std = 1e-3
    limit = log(std * sqrt(2 * pi * e)) + log(1 - torch.tensor(mean).double().tanh().item() ** 2)
    ours = SquashedGaussian(torch.tensor([[mean]]), torch.tensor([std]).log()).entropy()
    assert ours.item() == pytest.approx(limit, abs=1e-5)


def test_squashed_entropy_adds_up_over_dimensions_and_has_a_row_per_state() -> None:
    mean, log_std = gaussians(0)
    columns = [SquashedGaussian(mean[:, [i]], log_std[[i]]).entropy() for i in range(3)]
    torch.testing.assert_close(SquashedGaussian(mean, log_std).entropy(), sum(columns))


@pytest.mark.parametrize("mean", [0.0, 40.0, -40.0])
@pytest.mark.parametrize("log_std", [-20.0, 0.0, 4.0])
def test_squashed_entropy_has_finite_gradients(mean: float, log_std: float) -> None:
    parts = [torch.tensor([[mean]], requires_grad=True), torch.tensor([log_std]).requires_grad_()]
    entropy = SquashedGaussian(parts[0], parts[1]).entropy().sum()
    gradients = torch.autograd.grad(entropy, parts)
    assert entropy.isfinite()
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    # pulled back to the middle, where tanh leaves the most room
    assert mean * gradients[0].item() <= 0
