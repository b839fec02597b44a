"""Estimates with their 95 % intervals: means, shares, differences; and what moves a score.

Values are independent of each other, for example one per training seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nextafter, sqrt

import numpy as np
import pandas as pd
import scipy  # imports scipy.stats and scipy.optimize once one of them is used
from numpy.typing import NDArray

from sweeps.intervals import Estimate as Estimate  # by which everything here answers
from sweeps.scores import CONFIDENCE, mean
from sweeps.study.audit import wilson

RESAMPLES = 9_999
"""Resamples of a bootstrap."""
DRAWS_AT_ONCE = 2_000_000
"""Values of all resamples that are in memory together."""

Floats = NDArray[np.float64]


def mean_estimate(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean with Student's interval."""
    if len(values) < 2:
        return Estimate(mean(values), float("nan"), float("nan"))
    # by hand: to import scipy.stats takes longer than all the numbers of most reports
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    half = float(error * scipy.special.stdtrit(len(values) - 1, (1 + confidence) / 2))
    return Estimate(mean(values), mean(values) - half, mean(values) + half)


def bootstrap_estimate(
    values: Sequence[float], statistic: Callable[[Floats], Floats] | None = None, *, seed: int = 0
) -> Estimate:
    """A statistic, by default the interquartile mean, with its percentile bootstrap interval.

    `statistic` reduces the last axis. With few seeds the interval is too short: with ten normal
    values it covers the interquartile mean 93 to 94 times in a hundred, with five 90 times.
    """
    sample, reduce = np.asarray(values, float), statistic or iqms
    value = float(reduce(sample))
    if len(sample) < 2:
        return Estimate(value, float("nan"), float("nan"))
    rng, at_once = np.random.default_rng(seed), max(1, DRAWS_AT_ONCE // len(sample))
    counts = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    draws = (rng.integers(len(sample), size=(count, len(sample))) for count in counts)
    resampled = np.concatenate([reduce(sample[indices]) for indices in draws])
    tail = (1 - CONFIDENCE) / 2
    low, high = scipy.stats.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def iqms(samples: Floats) -> Floats:
    """`iqm` of the last axis."""
    size = samples.shape[-1]
    middle = np.sort(samples, axis=-1)[..., size // 4 : size - size // 4]
    return np.asarray(middle.mean(axis=-1))


def share_estimate(count: int, of: int) -> Estimate:
    """`count` cases out of `of`, as a share with Wilson's interval."""
    return Estimate(count / of, *wilson(count, of))


def difference(
    values: Sequence[float], others: Sequence[float], *, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean minus mean, with Welch's interval: the spreads may differ."""
    if min(len(values), len(others)) < 2:
        return Estimate(mean(values) - mean(others), float("nan"), float("nan"))
    gain, error, freedom = welch(values, others)
    half = error * float(scipy.special.stdtrit(freedom, (1 + confidence) / 2)) if error else 0.0
    return Estimate(gain, gain - half, gain + half)


def welch(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Mean minus mean, its standard error, and the degrees of freedom of Welch and Satterthwaite,
    which are NaN if neither side varies; of at least two values each."""
    # plain sums: a simulated race takes thousands of these, and NumPy ten times as long
    means, squares, freedoms = [], [], []
    for side in (values, others):
        middle = sum(side) / len(side)
        means.append(middle)
        freedoms.append(len(side) - 1)
        squares.append(sum((value - middle) ** 2 for value in side) / (len(side) - 1) / len(side))
    total = sum(squares)
    spread = sum(square**2 / free for square, free in zip(squares, freedoms, strict=True))
    return means[0] - means[1], total**0.5, total**2 / spread if spread else float("nan")


def probability_better(
    values: Sequence[float], others: Sequence[float], *, confidence: float = CONFIDENCE
) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 for one value drawn from each, by Mann and Whitney's U / (m n).

    The interval is method 5 of Newcombe 2006 (Statistics in Medicine 25, 559-573): every theta
    whose distance to the estimate is at most z standard errors, the error being `chance_error` at
    theta itself. It leaves 1/2 out exactly where Mann and Whitney's test with its normal
    distribution rejects equality, if m = n. Unlike a bootstrap it does not shrink to a point when
    one sample lies wholly above the other.
    """
    m, n = len(values), len(others)
    # by hand: SciPy also works out an exact p, and a simulated race has no use for it
    wins = sum((value > other) + (value == other) / 2 for value in values for other in others)
    estimate = wins / (m * n)
    z = float(scipy.special.ndtri((1 + confidence) / 2))

    def low_end(share: float) -> float:
        def beyond(theta: float) -> float:
            return (share - theta) ** 2 - (z * chance_error(theta, m, n)) ** 2

        # 1 itself always solves it for an estimate of 1, and is not the end of the interval
        top = min(share, nextafter(1, 0))
        return float(scipy.optimize.brentq(beyond, 0.0, top)) if share > 0 else 0.0

    # theta and 1 - theta have the same standard error
    return Estimate(estimate, low_end(estimate), 1 - low_end(1 - estimate))


def chance_error(theta: float, m: float, n: float) -> float:
    """Standard error of Mann and Whitney's U / (m n), by Hanley and McNeil 1982 (Radiology 143,
    29-36) with both samples at their mean size.

    sqrt(theta (1 - theta) (1 + ((m + n) / 2 - 1) ((1 - theta) / (2 - theta) + theta / (1 + theta)))
    / (m n)); at theta = 1/2 and m = n the exact one of equal distributions.
    """
    spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return sqrt(theta * (1 - theta) * spread / (m * n))


@dataclass(frozen=True, slots=True)
class Lead:
    """The difference between the final returns of two candidates."""

    estimate: Estimate
    over: str
    """What was averaged, in words: trainings if each candidate has several, else episodes. Over
    episodes the interval is about two policies, not about their configurations."""


def lead(episodes: pd.DataFrame, one: int, other: int) -> Lead | None:
    """Candidate `one` minus candidate `other`, from `load_episodes`; None if one of them has none.

    With one training each, episodes of equal number make a pair.
    """
    first, second = (by_training(episodes, candidate) for candidate in (one, other))
    if first.empty or second.empty:
        return None
    counts = list(dict.fromkeys((first.shape[1], second.shape[1])))
    if min(counts) > 1:
        over = f"{' and '.join(map(str, counts))} trainings each"
        return Lead(difference(first.mean().tolist(), second.mean().tolist()), over)
    differences = (first.iloc[:, 0] - second.iloc[:, 0]).dropna()
    over = f"{len(differences)} paired episodes of one training each"
    return Lead(mean_estimate(differences.tolist()), over)


def by_training(episodes: pd.DataFrame, candidate: int) -> pd.DataFrame:
    """A row per episode, a column per training of the candidate."""
    rows = episodes[episodes["candidate"] == candidate]
    return rows.pivot(index="episode", columns=["trial", "seed"], values="return")


def seed_spread(episodes: pd.DataFrame) -> tuple[Estimate, int] | None:
    """How much a score moves when only the training seed changes: the standard deviation within
    candidates, pooled, with its chi-square interval, and the number of candidates it rests on.
    None if no candidate has two trainings.

    s^2 = sum of squares / d, sigma^2 in [d s^2 / chi2(0.975, d), d s^2 / chi2(0.025, d)]
    """
    scores = episodes.groupby(["candidate", "trial", "seed"])["return"].mean()
    groups = [group.to_numpy() for _, group in scores.groupby("candidate") if len(group) > 1]
    if not groups:
        return None
    squares = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    tail = (1 - CONFIDENCE) / 2
    low, high = scipy.stats.chi2.ppf([1 - tail, tail], freedom)
    deviation = Estimate(*(float(np.sqrt(squares / by)) for by in (freedom, low, high)))
    return deviation, len(groups)
