"""Estimates against textbooks and closed forms, intervals against how often they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import analysis.stats
from analysis.notebooks.sweep import median
from analysis.stats import (
    RESAMPLES,
    Estimate,
    bootstrap_estimate,
    difference,
    mean_estimate,
    probability_better,
)
from sweeps.scores import CONFIDENCE, iqm

DRAWS = 2_000
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Hours of sleep gained with two drugs, by patient: the data of Student 1908."""


def normals(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def likely_hits(draws: int, share: float) -> tuple[float, float]:
    """Between these lies a count of hits 999 times in 1000, if each draw hits with this share."""
    low, high = stats.binom.interval(0.999, draws, share)
    return float(low), float(high)


def test_a_mean_has_the_interval_that_textbooks_give_for_students_data() -> None:
    gained = [second - first for first, second in zip(DRUG_1, DRUG_2, strict=True)]
    estimate = mean_estimate(gained)
    assert estimate.value == pytest.approx(1.58)
    assert (estimate.low, estimate.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_a_difference_has_welchs_interval() -> None:
    estimate = difference(DRUG_1, DRUG_2)
    assert estimate.value == pytest.approx(0.75 - 2.33)
    assert (estimate.low, estimate.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    few, wide = [3.0, 5.0, 4.0], [10.0, -30.0, 50.0, 20.0, 7.0]
    interval = stats.ttest_ind(few, wide, equal_var=False).confidence_interval(0.95)
    estimate = difference(few, wide)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    pooled = stats.ttest_ind(few, wide, equal_var=True).confidence_interval(0.95)
    assert abs(estimate.low - pooled.low) > 1


def test_the_interval_of_a_mean_holds_in_95_of_a_hundred_cases() -> None:
    estimates = [mean_estimate(sample.tolist()) for sample in normals(DRAWS, 10)]
    hits = sum(estimate.low <= 0 <= estimate.high for estimate in estimates)
    low, high = likely_hits(DRAWS, 0.95)
    assert low <= hits <= high


def percentile_bootstrap(
    sample: NDArray[np.float64], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Ends (2, ..) of the interquartile mean's interval, of samples (.., n) resampled at
    (.., resamples, n)."""
    drawn = np.sort(np.take_along_axis(sample[..., None, :], places, axis=-1), axis=-1)
    cut = sample.shape[-1] // 4
    middle = drawn[..., cut : sample.shape[-1] - cut].mean(axis=-1)
    return np.asarray(np.quantile(middle, [0.025, 0.975], axis=-1))


@pytest.mark.parametrize("size", [2, 5, 10, 33, 200])
def test_a_mean_has_the_interval_of_the_plain_formula_to_the_bit(size: int) -> None:
    sample = normals(size, seed=size).tolist()
    half = stats.sem(sample) * stats.t.ppf((1 + CONFIDENCE) / 2, size - 1)
    middle = float(np.mean(sample))
    assert mean_estimate(sample) == Estimate(middle, middle - half, middle + half)


@pytest.mark.parametrize("size", [2, 5, 33])
def test_a_bootstrap_of_all_resamples_is_scipys_of_each_to_the_bit(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis.stats, "RESAMPLES", 999)
    monkeypatch.setattr(analysis.stats, "DRAWS_AT_ONCE", 100 * size)
    sample = normals(size, seed=size)
    oracles: dict[Callable[..., Any] | None, Callable[..., Any]] = {None: iqm, median: np.median}
    for whole, plain in oracles.items():
        rng = np.random.default_rng(7)
        resampled = stats.bootstrap(
            (sample,),
            plain,
            vectorized=False,
            n_resamples=999,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=rng,
        )
        estimate = bootstrap_estimate(sample.tolist(), whole, seed=7)
        interval = resampled.confidence_interval
        assert estimate == Estimate(float(plain(sample)), interval.low, interval.high)


def test_a_bootstrap_interval_is_percentiles_of_resampled_iqms() -> None:
    sample = normals(10, seed=3)
    places = np.random.default_rng(7).integers(0, 10, (RESAMPLES, 10))
    estimate = bootstrap_estimate(sample.tolist(), seed=7)
    assert estimate.value == iqm(sample.tolist())
    assert (estimate.low, estimate.high) == pytest.approx(
        tuple(percentile_bootstrap(sample, places))
    )
    assert estimate == bootstrap_estimate(sample.tolist(), seed=7)
    assert estimate != bootstrap_estimate(sample.tolist(), seed=8)


@pytest.mark.parametrize(("seeds", "share"), [(5, 0.90), (10, 0.935)])
def test_a_bootstrap_interval_of_few_seeds_holds_as_often_as_documented(
    seeds: int, share: float
) -> None:
    samples, resamples = normals(DRAWS, seeds), 999
    places = np.random.default_rng(1).integers(0, seeds, (DRAWS, resamples, seeds))
    low, high = percentile_bootstrap(samples, places)
    hits = int(np.sum((low <= 0) & (high >= 0)))
    fewest, most = likely_hits(DRAWS, share)
    assert fewest <= hits <= most
    assert hits < likely_hits(DRAWS, 0.95)[0] or seeds > 5


def pairs_won(values: Sequence[float], others: Sequence[float]) -> float:
    """Share of all pairs, a tie being half of one."""
    return float(np.mean([(x > y) + (x == y) / 2 for x in values for y in others]))


def likely_probabilities(observed: float, m: int, n: int) -> tuple[float, float]:
    """Ends of the set of all theta within 1.96 standard errors of the estimate, by a fine grid."""
    theta = np.linspace(0, 1, 1_000_001)[1:-1]
    size = (m + n) / 2 - 1
    spread = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    error = np.sqrt(theta * (1 - theta) * spread / (m * n))
    inside = theta[np.abs(observed - theta) <= 1.959964 * error]
    return float(inside[0]), float(inside[-1])


@pytest.mark.parametrize(
    ("values", "others", "probability"),
    [
        ([1.0, 2.0], [2.0, 3.0], 0.125),  # one tie in four pairs
        ([1.0, 1.0, 1.0], [1.0, 1.0], 0.5),
        ([5.0], [1.0, 2.0, 9.0], 2 / 3),
        ([3.0, 1.0, 4.0, 1.5], [2.0, 7.0, 1.0], 5.5 / 12),
        (DRUG_2, DRUG_1, 0.745),
        ([2.0, 3.0, 4.0], [0.0, 1.0], 1.0),
        ([0.0, 1.0], [2.0, 3.0, 4.0], 0.0),
        ([1.0], [0.0], 1.0),
    ],
)
def test_the_probability_is_the_share_of_pairs_won_with_newcombes_interval(
    values: list[float], others: list[float], probability: float
) -> None:
    observed = probability_better(values, others)
    assert observed.value == pytest.approx(probability)
    assert observed.value == pytest.approx(pairs_won(values, others))
    low, high = likely_probabilities(observed.value, len(values), len(others))
    assert (observed.low, observed.high) == pytest.approx((low, high), abs=2e-6)


@pytest.mark.parametrize("confidence", [0.95, 0.96, 0.992])
def test_the_interval_leaves_out_one_half_where_mann_and_whitney_reject(confidence: float) -> None:
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(200):
        values, others = rng.normal(0.8, 1, 12).tolist(), rng.normal(0, 1, 12).tolist()
        test = stats.mannwhitneyu(values, others, method="asymptotic", use_continuity=False)
        estimate = probability_better(values, others, confidence=confidence)
        proven = estimate.low > 0.5 or estimate.high < 0.5
        assert proven == (test.pvalue < 1 - confidence)
        rejected += proven
    assert 20 < rejected < 180


def test_ten_seeds_wholly_above_ten_others_leave_a_doubt() -> None:
    above, below = [10.0 + i for i in range(10)], [float(i) for i in range(10)]
    won, lost = probability_better(above, below), probability_better(below, above)
    assert (won.value, won.high) == (1.0, 1.0)
    assert won.low == pytest.approx(0.8002, abs=5e-5)
    assert (lost.value, lost.low) == (0.0, 0.0)
    assert lost.high == pytest.approx(1 - won.low)


def test_swapping_the_samples_mirrors_the_interval() -> None:
    one, other = probability_better(DRUG_1, DRUG_2), probability_better(DRUG_2, DRUG_1)
    assert (one.value, one.low, one.high) == pytest.approx(
        (1 - other.value, 1 - other.high, 1 - other.low)
    )


def with_pairs_won(count: int) -> tuple[list[float], list[float]]:
    """Ten values and ten others, of whose hundred pairs this many are won."""
    above, beside = divmod(count, 10)
    values = [10.5] * above + [beside - 0.5] + [-1.0] * 10
    return values[:10], [float(i) for i in range(10)]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_the_interval_of_a_probability_holds_in_94_to_97_percent(shift: float) -> None:
    draws = 10_000
    values, others = normals(draws, 10) + shift, normals(draws, 10, seed=1)
    won = np.sum(values[:, :, None] > others[:, None, :], axis=(1, 2))
    # ten against ten: the interval depends on the pairs won only, 0 to 100 of them
    estimates = [probability_better(*with_pairs_won(count)) for count in range(101)]
    assert [estimate.value for estimate in estimates] == pytest.approx(
        [i / 100 for i in range(101)]
    )
    ends = np.array([(estimate.low, estimate.high) for estimate in estimates])[won]
    truth = stats.norm.cdf(shift / np.sqrt(2))  # P(X > Y), for X - Y is normal with variance 2
    share = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert 0.94 <= share <= 0.97


def test_one_value_has_no_interval() -> None:
    for estimate in (mean_estimate([7.0]), bootstrap_estimate([7.0]), difference([7.0], [0.0])):
        assert estimate.value == 7.0
        assert isnan(estimate.low)
        assert isnan(estimate.high)


def test_equal_values_have_a_point_for_an_interval() -> None:
    solved = [500.0] * 10
    assert mean_estimate(solved) == bootstrap_estimate(solved) == Estimate(500.0, 500.0, 500.0)
    assert difference(solved, [400.0] * 10) == Estimate(100.0, 100.0, 100.0)
    assert difference(solved, [400.0, 500.0]).low < 50.0


def test_an_estimate_reads_as_value_and_interval() -> None:
    assert CONFIDENCE == 0.95
    estimate = Estimate(12.34, -1.06, 25.0)
    assert str(estimate) == "12.3 [-1.1, 25.0]"
    assert f"{estimate:.2f}" == "12.34 [-1.06, 25.00]"
    assert str(Estimate(12.34, float("nan"), float("nan"))) == "12.3"
