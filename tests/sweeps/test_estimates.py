"""What configurations are likely to score: by hand, at the limits, and over simulated sweeps."""

from __future__ import annotations

from math import isnan, nan, sqrt

import numpy as np
import pytest

from sweeps.estimates import (
    FEWEST,
    MOST,
    RATIO,
    WEIGHT,
    Expected,
    Observed,
    expected_returns,
    noise_variance,
    to_repeat,
)


def known(*scores: float, noise: float) -> list[Observed]:
    """Configurations of one training each, whose checkpoints say that scores vary by this much."""
    return [Observed(score, spread=noise / RATIO) for score in scores]


def likely(value: float, error: float, trainings: int = 1) -> Expected:
    """What to expect of a configuration that returned just that."""
    return Expected(value, error, promised=value, trainings=trainings)


def test_without_noise_a_score_is_what_it_is() -> None:
    expected = expected_returns(known(1, 2, 4, 8, noise=0))
    assert expected == [likely(1, 0), likely(2, 0), likely(4, 0), likely(8, 0)]


def test_good_scores_closer_together_than_the_noise_are_as_good_as_equal() -> None:
    values = [each.value for each in expected_returns(known(-80, 2, 3, 4, 5, noise=100))]
    assert values == pytest.approx([-80, 2, 3, 3, 3], abs=1e-5)  # only the better half is moved
    assert values == sorted(values)
    assert len(set(values)) == 5


def test_of_equals_the_one_with_more_evidence_is_ahead() -> None:
    often = Observed(4.9, 5, squares=400.0)
    once, repeated = expected_returns([*known(-80, 2, 3, 5, noise=100), often])[-2:]
    assert once.value < repeated.value < 3.1


def test_a_hand_computed_estimate() -> None:
    """Median 100; the better half 100, 130, 160: mean square 1500, less 500 of noise is 1000."""
    best = expected_returns(known(40, 60, 100, 130, 160, noise=500))[-1]
    assert best.value == pytest.approx(100 + 60 * 1000 / 1500)
    # Morris: V (1 - B (k - 1) / k) + 2 / (k - 3) (B x)^2, with k - 3 of at least 1
    assert best.error == pytest.approx(sqrt(500 * (1 - 1 / 3 * 2 / 3) + 2 * (60 / 3) ** 2))
    assert str(best) == "140 +- 34"


def test_more_trainings_leave_a_score_closer_to_itself() -> None:
    others = known(40, 60, 100, 130, noise=500)
    once, often = (
        expected_returns([*others, Observed(160, count, squares=500.0 * (count - 1))])[-1]
        for count in (1, 9)
    )
    assert once.value < often.value < 160
    assert often.error < once.error


def scored(*, counts: tuple[int, int, int] = (1, 1, 1)) -> list[Observed]:
    """Two failures and the better half: scores 100, 130, 160 that ended at 160, 172 and 190."""
    lags = {40.0: -99.0, 60.0: 500.0, 100.0: 60.0, 130.0: 42.0, 160.0: 30.0}
    return [
        Observed(score, count, squares=500.0 * (count - 1), spread=500 / RATIO, lag=lag)
        for (score, lag), count in zip(lags.items(), (1, 1, *counts), strict=True)
    ]


def test_a_score_over_several_checkpoints_is_brought_to_the_final_return() -> None:
    """The line rises from 159 by 0.5 per point; a residual is 1, -2, 1, so its variance is 6."""
    plain = expected_returns(known(40, 60, 100, 130, 160, noise=500))
    later = expected_returns(scored())
    moved = [100.0, *(100 + 0.5 * (one.value - 100) for one in plain[-2:])]
    assert [one.value for one in later[-3:]] == pytest.approx([59 + value for value in moved])
    assert [one.value for one in later[:2]] == pytest.approx([99, 119])  # as far below as before
    assert later[-1].error == pytest.approx(sqrt(plain[-1].error ** 2 / 4 + 6))
    assert [one.promised for one in later] == [-59, 560, 160, 172, 190]
    assert expected_returns(scored()[-2:])[-1].value == 190  # too few to tell


