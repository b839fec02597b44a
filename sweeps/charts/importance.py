"""The importance of each searched field with its interval: PED-ANOVA over resampled trials.

The only module that computes it, for the chart on MLflow's page, the report and notebook 01.
Optuna's `PedAnovaImportanceEvaluator` gives the same numbers for one sample of trials; here every
resample is a row of an array. Letters of shapes: R resamples, N trials, G points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from sweeps.scores import CONFIDENCE, last_return, with_last_return
from sweeps.study.ranges import Range
from sweeps.study.space import Space

BEST_SHARE = 0.25
"""The share of the trials that count as good."""
FEWEST = 4
"""Fewer trials than this have no best quarter."""
MOST = 500
"""The most trials that are used; of a larger sweep, this many drawn at random."""
RESAMPLES = 200
OVER_ALL = 10_000
"""The most trials over all resamples: large sweeps need fewer resamples, and get fewer."""
GRID = 50
"""The most points of a field's grid."""
NARROWEST = 0.5 / 1.64
"""The least bandwidth, in points: 90 % of such a kernel lie on its own point."""
TINY = 1e-12
"""Added to every density, so that none is 0."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def importances(
    trials: Sequence[FrozenTrial], space: Space, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """A row per searched field, the most important first: `share` of the importance, the ends `low`
    and `high` of its percentile bootstrap interval, and `first`, the share of resamples in which no
    field matters more.

    Importance (Watanabe et al. 2023, arXiv:2304.10255): how far the values in the best quarter of
    the ended trials, or of `MOST` among them, lie from those in all. Empty below `FEWEST` of them.
    """
    known = [trial for trial in with_last_return(trials) if np.isfinite(score_of(trial))]
    if len(known) < FEWEST:
        return pd.DataFrame(columns=["share", "low", "high", "first"], dtype="float64")
    rng = np.random.default_rng(seed)
    if len(known) > MOST:
        known = [known[i] for i in sorted(rng.choice(len(known), MOST, replace=False))]
    count = max(20, min(resamples, OVER_ALL // len(known)))
    draws = rng.integers(len(known), size=(count, len(known)))
    drawn = shares(known, space, draws)
    tail = (1 - CONFIDENCE) / 2
    table = pd.DataFrame(
        {
            "share": shares(known, space, np.arange(len(known))[None]).iloc[0],
            "low": drawn.quantile(tail),
            "high": drawn.quantile(1 - tail),
            "first": drawn.idxmax(axis="columns").value_counts(normalize=True),
        }
    )
    return table.fillna(0.0).sort_values("share", ascending=False, kind="stable")


def shares(trials: Sequence[FrozenTrial], space: Space, draws: Ints) -> pd.DataFrame:
    """Each searched field's share of the importance, a row per resample: 0 if the field does
    nothing in its trials; equal shares if none of those that do something matters.

    `draws` (R, N) are indices of trials.
    """
    scores = np.array([score_of(trial) for trial in trials])[draws]
    best = scores.shape[1] - math.ceil(BEST_SHARE * scores.shape[1])
    good = scores >= np.partition(scores, best, axis=1)[:, [best]]
    points = [points_of(trials, range_) for range_ in space.values()]
    acts = np.stack([(field.of[draws] >= 0).any(axis=1) for field in points], axis=1)
    weights = np.stack([importance(field, draws, good) for field in points], axis=1)
    weights[weights.sum(axis=1) == 0] = 1
    weights *= acts
    return pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), columns=list(space))


def score_of(trial: FrozenTrial) -> float:
    """The return of a trial of `with_last_return`."""
    value = last_return(trial)
    return math.nan if value is None else value


@dataclass(frozen=True)
class Points:
    """Where the values of a field lie on its grid."""

    of: Ints
    """(N,): the point of each trial, from 0 to `size` - 1; -1 if the field did nothing there."""
    size: int
    ordered: bool
    """Whether points are numbers in their order, and not choices."""


def points_of(trials: Sequence[FrozenTrial], range_: Range) -> Points:
    """The values of a searched field in `trials`, at the nearest points of its grid."""
    name, distribution = range_.parameter, range_.distribution
    acts = np.array([name in trial.params for trial in trials])
    values = [trial.params[name] for trial in trials if name in trial.params]
    of = np.full(len(trials), -1)
    if isinstance(distribution, CategoricalDistribution):
        of[acts] = [int(distribution.to_internal_repr(value)) for value in values]
        return Points(of, len(distribution.choices), ordered=False)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    size = points_in(distribution)
    ends = np.array([distribution.low, distribution.high], dtype=float)
    low, high = np.log(ends) if distribution.log else ends
    at = np.log(values) if distribution.log else np.asarray(values, dtype=float)
    width = (high - low) / (size - 1) if size > 1 else 1.0
    of[acts] = np.clip(np.ceil((at - low) / width - 0.5), 0, size - 1)  # halves go down
    return Points(of, size, ordered=True)


def points_in(distribution: FloatDistribution | IntDistribution) -> int:
    """How many points the grid of a numeric range has."""
    if distribution.single():
        return 1
    span = distribution.high - distribution.low
    if isinstance(distribution, IntDistribution) and distribution.log:
        return min(math.ceil(math.log2(span + 1)) + 1, GRID)
    return GRID if distribution.step is None else min(round(span / distribution.step) + 1, GRID)


def importance(points: Points, draws: Ints, good: NDArray[np.bool_]) -> Floats:
    """(R,): how far a field's values in good trials lie from those in all, up to a factor that all
    fields share.

    alpha^2 / beta * sum of q (p / q - 1)^2 over the grid, with p and q the densities of the field's
    values in good and in all trials, alpha and beta the shares of these trials in which the field
    did something (Theorem 4.2 of arXiv:2601.20800).
    """
    at = points.of[draws]
    counts, best = counted(at, points.size), counted(np.where(good, at, -1), points.size)
    alpha = best.sum(axis=1) / good.sum(axis=1)
    beta = counts.sum(axis=1) / at.shape[1]
    density = ordered_density if points.ordered else choice_density
    p, q = density(best) + TINY, density(counts) + TINY
    divergence: Floats = (q * (p / q - 1) ** 2).sum(axis=1)
    enough = (counts.sum(axis=1) > 1) & (alpha > 0) & (points.size > 1)
    weight: Floats = np.divide(alpha**2, beta, out=np.zeros(len(at)), where=enough)
    return weight * divergence


def counted(at: Ints, size: int) -> Ints:
    """(R, G): how many values of each resample lie at each point."""
    flat = at + size * np.arange(len(at))[:, None]
    return np.bincount(flat[at >= 0], minlength=len(at) * size).reshape(len(at), size)


def choice_density(counts: Ints) -> Floats:
    """(R, G): the density of choices, smoothed by a uniform one that counts as one value."""
    total, size = counts.sum(axis=1, keepdims=True), counts.shape[1]
    prior = 1 / (np.count_nonzero(counts, axis=1)[:, None] + 1)
    density: Floats = ((counts + total * prior) / (1 + size * prior) + 1 / size) / (total + 1)
    return density


def ordered_density(counts: Ints) -> Floats:
    """(R, G): the density of numbers, a mixture of normal kernels that are cut off at both ends of
    the grid, smoothed by a wide one that counts as one value."""
    total, size = counts.sum(axis=1, keepdims=True), counts.shape[1]
    grid = np.arange(size)
    # the normal distribution function at every distance from a point to an edge of another
    edges = np.arange(-size + 1, size + 1) - 0.5
    below: Floats = ndtr(edges / bandwidths(counts)[:, None])
    inside = below[:, 2 * size - 1 - grid] - below[:, size - 1 - grid]
    away = size - 1 + grid[:, None] - grid  # of row k and column m: the edge below k - m
    kernels = np.diff(below, axis=1)[:, away]
    wide = np.diff(ndtr((np.arange(size + 1) - size / 2) / size))
    mixture = np.einsum("rkm,rm->rk", kernels, counts / inside) + wide / wide.sum()
    density: Floats = mixture / (total + 1)
    return density


def bandwidths(counts: Ints) -> Floats:
    """(R,): the widths of the kernels by Scott's rule."""
    total, grid = counts.sum(axis=1), np.arange(counts.shape[1])
    mean = counts @ grid / np.maximum(1, total)
    squares = (counts * (grid - mean[:, None]) ** 2).sum(axis=1)
    deviation = np.sqrt(squares / np.maximum(1, total - 1))
    upto = counts.cumsum(axis=1)
    first = np.argmax(upto >= np.maximum(1, total // 4)[:, None], axis=1)
    third = np.argmax(upto > (total * 3 // 4)[:, None], axis=1)
    scott: Floats = (
        1.059 * np.minimum((third - first) / 1.34, deviation) * np.maximum(1, total) ** -0.2
    )
    return np.maximum(scott, NARROWEST)
