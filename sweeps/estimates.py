"""What configurations are likely to return under fresh training seeds, from the scores they had.

The best of many noisy scores is a lucky one. A random-effects model says by how much: the true
scores of configurations vary around a common mean with variance t, and the scores of one
configuration around its own with variance v. The mean of n scores is then best moved towards the
common mean by the share v / (v + n t) of its distance (Efron and Morris 1975,
doi:10.2307/2285814).

Common mean and both variances are those of the better half of the configurations, which alone is
moved: the worse half has a long tail of failures, which says nothing about how close together the
good ones lie.

A score over several checkpoints is not yet a final return: the line that fits the better half says
which final return it stands for. (Quick learners score well at early checkpoints, and others end
where they do; so a lead in the score is a smaller one in the end.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST: Final = 4
"""With fewer configurations, scores are left as they are."""
RATIO: Final = 6.0
"""Variance of a score over training seeds to the variance of the last two checkpoints of one
training: with it, estimates from single trainings of the landscape are neither high nor low."""
WEIGHT: Final = 4.0
"""How many pairs of trainings of one configuration say as much about v as the checkpoints do."""

FLATTEST: Final = 0.1
"""Least rise of the final return with the score: a better score stays better."""

MOST: Final = 6
"""Trainings of one configuration after which a sweep learns more from another one."""
DRAWS: Final = 100
"""How often another one than the first choice is looked for."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a configuration."""

    score: float
    """Over all of its trainings."""
    trainings: int = 1
    squares: float = 0.0
    """Sum of the squared distances of its trainings' scores to their mean."""
    spread: float | None = None
    """Variance of the last two checkpoints of its training, if it has a single one."""
    lag: float = 0.0
    """Its final returns minus the scores of its trainings: a score over several checkpoints is
    behind a policy that still improves."""

    @classmethod
    def of(
        cls,
        score: float,
        *,
        scores: Sequence[float],
        finals: Sequence[float],
        checkpoints: Sequence[float],
    ) -> Observed:
        """From its score, those of its trainings, their final returns and, if there is one training
        only, the return at its checkpoints; what is unknown is empty."""
        lag = fmean(finals) - fmean(scores) if finals else 0.0
        if len(scores) > 1:
            return cls(score, len(scores), squares=len(scores) * float(np.var(scores)), lag=lag)
        if not scores or len(checkpoints) < 2:
            return cls(score, lag=lag)
        before, last = checkpoints[-2:]
        return cls(score, spread=(last - before) ** 2 / 2, lag=lag)


@dataclass(frozen=True, slots=True)
class Expected:
    """The likely final return of a configuration under a fresh training seed, on average."""

    value: float
    error: float
    """Its standard error; NaN if nothing tells how much scores vary over training seeds."""
    promised: float
    """The mean final return that its trainings had: what one would expect without this model."""
    trainings: int = 1
    """How many of them there were."""

    @property
    def known_error(self) -> float | None:
        """The standard error, or None instead of NaN."""
        return None if isnan(self.error) else self.error

    def __str__(self) -> str:
        return f"{self.value:.0f}" if isnan(self.error) else f"{self.value:.0f} +- {self.error:.0f}"


def noise_variance(configurations: Sequence[Observed]) -> float:
    """The variance of a score over training seeds; NaN if nothing tells.

    It rests on configurations that were trained more than once, and on the spread of checkpoints,
    which needs no repetition, but weighs less and less as repetitions come.
    """
    spreads = [one.spread for one in configurations if one.spread is not None]
    freedom = sum(one.trainings - 1 for one in configurations)
    if not spreads and not freedom:
        return float("nan")
    weight = WEIGHT if spreads else 0.0
    guess = RATIO * float(np.median(spreads)) if spreads else 0.0
    return (weight * guess + sum(one.squares for one in configurations)) / (weight + freedom)


def expected_returns(configurations: Sequence[Observed]) -> list[Expected]:
    """The likely final return of each configuration, in their order."""
    scores = np.array([one.score for one in configurations])
    if not len(scores):
        return []
    centre = float(np.median(scores))
    better = scores >= centre
    noise = noise_variance([one for one, good in zip(configurations, better, strict=True) if good])
    counts = np.array([one.trainings for one in configurations])
    errors = noise / counts
    finals = np.array([one.score + one.lag for one in configurations])
    promised = finals.tolist()
    if len(scores) < FEWEST or not noise > 0:
        return list(map(Expected, promised, np.sqrt(errors).tolist(), promised, counts.tolist()))
    distances, many = scores - centre, int(better.sum())
    between = float(np.mean(distances[better] ** 2 - errors[better]))
    between = max(between, 1e-6 * noise)  # never nil: then all are as good, and the evidence ranks
    share = np.where(better, errors / (between + errors), 0.0)
    # the second term: the share is itself an estimate (Morris 1983, doi:10.2307/2287098, eq. 1.17)
    variances = errors * (1 - share * (many - 1) / many)
    variances += 2 / max(1, many - 3) * (share * distances) ** 2
    middle, slope, scatter = final_returns(distances[better], finals[better])
    values = middle + np.where(better, slope * (1 - share), 1.0) * distances
    own = finals - middle - slope * distances  # the more trainings, the more it counts
    values += np.where(better, (1 - 1 / counts) * own, 0.0)
    variances = np.where(better, slope**2 * variances + scatter / counts, variances)
    return list(
        map(Expected, values.tolist(), np.sqrt(variances).tolist(), promised, counts.tolist())
    )


def final_returns(distances: Floats, finals: Floats) -> tuple[float, float, float]:
    """The line through final returns over scores, by least squares: its value at a distance of 0,
    its slope, kept between `FLATTEST` and 1, and the variance of final returns around it."""
    apart = distances - distances.mean()
    squares = float(apart @ apart)
    slope = float(apart @ finals) / squares if squares > 0 else 1.0
    slope = min(1.0, max(FLATTEST, slope))
    middle = float(np.mean(finals - slope * distances))
    residuals = finals - middle - slope * distances
    return middle, slope, float(residuals @ residuals) / max(1, len(finals) - 2)


def to_repeat(expected: Sequence[Expected], rng: np.random.Generator) -> int | None:
    """Which configuration to train again, so that the best one is known sooner; None if that has
    been trained `MOST` times.

    The best of a draw from all estimates, or in half of the cases the best of further draws that is
    another one (top-two Thompson sampling, Russo 2016, arXiv:1602.08448, algorithm 3).
    """
    values = np.array([one.value for one in expected])
    errors = np.nan_to_num([one.error for one in expected])
    chosen = int(np.argmax(rng.normal(values, errors)))
    if rng.random() < 0.5:
        others = (int(np.argmax(rng.normal(values, errors))) for _ in range(DRAWS))
        chosen = next((other for other in others if other != chosen), chosen)
    return chosen if expected[chosen].trainings < MOST else None