def test_the_own_final_returns_count_more_with_more_trainings() -> None:
    one, often = (expected_returns(scored(counts=(1, 1, count)))[-1] for count in (1, 4))
    share = 125 / (125 + (0 + 900 + 3600 - 500 - 500 - 125) / 3)
    assert often.value == pytest.approx(159 + 0.5 * 60 * (1 - share) + 3 / 4 * 1)
    assert often.error < one.error


def test_a_better_score_stays_better_whatever_the_final_returns() -> None:
    falling = [Observed(float(score), spread=1.0, lag=-2.0 * score) for score in range(8)]
    values = [one.value for one in expected_returns(falling)]
    assert values == sorted(values)
    assert len(set(values)) == 8


def test_few_configurations_are_left_as_they_are() -> None:
    expected = expected_returns(known(10, 20, 0, noise=8))
    assert len(expected) < FEWEST
    assert [each.value for each in expected] == [10, 20, 0]
    assert expected[1].error == pytest.approx(sqrt(8))
    assert expected_returns([]) == []


def test_the_noise_is_pooled_with_the_checkpoints_as_a_first_guess() -> None:
    spreads = [Observed(0, spread=9.0), Observed(0, spread=16.0), Observed(0, spread=900.0)]
    assert noise_variance(spreads) == pytest.approx(RATIO * 16)
    often = [Observed(0, 2, squares=0.5), Observed(0, 3, squares=2.0)]
    assert noise_variance(often) == pytest.approx(2.5 / 3)
    both = (WEIGHT * RATIO * 16 + 2.5) / (WEIGHT + 3)
    assert noise_variance([*spreads, *often]) == pytest.approx(both)


def test_without_checkpoints_or_repetitions_no_error_is_known() -> None:
    assert isnan(noise_variance([Observed(5.0)]))
    expected = expected_returns([Observed(float(score)) for score in range(6)])
    assert [each.value for each in expected] == [0, 1, 2, 3, 4, 5]
    assert (expected[0].known_error, str(expected[0])) == (None, "0")
    assert likely(5.0, nan).known_error is None
    assert likely(5.0, 2.0).known_error == 2.0


def test_the_estimate_of_the_best_is_hardly_optimistic() -> None:
    """500 sweeps of 30 normal configurations, whose spread is that of the noise."""
    rng = np.random.default_rng(0)
    naive, shrunken, within = [], [], []
    for _ in range(500):
        truths = rng.normal(200, 30, 30)
        scores = truths + rng.normal(0, 30, 30)
        expected = expected_returns(known(*scores.tolist(), noise=900))
        best = int(np.argmax([each.value for each in expected]))
        naive.append(scores[best] - truths[best])
        shrunken.append(expected[best].value - truths[best])
        within.append(abs(shrunken[-1]) < 1.96 * expected[best].error)
    assert np.mean(naive) > 25
    assert abs(np.mean(shrunken)) < 8
    assert np.mean(within) > 0.9


def test_what_is_trained_again_is_mostly_what_may_be_the_best() -> None:
    rng = np.random.default_rng(0)
    candidates = [likely(250, 10), likely(240, 10, 2), likely(245, 1, 5), likely(-50, 10)]
    chosen = [to_repeat(candidates, rng) for _ in range(1000)]
    counts = [chosen.count(index) for index in range(4)]
    assert counts[3] == chosen.count(None) == 0
    assert counts[0] > counts[2] > 200  # one close behind, known well, may be the best too
    assert counts[1] > 150


def test_half_of_the_time_it_is_another_one_than_the_leader() -> None:
    rng = np.random.default_rng(0)
    sure = [likely(250, 1), likely(248, 1)]
    second = sum(to_repeat(sure, rng) == 1 for _ in range(1000))
    assert 400 < second < 600


def test_what_was_trained_often_enough_is_left_to_a_new_point() -> None:
    rng = np.random.default_rng(0)
    assert to_repeat([likely(250, 1, MOST), likely(-50, 1)], rng) is None
    assert to_repeat([likely(250, nan)], rng) == 0
