"""How closely two orders agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from sweeps.scores import CONFIDENCE, iqm, mean


def rank_correlation(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Spearman's rho of pairs, with the 95 % interval of Bonett and Wright 2000 (Psychometrika 65,
    23-28).

    tanh(atanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3))). No interval where n < 4 or rho is +-1,
    not even a value where one side does not vary: then it is NaN.
    """
    x, y = np.asarray(values, float), np.asarray(others, float)
    nothing = float("nan")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(nothing, nothing, nothing)
    rho = float(np.clip(stats.spearmanr(x, y).statistic, -1, 1))
    if len(x) < 4 or 1 - abs(rho) < 1e-12:
        return Estimate(rho, nothing, nothing)
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    reach = z * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    return Estimate(rho, float(low), float(high))


RESAMPLES = 9_999


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and the ends of its 95 % interval; not finite where one value is all there is."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.shown(".1f")

    def shown(self, form: str) -> str:
        """As text, each number in a format such as ".2f"."""
        if not (np.isfinite(self.low) and np.isfinite(self.high)):
            return f"{self.value:{form}}"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Mean with Student's interval; values are independent, for example one per seed."""
    if len(values) < 2:
        return Estimate(mean(values), float("nan"), float("nan"))
    # not by ttest_1samp, which warns where all values are equal, as perfect returns are
    half = float(stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Estimate(mean(values), mean(values) - half, mean(values) + half)


def bootstrap_estimate(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float] = iqm, *, seed: int = 0
) -> Estimate:
    """A statistic, by default the interquartile mean, with its percentile bootstrap interval.

    With few seeds such an interval is too short: of ten normal values it covers the interquartile
    mean 93 to 94 times in a hundred, of five 90 times.
    """
    if len(values) < 2:
        return Estimate(statistic(values), float("nan"), float("nan"))
    interval = stats.bootstrap(
        (np.asarray(values, float),),
        statistic,
        vectorized=False,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(statistic(values), float(interval.low), float(interval.high))


def share_estimate(count: int, of: int) -> Estimate:
    """A share with Wilson's interval; the cases are independent, for example one per flight."""
    interval = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / of, float(interval.low), float(interval.high))


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Mean minus mean, with Welch's interval: the spreads may differ."""
    found = mean(values) - mean(others)
    if min(len(values), len(others)) < 2:
        return Estimate(found, float("nan"), float("nan"))
    with warnings.catch_warnings():  # as above
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(values, others, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return Estimate(found, float(interval.low), float(interval.high))


def probability_better(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 of one training of each, by Mann and Whitney's U / (m n).

    The interval is method 5 of Newcombe 2006 (Statistics in Medicine 25, 559-573): every theta
    whose distance to the estimate is at most z standard errors, the error being that of Hanley and
    McNeil 1982 at theta itself with both samples at their mean size. Unlike a bootstrap it does not
    shrink to a point when one sample lies wholly above the other.
    """
    m, n = len(values), len(others)
    found = float(stats.mannwhitneyu(values, others).statistic) / (m * n)
    z, size = float(stats.norm.ppf((1 + CONFIDENCE) / 2)), (m + n) / 2 - 1

    def lowest(found: float) -> float:
        def beyond(theta: float) -> float:
            spread = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            return (found - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (m * n)

        # 1 itself always solves it for an estimate of 1, and is not the end of the interval
        top = min(found, float(np.nextafter(1, 0)))
        return float(optimize.brentq(beyond, 0.0, top)) if found > 0 else 0.0

    return Estimate(found, lowest(found), 1 - lowest(1 - found))  # theta and 1 - theta err alike


@dataclass(frozen=True, slots=True)
class Lead:
    """The difference of two final returns."""

    estimate: Estimate
    over: str
    """What was averaged, in words: trainings if each has several, or else episodes, and then the
    interval is about two policies and not about what they were trained with."""


def lead(episodes: pd.DataFrame, one: int, other: int) -> Lead | None:
    """Candidate `one` minus candidate `other`, from `load_episodes`; None if one of them has none.

    Of one training each, episodes of equal number make a pair.
    """
    mine, theirs = (by_training(episodes, candidate) for candidate in (one, other))
    if mine.empty or theirs.empty:
        return None
    if min(mine.shape[1], theirs.shape[1]) > 1:
        count = f"{mine.shape[1]} and {theirs.shape[1]}"
        count = str(mine.shape[1]) if mine.shape[1] == theirs.shape[1] else count
        means = mine.mean().tolist(), theirs.mean().tolist()
        return Lead(difference(*means), f"{count} trainings each")
    apart = (mine.iloc[:, 0] - theirs.iloc[:, 0]).dropna()
    over = f"{len(apart)} paired episodes of one training each"
    return Lead(mean_estimate(apart.tolist()), over)


def by_training(episodes: pd.DataFrame, candidate: int) -> pd.DataFrame:
    """A row per episode, a column per training of the candidate."""
    own = episodes[episodes["candidate"] == candidate]
    return own.pivot(index="episode", columns=["trial", "seed"], values="return")


def seed_spread(episodes: pd.DataFrame) -> tuple[Estimate, int] | None:
    """By how much a score moves when only the training seed changes: the standard deviation within
    candidates, pooled, with its chi-square interval; and how many candidates tell. None if no
    candidate has two trainings.

    s^2 = sum of squares / d, sigma^2 in [d s^2 / chi2(0.975, d), d s^2 / chi2(0.025, d)]
    """
    scores = episodes.groupby(["candidate", "trial", "seed"])["return"].mean()
    groups = [own.to_numpy() for _, own in scores.groupby("candidate") if len(own) > 1]
    if not groups:
        return None
    squares = sum(float(np.sum((own - own.mean()) ** 2)) for own in groups)
    freedom = sum(len(own) - 1 for own in groups)
    tail = (1 - CONFIDENCE) / 2
    low, high = stats.chi2.ppf([1 - tail, tail], freedom)
    found = Estimate(*(float(np.sqrt(squares / by)) for by in (freedom, low, high)))
    return found, len(groups)
